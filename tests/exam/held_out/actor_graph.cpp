// actor_graph: a runtime of actors that refer to each other in cycles; a collector marks and sweeps every twelve
// virtual seconds.
//
// True: healthy. Each task spawns a few actors that refer to each other in a ring; 500 tasks are present, and a new one
// takes the place of an old one. Actors of old tasks are garbage in cycles until the next collection frees them.
//
// Hard: for twelve seconds at a time nothing is freed and 1,500 actors a second are added; most of what is held is
// unreachable garbage in cycles, which looks exactly like a leak to whoever cannot wait for the collector.
#include "../exam.h"
#include <vector>

enum { SPAWN_ACTOR, REFER_TO, SEND_MESSAGE, SITES };
static struct site sites[SITES] = {
    HEALTHY("spawn_actor", "heap", "freed by the collector, every 12 s"),
    HEALTHY("refer_to", "heap", "references of the actors, freed with them"),
    HEALTHY("send_message", "heap", "messages, freed when the actor has read them"),
};

enum { TASKS = 500, TASKS_PER_SECOND = 300, MESSAGES = 2000, COLLECT_EVERY = 12 };
struct Message {
    Message *next;
    uint32_t size;
};
struct Actor {
    Actor *next; // in the list of all
    bool marked = false;
    uint64_t state[6] = {};
    Message *mailbox = nullptr;
    std::vector<Actor *, Counted<Actor *>> references{Counted<Actor *>(&sites[REFER_TO])};
    explicit Actor(Actor *next) : next(next) {}
};

static Actor *all, *tasks[TASKS];
static dice random_of_tasks = {2718};

SITE static Actor *spawn_actor() {
    all = static_cast<Actor *>(acquired(&sites[SPAWN_ACTOR], new Actor(all), sizeof(Actor)));
    return all;
}

SITE static void refer_to(Actor *from, Actor *to) {
    from->references.push_back(to);
    KEEP_FRAME();
}

SITE static void send_message(Actor *to, size_t size) {
    Message *message = static_cast<Message *>(acquired(&sites[SEND_MESSAGE], ::operator new(size), size));
    message->next = to->mailbox;
    message->size = (uint32_t)size;
    to->mailbox = message;
}

static void read_mailbox(Actor *actor) {
    while (Message *message = actor->mailbox) {
        actor->mailbox = message->next;
        actor->state[0] += message->size;
        released(&sites[SEND_MESSAGE], message->size);
        ::operator delete(message);
    }
}

static void start_task() {
    Actor *first = spawn_actor(), *last = first;
    for (long more = between(&random_of_tasks, 1, 7); more > 0; more--) {
        Actor *actor = spawn_actor();
        refer_to(last, actor);
        if (chance(&random_of_tasks, 0.3)) refer_to(actor, first);
        last = actor;
    }
    refer_to(last, first);
    tasks[between(&random_of_tasks, 0, TASKS - 1)] = first;
}

static void pass_message() {
    Actor *actor = tasks[between(&random_of_tasks, 0, TASKS - 1)];
    if (actor == nullptr) return;
    for (long hops = between(&random_of_tasks, 0, 5); hops > 0; hops--) actor = actor->references.front();
    send_message(actor, (size_t)between(&random_of_tasks, (long)sizeof(Message), 200));
    if (chance(&random_of_tasks, 0.9)) read_mailbox(actor);
}

static void mark(Actor *actor) { // tasks are small: recursion is shallow
    if (actor->marked) return;
    actor->marked = true;
    for (Actor *other : actor->references) mark(other);
}

static void collect() {
    for (Actor *task : tasks)
        if (task != nullptr) mark(task);
    for (Actor **link = &all; *link != nullptr;) {
        Actor *actor = *link;
        if (actor->marked) {
            actor->marked = false;
            link = &actor->next;
            continue;
        }
        *link = actor->next;
        read_mailbox(actor);
        released(&sites[SPAWN_ACTOR], sizeof *actor);
        delete actor;
    }
}

int main() {
    pace starts = {0, 0}, messages = {0, 0};
    begin();
    double collected = 0;
    for (long n; (n = due(&starts, TASKS_PER_SECOND)) >= 0;) {
        while (n-- > 0) start_task();
        for (n = due(&messages, MESSAGES); n > 0; n--) pass_message();
        if (now() < collected + COLLECT_EVERY) continue;
        collect();
        collected = now();
    }
    FINISH("actor_graph", sites);
}
