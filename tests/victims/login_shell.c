/* login_shell -c COMMAND: the shell of a user who logs in and does nothing. It says `here` and stays
 * until its input ends. It keeps one block. */
#include "victim.h"

static void *volatile session;

SITE static void *open_session(void) { return memset(malloc(3000), 1, 3000); }

int main(void) {
    char c;
    session = open_session();
    say("here\n");
    while (read(0, &c, 1) == 1) {}
    return 0;
}
