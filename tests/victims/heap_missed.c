/* heap_missed [KEPT [MISSED]]: releases that no probe sees, as after a probe that the kernel has skipped.
 *
 * KEPT blocks stay. MISSED more are released by a call to the instruction in `free` after its check for null, where no probe
 * sits. The heap has them as free. The truth also counts what `make_kept` and `make_missed` acquired. */
#include "victim.h"

enum { SIZE = 120, MOST = 100000 };
static void *kept[MOST], *missed[MOST];

SITE static void *make_kept(void) { return memset(malloc(SIZE), 1, SIZE); }
SITE static void *make_missed(void) { return memset(malloc(SIZE), 2, SIZE); }

/* The instruction after `test rdi, rdi; je …` at the beginning of `free`. */
static void (*behind_the_check(void))(void *) {
    const unsigned char *code = (const unsigned char *)(void *)free;
    static const unsigned char endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa}, test[] = {0x48, 0x85, 0xff};
    if (memcmp(code, endbr64, sizeof endbr64) == 0) code += sizeof endbr64;
    if (memcmp(code, test, sizeof test) != 0) _exit(6);
    code += sizeof test;
    if (code[0] == 0x74) return (void (*)(void *))(void *)(code + 2);
    if (code[0] == 0x0f && code[1] == 0x84) return (void (*)(void *))(void *)(code + 6);
    _exit(6);
}

int main(int count, char **arguments) {
    long keep = count > 1 ? atol(arguments[1]) : 1000, miss = count > 2 ? atol(arguments[2]) : 500;
    if (keep > MOST || miss > MOST) return 4;
    /* Before the attach: afterwards the code has a breakpoint. */
    void (*release)(void *) = behind_the_check();
    ready();
    for (long i = 0; i < keep || i < miss; i++) {
        if (i < keep) kept[i] = make_kept();
        if (i < miss) missed[i] = make_missed();
    }
    for (long i = 0; i < miss; i++) release(missed[i]);
    say("{\"kept\":%ld,\"missed\":%ld}\n", keep, miss);
    await_word("exit");
    return 0;
}
