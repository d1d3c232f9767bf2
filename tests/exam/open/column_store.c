/* A column store that works on mappings: columns of a file in a cache, shared scratch memory for sorting, results in
 * memory files for the process that reads them, and a ring of journal segments that it maps by system calls of its own.
 *
 * Variants: an error path forgets to unmap: `file`: a column whose checksum is wrong, one in eight; `shared`: the scratch
 * memory of a query that was aborted, one in ten; `memfd`: a result whose reader is gone, one in ten. `corrected`: none.
 * Hard: thirty mappings of five kinds come each second and go after milliseconds to seconds, with equal sizes. */
#include "../exam.h"
#include <sys/syscall.h>

enum { FILE_LOST, SHARED_LOST, MEMFD_LOST };
enum { SIZE = 128 << 10, COLUMNS = 48, CACHED = 8, SEGMENTS = 8, PLANS = 300 };

enum { MAPPED, SCRATCH, RESULTS, JOURNAL, PREDICATES, PLANNED };
static struct site sites[] = {
    PARTLY_LEAKS("map_column", "mmap", "a column whose checksum is wrong stays mapped", "cache of eight columns"),
    PARTLY_LEAKS("map_scratch", "mmap", "the scratch memory of an aborted query stays mapped", "unmapped at once"),
    PARTLY_LEAKS("map_result", "mmap", "a result whose reader is gone stays mapped", "results of the last seconds"),
    HEALTHY("map_segment", "mmap", "ring of eight segments"),
    HEALTHY("copy_predicate", "heap", "freed at once"),
    HEALTHY("cache_plan", "heap", "cache, full at 300"),
};

struct result {
    struct timed timed;
    void *mapping;
};
static struct wheel results;
static struct result room[1024], *unused[1024];
static long left;
static struct {
    long column;
    void *mapping;
} cache[CACHED];
static int file;

static SITE void *map_column(long column) {
    void *mapping = mmap(NULL, SIZE, PROT_READ, column % 2 ? MAP_SHARED : MAP_PRIVATE, file, column * SIZE);
    return acquired(&sites[MAPPED], mapping, SIZE);
}

static SITE void *map_scratch(void) {
    void *mapping = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return acquired(&sites[SCRATCH], mapping, SIZE);
}

static SITE void *map_result(void) {
    int memory = memfd_create("result", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, SIZE) != 0) die("memfd_create");
    void *mapping = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    close(memory); /* its reader has a descriptor of its own */
    return acquired(&sites[RESULTS], mapping, SIZE);
}

static SITE void *map_segment(void) {
    void *mapping = (void *)syscall(SYS_mmap, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    return acquired(&sites[JOURNAL], mapping, SIZE);
}

static SITE char *copy_predicate(size_t size) { return (char *)acquired(&sites[PREDICATES], malloc(size), size); }

static SITE char *cache_plan(size_t size) { return (char *)acquired(&sites[PLANNED], malloc(size), size); }

static void unmap(struct site *site, void *mapping) {
    released(site, SIZE);
    munmap(mapping, SIZE);
}

static void read_column(struct dice *dice, int leaks) {
    long column = between(dice, 1, COLUMNS - 1), at = column % CACHED;
    if (cache[at].column == column) return;
    char *mapping = (char *)map_column(column);
    volatile char byte = 0;
    for (long page = 0; page < SIZE; page += 4096) byte ^= mapping[page];
    if (chance(dice, 1.0 / 8)) { /* the checksum is wrong */
        if (leaks) lost(&sites[MAPPED], SIZE);
        else unmap(&sites[MAPPED], mapping);
        return;
    }
    if (cache[at].mapping != NULL) unmap(&sites[MAPPED], cache[at].mapping);
    cache[at].column = column;
    cache[at].mapping = mapping;
}

static void sort(struct dice *dice, int leaks) {
    void *scratch = memset(map_scratch(), 's', SIZE);
    if (leaks && chance(dice, 0.1)) lost(&sites[SCRATCH], SIZE); /* aborted */
    else unmap(&sites[SCRATCH], scratch);
}

static void add_result(struct dice *dice) {
    if (left == 0) return;
    struct result *result = unused[--left];
    result->mapping = memset(map_result(), 'r', SIZE);
    wheel_add(&results, result, now() + about(dice, 1.5));
}

static void end_results(double until, struct dice *dice, int leaks) {
    for (struct timed *next, *timed = wheel_ended(&results, until); timed != NULL; timed = next) {
        struct result *result = (struct result *)timed;
        next = timed->next;
        if (leaks && chance(dice, 0.1)) lost(&sites[RESULTS], SIZE); /* its reader is gone */
        else unmap(&sites[RESULTS], result->mapping);
        unused[left++] = result;
    }
}

static void add_segment(long number) {
    static void *segments[SEGMENTS];
    void **segment = &segments[number % SEGMENTS];
    if (*segment != NULL) {
        released(&sites[JOURNAL], SIZE);
        syscall(SYS_munmap, *segment, SIZE);
    }
    *segment = memset(map_segment(), 'j', SIZE);
}

static void plan(struct dice *dice) {
    static char *plans[PLANS];
    size_t size = (size_t)between(dice, 30, 700);
    char *predicate = (char *)memset(copy_predicate(size), 'p', size), **cached = &plans[skewed(dice, PLANS)];
    if (*cached == NULL) *cached = (char *)memset(cache_plan(500), 'c', 500);
    released(&sites[PREDICATES], size);
    free(predicate);
}

static int make_file(void) {
    char path[] = "/tmp/columns-XXXXXX";
    int made = mkstemp(path);
    if (made < 0 || unlink(path) != 0 || ftruncate(made, (off_t)COLUMNS * SIZE) != 0) die("mkstemp");
    return made;
}

int main(int argc, char **argv) {
    struct dice dice = {120};
    struct pace queries = {0, 0}, sealed = {0, 0}, plans = {0, 0};
    long segments = 0;
    int variant = choose(argc, argv, "file shared memfd corrected");
    file = make_file();
    while (left < (long)(sizeof room / sizeof *room)) unused[left] = &room[left], left++;
    begin();
    for (long n; (n = due(&queries, 10)) >= 0; end_results(now(), &dice, variant == MEMFD_LOST)) {
        for (; n > 0; n--) {
            read_column(&dice, variant == FILE_LOST);
            sort(&dice, variant == SHARED_LOST);
            add_result(&dice);
        }
        for (n = due(&sealed, 3); n > 0; n--) add_segment(segments++);
        for (n = due(&plans, 200); n > 0; n--) plan(&dice);
    }
    FINISH("column_store", sites);
}
