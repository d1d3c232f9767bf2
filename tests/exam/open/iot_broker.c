/* A broker for sensors, with four threads: it keeps the last value of each topic, and delivers with acknowledgement.
 *
 * Truth: `leaks`: two causes that have nothing to do with each other: a message is forgotten if its acknowledgement
 * comes twice, 1 %; and the will of a client stays when the client takes over its own session, one in ten connects.
 * `corrected`: both are freed.
 * Hard: one cause must not hide the other, and they must not become one; both have much healthy traffic at their sites.
 * / */
#include "../exam.h"

enum { TOPICS = 2000, THREADS = 4 };

enum { VALUES, MESSAGES, WILLS };
static struct site sites[] = {
    HEALTHY("retain_value", "heap", "table filled lazily, replaced in place"),
    PARTLY_LEAKS("hold_message", "heap", "a message that is acknowledged twice is forgotten",
                 "messages without acknowledgement"),
    PARTLY_LEAKS("store_will", "heap", "the will of a client that takes over its session is forgotten",
                 "wills of connected clients"),
};

struct timed_block {
    struct timed timed;
    size_t size;
    int is_will;
    char data[];
};
static char *values[TOPICS];
static struct wheel wheels[THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int leaks;

static SITE char *retain_value(size_t size) { return (char *)acquired(&sites[VALUES], malloc(size), size); }

static SITE struct timed_block *hold_message(size_t size) {
    return (struct timed_block *)acquired(&sites[MESSAGES], malloc(size), size);
}

static SITE struct timed_block *store_will(size_t size) {
    return (struct timed_block *)acquired(&sites[WILLS], malloc(size), size);
}

static void retain(long topic) {
    char *value = (char *)memset(retain_value(96), 'v', 96);
    pthread_mutex_lock(&lock);
    char *old = values[topic];
    values[topic] = value;
    pthread_mutex_unlock(&lock);
    if (old == NULL) return;
    released(&sites[VALUES], 96);
    free(old);
}

static void end_block(struct timed_block *block, struct dice *dice) {
    struct site *site = &sites[block->is_will ? WILLS : MESSAGES];
    if (leaks && chance(dice, block->is_will ? 0.1 : 0.01)) {
        lost(site, block->size);
        return;
    }
    released(site, block->size);
    free(block);
}

static void *serve(void *seed) {
    struct dice dice = {(uint64_t)(uintptr_t)seed};
    struct pace publishes = {0, 0};
    struct wheel *wheel = &wheels[(uintptr_t)seed % THREADS];
    for (long n; (n = due(&publishes, 80)) >= 0;) {
        while (n-- > 0) {
            int is_will = chance(&dice, 0.05);
            size_t size = sizeof(struct timed_block) + (size_t)between(&dice, 30, is_will ? 90 : 400);
            struct timed_block *block = is_will ? store_will(size) : hold_message(size);
            memset(block->data, 'd', size - sizeof *block);
            block->size = size;
            block->is_will = is_will;
            wheel_add(wheel, block, now() + about(&dice, is_will ? 12 : 0.8));
            retain(skewed(&dice, TOPICS));
        }
        for (struct timed *next, *timed = wheel_ended(wheel, now()); timed != NULL; timed = next) {
            next = timed->next;
            end_block((struct timed_block *)timed, &dice);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(serve, (void *)(i + 56));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    FINISH("iot_broker", sites);
}
