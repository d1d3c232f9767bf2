/* leaks_uv: leaks of programs on libuv, one case each. See leaks.h. Handles and requests are in the program's own
 * memory. */
#include <sys/resource.h>
#include <uv.h>

#include "leaks.h"

static uv_loop_t loop, loops[MOST_OBJECTS];
static uv_timer_t timers[MOST_OBJECTS];
static uv_tcp_t streams[MOST_OBJECTS];
static uv_fs_t requests[MOST_OBJECTS];

static void turn(void) { must(uv_run(&loop, UV_RUN_NOWAIT) >= 0, "uv_run"); }

/* --- loops --- */

SITE static void start_worker(uv_loop_t *own) {
    must(uv_loop_init(own) == 0, "uv_loop_init");
    made("uv_loop", 1);
}

static void loop_not_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        start_worker(&loops[at]);
        if (!corrected) continue;
        must(uv_loop_close(&loops[at]) == 0, "uv_loop_close");
        gone("uv_loop", 1);
    }
}

/* --- handles --- */

static void on_time(uv_timer_t *timer) { (void)timer; }

SITE static void start_deadline(uv_timer_t *timer) {
    must(uv_timer_init(&loop, timer) == 0 && uv_timer_start(timer, on_time, 3600 * 1000, 0) == 0, "uv_timer_init");
    made("uv_timer", 1);
}

/* Stopped when its purpose is over, but not closed. */
static void timer_not_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        start_deadline(&timers[at]);
        uv_timer_stop(&timers[at]);
        if (!corrected) continue;
        uv_close((uv_handle_t *)&timers[at], NULL);
        gone("uv_timer", 1);
    }
    turn();
}

SITE static int connect_upstream(uv_tcp_t *stream, const char *address) {
    struct sockaddr_in to;
    must(uv_tcp_init(&loop, stream) == 0, "uv_tcp_init");
    made("uv_tcp", 1);
    return uv_ip4_addr(address, 80, &to);
}

/* Closed where it is used, but not where the connection fails. */
static void stream_not_closed_after_error(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        must(connect_upstream(&streams[at], "nowhere") != 0, "an address that is none");
        if (!corrected) continue;
        uv_close((uv_handle_t *)&streams[at], NULL);
        gone("uv_tcp", 1);
    }
    turn();
}

SITE static uv_timer_t *make_timer(void) {
    uv_timer_t *timer = malloc(sizeof *timer);
    must(timer != NULL && uv_timer_init(&loop, timer) == 0, "uv_timer_init");
    made("heap", 1);
    made("uv_timer", 1);
    return timer;
}

static void free_handle(uv_handle_t *handle) {
    free(handle);
    gone("heap", 1);
}

/* Closed, but its memory belongs to the program. */
static void handle_not_freed_when_closed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_timer();
        uv_close(kept[at], corrected ? free_handle : NULL);
        gone("uv_timer", 1);
    }
    turn();
}

/* --- requests --- */

SITE static void list_folder(uv_fs_t *request) {
    must(uv_fs_scandir(&loop, request, "/proc/self/task", 0, NULL) == 1, "uv_fs_scandir");
    made("uv_fs", 1);
}

static void request_not_cleaned_up(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        list_folder(&requests[at]);
        if (!corrected) continue;
        uv_fs_req_cleanup(&requests[at]);
        gone("uv_fs", 1);
    }
}

static const struct leak_case CASES[] = {
    {"loop_not_closed", "uv_loop", "start_worker", loop_not_closed},
    {"timer_not_closed", "uv_timer", "start_deadline", timer_not_closed},
    {"stream_not_closed_after_error", "uv_tcp", "connect_upstream", stream_not_closed_after_error},
    {"handle_not_freed_when_closed", "heap", "make_timer", handle_not_freed_when_closed},
    {"request_not_cleaned_up", "uv_fs", "list_folder", request_not_cleaned_up},
};

static void set_up(void) {
    /* A loop has several descriptors. */
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0 && uv_loop_init(&loop) == 0, "uv_loop_init");
}

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
