// A news feed: topics keep their subscribers by shared_ptr, connections keep them, too.
//
// Truth: `leaks`: a connection that ends drops its reference, but topics keep theirs. `corrected`: topics have
// weak_ptrs, and drop those that have expired.
// Hard: the subscribers of connections that live are healthy and of the same type; the lists of topics grow by
// doubling, in both variants for a while, and the object and its reference count are one block of make_shared.
#include "../exam.h"
#include <memory>
#include <vector>

enum { SUBSCRIBERS, LISTS, NEWS };
static struct site sites[] = {
    PARTLY_LEAKS("subscribe", "heap", "topics keep the subscribers of ended connections",
                 "subscribers of open connections"),
    PARTLY_LEAKS("add_to_topic", "heap", "topics keep the subscribers of ended connections", "lists of topics"),
    HEALTHY("publish", "heap", "freed at once"),
};

struct Subscriber {
    double since;
    char filter[160];
};
using Strong = std::shared_ptr<Subscriber>;
struct Topic {
    std::vector<Strong, Counted<Strong>> strong{&sites[LISTS]};
    std::vector<std::weak_ptr<Subscriber>, Counted<std::weak_ptr<Subscriber>>> weak{&sites[LISTS]};
};
struct Connection {
    struct timed timed;
    Strong subscriber;
};

static SITE Strong subscribe(double since) {
    Strong subscriber = std::allocate_shared<Subscriber>(Counted<Subscriber>(&sites[SUBSCRIBERS]));
    subscriber->since = since;
    return subscriber;
}

static SITE void add_to_topic(Topic &topic, const Strong &subscriber, bool leaks) {
    if (leaks) topic.strong.push_back(subscriber);
    else topic.weak.push_back(subscriber);
    KEEP_FRAME();
}

static SITE void publish(size_t size) {
    std::vector<char, Counted<char>> text(size, 'n', &sites[NEWS]);
    KEEP_FRAME();
}

// A block of make_shared: all have one size.
static size_t block_size() {
    long before = sites[SUBSCRIBERS].acquired_bytes;
    subscribe(0);
    return static_cast<size_t>(sites[SUBSCRIBERS].acquired_bytes - before);
}

int main(int argc, char **argv) {
    const int topics = 40, slots = 4096;
    struct dice dice = {48};
    struct pace arrivals = {0, 0};
    static struct wheel connections;
    static Topic topic[topics];
    static Connection room[slots];
    static Connection *unused[slots];
    int left = 0;
    bool leaks = choose(argc, argv, "leaks corrected") == 0;
    size_t size = block_size();
    for (Connection &connection : room) unused[left++] = &connection;
    begin();
    for (long n; (n = due(&arrivals, 30)) >= 0;) {
        for (; n > 0 && left > 0; n--) {
            Connection *connection = unused[--left];
            connection->subscriber = subscribe(now());
            add_to_topic(topic[roll(&dice) % topics], connection->subscriber, leaks);
            wheel_add(&connections, connection, now() + about(&dice, 8));
            publish(static_cast<size_t>(between(&dice, 100, 2000)));
        }
        for (struct timed *next, *ended = wheel_ended(&connections, now()); ended != NULL; ended = next) {
            next = ended->next;
            Connection *connection = reinterpret_cast<Connection *>(ended);
            connection->subscriber.reset();
            if (leaks) lost(&sites[SUBSCRIBERS], size);
            unused[left++] = connection;
        }
        Topic &trimmed = topic[roll(&dice) % topics];
        for (size_t i = 0; i < trimmed.weak.size();) {
            if (!trimmed.weak[i].expired()) {
                i++;
                continue;
            }
            trimmed.weak[i] = trimmed.weak.back();
            trimmed.weak.pop_back();
        }
    }
    // Forty blocks, which double forever.
    if (leaks) all_lost(&sites[LISTS]);
    FINISH("subscriptions", sites);
}
