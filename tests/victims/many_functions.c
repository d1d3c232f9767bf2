/* many_functions COUNT: COUNT pairs of functions of its own that allocate and release, get_0000 and put_0000 and so on
 * (at most 1,100), each called once; every third block is kept. */
#include "victim.h"

static struct {
    size_t used;
    _Alignas(16) char arena[1 << 20];
} pool;

/* Each has different code. */
#define PAIR(n)                                                                                 \
    SITE void *get_##n(size_t size) {                                                           \
        size_t at = pool.used;                                                                  \
        pool.used += (size + 15) / 16 * 16;                                                     \
        return pool.used <= sizeof pool.arena ? &pool.arena[at] : NULL;                         \
    }                                                                                           \
    SITE void put_##n(void *block) { __asm__ volatile("" ::"r"(block)); }
#define NAME(n) {get_##n, put_##n},

#define TEN(each, n)                                                                            \
    each(n##0) each(n##1) each(n##2) each(n##3) each(n##4) each(n##5) each(n##6) each(n##7)     \
    each(n##8) each(n##9)
#define HUNDRED(each, n)                                                                        \
    TEN(each, n##0) TEN(each, n##1) TEN(each, n##2) TEN(each, n##3) TEN(each, n##4)             \
    TEN(each, n##5) TEN(each, n##6) TEN(each, n##7) TEN(each, n##8) TEN(each, n##9)
#define ALL(each)                                                                               \
    HUNDRED(each, 00) HUNDRED(each, 01) HUNDRED(each, 02) HUNDRED(each, 03) HUNDRED(each, 04)   \
    HUNDRED(each, 05) HUNDRED(each, 06) HUNDRED(each, 07) HUNDRED(each, 08) HUNDRED(each, 09)   \
    HUNDRED(each, 10)

ALL(PAIR)

static const struct {
    void *(*get)(size_t);
    void (*put)(void *);
} pairs[] = {ALL(NAME)};

static struct tally truth[] = {{.site = "use", .kind = "heap"}};

SITE static void use(size_t at, size_t size) {
    void *block = pairs[at].get(size);
    took(&truth[0], size);
    if (at % 3 == 0) return;
    pairs[at].put(block);
    gave(&truth[0], size);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    if (count > sizeof pairs / sizeof *pairs) return 2;
    ready();
    for (size_t at = 0; at < count; at++) use(at, 16 + at % 300);
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
