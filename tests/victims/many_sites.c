/* many_sites [DEPTH]: one block leaks in each of 2^DEPTH call sites (default 16: 65,536), which are the paths through a
 * binary tree of calls, as fast as it can: more than a screen shows or a table is sized for. */
#include "victim.h"

static struct tally truth[] = {{.site = "leaf", .kind = "heap"}};

SITE static void *leaf(void) { return malloc(24); }

/* The barrier after each call keeps it from becoming a jump, which would have no return address. */
#define HERE __asm__ volatile("" ::: "memory")

SITE static void walk(int depth) {
    if (depth == 0) {
        leaf();
        took(&truth[0], 24);
    } else {
        walk(depth - 1);
        HERE;
        walk(depth - 1);
        HERE;
    }
}

int main(int count, char **arguments) {
    ready();
    walk(count > 1 ? atoi(arguments[1]) : 16);
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
