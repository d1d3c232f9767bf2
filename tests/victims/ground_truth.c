/* ground_truth [THREADS [OPERATIONS [SEED]]]: every function of the C allocator, from many threads, at full speed, with
 * an exact account of outstanding blocks.
 *
 * Each thread does OPERATIONS random steps: acquire a block (one call site for each way), resize one, free one, pass
 * one to another thread (which frees or resizes it), or keep one until the end. A block contains its size and its
 * source in its first bytes, so that any thread can update the right account when it ends the block. A resized block
 * belongs to the call site that resized it. Threads exist before `ready`. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "victim.h"

#if !defined(__GLIBC__) || defined(NO_PVALLOC) /* glibc's must not meet the `free` of an allocator that has none */
#define pvalloc(size) valloc(size)
#endif

enum { THREADS_MOST = 200, SLOTS = 256, MAILBOX = 64 };

enum source {
    BY_MALLOC, BY_EMPTY, BY_CALLOC, BY_REALLOC_NEW, BY_GROW, BY_SHRINK, BY_MOVE, BY_ARRAY_NEW,
    BY_ARRAY_GROW, BY_POSIX_MEMALIGN, BY_ALIGNED_ALLOC, BY_MEMALIGN, BY_VALLOC, BY_PVALLOC, BY_NOTHING, SOURCES
};

static struct tally truth[SOURCES] = {
    {.site = "make_malloc", .kind = "heap"},         {.site = "make_empty", .kind = "heap"},
    {.site = "make_calloc", .kind = "heap"},         {.site = "make_realloc", .kind = "heap"},
    {.site = "grow_realloc", .kind = "heap"},        {.site = "shrink_realloc", .kind = "heap"},
    {.site = "move_realloc", .kind = "heap"},        {.site = "make_reallocarray", .kind = "heap"},
    {.site = "grow_reallocarray", .kind = "heap"},   {.site = "make_posix_memalign", .kind = "heap"},
    {.site = "make_aligned_alloc", .kind = "heap"},  {.site = "make_memalign", .kind = "heap"},
    {.site = "make_valloc", .kind = "heap"},         {.site = "make_pvalloc", .kind = "heap"},
    {.site = "end_realloc", .kind = "heap"},
};

struct block {
    uint32_t size, source;
    uint64_t check; /* its own address: a block that was moved or freed too early shows here */
};

struct worker {
    struct tally mine[SOURCES];
    struct block *slots[SLOTS];
    /* Leaked on purpose, all of them still reachable: blocks from the front, empty ones from the back. */
    void **kept;
    size_t kept_count, empty_count;
    uint64_t random;
    unsigned number;
};

static struct worker workers[THREADS_MOST];
static struct block *mailboxes[THREADS_MOST][MAILBOX]; /* exchanged atomically */
static unsigned threads = 8;
static unsigned long operations = 1000000;
static pthread_barrier_t start, end;

static void broken(const char *what) {
    say("{\"error\":\"%s\"}\n", what);
    _exit(4);
}

SITE static void *make_malloc(size_t size) { return malloc(size); }
SITE static void *make_empty(void) { return malloc(0); }
SITE static void *make_calloc(size_t size) { return calloc(size / 8, 8); }
SITE static void *make_realloc(size_t size) { return realloc(NULL, size); }
SITE static void *grow_realloc(void *old, size_t size) { return realloc(old, size); }
SITE static void *shrink_realloc(void *old, size_t size) { return realloc(old, size); }
SITE static void *move_realloc(void *old, size_t size) { return realloc(old, size); }
/* glibc's realloc releases and returns NULL; others return a block of size 0 in place of the old one. */
SITE static void *end_realloc(void *old) { return realloc(old, 0); }
SITE static void *make_reallocarray(size_t size) { return reallocarray(NULL, size / 8, 8); }
SITE static void *grow_reallocarray(void *old, size_t size) { return reallocarray(old, size / 8, 8); }
SITE static void *make_posix_memalign(size_t size) {
    void *made = NULL;
    return posix_memalign(&made, 64, size) == 0 ? made : NULL;
}
SITE static void *make_aligned_alloc(size_t size) { return aligned_alloc(32, size); }
SITE static void *make_memalign(size_t size) { return memalign(256, size); }
SITE static void *make_valloc(size_t size) { return valloc(size); }
SITE static void *make_pvalloc(size_t size) { return pvalloc(size); }
SITE static void end_free(void *block) { free(block); }

