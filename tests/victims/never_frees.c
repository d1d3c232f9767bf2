/* never_frees [COUNT]: COUNT blocks (default 500) that malloc returns to the program, and as many that strdup gets for it.
 * It calls no function that releases: linked statically with musl, it contains no `free` at all. */
#include "victim.h"

static struct tally truth[] = {{.site = "keep", .kind = "heap"}, {.site = "name", .kind = "heap"}};

SITE static void keep(void) {
    *(char *volatile *)malloc(40) = 0;
    took(&truth[0], 40);
}

SITE static void name(void) {
    char *volatile copy = strdup("never released");
    (void)copy;
    took(&truth[1], 15);
}

int main(int count, char **arguments) {
    ready();
    for (int left = count > 1 ? atoi(arguments[1]) : 500; left > 0; left--) {
        keep();
        name();
    }
    print_truth(truth, 2, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
