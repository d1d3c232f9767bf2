/* leaks_libevent: leaks of servers on libevent, one case each. See leaks.h. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "leaks.h"

static struct event_base *base;
static struct evbuffer *stream;   /* of a connection that existed before */
static struct evdns_base *dns;    /* whose only server never answers */
static struct evhttp *http;       /* answers no request by default */
static struct event *tick;        /* triggered by the program */
static struct ev_token_bucket_cfg *limit;
static int http_port, refused_port, page_file, watched;
static const char page[4096] = "a page";
static const struct timeval AN_HOUR = {.tv_sec = 3600};

/* Runs the loop for due events, including those that libevent defers to its next turn. */
static void turn(void) {
    for (int times = 0; times < 4; times++) event_base_loop(base, EVLOOP_NONBLOCK);
}

static void nothing(evutil_socket_t fd, short what, void *unused) { (void)fd, (void)what, (void)unused; }

/* --- evbuffer --- */

SITE static struct evbuffer *make_reply(void) {
    struct evbuffer *reply = evbuffer_new();
    must(reply != NULL && evbuffer_add(reply, page, 100) == 0, "evbuffer_new");
    made("evbuffer", 1);
    return reply;
}

static void evbuffer_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_reply();
        evbuffer_drain(kept[at], 100);
        if (!corrected) continue;
        evbuffer_free(kept[at]);
        gone("evbuffer", 1);
    }
}

SITE static void append_unread(void) {
    must(evbuffer_add(stream, page, sizeof page) == 0, "evbuffer_add");
}

static void evbuffer_not_drained(long count, int corrected) {
    int pieces = 0;
    for (long at = 0; at < count; at++) {
        append_unread();
        if (!corrected) {
            /* Its pieces are separate blocks. */
            int before = pieces;
            pieces = evbuffer_peek(stream, -1, NULL, NULL, 0);
            made("heap", pieces - before);
            continue;
        }
        must(evbuffer_peek(stream, -1, NULL, NULL, 0) == 1, "evbuffer_peek");
        evbuffer_drain(stream, sizeof page);
        made("heap", 1);
        gone("heap", 1);
    }
}

static void free_body(const void *body, size_t size, void *unused) {
    (void)size, (void)unused;
    free((void *)body);
    gone("heap", 1);
}

SITE static void *load_body(void) {
    void *body = calloc(1, 3000);
    must(body != NULL, "calloc");
    made("heap", 1);
    return body;
}

static void evbuffer_reference_not_drained(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        must(evbuffer_add_reference(stream, load_body(), 3000, free_body, NULL) == 0, "evbuffer_add_reference");
        if (corrected) evbuffer_drain(stream, 3000);
    }
}

static void on_change(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *unused) {
    (void)buffer, (void)info, (void)unused;
}

SITE static struct evbuffer_cb_entry *watch_buffer(void) {
    struct evbuffer_cb_entry *entry = evbuffer_add_cb(stream, on_change, NULL);
    must(entry != NULL, "evbuffer_add_cb");
    made("evbuffer_callback", 1);
    return entry;
}

static void evbuffer_callback_not_removed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = watch_buffer();
        if (!corrected) continue;
        evbuffer_remove_cb_entry(stream, kept[at]);
        gone("evbuffer_callback", 1);
    }
}

SITE static struct evbuffer_file_segment *share_file(void) {
    struct evbuffer_file_segment *segment = evbuffer_file_segment_new(page_file, 0, sizeof page, 0);
    must(segment != NULL, "evbuffer_file_segment_new");
    made("evbuffer_file_segment", 1);
    return segment;
}

static void file_segment_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = share_file();
        if (!corrected) continue;
        evbuffer_file_segment_free(kept[at]);
        gone("evbuffer_file_segment", 1);
    }
}

/* --- event --- */

SITE static struct event *watch_deadline(void) {
    struct event *event = event_new(base, -1, 0, nothing, NULL);
    must(event != NULL && event_add(event, &AN_HOUR) == 0, "event_new");
    made("event", 1);
    return event;
}

/* Removed from the loop, and leaked. */
static void event_removed_but_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = watch_deadline();
        event_del(kept[at]);
        if (!corrected) continue;
        event_free(kept[at]);
        gone("event", 1);
    }
}

SITE static struct event *watch_connection(void) {
    struct event *event = event_new(base, watched, EV_READ | EV_PERSIST, nothing, NULL);
    must(event != NULL && event_add(event, &AN_HOUR) == 0, "event_new");
    made("event", 1);
    return event;
}

/* Still in the loop when its purpose is over. */
static void event_not_removed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = watch_connection();
        if (!corrected) continue;
        event_free(kept[at]);
        gone("event", 1);
    }
}

