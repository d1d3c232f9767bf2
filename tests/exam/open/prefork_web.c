/* A web server with four processes that are forked before `go`, as Apache's prefork. They accept from one socket; each
 * has a cache of its own, and answers requests of clients over TCP on loopback, 60 a second in all.
 *
 * Truth: `leaks`: a request with a cookie, one in five, leaves a copy of it in the process that served it. `corrected`:
 * the copy is freed with the request.
 * Hard: the process that a user names, the parent, allocates nothing; the leak is spread over four processes, and must
 * become one finding. Their caches fill at the same time. */
#include "../exam.h"

enum { WORKERS = 4, FRAGMENTS = 600 };

enum { ACCEPTED, REQUESTS, COOKIES, CACHED };
static struct site *sites;
static const struct site initial[] = {
    HEALTHY("accept_client", "descriptor", "closed with the request"),
    HEALTHY("parse_request", "heap", "freed with the request"),
    PARTLY_LEAKS("copy_cookie", "heap", "each request with a cookie leaves its copy", "freed with the request"),
    HEALTHY("cache_fragment", "heap", "cache of each process, full at 600"),
};

static SITE int accept_client(int listener) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return descriptor < 0 ? -1 : opened(&sites[ACCEPTED], descriptor); /* another process may have been first */
}

static SITE char *parse_request(size_t size) { return (char *)acquired(&sites[REQUESTS], malloc(size), size); }

static SITE char *copy_cookie(size_t size) { return (char *)acquired(&sites[COOKIES], malloc(size), size); }

static SITE char *cache_fragment(size_t size) { return (char *)acquired(&sites[CACHED], malloc(size), size); }

static void release(struct site *site, char *block, size_t size) {
    released(site, size);
    free(block);
}

static void handle(int client, struct dice *dice, char **fragments, int leaks) {
    char text[64];
    size_t size = (size_t)between(dice, 300, 1500), cookie_size = (size_t)between(dice, 40, 400);
    char *request = (char *)memset(parse_request(size), 'q', size);
    ssize_t got = recv(client, text, sizeof text, 0);
    char **fragment = &fragments[skewed(dice, FRAGMENTS)];
    if (*fragment == NULL) *fragment = (char *)memset(cache_fragment(700), 'f', 700);
    if (got > 0 && text[0] == 'C') {
        char *cookie = (char *)memset(copy_cookie(cookie_size), 'c', cookie_size);
        if (leaks) lost(&sites[COOKIES], cookie_size);
        else release(&sites[COOKIES], cookie, cookie_size);
    }
    send(client, *fragment, 700, MSG_NOSIGNAL);
    release(&sites[REQUESTS], request, size);
    released(&sites[ACCEPTED], 0);
    close(client);
}

static void work(int number, int listener, int start, int done, int leaks) {
    static char *fragments[FRAGMENTS];
    struct dice dice = {(uint64_t)number + 63};
    struct pollfd ready = {listener, POLLIN, 0};
    wait_for_go(start);
    while (working()) {
        if (poll(&ready, 1, 10) <= 0) continue;
        int client = accept_client(listener);
        if (client >= 0) handle(client, &dice, fragments, leaks);
    }
    if (write(done, "d", 1) != 1) _exit(3);
    for (;;) pause(); /* still holding everything; it ends with the parent */
}

static void be_clients(const struct sockaddr_in *address) {
    struct dice dice = {70};
    struct pace requests = {0, 0};
    char page[1024];
    for (long n; (n = due(&requests, 60)) >= 0;)
        while (n-- > 0 && working()) {
            int connection = connect_to(address);
            send(connection, chance(&dice, 0.2) ? "COOKIE\n" : "GET /\n", 6, MSG_NOSIGNAL);
            struct pollfd readable = {connection, POLLIN, 0};
            while (working() && poll(&readable, 1, 10) <= 0) continue;
            if (recv(connection, page, sizeof page, MSG_DONTWAIT) < 0) page[0] = 0;
            close(connection);
        }
    _exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in address;
    int start[2], done[2], leaks = choose(argc, argv, "leaks corrected") == 0;
    int listener = listen_on_loopback(&address);
    sites = share_sites(initial, sizeof initial);
    if (pipe(start) != 0 || pipe(done) != 0) die("pipe");
    for (int i = 0; i < WORKERS; i++)
        if (fork_child() == 0) work(i, listener, start[0], done[1], leaks);
    if (fork_child() == 0) {
        wait_for_go(start[0]);
        be_clients(&address);
    }
    begin();
    send_go(start[1], WORKERS + 1);
    char byte;
    for (int i = 0; i < WORKERS; i++)
        if (read(done[0], &byte, 1) != 1) die("read");
    print_truth("prefork_web", sites, sizeof initial / sizeof *initial);
}
