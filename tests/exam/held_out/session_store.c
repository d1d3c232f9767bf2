/* session_store: logins arrive over a socket pair; each makes a session, found by hash and kept in the order of its
 * last use; logouts end it; a few logins ask to be remembered.
 *
 * True: healthy. At most 12,000 sessions are kept: a new one evicts the one that was not used for the longest time. A
 * token of a remembered login lives for four virtual minutes (`go 90 10` plays fifteen), and is then freed.
 *
 * Hard: sessions grow for about half a minute; tokens grow evenly for four minutes, without a single release, and look
 * like a slow leak until then. */
#include "../exam.h"

enum { CREATE_SESSION, SET_ATTRIBUTE, ISSUE_TOKEN, SITES };
static struct site sites[SITES] = {
    HEALTHY("create_session", "heap", "12000 at most; the least recently used one is evicted"),
    HEALTHY("set_attribute", "heap", "one for each session, replaced or freed with it"),
    HEALTHY("issue_token", "heap", "lives for 240 virtual seconds"),
};

enum { MOST = 12000, TABLE = 1 << 14, USERS = 60000, RATE = 1200, TOKEN_LIFE = 240 };
struct session {
    struct session *next_in_slot, *newer, *older;
    uint32_t user, attribute_size;
    char *attribute;
    unsigned char secret[48];
};
struct token {
    struct timed timed;
    uint32_t user;
    unsigned char value[64];
};
struct message {
    enum { LOGIN, TOUCH, LOGOUT } verb;
    uint32_t user, size;
    int remember;
};

static struct session *table[TABLE], *newest, *oldest;
static size_t session_count;
static struct wheel tokens;

SITE static struct session *create_session(uint32_t user) {
    struct session *session = acquired(&sites[CREATE_SESSION], calloc(1, sizeof *session), sizeof *session);
    session->user = user;
    return session;
}

SITE static void set_attribute(struct session *session, uint32_t size) {
    if (session->attribute != NULL) released(&sites[SET_ATTRIBUTE], session->attribute_size);
    session->attribute = acquired(&sites[SET_ATTRIBUTE], realloc(session->attribute, size), size);
    session->attribute_size = size;
}

SITE static void issue_token(uint32_t user) {
    struct token *token = acquired(&sites[ISSUE_TOKEN], malloc(sizeof *token), sizeof *token);
    token->user = user;
    wheel_add(&tokens, token, now() + TOKEN_LIFE);
}

static struct session **find(uint32_t user) {
    struct session **link = &table[user * 2654435761u % TABLE];
    while (*link != NULL && (*link)->user != user) link = &(*link)->next_in_slot;
    return link;
}

static void take_out_of_order(struct session *session) {
    *(session->newer != NULL ? &session->newer->older : &newest) = session->older;
    *(session->older != NULL ? &session->older->newer : &oldest) = session->newer;
}

static void put_first(struct session *session) {
    session->newer = NULL;
    session->older = newest;
    *(newest != NULL ? &newest->newer : &oldest) = session;
    newest = session;
}

static void end_session(struct session **link) {
    struct session *session = *link;
    *link = session->next_in_slot;
    take_out_of_order(session);
    session_count--;
    if (session->attribute != NULL) released(&sites[SET_ATTRIBUTE], session->attribute_size);
    free(session->attribute);
    released(&sites[CREATE_SESSION], sizeof *session);
    free(session);
}

static void handle(const struct message *message) {
    struct session **link = find(message->user);
    if (*link == NULL && message->verb == LOGIN) {
        if (session_count == MOST) end_session(find(oldest->user));
        link = find(message->user); /* the one evicted may have been in the same slot */
        *link = create_session(message->user);
        put_first(*link);
        session_count++;
    }
    if (*link == NULL) return;
    if (message->verb == LOGOUT) return end_session(link);
    set_attribute(*link, message->size);
    take_out_of_order(*link);
    put_first(*link);
    if (message->remember) issue_token(message->user);
}

static void expire_tokens(double until) {
    struct timed *next;
    for (struct timed *ended = wheel_ended(&tokens, until); ended != NULL; ended = next) {
        next = ended->next;
        released(&sites[ISSUE_TOKEN], sizeof(struct token));
        free(ended);
    }
}

static void *clients(void *socket) {
    struct dice own = {10101};
    struct pace pace = {0};
    for (long n; (n = due(&pace, RATE)) >= 0;)
        for (; n > 0; n--) {
            struct message message = {.verb = LOGIN,
                                      .user = (uint32_t)between(&own, 0, USERS - 1),
                                      .size = (uint32_t)between(&own, 16, 300)};
            if (!chance(&own, 0.45)) message.verb = chance(&own, 0.9) ? TOUCH : LOGOUT;
            message.remember = message.verb == LOGIN && chance(&own, 0.01);
            (void)!send((int)(intptr_t)socket, &message, sizeof message, 0);
        }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return NULL;
}

int main(void) {
    int ends[2];
    socket_pair(ends);
    begin();
    pthread_t client = start_thread(clients, (void *)(intptr_t)ends[1]);
    struct message message;
    for (ssize_t got; (got = receive(ends[0], &message, sizeof message)) != 0;) {
        if (got > 0) handle(&message);
        expire_tokens(now());
    }
    pthread_join(client, NULL);
    FINISH("session_store", sites);
}
