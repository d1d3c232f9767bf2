/* belt [THREADS [LENGTH [SECONDS]]]: THREADS threads (default 4) at full speed for SECONDS (default 5). Each puts
 * blocks on the belt of the next thread, which has LENGTH slots (default 256), and frees the block that the slot
 * contained. So a block lives for LENGTH turns, and another thread than the acquiring one frees it: with a short belt
 * all blocks are young, with a long one all blocks grow old. */
#include <pthread.h>
#include <time.h>

#include "victim.h"

enum { THREADS_MOST = 64 };
static struct { struct tally mine; char padding[64]; } workers[THREADS_MOST];
static void **belts[THREADS_MOST]; /* exchanged atomically */
static long threads = 4, length = 256;
static volatile int running = 1;
static pthread_barrier_t start;

SITE static void *belt_block(size_t size) { return malloc(size); }

static void *work(void *number) {
    long me = (long)number;
    void **belt = belts[(me + 1) % threads];
    struct tally *mine = &workers[me].mine;
    pthread_barrier_wait(&start);
    for (long turn = 0; running; turn++) {
        size_t size = 32 + (size_t)turn % 64 * 8;
        size_t *block = belt_block(size);
        if (block == NULL) _exit(4);
        *block = size;
        took(mine, size);
        size_t *old = __atomic_exchange_n(&belt[turn % length], block, __ATOMIC_ACQ_REL);
        if (old == NULL) continue;
        gave(mine, *old);
        free(old);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count > 1) threads = atol(arguments[1]);
    if (count > 2) length = atol(arguments[2]);
    long seconds = count > 3 ? atol(arguments[3]) : 5;
    if (threads < 1 || threads > THREADS_MOST || length < 1 || seconds < 1) return 4;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_t all[THREADS_MOST];
    for (long i = 0; i < threads; i++) {
        belts[i] = calloc((size_t)length, sizeof *belts[i]);
        if (belts[i] == NULL) return 4;
    }
    for (long i = 0; i < threads; i++)
        if (pthread_create(&all[i], NULL, work, (void *)i) != 0) return 4;
    ready();
    pthread_barrier_wait(&start);
    sleep((unsigned)seconds);
    running = 0;
    struct tally truth = {.site = "belt_block", .kind = "heap"};
    for (long i = 0; i < threads; i++) {
        pthread_join(all[i], NULL);
        truth.acquired_count += workers[i].mine.acquired_count;
        truth.acquired_bytes += workers[i].mine.acquired_bytes;
        truth.released_count += workers[i].mine.released_count;
        truth.released_bytes += workers[i].mine.released_bytes;
    }
    print_truth(&truth, 1, 0, "");
    await_word("exit");
    _exit(0);
}
