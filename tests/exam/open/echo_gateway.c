/* A server for TCP on loopback, in one thread with epoll. Clients, in a process of their own, connect, send a few
 * lines, and close: thirty connections a second.
 *
 * Variants: `every`: each connection forgets its copy of the peer's name. `tenth`: only connections that sent
 * `UPGRADE`, one in ten, forget the state of the upgrade. `corrected`: both are freed with the connection.
 * Hard: connections, their buffers and descriptors come and go at the same rate; the leak is per connection, whatever
 * the rate is, and reports should say so. */
#include "../exam.h"
#include <sys/epoll.h>

enum { EVERY, TENTH };

enum { ACCEPTED, CONNECTIONS, NAMES, UPGRADES, REPLIES };
static struct site sites[] = {
    HEALTHY("accept_connection", "descriptor", "open connections"),
    HEALTHY("open_connection", "heap", "open connections"),
    PARTLY_LEAKS("copy_peer_name", "heap", "each connection that ends forgets its peer's name", "open connections"),
    PARTLY_LEAKS("begin_upgrade", "heap", "connections that were upgraded, one in ten, forget it", "open connections"),
    HEALTHY("format_reply", "heap", "freed at once"),
};

struct connection {
    int descriptor;
    char *name, *upgrade, input[512];
};
enum { NAME = 46, UPGRADE = 700 };

static SITE int accept_connection(int listener) {
    return opened(&sites[ACCEPTED], accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static SITE struct connection *open_connection(void) {
    return (struct connection *)acquired(&sites[CONNECTIONS], calloc(1, sizeof(struct connection)),
                                         sizeof(struct connection));
}

static SITE char *copy_peer_name(void) { return (char *)acquired(&sites[NAMES], malloc(NAME), NAME); }

static SITE char *begin_upgrade(void) { return (char *)acquired(&sites[UPGRADES], malloc(UPGRADE), UPGRADE); }

static SITE char *format_reply(size_t size) { return (char *)acquired(&sites[REPLIES], malloc(size), size); }

static void drop(struct site *site, void *block, size_t size, int forget) {
    if (block == NULL) return;
    if (forget) {
        lost(site, size);
        return;
    }
    released(site, size);
    free(block);
}

static void close_connection(struct connection *connection, int variant) {
    drop(&sites[NAMES], connection->name, NAME, variant == EVERY);
    drop(&sites[UPGRADES], connection->upgrade, UPGRADE, variant == TENTH);
    released(&sites[ACCEPTED], 0);
    close(connection->descriptor);
    drop(&sites[CONNECTIONS], connection, sizeof *connection, 0);
}

static void answer(struct connection *connection, int variant) {
    ssize_t length = recv(connection->descriptor, connection->input, sizeof connection->input, 0);
    if (length <= 0) {
        close_connection(connection, variant);
        return;
    }
    if (connection->input[0] == 'U' && connection->upgrade == NULL)
        connection->upgrade = (char *)memset(begin_upgrade(), 'u', UPGRADE);
    char *reply = format_reply((size_t)length + 16);
    memset(reply, 'r', (size_t)length);
    send(connection->descriptor, reply, (size_t)length, MSG_NOSIGNAL);
    released(&sites[REPLIES], (size_t)length + 16);
    free(reply);
}

static void serve(int listener, int poller, int variant) {
    struct epoll_event events[64], event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (working()) {
        int ready = epoll_wait(poller, events, 64, 10);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr != NULL) {
                answer((struct connection *)events[i].data.ptr, variant);
                continue;
            }
            int descriptor = accept_connection(listener);
            struct connection *connection = open_connection();
            connection->descriptor = descriptor;
            connection->name = (char *)memset(copy_peer_name(), 'n', NAME);
            event.data.ptr = connection;
            epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
        }
    }
}

/* The clients: each talks three times within two seconds. */
static void be_clients(const struct sockaddr_in *address) {
    static struct client {
        struct timed timed;
        int connection, left, upgrades;
    } clients[256], *unused[256];
    static struct wheel wheel;
    struct dice dice = {58};
    struct pace arrivals = {0, 0};
    int left = 0;
    while (left < 256) unused[left] = &clients[left], left++;
    for (long n; (n = due(&arrivals, 30)) >= 0;) {
        for (; n > 0 && left > 0; n--) {
            struct client *client = unused[--left];
            client->connection = connect_to(address);
            client->left = 3;
            client->upgrades = chance(&dice, 0.1);
            wheel_add(&wheel, client, now());
        }
        for (struct timed *next, *timed = wheel_ended(&wheel, now()); timed != NULL; timed = next) {
            struct client *client = (struct client *)timed;
            char reply[64];
            next = timed->next;
            if (client->left-- == 0) {
                close(client->connection);
                unused[left++] = client;
                continue;
            }
            if (send(client->connection, client->upgrades ? "UPGRADE\n" : "HELLO\n", 6, MSG_NOSIGNAL) == 6)
                while (working() && recv(client->connection, reply, sizeof reply, MSG_DONTWAIT) < 0) nap(0.0002);
            wheel_add(&wheel, client, now() + about(&dice, 0.6));
        }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in address;
    int start[2], variant = choose(argc, argv, "every tenth corrected");
    int listener = listen_on_loopback(&address), poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0 || pipe(start) != 0) die("pipe");
    if (fork_child() == 0) {
        wait_for_go(start[0]);
        be_clients(&address);
    }
    begin();
    send_go(start[1], 1);
    serve(listener, poller, variant);
    FINISH("echo_gateway", sites);
}
