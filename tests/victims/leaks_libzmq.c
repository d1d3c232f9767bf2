/* leaks_libzmq: leaks of programs on libzmq, one case each. See leaks.h.
 *
 * A thread of the library destroys a socket some time after it was closed: terminating a context waits for all of its
 * sockets. So each case has its own context, which stays if a leaked object blocks its termination. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <zmq.h>

#include "leaks.h"

/* Larger than a message's inline content. */
enum { BODY = 300 };

static zmq_msg_t messages[MOST_OBJECTS];

SITE static void *make_context(void) {
    void *context = zmq_ctx_new();
    must(context != NULL, "zmq_ctx_new");
    made("zmq_ctx", 1);
    return context;
}

/* Returns when everything is destroyed. */
static void end_context(void *context, long sockets) {
    must(zmq_ctx_term(context) == 0, "zmq_ctx_term");
    gone("zmq_ctx", 1);
    if (sockets > 0) gone("zmq_socket", sockets);
}

SITE static void *open_socket(void *context, int type) {
    void *socket = zmq_socket(context, type);
    must(socket != NULL, "zmq_socket");
    made("zmq_socket", 1);
    return socket;
}

/* A pair of sockets within the process, the receiving end first; neither limits the number of messages. */
static void open_queue(void *context, void **to, void **from) {
    const int none = 0;
    *to = open_socket(context, ZMQ_PULL);
    *from = open_socket(context, ZMQ_PUSH);
    must(zmq_setsockopt(*to, ZMQ_RCVHWM, &none, sizeof none) == 0 &&
             zmq_setsockopt(*from, ZMQ_SNDHWM, &none, sizeof none) == 0 && zmq_bind(*to, "inproc://tasks") == 0 &&
             zmq_connect(*from, "inproc://tasks") == 0,
         "a queue");
}

/* --- sockets and contexts --- */

SITE static void *connect_worker(void *context) {
    void *socket = zmq_socket(context, ZMQ_REQ);
    must(socket != NULL, "zmq_socket");
    made("zmq_socket", 1);
    return socket;
}

static void socket_not_closed(long count, int corrected) {
    void *context = make_context();
    for (long at = 0; at < count; at++) {
        kept[at] = connect_worker(context);
        if (corrected) zmq_close(kept[at]);
    }
    if (corrected) end_context(context, count);
}

/* Closed where it is used, but not where it cannot be bound. */
static void socket_not_closed_after_error(long count, int corrected) {
    void *context = make_context();
    for (long at = 0; at < count; at++) {
        void *socket = connect_worker(context);
        must(zmq_bind(socket, "tcp://nowhere") != 0, "an address that is none");
        if (corrected) zmq_close(socket);
    }
    if (corrected) end_context(context, count);
}

SITE static void compose_report(zmq_msg_t *message) {
    must(zmq_msg_init_size(message, BODY) == 0, "zmq_msg_init_size");
    memset(zmq_msg_data(message), 'r', BODY);
    made("zmq_msg", 1);
}

/* Closed, with a message that nobody ever receives: by default the library waits without limit. */
static void socket_lingers(long count, int corrected) {
    static const int at_once = 0;
    void *context = make_context();
    for (long at = 0; at < count; at++) {
        void *socket = connect_worker(context);
        if (corrected) zmq_setsockopt(socket, ZMQ_LINGER, &at_once, sizeof at_once);
        /* Nobody listens on a port that is reserved. */
        must(zmq_connect(socket, "tcp://127.0.0.1:1") == 0, "zmq_connect");
        zmq_msg_t message;
        compose_report(&message);
        must(zmq_msg_send(&message, socket, 0) == BODY, "zmq_msg_send");
        zmq_close(socket);
        if (corrected) gone("zmq_msg", 1);
        if (!corrected) release_asked++;
    }
    if (corrected) end_context(context, count);
}

SITE static void *make_context_for_request(void) {
    void *context = zmq_ctx_new();
    must(context != NULL, "zmq_ctx_new");
    made("zmq_ctx", 1);
    return context;
}

static void context_not_terminated(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_context_for_request();
        if (corrected) end_context(kept[at], 0);
    }
}

