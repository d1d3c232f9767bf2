/* tls_server CERTIFICATE KEY [PORT] [--leak-on-handshake]: a small HTTPS server on libevent's bufferevents and OpenSSL.
 *
 * It answers any request with a page. With --leak-on-handshake a connection whose handshake fails keeps a reference to
 * its SSL object, like error paths that forget one of two owners. PORT 0 (the default) takes any free port; the first
 * line on stdout contains it. Loopback only. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static SSL_CTX *context;
static struct event_base *base;
static int leak_on_handshake;

/* A connection: whether its handshake is done. */
struct connection {
    int greeted;
};

__attribute__((noinline)) static void forget_session(struct bufferevent *stream) {
    SSL_up_ref(bufferevent_openssl_get_ssl(stream));
}

static void end(struct bufferevent *stream, struct connection *connection) {
    if (!connection->greeted && leak_on_handshake) forget_session(stream);
    free(connection);
    bufferevent_free(stream);
    ERR_clear_error();
}

static void on_event(struct bufferevent *stream, short what, void *connection) {
    if (what & BEV_EVENT_CONNECTED) ((struct connection *)connection)->greeted = 1;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) end(stream, connection);
}

static void on_written(struct bufferevent *stream, void *connection) { end(stream, connection); }

static void on_read(struct bufferevent *stream, void *connection) {
    struct evbuffer *heard = bufferevent_get_input(stream);
    if (evbuffer_search(heard, "\r\n\r\n", 4, NULL).pos < 0) return;
    bufferevent_disable(stream, EV_READ);
    bufferevent_setcb(stream, NULL, on_written, on_event, connection);
    evbuffer_add_printf(bufferevent_get_output(stream),
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n");
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int length,
                      void *unused) {
    (void)listener, (void)address, (void)length, (void)unused;
    struct connection *connection = calloc(1, sizeof *connection);
    SSL *session = SSL_new(context);
    struct bufferevent *stream =
        connection == NULL || session == NULL
            ? NULL
            : bufferevent_openssl_socket_new(base, fd, session, BUFFEREVENT_SSL_ACCEPTING,
                                             BEV_OPT_CLOSE_ON_FREE);
    if (stream == NULL) abort();
    bufferevent_setcb(stream, on_read, NULL, on_event, connection);
    bufferevent_set_timeouts(stream, &(struct timeval){.tv_sec = 10}, NULL);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

int main(int count, char **arguments) {
    int port = 0;
    for (int i = 3; i < count; i++) {
        if (strcmp(arguments[i], "--leak-on-handshake") == 0) leak_on_handshake = 1;
        else port = atoi(arguments[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (count < 3 || context == NULL ||
        SSL_CTX_use_certificate_file(context, arguments[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "usage: tls_server CERTIFICATE KEY [PORT] [--leak-on-handshake]\n");
        return 1;
    }
    /* Sessions are not cached for resumption: nothing of a closed connection stays. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    base = event_base_new();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct evconnlistener *listener =
        base == NULL ? NULL
                     : evconnlistener_new_bind(base, on_accept, NULL,
                                               LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, 4096,
                                               (struct sockaddr *)&address, sizeof address);
    ev_socklen_t length = sizeof address;
    if (listener == NULL ||
        getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length) != 0) {
        fprintf(stderr, "could not listen on port %d\n", port);
        return 1;
    }
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    event_base_dispatch(base);
    return 0;
}
