/* queues_libzmq: sockets whose messages pile up: TYPE COUNT BYTES [SECONDS], where TYPE is
 * - PULL, SUB or ROUTER: a socket that is bound and never received from, fed over TCP by a child;
 * - RECEIVED: a PULL socket from which everything is received: the corrected program;
 * - PUSH: a socket that sends over TCP to a peer that takes the connection and never answers.
 *
 * No queue has a bound. The truth, one line, contains the socket's type and endpoint, the function that created it, how
 * many messages were sent and received, and how many of them wait in this process. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <zmq.h>

#include "victim.h"

enum { MOST_BYTES = 1 << 16 };

static long count;
static size_t bytes;
static useconds_t pause_us;
static char endpoint[64];
static char body[MOST_BYTES];

static void must(int holds, const char *what) {
    if (holds) return;
    say("{\"error\":\"%s: %s\"}\n", what, zmq_strerror(zmq_errno()));
    _exit(4);
}

SITE static void *open_feed(void *context, int type) {
    void *socket = zmq_socket(context, type);
    must(socket != NULL, "zmq_socket");
    return socket;
}

/* A socket that is bound to a free port, which becomes the endpoint. */
static int choose_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int bound = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(bound, (struct sockaddr *)&address, length) == 0 &&
             getsockname(bound, (struct sockaddr *)&address, &length) == 0,
         "a free port");
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
    return bound;
}

static void without_bounds(void *socket) {
    const int none = 0;
    must(zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none) == 0 &&
             zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof none) == 0,
         "no bounds");
}

SITE static void publish(void *socket) {
    must(zmq_send(socket, body, bytes, 0) == (int)bytes, "zmq_send");
}

/* The child of a receiver: sends all messages, then closes its connection. */
static void feed(int type, int word) {
    static const int peers[][2] = {{ZMQ_PULL, ZMQ_PUSH}, {ZMQ_SUB, ZMQ_XPUB}, {ZMQ_ROUTER, ZMQ_DEALER}};
    char go;
    if (read(word, &endpoint, sizeof endpoint) <= 0 || read(word, &go, 1) != 1) _exit(0);
    int peer = 0;
    for (size_t at = 0; at < sizeof peers / sizeof *peers; at++)
        if (peers[at][0] == type) peer = peers[at][1];
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, peer);
    without_bounds(socket);
    must(zmq_connect(socket, endpoint) == 0, "zmq_connect");
    /* What is published before the subscription arrives is dropped. */
    if (peer == ZMQ_XPUB) must(zmq_recv(socket, &go, 1, 0) > 0, "a subscription");
    for (long at = 0; at < count; at++) {
        publish(socket);
        if (pause_us > 0) usleep(pause_us);
    }
    zmq_close(socket);
    zmq_ctx_term(context);
    _exit(0);
}

static long descriptors(void) {
    long found = 0;
    for (int fd = 0; fd < 256; fd++) found += fcntl(fd, F_GETFD) >= 0;
    return found;
}

static void tell(const char *type, long sent, long received, long waiting) {
    say("{\"type\":\"%s\",\"endpoint\":\"%s\",\"function\":\"open_feed\",\"sent\":%ld,\"received\":%ld,\"waiting\":%ld}\n",
        type, endpoint, sent, received, waiting);
    await_word("exit");
    _exit(0);
}

static void receive(const char *name, int type, int received) {
    int words[2];
    must(pipe(words) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        close(words[1]);
        feed(type, words[0]);
    }
    close(words[0]);
    ready();
    void *context = zmq_ctx_new(), *socket = open_feed(context, type);
    without_bounds(socket);
    size_t length;
    close(choose_port());
    must((type != ZMQ_SUB || zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0) == 0) && zmq_bind(socket, endpoint) == 0,
         "zmq_bind");
    const long before = descriptors();
    must(write(words[1], endpoint, sizeof endpoint) == sizeof endpoint && write(words[1], "g", 1) == 1, "go");
    for (long at = 0; at < (received ? count : 0); at++)
        must(zmq_recv(socket, body, sizeof body, 0) == (int)bytes, "zmq_recv");
    /* A socket sends its subscriptions, and takes in new connections, in calls of its program only. */
    int events = 0;
    for (length = sizeof events; waitpid(child, NULL, WNOHANG) == 0; usleep(1000))
        must(type != ZMQ_SUB || zmq_getsockopt(socket, ZMQ_EVENTS, &events, &length) == 0, "zmq_getsockopt");
    /* The library closes the connection when it has read everything. */
    while (descriptors() > before) usleep(1000);
    tell(name, count, received ? count : 0, received ? 0 : count);
}

static void send_in_vain(void) {
    ready();
    must(listen(choose_port(), 8) == 0, "listen");
    void *context = zmq_ctx_new(), *socket = open_feed(context, ZMQ_PUSH);
    without_bounds(socket);
    must(zmq_connect(socket, endpoint) == 0, "zmq_connect");
    for (long at = 0; at < count; at++) {
        publish(socket);
        if (pause_us > 0) usleep(pause_us);
    }
    tell("PUSH", count, 0, count);
}

int main(int argument_count, char **arguments) {
    static const struct {
        const char *name;
        int type;
    } types[] = {{"PULL", ZMQ_PULL}, {"SUB", ZMQ_SUB}, {"ROUTER", ZMQ_ROUTER}};
    if (argument_count < 4) return 1;
    count = atol(arguments[2]);
    bytes = (size_t)atol(arguments[3]);
    if (argument_count > 4) pause_us = (useconds_t)(atof(arguments[4]) * 1e6 / (double)count);
    memset(body, 'b', sizeof body);
    for (size_t at = 0; at < sizeof types / sizeof *types; at++)
        if (strcmp(types[at].name, arguments[1]) == 0) receive(types[at].name, types[at].type, 0);
    if (strcmp(arguments[1], "RECEIVED") == 0) receive("PULL", ZMQ_PULL, 1);
    if (strcmp(arguments[1], "PUSH") == 0) send_in_vain();
    return 1;
}
