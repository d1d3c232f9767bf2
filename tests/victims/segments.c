/* segments: memory that no allocator asked for. The program maps files, shared memory and memory files, moves its break, and
 * calls the kernel itself.
 *
 * Counting: as in maps.c. A length is the one given to mmap, whole pages or not. What the C library maps or adds to the
 * break for itself (locales, its allocator) is not the program's: `keep_small` grows the break, and is heap.
 *
 * `segments THREADS FILE`: as many threads at once, of which each uses every way 40 times. Exact.
 * `segments grow FILE WAY…`: each way 20 times a second, 128 KiB each, touched, until killed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "victim.h"

#define PAGE ((size_t)4096)
#define GROWS ((size_t)128 << 10)
enum { ROUNDS = 40, SMALL = 2000, SMALL_BYTES = 600, MOST_THREADS = 16 };
enum { SHARED_FILE, PRIVATE_FILE, SHARED_MEMORY, MEMORY_FILE, RESERVED, LOADED, GROWN_FILE, BREAK, ARENA, HEAP, SMALL_BLOCKS };
static struct tally truth[] = {
    {.site = "map_shared_file", .kind = "mmap"},   {.site = "map_private_file", .kind = "mmap"},
    {.site = "map_shared_memory", .kind = "mmap"}, {.site = "map_memory_file", .kind = "mmap"},
    {.site = "reserve", .kind = "mmap"},           {.site = "load_into", .kind = "mmap"},
    {.site = "grow_file", .kind = "mmap"},         {.site = "add_to_break", .kind = "mmap"},
    {.site = "map_arena", .kind = "mmap"},         {.site = "keep_block", .kind = "heap"},
    {.site = "keep_small", .kind = "heap"},
};
static const char *path;
static unsigned long failed;
static pthread_mutex_t breaking = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t start, end;

static char *checked(void *mapped) {
    if (mapped == MAP_FAILED) _exit(4);
    return mapped;
}

/* Each is a call site of its own. */
SITE static char *map_shared_file(int file, size_t size) { return checked(mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0)); }
SITE static char *map_private_file(int file, size_t size) {
    return checked(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
}
SITE static char *map_shared_memory(size_t size) {
    return checked(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}
SITE static char *map_memory_file(size_t size) {
    int file = memfd_create("segment", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)size) != 0) _exit(4);
    char *mapped = checked(mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
    return mapped;
}
SITE static char *reserve(size_t size) {
    return checked(mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}
SITE static char *load_into(char *at, int file, size_t size) {
    return checked(mmap(at, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0));
}
SITE static char *grow_file(char *old, size_t from, size_t to) { return checked(mremap(old, from, to, MREMAP_MAYMOVE)); }
SITE static char *add_to_break(size_t size) { return checked(sbrk((intptr_t)size)); }
SITE static void *keep_block(size_t size) { return malloc(size); }
SITE static void *keep_small(size_t size) { return malloc(size); }
/* Not through the C library: no probe sees it. */
SITE static char *map_arena(size_t size) {
    return checked((void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* A part of a mapping is gone, the rest is there. */
static void gave_part(struct tally *tally, size_t bytes) {
    __atomic_fetch_add(&tally->released_bytes, bytes, __ATOMIC_RELAXED);
}

static void unmap(struct tally *tally, char *mapped, size_t size) {
    gave(tally, size);
    munmap(mapped, size);
}

/* Adds to the break, and takes back all, a part, or nothing. Calls of sbrk need a lock anyway. */
static void move_break(int round) {
    size_t first = 5000 + (size_t)round, second = 3 * PAGE + 7;
    pthread_mutex_lock(&breaking);
    char *old = add_to_break(first);
    took(&truth[BREAK], first);
    if (add_to_break(second) != old + first) _exit(4);
    took(&truth[BREAK], second);
    if (round % 3 == 0) {
        if (sbrk(-(intptr_t)(second + 100)) != old + first + second) _exit(4);
        gave(&truth[BREAK], second);
        gave_part(&truth[BREAK], 100);
    } else if (round % 3 == 1) {
        sbrk(-(intptr_t)(first + second));
        gave(&truth[BREAK], first);
        gave(&truth[BREAK], second);
    }
    if (sbrk(0) == NULL) _exit(4);
    pthread_mutex_unlock(&breaking);
}

static void one_round(int round, int file) {
    int keeps = round % 4 == 0;
    size_t size = 3 * PAGE + 100 + (size_t)round;
    char *shared = map_shared_file(file, size), *copy = map_private_file(file, size);
    took(&truth[SHARED_FILE], size);
    took(&truth[PRIVATE_FILE], size);
    char *memory = map_shared_memory(8 * PAGE), *segment = map_memory_file(size);
    took(&truth[SHARED_MEMORY], 8 * PAGE);
    took(&truth[MEMORY_FILE], size);
    if (!keeps) {
        unmap(&truth[SHARED_FILE], shared, size);
        unmap(&truth[MEMORY_FILE], segment, size);
        gave(&truth[PRIVATE_FILE], size);
        munmap(copy, 4 * PAGE); /* to the end of the last page */
    }
    /* A hole, in which another thread may map at once; or all of it. */
    munmap(memory + 2 * PAGE, 3 * PAGE);
    gave_part(&truth[SHARED_MEMORY], 3 * PAGE);
    if (!keeps) {
        munmap(memory, 2 * PAGE);
        gave_part(&truth[SHARED_MEMORY], 2 * PAGE);
        unmap(&truth[SHARED_MEMORY], memory + 5 * PAGE, 3 * PAGE);
    }
    /* A file over a part of what was reserved, as loaders do; its last page is whole. */
    char *room = reserve(16 * PAGE);
    took(&truth[RESERVED], 16 * PAGE);
    load_into(room + 4 * PAGE, file, PAGE + 5);
    took(&truth[LOADED], PAGE + 5);
    gave_part(&truth[RESERVED], 2 * PAGE);
    if (!keeps) {
        munmap(room, 16 * PAGE);
        gave(&truth[RESERVED], 14 * PAGE);
        gave(&truth[LOADED], PAGE + 5);
    }
    char *small = map_shared_file(file, PAGE);
    took(&truth[SHARED_FILE], PAGE);
    gave(&truth[SHARED_FILE], PAGE);
    char *large = grow_file(small, PAGE, 2 * PAGE);
    took(&truth[GROWN_FILE], 2 * PAGE);
    if (!keeps) unmap(&truth[GROWN_FILE], large, 2 * PAGE);

    if (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) != MAP_FAILED) _exit(4);
    __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
    move_break(round);
    void *block = keep_block((size_t)200 << 10); /* the allocator maps it */
    took(&truth[HEAP], (size_t)200 << 10);
    if (!keeps) {
        gave(&truth[HEAP], (size_t)200 << 10);
        free(block);
    }
}

static void *works(void *unused) {
    free(malloc(1)); /* its arena is mapped before the measured part */
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) _exit(4);
    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++) one_round(round, file);
    pthread_barrier_wait(&end);
    for (;;) pause();
    return unused;
}

static void use_all(int threads) {
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    pthread_t thread;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, works, NULL) != 0) _exit(4);
    free(malloc(1));
    ready();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    /* The C library maps the files of the locale, and its allocator moves the break. */
    setlocale(LC_ALL, "C.UTF-8");
    for (int i = 0; i < SMALL; i++) {
        if (keep_small(SMALL_BYTES) == NULL) _exit(4);
        took(&truth[SMALL_BLOCKS], SMALL_BYTES);
    }
    char extra[64];
    snprintf(extra, sizeof extra, ",\"failed_acquires\":%lu", failed);
    print_truth(truth, sizeof truth / sizeof *truth, 1, extra);
}

