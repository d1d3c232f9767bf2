/* touches: anonymous memory that becomes resident, page by page, by known functions.
 *
 * Counting: one for each touch that made memory resident that still is: a page of 4096 bytes, or a huge page. Pages
 * that were only read, pages of files, and pages given back are not counted. A tracer may miss pages that were given
 * back before it could read them: only outstanding numbers are comparable. It runs for four seconds, so that a tracer
 * sees growth. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "victim.h"

#define PAGE ((size_t)4096)
enum { WRITES, MOST, FILLED, HEAP, PARTS, THREAD, READ_FIRST, HUGE, KINDS };
static struct tally truth[] = {
    {.site = "write_pages", .kind = "pages"}, {.site = "write_most", .kind = "pages"},
    {.site = "let_kernel_fill", .kind = "pages"}, {.site = "write_heap", .kind = "pages"},
    {.site = "write_parts", .kind = "pages"}, {.site = "write_in_thread", .kind = "pages"},
    {.site = "write_after_reading", .kind = "pages"}, {.site = "write_huge", .kind = "pages"},
};
static volatile char sink;

static char *map(size_t pages) {
    char *mapped = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) _exit(4);
    /* Otherwise a touch of its neighbor, such as a thread's stack, may make it resident with one huge page. */
    madvise(mapped, pages * PAGE, MADV_NOHUGEPAGE);
    return mapped;
}
static void took_pages(int which, size_t pages) {
    for (size_t i = 0; i < pages; i++) took(&truth[which], PAGE);
}
static void gave_pages(int which, size_t pages) {
    for (size_t i = 0; i < pages; i++) gave(&truth[which], PAGE);
}
static void rest(long milliseconds) {
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Each is a separate call site. */
#define WRITES_TO(name)                                                                                    \
    SITE static void name(char *at, size_t pages) {                                                        \
        for (size_t page = 0; page < pages; page++) ((volatile char *)at)[page * PAGE + 8] = 1;            \
    }
WRITES_TO(write_pages)
WRITES_TO(write_most)
WRITES_TO(write_heap)
WRITES_TO(write_parts)
WRITES_TO(write_in_thread)
WRITES_TO(write_after_reading)
WRITES_TO(write_huge)
SITE static void only_read(char *at, size_t pages) {
    for (size_t page = 0; page < pages; page++) sink = ((volatile char *)at)[page * PAGE + 8];
}
SITE static void let_kernel_fill(char *at, size_t pages) {
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    for (size_t got = 0; got < pages * PAGE;) {
        ssize_t more = read(zeros, at + got, pages * PAGE - got);
        if (more <= 0) _exit(4);
        got += (size_t)more;
    }
    close(zeros);
}
SITE static void read_file(void) {
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char *mapped = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED) _exit(4);
    only_read(mapped, 2);
    close(file);
}

/* One touch of each of two pieces of 2 MiB, for which the kernel may use huge pages: the truth contains the actual
 * sizes. */
static void touch_huge(void) {
    size_t piece = (size_t)2 << 20;
    char *at = map(3 * piece / PAGE);
    at += -(size_t)at & (piece - 1);
    madvise(at, 2 * piece, MADV_HUGEPAGE); /* or not: then it is a page each */
    for (int i = 0; i < 2; i++) {
        static unsigned char there[512];
        size_t pages = 0;
        write_huge(at + (size_t)i * piece, 1);
        if (mincore(at + (size_t)i * piece, piece, there) != 0) _exit(4);
        for (size_t page = 0; page < 512; page++) pages += there[page] & 1;
        took(&truth[HUGE], pages * PAGE);
    }
}

static volatile int begun;
static void *in_thread(void *memory) {
    while (!begun) rest(10);
    write_in_thread(memory, 70);
    for (;;) pause();
    return NULL;
}

int main(void) {
    pthread_t early, late;
    char *memory = map(140);
    if (pthread_create(&early, NULL, in_thread, memory) != 0) _exit(4);
    ready();
    begun = 1;
    char *heap = sbrk(50 * PAGE);
    write_heap(heap + (-(size_t)heap & (PAGE - 1)), 40);
    took_pages(HEAP, 40);
    write_pages(map(300), 250);
    took_pages(WRITES, 250);
    only_read(map(30), 30);
    char *read_first = map(30);
    only_read(read_first, 30);
    write_after_reading(read_first, 20);
    took_pages(READ_FIRST, 20);
    read_file();
    char *parts = map(300);
    write_parts(parts, 300);
    took_pages(PARTS, 300);
    touch_huge();
    if (pthread_create(&late, NULL, in_thread, memory + 70 * PAGE) != 0) _exit(4);
    took_pages(THREAD, 140);
    int pair[2];
    for (int i = 0; i < 10; i++) /* twenty sockets more, that stay open */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) _exit(4);
    for (int round = 0; round < 40; round++) {
        write_most(map(25), 25);
        took_pages(MOST, 25);
        if (round == 20) { /* after two seconds: building libc's unwind table takes time */
            let_kernel_fill(map(64), 64);
            took_pages(FILLED, 64);
        }
        rest(100);
    }
    if (madvise(parts, 100 * PAGE, MADV_DONTNEED) != 0 || munmap(parts + 250 * PAGE, 50 * PAGE) != 0) _exit(4);
    gave_pages(PARTS, 150);
    write_parts(parts, 10); /* touches some of the returned pages again */
    took_pages(PARTS, 10);
    print_truth(truth, KINDS, 0, "");
    await_word("exit");
    _exit(0);
}
