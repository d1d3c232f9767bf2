/* api_gateway: answers requests that arrive over a socket pair; reads its configuration again every two minutes.
 *
 * True: healthy for ten virtual minutes (`go 90 10` plays fifteen). The fifth reload, at 600 s, turns auditing on; from
 * then on the audit record of one request in five is never freed. Warm-up is healthy: 240 routes are compiled when they
 * are first used, the rare ones late. So are the configurations: an old one lives for another ten seconds.
 *
 * Hard: all that grows at first is healthy, and all that grows at the end comes from a function that had freed
 * everything for ten minutes. */
#include "../exam.h"

enum { COPY_SUBJECT, COMPILE_ROUTE, LOAD_RULE, READ_BODY, SITES };
static struct site sites[SITES] = {
    PARTLY_LEAKS("copy_subject", "heap", "audited requests keep their copy of the subject, since the reload at 600 s",
                 "freed at the end of the request"),
    HEALTHY("compile_route", "heap", "240 routes, each compiled when it is first used"),
    HEALTHY("load_rule", "heap", "the rules of the current configuration, and of the last one for ten seconds"),
    HEALTHY("read_body", "heap", "freed at the end of the request"),
};

enum { ROUTES = 240, RULES = 300, RATE = 500 };
struct request {
    uint16_t route, size, subject;
};
struct rule {
    struct rule *next;
    uint16_t route;
    uint8_t allow;
    char pattern[100];
};
struct config {
    struct rule *rules;
    double until; /* of an old configuration: when the last request that may use it is over */
    int audit;
};

static void *routes[ROUTES];
static struct config current, old;
static struct dice dice = {60601};

SITE static char *copy_subject(size_t size) {
    char *subject = acquired(&sites[COPY_SUBJECT], malloc(size), size);
    return memset(subject, 's', size);
}

SITE static void *compile_route(size_t size) {
    void *program = acquired(&sites[COMPILE_ROUTE], malloc(size), size);
    return memset(program, 0x90, size);
}

SITE static struct rule *load_rule(struct rule *next) {
    struct rule *rule = acquired(&sites[LOAD_RULE], calloc(1, sizeof *rule), sizeof *rule);
    rule->next = next;
    rule->route = (uint16_t)between(&dice, 0, ROUTES - 1);
    rule->allow = (uint8_t)chance(&dice, 0.9);
    return rule;
}

SITE static char *read_body(size_t size) {
    char *body = acquired(&sites[READ_BODY], malloc(size), size);
    return memset(body, 'b', size);
}

static void free_config(struct config *config) {
    for (struct rule *next; config->rules != NULL; config->rules = next) {
        next = config->rules->next;
        released(&sites[LOAD_RULE], sizeof *next);
        free(config->rules);
    }
}

static void reload(int audit) {
    free_config(&old);
    old = current;
    old.until = now() + 10;
    current = (struct config){.audit = audit};
    for (int i = 0; i < RULES; i++) current.rules = load_rule(current.rules);
}

static void handle(const struct request *request) {
    if (routes[request->route] == NULL) routes[request->route] = compile_route((size_t)between(&dice, 2000, 9000));
    char *body = read_body(request->size), *subject = copy_subject(request->subject);
    int allow = 1;
    for (struct rule *rule = current.rules; rule != NULL; rule = rule->next)
        if (rule->route == request->route) allow &= rule->allow;
    body[0] = (char)allow;
    released(&sites[READ_BODY], request->size);
    free(body);
    if (current.audit && chance(&dice, 0.2)) {
        lost(&sites[COPY_SUBJECT], request->subject);
        return;
    }
    released(&sites[COPY_SUBJECT], request->subject);
    free(subject);
}

static void *clients(void *socket) {
    struct dice own = {1975};
    struct pace pace = {0};
    for (long n; (n = due(&pace, RATE)) >= 0;)
        for (; n > 0; n--) {
            struct request request = {.route = (uint16_t)skewed(&own, 1 + skewed(&own, ROUTES)),
                                      .size = (uint16_t)between(&own, 100, 6000),
                                      .subject = (uint16_t)between(&own, 24, 120)};
            (void)!send((int)(intptr_t)socket, &request, sizeof request, 0);
        }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return NULL;
}

int main(void) {
    int ends[2], reloads = 0;
    socket_pair(ends);
    begin();
    reload(0);
    pthread_t client = start_thread(clients, (void *)(intptr_t)ends[1]);
    struct request request;
    for (ssize_t got; (got = receive(ends[0], &request, sizeof request)) != 0;) {
        if (got > 0) handle(&request);
        if (now() >= 120.0 * (reloads + 1)) reload(++reloads >= 5);
        if (old.rules != NULL && now() >= old.until) free_config(&old);
    }
    pthread_join(client, NULL);
    FINISH("api_gateway", sites);
}
