/* threads [ROUNDS [CREATORS]]: starts threads in every way, from several threads at full speed, and releases them in every
 * way, or never. Its truth says by call site how many were started, how many of those are alive, and how many have ended
 * without having been joined or detached.
 *
 * The creators exist before `ready`. When the truth is printed, every thread that was to end has ended. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>

#include "victim.h"

enum { CREATORS_MOST = 16, WAITING = 3, TOUCHED = 96 << 10 };

enum way {
    JOINED, TRIED, TIMED, C11, DETACHED, DETACHED_LATE, DETACHING_ITSELF, BY_ATTRIBUTE, FAILING,
    FORGOTTEN, FORGOTTEN_C11, WAITING_JOINABLE, WAITING_DETACHED, WAYS
};

static struct {
    const char *site;
    unsigned long started, alive, ended;
} truth[WAYS] = {
    [JOINED] = {.site = "start_joined"},
    [TRIED] = {.site = "start_tried"},
    [TIMED] = {.site = "start_timed"},
    [C11] = {.site = "start_c11"},
    [DETACHED] = {.site = "start_detached"},
    [DETACHED_LATE] = {.site = "start_detached_late"},
    [DETACHING_ITSELF] = {.site = "start_detaching_itself"},
    [BY_ATTRIBUTE] = {.site = "start_by_attribute"},
    [FAILING] = {.site = "start_failing"},
    [FORGOTTEN] = {.site = "start_forgotten"},
    [FORGOTTEN_C11] = {.site = "start_forgotten_c11"},
    [WAITING_JOINABLE] = {.site = "start_waiting"},
    [WAITING_DETACHED] = {.site = "start_waiting_detached"},
};

static unsigned long rounds = 50, creators = 4;
static pthread_attr_t small, detached, impossible;
static pthread_barrier_t begin, done;

static void broken(const char *what) {
    say("{\"error\":\"%s\"}\n", what);
    _exit(4);
}

static void count(enum way way, int alive, int ended) {
    __atomic_fetch_add(&truth[way].started, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&truth[way].alive, alive, __ATOMIC_RELAXED);
    __atomic_fetch_add(&truth[way].ended, ended, __ATOMIC_RELAXED);
}

static void check(int error) {
    if (error != 0) broken(strerror(error));
}

static void *work(void *argument) { return argument; }

static int work_c11(void *argument) { return argument == NULL; }

static void *detach_itself(void *argument) {
    check(pthread_detach(pthread_self()));
    return argument;
}

static void *wait_long(void *argument) {
    for (;;) pause();
    return argument;
}

/* Uses some of its stack, and waits. */
static void *touch_and_wait(void *argument) {
    volatile char touched[TOUCHED];
    for (size_t at = 0; at < sizeof touched; at += 512) touched[at] = 1;
    return touched[0] ? wait_long(argument) : NULL;
}

static void *tell_tid(void *tid) {
    __atomic_store_n((pid_t *)tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    return NULL;
}

SITE static void start_joined(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, work, NULL));
    check(pthread_join(thread, NULL));
    count(JOINED, 0, 0);
}

SITE static void start_tried(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, work, NULL));
    int error;
    while ((error = pthread_tryjoin_np(thread, NULL)) == EBUSY) sched_yield();
    check(error);
    count(TRIED, 0, 0);
}

SITE static void start_timed(void) {
    static const struct timespec past = {.tv_sec = 1};
    pthread_t thread;
    check(pthread_create(&thread, NULL, work, NULL));
    int error = pthread_timedjoin_np(thread, NULL, &past);
    if (error == ETIMEDOUT) error = pthread_join(thread, NULL);
    check(error);
    count(TIMED, 0, 0);
}

SITE static void start_c11(void) {
    thrd_t thread;
    if (thrd_create(&thread, work_c11, NULL) != thrd_success) broken("thrd_create");
    if (thrd_join(thread, NULL) != thrd_success) broken("thrd_join");
    count(C11, 0, 0);
}

SITE static void start_detached(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, work, NULL));
    check(pthread_detach(thread));
    count(DETACHED, 0, 0);
}

