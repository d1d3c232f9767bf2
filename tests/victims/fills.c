/* fills FILES MAPPINGS BYTES THREADS SECONDS: opens so many descriptors, maps so many pages, and touches so many bytes a
 * second, by the clock, while so many threads wait that have used some of their stacks. It stops after SECONDS, or when no
 * descriptor is left, and prints what there is then: open descriptors, mappings (lines of its own memory map), threads,
 * resident bytes of the stacks, and whether and when (CLOCK_REALTIME) the descriptors ran out. It prints that again after
 * each further `go`, and ends at `exit`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "victim.h"

enum { PAGE = 4096, THREADS_MOST = 64, DEPTH = 20 };

static struct { char *start; size_t length; } stacks[THREADS_MOST];
static pthread_barrier_t started;

SITE static int use_stack(int depth) {
    volatile char page[PAGE];
    page[0] = (char)depth;
    int below = depth > 0 ? use_stack(depth - 1) : 0;
    return page[0] + below;
}

static void *waits(void *number) {
    pthread_attr_t attributes;
    void *start;
    size_t length;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) _exit(4);
    pthread_attr_getstack(&attributes, &start, &length);
    pthread_attr_destroy(&attributes);
    stacks[(long)number].start = start;
    stacks[(long)number].length = length;
    use_stack(DEPTH);
    pthread_barrier_wait(&started);
    for (;;) pause();
    return NULL;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned long resident(char *start, size_t length) {
    static unsigned char pages[1 << 16];
    unsigned long found = 0;
    if (length / PAGE > sizeof pages || mincore(start, length, pages) != 0) _exit(5);
    for (size_t page = 0; page < length / PAGE; page++) found += pages[page] & 1;
    return found * PAGE;
}

/* The lines of the own memory map, without that of [vsyscall], which is no mapping; and the first thread's stack. */
static unsigned long mappings(char **start, size_t *length) {
    static char text[1 << 20];
    size_t size = 0;
    int map = open("/proc/self/maps", O_RDONLY);
    for (ssize_t got; (got = read(map, text + size, sizeof text - 1 - size)) > 0;) size += (size_t)got;
    close(map);
    text[size] = 0;
    unsigned long lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (!strstr(line, "[vsyscall]")) lines++;
        unsigned long from, to;
        if (strstr(line, "[stack]") && sscanf(line, "%lx-%lx", &from, &to) == 2) {
            *start = (char *)from;
            *length = to - from;
        }
    }
    return lines;
}

/* The next descriptor is free: none of them is ever closed. */
static unsigned long open_files(void) {
    unsigned long found = 0;
    for (int fd = 0; fd < 1 << 16; fd++) found += fcntl(fd, F_GETFD) != -1;
    return found;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    double files = atof(argv[1]), pages = atof(argv[2]), bytes = atof(argv[3]), seconds = atof(argv[5]);
    long threads = atol(argv[4]);
    if (threads > THREADS_MOST) return 2;
    pthread_barrier_init(&started, NULL, (unsigned)threads + 1);
    for (long number = 0; number < threads; number++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, waits, (void *)number) != 0) return 4;
    }
    pthread_barrier_wait(&started);
    size_t room = (size_t)(bytes * seconds) + PAGE;
    char *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return 4;
    ready();
    double begun = now(CLOCK_MONOTONIC), full = 0;
    unsigned long opened = 0, mapped = 0;
    size_t touched = 0;
    for (double past = 0; past < seconds && full == 0; past = now(CLOCK_MONOTONIC) - begun) {
        while ((double)opened < files * past && full == 0) {
            if (open("/dev/null", O_RDONLY) >= 0) opened++;
            else if (errno == EMFILE) full = now(CLOCK_REALTIME);
            else return 4;
        }
        /* Neighbors of different protection stay apart. */
        for (; (double)mapped < pages * past; mapped++) {
            int protection = mapped % 2 == 0 ? PROT_READ : PROT_NONE;
            if (mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) return 4;
        }
        for (; (double)touched < bytes * past && touched < room; touched += PAGE) memory[touched] = 1;
        usleep(5000);
    }
    for (;;) {
        char *stack = NULL;
        size_t length = 0;
        unsigned long lines = mappings(&stack, &length), used = resident(stack, length);
        for (long number = 0; number < threads; number++) used += resident(stacks[number].start, stacks[number].length);
        say("{\"open_files\":%lu,\"mappings\":%lu,\"threads\":%ld,\"stacks_bytes\":%lu,"
            "\"touched_bytes\":%lu,\"full_at\":",
            open_files(), lines, threads + 1, used, (unsigned long)touched);
        if (full > 0) say("%.6f}\n", full);
        else say("null}\n");
        char word[8];
        ssize_t got = read(0, word, sizeof word);
        if (got <= 0 || word[0] == 'e') return 0;
    }
}
