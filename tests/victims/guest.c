/* guest: a library that is loaded late and allocates. Compiled twice: with another PREFIX, and with frames of another
 * size (ROOM), so that the unwind table of one is wrong for the other. */
#include "victim.h"

#define JOIN2(prefix, name) prefix##name
#define JOIN(prefix, name) JOIN2(prefix, name)

/* A frame whose size is only in the unwind table. */
#define FRAME char room[ROOM]; __asm__ volatile("" : : "r"(room) : "memory")
#define UNTIL_HERE __asm__ volatile("" : : "r"(room) : "memory")

SITE static void *JOIN(PREFIX, _early)(size_t size) {
    FRAME;
    void *block = malloc(size);
    UNTIL_HERE;
    return block;
}

SITE static void *JOIN(PREFIX, _late)(size_t size) {
    FRAME;
    void *block = malloc(size);
    UNTIL_HERE;
    return block;
}

SITE void *JOIN(PREFIX, _work)(int late, size_t size) {
    FRAME;
    void *block = late ? JOIN(PREFIX, _late)(size) : JOIN(PREFIX, _early)(size);
    UNTIL_HERE;
    return block;
}
