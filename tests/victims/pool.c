/* A pool of its own that calls no allocator: pool_get(pool, size) and pool_put(pool, block). */
#include "victim.h"

struct pool {
    size_t used;
    _Alignas(16) char arena[1 << 20];
};
static struct pool pool;

SITE void *pool_get(struct pool *from, size_t size) {
    size_t at = from->used;
    from->used += (size + 15) / 16 * 16;
    return from->used <= sizeof from->arena ? &from->arena[at] : NULL;
}
SITE void pool_put(struct pool *from, void *block) {
    (void)from;
    (void)block;
}

static struct tally truth[] = {{.site = "make_session", .kind = "heap"},
                               {.site = "make_buffer", .kind = "heap"}};
SITE static void *make_session(void) { return pool_get(&pool, 48); }
SITE static void *make_buffer(size_t size) { return pool_get(&pool, size); }

int main(void) {
    ready();
    for (size_t i = 0; i < 400; i++) {
        void *session = make_session(), *buffer = make_buffer(100 + i);
        took(&truth[0], 48);
        took(&truth[1], 100 + i);
        if (i % 4 == 0) continue;
        pool_put(&pool, session);
        gave(&truth[0], 48);
        pool_put(&pool, buffer);
        gave(&truth[1], 100 + i);
    }
    print_truth(truth, 2, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