static void touch(volatile char *memory, int writes) {
    for (size_t at = 0; at < GROWS; at += PAGE) {
        if (writes) memory[at] = 1;
        else (void)memory[at];
    }
}

static void grow(const char *way, int file) {
    if (strcmp(way, "shared_file") == 0) touch(map_shared_file(file, GROWS), 0);
    else if (strcmp(way, "private_file") == 0) touch(map_private_file(file, GROWS), 1);
    else if (strcmp(way, "shared_memory") == 0) touch(map_shared_memory(GROWS), 1);
    else if (strcmp(way, "memory_file") == 0) touch(map_memory_file(GROWS), 1);
    else if (strcmp(way, "break") == 0) touch(add_to_break(GROWS), 1);
    else if (strcmp(way, "arena") == 0) touch(map_arena(GROWS), 1);
    else _exit(2);
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    path = arguments[2];
    int grows = strcmp(arguments[1], "grow") == 0, threads = atoi(arguments[1]);
    if (!grows && (threads < 1 || threads > MOST_THREADS)) return 2;
    if (!grows) {
        use_all(threads);
        await_word("exit");
        _exit(0);
    }
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 2;
    for (ready();;) {
        for (int i = 3; i < count; i++) grow(arguments[i], file);
        usleep(50000);
    }
}
