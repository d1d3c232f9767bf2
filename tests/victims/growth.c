/* growth SECONDS [DIAL=N]...: malloc and free in a loop, with a dial for each quantity that the cost of a pair may
 * depend on. For the bench.
 *
 *   threads=N    this many threads do the same (default 1)
 *   held=N       this many blocks of 16 bytes are acquired first, and kept (default 0)
 *   sites=N      the pairs come from this many call sites in turn (default 1)
 *   depth=N      every call has exactly this many frames (default 16; with several sites at least 3)
 *   functions=N  the pairs cycle through N functions of its own, take_0, give_0 ..., and malloc and free (default 0)
 *
 * After the first `go` it acquires the held blocks, calls from every call site once, and prints its truth. After each
 * further `go` it runs for SECONDS and prints that again, with the nanoseconds per pair: the time of all processors
 * that its threads can use at once, divided by the pairs. The truth contains everything acquired since the beginning,
 * and everything held. It ends at the end of its input. */
#include <pthread.h>
#include <time.h>

#include "victim.h"

enum { THREADS_MOST = 64, POOLS = 50, ROW = 256, BLOCK = 100, HELD = 16 };

static long threads = 1, held, sites = 1, depth = 16, functions;
static struct { unsigned long pairs; char padding[56]; } workers[THREADS_MOST];
static pthread_barrier_t start, end;
static volatile int running;
static __thread long me;

/* The barrier after each call keeps it from becoming a jump, which would have no return address. */
#define HERE __asm__ volatile("" ::: "memory")
/* The unwind table marks this frame as outermost, like the C library's first function. */
#define BOTTOM __asm__ volatile(".cfi_undefined rip")

#define TEN(what, d) what(d##0) what(d##1) what(d##2) what(d##3) what(d##4) \
                     what(d##5) what(d##6) what(d##7) what(d##8) what(d##9)
#define FIFTY(what) TEN(what, ) TEN(what, 1) TEN(what, 2) TEN(what, 3) TEN(what, 4)
#define FOUR(text) text text text text
#define TIMES_256(text) FOUR(FOUR(FOUR(FOUR(text))))

/* Functions of its own: each has one block per thread. Like most functions, they begin with an instruction that the
 * kernel can emulate instead of single-stepping. */
static __thread char pools[POOLS][HELD];
#define NOP __asm__ volatile("nop" ::: "memory")
#define POOL(n) \
    SITE void *take_##n(size_t size) { NOP; (void)size; return pools[n]; } \
    SITE void give_##n(void *block) { NOP; __asm__ volatile("" ::"r"(block) : "memory"); }
FIFTY(POOL)
#define TAKE(n) take_##n,
#define GIVE(n) give_##n,
static void *(*const takes[])(size_t) = {FIFTY(TAKE)};
static void (*const gives[])(void *) = {FIFTY(GIVE)};

/* From one call site. */
static inline __attribute__((always_inline)) void from_one(void) {
    for (int i = 0; i < 1000; i++) free(malloc(BLOCK));
    workers[me].pairs += 1000;
}

/* From many call sites: the paths through two functions with 256 calls each, all of the same depth. */
SITE static void from_row(long *left) {
    TIMES_256(if (*left == 0) return; --*left; free(malloc(BLOCK));)
    HERE;
}
SITE static void from_many(void) {
    long left = sites;
    TIMES_256(if (left == 0) goto done; from_row(&left); HERE;)
done:
    workers[me].pairs += (unsigned long)sites;
}

/* Through many functions, malloc and free among them. If their number is odd, one `give` serves two of `take`. */
static inline __attribute__((always_inline)) void by_many(void) {
    long taking = functions - functions / 2, giving = functions / 2;
    for (int turn = 0; turn < 20; turn++) {
        for (long i = 0; i < taking; i++) gives[i % giving](takes[i](BLOCK));
        free(malloc(BLOCK));
    }
    workers[me].pairs += 20 * (unsigned long)(taking + 1);
}

static inline __attribute__((always_inline)) void work(void) {
    if (functions > 0)
        by_many();
    else if (sites > 1)
        from_many();
    else
        from_one();
    HERE;
}

SITE static void deeper(long frames) {
    if (frames > 1)
        deeper(frames - 1);
    else
        work();
    HERE;
}

/* The lowest frame. */
SITE static void pass(void) {
    BOTTOM;
    long below = sites > 1 ? depth - 2 : depth;
    if (below > 1)
        deeper(below - 1);
    else
        work();
    HERE;
}

SITE static void *hold(void) { return malloc(HELD); }

static void *thread_main(void *number) {
    for (me = (long)number;;) {
        pthread_barrier_wait(&start);
        do pass();
        while (running);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned long pairs_of_all(void) {
    unsigned long pairs = 0;
    for (long i = 0; i < threads; i++) pairs += workers[i].pairs;
    return pairs;
}

/* Runs all threads, one pass at least; returns the nanoseconds per pair. */
static double run(double seconds) {
    unsigned long before = pairs_of_all();
    struct timespec length = {.tv_sec = (time_t)seconds};
    length.tv_nsec = (long)((seconds - (double)length.tv_sec) * 1e9);
    double from = now();
    running = seconds > 0;
    pthread_barrier_wait(&start);
    nanosleep(&length, NULL);
    running = 0;
    pthread_barrier_wait(&end);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    double at_once = (double)(threads < processors ? threads : processors);
    return (now() - from) * 1e9 * at_once / (double)(pairs_of_all() - before);
}

static void print_figures(double ns_per_pair) {
    say("{\"ns_per_pair\":%.1f,\"acquired_count\":%lu,\"outstanding_count\":%ld}\n", ns_per_pair,
        pairs_of_all() + (unsigned long)held, held);
}

static int dial(const char *text) {
    const struct { const char *name; long *value, least, most; } dials[] = {
        {"threads=", &threads, 1, THREADS_MOST}, {"held=", &held, 0, 100000000},
        {"sites=", &sites, 1, ROW * ROW},        {"depth=", &depth, 1, 10000},
        {"functions=", &functions, 0, 2 * POOLS}};
    for (size_t i = 0; i < sizeof dials / sizeof *dials; i++) {
        size_t length = strlen(dials[i].name);
        if (strncmp(text, dials[i].name, length) != 0) continue;
        *dials[i].value = atol(text + length);
        return *dials[i].value >= dials[i].least && *dials[i].value <= dials[i].most;
    }
    return 0;
}

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 3;
    for (int i = 2; i < count; i++)
        if (!dial(arguments[i])) return 4;
    if ((sites > 1 && depth < 3) || functions == 1) return 4;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    pthread_t thread;
    for (long i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, thread_main, (void *)i) != 0) return 4;
    ready();
    for (long i = 0; i < held; i++)
        if (hold() == NULL) return 4;
    run(0);
    print_figures(0);
    for (;;) {
        await_word("go");
        print_figures(run(seconds));
    }
}
