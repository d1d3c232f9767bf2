/* tcp_proxy: accepts connections on loopback, gives each an idle timer and a connection to the upstream from a pool,
 * relays one message, and closes.
 *
 * True: two causes, both descriptors. When the client resets its connection (1 %), the path that sees this frees the
 * tunnel without closing the accepted socket. When the upstream is late (2 %), the idle timer is not closed. The pool
 * of connections to the upstream is healthy: it grows to the largest number of tunnels at one time, 64 at most.
 *
 * Hard: a lost socket belongs to a connection that is gone; nearly all descriptors of both functions are closed; no
 * heap is lost; beside it descriptors of the pool stay open forever. */
#include "../exam.h"
#include <arpa/inet.h>
#include <errno.h>
#include <sys/timerfd.h>

enum { ACCEPT_CLIENT, START_IDLE_TIMER, CONNECT_UPSTREAM, NEW_TUNNEL, DIAL, TAKE_TUNNEL, SITES };
static struct site sites[SITES] = {
    PARTLY_LEAKS("accept_client", "descriptor", "the socket is not closed when the client has reset the connection",
                 "closed when the connection ends"),
    PARTLY_LEAKS("start_idle_timer", "descriptor", "the timer is not closed when the upstream is late",
                 "closed when the connection ends"),
    HEALTHY("connect_upstream", "descriptor", "pool of idle connections to the upstream, 64 at most"),
    HEALTHY("new_tunnel", "heap", "freed when the connection ends"),
    HEALTHY("dial", "descriptor", "the clients' ends, closed after two seconds"),
    HEALTHY("take_tunnel", "descriptor", "the upstream's ends of the pool"),
};

enum { POOL = 64, RATE = 80 };
struct tunnel {
    struct timed timed;
    int client, timer, upstream;
};

static struct dice dice = {443};
static struct wheel tunnels;
static int idle[POOL], idle_count, upstream_count, over;
static struct sockaddr_in front, back;

static void close_counted(struct site *site, int descriptor) {
    released(site, 0);
    close(descriptor);
}

