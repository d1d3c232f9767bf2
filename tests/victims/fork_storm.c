/* fork_storm FORKS ALLOCATIONS SECONDS KEPT: a busy server that forks FORKS times and acquires ALLOCATIONS blocks a second.
 *
 * It keeps the last KEPT blocks, of which each child has a copy; a child acquires some itself, releases two of its copies,
 * and ends. Each fork forgets a block. The truth has the server's figures, and in `forks` their number. */
#include <signal.h>
#include <time.h>

#include "victim.h"

enum { FORGOTTEN = 50, HELD = 300, OWN = 20 };

static struct tally forgotten = {.site = "forget_one", .kind = "heap"};
static struct tally held = {.site = "hold", .kind = "heap"};

SITE static void *forget_one(void) { return malloc(FORGOTTEN); }
SITE static void *hold(void) { return malloc(HELD); }
SITE static void *of_child(void) { return malloc(HELD); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    double forks = atof(argv[1]), allocations = atof(argv[2]), seconds = atof(argv[3]);
    unsigned long kept = strtoul(argv[4], NULL, 10), forked = 0, acquired = 0;
    void **ring = calloc(kept, sizeof *ring);
    if (ring == NULL) return 3;
    /* Nobody waits for the children. */
    signal(SIGCHLD, SIG_IGN);
    ready();
    double begun = now();
    for (double time = 0; time < seconds; time = now() - begun) {
        for (; (double)acquired < time * allocations; acquired++) {
            void **place = &ring[acquired % kept];
            if (*place != NULL) {
                free(*place);
                gave(&held, HELD);
            }
            *place = hold();
            took(&held, HELD);
        }
        for (; (double)forked < time * forks; forked++) {
            pid_t child = fork();
            if (child < 0) return 4;
            if (child == 0) {
                for (int at = 0; at < OWN; at++) memset(of_child(), 1, HELD);
                free(ring[0]);
                free(ring[1]);
                _exit(0);
            }
            memset(forget_one(), 1, FORGOTTEN);
            took(&forgotten, FORGOTTEN);
        }
        usleep(200);
    }
    char extra[64];
    snprintf(extra, sizeof extra, ",\"forks\":%lu", forked);
    struct tally all[] = {forgotten, held};
    print_truth(all, 2, 0, extra);
    await_word("exit");
    return 0;
}