SITE static void start_detached_late(void) {
    pthread_t thread;
    pid_t tid = 0, own = getpid();
    check(pthread_create(&thread, NULL, tell_tid, &tid));
    pid_t started;
    while ((started = __atomic_load_n(&tid, __ATOMIC_ACQUIRE)) == 0) sched_yield();
    while (syscall(SYS_tgkill, own, started, 0) == 0) sched_yield();
    check(pthread_detach(thread));
    count(DETACHED_LATE, 0, 0);
}

SITE static void start_detaching_itself(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, detach_itself, NULL));
    count(DETACHING_ITSELF, 0, 0);
}

SITE static void start_by_attribute(void) {
    pthread_t thread;
    check(pthread_create(&thread, &detached, work, NULL));
    count(BY_ATTRIBUTE, 0, 0);
}

SITE static void start_failing(void) {
    pthread_t thread;
    if (pthread_create(&thread, &impossible, work, NULL) == 0) broken("a thread with 64 TiB of stack");
}

SITE static void start_forgotten(void) {
    pthread_t thread;
    check(pthread_create(&thread, &small, work, NULL));
    count(FORGOTTEN, 0, 1);
}

SITE static void start_forgotten_c11(void) {
    thrd_t thread;
    if (thrd_create(&thread, work_c11, NULL) != thrd_success) broken("thrd_create");
    count(FORGOTTEN_C11, 0, 1);
}

SITE static void start_waiting(void) {
    pthread_t thread;
    check(pthread_create(&thread, &small, touch_and_wait, NULL));
    count(WAITING_JOINABLE, 1, 0);
}

SITE static void start_waiting_detached(void) {
    pthread_t thread;
    check(pthread_create(&thread, &detached, wait_long, NULL));
    count(WAITING_DETACHED, 1, 0);
}

static void *create(void *argument) {
    pthread_barrier_wait(&begin);
    for (unsigned long round = 0; round < rounds; round++) {
        start_joined();
        start_detached();
        start_tried();
        start_failing();
        start_detaching_itself();
        start_timed();
        start_by_attribute();
        start_c11();
        start_detached_late();
        if (round % 4 == 0) start_forgotten();
        if (round % 16 == 0) start_forgotten_c11();
    }
    for (int i = 0; i < WAITING; i++) {
        start_waiting();
        start_waiting_detached();
    }
    pthread_barrier_wait(&done);
    return wait_long(argument);
}

static unsigned long tasks(void) {
    unsigned long count = 0;
    DIR *folder = opendir("/proc/self/task");
    if (folder == NULL) broken("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

int main(int argc, char **arguments) {
    if (argc > 1) rounds = strtoul(arguments[1], NULL, 10);
    if (argc > 2) creators = strtoul(arguments[2], NULL, 10);
    if (creators > CREATORS_MOST) broken("too many creators");
    check(pthread_attr_init(&small));
    check(pthread_attr_setstacksize(&small, 256 << 10));
    check(pthread_attr_init(&detached));
    check(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED));
    check(pthread_attr_init(&impossible));
    check(pthread_attr_setstacksize(&impossible, (size_t)1 << 46));
    check(pthread_barrier_init(&begin, NULL, (unsigned)creators + 1));
    check(pthread_barrier_init(&done, NULL, (unsigned)creators + 1));
    for (unsigned long i = 0; i < creators; i++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, create, NULL));
    }
    ready();
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&done);
    unsigned long alive = 1 + creators;
    for (int way = 0; way < WAYS; way++) alive += truth[way].alive;
    while (tasks() != alive) usleep(1000);
    say("{\"touched_bytes\":%d,\"threads\":{", TOUCHED);
    for (int way = 0; way < WAYS; way++) {
        say("%s\"%s\":{\"started\":%lu,\"alive\":%lu,\"ended\":%lu}", way == 0 ? "" : ",",
            truth[way].site, truth[way].started, truth[way].alive, truth[way].ended);
    }
    say("}}\n");
    await_word("exit");
    return 0;
}
