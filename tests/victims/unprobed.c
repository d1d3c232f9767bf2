/* A pool whose release cannot be probed: pool_put begins with an instruction that the kernel refuses (a `lock` prefix)
 * and has no later one that would work. libc's allocator beside it is normal. With -DOWN_ALLOCATOR the program's own
 * malloc and free are such a pool, and it opens descriptors. */
#include <fcntl.h>

#include "victim.h"

static struct {
    size_t used;
    _Alignas(16) char arena[1 << 20];
} pool;

SITE static void *take(size_t size) {
    size_t at = pool.used;
    pool.used += (size + 15) / 16 * 16;
    return pool.used <= sizeof pool.arena ? &pool.arena[at] : NULL;
}

/* The second instruction overwrites the argument: only the entry can be probed. */
#define UNPROBED(name)                                                                          \
    __attribute__((naked, noinline)) void name(__attribute__((unused)) void *block) {           \
        __asm__("lock orq $0, -8(%rsp)\n\txchgq %rax, %rdi\n\tret");                             \
    }

#ifdef OWN_ALLOCATOR
void *malloc(size_t size) { return take(size); }
void *calloc(size_t count, size_t size) { return take(count * size); }
void *realloc(void *old, size_t size) { return old ? NULL : take(size); }
UNPROBED(free)
#else
SITE void *pool_get(size_t size) { return take(size); }
UNPROBED(pool_put)
SITE static void *make_session(void) { return pool_get(48); }
#endif

static struct tally truth[] = {{.site = "by_libc", .kind = "heap"}};
SITE static void *by_libc(size_t size) { return malloc(size); }

int main(void) {
    ready();
    for (size_t i = 0; i < 400; i++) {
        void *block = by_libc(100 + i);
        took(&truth[0], 100 + i);
        if (i % 4 != 0) {
            free(block);
            gave(&truth[0], 100 + i);
        }
#ifdef OWN_ALLOCATOR
        if (i % 100 == 0 && open("/dev/null", O_RDONLY) < 0) _exit(6);
#else
        pool_put(make_session());
#endif
    }
    print_truth(truth, 1, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
