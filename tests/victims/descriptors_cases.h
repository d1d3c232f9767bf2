/* One thread, every way: each opens once per round; of a round's descriptors some are kept and some are closed, each by
 * the next way to close. */
#ifndef DESCRIPTORS_CASES_H
#define DESCRIPTORS_CASES_H

#include <sys/utsname.h>

#include "descriptors_account.h"
#include "descriptors_ring.h"
#include "descriptors_ways.h"

enum { ROUND_MOST = 256, TARGETS = 1000, RANGES = 5000 };

/* Descriptors of this round that may be closed again. */
static int made[ROUND_MOST], made_count;

static int make(enum way way, int fd) {
    if (opened(&mine, way, fd) >= 0) made[made_count++] = fd;
    return fd;
}

static void make_all(enum way way, int result, const int *fds, int count) {
    if (opened_all(&mine, way, result, fds, count) < 0) return;
    for (int i = 0; i < count; i++) made[made_count++] = fds[i];
}

/* Closes by the next way; a dup over it duplicates a separate file. */
static void end_one(struct ring *ring, int fd) {
    static unsigned next;
    switch (next++ % 6) {
    case 0:
        if (end_close(closing(&mine, fd)) != 0) broken("close");
        break;
    case 1:
        if (end_close_range(closing(&mine, fd), fd, 0) != 0) broken("close_range");
        break;
    case 2: replaced(&mine, BY_dup2_over, fd, by_dup2_over(2, fd)); break;
    case 3: replaced(&mine, BY_dup3_over, fd, by_dup3_over(2, fd)); break;
    case 4: /* To be closed by an exec that never happens: it stays. */
        if (end_close_range(fd, fd, CLOSE_RANGE_CLOEXEC) != 0 && errno != EINVAL) broken("CLOEXEC");
        break;
    default:
        /* Not the ring by itself. */
        if (fd == ring->fd || ring->fd < 0) {
            if (end_close(closing(&mine, fd)) != 0) broken("close");
        } else if (end_io_uring(ring, closing(&mine, fd)) != 0) {
            broken("io_uring's close");
        }
    }
}

/* A third of this round's descriptors stays. The ring closes last, if at all. */
static void end_some(struct ring *ring, unsigned long round) {
    for (int i = 0; i < made_count; i++)
        if (((unsigned long)i + round) % 3 != 0 && made[i] != ring->fd) end_one(ring, made[i]);
    if (ring->fd >= 0 && round % 2 == 1 && end_close(closing(&mine, ring->fd)) != 0) broken("close");
    made_count = 0;
}

/* The lowest major version of a kernel on which rings are used. */
static unsigned long rings_since;

static struct ring ring_made(void) {
    struct ring ring = {.fd = -1};
    struct utsname kernel;
    if (uname(&kernel) != 0) broken("uname");
    if (strtoul(kernel.release, NULL, 10) < rings_since) return ring;
    ring.fd = make(BY_io_uring_setup, by_io_uring_setup(&ring));
    if (ring.fd >= 0) ring_map(&ring);
    return ring;
}

static void files(unsigned long round) {
    static const char *const paths[] = {"/dev/null", "/proc/self/exe", "/"};
    const char *path = paths[round % 3];
    char fresh[256];
    make(BY_open, by_open(path, O_RDONLY));
    make(BY_openat, by_openat(path));
    make(BY_openat2, by_openat2(path));
    make(BY_creat, by_creat(fresh_path(fresh, sizeof fresh)));
    unlink(fresh);
    fresh_path(fresh, sizeof fresh - 7);
    strcat(fresh, "-XXXXXX");
    make(BY_mkstemp, by_mkstemp(fresh));
    unlink(fresh);
    make(BY_memfd, by_memfd());
    snprintf(fresh, sizeof fresh, "/descriptors-%d-%lu", getpid(), round);
    make(BY_mq_open, by_mq_open(fresh));
    mq_unlink(fresh);
    static union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } at;
    int mount;
    at.handle.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, ".", &at.handle, &mount, 0) != 0) errno = EOPNOTSUPP;
    make(BY_open_by_handle_at, at.handle.handle_bytes < MAX_HANDLE_SZ ? by_open_by_handle_at(&at.handle) : -1);
    FILE *file = by_fopen(path);
    if (file == NULL) broken("fopen");
    opened(&mine, BY_fopen, fileno(file));
    if (round % 2 == 0 && end_fclose((closing(&mine, fileno(file)), file)) != 0) broken("fclose");
    DIR *folder = by_opendir("/");
    if (folder == NULL) broken("opendir");
    opened(&mine, BY_opendir, dirfd(folder));
    if (round % 2 == 1) end_closedir((closing(&mine, dirfd(folder)), folder));
}

