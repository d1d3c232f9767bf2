/* storefront: an event loop that serves connections (socket pairs) with a buffer and a cart each; visitors stay for
 * about four seconds.
 *
 * True: healthy. The load rises evenly during the first three quarters of the run, from 10 to 160 visitors a second,
 * and stays there: memory and descriptors follow it, and every connection ends.
 *
 * Hard: for most of the run everything grows in a straight line: connections, their descriptors, buffers, and carts; a
 * cart is as large as its visitor stays long. */
#include "../exam.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { ACCEPT_VISITOR, NEW_CONNECTION, ADD_TO_CART, RENDER_PAGE, SITES };
static struct site sites[SITES] = {
    HEALTHY("accept_visitor", "descriptor", "both ends of the connections of present visitors"),
    HEALTHY("new_connection", "heap", "one for each present visitor; the load rises"),
    HEALTHY("add_to_cart", "heap", "items in the carts of present visitors; the load rises"),
    HEALTHY("render_page", "heap", "freed when the page is sent"),
};

struct item {
    struct item *next;
    long product;
    char options[48];
};
struct connection {
    struct timed timed;
    int server, visitor;
    struct item *cart;
    size_t used;
    char buffer[2048];
};

static struct dice dice = {300};
static struct wheel stays;
static int loop;

SITE static void accept_visitor(struct connection *connection) {
    int ends[2], status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
    connection->server = opened(&sites[ACCEPT_VISITOR], status < 0 ? status : ends[0]);
    connection->visitor = opened(&sites[ACCEPT_VISITOR], ends[1]);
}

SITE static struct connection *new_connection(void) {
    struct connection *connection = malloc(sizeof *connection);
    acquired(&sites[NEW_CONNECTION], connection, sizeof *connection);
    connection->cart = NULL;
    connection->used = 0;
    return connection;
}

SITE static void add_to_cart(struct connection *connection, long product) {
    struct item *item = acquired(&sites[ADD_TO_CART], malloc(sizeof *item), sizeof *item);
    item->product = product;
    item->next = connection->cart;
    connection->cart = item;
}

SITE static char *render_page(size_t size) {
    char *page = acquired(&sites[RENDER_PAGE], malloc(size), size);
    return memset(page, '<', size);
}

static void open_connection(void) {
    struct connection *connection = new_connection();
    accept_visitor(connection);
    struct epoll_event event = {EPOLLIN, {.ptr = connection}};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, connection->server, &event) != 0) die("epoll_ctl");
    wheel_add(&stays, connection, now() + about(&dice, 4));
}

static void serve(struct connection *connection) {
    ssize_t got = recv(connection->server, connection->buffer, sizeof connection->buffer, 0);
    if (got <= 0) return;
    connection->used = (size_t)got;
    size_t size = (size_t)between(&dice, 1000, 12000);
    char *page = render_page(size);
    (void)!send(connection->server, page, size, MSG_NOSIGNAL);
    released(&sites[RENDER_PAGE], size);
    free(page);
    if (chance(&dice, 0.5)) add_to_cart(connection, skewed(&dice, 5000));
}

static void close_connection(struct connection *connection) {
    for (struct item *next; connection->cart != NULL; connection->cart = next) {
        next = connection->cart->next;
        released(&sites[ADD_TO_CART], sizeof *next);
        free(connection->cart);
    }
    close(connection->server);
    released(&sites[ACCEPT_VISITOR], 0);
    close(connection->visitor);
    released(&sites[ACCEPT_VISITOR], 0);
    released(&sites[NEW_CONNECTION], sizeof *connection);
    free(connection);
}

/* Each visitor looks at a page about every second: at each turn, some of those of the wheel do. */
static void visitors_click(double share) {
    char page[16384];
    for (long slot = 0; slot < WHEEL_SLOTS; slot++)
        for (struct timed *timed = stays.slots[slot]; timed != NULL; timed = timed->next) {
            struct connection *connection = (struct connection *)timed;
            if (!chance(&dice, share)) continue;
            while (recv(connection->visitor, page, sizeof page, 0) > 0) continue;
            (void)!send(connection->visitor, "GET /product", 12, MSG_NOSIGNAL);
        }
}

int main(void) {
    struct pace pace = {0};
    struct epoll_event events[64];
    loop = epoll_create1(EPOLL_CLOEXEC);
    begin();
    double clicked = 0, rate = 10;
    for (long n; (n = due(&pace, rate)) >= 0;) {
        double at = now(), ramp = at / (duration() * 0.75);
        rate = 10 + 150 * (ramp < 1 ? ramp : 1);
        while (n-- > 0) open_connection();
        visitors_click(at - clicked < 1 ? at - clicked : 1);
        clicked = at;
        for (int ready; (ready = epoll_wait(loop, events, 64, 0)) > 0;)
            for (int i = 0; i < ready; i++) serve(events[i].data.ptr);
        struct timed *next;
        for (struct timed *ended = wheel_ended(&stays, now()); ended != NULL; ended = next) {
            next = ended->next;
            close_connection((struct connection *)ended);
        }
    }
    FINISH("storefront", sites);
}