/* --- messages --- */

SITE static void compose_message(zmq_msg_t *message) {
    must(zmq_msg_init_size(message, BODY) == 0, "zmq_msg_init_size");
    memset(zmq_msg_data(message), 'm', BODY);
    made("zmq_msg", 1);
}

static void message_not_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        compose_message(&messages[at]);
        if (!corrected) continue;
        zmq_msg_close(&messages[at]);
        gone("zmq_msg", 1);
    }
}

/* An unsent message still belongs to the program. */
static void message_not_closed_after_error(long count, int corrected) {
    void *context = make_context();
    void *socket = open_socket(context, ZMQ_PUSH);
    for (long at = 0; at < count; at++) {
        compose_message(&messages[at]);
        must(zmq_msg_send(&messages[at], socket, ZMQ_DONTWAIT) < 0 && errno == EAGAIN, "nobody to send to");
        if (!corrected) continue;
        zmq_msg_close(&messages[at]);
        gone("zmq_msg", 1);
    }
    zmq_close(socket);
    end_context(context, 1);
}

SITE static void enqueue_task(void *to) {
    zmq_msg_t message;
    must(zmq_msg_init_size(&message, BODY) == 0, "zmq_msg_init_size");
    memset(zmq_msg_data(&message), 't', BODY);
    must(zmq_msg_send(&message, to, 0) == BODY, "zmq_msg_send");
    made("zmq_msg", 1);
}

static void received_message_not_closed(long count, int corrected) {
    void *context = make_context(), *to, *from;
    open_queue(context, &to, &from);
    for (long at = 0; at < count; at++) {
        enqueue_task(from);
        zmq_msg_init(&messages[at]);
        must(zmq_msg_recv(&messages[at], to, 0) == BODY, "zmq_msg_recv");
        if (!corrected) continue;
        zmq_msg_close(&messages[at]);
        gone("zmq_msg", 1);
    }
    zmq_close(from);
    zmq_close(to);
    end_context(context, 2);
}

/* A queue longer than the receiver can ever consume; the corrected variant receives what is sent. */
static void queue_without_bound(long count, int corrected) {
    void *context = make_context(), *to, *from;
    open_queue(context, &to, &from);
    for (long at = 0; at < count; at++) {
        enqueue_task(from);
        if (!corrected) continue;
        char task[BODY];
        must(zmq_recv(to, task, BODY, 0) == BODY, "zmq_recv");
        gone("zmq_msg", 1);
    }
    if (!corrected) return;
    zmq_close(from);
    zmq_close(to);
    end_context(context, 2);
}

SITE static void enqueue_beats(void *to) {
    for (int at = 0; at < 256; at++) must(zmq_send(to, "beat", 4, 0) == 4, "zmq_send");
}

/* The same with messages without content: the queue's pieces of 256 messages each grow. */
static void queue_of_short_messages(long count, int corrected) {
    void *context = make_context(), *to, *from;
    open_queue(context, &to, &from);
    for (long at = 0; at < count; at++) {
        enqueue_beats(from);
        char beat[4];
        for (int one = 0; corrected && one < 256; one++) must(zmq_recv(to, beat, 4, 0) == 4, "zmq_recv");
        if (!corrected) made("zmq_pipe_chunk", 1);
    }
    if (!corrected) return;
    zmq_close(from);
    zmq_close(to);
    end_context(context, 2);
}

SITE static void *load_data(void) {
    void *data = calloc(1, 5000);
    must(data != NULL, "calloc");
    made("heap", 1);
    return data;
}

static void free_data(void *data, void *unused) {
    (void)unused;
    free(data);
    gone("heap", 1);
}

/* Data that the library would release with the message, which never ends. */
static void zero_copy_data_not_released(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        must(zmq_msg_init_data(&messages[at], load_data(), 5000, free_data, NULL) == 0, "zmq_msg_init_data");
        made("zmq_msg", 1);
        if (!corrected) continue;
        zmq_msg_close(&messages[at]);
        gone("zmq_msg", 1);
    }
}

/* --- timers and monitors --- */

