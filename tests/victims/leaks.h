/* Shared code of the programs that leak library objects: leaks_LIBRARY CASE leak|corrected COUNT [SECONDS], or `list`.
 *
 * A case creates COUNT objects in a function with a descriptive name, and releases them (corrected) or not (leak).
 * Before `ready` it runs once corrected, so that objects that a library keeps permanently exist before tracing begins.
 * The truth, one line, contains for each kind how many objects were created and destroyed, including those that the
 * library creates within others. Heap blocks, sockets and other descriptors count if the named function is in the
 * stack, library objects always. `release_asked` counts live objects whose release was requested. `list` prints the
 * table of cases.
 *
 * With SECONDS, the objects come one by one, evenly over this time, as in a server: `made` waits after each of the
 * leaking kind. `most_live` is then how many of these there were at once. */
#ifndef LEAKS_H
#define LEAKS_H

#include <stdlib.h>
#include <string.h>

#include "victim.h"

/* Most cases have one leaking function. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

struct leak_case {
    const char *name;
    const char *kind;     /* of the leaked object */
    const char *function; /* that creates it: must be the first call site */
    void (*work)(long count, int corrected);
    const char *also; /* another function that leaks with it: the other end, or the content; or NULL */
};

enum { MOST_OBJECTS = 4096, MOST_KINDS = 16 };

static struct {
    const char *kind;
    long created, destroyed;
} account[MOST_KINDS];
static long release_asked;

/* Leaked objects stay reachable, as in a server that keeps them in a list and never removes them. */
static void *kept[MOST_OBJECTS];

/* The kind whose objects are paced; NULL for none. */
static const char *paced_kind;
static useconds_t pause_us;
static long most_live; /* of this kind, at once */

static inline void enter(const char *kind, long created, long destroyed) {
    for (int at = 0; at < MOST_KINDS; at++) {
        if (account[at].kind == NULL) account[at].kind = kind;
        if (strcmp(account[at].kind, kind) != 0) continue;
        account[at].created += created;
        account[at].destroyed += destroyed;
        long live = account[at].created - account[at].destroyed;
        if (paced_kind != NULL && strcmp(kind, paced_kind) == 0 && live > most_live) most_live = live;
        return;
    }
    abort();
}

static inline void made(const char *kind, long count) {
    enter(kind, count, 0);
    if (paced_kind == NULL || strcmp(kind, paced_kind) != 0) return;
    for (long at = 0; at < count; at++) usleep(pause_us);
}
static inline void gone(const char *kind, long count) { enter(kind, 0, count); }

/* Checks a library call without which no case makes sense. */
static inline void must(int holds, const char *what) {
    if (holds) return;
    say("{\"error\":\"%s\"}\n", what);
    _exit(4);
}

static inline int leaks_main(int count, char **arguments, const struct leak_case *cases, size_t case_count,
                             void (*set_up)(void)) {
    if (count == 2 && strcmp(arguments[1], "list") == 0) {
        for (size_t at = 0; at < case_count; at++)
            say("{\"scene\":\"%s\",\"kind\":\"%s\",\"function\":\"%s\",\"also\":\"%s\"}\n", cases[at].name,
                cases[at].kind, cases[at].function, cases[at].also == NULL ? "" : cases[at].also);
        return 0;
    }
    const struct leak_case *chosen = NULL;
    for (size_t at = 0; (count == 4 || count == 5) && at < case_count; at++)
        if (strcmp(cases[at].name, arguments[1]) == 0) chosen = &cases[at];
    long objects = chosen == NULL ? 0 : atol(arguments[3]);
    int corrected = chosen != NULL && strcmp(arguments[2], "corrected") == 0;
    double seconds = count == 5 ? atof(arguments[4]) : 0;
    if (objects < 1 || objects > MOST_OBJECTS || (!corrected && strcmp(arguments[2], "leak") != 0)) {
        fprintf(stderr, "usage: %s list, or CASE leak|corrected COUNT (at most %d) [SECONDS]\n", arguments[0], MOST_OBJECTS);
        return 1;
    }
    set_up();
    chosen->work(objects, 1);
    memset(account, 0, sizeof account);
    release_asked = 0;
    ready();
    if (seconds > 0) {
        paced_kind = chosen->kind;
        pause_us = (useconds_t)(seconds * 1e6 / (double)objects);
    }
    chosen->work(objects, corrected);
    say("{\"scene\":\"%s\",\"kind\":\"%s\",\"function\":\"%s\",\"release_asked\":%ld,\"most_live\":%ld,\"kinds\":{",
        chosen->name, chosen->kind, chosen->function, release_asked, most_live);
    for (int at = 0; at < MOST_KINDS && account[at].kind != NULL; at++)
        say("%s\"%s\":{\"created\":%ld,\"destroyed\":%ld}", at == 0 ? "" : ",", account[at].kind,
            account[at].created, account[at].destroyed);
    say("}}\n");
    await_word("exit");
    _exit(0);
}

#endif
