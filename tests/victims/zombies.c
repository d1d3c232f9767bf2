/* zombies: starts children that end at once, waits for some of them, and leaves others as zombies. Its truth says how many, by
 * the name of their program. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

enum { WORKERS = 7, HELPERS = 2, WAITED_FOR = 5 };

static pid_t start(const char *name) {
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NAME, name, 0, 0, 0);
        _exit(0);
    }
    return child;
}

int main(void) {
    ready();
    pid_t left[WORKERS + HELPERS];
    for (int i = 0; i < WORKERS + HELPERS; i++)
        left[i] = start(i < WORKERS ? "worker" : "helper (old)");
    for (int i = 0; i < WAITED_FOR; i++) waitpid(start("waited for"), NULL, 0);
    /* Waits until all others have ended, and leaves them in the process table. */
    for (int i = 0; i < WORKERS + HELPERS; i++) {
        siginfo_t seen;
        if (waitid(P_PID, (id_t)left[i], &seen, WEXITED | WNOWAIT) != 0) _exit(4);
    }
    say("{\"zombies\":[{\"name\":\"worker\",\"count\":%d},{\"name\":\"helper (old)\",\"count\":%d}]}\n",
        WORKERS, HELPERS);
    await_word("exit");
    return 0;
}
