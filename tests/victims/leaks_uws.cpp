// leaks_uws: leaks of servers on uWebSockets, one case each. See leaks.h.
//
// The server has a thread of its own, which runs the loop; the main thread is its clients, and sends it work through
// Loop::defer. Closed sockets are freed at the end of a turn of the loop: two turns later they are destroyed.
#include <App.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <semaphore>
#include <string>
#include <thread>

#include "leaks.h"

struct Visitor {
    void *notes;
};
using Socket = uWS::WebSocket<false, true, Visitor>;

static uWS::Loop *loop;
static us_loop_t *raw_loop;
static us_socket_context_t *plain, *secure;
static int app_port, secure_port, upstream_port, refused_port;
static bool correct;
// State of the loop's thread; the main thread waits for it.
static std::counting_semaphore<> done{0};

static void on_loop(std::function<void()> work) {
    loop->defer([&work] {
        work();
        done.release();
    });
    done.acquire();
}

// Has the loop free closed sockets.
static void two_turns() {
    on_loop([] {});
    on_loop([] {});
}

static int client(int port, const std::string &says, bool slow = false) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), few = 4096;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (slow) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
    must(fd >= 0 && connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0, "connect");
    must(write(fd, says.data(), says.size()) == static_cast<ssize_t>(says.size()), "write");
    return fd;
}

static std::string websocket(const char *path) {
    return std::string("GET ") + path +
           " HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
}

/* --- timers, loops, contexts, listeners --- */

SITE static us_timer_t *start_deadline() {
    us_timer_t *timer = us_create_timer(raw_loop, 0, 0);
    must(timer != nullptr, "us_create_timer");
    us_timer_set(timer, [](us_timer_t *) {}, 3600 * 1000, 0);
    made("us_timer", 1);
    made("fd", 1);
    return timer;
}

static void timer_not_closed(long count, int corrected) {
    on_loop([=] {
        for (long at = 0; at < count; at++) {
            us_timer_t *timer = start_deadline();
            kept[at] = timer;
            if (!corrected) continue;
            us_timer_close(timer);
            gone("us_timer", 1);
            gone("fd", 1);
        }
    });
    two_turns();
}

static void nothing_of_loop(us_loop_t *) {}

SITE static us_loop_t *start_worker() {
    us_loop_t *worker = us_create_loop(nullptr, nothing_of_loop, nothing_of_loop, nothing_of_loop, 0);
    must(worker != nullptr, "us_create_loop");
    made("us_loop", 1);
    made("us_timer", 1);
    made("us_async", 1);
    // Of epoll, of its timer, and of its wakeup.
    made("fd", 3);
    return worker;
}

static void loop_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        us_loop_t *worker = start_worker();
        kept[at] = worker;
        if (!corrected) continue;
        us_loop_free(worker);
        gone("us_loop", 1);
        gone("us_timer", 1);
        gone("us_async", 1);
        gone("fd", 3);
    }
}

SITE static us_socket_context_t *make_tenant() {
    us_socket_context_t *tenant = us_create_socket_context(0, raw_loop, 0, {});
    must(tenant != nullptr, "us_create_socket_context");
    made("us_socket_context", 1);
    return tenant;
}

static void socket_context_not_freed(long count, int corrected) {
    on_loop([=] {
        for (long at = 0; at < count; at++) {
            us_socket_context_t *tenant = make_tenant();
            kept[at] = tenant;
            if (!corrected) continue;
            us_socket_context_free(0, tenant);
            gone("us_socket_context", 1);
        }
    });
    two_turns();
}

// A thread keeps the texts of its last errors, one per slot of a ring: here, of failed lookups.
static void forget_errors() {
    for (int places = 0; places < ERR_NUM_ERRORS; places++) {
        ERR_raise(ERR_LIB_USER, 1);
        ERR_set_error_data(const_cast<char *>(""), 0);
    }
    ERR_clear_error();
}

