/* maps: memory that the program maps itself.
 *
 * Counting: a resource is the rest of one original mapping. A mapping cut by a hole, or at an end, is one smaller
 * resource, which still belongs to the call site that mapped it. A mapping replaced in part by MAP_FIXED loses that
 * part; the new part belongs to the replacing call site. A successful mremap releases the old range and acquires the
 * new one at its own call site, like realloc. A big malloc is one heap block and no mapping. `acquired` of a cut mapping is here only its rest: compare outstanding numbers. `threads` as an argument
 * also starts threads: libc maps their stacks, so the totals are then not exact. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "victim.h"

#define PAGE ((size_t)4096)
enum { WHOLE, FRONT, MIDDLE, END, PAIR, COVERED, COVERING, TO_GROW, GROWN, SHRUNK, SHARED, OF_FILE, BIG, ROUNDS = 20 };
static struct tally truth[] = {
    {.site = "map_whole", .kind = "mmap"},   {.site = "map_front", .kind = "mmap"},
    {.site = "map_middle", .kind = "mmap"},  {.site = "map_end", .kind = "mmap"},
    {.site = "map_pair", .kind = "mmap"},    {.site = "map_covered", .kind = "mmap"},
    {.site = "map_over", .kind = "mmap"},    {.site = "map_to_grow", .kind = "mmap"},
    {.site = "remap_grow", .kind = "mmap"},  {.site = "remap_shrink", .kind = "mmap"},
    {.site = "map_shared", .kind = "mmap"},  {.site = "map_file", .kind = "mmap"},
    {.site = "big_malloc", .kind = "heap"},
};
static void *big[ROUNDS];

/* Each is a call site of its own. */
#define ANONYMOUS (PROT_READ | PROT_WRITE), MAP_ANONYMOUS
#define MAPS(name, flags)                                                      \
    SITE static char *name(void *at, size_t pages) {                           \
        char *mapped = mmap(at, pages * PAGE, ANONYMOUS | (flags), -1, 0);     \
        if (mapped == MAP_FAILED) _exit(4);                                    \
        return mapped;                                                         \
    }
MAPS(map_whole, MAP_PRIVATE)
MAPS(map_front, MAP_PRIVATE)
MAPS(map_middle, MAP_PRIVATE)
MAPS(map_end, MAP_PRIVATE)
MAPS(map_pair, MAP_PRIVATE | MAP_FIXED)
MAPS(map_covered, MAP_PRIVATE)
MAPS(map_over, MAP_PRIVATE | MAP_FIXED)
MAPS(map_to_grow, MAP_PRIVATE)
MAPS(map_shared, MAP_SHARED)
SITE static char *map_file(int file) { return mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0); }
SITE static char *remap_grow(char *old, size_t from, size_t to) {
    return mremap(old, from * PAGE, to * PAGE, MREMAP_MAYMOVE);
}
SITE static char *remap_shrink(char *old, size_t from, size_t to) {
    return mremap(old, from * PAGE, to * PAGE, 0);
}
SITE static void *big_malloc(size_t size) { return malloc(size); }
SITE static void unmap(char *at, size_t pages) { munmap(at, pages * PAGE); }

static void one_round(int round) {
    map_whole(NULL, 10);
    took(&truth[WHOLE], 10 * PAGE);
    unmap(map_whole(NULL, 3), 3);
    took(&truth[WHOLE], 3 * PAGE);
    gave(&truth[WHOLE], 3 * PAGE);

    unmap(map_front(NULL, 8), 3);
    took(&truth[FRONT], 5 * PAGE);
    unmap(map_end(NULL, 8) + 6 * PAGE, 2);
    took(&truth[END], 6 * PAGE);
    unmap(map_middle(NULL, 9) + 2 * PAGE, 3); /* one mapping is left, in pieces of 2 and 4 pages */
    took(&truth[MIDDLE], 6 * PAGE);

    /* Two adjacent mappings, ended by one call; then two more, of which it leaves an end each. */
    static char *room; /* reserved before `ready` */
    if (room == NULL) room = (char *)0x200000000000;
    char *at = room + (size_t)round * 64 * PAGE;
    map_pair(at, 4);
    map_pair(at + 4 * PAGE, 4);
    unmap(at, 8);
    map_pair(at + 16 * PAGE, 4);
    map_pair(at + 20 * PAGE, 4);
    unmap(at + 17 * PAGE, 6);
    took(&truth[PAIR], PAGE);
    took(&truth[PAIR], PAGE);

    char *covered = map_covered(NULL, 10);
    map_over(covered + 4 * PAGE, 3); /* 4 pages before and 3 after are left */
    took(&truth[COVERED], 7 * PAGE);
    took(&truth[COVERING], 3 * PAGE);

    char *old = map_to_grow(NULL, 4), *wall = map_whole(old + 4 * PAGE, 1);
    (void)wall;
    took(&truth[WHOLE], PAGE);
    char *grown = remap_grow(old, 4, 40);
    took(&truth[GROWN], 40 * PAGE);
    char *shrunk = remap_shrink(map_to_grow(NULL, 12), 12, 5);
    took(&truth[SHRUNK], 5 * PAGE);
    /* A failed resize changes nothing: it would grow in place into an existing mapping. */
    char *fixed = map_to_grow(NULL, 2);
    if (mremap(fixed, 2 * PAGE, (size_t)1 << 46, 0) != MAP_FAILED) _exit(4);
    took(&truth[TO_GROW], 2 * PAGE);
    if (grown == MAP_FAILED || shrunk == MAP_FAILED) _exit(4);

    map_shared(NULL, 2);
    took(&truth[SHARED], 2 * PAGE);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (map_file(file) == MAP_FAILED) _exit(4);
    took(&truth[OF_FILE], PAGE);
    close(file);

    big[round] = big_malloc(((size_t)64 << 20) + (size_t)round);
    took(&truth[BIG], ((size_t)64 << 20) + (size_t)round);
    if (round % 2 == 0) {
        free(big[round]);
        gave(&truth[BIG], ((size_t)64 << 20) + (size_t)round);
    }
}

static void *waits(void *unused) {
    for (;;) pause();
    return unused;
}

int main(int count, char **arguments) {
    int with_threads = count > 1 && strcmp(arguments[1], "threads") == 0;
    free(malloc(1)); /* initializes the allocator before the measured part */
    ready();
    for (int i = 0; i < ROUNDS; i++) one_round(i);
    pthread_t thread;
    for (int i = 0; with_threads && i < 3; i++)
        if (pthread_create(&thread, NULL, waits, NULL) != 0) _exit(4);
    print_truth(truth, sizeof truth / sizeof *truth, !with_threads, with_threads ? ",\"stacks\":3" : "");
    await_word("exit");
    _exit(0);
}
