/* steady_leak [RATE [SECONDS]]: RATE blocks of 100 bytes a second (default 200) leak for SECONDS (default 5), beside
 * ten times as many that are freed at once: the simplest leak. */
#include <time.h>

#include "victim.h"

static struct tally truth[] = {{.site = "leak_session", .kind = "heap"},
                               {.site = "make_request", .kind = "heap"}};
static void **last; /* the leaked blocks form a list: all of them are reachable */

SITE static void *leak_session(void) { return malloc(100); }
SITE static void *make_request(void) { return malloc(500); }

int main(int count, char **arguments) {
    long rate = count > 1 ? atol(arguments[1]) : 200, seconds = count > 2 ? atol(arguments[2]) : 5;
    struct timespec pause = {.tv_nsec = 1000000000 / rate};
    ready();
    for (long i = 0; i < rate * seconds; i++) {
        void **session = leak_session();
        took(&truth[0], 100);
        *session = last;
        last = session;
        for (int n = 0; n < 10; n++) {
            free(make_request());
            took(&truth[1], 500);
            gave(&truth[1], 500);
        }
        nanosleep(&pause, NULL);
    }
    print_truth(truth, 2, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
