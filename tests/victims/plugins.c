/* plugins FILE FILE STAYS_US: on `go`, opens the plugins of plugin_leaks.c in turn, has each acquire one block, and closes
 * it STAYS_US microseconds later: the next one is at the same addresses. 100 rounds, or 1 with plugins that stay longer.
 * The dynamic linker acquires, too, so the truth contains only the plugins' call sites. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "victim.h"

static struct tally truth[] = {{.site = "alpha_init", .kind = "heap"},
                               {.site = "bravo_init", .kind = "heap"}};

SITE static void use(const char *file, unsigned stays_us, int calls, struct tally *tally,
                     size_t bytes) {
    void *plugin = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void *(*entry)(void) = NULL;
    if (plugin != NULL) *(void **)&entry = dlsym(plugin, "plugin_entry");
    if (entry == NULL) {
        say("{\"error\":\"dlopen\"}\n");
        _exit(4);
    }
    for (int i = 0; i < calls; i++) {
        if (entry() != NULL) took(tally, bytes);
        if (stays_us > 0) usleep(stays_us / (unsigned)calls);
    }
    dlclose(plugin);
}

int main(int count, char **arguments) {
    unsigned stays_us = count > 3 ? (unsigned)atoi(arguments[3]) : 0;
    if (count < 3) _exit(2);
    ready();
    for (int i = 0; i < (stays_us > 0 ? 1 : 100); i++) {
        int calls = stays_us > 0 ? 300 : 1;
        use(arguments[1], stays_us, calls, &truth[0], 100);
        use(arguments[2], stays_us, calls, &truth[1], 300);
    }
    print_truth(truth, 2, 0, "");
    await_word("exit");
    _exit(0);
}
