/* Shared code of all victims: the protocol and the truth.
 *
 * A victim prints `ready` when it is set up and waits for the line `go`, so that a tracer can attach before the work
 * begins. Then it works, prints ONE line of JSON with its own truth, and waits for `exit`, so that a tracer can finish
 * while all resources are still held.
 *
 * The truth names call sites: functions marked SITE that call the allocator themselves. Nothing here
 * allocates: output goes through write(2), input through read(2), tallies are static. */
#ifndef VICTIM_H
#define VICTIM_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A call site: never inlined, cloned, or optimized away. */
#define SITE __attribute__((noipa))

/* The numbers of one call site. Threads may share a tally: the additions are atomic. */
struct tally {
    const char *site;
    const char *kind;
    unsigned long acquired_count, acquired_bytes, released_count, released_bytes;
};

static inline void took(struct tally *tally, size_t bytes) {
    __atomic_fetch_add(&tally->acquired_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tally->acquired_bytes, bytes, __ATOMIC_RELAXED);
}

static inline void gave(struct tally *tally, size_t bytes) {
    __atomic_fetch_add(&tally->released_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tally->released_bytes, bytes, __ATOMIC_RELAXED);
}

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int at = 0; at < length;) {
        ssize_t written = write(1, text + at, (size_t)(length - at));
        if (written <= 0) _exit(3);
        at += (int)written;
    }
}

/* Reads lines until one equals `word`; the end of the input ends the victim. */
static inline void await_word(const char *word) {
    char line[64];
    for (size_t length = 0;;) {
        char c;
        if (read(0, &c, 1) != 1) _exit(3);
        if (c != '\n') {
            if (length < sizeof line - 1) line[length++] = c;
            continue;
        }
        line[length] = 0;
        length = 0;
        if (strcmp(line, word) == 0) return;
    }
}

static inline void ready(void) {
    say("ready\n");
    await_word("go");
}

static inline void say_tally(const struct tally *t) {
    say("{\"kind\":\"%s\",\"outstanding_count\":%lu,\"outstanding_bytes\":%lu,"
        "\"acquired_count\":%lu,\"acquired_bytes\":%lu,"
        "\"released_count\":%lu,\"released_bytes\":%lu}",
        t->kind, t->acquired_count - t->released_count, t->acquired_bytes - t->released_bytes,
        t->acquired_count, t->acquired_bytes, t->released_count, t->released_bytes);
}

/* Prints the truth. With `exact`, the sums by kind are those of the whole process; without, library functions (thread
 * creation, stdio) acquired, too, and only the named sites are comparable. `extra` is more JSON members, each with its
 * leading comma, or "". */
static inline void print_truth(const struct tally *tallies, size_t count, int exact,
                              const char *extra) {
    struct tally sums[] = {{"all", "heap", 0, 0, 0, 0}, {"all", "mmap", 0, 0, 0, 0}};
    say("{\"sites\":{");
    for (size_t i = 0; i < count; i++) {
        const struct tally *t = &tallies[i];
        struct tally *sum = &sums[strcmp(t->kind, "mmap") == 0];
        say("%s\"%s\":", i == 0 ? "" : ",", t->site);
        say_tally(t);
        sum->acquired_count += t->acquired_count;
        sum->acquired_bytes += t->acquired_bytes;
        sum->released_count += t->released_count;
        sum->released_bytes += t->released_bytes;
    }
    say("},\"totals\":");
    if (exact) {
        say("{\"heap\":");
        say_tally(&sums[0]);
        say(",\"mmap\":");
        say_tally(&sums[1]);
        say("}");
    } else {
        say("null");
    }
    say("%s}\n", extra);
}

#endif
