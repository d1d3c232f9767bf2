/* heap_state [BLOCKS]: a heap with everything in it that an allocator can do, and the list of what is held.
 *
 * Eight threads, all of which go on living, allocate, free and resize blocks of many sizes: in several arenas, with full
 * caches of threads and fastbins, aligned blocks, blocks with mappings of their own (aligned ones among them), and blocks
 * that other threads have freed. Then all threads rest. The truth is each held block, and what the C library itself counts:
 * mallinfo2().uordblks is allocated and thread-cached chunks, with the headers of arenas. */
#include "victim.h"

#include <malloc.h>
#include <pthread.h>

enum { THREADS = 8, MOST = 200000 };
static void *held[THREADS][MOST];
static unsigned long count[THREADS];
static long blocks = 5000;
static pthread_barrier_t passed, filled, rest;
/* Blocks that the next thread frees. */
static void *handed[THREADS][1000];

static unsigned long next(unsigned long *state) {
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return *state >> 33;
}

SITE static void *make(size_t size) {
    unsigned char *block = malloc(size);
    if (block && size) block[0] = block[size - 1] = 0x5a;
    return block;
}

static void hold(long self, void *block) {
    if (!block || count[self] >= MOST) _exit(5);
    held[self][count[self]++] = block;
}

static void *work(void *argument) {
    long self = (long)argument;
    unsigned long state = (unsigned long)self * 977 + 5;
    for (long i = 0; i < 1000; i++) handed[self][i] = make(24 + next(&state) % 900);
    pthread_barrier_wait(&passed);
    for (long i = 0; i < 1000; i++) free(handed[(self + 1) % THREADS][i]);
    for (long i = 0; i < blocks; i++) {
        void *block;
        switch (next(&state) % 10) {
            case 0: block = calloc(1 + next(&state) % 40, 1 + next(&state) % 40); break;
            case 1: block = memalign((size_t)16 << next(&state) % 8, 1 + next(&state) % 3000); break;
            case 2: block = realloc(make(1 + next(&state) % 200), 1 + next(&state) % 2000); break;
            case 3: block = realloc(make(1000 + next(&state) % 3000), 1 + next(&state) % 500); break;
            case 4: block = make(next(&state) % 100000); break;
            default: block = make(next(&state) % 1200);
        }
        if (i % 3 == 2)
            free(block);
        else
            hold(self, block);
    }
    /* Mapped blocks: plain, aligned, resized and freed. */
    for (long i = 0; i < 6; i++) {
        hold(self, make(200000 + 5000 * (size_t)i));
        hold(self, memalign((size_t)4096 << i, 300000));
        hold(self, realloc(make(150000), 400000 + 7 * (size_t)i));
        free(make(180000));
    }
    /* Free chunks in between: every fourth held block goes, small ones in a row to fill caches and fastbins. */
    unsigned long kept = 0;
    for (unsigned long i = 0; i < count[self]; i++) {
        if (i % 4 == 1)
            free(held[self][i]);
        else
            held[self][kept++] = held[self][i];
    }
    count[self] = kept;
    void *small[40];
    for (int i = 0; i < 40; i++) small[i] = make(40 + 16 * (size_t)(i % 3));
    for (int i = 0; i < 40; i++) free(small[i]);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&rest);
    return NULL;
}

int main(int arguments, char **argument) {
    if (arguments > 1) blocks = atol(argument[1]);
    ready();
    pthread_t thread[THREADS];
    pthread_barrier_init(&passed, NULL, THREADS);
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    pthread_barrier_init(&rest, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, work, (void *)i);
    pthread_barrier_wait(&filled);
    struct mallinfo2 info = mallinfo2();
    say("{\"uordblks\":%zu,\"fordblks\":%zu,\"arena\":%zu,\"hblkhd\":%zu,\"hblks\":%zu,\"fsmblks\":%zu,\"blocks\":{",
        /* Where there is only mallinfo, these are ints. */
        (size_t)info.uordblks, (size_t)info.fordblks, (size_t)info.arena, (size_t)info.hblkhd, (size_t)info.hblks,
        (size_t)info.fsmblks);
    const char *comma = "";
    for (int self = 0; self < THREADS; self++)
        for (unsigned long i = 0; i < count[self]; i++, comma = ",")
            say("%s\"%p\":%zu", comma, held[self][i], malloc_usable_size(held[self][i]));
    say("}}\n");
    await_word("exit");
    pthread_barrier_wait(&rest);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    return 0;
}
