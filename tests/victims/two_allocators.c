/* jemalloc with the prefix that Rust programs use, beside libc's malloc. */
#include "victim.h"

void *_rjem_malloc(size_t);
void *_rjem_calloc(size_t, size_t);
void *_rjem_mallocx(size_t, int);
void *_rjem_rallocx(void *, size_t, int);
void _rjem_sdallocx(void *, size_t, int);
void _rjem_free(void *);

static struct tally truth[] = {
    {.site = "by_libc", .kind = "heap"},     {.site = "by_malloc", .kind = "heap"},
    {.site = "by_calloc", .kind = "heap"},   {.site = "by_mallocx", .kind = "heap"},
    {.site = "by_rallocx", .kind = "heap"},
};
SITE static void *by_libc(size_t size) { return malloc(size); }
SITE static void *by_malloc(size_t size) { return _rjem_malloc(size); }
SITE static void *by_calloc(size_t size) { return _rjem_calloc(size, 3); }
SITE static void *by_mallocx(size_t size) { return _rjem_mallocx(size, 0); }
SITE static void *by_rallocx(void *old, size_t size) { return _rjem_rallocx(old, size, 0); }

int main(void) {
    ready();
    for (size_t i = 1; i <= 500; i++) {
        void *libc = by_libc(i), *plain = by_malloc(2 * i), *zero = by_calloc(i), *x = by_mallocx(i);
        took(&truth[0], i);
        took(&truth[1], 2 * i);
        took(&truth[2], 3 * i);
        took(&truth[3], i);
        x = by_rallocx(x, 5 * i);
        gave(&truth[3], i);
        took(&truth[4], 5 * i);
        if (i % 5 == 0) continue;
        free(libc);
        gave(&truth[0], i);
        _rjem_free(plain);
        gave(&truth[1], 2 * i);
        _rjem_free(zero);
        gave(&truth[2], 3 * i);
        _rjem_sdallocx(x, 5 * i, 0);
        gave(&truth[4], 5 * i);
    }
    print_truth(truth, sizeof truth / sizeof *truth, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