static void sockets(struct ring *ring) {
    int two[2], server = make(BY_listen, by_listen(AF_INET)), local = make(BY_listen, by_listen(AF_UNIX));
    make(BY_socket, by_socket(AF_INET6, SOCK_DGRAM));
    make_all(BY_socketpair, by_socketpair(SOCK_STREAM, two), two, 2);
    make(BY_connect, by_connect(server));
    make(BY_accept, by_accept(server));
    make(BY_connect, by_connect(server));
    make(BY_accept4, by_accept4(server));
    make(BY_udp, by_udp(server));
    make(BY_unix, by_unix(local));
    make(BY_accept4, by_accept4(local));
    if (ring->fd < 0) return;
    make(BY_io_uring_openat, by_io_uring_openat(ring, "/dev/null"));
    make(BY_connect, by_connect(server));
    make(BY_io_uring_accept, by_io_uring_accept(ring, server));
    make(BY_io_uring_socket, by_io_uring_socket(ring));
}

/* By messages: one, as many as were sent, fewer than were sent, and two messages at once. */
static void messages(void) {
    int pair[2], came[2 * SENT], some[SENT];
    make_all(BY_socketpair, by_socketpair(SOCK_SEQPACKET, pair), pair, 2);
    some[0] = make(BY_eventfd, by_eventfd(0));
    some[1] = make(BY_open, by_open("/dev/zero", O_RDONLY));
    some[2] = pair[0];
    static const int counts[][2] = {{1, 1}, {SENT, SENT}, {SENT, 2}};
    for (int i = 0; i < 3; i++) {
        send_fds(pair[0], some, counts[i][0]);
        int count = by_scm_rights(pair[1], counts[i][1], came);
        if (count >= 0 && count != counts[i][1]) broken("descriptors lost in a message");
        make_all(BY_scm_rights, count, came, count);
    }
    send_fds(pair[0], some, 1);
    send_fds(pair[0], some, 2);
    int count = by_recvmmsg(pair[1], came);
    if (count >= 0 && count != 3) broken("descriptors lost in two messages");
    make_all(BY_recvmmsg, count, came, count);
    /* One message without descriptors, and one with more than fit into the buffer. */
    char byte;
    if (send(pair[0], "x", 1, 0) != 1 || by_scm_rights(pair[1], 1, came) != 0) broken("an empty message");
    send_fds(pair[0], some, 2);
    if (recv(pair[1], &byte, 1, 0) != 1) broken("recv");
}

static void copies(unsigned long round) {
    int old = make(BY_eventfd, by_eventfd(EFD_CLOEXEC)), far = TARGETS + (int)round * 4;
    make(BY_dup, by_dup(old));
    make(BY_dup2, by_dup2(old, far));
    make(BY_dup3, by_dup3(old, far + 1));
    make(BY_fcntl_dupfd, by_fcntl_dupfd(old, far + 2));
    make(BY_fcntl_dupfd_cloexec, by_fcntl_dupfd_cloexec(old));
    replaced(&mine, BY_dup2_over, far, by_dup2_over(2, far));
    replaced(&mine, BY_dup3_over, far + 1, by_dup3_over(2, far + 1));
}

