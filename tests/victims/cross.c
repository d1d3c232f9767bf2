/* cross [SECONDS]: four threads; each allocates blocks and passes them to the next, which frees them. For the bench:
 * after each `go` it runs for SECONDS (default 3) and prints pairs per second of all threads together, and the number
 * of blocks left in the mailboxes (none). It ends at the end of its input. */
#include <pthread.h>
#include <time.h>

#include "victim.h"

enum { THREADS = 4, BOXES = 256 };
static void *boxes[THREADS][BOXES];
static struct { unsigned long pairs; char padding[56]; } done[THREADS];
static pthread_barrier_t start, end;
static volatile int running;

SITE static void *cross_block(size_t size) { return malloc(size); }

static void *work(void *number) {
    long me = (long)number, next = (me + 1) % THREADS;
    for (;;) {
        unsigned long pairs = 0;
        pthread_barrier_wait(&start);
        for (; running; pairs++) {
            void *block = cross_block(32 + pairs % 512);
            free(__atomic_exchange_n(&boxes[next][pairs % BOXES], block, __ATOMIC_ACQ_REL));
            free(__atomic_exchange_n(&boxes[me][(pairs * 7) % BOXES], NULL, __ATOMIC_ACQ_REL));
        }
        done[me].pairs = pairs;
        pthread_barrier_wait(&end);
    }
    return NULL;
}

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 3;
    struct timespec length = {.tv_sec = (time_t)seconds};
    length.tv_nsec = (long)((seconds - (double)length.tv_sec) * 1e9);
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    pthread_t thread;
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&thread, NULL, work, (void *)i) != 0) return 4;
    for (ready();; await_word("go")) {
        running = 1;
        pthread_barrier_wait(&start);
        nanosleep(&length, NULL);
        running = 0;
        pthread_barrier_wait(&end);
        unsigned long pairs = 0;
        for (int i = 0; i < THREADS; i++) {
            pairs += done[i].pairs;
            for (int box = 0; box < BOXES; box++) {
                free(boxes[i][box]);
                boxes[i][box] = NULL;
            }
        }
        say("{\"pairs\":%lu,\"pairs_per_s\":%lu}\n", pairs, (unsigned long)((double)pairs / seconds));
    }
}
