// uws_server [PORT] [--leak] [--leak-on-close N] [--leak-on-error] [--leak-fd N]: a small HTTP and
// WebSocket server on uWebSockets.
//
// `/` answers a page, `/truth` how many sessions were leaked and how many connections were accepted and
// closed, `/echo` is a WebSocket that answers each message with itself. With --leak, each WebSocket that
// opens remembers its visitor in a session that nobody frees. What connections leave behind is in
// connections.h; one ends badly if no request was whole, or as a WebSocket that nobody closed by a frame.
// PORT 0 (the default) takes any free port; the first line on stdout says which. Loopback only.
#include <App.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "connections.h"

// What the server keeps of a visitor.
struct Session {
    Session *next;
    char visitor[64];
    char preferences[1000 - sizeof(Session *) - 64];
};

// What belongs to one WebSocket; its destructor runs when the socket closes.
struct Visitor {
    std::string last;
};

static Session *sessions; // grows for ever: nothing takes one out again
static unsigned long leaked;

// The leak: a session that no code path ever frees.
__attribute__((noinline)) static void remember_session(std::string_view visitor) {
    auto *session = new Session{};
    memcpy(session->visitor, visitor.data(), std::min(visitor.size(), sizeof session->visitor - 1));
    session->next = sessions;
    sessions = session;
    leaked++;
}

// The fd of a socket, also of one that was closed a moment ago.
template <typename Socket> static int fd_of(Socket *socket) {
    return static_cast<int>(reinterpret_cast<intptr_t>(
        us_socket_get_native_handle(0, reinterpret_cast<us_socket_t *>(socket))));
}

int main(int argc, char **argv) {
    int port = 0;
    bool leak = false;
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--leak") == 0) leak = true;
        else if (connections_option(argc, argv, &at)) continue;
        else port = atoi(argv[at]);
    }
    uWS::App app;
    // Of HTTP alone: a connection that has become a WebSocket closes as one.
    app.filter([](auto *answer, int change) {
        if (change > 0) connection_opened(fd_of(answer));
        else connection_closed(fd_of(answer), 0);
    });
    app.get("/", [](auto *answer, auto *request) {
        connection_heard(fd_of(answer));
        answer->end("hello, you asked for " + std::string(request->getUrl()) + "\n");
    });
    app.get("/truth", [](auto *answer, auto *) {
        connection_heard(fd_of(answer));
        char counts[CONNECTIONS_TEXT];
        connections_text(counts, sizeof counts);
        answer->end("{\"leaked_count\":" + std::to_string(leaked) + ",\"leaked_bytes\":" +
                    std::to_string(leaked * sizeof(Session)) + "," + counts + "}\n");
    });
    uWS::App::WebSocketBehavior<Visitor> echo;
    echo.open = [leak](auto *socket) {
        connection_heard(fd_of(socket));
        if (leak) remember_session(socket->getRemoteAddressAsText());
    };
    echo.message = [](auto *socket, std::string_view message, uWS::OpCode code) {
        socket->getUserData()->last = message;
        socket->send(message, code);
    };
    // 1006: closed without a frame that says so.
    echo.close = [](auto *socket, int code, std::string_view) {
        connection_closed(fd_of(socket), code == 1006);
    };
    app.ws<Visitor>("/echo", std::move(echo));
    app.listen("127.0.0.1", port, [](us_listen_socket_t *listening) {
        if (listening == nullptr) {
            fprintf(stderr, "could not listen\n");
            exit(1);
        }
        printf("listening %d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listening)));
        fflush(stdout);
    });
    app.run();
}