SITE static us_socket_context_t *make_secure_tenant() {
    us_socket_context_t *tenant = us_create_socket_context(1, raw_loop, 0, {});
    must(tenant != nullptr, "us_create_socket_context");
    made("us_socket_context", 1);
    made("SSL_CTX", 1);
    made("EVP_PKEY", 1);
    gone("EVP_PKEY", 1);
    return tenant;
}

static void tls_context_not_freed(long count, int corrected) {
    on_loop([=] {
        for (long at = 0; at < count; at++) {
            us_socket_context_t *tenant = make_secure_tenant();
            kept[at] = tenant;
            if (!corrected) continue;
            us_socket_context_free(1, tenant);
            gone("us_socket_context", 1);
            gone("SSL_CTX", 1);
        }
        forget_errors();
    });
    two_turns();
}

SITE static us_listen_socket_t *listen_again() {
    us_listen_socket_t *listener = us_socket_context_listen(0, plain, "127.0.0.1", 0, 0, 0);
    must(listener != nullptr, "us_socket_context_listen");
    made("us_listen_socket", 1);
    made("socket", 1);
    return listener;
}

static void listen_socket_not_closed(long count, int corrected) {
    on_loop([=] {
        for (long at = 0; at < count; at++) {
            us_listen_socket_t *listener = listen_again();
            kept[at] = listener;
            if (!corrected) continue;
            us_listen_socket_close(0, listener);
            gone("us_listen_socket", 1);
            gone("socket", 1);
        }
    });
    two_turns();
}

/* --- connections --- */

static us_socket_t *on_opened(us_socket_t *socket, int, char *, int) {
    done.release();
    return socket;
}

SITE static us_socket_t *connect_upstream(int port) {
    us_socket_t *socket = us_socket_context_connect(0, plain, "127.0.0.1", port, nullptr, 0, sizeof(void *));
    must(socket != nullptr, "us_socket_context_connect");
    made("us_socket", 1);
    made("socket", 1);
    return socket;
}

static void socket_not_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        on_loop([=] { kept[at] = connect_upstream(upstream_port); });
        done.acquire();
        if (!corrected) continue;
        on_loop([=] { us_socket_close(0, static_cast<us_socket_t *>(kept[at]), 0, nullptr); });
        two_turns();
        gone("us_socket", 1);
        gone("socket", 1);
    }
}

SITE static void *begin_exchange() {
    void *exchange = calloc(1, 700);
    must(exchange != nullptr, "calloc");
    made("heap", 1);
    return exchange;
}

static us_socket_t *on_refused(us_socket_t *socket, int) {
    if (correct) {
        free(*static_cast<void **>(us_socket_ext(0, socket)));
        gone("heap", 1);
    }
    done.release();
    return socket;
}

// Nobody listens: data prepared for the connection leaks.
static void data_not_freed_after_failed_connect(long count, int corrected) {
    correct = corrected;
    for (long at = 0; at < count; at++) {
        on_loop([] {
            us_socket_t *socket = connect_upstream(refused_port);
            *static_cast<void **>(us_socket_ext(0, socket)) = begin_exchange();
        });
        done.acquire();
        two_turns();
        gone("us_socket", 1);
        gone("socket", 1);
    }
}

SITE static void *remember_visitor() {
    void *notes = calloc(1, 600);
    must(notes != nullptr, "calloc");
    made("heap", 1);
    return notes;
}

static void opened(auto *socket) {
    socket->getUserData()->notes = remember_visitor();
    made("us_socket", 1);
}

static void closed(auto *socket) {
    gone("us_socket", 1);
    if (correct) {
        free(socket->getUserData()->notes);
        gone("heap", 1);
    }
    done.release();
}

// The target of a connection's data pointer.
static void connection_data_not_freed(long count, int corrected) {
    correct = corrected;
    for (long at = 0; at < count; at++) {
        int fd = client(app_port, websocket("/visit"));
        char answer;
        must(read(fd, &answer, 1) == 1, "an answer");
        close(fd);
        done.acquire();
    }
    two_turns();
}

