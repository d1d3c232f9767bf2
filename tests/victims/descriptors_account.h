/* The account of a file descriptor table: who opened each number, how often each way opened, how many were closed;
 * printed as one line of JSON, after /proc has confirmed it.
 *
 * Nothing here opens or closes a descriptor, except reading /proc, which the account includes. */
#ifndef DESCRIPTORS_ACCOUNT_H
#define DESCRIPTORS_ACCOUNT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "victim.h"

/* Every way to open: the function `by_…` makes the call. */
#define WAYS(X)                                                                                        \
    X(open) X(openat) X(openat2) X(creat) X(socket) X(socketpair) X(listen) X(connect) X(accept)       \
    X(accept4) X(udp) X(unix) X(pipe) X(pipe2) X(dup) X(dup2) X(dup2_over) X(dup3) X(dup3_over)        \
    X(fcntl_dupfd) X(fcntl_dupfd_cloexec) X(epoll_create1) X(eventfd) X(timerfd) X(signalfd)           \
    X(inotify) X(fanotify) X(memfd) X(pidfd_open) X(pidfd_getfd) X(clone_pidfd) X(perf_event_open)     \
    X(userfaultfd) X(bpf) X(open_by_handle_at) X(opendir) X(fopen) X(mkstemp) X(mq_open)               \
    X(scm_rights) X(recvmmsg) X(io_uring_setup) X(io_uring_openat) X(io_uring_accept)                  \
    X(io_uring_socket) X(fanotify_read) X(tiocgptpeer) X(landlock) X(fsopen)        \
    X(ns_ioctl) X(epoll_create) X(inotify_init) X(peerpidfd)

/* ELSEWHERE: by a kernel thread or by libc on a stack of its own, without a function of this program. */
enum way {
    NOT_OPEN, BEFORE, ELSEWHERE,
#define X(name) BY_##name,
    WAYS(X)
#undef X
    WAY_COUNT
};

static const char *const way_names[WAY_COUNT] = {
    [ELSEWHERE] = "elsewhere",
#define X(name) [BY_##name] = "by_" #name,
    WAYS(X)
#undef X
};

/* MOST: the limit of open files that the victim sets. FAR is beyond any limit. */
enum { MOST = 8192, FAR = 1 << 24 };

struct table {
    unsigned char by[MOST], inherited[MOST];
};

/* Threads that share a table have an account each. */
struct account {
    struct table *table;
    unsigned long opened[WAY_COUNT], closed;
    unsigned long held_before; /* when the account began */
};

static struct table main_table;
static struct account mine = {.table = &main_table};
static int refused_because[WAY_COUNT]; /* errno */

static void broken(const char *what) {
    say("{\"error\":\"%s: %s\"}\n", what, strerror(errno));
    _exit(4);
}

/* Whether the kernel refuses the request at all, for lack of a right or of a feature. */
static int is_refusal(enum way way) {
    return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EOPNOTSUPP ||
           errno == ENOPROTOOPT ||
           (errno == EINVAL && (way >= BY_io_uring_setup || way == BY_userfaultfd));
}

/* A descriptor was opened, or the request was refused. */
static int opened(struct account *a, enum way way, int fd) {
    if (fd < 0) {
        if (!is_refusal(way)) broken(way_names[way]);
        refused_because[way] = errno;
        return -1;
    }
    if (fd >= MOST || a->table->by[fd] != NOT_OPEN) broken("a number opened twice");
    a->table->by[fd] = (unsigned char)way;
    a->table->inherited[fd] = 0;
    a->opened[way]++;
    return fd;
}

/* The same for a way that opens several at once and returns less than 0 on failure. */
static int opened_all(struct account *a, enum way way, int result, const int *fds, int count) {
    if (result < 0) return opened(a, way, -1);
    for (int i = 0; i < count; i++) opened(a, way, fds[i]);
    return result;
}

/* Recorded before the call: after the close, the number may belong to another thread. */
static int closing(struct account *a, int fd) {
    if (fd < 0 || fd >= MOST || a->table->by[fd] == NOT_OPEN) broken("closing what is not open");
    a->table->by[fd] = NOT_OPEN;
    a->closed++;
    return fd;
}

/* A descriptor was closed and its number reopened in one call. */
static void replaced(struct account *a, enum way way, int fd, int result) {
    if (result != fd) broken("over an open number");
    closing(a, fd);
    opened(a, way, fd);
}

static unsigned long held(const struct table *table) {
    unsigned long count = 0;
    for (int fd = 0; fd < MOST; fd++) count += table->by[fd] != NOT_OPEN;
    return count;
}

/* A private table begins as a copy: after a fork, or in a thread that unshares its table. */
static void inherit(struct account *to, struct table *table, const struct account *from) {
    struct table *old = from->table;
    *to = (struct account){.table = table, .held_before = held(old)};
    if (table != old) memcpy(table->by, old->by, sizeof table->by);
    for (int fd = 0; fd < MOST; fd++) table->inherited[fd] = table->by[fd] != NOT_OPEN;
}