/* An event embedded in another structure, as in memcached. */
static struct session { struct event deadline; } sessions[MOST_OBJECTS];

SITE static void watch_session(struct session *session) {
    must(event_assign(&session->deadline, base, watched, EV_READ | EV_PERSIST, nothing, session) == 0, "event_assign");
    must(event_add(&session->deadline, NULL) == 0, "event_add");
    made("event_assigned", 1);
}

static void assigned_event_not_removed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        watch_session(&sessions[at]);
        if (!corrected) continue;
        event_del(&sessions[at].deadline);
        gone("event_assigned", 1);
    }
}

SITE static void ask_once(const struct timeval *when) {
    must(event_base_once(base, -1, EV_TIMEOUT, nothing, NULL, when) == 0, "event_base_once");
    made("event_once", 1);
}

static void event_once_never_happens(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        ask_once(corrected ? &(struct timeval){0} : &AN_HOUR);
        if (!corrected) continue;
        turn();
        gone("event_once", 1);
    }
}

static void *noted;

SITE static void note_tick(void) {
    noted = calloc(1, 200);
    must(noted != NULL, "calloc");
    made("heap", 1);
}

static void on_tick(evutil_socket_t fd, short what, void *corrected) {
    (void)fd, (void)what;
    note_tick();
    if (!*(int *)corrected) return;
    free(noted);
    gone("heap", 1);
}

static void callback_data_not_freed(long count, int corrected) {
    event_assign(tick, base, -1, EV_PERSIST, on_tick, &corrected);
    for (long at = 0; at < count; at++) {
        event_active(tick, EV_TIMEOUT, 0);
        turn();
    }
    event_assign(tick, base, -1, EV_PERSIST, nothing, NULL);
}

SITE static struct event *watch_signal(void) {
    struct event *event = evsignal_new(base, SIGUSR1, nothing, NULL);
    must(event != NULL && event_add(event, NULL) == 0, "evsignal_new");
    made("event_signal", 1);
    return event;
}

static void signal_event_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = watch_signal();
        event_del(kept[at]);
        if (!corrected) continue;
        event_free(kept[at]);
        gone("event_signal", 1);
    }
}

SITE static struct event_base *make_loop(void) {
    struct event_base *loop = event_base_new();
    must(loop != NULL, "event_base_new");
    made("event_base", 1);
    /* A private one, for a moment. */
    made("event_config", 1);
    gone("event_config", 1);
    return loop;
}

static void event_base_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_loop();
        if (!corrected) continue;
        event_base_free(kept[at]);
        gone("event_base", 1);
    }
}

SITE static struct event_config *choose_method(void) {
    struct event_config *config = event_config_new();
    must(config != NULL, "event_config_new");
    made("event_config", 1);
    return config;
}

static void event_config_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = choose_method();
        if (!corrected) continue;
        event_config_free(kept[at]);
        gone("event_config", 1);
    }
}

SITE static struct evconnlistener *listen_again(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED, 4,
                                (struct sockaddr *)&address, sizeof address);
    must(listener != NULL, "evconnlistener_new_bind");
    made("evconnlistener", 1);
    return listener;
}

static void listener_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = listen_again();
        if (!corrected) continue;
        evconnlistener_free(kept[at]);
        gone("evconnlistener", 1);
    }
}

/* --- bufferevent --- */

static int ends[2];

/* With all its parts: it notices when there is something to send. */
static void bufferevent_is_made(void) {
    made("bufferevent", 1);
    made("evbuffer", 2);
    made("evbuffer_callback", 1);
}

static void bufferevent_is_gone(void) {
    gone("bufferevent", 1);
    gone("evbuffer", 2);
    gone("evbuffer_callback", 1);
}

SITE static struct bufferevent *open_stream(int options) {
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    struct bufferevent *made_one = bufferevent_socket_new(base, ends[0], options);
    must(made_one != NULL, "bufferevent_socket_new");
    bufferevent_is_made();
    return made_one;
}

SITE static struct bufferevent *open_upstream(void) {
    struct bufferevent *upstream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    must(upstream != NULL, "bufferevent_socket_new");
    bufferevent_is_made();
    return upstream;
}

static int refusals;

static void on_refused(struct bufferevent *refused, short what, void *corrected) {
    must(what & BEV_EVENT_ERROR, "an error");
    refusals++;
    if (!*(int *)corrected) return;
    bufferevent_free(refused);
    bufferevent_is_gone();
}

