/* filled_cache ENTRIES FILL_MS FULL_MS: a cache that fills to ENTRIES within FILL_MS milliseconds and is full from then on:
 * it never releases an entry, and acquires no other. For another FULL_MS the program serves requests, whose memory it
 * releases. No leak. */
#include <time.h>

#include "victim.h"

enum { ENTRY = 1000, REQUEST = 100, MOST = 100000 };
static struct tally truth[] = {{.site = "fill", .kind = "heap"}, {.site = "serve", .kind = "heap"}};
static void *volatile entries[MOST];

SITE static void *fill(void) { return memset(malloc(ENTRY), 1, ENTRY); }
SITE static void *serve(void) { return memset(malloc(REQUEST), 2, REQUEST); }

static void wait_us(long us) {
    struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

int main(int count, char **arguments) {
    if (count != 4) return 4;
    long size = atol(arguments[1]), fill_ms = atol(arguments[2]), full_ms = atol(arguments[3]);
    if (size < 10 || size > MOST) return 4;
    ready();
    for (long i = 0; i < size; i++) {
        entries[i] = fill();
        took(&truth[0], ENTRY);
        /* Not after each: a sleep takes longer than asked for. */
        if (i % 10 == 9) wait_us(fill_ms * 1000 / (size / 10));
    }
    for (long ms = 0; ms < full_ms; ms++) {
        void *volatile request = serve();
        took(&truth[1], REQUEST);
        free(request);
        gave(&truth[1], REQUEST);
        wait_us(1000);
    }
    print_truth(truth, 2, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
