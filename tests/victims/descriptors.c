/* descriptors CASE [ARGUMENTS]: every way to open and to close a file descriptor, with an exact account of the table:
 * the type and the opener of each number, how often each function opened, how many were closed. Every line is checked
 * against /proc before it is printed.
 *
 *   every N [MAJOR]    each way N times from one thread; some are closed, by every way there is; by an io_uring
 *                      only on Linux MAJOR and newer
 *   rare N [MAJOR]     the same with ways that few programs go, among them ones without a stack of ours
 *   threads T N SEED   T threads at full speed: N random steps each, numbers going round among them
 *   fork               a child and a grandchild, each with a copy; programs started by vfork and posix_spawn.
 *                      One line each, that of the process that was started first comes last
 *   exec               becomes itself again, with and without what is to be closed then
 *   unshare            threads that get tables of their own: their lines first, then that of the process
 *
 * `by` is null for descriptors opened before `ready`, and `elsewhere` if no function of this program is in the stack.
 * `held_before` counts those that an account began with: open before, or copied (`inherited`). */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>

#include "descriptors_account.h"
#include "descriptors_ring.h"
#include "descriptors_cases.h"
#include "descriptors_ways.h"

enum { THREADS_MOST = 64, SLOTS = 48, BOXES = 32, KEPT_MOST = 40 };

/* Threads. */

struct worker {
    struct account account;
    int slots[SLOTS]; /* 0: none, a worker never has stdin */
    unsigned kept, number;
    int server, pair[2];
    uint64_t random;
};

static struct worker workers[THREADS_MOST];
static int boxes[THREADS_MOST][BOXES]; /* exchanged atomically */
static unsigned threads;
static unsigned long steps;
static pthread_barrier_t start, end;

static uint64_t dice(struct worker *w, uint64_t sides) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 20) % sides;
}

static void drop(struct worker *w, int fd) {
    closing(&w->account, fd);
    if ((dice(w, 4) == 0 ? end_close_range(fd, fd, 0) : end_close(fd)) != 0) broken("close");
}

/* One in 32 stays until the end, while there is space; another takes the place of the previous one in a slot. */
static void place(struct worker *w, int fd) {
    if (w->kept < KEPT_MOST && dice(w, 32) == 0) {
        w->kept++;
        return;
    }
    int *slot = &w->slots[dice(w, SLOTS)];
    if (*slot != 0) drop(w, *slot);
    *slot = fd;
}

static void make_some(struct worker *w) {
    struct account *a = &w->account;
    int two[SENT], count;
    switch (dice(w, 11)) {
    case 0: place(w, opened(a, BY_open, by_open("/dev/null", O_RDONLY))); break;
    case 1: place(w, opened(a, BY_open, by_open("/", O_RDONLY))); break;
    case 2: place(w, opened(a, BY_socket, by_socket(AF_INET, SOCK_STREAM))); break;
    case 3: place(w, opened(a, BY_eventfd, by_eventfd(0))); break;
    case 4: place(w, opened(a, BY_epoll_create1, by_epoll_create1())); break;
    case 5:
        opened_all(a, BY_pipe, by_pipe(two), two, 2);
        place(w, two[0]);
        place(w, two[1]);
        break;
    case 6:
        opened_all(a, BY_socketpair, by_socketpair(SOCK_STREAM, two), two, 2);
        place(w, two[0]);
        place(w, two[1]);
        break;
    case 7: case 8:
        place(w, opened(a, BY_unix, by_unix(w->server)));
        if (dice(w, 2) == 0) place(w, opened(a, BY_accept4, by_accept4(w->server)));
        else place(w, opened(a, BY_accept, by_accept(w->server)));
        if (accept4(w->server, NULL, NULL, 0) >= 0) broken("an accept that nobody asked for");
        break;
    case 9:
        count = 1 + (int)dice(w, SENT);
        send_fds(w->pair[0], (int[SENT]){w->server, w->pair[0], w->pair[1]}, count);
        if (opened_all(a, BY_scm_rights, by_scm_rights(w->pair[1], count, two), two, count) != count)
            broken("a descriptor that did not arrive");
        for (int i = 0; i < count; i++) place(w, two[i]);
        break;
    default: place(w, opened(a, BY_memfd, by_memfd())); break;
    }
}