SITE static void *start_lookup() {
    void *lookup = calloc(1, 900);
    must(lookup != nullptr, "calloc");
    made("heap", 1);
    return lookup;
}

// The visitor leaves before an answer is found, and nobody ends the search.
static void operation_not_ended_when_aborted(long count, int corrected) {
    correct = corrected;
    for (long at = 0; at < count; at++) {
        int fd = client(app_port, "GET /lookup HTTP/1.1\r\nHost: here\r\n\r\n");
        done.acquire();
        close(fd);
        done.acquire();
    }
    two_turns();
}

static std::string more(50000, 'm');

SITE static void send_to_slow_reader(Socket *socket) {
    // The second is one too many, if there is a limit.
    for (int times = 0; times < 2; times++) socket->send(more, uWS::OpCode::TEXT);
    must(correct || socket->getBufferedAmount() > 0, "a buffer");
}

// Its messages wait in the server without bound; the corrected variant closes it.
static void buffers_of_slow_readers(long count, int corrected) {
    correct = corrected;
    static int fds[MOST_OBJECTS];
    for (long at = 0; at < count; at++) {
        fds[at] = client(app_port, websocket(corrected ? "/bounded" : "/unbounded"), true);
        done.acquire();
        if (!corrected) {
            made("heap", 1);
            continue;
        }
        done.acquire();
        close(fds[at]);
    }
    two_turns();
}

static int waiting[MOST_OBJECTS];

// Requests that nobody answers: their sockets stay as long as their visitors wait.
static void request_never_answered(long count, int corrected) {
    correct = corrected;
    for (long at = 0; at < count; at++) {
        waiting[at] = client(app_port, "GET /slow HTTP/1.1\r\nHost: here\r\n\r\n");
        done.acquire();
        made("us_socket", 1);
        if (!corrected) continue;
        char answer;
        must(read(waiting[at], &answer, 1) == 0, "its end");
        close(waiting[at]);
        gone("us_socket", 1);
    }
    two_turns();
}

static us_socket_t *last_opened;

// Clients that connect and send nothing hold TLS objects.
static void tls_connection_not_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        waiting[at] = client(secure_port, "");
        done.acquire();
        made("us_socket", 1);
        made("SSL", 1);
        if (!corrected) continue;
        on_loop([] { us_socket_close(1, last_opened, 0, nullptr); });
        two_turns();
        close(waiting[at]);
        gone("us_socket", 1);
        gone("SSL", 1);
    }
}

static const struct leak_case CASES[] = {
    {"timer_not_closed", "us_timer", "start_deadline", timer_not_closed},
    {"loop_not_freed", "us_loop", "start_worker", loop_not_freed},
    {"socket_context_not_freed", "us_socket_context", "make_tenant", socket_context_not_freed},
    {"tls_context_not_freed", "SSL_CTX", "make_secure_tenant", tls_context_not_freed},
    {"listen_socket_not_closed", "us_listen_socket", "listen_again", listen_socket_not_closed},
    {"socket_not_closed", "us_socket", "connect_upstream", socket_not_closed},
    {"data_not_freed_after_failed_connect", "heap", "begin_exchange", data_not_freed_after_failed_connect},
    {"connection_data_not_freed", "heap", "remember_visitor", connection_data_not_freed},
    {"operation_not_ended_when_aborted", "heap", "start_lookup", operation_not_ended_when_aborted},
    {"buffers_of_slow_readers", "heap", "send_to_slow_reader", buffers_of_slow_readers, "client"},
    {"request_never_answered", "us_socket", "serve", request_never_answered, "client"},
    {"tls_connection_not_closed", "SSL", "serve", tls_connection_not_closed, "client"},
};

/* --- the server --- */

