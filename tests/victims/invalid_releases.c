/* invalid_releases: closes descriptors that are not open, from four threads at once, and releases blocks that it has
 * released before. Its truth counts both by function. To close -1 is none: it stands for no descriptor. */
#include <fcntl.h>
#include <pthread.h>

#include "victim.h"

enum { THREADS = 4, ROUNDS = 5000, PAIRS = 50, CACHED = 7, BYTES = 100 };
/* No descriptor of this victim has such a number. */
enum { NEVER_OPEN = 900 };

/* Each thread has a number of its own for it: what another one opens in between has another number. */
static SITE void close_twice(int number) {
    int fd = open("/dev/null", O_RDONLY);
    if (fd < 0 || dup2(fd, number) != number) _exit(4);
    close(number);
    close(number);
    close(fd);
}

static SITE void close_unopened(int number) {
    if (close(NEVER_OPEN + number) == 0) _exit(4);
}

static SITE void close_none(void) {
    if (close(-1) == 0) _exit(4);
}

static void *work(void *argument) {
    int number = (int)(long)argument;
    for (int round = 0; round < ROUNDS; round++) {
        close_twice(100 + number);
        if (round % 10 == 0) close_unopened(number);
        close_none();
    }
    return NULL;
}

static SITE char *acquire(void) {
    char *block = malloc(BYTES);
    if (!block) _exit(4);
    return block;
}

static SITE void release(char *block) {
    free(block);
    __asm__ volatile("");
}

static SITE void release_again(char *block) {
    free(block);
    __asm__ volatile("");
}

int main(void) {
    ready();
    char *cached[CACHED], *blocks[2 * PAIRS];
    for (int i = 0; i < CACHED; i++) cached[i] = acquire();
    for (int i = 0; i < 2 * PAIRS; i++) blocks[i] = acquire();
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) _exit(4);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    /* Old by now: a block that dies young is counted in the kernel, and not remembered. */
    sleep(2);
    /* With the thread's cache full, glibc keeps small blocks in a list of which it checks only the first. */
    for (int i = 0; i < CACHED; i++) release(cached[i]);
    for (int i = 0; i < 2 * PAIRS; i += 2) {
        release(blocks[i]);
        release(blocks[i + 1]);
        release_again(blocks[i]);
    }
    say("{\"close_twice\":%d,\"close_unopened\":%d,\"release_again\":%d}\n", THREADS * ROUNDS,
        THREADS * ROUNDS / 10, PAIRS);
    await_word("exit");
    /* The heap's lists are damaged. */
    _exit(0);
}
