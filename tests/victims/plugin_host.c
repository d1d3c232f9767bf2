/* plugin_host PLUGIN: loads a plugin when told `go`, says `loaded`, and lets it work when told `work`. The
 * dynamic linker acquires too, so only the plugin's sites are told. */
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
    tell_truth(truth, 2, 0, "");
    await_word("exit");
    _exit(0);
}