SITE static int accept_client(int listener) {
    return opened(&sites[ACCEPT_CLIENT], accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

SITE static int start_idle_timer(void) {
    int timer = opened(&sites[START_IDLE_TIMER], timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    struct itimerspec minute = {.it_value.tv_sec = 60};
    timerfd_settime(timer, 0, &minute, NULL);
    return timer;
}

SITE static int connect_upstream(void) {
    int upstream = opened(&sites[CONNECT_UPSTREAM], socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(upstream, (struct sockaddr *)&back, sizeof back) != 0) die("upstream");
    return upstream;
}

SITE static struct tunnel *new_tunnel(void) {
    return acquired(&sites[NEW_TUNNEL], malloc(sizeof(struct tunnel)), sizeof(struct tunnel));
}

/* A client, or -1 while the proxy does not accept: the kernel would try for two minutes. */
SITE static int dial(void) {
    struct linger reset = {1, 0}; /* closing resets, so that no port waits for a minute */
    struct timeval patience = {.tv_sec = 1};
    int client = opened(&sites[DIAL], socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(client, (struct sockaddr *)&front, sizeof front) == 0) return client;
    if (errno != EINPROGRESS) die("dial");
    close_counted(&sites[DIAL], client);
    return -1;
}

SITE static int take_tunnel(int listener) {
    return opened(&sites[TAKE_TUNNEL], accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static int listen_on(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)address, size) != 0 || listen(listener, 512) != 0) die("listen");
    getsockname(listener, (struct sockaddr *)address, &size);
    return listener;
}

static void open_tunnel(int listener) {
    int client = accept_client(listener);
    if (idle_count == 0 && upstream_count == POOL) return close_counted(&sites[ACCEPT_CLIENT], client);
    struct tunnel *tunnel = new_tunnel();
    tunnel->client = client;
    tunnel->timer = start_idle_timer();
    if (idle_count > 0) tunnel->upstream = idle[--idle_count];
    else tunnel->upstream = connect_upstream(), upstream_count++;
    wheel_add(&tunnels, tunnel, now() + 0.1 + about(&dice, 0.2));
}

static void close_tunnel(struct tunnel *tunnel) {
    char message[512];
    ssize_t size = recv(tunnel->client, message, sizeof message, 0);
    int reset = size < 0 && errno == ECONNRESET, late = chance(&dice, 0.02);
    if (size > 0 && send(tunnel->upstream, message, (size_t)size, 0) == size &&
        (size = recv(tunnel->upstream, message, (size_t)size, MSG_WAITALL)) > 0)
        (void)!send(tunnel->client, message, (size_t)size, MSG_NOSIGNAL);
    idle[idle_count++] = tunnel->upstream;
    if (reset) lost(&sites[ACCEPT_CLIENT], 0);
    else close_counted(&sites[ACCEPT_CLIENT], tunnel->client);
    if (late) lost(&sites[START_IDLE_TIMER], 0);
    else close_counted(&sites[START_IDLE_TIMER], tunnel->timer);
    released(&sites[NEW_TUNNEL], sizeof *tunnel);
    free(tunnel);
}

static void *upstream_server(void *listener) {
    struct pollfd all[POOL + 1] = {{(int)(intptr_t)listener, POLLIN, 0}};
    char message[512];
    for (nfds_t length = 1; !__atomic_load_n(&over, __ATOMIC_ACQUIRE);) {
        if (poll(all, length, 20) <= 0) continue;
        for (nfds_t i = 1; i < length; i++) {
            if ((all[i].revents & POLLIN) == 0) continue;
            ssize_t size = recv(all[i].fd, message, sizeof message, 0);
            if (size > 0) (void)!send(all[i].fd, message, (size_t)size, 0);
        }
        if ((all[0].revents & POLLIN) != 0 && length <= POOL)
            all[length++] = (struct pollfd){take_tunnel(all[0].fd), POLLIN, 0};
    }
    return NULL;
}

static void *clients(void *unused) {
    enum { MOST = 1 << 16 };
    static struct { int socket; double end; } open[MOST];
    struct dice own = {8080};
    struct pace pace = {0};
    unsigned first = 0, next = 0;
    for (long n; (n = due(&pace, RATE)) >= 0;) {
        for (; n > 0; n--, next++) {
            char message[512] = "GET / HTTP/1.0\r\n\r\n";
            int client = dial();
            if (client < 0) break;
            open[next % MOST].socket = client;
            open[next % MOST].end = now() + 2;
            if (chance(&own, 0.01)) open[next % MOST].end = 0; /* gives up at once */
            else (void)!send(client, message, (size_t)between(&own, 20, 512), MSG_NOSIGNAL);
            if (open[next % MOST].end == 0) close_counted(&sites[DIAL], client);
        }
        for (; first != next && open[first % MOST].end < now(); first++)
            if (open[first % MOST].end != 0) close_counted(&sites[DIAL], open[first % MOST].socket);
    }
    return unused;
}

int main(void) {
    int listener = listen_on(&front), back_listener = listen_on(&back);
    begin();
    pthread_t upstream = start_thread(upstream_server, (void *)(intptr_t)back_listener);
    pthread_t client = start_thread(clients, NULL);
    struct timed *next;
    while (working()) {
        struct pollfd one = {listener, POLLIN, 0};
        if (poll(&one, 1, 5) > 0) open_tunnel(listener);
        for (struct timed *ended = wheel_ended(&tunnels, now()); ended != NULL; ended = next) {
            next = ended->next;
            close_tunnel((struct tunnel *)ended);
        }
    }
    pthread_join(client, NULL);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    pthread_join(upstream, NULL);
    FINISH("tcp_proxy", sites);
}
