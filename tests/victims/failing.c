/* failing: acquisitions that fail, and resizes that fail and must leave the old block unchanged. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>

#include "victim.h"

static struct tally truth[] = {
    {.site = "make_old", .kind = "heap"},
    {.site = "make_good", .kind = "heap"},
    {.site = "move_good", .kind = "heap"},
    {.site = "fail_malloc", .kind = "heap"},
    {.site = "fail_calloc", .kind = "heap"},
    {.site = "fail_realloc", .kind = "heap"},
    {.site = "fail_reallocarray", .kind = "heap"},
    {.site = "fail_posix_memalign", .kind = "heap"},
};
enum { OLD, GOOD, MOVED, ROUNDS = 100 };
static void *held[ROUNDS * 4];
static size_t held_count;
static volatile size_t huge = SIZE_MAX / 2 - 4096;

SITE static void *make_old(size_t size) { return malloc(size); }
SITE static void *make_good(size_t size) { return malloc(size); }
SITE static void *move_good(void *old, size_t size) { return realloc(old, size); }
SITE static void *fail_malloc(void) { return malloc(huge); }
SITE static void *fail_calloc(void) { return calloc(huge, 16); }
SITE static void *fail_realloc(void *old) { return realloc(old, huge); }
SITE static void *fail_reallocarray(void *old) { return reallocarray(old, huge, 16); }
SITE static int fail_posix_memalign(void **to, size_t align) { return posix_memalign(to, align, 100); }

static unsigned long failed;

static void must(int holds, const char *what) {
    if (holds) return;
    say("{\"error\":\"%s\"}\n", what);
    _exit(4);
}

static void one_round(void) {
    must(fail_malloc() == NULL, "malloc of half the address space");
    must(fail_calloc() == NULL, "calloc that overflows");
    void *kept = make_old(300), *kept_too = make_old(400), *grown = make_old(24);
    must(fail_realloc(kept) == NULL, "realloc to half the address space");
    must(fail_reallocarray(kept_too) == NULL, "reallocarray that overflows");
    void *untouched = &failed;
    must(fail_posix_memalign(&untouched, 24) == EINVAL, "alignment that is no power of two");
    must(fail_posix_memalign(&untouched, 4) == EINVAL, "alignment below a pointer's");
    must(untouched == &failed, "posix_memalign that fails stores nothing");
    failed += 6;
    for (int i = 0; i < 3; i++) took(&truth[OLD], (size_t[]){300, 400, 24}[i]);
    void *wall = make_good(16); /* after the block: it cannot grow in place */
    took(&truth[GOOD], 16);
    void *moved = move_good(grown, 4000);
    must(moved != NULL && moved != grown, "realloc that moves");
    gave(&truth[OLD], 24);
    took(&truth[MOVED], 4000);
    void *blocks[] = {kept, kept_too, wall, moved};
    for (int i = 0; i < 4; i++) held[held_count++] = blocks[i];
}

int main(void) {
    ready();
    for (int i = 0; i < ROUNDS; i++) one_round();
    /* The old blocks of failed resizes still exist: half of them are freed. */
    for (size_t i = 0; i < held_count / 2; i += 4) {
        free(held[i]);
        gave(&truth[OLD], 300);
        held[i] = NULL;
    }
    char extra[64];
    snprintf(extra, sizeof extra, ",\"failed_acquires\":%lu,\"unknown_frees\":0", failed);
    print_truth(truth, sizeof truth / sizeof *truth, 1, extra);
    await_word("exit");
    return 0;
}
