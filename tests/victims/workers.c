/* workers COUNT [BLOCKS]: a server that has started its workers before anybody attaches; only they leak.
 *
 * The server is idle. On `go` each worker acquires BLOCKS blocks and keeps them. The truth is the sum over all workers, whose
 * ids are in `workers`. */
#include <signal.h>
#include <sys/prctl.h>

#include "victim.h"

enum { MOST = 64, SIZE = 1000 };

static struct tally kept = {.site = "keep", .kind = "heap"};

SITE static void *keep(void) { return malloc(SIZE); }

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    unsigned long blocks = argc > 2 ? strtoul(argv[2], NULL, 10) : 300;
    if (count > MOST) return 2;
    int begin[2], done[2], ids[MOST];
    if (pipe(begin) != 0 || pipe(done) != 0) return 3;
    for (unsigned long i = 0; i < count; i++) {
        ids[i] = fork();
        if (ids[i] < 0) return 4;
        if (ids[i] == 0) {
            char byte;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (read(begin[0], &byte, 1) != 1) _exit(5);
            for (unsigned long at = 0; at < blocks; at++) {
                memset(keep(), 1, SIZE);
                if (at % 20 == 0) usleep(10000);
            }
            if (write(done[1], "x", 1) != 1) _exit(6);
            for (;;) pause();
        }
    }
    ready();
    for (unsigned long i = 0; i < count; i++)
        if (write(begin[1], "x", 1) != 1) return 7;
    for (unsigned long i = 0; i < count; i++) {
        char byte;
        if (read(done[0], &byte, 1) != 1) return 8;
        for (unsigned long at = 0; at < blocks; at++) took(&kept, SIZE);
    }
    char extra[1024] = ",\"workers\":[";
    for (unsigned long i = 0, at = strlen(extra); i < count; i++)
        at += (size_t)snprintf(extra + at, sizeof extra - at, "%s%d", i == 0 ? "" : ",", ids[i]);
    strcat(extra, "]");
    print_truth(&kept, 1, 0, extra);
    await_word("exit");
    return 0;
}
