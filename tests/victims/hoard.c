/* hoard [SITES [BLOCKS [most]]]: acquires BLOCKS blocks of 16 bytes (default ten million) from SITES call sites
 * (default 50,000), as fast as it can, and keeps them: more than tables are sized for. The call sites are paths through
 * a binary tree of calls.
 *
 * It prints its truth. With `most` it then waits for that word, frees all but every hundredth block, and prints its
 * truth again. */
#include "victim.h"

static struct tally truth[] = {{.site = "take", .kind = "heap"}};

static unsigned long sites = 50000, blocks = 10000000;
static const unsigned long size = 16;
static unsigned long left; /* sites still to come */
static void *last;         /* every block holds the address of the one before */

SITE static void *take(void) { return malloc(size); }

/* Blocks for this path: the remaining blocks divided by the remaining call sites. */
static void fill(void) {
    unsigned long count = (blocks - truth[0].acquired_count) / left--;
    for (unsigned long i = 0; i < count; i++) {
        void **block = take();
        if (block == NULL) _exit(4);
        took(&truth[0], size);
        *block = last;
        last = block;
    }
}

/* The barrier after each call keeps it from becoming a jump, which would have no return address. */
#define HERE __asm__ volatile("" ::: "memory")

SITE static void walk(int depth) {
    if (left == 0) return;
    if (depth == 0) {
        fill();
    } else {
        walk(depth - 1);
        HERE;
        walk(depth - 1);
        HERE;
    }
}

static void free_most(void) {
    void *kept = NULL;
    for (unsigned long number = 0; last != NULL; number++) {
        void **block = last;
        last = *block;
        if (number % 100 == 0) {
            *block = kept;
            kept = block;
        } else {
            gave(&truth[0], size);
            free(block);
        }
    }
    last = kept;
}

int main(int count, char **arguments) {
    if (count > 1) sites = strtoul(arguments[1], NULL, 10);
    if (count > 2) blocks = strtoul(arguments[2], NULL, 10);
    int depth = 0;
    while (1UL << depth < sites) depth++;
    left = sites;
    ready();
    walk(depth);
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    if (count > 3) {
        await_word("most");
        free_most();
        print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    }
    await_word("exit");
    _exit(0);
}