static uWS::App::WebSocketBehavior<Visitor> slow(unsigned limit) {
    uWS::App::WebSocketBehavior<Visitor> behavior;
    behavior.maxBackpressure = limit;
    behavior.closeOnBackpressureLimit = limit != 0;
    behavior.idleTimeout = 0;
    behavior.sendPingsAutomatically = false;
    behavior.open = [](Socket *socket) {
        int few = 4096, fd = static_cast<int>(reinterpret_cast<intptr_t>(socket->getNativeHandle()));
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &few, sizeof few);
        made("us_socket", 1);
        send_to_slow_reader(socket);
        done.release();
    };
    behavior.close = [](Socket *, int, std::string_view) {
        gone("us_socket", 1);
        done.release();
    };
    return behavior;
}

// All incoming connections are created here.
SITE static void serve(std::binary_semaphore *begun) {
    uWS::App app;
    app.get("/lookup", [](auto *answer, auto *) {
        void *lookup = start_lookup();
        made("us_socket", 1);
        answer->onAborted([lookup] {
            gone("us_socket", 1);
            if (correct) {
                free(lookup);
                gone("heap", 1);
            }
            done.release();
        });
        done.release();
    });
    app.get("/slow", [](auto *answer, auto *) {
        answer->onAborted([] {});
        // A request has a time limit, but its answer has none.
        if (correct) answer->close();
        done.release();
    });
    uWS::App::WebSocketBehavior<Visitor> visit;
    visit.open = [](Socket *socket) { opened(socket); };
    visit.close = [](Socket *socket, int, std::string_view) { closed(socket); };
    app.ws<Visitor>("/visit", std::move(visit));
    app.ws<Visitor>("/bounded", slow(1000));
    app.ws<Visitor>("/unbounded", slow(0));
    app.listen("127.0.0.1", 0, [](us_listen_socket_t *listening) {
        must(listening != nullptr, "listen");
        app_port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listening));
    });
    loop = uWS::Loop::get();
    raw_loop = reinterpret_cast<us_loop_t *>(loop);
    plain = us_create_socket_context(0, raw_loop, 0, {});
    secure = us_create_socket_context(1, raw_loop, 0, {});
    us_socket_context_on_open(0, plain, on_opened);
    us_socket_context_on_open(1, secure, [](us_socket_t *socket, int, char *, int) {
        last_opened = socket;
        done.release();
        return socket;
    });
    for (auto [ssl, context] : {std::pair{0, plain}, std::pair{1, secure}}) {
        us_socket_context_on_close(ssl, context, [](us_socket_t *socket, int, void *) { return socket; });
        us_socket_context_on_end(ssl, context, [](us_socket_t *socket) { return socket; });
        us_socket_context_on_data(ssl, context, [](us_socket_t *socket, char *, int) { return socket; });
        us_socket_context_on_writable(ssl, context, [](us_socket_t *socket) { return socket; });
        us_socket_context_on_timeout(ssl, context, [](us_socket_t *socket) { return socket; });
        us_socket_context_on_long_timeout(ssl, context, [](us_socket_t *socket) { return socket; });
        us_socket_context_on_connect_error(ssl, context, on_refused);
    }
    us_listen_socket_t *listening = us_socket_context_listen(1, secure, "127.0.0.1", 0, 0, 0);
    must(listening != nullptr, "listen");
    secure_port = us_socket_local_port(1, reinterpret_cast<us_socket_t *>(listening));
    begun->release();
    app.run();
}

static int bound(int listening) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    socklen_t length = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(fd, reinterpret_cast<sockaddr *>(&address), length) == 0, "bind");
    must(!listening || listen(fd, MOST_OBJECTS) == 0, "listen");
    must(getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0, "getsockname");
    return ntohs(address.sin_port);
}

static void set_up() {
    upstream_port = bound(1);
    refused_port = bound(0);
    static std::binary_semaphore begun{0};
    std::thread(serve, &begun).detach();
    begun.acquire();
}

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
