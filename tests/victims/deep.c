/* deep [SECONDS]: malloc and free at the bottom of a stack of twenty-odd frames, through libevent's loop and libc's
 * sort, like a server's callback; prints nanoseconds per pair. For the bench, as loop.c. */
#include <event2/event.h>
#include <time.h>

#include "victim.h"

enum { STEPS = 10 };

static double seconds;
static int done;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

SITE static void *deep_block(void) { return malloc(100); }

SITE static void measure(void) {
    unsigned long pairs = 0;
    double start = now(), spent;
    do {
        for (int i = 0; i < 1000; i++) free(deep_block());
        pairs += 1000;
        spent = now() - start;
    } while (spent < seconds);
    say("{\"pairs\":%lu,\"ns_per_pair\":%lu}\n", pairs,
        (unsigned long)(spent * 1e9 / (double)pairs));
}

/* Sorting calls the comparison more than once; the first call does the work. */
SITE static int compare(const void *a, const void *b) {
    if (!done) {
        done = 1;
        measure();
    }
    return *(const int *)a - *(const int *)b;
}

SITE static void step(int left) {
    int numbers[2] = {2, 1};
    if (left > 0)
        step(left - 1);
    else
        qsort(numbers, 2, sizeof *numbers, compare);
    __asm__ volatile("" ::"r"(numbers) : "memory"); /* no tail call, and a frame of its own */
}

SITE static void on_event(evutil_socket_t none, short what, void *unused) {
    (void)none, (void)what, (void)unused;
    done = 0;
    step(STEPS);
}

int main(int count, char **arguments) {
    seconds = count > 1 ? atof(arguments[1]) : 3;
    struct event_base *base = event_base_new();
    struct event *event = base == NULL ? NULL : event_new(base, -1, 0, on_event, NULL);
    if (event == NULL) {
        say("{\"error\":\"setup\"}\n");
        return 1;
    }
    for (ready();; await_word("go")) {
        event_active(event, EV_TIMEOUT, 0);
        event_base_dispatch(base);
    }
}
