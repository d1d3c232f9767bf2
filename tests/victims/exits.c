/* exits STATUS: leaks before main and in it, then exits with STATUS (below 0: killed by that signal). No protocol: for
 * `leaktrace -- exits 7`, which traces everything from the first instruction. */
#include <signal.h>

#include "victim.h"

static void *held[64];

SITE static void *leak_before_main(void) { return malloc(300); }
SITE static void *leak_in_main(void) { return malloc(200); }

__attribute__((constructor)) static void before_main(void) {
    for (int i = 0; i < 7; i++) held[i] = leak_before_main();
}

int main(int count, char **arguments) {
    int status = count > 1 ? atoi(arguments[1]) : 0;
    for (int i = 0; i < 5; i++) held[10 + i] = leak_in_main();
    if (status < 0) {
        raise(-status);
        pause();
    }
    _exit(status);
}