static void step(struct worker *w) {
    struct account *a = &w->account;
    int *slot = &w->slots[dice(w, SLOTS)], *other = &w->slots[dice(w, SLOTS)];
    uint64_t choice = dice(w, 32);
    if (*slot == 0 || choice < 10) {
        make_some(w);
    } else if (choice < 14 && *other != 0 && *other != *slot) {
        if (dice(w, 2) == 0) replaced(a, BY_dup2_over, *slot, by_dup2_over(*other, *slot));
        else replaced(a, BY_dup3_over, *slot, by_dup3_over(*other, *slot));
    } else if (choice < 17) {
        place(w, opened(a, BY_dup, by_dup(*slot)));
    } else if (choice < 18) {
        place(w, opened(a, BY_fcntl_dupfd, by_fcntl_dupfd(*slot, 0)));
    } else if (choice < 19) {
        none_of_these(*slot);
    } else if (choice < 25) {
        /* Given to another thread; this thread closes the one that it gets in exchange. */
        int *box = &boxes[dice(w, threads)][dice(w, BOXES)];
        *slot = __atomic_exchange_n(box, *slot, __ATOMIC_ACQ_REL);
        int arrival = __atomic_exchange_n(&boxes[w->number][choice], 0, __ATOMIC_ACQ_REL);
        if (arrival != 0) drop(w, arrival);
    } else {
        int fd = *slot;
        *slot = 0;
        drop(w, fd);
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    pthread_barrier_wait(&start);
    for (unsigned long i = 0; i < steps; i++) step(w);
    pthread_barrier_wait(&end);
    for (;;) pause();
    return NULL;
}

static void case_threads(uint64_t seed) {
    if (threads < 1 || threads > THREADS_MOST) broken("T is 1 to 64");
    pthread_barrier_init(&start, NULL, threads + 1);
    pthread_barrier_init(&end, NULL, threads + 1);
    for (unsigned t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        w->account.table = &main_table;
        w->number = t;
        w->random = (seed + 1) * 0x9E3779B97F4A7C15u + t * 0xD1B54A32D192ED03u;
        w->server = by_listen(AF_UNIX);
        pthread_t thread;
        if (w->server < 0 || by_socketpair(SOCK_STREAM, w->pair) != 0 ||
            pthread_create(&thread, NULL, work, w) != 0)
            broken("setup");
    }
    begin(&mine);
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    for (unsigned t = 0; t < threads; t++) {
        mine.closed += workers[t].account.closed;
        for (int way = 0; way < WAY_COUNT; way++) mine.opened[way] += workers[t].account.opened[way];
    }
    print_account(&mine);
}

/* Processes. */

extern char **environ;
/* A byte from each process that has printed its truth: in the first two cases the root's children, in the others its
 * grandchild. */
static int done[4];

static void some(struct account *a, int count) {
    for (int i = 0; i < count; i++) {
        int two[2];
        opened(a, BY_open, by_open("/dev/null", i % 2 ? O_RDONLY | O_CLOEXEC : O_RDONLY));
        opened(a, BY_eventfd, by_eventfd(i % 2 ? EFD_CLOEXEC : 0));
        opened(a, BY_socket, by_socket(AF_INET, SOCK_DGRAM));
        if (i % 2) opened_all(a, BY_pipe, by_pipe(two), two, 2);
        else opened_all(a, BY_pipe2, by_pipe2(two), two, 2);
        opened(a, BY_epoll_create1, by_epoll_create1());
        opened(a, BY_timerfd, by_timerfd());
        opened(a, BY_dup, by_dup(two[0]));
    }
}

/* Whether the case itself still uses a number. */
static int is_needed(int fd) {
    int needed = fd <= 2;
    for (int i = 0; i < 4; i++) needed |= fd == done[i];
    return needed;
}

/* Closes every `nth` number, and dups another one over the next. */
static void thin_out(struct account *a, int nth) {
    int count = 0;
    for (int fd = 0; fd < MOST / 2; fd++) {
        if (a->table->by[fd] == NOT_OPEN || is_needed(fd)) continue;
        if (count % nth == 0 && end_close(closing(a, fd)) != 0) broken("close");
        if (count % nth == 1) replaced(a, BY_dup2_over, fd, by_dup2_over(done[0], fd));
        count++;
    }
}

/* The account of a process, passed as an argument across exec. */
static char *state(struct account *a, const char *closed_then, size_t count) {
    line_length = 0;
    for (size_t fd = 0; fd < count; fd++)
        if (a->table->by[fd] != NOT_OPEN && closed_then[fd]) closing(a, (int)fd);
    put("%lu %lu", a->held_before, a->closed);
    for (int i = 0; i < 4; i++) put(" %d", done[i]);
    for (int way = 0; way < WAY_COUNT; way++) put(" %lu", a->opened[way]);
    for (int fd = 0; fd < MOST; fd++)
        if (a->table->by[fd] != NOT_OPEN) put(" %d %d %d", fd, a->table->by[fd], a->table->inherited[fd]);
    line_length = 0;
    return line_text;
}

static unsigned long next_number(char **text) {
    char *at = *text;
    unsigned long number = strtoul(at, text, 10);
    if (*text == at) broken("a state cut short");
    return number;
}

static void read_state(struct account *a, char *text) {
    a->held_before = next_number(&text);
    a->closed = next_number(&text);
    for (int i = 0; i < 4; i++) done[i] = (int)next_number(&text);
    for (int way = 0; way < WAY_COUNT; way++) a->opened[way] = next_number(&text);
    while (*text != 0) {
        unsigned long fd = next_number(&text);
        if (fd >= MOST) broken("a state");
        a->table->by[fd] = (unsigned char)next_number(&text);
        a->table->inherited[fd] = (unsigned char)next_number(&text);
    }
}

static char closed_at_exec[MOST];

static char *state_of_this(struct account *a) {
    for (int fd = 0; fd < MOST; fd++)
        closed_at_exec[fd] = a->table->by[fd] != NOT_OPEN && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
    return state(a, closed_at_exec, MOST);
}

static void become(const char *mode, char *text) {
    execl("/proc/self/exe", "descriptors", mode, text, (char *)NULL);
    _exit(9);
}

static void await_done(const int *ends) {
    char byte;
    if (read(ends[0], &byte, 1) != 1) broken("a child that has ended");
}

/* A process that is not the root stays until the root ends. */
static _Noreturn void stay(const int *ends) {
    if (write(ends[1], "x", 1) != 1) _exit(7);
    for (;;) pause();
}

/* A program after exec: `program` in a new process, `again` in the same. */
static void case_again(char *text, int is_child) {
    read_state(&mine, text);
    check(&mine, 0);
    some(&mine, 3);
    thin_out(&mine, 5);
    print_account(&mine);
    if (!is_child) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stay(done);
}

/* Returns in the child with an account of its own. */
static pid_t split(void) {
    pid_t child = fork();
    if (child < 0) broken("fork");
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct account from = mine;
    inherit(&mine, &main_table, &from);
    return 0;
}

static struct table childs_table;
static struct account childs;

/* The child has its parent's memory and stack, and a table of its own. */
static void start_by_vfork(void) {
    inherit(&childs, &childs_table, &mine);
    pid_t child = vfork();
    if (child == 0) {
        some(&childs, 2);
        thin_out(&childs, 4);
        become("program", state_of_this(&childs));
    }
    if (child < 0) broken("vfork");
    await_done(done);
}

/* Libc closes and dups on a stack of its own between vfork and exec. */
static void start_by_spawn(void) {
    inherit(&childs, &childs_table, &mine);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < MOST; fd++)
        closed_at_exec[fd] = mine.table->by[fd] != NOT_OPEN && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
    int victims[3], found = 0;
    for (int fd = 3; found < 3; fd++) {
        if (fd >= MOST) broken("too few to spawn with");
        if (mine.table->by[fd] != NOT_OPEN && !is_needed(fd)) victims[found++] = fd;
    }
    /* One closed, one replaced by dup2, one dup2 to an unused number; then a file opened at the first's number. */
    posix_spawn_file_actions_addclose(&actions, victims[0]);
    closing(&childs, victims[0]);
    posix_spawn_file_actions_adddup2(&actions, done[0], victims[1]);
    replaced(&childs, ELSEWHERE, victims[1], victims[1]);
    posix_spawn_file_actions_adddup2(&actions, victims[2], MOST - 7);
    opened(&childs, ELSEWHERE, MOST - 7);
    int lowest = 0;
    while (childs.table->by[lowest] != NOT_OPEN) lowest++;
    posix_spawn_file_actions_addopen(&actions, lowest, "/dev/null", O_RDONLY, 0);
    opened(&childs, ELSEWHERE, lowest);
    closed_at_exec[victims[0]] = closed_at_exec[victims[1]] = closed_at_exec[lowest] = 0;
    pid_t child;
    char *arguments[] = {"descriptors", "program", state(&childs, closed_at_exec, MOST), NULL};
    errno = posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ);
    if (errno != 0) broken("posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    await_done(done);
}