/* Nobody listens there: the error handler records that, and nobody frees. */
static void bufferevent_not_freed_on_error(long count, int corrected) {
    refusals = 0;
    for (long at = 0; at < count; at++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)refused_port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        struct bufferevent *one = open_upstream();
        bufferevent_setcb(one, NULL, NULL, on_refused, &corrected);
        bufferevent_socket_connect(one, (struct sockaddr *)&address, sizeof address);
        while (refusals <= at) event_base_loop(base, EVLOOP_ONCE);
        turn();
    }
}

/* Without BEV_OPT_CLOSE_ON_FREE the program must close the socket. */
static void bufferevent_keeps_its_socket(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        struct bufferevent *one = open_stream(corrected ? BEV_OPT_CLOSE_ON_FREE : 0);
        made("socket", 2);
        close(ends[1]);
        bufferevent_free(one);
        bufferevent_is_gone();
        turn();
        gone("socket", corrected ? 2 : 1);
    }
}

/* One owner requests its release, the other has forgotten that it holds a reference: a reference cycle. */
static void bufferevent_with_a_forgotten_owner(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        struct bufferevent *one = open_stream(BEV_OPT_CLOSE_ON_FREE);
        bufferevent_incref(one);
        close(ends[1]);
        bufferevent_free(one);
        if (corrected) {
            bufferevent_decref(one);
            bufferevent_is_gone();
        } else {
            release_asked++;
        }
        turn();
    }
}

SITE static struct ev_token_bucket_cfg *set_limit(void) {
    struct ev_token_bucket_cfg *config = ev_token_bucket_cfg_new(1000, 1000, 1000, 1000, NULL);
    must(config != NULL, "ev_token_bucket_cfg_new");
    made("ev_token_bucket_cfg", 1);
    return config;
}

static void rate_limit_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = set_limit();
        if (!corrected) continue;
        ev_token_bucket_cfg_free(kept[at]);
        gone("ev_token_bucket_cfg", 1);
    }
}

SITE static struct bufferevent_rate_limit_group *limit_tenant(void) {
    struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, limit);
    must(group != NULL, "bufferevent_rate_limit_group_new");
    made("bufferevent_rate_limit_group", 1);
    return group;
}

static void rate_limit_group_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = limit_tenant();
        if (!corrected) continue;
        bufferevent_rate_limit_group_free(kept[at]);
        gone("bufferevent_rate_limit_group", 1);
    }
}

/* --- evdns --- */

static void on_resolved(int result, char type, int found, int seconds, void *addresses, void *unused) {
    (void)result, (void)type, (void)found, (void)seconds, (void)addresses, (void)unused;
}

SITE static struct evdns_request *resolve_name(void) {
    struct evdns_request *request =
        evdns_base_resolve_ipv4(dns, "upstream.example", DNS_QUERY_NO_SEARCH, on_resolved, NULL);
    must(request != NULL, "evdns_base_resolve_ipv4");
    made("evdns_request", 1);
    return request;
}

static void evdns_request_never_answered(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        struct evdns_request *request = resolve_name();
        if (!corrected) continue;
        evdns_cancel_request(dns, request);
        turn();
        gone("evdns_request", 1);
    }
}

SITE static struct evdns_base *make_resolver(void) {
    struct evdns_base *resolver = evdns_base_new(base, 0);
    must(resolver != NULL, "evdns_base_new");
    made("evdns_base", 1);
    return resolver;
}

static void evdns_base_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_resolver();
        if (!corrected) continue;
        evdns_base_free(kept[at], 0);
        gone("evdns_base", 1);
    }
}

static void on_address(int error, struct evutil_addrinfo *answer, void *place) {
    must(error == 0 && answer != NULL && answer->ai_next == NULL, "an address");
    *(struct evutil_addrinfo **)place = answer;
    made("heap", 1);
}

SITE static void look_up_address(struct evutil_addrinfo **answer) {
    struct evutil_addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    must(evdns_getaddrinfo(dns, "127.0.0.1", "80", &hints, on_address, answer) == NULL, "evdns_getaddrinfo");
    must(*answer != NULL, "an answer at once");
}

static void dns_answer_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        struct evutil_addrinfo *answer = NULL;
        look_up_address(&answer);
        kept[at] = answer;
        if (!corrected) continue;
        evutil_freeaddrinfo(answer);
        gone("heap", 1);
    }
}

/* --- evhttp --- */

SITE static struct evhttp_connection *connect_upstream(void) {
    struct evhttp_connection *connection =
        evhttp_connection_base_new(base, NULL, "127.0.0.1", (uint16_t)http_port);
    must(connection != NULL, "evhttp_connection_base_new");
    made("evhttp_connection", 1);
    bufferevent_is_made();
    return connection;
}

