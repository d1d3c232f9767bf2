/* abandoned: calls into the allocator that never return, and threads that come and go.
 *
 * posix_memalign() gets a pointer that it cannot store through: it faults after it has allocated, and the signal
 * handler jumps out of it. That block is lost to everybody, including the tracer: the truth calls it `unknowable` and
 * counts it nowhere. Calls that follow, from a deeper stack than the abandoned call and from a shallower one, must be
 * counted normally. Then threads end, are cancelled, and pass their thread id to others. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "victim.h"

static struct tally truth[] = {
    {.site = "store_fails", .kind = "heap"},   {.site = "leak_deeper", .kind = "heap"},
    {.site = "leak_shallow", .kind = "heap"},  {.site = "leak_and_exit", .kind = "heap"},
    {.site = "leak_and_wait", .kind = "heap"}, {.site = "leak_early", .kind = "heap"},
};
enum { STORE, DEEPER, SHALLOW, EXITED, WAITED, EARLY, ROUNDS = 50, THREADS = 200 };
static void *held[ROUNDS * 8 + THREADS * 4];
static size_t held_count;
static sigjmp_buf back;
static void *forbidden; /* a page that may be neither read nor written */
static pthread_barrier_t barrier;
static long last_tid;
static unsigned long reused;

static void keep(int which, void *block, size_t bytes) {
    took(&truth[which], bytes);
    held[__atomic_fetch_add(&held_count, 1, __ATOMIC_RELAXED)] = block;
}

static void on_fault(int number) { siglongjmp(back, number); }

SITE static void store_fails(void) { (void)!posix_memalign((void **)forbidden, 64, 1000); }
SITE static void *leak_deeper(size_t size) { return malloc(size); }
SITE static void *leak_shallow(size_t size) { return malloc(size); }
SITE static void *leak_early(size_t size) { return malloc(size); }
SITE static void *leak_and_exit(size_t size) { return calloc(1, size); }
SITE static void *leak_and_wait(size_t size) { return malloc(size); }

/* Calls `leak_deeper` from a deeper stack than any call before. */
SITE static void descend(int levels) {
    volatile char room[2048];
    room[0] = (char)levels;
    if (levels > 0) descend(levels - 1);
    else for (int i = 0; i < 4; i++) keep(DEEPER, leak_deeper(200), 200);
    room[1] = room[0];
}

SITE static void abandon(int from_depth) {
    volatile char room[512];
    room[0] = (char)from_depth;
    if (from_depth > 0) abandon(from_depth - 1);
    else store_fails();
    room[1] = room[0];
}

static void *ends(void *how) {
    last_tid = syscall(SYS_gettid);
    keep(EXITED, leak_and_exit(48), 48);
    if (how == NULL) pthread_exit(NULL);
    keep(WAITED, leak_and_wait(64), 64);
    pthread_barrier_wait(&barrier);
    for (;;) pause(); /* until cancelled */
}

/* A thread that abandons a call and ends: its successor with the same id starts clean. */
static void *abandons(void *unused) {
    last_tid = syscall(SYS_gettid);
    if (sigsetjmp(back, 1) == 0) abandon(3);
    keep(EARLY, leak_early(96), 96);
    return unused;
}

/* The next thread gets the id of the last one, if the kernel allows choosing it. */
static void ask_for_same_tid(long tid) {
    int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    char text[32];
    int length = snprintf(text, sizeof text, "%ld", tid - 1);
    (void)!write(file, text, (size_t)length);
    close(file);
}

static void run_thread(void *(*work)(void *), void *argument) {
    pthread_t thread;
    long before = last_tid;
    if (before != 0) ask_for_same_tid(before);
    if (pthread_create(&thread, NULL, work, argument) != 0) _exit(4);
    if (argument != NULL) {
        pthread_barrier_wait(&barrier);
        pthread_cancel(thread);
    }
    pthread_join(thread, NULL);
    reused += last_tid == before;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    pthread_barrier_init(&barrier, NULL, 2);
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ready();
    for (volatile int i = 0; i < ROUNDS; i++) {
        if (sigsetjmp(back, 1) == 0) abandon(i % 5);
        if (i % 2 == 0) descend(20 + i % 7);
        keep(SHALLOW, leak_shallow(100), 100);
        if (i % 3 == 0) descend(4);
    }
    for (int i = 0; i < THREADS; i++) {
        if (i % 3 == 0) run_thread(abandons, NULL);
        run_thread(ends, i % 5 == 0 ? &barrier : NULL);
    }
    char extra[128];
    snprintf(extra, sizeof extra, ",\"unknowable\":%d,\"thread_ids_reused\":%lu",
             ROUNDS + (THREADS + 2) / 3, reused);
    print_truth(truth, sizeof truth / sizeof *truth, 0, extra);
    await_word("exit");
    return 0;
}