/* The target of a number, according to /proc and fstat. */
static const char *type_of(int fd) {
    static const char *const anonymous[][2] = {
        {"[eventpoll]", "epoll"}, {"[eventfd]", "eventfd"}, {"[timerfd]", "timerfd"},
        {"[signalfd]", "signalfd"}, {"inotify", "inotify"}, {"[fanotify]", "fanotify"},
        {"[pidfd]", "pidfd"}, {"[io_uring]", "io_uring"}, {"[perf_event]", "perf_event"},
        {"bpf-", "bpf"}, {"[userfaultfd]", "userfaultfd"},
    };
    enum { MQUEUE_MAGIC = 0x19800202, NSFS_MAGIC = 0x6e736673 };
    char path[64], link[256];
    struct stat status;
    struct statfs system;
    snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    ssize_t length = readlink(path, link, sizeof link - 1);
    if (length < 0 || fstat(fd, &status) != 0) broken(path);
    link[length] = 0;
    const char *name = strncmp(link, "anon_inode:", 11) == 0 ? link + 11 : NULL;
    for (size_t i = 0; name != NULL && i < sizeof anonymous / sizeof *anonymous; i++)
        if (strncmp(name, anonymous[i][0], strlen(anonymous[i][0])) == 0) return anonymous[i][1];
    if (name != NULL) return "other";
    if (strncmp(link, "/memfd:", 7) == 0) return "memfd";
    if (fstatfs(fd, &system) == 0 && system.f_type == MQUEUE_MAGIC) return "mqueue";
    if (fstatfs(fd, &system) == 0 && system.f_type == NSFS_MAGIC) return "namespace";
    switch (status.st_mode & S_IFMT) {
    case S_IFSOCK: return "socket";
    case S_IFIFO: return "pipe";
    case S_IFDIR: return "directory";
    case S_IFCHR: case S_IFBLK: return "device";
    case S_IFREG: return "file";
    default: return "other";
    }
}

SITE static DIR *by_opendir(const char *path) { return opendir(path); }
SITE static void end_closedir(DIR *folder) { if (closedir(folder) != 0) broken("closedir"); }

/* Reads the table in /proc: its numbers must equal the account's. With `adopt`, unknown numbers are recorded as opened
 * before. */
static void check(struct account *a, int adopt) {
    static unsigned char seen[MOST];
    memset(seen, 0, sizeof seen);
    DIR *folder = by_opendir("/proc/thread-self/fd");
    if (folder == NULL) broken("/proc/thread-self/fd");
    opened(a, BY_opendir, dirfd(folder));
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        int fd = atoi(entry->d_name);
        if (fd >= MOST) broken("a number beyond the limit");
        seen[fd] = 1;
        if (!adopt || a->table->by[fd] != NOT_OPEN) continue;
        a->table->by[fd] = BEFORE;
        a->held_before++;
    }
    for (int fd = 0; fd < MOST; fd++) {
        if (seen[fd] == (a->table->by[fd] != NOT_OPEN)) continue;
        say("{\"error\":\"%d is %s, and not so in the account\"}\n", fd, seen[fd] ? "open" : "closed");
        _exit(4);
    }
    closing(a, dirfd(folder));
    end_closedir(folder);
    unsigned long all = a->held_before;
    for (int way = 0; way < WAY_COUNT; way++) all += a->opened[way];
    if (all - a->closed != held(a->table)) broken("the account does not add up");
}

/* At `ready`: open descriptors were opened before, and the account begins. */
static void begin(struct account *a) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) broken("getrlimit");
    limit.rlim_cur = MOST;
    if (limit.rlim_max < MOST) limit.rlim_max = MOST;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) broken("setrlimit");
    check(a, 1);
    memset(a->opened, 0, sizeof a->opened);
    a->closed = 0;
    ready();
}

/* A line is long: it is assembled here, so that few writes print it. */
static char line_text[1 << 20];
static size_t line_length;

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof line_text - line_length;
    int length = vsnprintf(line_text + line_length, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room) broken("a line too long");
    line_length += (size_t)length;
}

static void send_line(void) {
    for (size_t at = 0; at < line_length;) {
        ssize_t written = write(1, line_text + at, line_length - at);
        if (written <= 0) _exit(3);
        at += (size_t)written;
    }
    line_length = 0;
}

/* The rows of the table; only the thread that owns the table knows the types. */
static void put_account(const struct account *a) {
    const char *comma = "";
    put("{\"pid\":%d,\"tid\":%ld,\"held_before\":%lu,\"fds\":[", getpid(), syscall(SYS_gettid),
        a->held_before);
    for (int fd = 0; fd < MOST; fd++) {
        enum way way = a->table->by[fd];
        if (way == NOT_OPEN) continue;
        put("%s{\"fd\":%d,\"type\":\"%s\",\"by\":", comma, fd, type_of(fd));
        if (way == BEFORE) put("null");
        else put("\"%s\"", way_names[way]);
        put(",\"inherited\":%s}", a->table->inherited[fd] ? "true" : "false");
        comma = ",";
    }
    put("],\"opened\":{");
    comma = "";
    for (int way = ELSEWHERE; way < WAY_COUNT; way++) {
        if (a->opened[way] == 0) continue;
        put("%s\"%s\":%lu", comma, way_names[way], a->opened[way]);
        comma = ",";
    }
    put("},\"closed\":%lu,\"refused\":[", a->closed);
    comma = "";
    for (int way = ELSEWHERE; way < WAY_COUNT; way++) {
        if (refused_because[way] == 0) continue;
        put("%s\"%s: %s\"", comma, way_names[way], strerror(refused_because[way]));
        comma = ",";
    }
    put("]}\n");
}

/* Prints the truth, after checking it. */
static void print_account(struct account *a) {
    check(a, 0);
    put_account(a);
    send_line();
}

#endif
