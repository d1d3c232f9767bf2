// chat_hub: chat rooms: members join over a socket pair, post messages, and leave after about five seconds; each room
// keeps its last hundred messages.
//
// True: a member and its session own each other (shared_ptr). Leaving breaks this cycle, but a member whose connection
// timed out (one in eight) is only taken out of its room: two blocks are lost. Second cause, in a container: the map of
// when each connection was last seen is never trimmed, and connection numbers are never reused. The history is healthy.
//
// Hard: the map is reachable and in use; its array of buckets is replaced now and then; the objects of the cycle are
// unreachable, although their reference counts are not zero; most of the members are released.
#include "../exam.h"
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

enum { ADMIT_MEMBER, OPEN_SESSION, NOTE_LAST_SEEN, SCHEDULE_LEAVE, POST_MESSAGE, SITES };
static struct site sites[SITES] = {
    LEAKS("admit_member", "heap", "a member that times out stays in a cycle with its session"),
    LEAKS("open_session", "heap", "the session of a member that times out stays in a cycle with it"),
    LEAKS("note_last_seen", "heap", "connections that have ended are never erased from the map"),
    HEALTHY("schedule_leave", "heap", "one entry for each member that is present"),
    HEALTHY("post_message", "heap", "each of 60 rooms keeps its last 100 messages"),
};

using Text = std::basic_string<char, std::char_traits<char>, Counted<char>>;
struct Session;
struct Member {
    uint64_t connection;
    unsigned room;
    char nick[32];
    std::shared_ptr<Session> session;
};
struct Session {
    uint64_t connection;
    unsigned char key[64];
    std::shared_ptr<Member> owner;
};
struct Seen {
    double at;
    unsigned room, messages;
};
struct Room {
    std::vector<Text> history;
    size_t posted = 0;
};
struct Event {
    enum { JOIN, POST } what;
    unsigned room, size;
    uint64_t connection;
};

template <class Key, class Value> using Pairs = Counted<std::pair<const Key, Value>>;
static std::unordered_map<uint64_t, Seen, std::hash<uint64_t>, std::equal_to<uint64_t>, Pairs<uint64_t, Seen>>
    last_seen(0, Pairs<uint64_t, Seen>(&sites[NOTE_LAST_SEEN]));
using MemberPointer = std::shared_ptr<Member>;
using Leaving = std::multimap<double, MemberPointer, std::less<double>, Pairs<double, MemberPointer>>;
static Leaving leaving{Leaving::allocator_type(&sites[SCHEDULE_LEAVE])};
static std::vector<Room> rooms(60);
static dice random_of_server = {4711};

SITE static std::shared_ptr<Member> admit_member(uint64_t connection, unsigned room) {
    auto member = std::allocate_shared<Member>(Counted<Member>(&sites[ADMIT_MEMBER]));
    member->connection = connection;
    member->room = room;
    return member;
}

SITE static std::shared_ptr<Session> open_session(const std::shared_ptr<Member> &owner) {
    auto session = std::allocate_shared<Session>(Counted<Session>(&sites[OPEN_SESSION]));
    session->connection = owner->connection;
    session->owner = owner;
    return session;
}

SITE static void note_last_seen(uint64_t connection, unsigned room) {
    Seen &seen = last_seen[connection];
    seen.at = now();
    seen.room = room;
    seen.messages++;
}

SITE static void schedule_leave(const std::shared_ptr<Member> &member, double at) {
    leaving.emplace(at, member);
    KEEP_FRAME();
}

SITE static void post_message(Room &room, size_t size) {
    Text text(size, 'x', Counted<char>(&sites[POST_MESSAGE]));
    if (room.history.size() < 100)
        room.history.push_back(std::move(text));
    else
        room.history[room.posted % 100] = std::move(text);
    room.posted++;
    KEEP_FRAME();
}

static void leave(const std::shared_ptr<Member> &member) {
    if (member->connection % 8 == 5) { // timed out: nobody says goodbye to the session
        // Each block contains the object and its counters; the size is what the allocator saw for one.
        lost(&sites[ADMIT_MEMBER], (size_t)(sites[ADMIT_MEMBER].acquired_bytes / sites[ADMIT_MEMBER].acquired_count));
        lost(&sites[OPEN_SESSION], (size_t)(sites[OPEN_SESSION].acquired_bytes / sites[OPEN_SESSION].acquired_count));
        return;
    }
    member->session->owner.reset();
}

static void let_go(double until) {
    while (!leaving.empty() && leaving.begin()->first <= until) {
        leave(leaving.begin()->second);
        leaving.erase(leaving.begin());
    }
}

static void handle(const Event &event) {
    note_last_seen(event.connection, event.room);
    if (event.what == Event::POST) return post_message(rooms[event.room], event.size);
    auto member = admit_member(event.connection, event.room);
    member->session = open_session(member);
    schedule_leave(member, now() + about(&random_of_server, 5));
}

static void *clients(void *socket) {
    dice own = {99};
    pace pace = {0, 0};
    uint64_t connections = 0;
    for (long n; (n = due(&pace, 1600)) >= 0;)
        for (; n > 0; n--) {
            Event event = {Event::POST, (unsigned)skewed(&own, 60), (unsigned)between(&own, 20, 400), 0};
            if (connections == 0 || chance(&own, 0.05)) event.what = Event::JOIN, event.connection = ++connections;
            else event.connection = connections - (uint64_t)skewed(&own, connections < 300 ? (long)connections : 300);
            (void)!send((int)(intptr_t)socket, &event, sizeof event, 0);
        }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return nullptr;
}

int main() {
    int ends[2];
    socket_pair(ends);
    for (Room &room : rooms) room.history.reserve(100);
    begin();
    pthread_t client = start_thread(clients, (void *)(intptr_t)ends[1]);
    Event event;
    for (ssize_t got; (got = receive(ends[0], &event, sizeof event)) != 0;) {
        if (got > 0) handle(event);
        let_go(now());
    }
    pthread_join(client, nullptr);
    let_go(FOREVER);
    all_lost(&sites[NOTE_LAST_SEEN]);
    FINISH("chat_hub", sites);
}
