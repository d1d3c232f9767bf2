/* A gateway for ssh: 1.5 sessions begin each second and last four minutes on average, some of them half an hour. Each
 * session changes its keys once a minute.
 *
 * Truth: `leaks`: if the client asks for new keys, as one in three does, the old ones are forgotten. `corrected`:
 * freed.
 * Hard: the number of sessions rises for ten minutes until it is level, so that everything grows in both variants. In
 * the first minute no key has been changed. */
#include "../exam.h"

enum { KEYS = 416 };

enum { SESSIONS, KEYSETS, PACKETS };
static struct site sites[] = {
    HEALTHY("open_session", "heap", "sessions that live long"),
    PARTLY_LEAKS("derive_keys", "heap", "keys are forgotten when the client asks for new ones",
                 "keys of open sessions"),
    HEALTHY("read_packet", "heap", "freed at once"),
};

struct session {
    struct timed timed; /* its end, or the next change of keys */
    double end;
    char *keys;
    char channels[900];
};
static struct wheel sessions;

static SITE struct session *open_session(void) {
    return (struct session *)acquired(&sites[SESSIONS], malloc(sizeof(struct session)), sizeof(struct session));
}

static SITE char *derive_keys(void) { return (char *)acquired(&sites[KEYSETS], malloc(KEYS), KEYS); }

static SITE char *read_packet(size_t size) { return (char *)acquired(&sites[PACKETS], malloc(size), size); }

static void free_keys(char *keys) {
    released(&sites[KEYSETS], KEYS);
    free(keys);
}

static void schedule(struct session *session, double at) {
    wheel_add(&sessions, session, session->end < at + 60 ? session->end : at + 60);
}

static void session_timer(struct session *session, struct dice *dice, int leaks) {
    double at = session->timed.end;
    if (at >= session->end) {
        free_keys(session->keys);
        released(&sites[SESSIONS], sizeof *session);
        free(session);
        return;
    }
    if (leaks && chance(dice, 0.33)) lost(&sites[KEYSETS], KEYS);
    else free_keys(session->keys);
    session->keys = (char *)memset(derive_keys(), 'k', KEYS);
    schedule(session, at);
}

int main(int argc, char **argv) {
    struct dice dice = {39};
    struct pace logins = {0, 0}, packets = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&logins, 1.5)) >= 0;) {
        while (n-- > 0) {
            struct session *session = open_session();
            session->end = now() + about(&dice, 240);
            session->keys = (char *)memset(derive_keys(), 'k', KEYS);
            memset(session->channels, 'c', sizeof session->channels);
            schedule(session, now());
        }
        for (struct timed *next, *timed = wheel_ended(&sessions, now()); timed != NULL; timed = next) {
            next = timed->next;
            session_timer((struct session *)timed, &dice, leaks);
        }
        for (n = due(&packets, 100); n > 0; n--) {
            size_t size = (size_t)between(&dice, 40, 1400);
            char *packet = (char *)memset(read_packet(size), 'p', size);
            released(&sites[PACKETS], size);
            free(packet);
        }
    }
    FINISH("ssh_gateway", sites);
}