SITE static void *make_timers(void) {
    void *timers = zmq_timers_new();
    must(timers != NULL, "zmq_timers_new");
    made("zmq_timers", 1);
    return timers;
}

static void timers_not_destroyed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_timers();
        if (!corrected) continue;
        zmq_timers_destroy(&kept[at]);
        gone("zmq_timers", 1);
    }
}

static void on_time(int timer, void *unused) { (void)timer, (void)unused; }

SITE static int remind(void *timers) {
    int timer = zmq_timers_add(timers, 3600 * 1000, on_time, NULL);
    must(timer >= 0, "zmq_timers_add");
    made("heap", 1);
    return timer;
}

static void timer_not_cancelled(long count, int corrected) {
    void *timers = make_timers();
    for (long at = 0; at < count; at++) {
        int timer = remind(timers);
        if (!corrected) continue;
        zmq_timers_cancel(timers, timer);
        /* Removes cancelled timers. */
        zmq_timers_timeout(timers);
        gone("heap", 1);
    }
    if (!corrected) return;
    zmq_timers_destroy(&timers);
    gone("zmq_timers", 1);
}

SITE static void *listen_to_events(void *context, void *socket, const char *name) {
    must(zmq_socket_monitor(socket, name, ZMQ_EVENT_ALL) == 0, "zmq_socket_monitor");
    void *events = zmq_socket(context, ZMQ_PAIR);
    must(events != NULL && zmq_connect(events, name) == 0, "zmq_socket");
    /* The library's end, and ours. */
    made("zmq_socket", 2);
    return events;
}

static long descriptors(void) {
    long found = 0;
    for (int fd = 0; fd < 4 * MOST_OBJECTS; fd++) found += fcntl(fd, F_GETFD) >= 0;
    return found;
}

/* A monitor's events are read from a socket of the program; it stays when the monitored socket is closed. */
static void monitor_not_closed(long count, int corrected) {
    void *context = make_context();
    long before = 0;
    for (long at = 0; at < count; at++) {
        char name[64];
        snprintf(name, sizeof name, "inproc://monitor-%ld", at);
        void *socket = open_socket(context, ZMQ_PULL);
        /* The first socket of a context starts its threads, which have descriptors of their own. */
        if (at == 0) before = descriptors() - 1;
        kept[at] = listen_to_events(context, socket, name);
        must(zmq_socket_monitor(socket, NULL, 0) == 0, "zmq_socket_monitor");
        zmq_close(socket);
        if (corrected) zmq_close(kept[at]);
    }
    if (corrected) {
        end_context(context, 3 * count);
        return;
    }
    /* Closes the monitored socket; the library closes its ends, which wait for ours. A socket has a descriptor. */
    release_asked += count;
    while (descriptors() != before + 2 * count) usleep(1000);
    gone("zmq_socket", count);
}

static const struct leak_case CASES[] = {
    {"socket_not_closed", "zmq_socket", "connect_worker", socket_not_closed},
    {"socket_not_closed_after_error", "zmq_socket", "connect_worker", socket_not_closed_after_error},
    {"socket_lingers", "zmq_socket", "connect_worker", socket_lingers},
    {"context_not_terminated", "zmq_ctx", "make_context_for_request", context_not_terminated},
    {"message_not_closed", "zmq_msg", "compose_message", message_not_closed},
    {"message_not_closed_after_error", "zmq_msg", "compose_message", message_not_closed_after_error},
    {"received_message_not_closed", "zmq_msg", "enqueue_task", received_message_not_closed},
    {"queue_without_bound", "zmq_msg", "enqueue_task", queue_without_bound},
    {"queue_of_short_messages", "zmq_pipe_chunk", "enqueue_beats", queue_of_short_messages},
    {"zero_copy_data_not_released", "heap", "load_data", zero_copy_data_not_released, "zero_copy_data_not_released"},
    {"timers_not_destroyed", "zmq_timers", "make_timers", timers_not_destroyed},
    {"timer_not_cancelled", "heap", "remind", timer_not_cancelled},
    {"monitor_not_closed", "zmq_socket", "listen_to_events", monitor_not_closed},
};

static void set_up(void) {}

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
