// catching: operator new that throws, and a program that catches the exception, near and far, and goes on.
//
// Each failed request counts as a failed acquisition, and nowhere else. The sums of the process are not known: the
// runtime allocates and releases the exceptions; and glibc, when a thread ends, passes the free blocks of its cache to
// free() once more.
#include <cstdint>
#include <new>
#include <pthread.h>

#include "victim.h"

static tally truth[] = {
    {"keep_one", "heap", 0, 0, 0, 0},
    {"keep_aligned", "heap", 0, 0, 0, 0},
    {"keep_block", "heap", 0, 0, 0, 0},
};
enum { ONE, ALIGNED, BLOCK, ROUNDS = 200, THREADS = 4 };
static volatile size_t huge = SIZE_MAX / 2 - 4096;
static unsigned long failed;
static void *held[THREADS][ROUNDS * 8];

struct alignas(64) Line {
    char bytes[192];
};

SITE static char *keep_one(size_t size) { return new char[size]; }
SITE static Line *keep_aligned() { return new Line; }
SITE static void *keep_block(size_t size) { return malloc(size); }
SITE static char *ask_too_much(int how) {
    switch (how % 3) {
    case 0: return new char[huge];
    case 1: return static_cast<char *>(::operator new(huge));
    default: return static_cast<char *>(::operator new(huge, std::align_val_t(64)));
    }
}

// Requests repeatedly from the same place, and catches there.
SITE static void catch_here(int times) {
    for (int i = 0; i < times; i++) {
        try {
            ask_too_much(i);
            _exit(4);
        } catch (const std::bad_alloc &) {
            __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
        }
    }
}

SITE static void descend(int levels) {
    volatile char room[300];
    room[0] = char(levels);
    if (levels > 0) descend(levels - 1);
    else ask_too_much(levels + room[0]);
    room[1] = room[0];
}

static void *work(void *number) {
    void **place = held[reinterpret_cast<uintptr_t>(number)];
    for (int i = 0; i < ROUNDS; i++) {
        *place++ = keep_one(100 + size_t(i));
        took(&truth[ONE], 100 + size_t(i));
        catch_here(1 + i % 3);
        *place++ = keep_block(40);
        took(&truth[BLOCK], 40);
        try {
            descend(i % 6);
            _exit(4);
        } catch (const std::bad_alloc &) {
            __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
        }
        *place++ = keep_aligned();
        took(&truth[ALIGNED], sizeof(Line));
        char *gone = keep_one(77);
        took(&truth[ONE], 77);
        delete[] gone;
        gave(&truth[ONE], 77);
    }
    return nullptr;
}

int main() {
    ready();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], nullptr, work, reinterpret_cast<void *>(i));
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    char extra[80];
    snprintf(extra, sizeof extra, ",\"failed_acquires\":%lu", failed);
    print_truth(truth, sizeof truth / sizeof *truth, 0, extra);
    await_word("exit");
    _exit(0);
}