static uint64_t next_random(struct worker *w) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

/* Mostly small; one in 2,048 beyond the size from which glibc maps a block of its own. */
static uint32_t some_size(struct worker *w) {
    uint64_t dice = next_random(w);
    if (dice % 2048 == 0) return 131072 + (uint32_t)(dice >> 32) % 131072 / 8 * 8;
    if (dice % 64 == 0) return 1024 + (uint32_t)(dice >> 32) % 16384 / 8 * 8;
    return 16 + (uint32_t)(dice >> 32) % 240 / 8 * 8;
}

static struct block *fill(struct worker *w, struct block *block, uint32_t size, enum source source) {
    if (block == NULL) broken("out of memory");
    *block = (struct block){.size = size, .source = source, .check = (uint64_t)block};
    took(&w->mine[source], size);
    return block;
}

static struct block *make(struct worker *w) {
    uint32_t size = some_size(w), dice = (uint32_t)next_random(w) % 32;
    if (dice < 16) return fill(w, make_malloc(size), size, BY_MALLOC);
    if (dice < 22) return fill(w, make_calloc(size), size, BY_CALLOC);
    switch (dice) {
    case 22: case 23: return fill(w, make_realloc(size), size, BY_REALLOC_NEW);
    case 24: case 25: return fill(w, make_reallocarray(size), size, BY_ARRAY_NEW);
    case 26: return fill(w, make_aligned_alloc(size), size, BY_ALIGNED_ALLOC);
    case 27: return fill(w, make_memalign(size), size, BY_MEMALIGN);
    case 28: return size % 3 ? fill(w, make_posix_memalign(size), size, BY_POSIX_MEMALIGN)
                             : fill(w, make_valloc(size), size, BY_VALLOC);
    case 29: return size % 3 ? fill(w, make_posix_memalign(size), size, BY_POSIX_MEMALIGN)
                             : fill(w, make_pvalloc(size), size, BY_PVALLOC);
    default: return fill(w, make_posix_memalign(size), size, BY_POSIX_MEMALIGN);
    }
}

static void settle(struct worker *w, const struct block *block) {
    if (block->check != (uint64_t)block || block->source >= SOURCES) broken("block overwritten");
    gave(&w->mine[block->source], block->size);
}

static void end_block(struct worker *w, struct block *block) {
    settle(w, block);
    if (next_random(w) % 16 != 0) {
        end_free(block);
        return;
    }
    void *nothing = end_realloc(block);
    if (nothing == NULL) return;
    took(&w->mine[BY_NOTHING], 0);
    end_free(nothing);
    gave(&w->mine[BY_NOTHING], 0);
}

static struct block *resize(struct worker *w, struct block *block) {
    uint32_t size;
    settle(w, block);
    switch (next_random(w) % 4) {
    case 0:
        size = block->size > 32 ? block->size / 16 * 8 : block->size;
        return fill(w, shrink_realloc(block, size), size, BY_SHRINK);
    case 1:
        size = block->size * 4;
        return fill(w, move_realloc(block, size), size, BY_MOVE);
    case 2:
        size = block->size + 64;
        return fill(w, grow_reallocarray(block, size), size, BY_ARRAY_GROW);
    default:
        size = block->size + 8;
        return fill(w, grow_realloc(block, size), size, BY_GROW);
    }
}

