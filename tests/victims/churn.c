/* churn [THREADS [PAIRS]]: THREADS threads (default 2) allocate and free as fast as they can, PAIRS pairs each (default
 * 1,000,000), with up to 64 blocks held meanwhile. Nothing is outstanding at the end. */
#include <pthread.h>
#include <time.h>

#include "victim.h"

enum { MOST = 64, HELD = 64 };
static struct tally truth[] = {{.site = "churn_block", .kind = "heap"}};
static struct { unsigned long bytes; char padding[56]; } done[MOST];
static long threads = 2, pairs = 1000000;
static pthread_barrier_t start, end;

SITE static void *churn_block(size_t size) { return malloc(size); }

static void *work(void *number) {
    void *held[HELD] = {NULL};
    unsigned long bytes = 0;
    pthread_barrier_wait(&start);
    for (long i = 0; i < pairs; i++) {
        size_t size = 16 + (size_t)(i * 40503 % 1009);
        free(held[i % HELD]); /* free(NULL) for the first ones */
        held[i % HELD] = churn_block(size);
        bytes += size;
    }
    for (int i = 0; i < HELD; i++) free(held[i]);
    done[(long)number].bytes = bytes;
    pthread_barrier_wait(&end);
    for (;;) pause();
    return NULL;
}

int main(int count, char **arguments) {
    if (count > 1) threads = atol(arguments[1]);
    if (count > 2) pairs = atol(arguments[2]);
    if (threads < 1 || threads > MOST) return 4;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end, NULL, (unsigned)threads + 1);
    pthread_t thread;
    for (long i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, work, (void *)i) != 0) return 4;
    ready();
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    pthread_barrier_wait(&start);
    pthread_barrier_wait(&end);
    clock_gettime(CLOCK_MONOTONIC, &to);
    for (long i = 0; i < threads; i++) {
        truth[0].acquired_bytes += done[i].bytes;
        truth[0].released_bytes += done[i].bytes;
    }
    truth[0].acquired_count = truth[0].released_count = (unsigned long)(threads * pairs);
    double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
    char extra[128];
    snprintf(extra, sizeof extra, ",\"failed_acquires\":0,\"unknown_frees\":0,\"ns_per_pair\":%ld",
             (long)(ns * (double)threads / (double)(threads * pairs)));
    print_truth(truth, 1, 1, extra);
    await_word("exit");
    _exit(0);
}