static void evhttp_connection_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = connect_upstream();
        if (!corrected) continue;
        evhttp_connection_free(kept[at]);
        turn();
        gone("evhttp_connection", 1);
        bufferevent_is_gone();
    }
}

static void on_answer(struct evhttp_request *request, void *unused) { (void)request, (void)unused; }

SITE static struct evhttp_request *prepare_request(void) {
    struct evhttp_request *request = evhttp_request_new(on_answer, NULL);
    must(request != NULL, "evhttp_request_new");
    made("evhttp_request", 1);
    made("evbuffer", 2);
    return request;
}

/* Abandoned before it was sent. */
static void evhttp_request_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = prepare_request();
        if (!corrected) continue;
        evhttp_request_free(kept[at]);
        gone("evhttp_request", 1);
        gone("evbuffer", 2);
    }
}

SITE static struct evhttp_uri *parse_address(void) {
    struct evhttp_uri *uri = evhttp_uri_parse("http://upstream.example:80/path?query");
    must(uri != NULL, "evhttp_uri_parse");
    made("evhttp_uri", 1);
    return uri;
}

static void evhttp_uri_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = parse_address();
        if (!corrected) continue;
        evhttp_uri_free(kept[at]);
        gone("evhttp_uri", 1);
    }
}

SITE static void parse_parameters(struct evkeyvalq *parameters) {
    must(evhttp_parse_query_str("visitor=me", parameters) == 0, "evhttp_parse_query_str");
    /* The pair, its name and its value; the buffers of decoding are freed. */
    made("heap", 3);
}

static void evhttp_headers_not_cleared(long count, int corrected) {
    static struct evkeyvalq parameters[MOST_OBJECTS];
    for (long at = 0; at < count; at++) {
        TAILQ_INIT(&parameters[at]);
        parse_parameters(&parameters[at]);
        if (!corrected) continue;
        evhttp_clear_headers(&parameters[at]);
        gone("heap", 3);
    }
}

SITE static char *encode_address(void) {
    char *text = evhttp_encode_uri("a visitor & more");
    must(text != NULL, "evhttp_encode_uri");
    made("heap", 1);
    /* In which it is put together. */
    made("evbuffer", 1);
    gone("evbuffer", 1);
    return text;
}

static void evhttp_text_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = encode_address();
        if (!corrected) continue;
        free(kept[at]);
        gone("heap", 1);
    }
}

SITE static struct evhttp *reload_server(void) {
    struct evhttp *server = evhttp_new(base);
    must(server != NULL, "evhttp_new");
    made("evhttp", 1);
    return server;
}

static void evhttp_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = reload_server();
        if (!corrected) continue;
        evhttp_free(kept[at]);
        gone("evhttp", 1);
    }
}

static long asked;

static void on_request(struct evhttp_request *request, void *unused) {
    (void)unused;
    kept[asked++] = request;
}

static int visit(void) {
    static const char request[] = "GET /slow HTTP/1.1\r\nHost: here\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    must(write(fd, request, sizeof request - 1) == sizeof request - 1, "write");
    return fd;
}

/* The loop accepts the connection and reads its request. */
SITE static void serve_visitor(long number) {
    while (asked <= number) event_base_loop(base, EVLOOP_ONCE);
    made("evhttp_connection", 1);
    made("evhttp_request", 1);
    made("evhttp_uri", 1);
    made("evbuffer", 2);
    bufferevent_is_made();
}

/* The request's work fails, and nobody answers: the visitor leaves, the library keeps everything. */
static void evhttp_request_never_answered(long count, int corrected) {
    asked = 0;
    for (long at = 0; at < count; at++) {
        int fd = visit();
        serve_visitor(at);
        if (corrected) {
            evhttp_add_header(evhttp_request_get_output_headers(kept[at]), "Connection", "close");
            evhttp_send_error(kept[at], HTTP_SERVUNAVAIL, "later");
            /* The page that reports the failure. */
            made("evbuffer", 1);
            gone("evbuffer", 1);
            char heard[512];
            turn();
            while (read(fd, heard, sizeof heard) > 0) continue;
        }
        close(fd);
        turn();
        if (!corrected) continue;
        gone("evhttp_connection", 1);
        gone("evhttp_request", 1);
        gone("evhttp_uri", 1);
        gone("evbuffer", 2);
        bufferevent_is_gone();
    }
}

