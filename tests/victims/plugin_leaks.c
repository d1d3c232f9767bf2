/* A plugin that acquires a block that nobody releases, in the function NAME, of BYTES bytes. Compiled twice, both have the
 * same code at the same offsets. */
#include <stdlib.h>

__attribute__((noipa)) void *NAME(void) {
    char *block = malloc(BYTES);
    *block = 1;
    return block;
}

__attribute__((noipa)) void *plugin_entry(void) { return (char *)NAME() + 1; }
