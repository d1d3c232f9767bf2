/* A conference bridge: five calls a second. A call has a thread for its media, which is joined when the call has ended;
 * one in two is announced by a detached thread, and one in two has a thread that records it.
 *
 * Truth: `leaks`: if the caller hangs up first, one recorded call in two, the recorder ends but is never joined; its
 * stack remains. `corrected`: it is joined with the call.
 * Hard: all stacks have one size, so that a thread often gets the stack of one that another function started and that
 * was joined: what is lost was mapped on behalf of somebody else. */
#include "../exam.h"
#include <sys/stat.h>

enum { STACK = 192 << 10, MOST = 512, FRAMES = 10 };

enum { MEDIA, ANNOUNCED, RECORDERS, CALLS, PACKETS };
static struct site sites[] = {
    HEALTHY("start_media", "thread", "joined when the call has ended"),
    HEALTHY("announce_caller", "thread", "detached: gone when it has ended"),
    PARTLY_LEAKS("start_recorder", "thread", "the recorder of a call whose caller hung up is never joined",
                 "joined when the call has ended"),
    HEALTHY("open_call", "heap", "calls in progress"),
    HEALTHY("copy_packet", "heap", "freed at once"),
};

struct call {
    struct timed timed;
    pthread_t media, recorder;
    int is_recorded;
    uint64_t seed;
};
static struct wheel calls;
static pthread_attr_t joinable, detached;
static long length;

static SITE char *copy_packet(size_t size) { return (char *)acquired(&sites[PACKETS], malloc(size), size); }

static SITE struct call *open_call(void) {
    return (struct call *)acquired(&sites[CALLS], malloc(sizeof(struct call)), sizeof(struct call));
}

static void pass_packets(uint64_t seed, double seconds) {
    struct dice dice = {seed};
    for (int i = 0; i < FRAMES; i++) {
        size_t size = (size_t)between(&dice, 100, 1500);
        nap(seconds / FRAMES / exam.speed);
        char *packet = (char *)memset(copy_packet(size), 'p', size);
        released(&sites[PACKETS], size);
        free(packet);
    }
}

static void *run_media(void *seed) {
    pass_packets((uint64_t)(uintptr_t)seed, 0.5);
    return NULL;
}

static void *record_call(void *seed) {
    pass_packets((uint64_t)(uintptr_t)seed, 0.4);
    return NULL;
}

static void *play_prompt(void *unused) {
    nap(0.2 / exam.speed);
    return unused;
}

static SITE pthread_t start_media(uint64_t seed) {
    pthread_t thread;
    if (pthread_create(&thread, &joinable, run_media, (void *)(uintptr_t)seed) != 0) die("pthread_create");
    acquired(&sites[MEDIA], &joinable, STACK);
    return thread;
}

static SITE void announce_caller(void) {
    pthread_t thread;
    if (pthread_create(&thread, &detached, play_prompt, NULL) != 0) die("pthread_create");
    acquired(&sites[ANNOUNCED], &detached, STACK);
    released(&sites[ANNOUNCED], STACK); /* nobody has to do more for it */
}

static SITE pthread_t start_recorder(uint64_t seed) {
    pthread_t thread;
    if (pthread_create(&thread, &joinable, record_call, (void *)(uintptr_t)seed) != 0) die("pthread_create");
    acquired(&sites[RECORDERS], &joinable, STACK);
    return thread;
}

static void add_call(struct dice *dice) {
    if (length == MOST) return;
    struct call *call = open_call();
    call->seed = roll(dice) | 1;
    call->media = start_media(call->seed);
    call->is_recorded = chance(dice, 0.5);
    if (call->is_recorded) call->recorder = start_recorder(call->seed);
    if (chance(dice, 0.5)) announce_caller();
    wheel_add(&calls, call, now() + 0.6);
    length++;
}

static void end_calls(double until, struct dice *dice, int leaks) {
    for (struct timed *next, *timed = wheel_ended(&calls, until); timed != NULL; timed = next, length--) {
        struct call *call = (struct call *)timed;
        next = timed->next;
        pthread_join(call->media, NULL);
        released(&sites[MEDIA], STACK);
        if (call->is_recorded) {
            if (leaks && chance(dice, 0.5)) {
                lost(&sites[RECORDERS], STACK);
            } else {
                pthread_join(call->recorder, NULL);
                released(&sites[RECORDERS], STACK);
            }
        }
        released(&sites[CALLS], sizeof *call);
        free(call);
    }
}

/* Waits until all threads have ended, also those that nobody joins. */
static void await_threads(void) {
    enum { LINKS = 3 }; /* of a folder with one folder in it */
    struct stat tasks;
    while (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > LINKS) nap(0.01);
}

int main(int argc, char **argv) {
    struct dice dice = {110};
    struct pace arrivals = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    pthread_attr_init(&joinable);
    pthread_attr_init(&detached);
    pthread_attr_setstacksize(&joinable, STACK);
    pthread_attr_setstacksize(&detached, STACK);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    begin();
    for (long n; (n = due(&arrivals, 5)) >= 0; end_calls(now(), &dice, leaks))
        for (; n > 0; n--) add_call(&dice);
    end_calls(FOREVER, &dice, leaks);
    await_threads();
    FINISH("voice_bridge", sites);
}
