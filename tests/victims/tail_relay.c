/* A library whose function leaves by a tail jump through the procedure linkage table. Its caller counts. */
#include <stdlib.h>

__attribute__((noipa)) void *relay_request(size_t size) { return malloc(size); }
