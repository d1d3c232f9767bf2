/* pool_server [PORT] [--threads N] [--leak-on-close N] [--leak-on-error] [--leak-fd N]: a small HTTP server without any
 * library, like many handwritten ones.
 *
 * The main thread waits with epoll, accepts, and passes each readable connection to a pool of worker threads, through a
 * queue. `/truth` answers with the account of connections, `/quit` ends the server, anything else gets a page. Leaks
 * per connection are in connections.h. PORT 0 (the default) takes any free port; the first line on stdout contains it.
 * Loopback only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connections.h"

enum { MOST_BYTES = 8192, EVENTS = 256, QUEUE = 4096, MOST_THREADS = 64 };

/* A connection: received bytes that are not answered yet. */
struct connection {
    int fd, failed;
    size_t used;
    char bytes[MOST_BYTES];
};

static int epoll_fd = -1;
static unsigned long requests;

/* Queue of readable connections. Each is in it at most once: epoll reports it again only after a worker has
 * rearmed it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    struct connection *items[QUEUE];
    size_t first, count;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .filled = PTHREAD_COND_INITIALIZER,
           .emptied = PTHREAD_COND_INITIALIZER};

static void hand_over(struct connection *connection) {
    pthread_mutex_lock(&queue.lock);
    while (queue.count == QUEUE) pthread_cond_wait(&queue.emptied, &queue.lock);
    queue.items[(queue.first + queue.count++) % QUEUE] = connection;
    pthread_cond_signal(&queue.filled);
    pthread_mutex_unlock(&queue.lock);
}

static struct connection *next_connection(void) {
    pthread_mutex_lock(&queue.lock);
    while (queue.count == 0) pthread_cond_wait(&queue.filled, &queue.lock);
    struct connection *connection = queue.items[queue.first];
    queue.first = (queue.first + 1) % QUEUE;
    queue.count--;
    pthread_cond_signal(&queue.emptied);
    pthread_mutex_unlock(&queue.lock);
    return connection;
}

/* The close handler. */
__attribute__((noinline)) static void close_connection(struct connection *connection) {
    int fd = connection->fd;
    struct tcp_info info;
    socklen_t length = sizeof info;
    /* Reset, or closed in the middle of a request. */
    int failed = connection->failed || connection->used > 0 ||
                 (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
                  info.tcpi_state == TCP_CLOSE);
    connection_closed(fd, failed);
    close(fd);
    free(connection);
}

/* Returns 0 if the other end has closed. */
static int send_all(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            /* The client reads slowly: the worker waits, as simple servers do, for a second at most. */
            struct timeval limit = {.tv_sec = 1};
            fd_set set;
            if (fd >= FD_SETSIZE) return 0;
            FD_ZERO(&set);
            FD_SET(fd, &set);
            if (select(fd + 1, NULL, &set, NULL, &limit) <= 0) return 0;
            continue;
        }
        if (sent <= 0) return 0;
        text += sent;
        length -= (size_t)sent;
    }
    return 1;
}

/* Returns 0 if the connection is to be closed. */
__attribute__((noinline)) static int answer_request(struct connection *connection, char *head) {
    char body[512], text[768], path[128] = "", counts[CONNECTIONS_TEXT], method[16];
    int whole = sscanf(head, "%15[A-Z] %127s HTTP/1.", method, path) == 2 && path[0] == '/' &&
                strstr(head, " HTTP/1.") != NULL;
    int keep = whole && strcasestr(head, "\r\nConnection: close") == NULL;
    if (whole) connection_heard(connection->fd);
    else connection->failed = 1;
    unsigned long count = __atomic_add_fetch(&requests, 1, __ATOMIC_RELAXED);
    if (strcmp(path, "/truth") == 0) {
        connections_text(counts, sizeof counts);
        snprintf(body, sizeof body, "{\"requests\":%lu,%s}\n", count, counts);
    } else snprintf(body, sizeof body, "hello, you asked for %s\n", path);
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
                          whole ? "200 OK" : "400 Bad Request", strlen(body),
                          keep ? "keep-alive" : "close", body);
    if (!send_all(connection->fd, text, (size_t)length)) {
        connection->failed = 1;
        return 0;
    }
    if (strcmp(path, "/quit") == 0) exit(0);
    return keep;
}

/* Answers each complete request. Returns 0 if the connection is to be closed. */
static int answer_what_is_whole(struct connection *connection) {
    for (;;) {
        connection->bytes[connection->used] = 0;
        char *end = strstr(connection->bytes, "\r\n\r\n");
        if (end == NULL) return 1;
        size_t size = (size_t)(end - connection->bytes) + 4;
        char *length = strcasestr(connection->bytes, "\r\nContent-Length:");
        if (length != NULL && length < end) {
            long body = atol(length + strlen("\r\nContent-Length:"));
            if (body < 0 || body > MOST_BYTES) {
                connection->failed = 1;
                return 0;
            }
            size += (size_t)body;
        }
        if (size > connection->used) return 1;
        end[2] = 0;
        int keep = answer_request(connection, connection->bytes);
        connection->used -= size;
        memmove(connection->bytes, connection->bytes + size, connection->used);
        if (!keep) return 0;
    }
}

/* Reads available bytes. Returns 0 if the connection is to be closed. */
static int hear(struct connection *connection) {
    for (;;) {
        size_t room = MOST_BYTES - 1 - connection->used;
        if (room == 0) return 0;
        ssize_t count = recv(connection->fd, connection->bytes + connection->used, room, 0);
        if (count < 0 && errno == EAGAIN) return 1;
        if (count < 0) connection->failed = 1;
        if (count <= 0) return 0;
        connection->used += (size_t)count;
        if (!answer_what_is_whole(connection)) return 0;
    }
}

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        struct connection *connection = next_connection();
        struct epoll_event again = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
                                    .data.ptr = connection};
        if (!hear(connection)) close_connection(connection);
        else epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &again);
    }
    return NULL;
}

/* The accept handler: accepts all pending connections. */
__attribute__((noinline)) static void accept_connections(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        connection_opened(fd);
        struct connection *connection = malloc(sizeof *connection);
        if (connection == NULL) {
            connection_closed(fd, 1);
            close(fd);
            continue;
        }
        connection->fd = fd;
        connection->failed = 0;
        connection->used = 0;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
                                    .data.ptr = connection};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) close_connection(connection);
    }
}

int main(int count, char **arguments) {
    int port = 0, threads = 4;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--threads") == 0 && i + 1 < count) threads = atoi(arguments[++i]);
        else if (connections_option(count, arguments, &i)) continue;
        else port = atoi(arguments[i]);
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 || epoll_fd < 0 ||
        threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "could not listen on port %d\n", port);
        return 1;
    }
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0) return 1;
    }
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN, .data.ptr = NULL}};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &events[0]);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL) accept_connections(listener);
            else hand_over(events[i].data.ptr);
        }
    }
}
