/* short_lived [CHILDREN] [BLOCKS] [ROUNDS]: a server that starts a child for each request; children hold much when they end.
 *
 * Each child acquires BLOCKS blocks, releases none of them, and ends; the kernel takes them back. After each, the server
 * forgets one small block, which is the only leak. Of the children's call site, the truth has what all of them acquired as
 * released. After each round but the last it prints `round` and waits for `go`. */
#include <sys/wait.h>

#include "victim.h"

enum { FORGOTTEN = 50, HELD = 10000 };

static struct tally server = {.site = "forget_one", .kind = "heap"};
static struct tally children = {.site = "serve", .kind = "heap"};

SITE static void *forget_one(void) { return malloc(FORGOTTEN); }
SITE static void *serve(void) { return malloc(HELD); }

int main(int argc, char **argv) {
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 150;
    unsigned long blocks = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;
    unsigned long rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    ready();
    for (unsigned long i = 0; i < count * rounds; i++) {
        if (i > 0 && i % count == 0) {
            say("round\n");
            await_word("go");
        }
        pid_t child = fork();
        if (child < 0) return 4;
        if (child == 0) {
            for (unsigned long at = 0; at < blocks; at++) memset(serve(), 1, HELD);
            /* Now and then one lives for longer than the time between two drains. */
            if (count < 1000 && i % 50 == 49) usleep(400000);
            _exit(0);
        }
        if (waitpid(child, NULL, 0) != child) return 5;
        for (unsigned long at = 0; at < blocks; at++) {
            took(&children, HELD);
            gave(&children, HELD);
        }
        memset(forget_one(), 1, FORGOTTEN);
        took(&server, FORGOTTEN);
    }
    struct tally all[] = {server, children};
    print_truth(all, 2, 0, "");
    await_word("exit");
    return 0;
}
