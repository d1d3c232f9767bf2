/* heap_types [COUNT]: blocks of known types, with and without virtual functions, built also stripped and without run-time
 * type information.
 *
 * The truth is how many objects of each class are held. Classes differ in size, are in namespaces, templates and anonymous
 * namespaces, and have several bases. */
#include <map>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include "victim.h"
}

namespace app {
struct Session {
    virtual ~Session() = default;
    virtual int handle() { return 1; }
    char buffer[96] = {1};
};
struct Logged {
    virtual ~Logged() = default;
    virtual void log() {}
    long lines = 3;
};
struct TlsSession : Session, Logged {
    int handle() override { return 2; }
    long keys[8] = {1};
};
template <typename T> struct Queue {
    virtual ~Queue() = default;
    virtual T first() { return T(); }
    T item = T();
};
}  // namespace app

namespace {
struct Hidden {
    virtual ~Hidden() = default;
    virtual int secret() { return 7; }
    long number = 1;
};
}  // namespace

static std::vector<void *> held;

template <typename T> static void hold(long count) {
    for (long i = 0; i < count; i++) held.push_back(new T);
}

int main(int count, char **arguments) {
    long each = count > 1 ? atol(arguments[1]) : 1000;
    held.reserve((size_t)each * 8);
    ready();
    hold<app::Session>(each);
    hold<app::TlsSession>(each / 2);
    hold<app::Queue<int>>(each / 4);
    hold<app::Queue<double>>(each / 5);
    hold<Hidden>(each / 10);
    for (long i = 0; i < each; i++) {
        char *text = (char *)malloc(40);
        snprintf(text, 40, "request number %ld", i);
        held.push_back(text);
        held.push_back(calloc(1, 72));
    }
    say("{\"app::Session\":%ld,\"app::TlsSession\":%ld,\"app::Queue<int>\":%ld,\"app::Queue<double>\":%ld,"
        "\"(anonymous namespace)::Hidden\":%ld,\"(text)\":%ld,\"(zeros)\":%ld}\n",
        each, each / 2, each / 4, each / 5, each / 10, each, each);
    await_word("exit");
    return 0;
}
