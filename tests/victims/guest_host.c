/* guest_host A.so B.so: loads one library on `load`, has it allocate at once and again on `work`, unloads it, and does
 * the same with the other. After each step it prints the address of the library's function. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "victim.h"

enum { ROUNDS = 50 };

static struct tally truth[] = {{.site = "a_early", .kind = "heap"},
                               {.site = "a_late", .kind = "heap"},
                               {.site = "b_early", .kind = "heap"},
                               {.site = "b_late", .kind = "heap"}};

static void take(struct tally *tally, void *(*work)(int, size_t), int late) {
    void *blocks[ROUNDS];
    for (size_t i = 0; i < ROUNDS; i++) {
        blocks[i] = work(late, 100 + i);
        took(tally, 100 + i);
    }
    for (size_t i = 0; i < ROUNDS; i += 2) {
        free(blocks[i]);
        gave(tally, 100 + i);
    }
}

static void visit(const char *path, const char *function, struct tally *tallies) {
    await_word("load");
    void *guest = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *(*work)(int, size_t) = NULL;
    if (guest != NULL) *(void **)&work = dlsym(guest, function);
    Dl_info place;
    if (work == NULL || dladdr(*(void **)&work, &place) == 0) {
        say("{\"error\":\"dlopen\"}\n");
        _exit(4);
    }
    take(&tallies[0], work, 0);
    say("%p\n", place.dli_fbase);
    await_word("work");
    take(&tallies[1], work, 1);
    say("worked\n");
    await_word("unload");
    dlclose(guest);
}

int main(int count, char **arguments) {
    if (count != 3) _exit(2);
    ready();
    visit(arguments[1], "a_work", &truth[0]);
    visit(arguments[2], "b_work", &truth[2]);
    print_truth(truth, 4, 0, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
