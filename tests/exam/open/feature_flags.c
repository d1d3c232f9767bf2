/* Feature flags that readers use without a lock: a changed set is published, and the old one is retired and freed when
 * all readers have moved on, which is checked every eight seconds.
 *
 * Truth: `leaks`: there is room for 32 retired sets between two checks; more are forgotten. `corrected`: the check runs
 * at once if there is no room.
 * Hard: every set outlives its use by seconds, so that young ones prove nothing, and three of four are freed. */
#include "../exam.h"

enum { RETIRED = 32, READERS = 3 };

enum { SETS, ANSWERS };
static struct site sites[] = {
    PARTLY_LEAKS("publish_flags", "heap", "retired sets are forgotten while there is no room for them",
                 "deferred frees"),
    HEALTHY("evaluate_flags", "heap", "freed at once"),
};

struct flags {
    long version;
    char values[1200];
};
static struct flags *current, *retired[RETIRED];
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static long waiting;

static SITE struct flags *publish_flags(void) {
    return (struct flags *)acquired(&sites[SETS], malloc(sizeof(struct flags)), sizeof(struct flags));
}

static SITE char *evaluate_flags(size_t size) { return (char *)acquired(&sites[ANSWERS], malloc(size), size); }

static void *read_flags(void *seed) {
    struct dice dice = {(uint64_t)(uintptr_t)seed};
    struct pace requests = {0, 0};
    for (long n; (n = due(&requests, 200)) >= 0;)
        while (n-- > 0) {
            size_t size = (size_t)between(&dice, 30, 300);
            char *answer = evaluate_flags(size);
            pthread_rwlock_rdlock(&lock);
            memcpy(answer, current->values, size);
            pthread_rwlock_unlock(&lock);
            released(&sites[ANSWERS], size);
            free(answer);
        }
    return NULL;
}

static void free_retired(void) {
    pthread_rwlock_wrlock(&lock);
    while (waiting > 0) {
        released(&sites[SETS], sizeof(struct flags));
        free(retired[--waiting]);
    }
    pthread_rwlock_unlock(&lock);
}

static void change_flags(long version, int leaks) {
    struct flags *fresh = publish_flags();
    memset(fresh->values, 'f', sizeof fresh->values);
    fresh->version = version;
    if (waiting == RETIRED && !leaks) free_retired();
    pthread_rwlock_wrlock(&lock);
    struct flags *old = current;
    current = fresh;
    pthread_rwlock_unlock(&lock);
    if (old == NULL) return;
    if (waiting == RETIRED) lost(&sites[SETS], sizeof *old);
    else retired[waiting++] = old;
}

int main(int argc, char **argv) {
    pthread_t readers[READERS];
    struct pace changes = {0, 0};
    double check_at = 8;
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    change_flags(0, leaks);
    for (uintptr_t i = 0; i < READERS; i++) readers[i] = start_thread(read_flags, (void *)(i + 38));
    for (long n, version = 1; (n = due(&changes, 5.5)) >= 0;) {
        while (n-- > 0) change_flags(version++, leaks);
        if (now() < check_at) continue;
        free_retired();
        check_at = now() + 8;
    }
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    FINISH("feature_flags", sites);
}
