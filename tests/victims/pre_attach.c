/* pre_attach [HELD [FREED]]: blocks acquired before the attach are freed after it.
 *
 * HELD blocks (default 1,000) exist before `ready`; FREED of them (default 400) are freed after `go`, mixed with new
 * blocks that stay and new blocks that are freed. A tracer knows nothing of the old ones: it must see exactly FREED
 * releases of unknown blocks, none of which may end a new block. */
#include "victim.h"

static struct tally truth[] = {{.site = "make_new", .kind = "heap"},
                               {.site = "resize_old", .kind = "heap"}};
enum { NEW, RESIZED, MOST = 100000 };
static void *old[MOST], *kept[MOST];

SITE static void *make_old(size_t size) { return malloc(size); }
SITE static void *make_new(size_t size) { return malloc(size); }
SITE static void *resize_old(void *block, size_t size) { return realloc(block, size); }

int main(int count, char **arguments) {
    long held = count > 1 ? atol(arguments[1]) : 1000, freed = count > 2 ? atol(arguments[2]) : 400;
    if (held > MOST || freed > held || freed < 10) return 4;
    for (long i = 0; i < held; i++) old[i] = make_old(100);
    ready();
    for (long i = 0; i < freed; i++) {
        if (i % 10 == 0) { /* a resize also ends the old block, and returns a new one */
            kept[i] = resize_old(old[i], 300);
            took(&truth[RESIZED], 300);
            continue;
        }
        free(old[i]); /* the next block of this size gets the same address */
        kept[i] = make_new(100);
        took(&truth[NEW], 100);
        if (i % 3 == 0) {
            free(kept[i]);
            gave(&truth[NEW], 100);
            kept[i] = NULL;
        }
    }
    char extra[64];
    snprintf(extra, sizeof extra, ",\"failed_acquires\":0,\"unknown_frees\":%ld", freed);
    print_truth(truth, 2, 1, extra);
    await_word("exit");
    _exit(0);
}
