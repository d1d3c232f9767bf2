/* A server that pushes messages to subscribers over TCP on loopback. A third of the clients, in a process of their own,
 * do not close their connection but reset it, as mobile phones do.
 *
 * Variants: `outbox`: after a reset the connection's outbox is forgotten. `descriptor`: after a reset the connection is
 * removed from the loop but its descriptor is not closed. `corrected`: both are released.
 * Hard: the error path is the only one that is wrong, and the kernel has no connection any more: only the descriptor is
 * left. Subscribers that are idle hold an outbox just as long. */
#include "../exam.h"
#include <errno.h>
#include <sys/epoll.h>

enum { OUTBOX_LOST, DESCRIPTOR_LOST, MOST = 1024, OUTBOX = 1800 };

enum { ACCEPTED, SUBSCRIBERS, OUTBOXES };
static struct site sites[] = {
    PARTLY_LEAKS("accept_subscriber", "descriptor", "connections that the peer resets are never closed",
                 "open connections"),
    HEALTHY("add_subscriber", "heap", "open connections"),
    PARTLY_LEAKS("make_outbox", "heap", "outboxes of connections that the peer resets are forgotten",
                 "open connections"),
};

struct subscriber {
    int descriptor, at;
    char *outbox, topic[200];
};
static struct subscriber *subscribers[MOST];
static int length;

static SITE int accept_subscriber(int listener) {
    return opened(&sites[ACCEPTED], accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

static SITE struct subscriber *add_subscriber(void) {
    return (struct subscriber *)acquired(&sites[SUBSCRIBERS], calloc(1, sizeof(struct subscriber)),
                                         sizeof(struct subscriber));
}

static SITE char *make_outbox(void) { return (char *)acquired(&sites[OUTBOXES], malloc(OUTBOX), OUTBOX); }

static void remove_subscriber(struct subscriber *gone, int poller, int was_reset, int variant) {
    epoll_ctl(poller, EPOLL_CTL_DEL, gone->descriptor, NULL);
    if (was_reset && variant == DESCRIPTOR_LOST) {
        lost(&sites[ACCEPTED], 0);
    } else {
        released(&sites[ACCEPTED], 0);
        close(gone->descriptor);
    }
    if (was_reset && variant == OUTBOX_LOST) {
        lost(&sites[OUTBOXES], OUTBOX);
    } else {
        released(&sites[OUTBOXES], OUTBOX);
        free(gone->outbox);
    }
    subscribers[gone->at] = subscribers[--length];
    subscribers[gone->at]->at = gone->at;
    released(&sites[SUBSCRIBERS], sizeof *gone);
    free(gone);
}

static void accept_one(int listener, int poller) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    int descriptor = accept_subscriber(listener);
    struct subscriber *subscriber = add_subscriber();
    subscriber->descriptor = descriptor;
    subscriber->at = length;
    subscriber->outbox = (char *)memset(make_outbox(), 'o', OUTBOX);
    subscribers[length++] = subscriber;
    event.data.ptr = subscriber;
    epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
}

static void serve(int listener, int poller, int variant) {
    struct epoll_event events[64], event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    struct dice dice = {59};
    struct pace pushes = {0, 0};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (long n; (n = due(&pushes, 40)) >= 0;) {
        for (; n > 0 && length > 0; n--) {
            struct subscriber *lucky = subscribers[roll(&dice) % (uint64_t)length];
            if (send(lucky->descriptor, lucky->outbox, 100, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
                remove_subscriber(lucky, poller, 1, variant);
        }
        int ready = epoll_wait(poller, events, 64, 0);
        for (int i = 0; i < ready; i++) {
            struct subscriber *subscriber = (struct subscriber *)events[i].data.ptr;
            char byte;
            if (subscriber != NULL) {
                ssize_t got = recv(subscriber->descriptor, &byte, 1, 0);
                if (got == 0 || (got < 0 && errno != EAGAIN)) remove_subscriber(subscriber, poller, got < 0, variant);
            } else if (length < MOST) {
                accept_one(listener, poller);
            }
        }
    }
}

static void be_clients(const struct sockaddr_in *address) {
    static struct client {
        struct timed timed;
        int connection;
    } clients[512], *unused[512];
    static struct wheel wheel;
    struct dice dice = {60};
    struct pace arrivals = {0, 0};
    int left = 0;
    while (left < 512) unused[left] = &clients[left], left++;
    for (long n; (n = due(&arrivals, 15)) >= 0;) {
        for (; n > 0 && left > 0; n--) {
            struct client *client = unused[--left];
            client->connection = connect_to(address);
            wheel_add(&wheel, client, now() + 0.5 + about(&dice, 4));
        }
        for (struct timed *next, *timed = wheel_ended(&wheel, now()); timed != NULL; timed = next) {
            struct client *client = (struct client *)timed;
            next = timed->next;
            if (chance(&dice, 0.33)) {
                reset_connection(client->connection);
            } else {
                char unread[4096]; /* closing with unread messages would be a reset, too */
                shutdown(client->connection, SHUT_WR);
                while (working() && recv(client->connection, unread, sizeof unread, 0) > 0) continue;
                close(client->connection);
            }
            unused[left++] = client;
        }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in address;
    int start[2], variant = choose(argc, argv, "outbox descriptor corrected");
    int listener = listen_on_loopback(&address), poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0 || pipe(start) != 0) die("pipe");
    if (fork_child() == 0) {
        wait_for_go(start[0]);
        be_clients(&address);
    }
    begin();
    send_go(start[1], 1);
    serve(listener, poller, variant);
    FINISH("push_server", sites);
}
