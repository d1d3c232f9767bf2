/* plugin_host PLUGIN: loads a plugin on `go`, prints `loaded`, and has it work on `work`. The dynamic linker acquires,
 * too, so the truth contains only the plugin's call sites. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "victim.h"

static struct tally truth[] = {{.site = "take_own", .kind = "heap"},
                               {.site = "take_prefixed", .kind = "heap"}};

int main(int count, char **arguments) {
    ready();
    void *plugin = count > 1 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) : NULL;
    void (*work)(struct tally *) = NULL;
    if (plugin != NULL) *(void **)&work = dlsym(plugin, "plugin_work");
    if (work == NULL) {
        say("{\"error\":\"dlopen\"}\n");
        _exit(4);
    }
    say("loaded\n");
    await_word("work");
    work(truth);
    print_truth(truth, 2, 0, "");
    await_word("exit");
    _exit(0);
}
