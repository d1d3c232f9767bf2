/* spins: malloc and free at full speed, and one block in a hundred thousand is kept; polls for a word after each
 * thousand turns. On `exec` it executes itself again and does the same through another function; `exit` ends it with
 * status 7. */
#include <poll.h>

#include "victim.h"

static void **kept; /* the kept blocks form a list: all of them are reachable */

SITE static void *before_exec(void) { return malloc(100); }
SITE static void *after_exec(void) { return malloc(100); }

int main(int count, char **arguments) {
    int again = count > 1;
    if (!again) ready();
    for (unsigned long turn = 1;; turn++) {
        void **block = again ? after_exec() : before_exec();
        if (block == NULL) _exit(4);
        if (turn % 100000 == 0) {
            *block = kept;
            kept = block;
        } else {
            free(block);
        }
        if (turn % 1000 != 0 || poll(&(struct pollfd){.fd = 0, .events = POLLIN}, 1, 0) != 1) continue;
        char word[6] = "";
        if (read(0, word, 5) != 5) _exit(3);
        if (strcmp(word, "exit\n") == 0) _exit(7);
        if (strcmp(word, "exec\n") == 0) {
            execv("/proc/self/exe", (char *[]){arguments[0], "again", NULL});
            _exit(4);
        }
    }
}
