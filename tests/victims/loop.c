/* loop [SECONDS]: one thread, malloc and free, nothing else; prints nanoseconds per pair. For the bench:
 * after each `go` it runs for SECONDS (default 3) and prints one line; `exit` ends it. */
#include <time.h>

#include "victim.h"

SITE static void *loop_block(void) { return malloc(100); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 3;
    for (ready();; await_word("go")) {
        unsigned long pairs = 0;
        double start = now(), spent;
        do {
            for (int i = 0; i < 1000; i++) free(loop_block());
            pairs += 1000;
            spent = now() - start;
        } while (spent < seconds);
        say("{\"pairs\":%lu,\"ns_per_pair\":%lu}\n", pairs,
            (unsigned long)(spent * 1e9 / (double)pairs));
    }
}
