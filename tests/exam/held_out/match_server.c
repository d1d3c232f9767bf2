/* match_server: a game server that plays rounds of twelve seconds: 120 matches start together, each with an arena of
 * its own and a log of events, and end together.
 *
 * True: arenas and events are released at the end of the round. The recording of a match is unmapped then, too, except
 * when a player gave up (one match in ten): 64 KiB of mapping are lost. Second cause: who gave up is noted in a list
 * that nobody reads or trims.
 *
 * Hard: a sawtooth of 60 MiB and 14,000 blocks hides a leak of one mapping and one small block a second; both leaks
 * come in bursts, at the end of rounds. */
#include "../exam.h"

enum { MAP_ARENA, MAP_RECORDING, LOG_EVENT, NOTE_FORFEIT, SITES };
static struct site sites[SITES] = {
    HEALTHY("map_arena", "mmap", "one for each match of the round, unmapped at its end"),
    PARTLY_LEAKS("map_recording", "mmap", "not unmapped when a player gave up", "unmapped at the end of the match"),
    HEALTHY("log_event", "heap", "the events of the round, freed at its end"),
    LEAKS("note_forfeit", "heap", "the list of players who gave up is never trimmed"),
};

enum { MATCHES = 120, ROUND = 12, EVENTS = 1200, ARENA = 448 << 10, RECORDING = 64 << 10 };
struct event {
    struct event *next;
    uint32_t size;
    char detail[];
};
struct match {
    int plays;
    char *arena, *recording;
    struct event *events;
};
struct forfeit {
    struct forfeit *next;
    long match;
    double at;
    char player[40];
};

static struct match matches[MATCHES];
static struct forfeit *forfeits;
static struct dice dice = {1942};

SITE static char *map_arena(void) {
    return acquired(&sites[MAP_ARENA], mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                    ARENA);
}

SITE static char *map_recording(void) {
    void *recording = mmap(NULL, RECORDING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return acquired(&sites[MAP_RECORDING], recording, RECORDING);
}

SITE static void log_event(struct match *match, uint32_t size) {
    struct event *event = acquired(&sites[LOG_EVENT], malloc(sizeof *event + size), sizeof *event + size);
    *event = (struct event){match->events, size};
    memset(event->detail, 'e', size);
    match->events = event;
}

SITE static void note_forfeit(long match) {
    struct forfeit *forfeit = acquired(&sites[NOTE_FORFEIT], calloc(1, sizeof *forfeit), sizeof *forfeit);
    *forfeit = (struct forfeit){.next = forfeits, .match = match, .at = now()};
    forfeits = forfeit;
}

static void start_match(struct match *match) {
    match->plays = 1;
    match->arena = map_arena();
    match->recording = map_recording();
    memset(match->arena, 1, ARENA / 4);
    match->recording[0] = 'R';
}

static void play_event(struct match *match) {
    if (!match->plays) return;
    log_event(match, (uint32_t)between(&dice, 16, 600));
    match->arena[between(&dice, 0, ARENA - 1)]++;
    match->recording[between(&dice, 0, RECORDING - 1)]++;
}

static void end_match(struct match *match) {
    match->plays = 0;
    for (struct event *next; match->events != NULL; match->events = next) {
        next = match->events->next;
        released(&sites[LOG_EVENT], sizeof *next + match->events->size);
        free(match->events);
    }
    released(&sites[MAP_ARENA], ARENA);
    munmap(match->arena, ARENA);
    if (chance(&dice, 0.1)) {
        note_forfeit(match - matches);
        lost(&sites[MAP_RECORDING], RECORDING);
        return;
    }
    released(&sites[MAP_RECORDING], RECORDING);
    munmap(match->recording, RECORDING);
}

int main(void) {
    struct pace pace = {0};
    long round = 0, at = 0; /* at: the next match to start or end */
    begin();
    for (long n; (n = due(&pace, EVENTS)) >= 0;) {
        while (n-- > 0) play_event(&matches[between(&dice, 0, MATCHES - 1)]);
        double passed = now() - (double)round * ROUND;
        for (; at < MATCHES && at < passed * MATCHES; at++) start_match(&matches[at]); /* within a second */
        for (; at >= MATCHES && at < 2 * MATCHES && at - MATCHES < (passed - 10) * MATCHES; at++)
            end_match(&matches[at - MATCHES]);
        if (at == 2 * MATCHES && passed >= ROUND) round++, at = 0;
    }
    all_lost(&sites[NOTE_FORFEIT]);
    FINISH("match_server", sites);
}
