/* serves CONNECTIONS OPEN EVERY: a server and its client, for environments without a network.
 *
 * The server is one thread with epoll. The client, a child forked before `ready`, opens CONNECTIONS connections in
 * batches, sends a request on each, reads the answer and closes; OPEN more stay open. Every EVERY-th that closes leaks
 * a block (in connections.h); other memory of a connection is freed with it. The truth is printed when all have been
 * closed for longer than a second. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "connections.h"
#include "victim.h"

enum { AT_ONCE = 20, OPEN_MOST = 20, ASKED = 4, GRACE_US = 1600000 };

static struct sockaddr_in address = {.sin_family = AF_INET};

static void failed(const char *what) {
    perror(what);
    _exit(4);
}

/* Opens a connection and waits for its answer. */
static int talk(int fd) {
    char answer[ASKED];
    if (write(fd, "ping", ASKED) != ASKED || recv(fd, answer, ASKED, MSG_WAITALL) != ASKED) failed("talk");
    return fd;
}

static int begin(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) failed("connect");
    return fd;
}

/* The client, until its server is gone. */
static void ask(int start, unsigned long connections, unsigned long open) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(start, &byte, 1) != 1) _exit(0);
    int fds[AT_ONCE];
    for (unsigned long i = 0; i < open; i++) talk(begin());
    for (unsigned long done = 0; done < connections;) {
        int count = 0;
        for (; count < AT_ONCE && done < connections; done++) fds[count++] = begin();
        for (int i = 0; i < count; i++) talk(fds[i]);
        for (int i = 0; i < count; i++) close(fds[i]);
    }
    /* The end of the pipe means that the server has ended. */
    while (read(start, &byte, 1) == 1) {}
    _exit(0);
}

/* Memory of each connection until it closes. */
SITE static void *keep_connection(void) { return malloc(64); }

static void *kept[MOST_FDS];

SITE static void serve(int fd) {
    char asked[ASKED];
    ssize_t length = read(fd, asked, sizeof asked);
    if (length > 0) {
        connection_heard(fd);
        if (write(fd, asked, (size_t)length) != length) failed("answer");
        return;
    }
    connection_closed(fd, length < 0);
    free(kept[fd]);
    close(fd);
}

SITE static void welcome(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) != 0) failed("accept");
    connection_opened(fd);
    kept[fd] = keep_connection();
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    unsigned long connections = strtoul(arguments[1], NULL, 10), open = strtoul(arguments[2], NULL, 10);
    leak_on_close = atol(arguments[3]);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC), start[2];
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, events[AT_ONCE];
    if (open > OPEN_MOST || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 256) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted) != 0 || pipe2(start, O_CLOEXEC) != 0)
        failed("listen");
    pid_t client = fork();
    if (client < 0) failed("fork");
    if (client == 0) {
        close(start[1]);
        ask(start[0], connections, open);
    }
    close(start[0]);
    ready();
    if (write(start[1], "g", 1) != 1) failed("the client is gone");
    while (closed < connections) {
        int some = epoll_wait(epoll, events, AT_ONCE, -1);
        for (int i = 0; i < some; i++)
            if (events[i].data.fd == listener) welcome(epoll, listener);
            else serve(events[i].data.fd);
    }
    usleep(GRACE_US);
    char account[CONNECTIONS_TEXT];
    connections_text(account, sizeof account);
    say("{%s}\n", account);
    await_word("exit");
    return 0;
}
