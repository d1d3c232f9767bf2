/* http_server [PORT] [--leak-every N] [--leak-on-close N] [--leak-on-error] [--leak-fd N]: a small HTTP server on
 * libevent with optional leaks.
 *
 * Every N-th request for `/` (never without --leak-every) remembers its visitor in a session that nobody frees. `/leak`
 * leaks for each request, `/truth` answers with the number of leaks so far and of accepted and closed connections,
 * `/quit` ends the server. Leaks per connection are in connections.h. PORT 0 (the default) takes any free port; the
 * first line on stdout contains it. Loopback only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "connections.h"

/* The server's data of a visitor. */
struct session {
    struct session *next;
    time_t since;
    char visitor[64];
    char preferences[1000 - sizeof(struct session *) - sizeof(time_t) - 64];
};

static struct session *sessions; /* only grows: nothing removes a session */
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

/* libevent 2.1 reports a connection only when a request is complete. The handlers of accepting and closing are
 * therefore functions that libevent calls: the program's definitions take precedence over the C library's. */
int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
    int fd = (int)syscall(SYS_accept4, listener, address, length, flags);
    if (fd >= 0) connection_opened(fd);
    return fd;
}

/* Records how the other end closed, before our own close changes the socket's state. */
static enum { UNKNOWN, LEFT, RESET } left_by[MOST_FDS];

static void note_how_it_left(int fd) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (left_by[fd] != UNKNOWN) return;
    int reset = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_CLOSE;
    left_by[fd] = reset ? RESET : LEFT;
}

int shutdown(int fd, int how) {
    if (is_connection(fd)) note_how_it_left(fd);
    return (int)syscall(SYS_shutdown, fd, how);
}

int close(int fd) {
    if (is_connection(fd)) {
        note_how_it_left(fd);
        connection_closed(fd, left_by[fd] == RESET);
        left_by[fd] = UNKNOWN;
    }
    return (int)syscall(SYS_close, fd);
}

static void heard_whole_request(struct evhttp_request *request) {
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    connection_heard(bufferevent_getfd(evhttp_connection_get_bufferevent(connection)));
}

static void answer(struct evhttp_request *request, const char *type, const char *text) {
    heard_whole_request(request);
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

/* `/`: a page; memory for rendering it is freed. */
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

/* `/leak`: always remembers the visitor. */
__attribute__((noinline)) static void on_leak(struct evhttp_request *request, void *unused) {
    (void)unused;
    requests++;
    remember_session(evhttp_request_get_host(request));
    answer(request, "text/plain", "remembered\n");
}

/* `/truth`: the server's own account, for tests. */
static void on_truth(struct evhttp_request *request, void *unused) {
    (void)unused;
    char text[512], counts[CONNECTIONS_TEXT];
    connections_text(counts, sizeof counts);
    snprintf(text, sizeof text, "{\"requests\":%lu,\"leaked_count\":%lu,\"leaked_bytes\":%lu,%s}\n",
             requests, leaked, leaked * (unsigned long)sizeof(struct session), counts);
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
        else if (connections_option(count, arguments, &i)) continue;
        else port = atoi(arguments[i]);
    }
    struct event_base *base = event_base_new();
    struct evhttp *http = base == NULL ? NULL : evhttp_new(base);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* A queue of 4096: libevent's own 128 fills up when many connect and close at once, and the kernel then drops some
     * that the client considers connected. */
    struct evconnlistener *listener =
        http == NULL ? NULL
                     : evconnlistener_new_bind(base, NULL, NULL,
                                               LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
                                                   LEV_OPT_REUSEABLE,
                                               4096, (struct sockaddr *)&address, sizeof address);
    struct evhttp_bound_socket *socket =
        listener == NULL ? NULL : evhttp_bind_listener(http, listener);
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
