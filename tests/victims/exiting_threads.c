/* exiting_threads: eight threads hand blocks to each other, and end. All is acquired after `go`, so no release is unknown,
 * though glibc, at the end of each thread, frees the blocks in its cache once more. */
#define _GNU_SOURCE
#include <pthread.h>

#include "victim.h"

enum { THREADS = 8, STEPS = 150000, BOXES = 64, MOST = 143 };

static struct tally truth[] = {{"make_block", "heap", 0, 0, 0, 0}};
static void *boxes[BOXES];

SITE static void *make_block(size_t size) {
    void *block = malloc(size);
    if (block == NULL) _exit(4);
    took(&truth[0], size);
    *(unsigned char *)block = (unsigned char)size;
    return block;
}

SITE static void drop_block(void *block) {
    gave(&truth[0], *(unsigned char *)block);
    free(block);
}

static void *works(void *number) {
    unsigned random = (unsigned)(long)number * 7919 + 1;
    for (int step = 0; step < STEPS; step++) {
        random = 1664525 * random + 1013904223;
        void *block = make_block(16 + (random >> 8) % (MOST - 16));
        void *other = __atomic_exchange_n(&boxes[(random >> 4) % BOXES], block, __ATOMIC_ACQ_REL);
        if (other != NULL) drop_block(other);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    ready();
    for (long number = 0; number < THREADS; number++) {
        if (pthread_create(&threads[number], NULL, works, (void *)number) != 0) return 4;
    }
    for (int number = 0; number < THREADS; number++) pthread_join(threads[number], NULL);
    print_truth(truth, 1, 0, ",\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