static void case_fork(void) {
    begin(&mine);
    some(&mine, 6);
    if (split() == 0) {
        thin_out(&mine, 3);
        some(&mine, 2);
        if (split() == 0) {
            some(&mine, 1);
            thin_out(&mine, 4);
            print_account(&mine);
            stay(done + 2);
        }
        thin_out(&mine, 5);
        await_done(done + 2);
        print_account(&mine);
        stay(done);
    }
    some(&mine, 1);
    thin_out(&mine, 4);
    await_done(done);
    check(&mine, 0);
    start_by_vfork();
    check(&mine, 0);
    start_by_spawn();
    some(&mine, 1);
    print_account(&mine);
}

/* Tables of a thread's own. */

enum { LONERS = 2 };

static pthread_barrier_t stage;
static struct table loners_tables[LONERS];
static struct account loners[LONERS];

static void *alone(void *argument) {
    unsigned number = argument == &loners[1];
    struct account *a = &loners[number];
    pthread_barrier_wait(&stage);
    /* The process opens nothing meanwhile, so that the copied table is known. */
    inherit(a, &loners_tables[number], &mine);
    if (number == 0) {
        if (unshare(CLONE_FILES) != 0) broken("unshare");
    } else {
        int first = MOST - 1;
        while (a->table->by[first] == NOT_OPEN) first--;
        first -= 6; /* the last few: they are closed in the copy only */
        for (int fd = first; fd < first + 4; fd++)
            if (a->table->by[fd] != NOT_OPEN) closing(a, fd);
        if (end_close_range(first, first + 3, CLOSE_RANGE_UNSHARE) != 0) broken("close_range");
    }
    pthread_barrier_wait(&stage);
    for (int i = 0; i < 50; i++) {
        thin_out(a, 7);
        some(a, 1);
    }
    pthread_barrier_wait(&stage);
    for (unsigned turn = 0; turn < LONERS; turn++) {
        if (turn == number) print_account(a);
        pthread_barrier_wait(&stage);
    }
    for (;;) pause();
    return NULL;
}

