/* A plugin with two memory allocators of its own: as `malloc` and `free`, to which its own calls are bound if it is
 * loaded with RTLD_DEEPBIND, and under a prefix. Both cut pieces from one arena and never reuse memory: each address is
 * used once. */
#include "victim.h"

static _Alignas(16) char arena[1 << 20];
static size_t used;

static void *cut(size_t size) {
    size_t at = used;
    used += (size + 15) / 16 * 16;
    return used <= sizeof arena ? &arena[at] : NULL;
}

SITE void *malloc(size_t size) { return cut(size); }
SITE void free(void *block) { (void)block; }
SITE void *mine_malloc(size_t size) { return cut(size); }
SITE void mine_free(void *block) { (void)block; }

SITE static void *take_own(size_t size) { return malloc(size); }
SITE static void *take_prefixed(size_t size) { return mine_malloc(size); }

/* Two tallies, `take_own` and `take_prefixed`: every third block is released. */
void plugin_work(struct tally *tallies) {
    for (size_t i = 1; i <= 300; i++) {
        void *own = take_own(i), *prefixed = take_prefixed(2 * i);
        took(&tallies[0], i);
        took(&tallies[1], 2 * i);
        if (i % 3 != 0) continue;
        free(own);
        gave(&tallies[0], i);
        mine_free(prefixed);
        gave(&tallies[1], 2 * i);
    }
}