static void step(struct worker *w) {
    struct block **slot = &w->slots[next_random(w) % SLOTS];
    uint32_t dice = (uint32_t)next_random(w) % 128;
    if (*slot == NULL) {
        *slot = make(w);
        if (dice < 3) { /* one block in 43 is never freed */
            w->kept[w->kept_count++] = *slot;
            *slot = NULL;
        } else if (dice == 3) {
            took(&w->mine[BY_EMPTY], 0);
            w->kept[operations - ++w->empty_count] = make_empty();
        }
        return;
    }
    struct block *block = *slot;
    if (dice < 16 && block->size < 1 << 20) {
        *slot = resize(w, block);
    } else if (dice < 64 && threads > 1) {
        unsigned other = (w->number + 1 + (unsigned)(next_random(w) % (threads - 1))) % threads;
        struct block **box = &mailboxes[other][next_random(w) % MAILBOX];
        /* The block in the other thread's mailbox comes back here: it changes threads twice. */
        *slot = __atomic_exchange_n(box, block, __ATOMIC_ACQ_REL);
        struct block *arrived =
            __atomic_exchange_n(&mailboxes[w->number][dice], NULL, __ATOMIC_ACQ_REL);
        if (arrived != NULL) end_block(w, arrived);
    } else {
        *slot = NULL;
        end_block(w, block);
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    pthread_barrier_wait(&start);
    for (unsigned long i = 0; i < operations; i++) step(w);
    pthread_barrier_wait(&end);
    for (;;) pause(); /* stays: an ending thread would free libc's blocks for it */
    return NULL;
}

/* The accounts say what should be outstanding; this counts what is. */
static void check_what_is_held(void) {
    struct tally held[SOURCES] = {0};
    for (unsigned t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        for (size_t i = 0; i < SLOTS; i++)
            if (w->slots[i] != NULL) took(&held[w->slots[i]->source], w->slots[i]->size);
        for (size_t i = 0; i < MAILBOX; i++)
            if (mailboxes[t][i] != NULL) took(&held[mailboxes[t][i]->source], mailboxes[t][i]->size);
        for (size_t i = 0; i < w->kept_count; i++) {
            const struct block *block = w->kept[i];
            took(&held[block->source], block->size);
        }
        for (size_t i = 0; i < w->empty_count; i++) took(&held[BY_EMPTY], 0);
    }
    for (size_t m = 0; m < SOURCES; m++)
        if (held[m].acquired_count != truth[m].acquired_count - truth[m].released_count ||
            held[m].acquired_bytes != truth[m].acquired_bytes - truth[m].released_bytes)
            broken(truth[m].site);
}

int main(int count, char **arguments) {
    uint64_t seed = 1;
    if (count > 1) threads = (unsigned)atoi(arguments[1]);
    if (count > 2) operations = (unsigned long)atol(arguments[2]);
    if (count > 3) seed = (uint64_t)atol(arguments[3]);
    if (threads < 1 || threads > THREADS_MOST) broken("THREADS is 1 to 200");
    pthread_barrier_init(&start, NULL, threads + 1);
    pthread_barrier_init(&end, NULL, threads + 1);
    for (unsigned t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        w->number = t;
        w->random = (seed + 1) * 0x9E3779B97F4A7C15u + t * 0xD1B54A32D192ED03u;
        w->kept = mmap(NULL, operations * sizeof *w->kept, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        pthread_t thread;
        if (w->kept == MAP_FAILED || pthread_create(&thread, NULL, work, w) != 0) broken("setup");
    }
    ready();
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    for (unsigned t = 0; t < threads; t++)
        for (size_t m = 0; m < SOURCES; m++) {
            truth[m].acquired_count += workers[t].mine[m].acquired_count;
            truth[m].acquired_bytes += workers[t].mine[m].acquired_bytes;
            truth[m].released_count += workers[t].mine[m].released_count;
            truth[m].released_bytes += workers[t].mine[m].released_bytes;
        }
    check_what_is_held();
    print_truth(truth, SOURCES, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
