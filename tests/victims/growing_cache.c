/* growing_cache [ENTRIES [SECONDS]]: a cache that fills to ENTRIES (default 500) in the first third of SECONDS (default
 * 6) and then replaces its oldest entry for each new one. It grows, but is no leak. */
#include <time.h>

#include "victim.h"

static struct tally truth[] = {{.site = "cache_entry", .kind = "heap"}};
enum { MOST = 100000 };
static void *entries[MOST];

SITE static void *cache_entry(void) { return malloc(200); }

int main(int count, char **arguments) {
    long size = count > 1 ? atol(arguments[1]) : 500, seconds = count > 2 ? atol(arguments[2]) : 6;
    if (size < 1 || size > MOST || seconds < 1) return 4;
    struct timespec pause = {.tv_nsec = 1000000000 / 3 * seconds / size % 1000000000};
    ready();
    for (long i = 0; i < size * 3; i++) {
        void **entry = &entries[i % size];
        if (*entry != NULL) {
            free(*entry);
            gave(&truth[0], 200);
        }
        *entry = cache_entry();
        took(&truth[0], 200);
        nanosleep(&pause, NULL);
    }
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
