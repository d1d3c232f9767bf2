/* heap_lost [HELD [LOST]]: blocks from long before any attach: HELD of them are in a table, of LOST nothing remains.
 *
 * After `go` it holds 1,000 more each time, so that two censuses differ by that. */
#include "victim.h"

#include <malloc.h>

enum { HELD_SIZE = 104, LOST_SIZE = 200, MORE_SIZE = 328, MOST = 1000000 };
static void *held[MOST];
static void *more[100000];

SITE static void *make(size_t size, int fill) { return memset(malloc(size), fill, size); }

int main(int count, char **arguments) {
    long keep = count > 1 ? atol(arguments[1]) : 200000, lose = count > 2 ? atol(arguments[2]) : 200000, grown = 0;
    if (keep > MOST) return 4;
    for (long i = 0; i < keep || i < lose; i++) {
        if (i < keep) held[i] = make(HELD_SIZE, 3);
        if (i < lose) make(LOST_SIZE, 4);
    }
    for (;;) {
        ready();
        for (int i = 0; i < 1000; i++) more[grown++ % 100000] = make(MORE_SIZE, 5);
        say("{\"held\":%ld,\"lost\":%ld,\"more\":%ld}\n", keep, lose, grown);
    }
}
