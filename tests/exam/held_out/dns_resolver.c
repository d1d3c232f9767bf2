/* dns_resolver: a caching resolver: clients ask over UDP on loopback; answers come from a cache or, 50 ms later, from
 * an upstream.
 *
 * True: of the upstream's answers, 1 % are SERVFAIL, and that path returns without freeing the query and its name: two
 * blocks are lost each time, some fifteen times a second, later less often. The answer cache is healthy: a table of
 * fixed size that replaces.
 *
 * Hard: the cache grows for more than a minute and by far more bytes than the leak; the two leaking functions free
 * 99 % of what they allocate. */
#include "../exam.h"
#include <arpa/inet.h>
#include <errno.h>

enum { START_QUERY, COPY_NAME, CACHE_ANSWER, SITES };
static struct site sites[SITES] = {
    LEAKS("start_query", "heap", "the query is not freed when the upstream answers SERVFAIL"),
    LEAKS("copy_name", "heap", "the name of a query is not freed when the upstream answers SERVFAIL"),
    HEALTHY("cache_answer", "heap", "answer cache with 30000 slots; grows for about two minutes, then replaces"),
};

enum { CACHE_SLOTS = 30000, NAMES = 80000, RATE = 2000 };
struct answer {
    uint32_t name, size;
    double expires;
    unsigned char records[];
};
struct query {
    struct query *next;
    double answered;
    uint32_t name;
    size_t name_size;
    char *text;
    struct sockaddr_in from;
};
struct question {
    uint32_t name;
    char text[60];
};

static struct answer *cache[CACHE_SLOTS];
static struct query *first_pending, **last_pending = &first_pending;
static struct dice dice = {20240117};
static int server;
static struct sockaddr_in address = {.sin_family = AF_INET};

SITE static char *copy_name(const char *text, size_t size) {
    char *copy = acquired(&sites[COPY_NAME], malloc(size), size);
    return memcpy(copy, text, size);
}

SITE static struct query *start_query(const struct question *question, const struct sockaddr_in *from) {
    struct query *query = acquired(&sites[START_QUERY], malloc(sizeof *query), sizeof *query);
    query->next = NULL;
    query->answered = now() + 0.05;
    query->name = question->name;
    query->name_size = strlen(question->text) + 1;
    query->text = copy_name(question->text, query->name_size);
    query->from = *from;
    return query;
}

static void end_query(struct query *query) {
    released(&sites[COPY_NAME], query->name_size);
    free(query->text);
    released(&sites[START_QUERY], sizeof *query);
    free(query);
}

SITE static void cache_answer(uint32_t name) {
    struct answer **slot = &cache[name % CACHE_SLOTS];
    if (*slot != NULL) {
        released(&sites[CACHE_ANSWER], sizeof **slot + (*slot)->size);
        free(*slot);
    }
    uint32_t size = (uint32_t)between(&dice, 40, 480);
    *slot = acquired(&sites[CACHE_ANSWER], malloc(sizeof **slot + size), sizeof **slot + size);
    **slot = (struct answer){name, size, now() + (double)between(&dice, 30, 600)};
    memset((*slot)->records, 1, size);
}

static void reply(const struct sockaddr_in *to, uint32_t name, int status) {
    uint32_t message[2] = {name, (uint32_t)status};
    if (sendto(server, message, sizeof message, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof *to) < 0 &&
        errno != EAGAIN && errno != ECONNREFUSED)
        die("sendto");
}

static void hear_upstream(struct query *query) {
    if (chance(&dice, 0.01)) { /* SERVFAIL */
        reply(&query->from, query->name, 2);
        lost(&sites[COPY_NAME], query->name_size);
        lost(&sites[START_QUERY], sizeof *query);
        return;
    }
    cache_answer(query->name);
    reply(&query->from, query->name, 0);
    end_query(query);
}

static void hear_client(void) {
    struct question question;
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    if (recvfrom(server, &question, sizeof question, MSG_DONTWAIT, (struct sockaddr *)&from, &size) <= 0) return;
    struct answer *known = cache[question.name % CACHE_SLOTS];
    if (known != NULL && known->name == question.name && known->expires > now())
        return reply(&from, question.name, 0);
    struct query *query = start_query(&question, &from);
    *last_pending = query;
    last_pending = &query->next;
}

static void answer_pending(double until) {
    while (first_pending != NULL && first_pending->answered <= until) {
        struct query *query = first_pending;
        first_pending = query->next;
        if (first_pending == NULL) last_pending = &first_pending;
        hear_upstream(query);
    }
}

static void *ask(void *unused) {
    struct dice own = {77};
    struct pace pace = {0};
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof address) != 0) die("client");
    for (long n; (n = due(&pace, RATE)) >= 0;) {
        for (; n > 0; n--) {
            struct question question = {.name = (uint32_t)skewed(&own, NAMES)};
            snprintf(question.text, sizeof question.text, "%.*s%u.example.net", (int)(question.name % 30),
                     "content-delivery-edge-cache-eu-", question.name);
            (void)!send(client, &question, sizeof question, 0);
        }
        for (uint32_t message[2]; recv(client, message, sizeof message, MSG_DONTWAIT) > 0;) continue;
    }
    return unused;
}

int main(void) {
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) != 0) die("server");
    getsockname(server, (struct sockaddr *)&address, &size);
    begin();
    pthread_t client = start_thread(ask, NULL);
    while (working()) {
        struct pollfd one = {server, POLLIN, 0};
        if (poll(&one, 1, 5) > 0) hear_client();
        answer_pending(now());
    }
    pthread_join(client, NULL);
    answer_pending(FOREVER);
    FINISH("dns_resolver", sites);
}
