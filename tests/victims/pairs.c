/* pairs: a pool with fifty pairs of functions, get_00 and put_00 to get_49 and put_49, used without a pause.
 *
 * It holds ten blocks of each pair, prints its truth, and goes on: two threads get and put, and check that the data
 * they wrote is unchanged. `count` prints their number of turns so far; a signal of any type is counted, and one that
 * a broken program gets ends it with status 5. `exit` ends it with status 0 if no error ever occurred. */
#include <pthread.h>
#include <signal.h>

#include "victim.h"

enum { PAIRS = 50, HELD = 10, THREADS = 2, BLOCK = 64, BLOCKS = 64 };
static struct pair_pool {
    char blocks[BLOCKS][BLOCK];
    char taken[BLOCKS];
} pools[PAIRS];

static inline __attribute__((always_inline)) void *get(struct pair_pool *pool, size_t size) {
    if (size > BLOCK) return NULL;
    for (int i = 0; i < BLOCKS; i++)
        if (!__atomic_test_and_set(&pool->taken[i], __ATOMIC_ACQUIRE)) return pool->blocks[i];
    return NULL;
}
static inline __attribute__((always_inline)) void put(struct pair_pool *pool, void *block) {
    __atomic_clear(&pool->taken[((char *)block - pool->blocks[0]) / BLOCK], __ATOMIC_RELEASE);
}

#define PAIR(tens, ones)                                                                                   \
    SITE void *get_##tens##ones(size_t size) { return get(&pools[tens * 10 + ones], size); }               \
    SITE void put_##tens##ones(void *block) { put(&pools[tens * 10 + ones], block); }
#define TEN(tens)                                                                                          \
    PAIR(tens, 0) PAIR(tens, 1) PAIR(tens, 2) PAIR(tens, 3) PAIR(tens, 4)                                  \
    PAIR(tens, 5) PAIR(tens, 6) PAIR(tens, 7) PAIR(tens, 8) PAIR(tens, 9)
TEN(0) TEN(1) TEN(2) TEN(3) TEN(4)

#define ENTRY(tens, ones) {get_##tens##ones, put_##tens##ones},
#define ENTRIES(tens)                                                                                      \
    ENTRY(tens, 0) ENTRY(tens, 1) ENTRY(tens, 2) ENTRY(tens, 3) ENTRY(tens, 4)                             \
    ENTRY(tens, 5) ENTRY(tens, 6) ENTRY(tens, 7) ENTRY(tens, 8) ENTRY(tens, 9)
static const struct {
    void *(*get)(size_t);
    void (*put)(void *);
} pairs[PAIRS] = {ENTRIES(0) ENTRIES(1) ENTRIES(2) ENTRIES(3) ENTRIES(4)};

static struct tally truth[] = {{.site = "hold", .kind = "heap"}, {.site = "hold_plain", .kind = "heap"}};
static volatile unsigned long turns[THREADS], broken, signals;

SITE static void *hold(int pair) { return pairs[pair].get(48); }
SITE static void *hold_plain(void) { return malloc(48); }
SITE static void *borrow(int pair) { return pairs[pair].get(32); }
SITE static void *borrow_plain(void) { return malloc(32); }

/* Writes a value that only the block's owner knows, and checks it. */
static void use(unsigned long *block, unsigned long mark) {
    for (int i = 0; i < 4; i++) ((volatile unsigned long *)block)[i] = mark + (unsigned long)i;
    for (int i = 0; i < 4; i++)
        if (((volatile unsigned long *)block)[i] != mark + (unsigned long)i)
            __atomic_fetch_add(&broken, 1, __ATOMIC_RELAXED);
}
static void *work(void *number) {
    unsigned long me = (unsigned long)number;
    for (unsigned long turn = 0;; turn++) {
        int pair = (int)(turn % PAIRS);
        void *mine = borrow(pair), *plain = borrow_plain();
        if (mine == NULL || plain == NULL) _exit(4);
        use(mine, turn * THREADS + me);
        use(plain, turn * THREADS + me);
        pairs[pair].put(mine);
        free(plain);
        turns[me] = turn;
    }
    return NULL;
}

static void on_signal(int signal) {
    __atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
    if (signal == SIGTRAP || signal == SIGSEGV || signal == SIGILL || signal == SIGBUS || signal == SIGFPE)
        _exit(5);
}

int main(void) {
    static unsigned long *held[PAIRS * HELD], *plain[PAIRS * HELD];
    for (int signal = 1; signal <= SIGRTMAX; signal++) { /* KILL, STOP and libc's own two cannot be caught */
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(signal, &action, NULL);
    }
    ready();
    for (int i = 0; i < PAIRS * HELD; i++) {
        held[i] = hold(i % PAIRS);
        plain[i] = hold_plain();
        if (held[i] == NULL || plain[i] == NULL) _exit(4);
        *held[i] = *plain[i] = (unsigned long)i;
        took(&truth[0], 48);
        took(&truth[1], 48);
    }
    pthread_t threads[THREADS];
    for (unsigned long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) _exit(4);
    print_truth(truth, 2, 0, "");
    for (char line[16];;) {
        size_t length = 0;
        do
            if (read(0, &line[length], 1) != 1) _exit(3);
        while (line[length] != '\n' && ++length < sizeof line - 1);
        line[length] = 0;
        for (unsigned long i = 0; i < PAIRS * HELD; i++)
            if (*held[i] != i || *plain[i] != i) __atomic_fetch_add(&broken, 1, __ATOMIC_RELAXED);
        if (strcmp(line, "exit") == 0) _exit(broken + signals == 0 ? 0 : 1);
        unsigned long least = turns[0] < turns[1] ? turns[0] : turns[1];
        say("{\"turns\":%lu,\"broken\":%lu,\"signals\":%lu}\n", least, broken, signals);
    }
}
