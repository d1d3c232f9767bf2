// uws_server [PORT] [--leak] [--leak-on-close N] [--leak-on-error] [--leak-fd N] [--on-command] [--tls CERTIFICATE KEY]:
// a small HTTP and WebSocket server on uWebSockets.
//
// `/` answers a page, `/truth` how many sessions were leaked and how many connections were accepted and closed, `/echo`
// is a WebSocket that echoes each message. With --leak, each WebSocket that opens remembers its visitor in a session
// that nobody frees. Leaks per connection are in connections.h; one ends badly if no request was complete, or as a
// WebSocket without a close frame. PORT 0 (the default) takes any free port; the first line on stdout contains it.
// Loopback only.
//
// With --on-command it prints `ready`, and creates no object of uSockets before it reads a line. At the next line it
// stops listening, frees everything, prints `ended`, and waits for the end of its input. --tls requires uSockets with
// TLS.
#include <App.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "connections.h"

// The server's data of a visitor.
struct Session {
    Session *next;
    char visitor[64];
    char preferences[1000 - sizeof(Session *) - 64];
};

// What belongs to one WebSocket; its destructor runs when the socket closes.
struct Visitor {
    std::string last;
};

static Session *sessions; // only grows: nothing removes a session
static unsigned long leaked;

// The leak: a session that no code path ever frees.
__attribute__((noinline)) static void remember_session(std::string_view visitor) {
    auto *session = new Session{};
    memcpy(session->visitor, visitor.data(), std::min(visitor.size(), sizeof session->visitor - 1));
    session->next = sessions;
    sessions = session;
    leaked++;
}

// The fd of a socket, even if the socket was closed a moment ago.
template <typename Socket> static int fd_of(Socket *socket) {
    return static_cast<int>(reinterpret_cast<intptr_t>(
        us_socket_get_native_handle(0, reinterpret_cast<us_socket_t *>(socket))));
}

struct Options {
    int port = 0;
    bool leak = false, on_command = false;
    const char *certificate = nullptr, *key = nullptr;
};

// Handles that another thread needs to stop the server.
struct Server {
    std::atomic<uWS::Loop *> loop = nullptr;
    us_listen_socket_t *listens = nullptr;
};

// The thread's loop, which is freed with the thread.
template <bool TLS> static void serve(const Options &options, Server &server) {
    uWS::SocketContextOptions context;
    context.cert_file_name = options.certificate;
    context.key_file_name = options.key;
    uWS::TemplatedApp<TLS> app(context);
    // HTTP only: a connection that was upgraded to a WebSocket closes as one.
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
    typename uWS::TemplatedApp<TLS>::template WebSocketBehavior<Visitor> echo;
    echo.open = [leak = options.leak](auto *socket) {
        connection_heard(fd_of(socket));
        if (leak) remember_session(socket->getRemoteAddressAsText());
    };
    echo.message = [](auto *socket, std::string_view message, uWS::OpCode code) {
        socket->getUserData()->last = message;
        socket->send(message, code);
    };
    // 1006: closed without a close frame.
    echo.close = [](auto *socket, int code, std::string_view) {
        connection_closed(fd_of(socket), code == 1006);
    };
    app.template ws<Visitor>("/echo", std::move(echo));
    server.loop = uWS::Loop::get();
    app.listen("127.0.0.1", options.port, [&server](us_listen_socket_t *listening) {
        if (listening == nullptr) {
            fprintf(stderr, "could not listen\n");
            exit(1);
        }
        server.listens = listening;
        printf("listening %d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listening)));
        fflush(stdout);
    });
    app.run();
}

static void run_server(const Options &options, Server &server) {
#ifdef LIBUS_NO_SSL
    serve<false>(options, server);
#else
    if (options.certificate != nullptr) serve<true>(options, server);
    else serve<false>(options, server);
#endif
}

static void read_line() {
    for (int got = getchar(); got != '\n' && got != EOF;) got = getchar();
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

int main(int argc, char **argv) {
    Options options;
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--leak") == 0) options.leak = true;
        else if (strcmp(argv[at], "--on-command") == 0) options.on_command = true;
        else if (strcmp(argv[at], "--tls") == 0 && at + 2 < argc) {
            options.certificate = argv[++at];
            options.key = argv[++at];
        } else if (connections_option(argc, argv, &at)) continue;
        else options.port = atoi(argv[at]);
    }
    Server server;
    if (!options.on_command) {
        run_server(options, server);
        return 0;
    }
    say("ready");
    read_line();
    std::thread thread([&] { run_server(options, server); });
    read_line();
    // The loop ends when it has nothing left to wait for.
    server.loop.load()->defer([&] { us_listen_socket_close(options.certificate != nullptr, server.listens); });
    thread.join();
    say("ended");
    read_line();
}
