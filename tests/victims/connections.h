/* Shared code of the server victims: an account of connections, and optional leaks per connection.
 *
 *   --leak-on-close N  every N-th connection leaves a block of 500 bytes when it closes
 *   --leak-on-error    one that ends badly (reset, or before anything whole was heard) leaves 300 bytes
 *   --leak-fd N        every N-th connection leaves a file descriptor, of /dev/null, when it is accepted
 *
 * Without an option nothing leaks. Each leak is a function of its own, which is never inlined. C and C++; threads may
 * share the account: the additions are atomic. */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLOSE_BYTES = 500, ERROR_BYTES = 300, CONNECTIONS_TEXT = 256, MOST_FDS = 1 << 20 };

/* By fd: whether it is a connection, and whether a complete request was received on it. */
static unsigned char open_connections[MOST_FDS], heard_on[MOST_FDS];
static unsigned long accepted, closed, leaked_on_close, leaked_on_error, leaked_fds;
static long leak_on_close, leak_on_error, leak_fd;
/* Leaked resources stay reachable, as in a server that keeps them in a list and never removes them. */
static void *left_behind;

/* Parses an option at `*at`; returns 0 if it is none of these. */
static inline int connections_option(int count, char **arguments, int *at) {
    long *place = NULL;
    if (strcmp(arguments[*at], "--leak-on-error") == 0) {
        leak_on_error = 1;
        return 1;
    }
    if (strcmp(arguments[*at], "--leak-on-close") == 0) place = &leak_on_close;
    if (strcmp(arguments[*at], "--leak-fd") == 0) place = &leak_fd;
    if (place == NULL || *at + 1 >= count) return 0;
    *place = atol(arguments[++*at]);
    return 1;
}

static inline void leave_behind(void *block) {
    if (block == NULL) return;
    void *next = __atomic_load_n(&left_behind, __ATOMIC_RELAXED);
    do *(void **)block = next;
    while (!__atomic_compare_exchange_n(&left_behind, &next, block, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

/* The leak on close. */
__attribute__((noinline)) static void forget_closed_connection(void) {
    leave_behind(malloc(CLOSE_BYTES));
    __atomic_fetch_add(&leaked_on_close, 1, __ATOMIC_RELAXED);
}

/* The leak on an error. */
__attribute__((noinline)) static void forget_failed_connection(void) {
    leave_behind(malloc(ERROR_BYTES));
    __atomic_fetch_add(&leaked_on_error, 1, __ATOMIC_RELAXED);
}

/* The leak of a file descriptor. */
__attribute__((noinline)) static void forget_descriptor(void) {
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0) return;
    if (fcntl(null_fd, F_DUPFD_CLOEXEC, 0) >= 0) __atomic_fetch_add(&leaked_fds, 1, __ATOMIC_RELAXED);
    close(null_fd);
}

/* Called in the accept handler, by one thread only. */
static inline void connection_opened(int fd) {
    unsigned long number = __atomic_add_fetch(&accepted, 1, __ATOMIC_RELAXED);
    if (fd < MOST_FDS) {
        open_connections[fd] = 1;
        heard_on[fd] = 0;
    }
    if (leak_fd > 0 && number % (unsigned long)leak_fd == 0) forget_descriptor();
}

static inline int is_connection(int fd) { return fd >= 0 && fd < MOST_FDS && open_connections[fd]; }

/* Called when a request, a handshake or a message was complete. */
static inline void connection_heard(int fd) {
    if (is_connection(fd)) heard_on[fd] = 1;
}

/* Called in the close handler, before the fd is closed. */
static inline void connection_closed(int fd, int failed) {
    if (!heard_on[fd]) failed = 1;
    open_connections[fd] = 0;
    if (failed && leak_on_error) forget_failed_connection();
    unsigned long number = __atomic_add_fetch(&closed, 1, __ATOMIC_RELAXED);
    if (leak_on_close > 0 && number % (unsigned long)leak_on_close == 0) forget_closed_connection();
}

/* The account, as members of a JSON object. */
static inline void connections_text(char *text, size_t room) {
    unsigned long on_close = __atomic_load_n(&leaked_on_close, __ATOMIC_RELAXED);
    unsigned long on_error = __atomic_load_n(&leaked_on_error, __ATOMIC_RELAXED);
    snprintf(text, room,
             "\"accepted\":%lu,\"closed\":%lu,\"leaked_on_close_count\":%lu,"
             "\"leaked_on_close_bytes\":%lu,\"leaked_on_error_count\":%lu,"
             "\"leaked_on_error_bytes\":%lu,\"leaked_fds\":%lu",
             __atomic_load_n(&accepted, __ATOMIC_RELAXED), __atomic_load_n(&closed, __ATOMIC_RELAXED),
             on_close, on_close * CLOSE_BYTES, on_error, on_error * ERROR_BYTES,
             __atomic_load_n(&leaked_fds, __ATOMIC_RELAXED));
}

#endif