static const struct leak_case CASES[] = {
    {"evbuffer_not_freed", "evbuffer", "make_reply", evbuffer_not_freed},
    {"evbuffer_not_drained", "heap", "append_unread", evbuffer_not_drained},
    {"evbuffer_reference_not_drained", "heap", "load_body", evbuffer_reference_not_drained},
    {"evbuffer_callback_not_removed", "evbuffer_callback", "watch_buffer", evbuffer_callback_not_removed},
    {"file_segment_not_freed", "evbuffer_file_segment", "share_file", file_segment_not_freed},
    {"event_removed_but_not_freed", "event", "watch_deadline", event_removed_but_not_freed},
    {"event_not_removed", "event", "watch_connection", event_not_removed},
    {"assigned_event_not_removed", "event_assigned", "watch_session", assigned_event_not_removed},
    {"event_once_never_happens", "event_once", "ask_once", event_once_never_happens},
    {"callback_data_not_freed", "heap", "note_tick", callback_data_not_freed},
    {"signal_event_not_freed", "event_signal", "watch_signal", signal_event_not_freed},
    {"event_base_not_freed", "event_base", "make_loop", event_base_not_freed},
    {"event_config_not_freed", "event_config", "choose_method", event_config_not_freed},
    {"listener_not_freed", "evconnlistener", "listen_again", listener_not_freed},
    {"bufferevent_not_freed_on_error", "bufferevent", "open_upstream", bufferevent_not_freed_on_error,
     "bufferevent_not_freed_on_error"},
    {"bufferevent_keeps_its_socket", "socket", "open_stream", bufferevent_keeps_its_socket},
    {"bufferevent_with_a_forgotten_owner", "bufferevent", "open_stream", bufferevent_with_a_forgotten_owner},
    {"rate_limit_not_freed", "ev_token_bucket_cfg", "set_limit", rate_limit_not_freed},
    {"rate_limit_group_not_freed", "bufferevent_rate_limit_group", "limit_tenant", rate_limit_group_not_freed},
    {"evdns_request_never_answered", "evdns_request", "resolve_name", evdns_request_never_answered},
    {"evdns_base_not_freed", "evdns_base", "make_resolver", evdns_base_not_freed},
    {"dns_answer_not_freed", "heap", "look_up_address", dns_answer_not_freed},
    {"evhttp_connection_not_freed", "evhttp_connection", "connect_upstream", evhttp_connection_not_freed},
    {"evhttp_request_not_freed", "evhttp_request", "prepare_request", evhttp_request_not_freed},
    {"evhttp_request_never_answered", "evhttp_connection", "serve_visitor", evhttp_request_never_answered},
    {"evhttp_uri_not_freed", "evhttp_uri", "parse_address", evhttp_uri_not_freed},
    {"evhttp_headers_not_cleared", "heap", "parse_parameters", evhttp_headers_not_cleared},
    {"evhttp_text_not_freed", "heap", "encode_address", evhttp_text_not_freed},
    {"evhttp_not_freed", "evhttp", "reload_server", evhttp_not_freed},
};

static int port_of(int fd) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    must(getsockname(fd, (struct sockaddr *)&address, &length) == 0, "getsockname");
    return ntohs(address.sin_port);
}

static void set_up(void) {
    base = event_base_new();
    stream = evbuffer_new();
    http = evhttp_new(base);
    tick = event_new(base, -1, EV_PERSIST, nothing, NULL);
    limit = ev_token_bucket_cfg_new(1000, 1000, 1000, 1000, NULL);
    must(base && stream && http && tick && limit, "libevent");
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
    must(bound != NULL, "evhttp_bind_socket");
    http_port = port_of(evhttp_bound_socket_get_fd(bound));
    evhttp_set_gencb(http, on_request, NULL);
    /* The loop's table of timeouts grows and never shrinks: grow it now, not later. */
    for (int at = 0; at < MOST_OBJECTS; at++)
        event_base_once(base, -1, EV_TIMEOUT, nothing, NULL, &(struct timeval){.tv_usec = 1});
    turn();
    watched = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    page_file = memfd_create("page", MFD_CLOEXEC);
    must(page_file >= 0 && write(page_file, page, sizeof page) == sizeof page, "memfd_create");
    /* A port where nobody listens, and nobody else will. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int nobody = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(nobody, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    refused_port = port_of(nobody);
    /* A name server that receives and never answers, and never times out. */
    int silent = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(bind(silent, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    char server[64];
    snprintf(server, sizeof server, "127.0.0.1:%d", port_of(silent));
    dns = evdns_base_new(base, 0);
    must(dns && evdns_base_nameserver_ip_add(dns, server) == 0, "evdns_base_nameserver_ip_add");
    evdns_base_set_option(dns, "timeout:", "3000");
    evdns_base_set_option(dns, "max-inflight:", "4096");
}

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
