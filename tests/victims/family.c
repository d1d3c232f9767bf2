/* family CASE [COUNT]: a process that forks; each process has its own account.
 *
 * The root prints `ready` and waits for `go`. Every process that is left at the end prints one line: its name, its id,
 * and its truth, with `inherited` for the blocks from its parent; the root's line comes last. Then all wait for `exit`:
 * the root reads the word, the others wait for the root's end.
 *
 * In a process's tally, inherited blocks are separate: `acquired` contains its own only. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

enum { MOST = 4096, THREADS = 4 };

static struct tally mine = {.site = "make", .kind = "heap"};
static unsigned long inherited_count, inherited_bytes;
static void *blocks[MOST];
static size_t sizes[MOST];
static size_t count = 1000;

SITE static void *make(size_t size) { return malloc(size); }

static void fill(size_t from, size_t to, size_t step) {
    for (size_t i = from; i < to; i += step) {
        if (blocks[i] != NULL) continue;
        sizes[i] = 16 + i % 200;
        blocks[i] = make(sizes[i]);
        took(&mine, sizes[i]);
    }
}

static void empty(size_t from, size_t to, size_t step) {
    for (size_t i = from; i < to; i += step) {
        if (blocks[i] == NULL) continue;
        gave(&mine, sizes[i]);
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* A child's account begins with its outstanding blocks. */
static pid_t family_fork(void) {
    pid_t child = fork();
    if (child < 0) _exit(5);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        inherited_count += mine.acquired_count - mine.released_count;
        inherited_bytes += mine.acquired_bytes - mine.released_bytes;
        mine = (struct tally){.site = "make", .kind = "heap"};
    }
    return child;
}

static void print_member(const char *name) {
    say("{\"name\":\"%s\",\"pid\":%d,\"inherited_count\":%lu,\"inherited_bytes\":%lu,"
        "\"outstanding_count\":%lu,\"outstanding_bytes\":%lu,\"acquired_count\":%lu,"
        "\"acquired_bytes\":%lu,\"released_count\":%lu,\"released_bytes\":%lu}\n",
        name, getpid(), inherited_count, inherited_bytes,
        inherited_count + mine.acquired_count - mine.released_count,
        inherited_bytes + mine.acquired_bytes - mine.released_bytes, mine.acquired_count,
        mine.acquired_bytes, mine.released_count, mine.released_bytes);
}

/* A process that is not the root stays until the root ends. */
static _Noreturn void stay(const char *name, int done) {
    print_member(name);
    if (write(done, "x", 1) != 1) _exit(7);
    for (;;) pause();
}

static void await(int done, int members) {
    char byte;
    for (int i = 0; i < members; i++)
        if (read(done, &byte, 1) != 1) _exit(8);
}

/* Only once the tracer is attached, and until the process ends: an ending thread frees cached blocks. */
static atomic_int begun;
static void *churn(void *unused) {
    (void)unused;
    while (!atomic_load(&begun)) usleep(1000);
    for (uint64_t i = 1;; i++) {
        void *one = malloc(16 + i * 31 % 500), *other = malloc(24);
        free(one);
        free(other);
    }
    return NULL;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "halves";
    if (argc > 2) count = strtoul(argv[2], NULL, 10);
    if (count > MOST) return 2;
    int done[2];
    if (pipe(done) != 0) return 3;
    if (strcmp(mode, "program") == 0) {
        /* Entry of a program that another one starts. */
        fill(0, count, 1);
        empty(0, count, 4);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        print_member("program");
        for (;;) pause();
    }
    pthread_t threads[THREADS];
    int threaded = strcmp(mode, "threads") == 0;
    for (int i = 0; threaded && i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, churn, NULL) != 0) return 4;
    ready();
    atomic_store(&begun, 1);
    fill(0, count, 1);
    if (strcmp(mode, "halves") == 0 || threaded) {
        for (int i = 0; i < (threaded ? 5 : 1); i++) {
            pid_t child = family_fork();
            if (child == 0) {
                empty(0, count, 2);
                fill(0, count, 6);
                stay("child", done[1]);
            }
            empty(1, count, 2);
            fill(1, count, 10);
            if (threaded) await(done[0], 1);
        }
        if (!threaded) await(done[0], 1);
    } else if (strcmp(mode, "generations") == 0) {
        if (family_fork() == 0) {
            empty(0, count, 3);
            if (family_fork() == 0) {
                empty(1, count, 3);
                fill(0, count, 9);
                if (family_fork() == 0) {
                    empty(2, count, 3);
                    stay("great-grandchild", done[1]);
                }
                empty(2, count, 6);
                stay("grandchild", done[1]);
            }
            empty(2, count, 3);
            stay("child", done[1]);
        }
        empty(0, count, 2);
        await(done[0], 3);
    } else if (strcmp(mode, "exec") == 0) {
        if (family_fork() == 0) {
            empty(0, count, 2);
            execl("/proc/self/exe", "family", "program", "300", (char *)NULL);
            _exit(9);
        }
        empty(1, count, 2);
    } else if (strcmp(mode, "spawn") == 0) {
        pid_t child;
        char *arguments[] = {"family", "program", "200", NULL}, *none[] = {NULL};
        if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, none) != 0) return 10;
        empty(0, count, 2);
    } else if (strcmp(mode, "vfork") == 0) {
        /* The child acquires and releases in its parent's memory. */
        pid_t child = vfork();
        if (child == 0) {
            empty(0, 10, 1);
            fill(0, 5, 1);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (strcmp(mode, "other") == 0) {
        /* Executes a program with other libraries: its path is the third argument. */
        char *arguments[] = {"family", "again", "50", NULL}, *none[] = {NULL};
        if (argc > 3) execve(argv[3], arguments, none);
        return 12;
    } else if (strcmp(mode, "self") == 0) {
        empty(0, count, 2);
        char *arguments[] = {"family", "again", "50", NULL}, *none[] = {NULL};
        execve("/proc/self/exe", arguments, none);
        return 11;
    } else if (strcmp(mode, "many") == 0) {
        /* One after the other, each with a copy of the memory, of which it releases a part. */
        for (int i = 0; i < 40; i++) {
            if (family_fork() == 0) {
                empty((size_t)i, count, 2);
                print_member("child");
                _exit(0);
            }
            wait(NULL);
            empty((size_t)i, count, 50);
        }
    }
    print_member("root");
    await_word("exit");
    return 0;
}