static void case_unshare(void) {
    pthread_barrier_init(&stage, NULL, LONERS + 1);
    for (int i = 0; i < LONERS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, alone, &loners[i]) != 0) broken("setup");
    }
    begin(&mine);
    some(&mine, 10);
    pthread_barrier_wait(&stage);
    pthread_barrier_wait(&stage);
    for (int i = 0; i < 50; i++) {
        thin_out(&mine, 6);
        some(&mine, 1);
    }
    pthread_barrier_wait(&stage);
    for (unsigned turn = 0; turn < LONERS; turn++) pthread_barrier_wait(&stage);
    print_account(&mine);
}

/* Opened before `ready`: of several types, some to be closed by an exec. */
static void open_before(void) {
    int two[2];
    if (pipe(done) != 0 || pipe(done + 2) != 0 || by_pipe2(two) != 0 || by_listen(AF_INET) < 0 || by_epoll_create1() < 0 ||
        by_open("/", O_RDONLY | O_CLOEXEC) < 0 || by_eventfd(0) < 0 || by_open("/proc/self/exe", O_RDONLY) < 0)
        broken("setup");
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "every";
    unsigned long times = count > 2 ? strtoul(arguments[2], NULL, 10) : 5;
    if (strcmp(mode, "program") == 0 || strcmp(mode, "again") == 0) {
        if (count > 2) case_again(arguments[2], strcmp(mode, "program") == 0);
        await_word("exit");
        _exit(0);
    }
    open_before();
    if (strcmp(mode, "threads") != 0 && count > 3) rings_since = strtoul(arguments[3], NULL, 10);
    if (strcmp(mode, "every") == 0) {
        begin(&mine);
        for (unsigned long i = 0; i < times; i++) every_way(i);
        whole_ranges();
        print_account(&mine);
    } else if (strcmp(mode, "rare") == 0) {
        begin(&mine);
        for (unsigned long i = 0; i < times; i++) rare_ways(i);
        print_account(&mine);
    } else if (strcmp(mode, "threads") == 0) {
        threads = (unsigned)times;
        steps = count > 3 ? strtoul(arguments[3], NULL, 10) : 20000;
        case_threads(count > 4 ? strtoul(arguments[4], NULL, 10) : 1);
    } else if (strcmp(mode, "fork") == 0) {
        case_fork();
    } else if (strcmp(mode, "exec") == 0) {
        begin(&mine);
        some(&mine, 5);
        thin_out(&mine, 6);
        become("again", state_of_this(&mine));
    } else if (strcmp(mode, "unshare") == 0) {
        case_unshare();
    } else {
        broken("no such case");
    }
    await_word("exit");
    _exit(0);
}