static void watchers(void) {
    sigset_t set;
    sigemptyset(&set);
    make(BY_epoll_create1, by_epoll_create1());
    make(BY_timerfd, by_timerfd());
    int signals = make(BY_signalfd, by_signalfd(&set));
    none_signalfd(signals, &set);
    make(BY_inotify, by_inotify());
    make(BY_fanotify, by_fanotify());
    int process = make(BY_pidfd_open, by_pidfd_open());
    if (process >= 0) make(BY_pidfd_getfd, by_pidfd_getfd(process, signals));
    make(BY_clone_pidfd, by_clone_pidfd());
    make(BY_perf_event_open, by_perf_event_open());
    make(BY_userfaultfd, by_userfaultfd());
    make(BY_bpf, by_bpf());
}

static void every_way(unsigned long round) {
    int two[2];
    struct ring ring = ring_made();
    files(round);
    sockets(&ring);
    messages();
    copies(round);
    watchers();
    make_all(BY_pipe, by_pipe(two), two, 2);
    make_all(BY_pipe2, by_pipe2(two), two, 2);
    none_of_these(two[0]);
    end_some(&ring, round);
}

/* Ranges with holes, one closed at once, one only by an exec; and some that were open before. */
static void whole_ranges(void) {
    for (int i = 0; i < 20; i++)
        if (i % 3 != 0) opened(&mine, BY_dup2, by_dup2(2, RANGES + i));
    for (int i = 2; i < 12; i++)
        if (i % 3 != 0) closing(&mine, RANGES + i);
    if (end_close_range(RANGES + 2, RANGES + 11, 0) != 0) broken("close_range");
    if (end_close_range(RANGES + 12, RANGES + 19, CLOSE_RANGE_CLOEXEC) != 0 && errno != EINVAL)
        broken("CLOEXEC");
    /* From here to the last number; no other thread shares the table, so the kernel keeps it. */
    for (int i = 18; i < 20; i++)
        if (i % 3 != 0) closing(&mine, RANGES + i);
    if (syscall(SYS_close_range, RANGES + 18, ~0u, CLOSE_RANGE_UNSHARE) != 0) broken("close_range");
    int left = 0;
    for (int fd = 3; fd < MOST && left < 2; fd++) {
        if (mine.table->by[fd] != BEFORE) continue;
        if (left++ == 0 && end_close(closing(&mine, fd)) != 0) broken("close");
        else if (mine.table->by[fd] == BEFORE) replaced(&mine, BY_dup2_over, fd, by_dup2_over(2, fd));
    }
}

static void rare_ways(unsigned long round) {
    struct ring ring = ring_made();
    char path[256];
    if (ring.fd >= 0) {
        make(ELSEWHERE, by_io_uring_worker(&ring, "/dev/null"));
        int direct = none_io_uring_direct(&ring, "/dev/null");
        if (direct < 0 && errno != EINVAL) broken("a file of the ring's own");
    }
    fresh_path(path, sizeof path);
    make(BY_creat, by_creat(path));
    int group = make(BY_fanotify, by_fanotify());
    if (group >= 0) {
        if (fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, path) != 0) broken("fanotify_mark");
        make(BY_open, by_open(path, O_RDONLY));
        make(BY_fanotify_read, by_fanotify_read(group));
    }
    unlink(path);
    int unlocked = 0, terminal = make(BY_open, by_open("/dev/ptmx", O_RDWR | O_NOCTTY));
    if (ioctl(terminal, TIOCSPTLCK, &unlocked) != 0) broken("TIOCSPTLCK");
    make(BY_tiocgptpeer, by_tiocgptpeer(terminal));
    make(BY_landlock, by_landlock());
    make(BY_fsopen, by_fsopen());
    int space = make(BY_open, by_open("/proc/self/ns/net", O_RDONLY));
    make(BY_ns_ioctl, by_ns_ioctl(space));
    make(BY_epoll_create, by_epoll_create());
    make(BY_inotify_init, by_inotify_init());
    int local = make(BY_listen, by_listen(AF_UNIX)), client = make(BY_unix, by_unix(local));
    make(BY_peerpidfd, by_peerpidfd(client));
    end_some(&ring, round);
}

#endif
