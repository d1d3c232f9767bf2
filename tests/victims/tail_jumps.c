/* Functions that leave by a tail jump, compiled with -foptimize-sibling-calls: each acquires by a jump into another
 * object, and none is on the stack while it does. `make_session` jumps to the library of tail_relay.c, which jumps on. */
#include <sys/eventfd.h>

#include "victim.h"

void *relay_request(size_t size);

SITE static int make_wakeup(void) { return eventfd(0, 0); }
SITE static void *make_request(size_t size) { return malloc(size); }
SITE static void *make_session(size_t size) { return relay_request(size + 1); }
/* Stays on the stack: the jump was the first function's only. */
SITE static void *keep_request(size_t size) {
    char *block = malloc(size);
    *block = 1;
    return block;
}

static struct tally truth[] = {{.site = "make_wakeup", .kind = "fd"},
                               {.site = "make_request", .kind = "heap"},
                               {.site = "relay_request", .kind = "heap"},
                               {.site = "keep_request", .kind = "heap"}};
static void *volatile kept;
static volatile int wakeup;

SITE static void handle(size_t size) {
    wakeup = make_wakeup();
    took(&truth[0], 0);
    kept = make_request(size);
    took(&truth[1], size);
    kept = make_session(size);
    took(&truth[2], size + 1);
    kept = keep_request(size);
    took(&truth[3], size);
}

int main(void) {
    ready();
    for (int i = 0; i < 100; i++) handle(100);
    print_truth(truth, sizeof truth / sizeof *truth, 0, "");
    await_word("exit");
    _exit(0);
}
