/* build_agent: runs builds; each holds descriptors of many kinds for some seconds, and shares some that stay open.
 *
 * True: healthy. A build closes all that it opened. Source files stay open in a cache of 256 slots, snapshots (memfd)
 * in a ring of 64, and each of 40 projects is watched (inotify) since one of its first builds.
 *
 * Hard: descriptors of twelve kinds; the cache, the ring and the watches grow evenly for about a minute, and a build
 * that takes long keeps eleven descriptors. */
#include "../exam.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

enum {
    OPEN_SOURCE, STORE_SNAPSHOT, WATCH_PROJECT, OPEN_OUTPUT, CONNECT_TOOL, START_DEADLINE, MAKE_WAKEUP, MAKE_POLLER,
    CATCH_SIGNALS, DUPLICATE_LOG, WATCH_TOOL, ENTER_DIRECTORY, NEW_BUILD, SITES
};
#define DURING_BUILD(function) HEALTHY(function, "descriptor", "closed when the build ends, after 0.5 to 12 s")
static struct site sites[SITES] = {
    HEALTHY("open_source", "descriptor", "cache of 256 open files"),
    HEALTHY("store_snapshot", "descriptor", "ring of 64 snapshots"),
    HEALTHY("watch_project", "descriptor", "one for each of 40 projects, since its first build"),
    DURING_BUILD("open_output"), DURING_BUILD("connect_tool"), DURING_BUILD("start_deadline"),
    DURING_BUILD("make_wakeup"), DURING_BUILD("make_poller"), DURING_BUILD("catch_signals"),
    DURING_BUILD("duplicate_log"), DURING_BUILD("watch_tool"), DURING_BUILD("enter_directory"),
    HEALTHY("new_build", "heap", "freed when the build ends"),
};

enum { SOURCES = 256, FILES = 4000, SNAPSHOTS = 64, PROJECTS = 40, BUILDS = 10, READS = 60 };
struct build {
    struct timed timed;
    int length;
    struct {
        int descriptor, site;
    } held[16];
};

static struct dice dice = {1984};
static struct wheel builds;
static struct {
    int descriptor;
    long file;
} sources[SOURCES];
static int snapshots[SNAPSHOTS], watches[PROJECTS], log_file;
static unsigned long snapshots_made;

static void close_of(int site, int descriptor) {
    close(descriptor);
    released(&sites[site], 0);
}

static void hold(struct build *build, int site, int descriptor) {
    build->held[build->length].site = site;
    build->held[build->length++].descriptor = descriptor;
}

SITE static int open_source(const char *path) {
    return opened(&sites[OPEN_SOURCE], open(path, O_RDONLY | O_CLOEXEC));
}
SITE static int store_snapshot(void) {
    int snapshot = opened(&sites[STORE_SNAPSHOT], memfd_create("snapshot", MFD_CLOEXEC));
    (void)!ftruncate(snapshot, 4096);
    return snapshot;
}
SITE static int watch_project(void) { return opened(&sites[WATCH_PROJECT], inotify_init1(IN_CLOEXEC)); }
SITE static void open_output(struct build *build) {
    int ends[2], status = pipe2(ends, O_CLOEXEC);
    for (int i = 0; i < 2; i++) hold(build, OPEN_OUTPUT, opened(&sites[OPEN_OUTPUT], status < 0 ? status : ends[i]));
}
SITE static void connect_tool(struct build *build) {
    int ends[2], status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    for (int i = 0; i < 2; i++) hold(build, CONNECT_TOOL, opened(&sites[CONNECT_TOOL], status < 0 ? status : ends[i]));
}
SITE static int start_deadline(void) {
    return opened(&sites[START_DEADLINE], timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
}
SITE static int make_wakeup(void) { return opened(&sites[MAKE_WAKEUP], eventfd(0, EFD_CLOEXEC)); }
SITE static int make_poller(void) { return opened(&sites[MAKE_POLLER], epoll_create1(EPOLL_CLOEXEC)); }
SITE static int catch_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return opened(&sites[CATCH_SIGNALS], signalfd(-1, &set, SFD_CLOEXEC));
}
SITE static int duplicate_log(void) {
    return opened(&sites[DUPLICATE_LOG], fcntl(log_file, F_DUPFD_CLOEXEC, 0));
}
SITE static int watch_tool(void) {
    return opened(&sites[WATCH_TOOL], (int)syscall(SYS_pidfd_open, getpid(), 0));
}
SITE static int enter_directory(void) {
    return opened(&sites[ENTER_DIRECTORY], open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}
SITE static struct build *new_build(void) {
    return acquired(&sites[NEW_BUILD], calloc(1, sizeof(struct build)), sizeof(struct build));
}

static void start_build(void) {
    int project = (int)skewed(&dice, PROJECTS);
    if (watches[project] == 0 && chance(&dice, 0.1)) watches[project] = watch_project();
    struct build *build = new_build();
    open_output(build);
    connect_tool(build);
    hold(build, START_DEADLINE, start_deadline());
    hold(build, MAKE_WAKEUP, make_wakeup());
    hold(build, MAKE_POLLER, make_poller());
    hold(build, CATCH_SIGNALS, catch_signals());
    hold(build, DUPLICATE_LOG, duplicate_log());
    hold(build, WATCH_TOOL, watch_tool());
    hold(build, ENTER_DIRECTORY, enter_directory());
    double takes = 0.5 + about(&dice, 1.5);
    wheel_add(&builds, build, now() + (takes < 12 ? takes : 12));
}

static void end_build(struct build *build) {
    for (int i = 0; i < build->length; i++) close_of(build->held[i].site, build->held[i].descriptor);
    released(&sites[NEW_BUILD], sizeof *build);
    free(build);
    if (!chance(&dice, 0.15)) return;
    int *slot = &snapshots[snapshots_made++ % SNAPSHOTS];
    if (snapshots_made > SNAPSHOTS) close_of(STORE_SNAPSHOT, *slot);
    *slot = store_snapshot();
}

static void read_source(long file) {
    char text[64];
    long slot = file % SOURCES;
    if (sources[slot].descriptor != 0 && sources[slot].file != file) {
        close_of(OPEN_SOURCE, sources[slot].descriptor);
        sources[slot].descriptor = 0;
    }
    if (sources[slot].descriptor == 0) sources[slot].descriptor = open_source("/proc/self/exe");
    sources[slot].file = file;
    (void)!pread(sources[slot].descriptor, text, sizeof text, file);
}

int main(void) {
    struct pace starts = {0}, reads = {0};
    log_file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    begin();
    for (long n; (n = due(&starts, BUILDS)) >= 0;) {
        while (n-- > 0) start_build();
        for (n = due(&reads, READS); n > 0; n--) read_source(skewed(&dice, 1 + skewed(&dice, FILES)));
        struct timed *next;
        for (struct timed *ended = wheel_ended(&builds, now()); ended != NULL; ended = next) {
            next = ended->next;
            end_build((struct build *)ended);
        }
    }
    FINISH("build_agent", sites);
}
