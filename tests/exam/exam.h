/* Shared code of the programs of the exam: the protocol, the clock, and the truth.
 *
 * A program prints `ready` and waits for the line `go [SECONDS [SPEED]]`. It works for SECONDS (default 60), prints ONE
 * line of JSON with its truth, and waits for another line before it exits, so that a tracer can finish while everything
 * is still held. SPEED (default 1) is the number of virtual seconds that pass in one second: all rates, timers and
 * lifetimes are virtual, so that `go 60 10` plays ten minutes. In the truth, `seconds` and `began_s` are real seconds.
 *
 * The truth names functions marked SITE, which call the allocator or the kernel themselves and count what they get.
 * Nothing here allocates. */
#ifndef EXAM_H
#define EXAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A function that the truth names: never inlined, cloned, or merged. It counts after the call that acquires, so that
 * this is no tail call and the function has a frame. */
#define SITE __attribute__((noipa))

/* At the end of a SITE that acquires through a container: the call that acquires is then no tail call either. */
#define KEEP_FRAME() __asm__ volatile("" : : : "memory")

/* What one function acquired, released, and lost. Threads may share it: the additions are atomic. */
struct site {
    const char *function, *kind; /* kind: heap, mmap, descriptor, thread */
    const char *cause;           /* of its leak; NULL if it has none */
    const char *why;             /* what it holds beside that is healthy; NULL if all that it holds is lost */
    const char *also;            /* other kinds that the lost objects hold, as JSON: "\"mmap\""; or NULL */
    long acquired_count, acquired_bytes, released_count, released_bytes, lost_count, lost_bytes;
    long first_us, began_us; /* after `go`: the first object, the first lost object */
};

#define LEAKS(function, kind, cause) {function, kind, cause, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0}
#define HEALTHY(function, kind, why) {function, kind, NULL, why, NULL, 0, 0, 0, 0, 0, 0, 0, 0}
#define PARTLY_LEAKS(function, kind, cause, why) {function, kind, cause, why, NULL, 0, 0, 0, 0, 0, 0, 0, 0}

static struct {
    double seconds, speed, start;
    const char *variant; /* NULL if the program has only one */
} exam;

static inline void die(const char *what) {
    perror(what);
    _exit(3);
}

