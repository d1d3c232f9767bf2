/* http_server [PORT] [--leak-every N]: a small HTTP server on libevent that forgets something.
 *
 * Every N-th request for `/` (never without --leak-every) remembers its visitor in a session that nobody
 * frees. `/leak` leaks for each request, `/truth` answers what was leaked so far, `/quit` ends the
 * server. PORT 0 (the default) takes any free port; the first line on stdout says which. Loopback only. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What the server keeps of a visitor. */
struct session {
    struct session *next;
    time_t since;
    char visitor[64];
    char preferences[1000 - sizeof(struct session *) - sizeof(time_t) - 64];
};

static struct session *sessions; /* grows for ever: nothing takes one out again */
static unsigned long requests, leaked;
static long leak_every;

/* The leak: a session that no code path ever frees. */
__attribute__((noinline)) static struct session *remember_session(const char *visitor) {
    struct session *session = malloc(sizeof *session);
    if (session == NULL) return NULL;
    session->since = time(NULL);
    snprintf(session->visitor, sizeof session->visitor, "%s", visitor);
    memset(session->preferences, 0, sizeof session->preferences);
    session->next = sessions;
    sessions = session;
    leaked++;
    return session;
}

static void answer(struct evhttp_request *request, const char *type, const char *text) {
    struct evbuffer *body = evbuffer_new();
    if (body == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    evbuffer_add(body, text, strlen(text));
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
    evhttp_send_reply(request, HTTP_OK, "OK", body);
    evbuffer_free(body);
}

/* `/`: a page; what it renders with is freed again. */
__attribute__((noinline)) static void on_request(struct evhttp_request *request, void *unused) {
    (void)unused;
    requests++;
    if (leak_every > 0 && requests % (unsigned long)leak_every == 0)
        remember_session(evhttp_request_get_host(request));
    const size_t room = 256;
    char *page = malloc(room);
    if (page == NULL) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    snprintf(page, room, "hello, you asked for %s\n", evhttp_request_get_uri(request));
    answer(request, "text/plain", page);
    free(page);
}

/* `/leak`: the same visitor, remembered each time. */
__attribute__((noinline)) static void on_leak(struct evhttp_request *request, void *unused) {
    (void)unused;
    requests++;
    remember_session(evhttp_request_get_host(request));
    answer(request, "text/plain", "remembered\n");
}

/* `/truth`: the server's own account, for tests. */
static void on_truth(struct evhttp_request *request, void *unused) {
    (void)unused;
    char text[160];
    snprintf(text, sizeof text, "{\"requests\":%lu,\"leaked_count\":%lu,\"leaked_bytes\":%lu}\n",
             requests, leaked, leaked * (unsigned long)sizeof(struct session));
    answer(request, "application/json", text);
}

static void on_quit(struct evhttp_request *request, void *base) {
    answer(request, "text/plain", "bye\n");
    event_base_loopexit(base, &(struct timeval){.tv_usec = 100000});
}

static int bound_port(struct evhttp_bound_socket *socket) {
    struct sockaddr_in address;
    ev_socklen_t length = sizeof address;
    if (getsockname(evhttp_bound_socket_get_fd(socket), (struct sockaddr *)&address, &length) != 0)
        return -1;
    return ntohs(address.sin_port);
}

int main(int count, char **arguments) {
    int port = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--leak-every") == 0 && i + 1 < count) leak_every = atol(arguments[++i]);
        else port = atoi(arguments[i]);
    }
    struct event_base *base = event_base_new();
    struct evhttp *http = base == NULL ? NULL : evhttp_new(base);
    struct evhttp_bound_socket *socket =
        http == NULL ? NULL
                     : evhttp_bind_socket_with_handle(http, "127.0.0.1", (ev_uint16_t)port);
    if (socket == NULL) {
        fprintf(stderr, "could not listen on port %d\n", port);
        return 1;
    }
    evhttp_set_cb(http, "/leak", on_leak, NULL);
    evhttp_set_cb(http, "/truth", on_truth, NULL);
    evhttp_set_cb(http, "/quit", on_quit, base);
    evhttp_set_gencb(http, on_request, NULL);
    printf("listening %d\n", bound_port(socket));
    fflush(stdout);
    event_base_dispatch(base);
    evhttp_free(http);
    event_base_free(base);
    return 0;
}
