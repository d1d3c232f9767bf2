/* heap_fragmented [BLOCKS]: memory that stays although nearly nothing is in use: between each 16 blocks that are freed, a
 * small one is kept. No leak.
 *
 * The truth is what the C library counts (mallinfo2), and how many small blocks are kept. Also prints how long ago the work
 * began, so that everything in it is from before any attach. */
#include "victim.h"

#include <malloc.h>

enum { SIZE = 512, KEPT_SIZE = 48, EVERY = 16, MOST = 1000000 };
static void *freed[MOST];
static void *volatile kept[MOST / EVERY + 1];

SITE static void *decode(void) { return memset(malloc(SIZE), 1, SIZE); }
SITE static void *remember(void) { return memset(malloc(KEPT_SIZE), 2, KEPT_SIZE); }

int main(int count, char **arguments) {
    long blocks = count > 1 ? atol(arguments[1]) : 100000, small = 0;
    if (blocks > MOST) return 4;
    ready();
    for (long i = 0; i < blocks; i++) {
        freed[i] = decode();
        if (i % EVERY == 0) kept[small++] = remember();
    }
    for (long i = 0; i < blocks; i++) free(freed[i]);
    struct mallinfo2 info = mallinfo2();
    say("{\"kept\":%ld,\"usable\":%zu,\"uordblks\":%zu,\"fordblks\":%zu}\n", small,
        malloc_usable_size(kept[0]), info.uordblks, info.fordblks);
    await_word("exit");
    return 0;
}