static inline double monotonic(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static inline double elapsed(void) { return monotonic() - exam.start; }   /* real seconds since `go` */
static inline double now(void) { return elapsed() * exam.speed; }         /* virtual seconds since `go` */
static inline int working(void) { return elapsed() < exam.seconds; }      /* until the time is over */
static inline double duration(void) { return exam.seconds * exam.speed; } /* virtual seconds of the whole run */

static inline void nap(double seconds) {
    struct timespec pause;
    pause.tv_sec = (time_t)seconds;
    pause.tv_nsec = (long)((seconds - (double)pause.tv_sec) * 1e9);
    nanosleep(&pause, NULL);
}

/* --- Truth --- */

static inline void set_once(long *time) {
    long unset = 0, at = (long)(elapsed() * 1e6) + 1;
    if (exam.start != 0 && __atomic_load_n(time, __ATOMIC_RELAXED) == 0)
        __atomic_compare_exchange_n(time, &unset, at, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline void count(long *counts, long *bytes, size_t size) {
    __atomic_fetch_add(counts, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(bytes, (long)size, __ATOMIC_RELAXED);
}

/* Counts a block or mapping, and returns it. */
static inline void *acquired(struct site *site, void *block, size_t size) {
    if (block == NULL || block == MAP_FAILED) die(site->function);
    __asm__ volatile("" : "+r"(block) : : "memory");
    set_once(&site->first_us);
    count(&site->acquired_count, &site->acquired_bytes, size);
    return block;
}

/* Counts a descriptor, and returns it. */
static inline int opened(struct site *site, int descriptor) {
    if (descriptor < 0) die(site->function);
    set_once(&site->first_us);
    count(&site->acquired_count, &site->acquired_bytes, 0);
    return descriptor;
}

static inline void released(struct site *site, size_t size) {
    count(&site->released_count, &site->released_bytes, size);
}

/* Counts an object that the program has just forgotten to release. */
static inline void lost(struct site *site, size_t size) {
    set_once(&site->began_us);
    count(&site->lost_count, &site->lost_bytes, size);
}

/* All that this function holds is lost: nothing releases it, although it may be reachable. */
static inline void all_lost(struct site *site) {
    site->lost_count = site->acquired_count - site->released_count;
    site->lost_bytes = site->acquired_bytes - site->released_bytes;
    site->began_us = site->first_us;
}

__attribute__((format(printf, 2, 3))) static inline void add_text(char *text, const char *format, ...) {
    enum { MOST = 16384 };
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, MOST - length, format, arguments);
    va_end(arguments);
}

static inline void write_all(const char *text) {
    for (size_t left = strlen(text); left > 0;) {
        ssize_t written = write(1, text, left);
        if (written <= 0) _exit(3);
        text += written;
        left -= (size_t)written;
    }
}

/* Reads a line; the end of the input ends the program. */
static inline void read_line(char *line, size_t size) {
    for (size_t length = 0;;) {
        char c;
        if (read(0, &c, 1) != 1) _exit(3);
        line[length] = 0;
        if (c == '\n') return;
        if (length < size - 1) line[length++] = c;
    }
}

/* Which of the program's variants (separated by spaces) its argument names; without one, the first. */
static inline int choose(int argc, char **argv, const char *variants) {
    const char *wanted = argc > 1 ? argv[1] : NULL, *name = variants;
    static char chosen[32];
    for (int i = 0; *name != 0; i++) {
        size_t length = strcspn(name, " ");
        if (wanted == NULL || (strlen(wanted) == length && strncmp(wanted, name, length) == 0)) {
            snprintf(chosen, sizeof chosen, "%.*s", (int)length, name);
            exam.variant = chosen;
            return i;
        }
        name += length + (name[length] == ' ');
    }
    fprintf(stderr, "unknown variant `%s`; one of: %s\n", wanted, variants);
    _exit(2);
}

/* Says that the program is set up, and waits for `go`. */
static inline void begin(void) {
    char line[64];
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    write_all("ready\n");
    do read_line(line, sizeof line);
    while (strncmp(line, "go", 2) != 0);
    char *rest = line + 2;
    exam.seconds = strtod(rest, &rest);
    exam.speed = strtod(rest, &rest);
    if (exam.seconds <= 0) exam.seconds = 60;
    if (exam.speed <= 0) exam.speed = 1;
    exam.start = monotonic();
}

/* Prints the truth, waits for a line, and exits. No thread may acquire or release any more. */
__attribute__((noreturn)) static inline void print_truth(const char *program, const struct site *sites, size_t size) {
    static char text[16384];
    char line[64];
    const char *comma = "";
    add_text(text, "{\"program\":\"%s\",", program);
    if (exam.variant != NULL) add_text(text, "\"variant\":\"%s\",", exam.variant);
    add_text(text, "\"seconds\":%g,\"speed\":%g,\"leaks\":[", exam.seconds, exam.speed);
    for (const struct site *site = sites; site < sites + size; site++) {
        long in_use = site->acquired_count - site->released_count - site->lost_count;
        long in_use_bytes = site->acquired_bytes - site->released_bytes - site->lost_bytes;
        if (in_use < 0 || in_use_bytes < 0 || (site->why == NULL && (in_use != 0 || in_use_bytes != 0))) {
            fprintf(stderr, "%s: acquired %ld, released %ld, lost %ld: the counts disagree\n", site->function,
                    site->acquired_count, site->released_count, site->lost_count);
            _exit(4);
        }
        if (site->lost_count == 0) continue;
        add_text(text,
                 "%s{\"function\":\"%s\",\"kind\":\"%s\",\"began_s\":%.3f,\"count\":%ld,\"bytes\":%ld,"
                 "\"in_use_count\":%ld,\"in_use_bytes\":%ld,\"also\":[%s],\"cause\":\"%s\"}",
                 comma, site->function, site->kind, (double)site->began_us * 1e-6, site->lost_count, site->lost_bytes,
                 in_use, in_use_bytes, site->also != NULL ? site->also : "", site->cause);
        comma = ",";
    }
    add_text(text, "],\"healthy\":[");
    comma = "";
    for (const struct site *site = sites; site < sites + size; site++) {
        if (site->why == NULL || site->lost_count != 0) continue;
        add_text(text,
                 "%s{\"function\":\"%s\",\"kind\":\"%s\",\"why\":\"%s\",\"outstanding_count\":%ld,"
                 "\"outstanding_bytes\":%ld}",
                 comma, site->function, site->kind, site->why, site->acquired_count - site->released_count,
                 site->acquired_bytes - site->released_bytes);
        comma = ",";
    }
    add_text(text, "]}\n");
    write_all(text);
    read_line(line, sizeof line);
    _exit(0);
}
#define FINISH(program, sites) print_truth(program, sites, sizeof sites / sizeof *sites)

/* --- Work --- */

/* Pseudo-random numbers: the same at each run. */
struct dice {
    uint64_t state;
};

static inline uint64_t roll(struct dice *dice) {
    dice->state ^= dice->state >> 12, dice->state ^= dice->state << 25, dice->state ^= dice->state >> 27;
    return dice->state * 0x2545F4914F6CDD1Du;
}
static inline double fraction(struct dice *dice) { return (double)(roll(dice) >> 11) * 0x1p-53; }
static inline int chance(struct dice *dice, double probability) { return fraction(dice) < probability; }
static inline long between(struct dice *dice, long least, long most) {
    return least + (long)(roll(dice) % (uint64_t)(most - least + 1));
}

/* 0 to `size` - 1; small numbers are much more frequent, as popular names are. */
static inline long skewed(struct dice *dice, long size) {
    double x = fraction(dice);
    return (long)(x * x * x * (double)size);
}

/* A time with this mean, exponentially distributed (the logarithm is interpolated). */
static inline double about(struct dice *dice, double mean) {
    int halvings = 1;
    while (halvings < 20 && (roll(dice) >> 63) != 0) halvings++;
    return mean * 0.6931 * (halvings - fraction(dice));
}

/* Sleeps 4 ms, and returns how many operations are due of `rate` per virtual second; -1 when the time is over.
 * Operations that the machine could not keep up with are skipped. */
struct pace {
    double last, rest;
};

static inline long due(struct pace *pace, double rate) {
    const double most = 200000, longest = 0.1;
    nap(0.004);
    if (!working()) return -1;
    double at = elapsed(), passed = at - pace->last;
    if (passed > longest) passed = longest;
    pace->last = at;
    rate *= exam.speed;
    pace->rest += passed * (rate < most ? rate : most);
    long whole = (long)pace->rest;
    pace->rest -= (double)whole;
    return whole;
}

/* Objects that end at a virtual time of their own: a timer wheel. The object begins with a struct timed. */
struct timed {
    struct timed *next;
    double end;
};
#define WHEEL_SLOTS 512L
#define WHEEL_TICKS_PER_SECOND 20
struct wheel {
    struct timed *slots[WHEEL_SLOTS];
    long at;
};

static inline void wheel_add(struct wheel *wheel, void *object, double end) {
    struct timed *timed = (struct timed *)object;
    long slot = (long)(end * WHEEL_TICKS_PER_SECOND) + 1;
    if (slot <= wheel->at) slot = wheel->at + 1;
    timed->end = end;
    timed->next = wheel->slots[slot % WHEEL_SLOTS];
    wheel->slots[slot % WHEEL_SLOTS] = timed;
}

/* Takes the objects that end by `until` out of the wheel, as a list. */
static inline struct timed *wheel_ended(struct wheel *wheel, double until) {
    struct timed *ended = NULL;
    long last = (long)(until * WHEEL_TICKS_PER_SECOND), slots = last - wheel->at;
    for (long i = 1; i <= (slots < WHEEL_SLOTS ? slots : WHEEL_SLOTS); i++) {
        struct timed **link = &wheel->slots[(wheel->at + i) % WHEEL_SLOTS];
        while (*link != NULL) {
            struct timed *timed = *link;
            if (timed->end > until) {
                link = &timed->next;
                continue;
            }
            *link = timed->next;
            timed->next = ended;
            ended = timed;
        }
    }
    if (last > wheel->at) wheel->at = last;
    return ended;
}
#define FOREVER 1e9 /* wheel_ended(wheel, FOREVER) takes all */

/* A connected pair of sockets that keep the bounds of messages: [0] for the server, [1] for its clients. Sending fails
 * after a second without room: only at the end, when the other side does not receive any more but waits for this
 * one. */
static inline void socket_pair(int ends[2]) {
    struct timeval most = {1, 0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) die("socketpair");
    for (int i = 0; i < 2; i++) setsockopt(ends[i], SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
}

/* Waits up to 10 ms for a message: its size; 0 when the other end is closed; -1 if there was none. */
static inline ssize_t receive(int from, void *buffer, size_t size) {
    struct pollfd one;
    one.fd = from;
    one.events = POLLIN;
    if (poll(&one, 1, 10) <= 0) return -1;
    return recv(from, buffer, size, 0);
}

static inline pthread_t start_thread(void *(*work)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, argument) != 0) die("pthread_create");
    return thread;
}

/* --- Other processes, and connections over loopback --- */

/* Forks a process that ends with its parent. */
static inline pid_t fork_child(void) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

/* A process that was forked before `go` waits here, and takes over the clock that its parent sends by `send_go`. */
static inline void wait_for_go(int from) {
    if (read(from, &exam, sizeof exam) != sizeof exam) _exit(3);
}
static inline void send_go(int to, int processes) {
    for (int i = 0; i < processes; i++)
        if (write(to, &exam, sizeof exam) != sizeof exam) die("write");
}

/* A copy of the sites that processes share: forked ones count there, too. */
static inline struct site *share_sites(const struct site *sites, size_t size) {
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) die("mmap");
    return (struct site *)memcpy(copy, sites, size);
}

static inline int listen_on_loopback(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)address, size) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)address, &size) != 0)
        die("listen");
    return listener;
}

static inline int connect_to(const struct sockaddr_in *address) {
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || connect(connection, (const struct sockaddr *)address, sizeof *address) != 0) die("connect");
    return connection;
}

/* Closes a connection by a reset: what the peer has not read is lost, and its next call fails with ECONNRESET. */
static inline void reset_connection(int connection) {
    struct linger linger = {1, 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(connection);
}

#ifdef __cplusplus
/* The allocator of a container whose memory belongs to one site. */
template <class T> struct Counted {
    using value_type = T;
    struct site *site;
    Counted(struct site *of) : site(of) {}
    template <class U> Counted(const Counted<U> &other) : site(other.site) {}
    T *allocate(size_t length) {
        size_t size = length * sizeof(T);
        return static_cast<T *>(acquired(site, ::operator new(size), size));
    }
    void deallocate(T *block, size_t length) {
        released(site, length * sizeof(T));
        ::operator delete(block);
    }
    template <class U> bool operator==(const Counted<U> &other) const { return site == other.site; }
    template <class U> bool operator!=(const Counted<U> &other) const { return site != other.site; }
};
#endif

#endif
