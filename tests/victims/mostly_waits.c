/* mostly_waits MICROSECONDS: a server that waits most of its time. After each pause it serves five requests, and forgets the
 * session of the last. It works from `go` until a line comes, and prints its truth then. */
#define _GNU_SOURCE
#include <poll.h>
#include <time.h>

#include "victim.h"

enum { SESSION = 400, REQUESTS = 5 };
static struct tally truth[] = {{.site = "make_session", .kind = "heap"}};
static void *volatile newest;

SITE static void *make_session(void) { return memset(malloc(SESSION), 1, SESSION); }

int main(int count, char **arguments) {
    if (count != 2) return 4;
    struct timespec pause = {.tv_nsec = atol(arguments[1]) * 1000};
    struct pollfd input = {.fd = 0, .events = POLLIN};
    ready();
    for (int request = 0;; request = (request + 1) % REQUESTS) {
        newest = make_session();
        took(&truth[0], SESSION);
        if (request < REQUESTS - 1) {
            free(newest);
            gave(&truth[0], SESSION);
        } else if (ppoll(&input, 1, &pause, NULL) > 0) {
            break;
        }
    }
    await_word("stop");
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
