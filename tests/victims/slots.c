/* slots: library objects in memory of the caller, in one big array.
 *
 * `slots THREADS ROUNDS`: each thread initializes ROUNDS objects in slots chosen at random. If the slot contains an
 * object of any thread, it ends that object first, or (one in eight) initializes another one over it. The truth is the
 * number of objects that were created and destroyed. */
#include <pthread.h>
#include <stdint.h>

#include "victim.h"

enum { SLOTS = 4096, MOST_THREADS = 64, FREE = 0, PLACED = 1, BUSY = 2 };

struct slot {
    long number;
    void *owner;
};

static struct slot slots[SLOTS];
static int states[SLOTS];
static long rounds, created, destroyed;

/* The library. */
__attribute__((noipa)) void slot_init(void *owner, struct slot *slot, long number) {
    slot->owner = owner;
    slot->number = number;
}
__attribute__((noipa)) void slot_done(struct slot *slot) { slot->number = -1; }

SITE static void put(struct slot *slot, long number) {
    slot_init(slots, slot, number);
    __atomic_fetch_add(&created, 1, __ATOMIC_RELAXED);
}

static void *work(void *argument) {
    uint64_t random = (uintptr_t)argument * 0x9E3779B97F4A7C15u + 1;
    for (long round = 0; round < rounds;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        int at = (int)(random % SLOTS);
        int state = __atomic_exchange_n(&states[at], BUSY, __ATOMIC_ACQ_REL);
        if (state == BUSY) continue;
        if (state == PLACED) {
            if (random >> 61 != 0) slot_done(&slots[at]);
            __atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
        }
        put(&slots[at], round++);
        __atomic_store_n(&states[at], PLACED, __ATOMIC_RELEASE);
    }
    return NULL;
}

int main(int count, char **arguments) {
    int threads = count == 3 ? atoi(arguments[1]) : 0;
    rounds = count == 3 ? atol(arguments[2]) : 0;
    if (threads < 1 || threads > MOST_THREADS || rounds < 1) {
        fprintf(stderr, "usage: %s THREADS ROUNDS\n", arguments[0]);
        return 1;
    }
    ready();
    pthread_t started[MOST_THREADS];
    for (int at = 0; at < threads; at++) pthread_create(&started[at], NULL, work, (void *)(uintptr_t)(at + 1));
    for (int at = 0; at < threads; at++) pthread_join(started[at], NULL);
    say("{\"created\":%ld,\"destroyed\":%ld}\n", created, destroyed);
    await_word("exit");
    _exit(0);
}
