// cxx: the C++ ways to allocate: new, new[], aligned and nothrow new, containers, strings, shared_ptr.
//
// Call sites of plain `new` are named: their caller is the SITE function (or libstdc++'s operator new, which a tracer
// skips or not; the totals are exact either way). The memory of containers at the end follows from their capacity; the
// truth of shared_ptr counts the block that make_shared allocates.
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "victim.h"

static tally truth[] = {
    {"new_one", "heap", 0, 0, 0, 0},     {"new_array", "heap", 0, 0, 0, 0},
    {"new_aligned", "heap", 0, 0, 0, 0}, {"new_nothrow", "heap", 0, 0, 0, 0},
    {"vectors", "heap", 0, 0, 0, 0},     {"strings", "heap", 0, 0, 0, 0},
    {"shared", "heap", 0, 0, 0, 0},
};
enum { ONE, ARRAY, ALIGNED, NOTHROW, VECTORS, STRINGS, SHARED, ROUNDS = 200 };

struct Session {
    char user[120];
    long id;
};
struct alignas(128) Line {
    char bytes[256];
};

static Session *sessions[ROUNDS], *nothrows[ROUNDS];
static char *arrays[ROUNDS];
static Line *lines[ROUNDS];
alignas(std::vector<long>) static unsigned char vector_room[ROUNDS][sizeof(std::vector<long>)];
alignas(std::string) static unsigned char string_room[ROUNDS][sizeof(std::string)];
alignas(std::shared_ptr<Session>) static unsigned char shared_room[ROUNDS][sizeof(std::shared_ptr<Session>)];

SITE static Session *new_one() { return new Session; }
SITE static char *new_array(size_t size) { return new char[size]; }
SITE static Line *new_aligned() { return new Line; }
SITE static Session *new_nothrow() { return new (std::nothrow) Session; }

// The size that std::make_shared allocates: found with an allocator that only records the size.
static size_t shared_bytes;
template <class T> struct Measuring {
    using value_type = T;
    Measuring() = default;
    template <class U> Measuring(const Measuring<U> &) {}
    T *allocate(size_t count) {
        shared_bytes = count * sizeof(T);
        return static_cast<T *>(::operator new(count * sizeof(T)));
    }
    void deallocate(T *block, size_t) { ::operator delete(block); }
    bool operator==(const Measuring &) const { return true; }
    bool operator!=(const Measuring &) const { return false; }
};
// libstdc++ stores an empty allocator without using space: std::make_shared requests the same size.

static void round(int i) {
    sessions[i] = new_one();
    took(&truth[ONE], sizeof(Session));
    arrays[i] = new_array(1000 + size_t(i));
    took(&truth[ARRAY], 1000 + size_t(i));
    lines[i] = new_aligned();
    took(&truth[ALIGNED], sizeof(Line));
    nothrows[i] = new_nothrow();
    took(&truth[NOTHROW], sizeof(Session));

    auto *numbers = new (vector_room[i]) std::vector<long>; // the object itself lies in static memory
    size_t capacity = 0;
    for (long n = 0; n < 100 + i; n++) {
        numbers->push_back(n);
        if (numbers->capacity() == capacity) continue;
        if (capacity != 0) gave(&truth[VECTORS], capacity * sizeof(long));
        capacity = numbers->capacity();
        took(&truth[VECTORS], capacity * sizeof(long));
    }
    auto *text = new (string_room[i]) std::string(size_t(50 + i), 'x');
    took(&truth[STRINGS], text->capacity() + 1);
    auto *shared = new (shared_room[i]) std::shared_ptr<Session>(std::make_shared<Session>());
    took(&truth[SHARED], shared_bytes);

    if (i % 2 == 0) return;
    delete sessions[i];
    gave(&truth[ONE], sizeof(Session));
    delete[] arrays[i];
    gave(&truth[ARRAY], 1000 + size_t(i));
    delete lines[i];
    gave(&truth[ALIGNED], sizeof(Line));
    if (i % 4 == 1) operator delete(nothrows[i], std::nothrow);
    else operator delete(nothrows[i], sizeof(Session));
    gave(&truth[NOTHROW], sizeof(Session));
    gave(&truth[VECTORS], capacity * sizeof(long));
    numbers->~vector();
    gave(&truth[STRINGS], text->capacity() + 1);
    text->~basic_string();
    gave(&truth[SHARED], shared_bytes);
    shared->~shared_ptr();
}

int main() {
    { auto measured = std::allocate_shared<Session>(Measuring<Session>()); }
    ready();
    for (int i = 0; i < ROUNDS; i++) round(i);
    print_truth(truth, sizeof truth / sizeof *truth, 1, ",\"failed_acquires\":0,\"unknown_frees\":0");
    await_word("exit");
    _exit(0);
}
