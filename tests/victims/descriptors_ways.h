/* One function for each way to open (`by_…`), to close (`end_…`), and to do neither (`none_…`).
 *
 * Each makes the opening call itself, and returns the number or less than 0; the caller keeps accounts. */
#ifndef DESCRIPTORS_WAYS_H
#define DESCRIPTORS_WAYS_H

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/landlock.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "descriptors_account.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#define CLOSE_RANGE_CLOEXEC 4u
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { SENT = 3 }; /* descriptors in one message */

/* A path that no other call of this process uses. */
static const char *fresh_path(char *path, size_t size) {
    static unsigned number;
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/descriptors-%d-%u", folder ? folder : "/tmp", getpid(), number++);
    return path;
}

SITE static int by_open(const char *path, int flags) { return open(path, flags); }
SITE static int by_openat(const char *path) { return openat(AT_FDCWD, path, O_RDONLY); }
SITE static int by_openat2(const char *path) {
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}
SITE static int by_creat(const char *path) { return creat(path, 0600); }
SITE static int by_mkstemp(char *template) { return mkstemp(template); }
SITE static FILE *by_fopen(const char *path) { return fopen(path, "r"); }
SITE static int by_mq_open(const char *name) {
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 8}; /* users have a limit of bytes in queues */
    return mq_open(name, O_CREAT | O_RDWR, 0600, &small);
}
SITE static int by_open_by_handle_at(struct file_handle *handle) {
    return open_by_handle_at(AT_FDCWD, handle, O_RDONLY);
}
SITE static int by_socket(int family, int type) { return socket(family, type, 0); }
SITE static int by_socketpair(int type, int *two) { return socketpair(AF_UNIX, type, 0, two); }
SITE static int by_listen(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    const void *address = family == AF_INET ? (void *)&here : (void *)&any;
    socklen_t size = family == AF_INET ? sizeof here : sizeof any.sun_family;
    return fd < 0 || bind(fd, address, size) != 0 || listen(fd, 64) != 0 ? -1 : fd;
}
static int join(int fd, int server) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (fd < 0 || getsockname(server, (void *)&address, &size) != 0) return -1;
    return connect(fd, (void *)&address, size) == 0 ? fd : -1;
}
SITE static int by_connect(int server) { return join(socket(AF_INET, SOCK_STREAM, 0), server); }
SITE static int by_udp(int server) { return join(socket(AF_INET, SOCK_DGRAM, 0), server); }
SITE static int by_unix(int server) { return join(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), server); }
SITE static int by_accept(int server) { return accept(server, NULL, NULL); }
SITE static int by_accept4(int server) { return accept4(server, NULL, NULL, SOCK_CLOEXEC); }
SITE static int by_pipe(int *two) { return pipe(two); }
SITE static int by_pipe2(int *two) { return pipe2(two, O_CLOEXEC); }
SITE static int by_dup(int old) { return dup(old); }
SITE static int by_dup2(int old, int fd) { return dup2(old, fd); }
SITE static int by_dup2_over(int old, int fd) { return dup2(old, fd); }
SITE static int by_dup3(int old, int fd) { return dup3(old, fd, O_CLOEXEC); }
SITE static int by_dup3_over(int old, int fd) { return dup3(old, fd, O_CLOEXEC); }
SITE static int by_fcntl_dupfd(int old, int least) { return fcntl(old, F_DUPFD, least); }
SITE static int by_fcntl_dupfd_cloexec(int old) { return fcntl(old, F_DUPFD_CLOEXEC, 0); }
SITE static int by_epoll_create1(void) { return epoll_create1(0); }
SITE static int by_epoll_create(void) { return epoll_create(1); }
SITE static int by_eventfd(int flags) { return eventfd(0, flags); }
SITE static int by_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC); }
SITE static int by_signalfd(const sigset_t *set) { return signalfd(-1, set, 0); }
SITE static int by_inotify(void) { return inotify_init1(IN_NONBLOCK); }
SITE static int by_inotify_init(void) { return inotify_init(); }
SITE static int by_fanotify(void) { return fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY); }
SITE static int by_fanotify_read(int group) {
    struct fanotify_event_metadata event = {.fd = -1};
    return read(group, &event, sizeof event) == sizeof event ? event.fd : -1;
}
SITE static int by_memfd(void) { return memfd_create("descriptors", 0); }
SITE static int by_pidfd_open(void) { return (int)syscall(SYS_pidfd_open, getpid(), 0); }
SITE static int by_pidfd_getfd(int pidfd, int fd) { return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0); }
SITE static int by_clone_pidfd(void) {
    int pidfd = -1;
    /* Like fork: the child has a copy of everything. */
    long child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, 0);
    if (child == 0) syscall(SYS_exit_group, 0);
    if (child > 0) waitpid((pid_t)child, NULL, 0);
    return child > 0 ? pidfd : -1;
}
SITE static int by_perf_event_open(void) {
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event,
                                    .config = PERF_COUNT_SW_DUMMY, .exclude_kernel = 1};
    return (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}
SITE static int by_userfaultfd(void) {
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
}
SITE static int by_bpf(void) {
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
    return (int)syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map);
}
SITE static int by_landlock(void) {
    struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE};
    return (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
}
SITE static int by_fsopen(void) { return (int)syscall(SYS_fsopen, "tmpfs", 0); }
SITE static int by_ns_ioctl(int space) { return ioctl(space, NS_GET_USERNS); }
SITE static int by_tiocgptpeer(int terminal) { return ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY); }
SITE static int by_peerpidfd(int connected) {
    int pidfd = -1;
    socklen_t size = sizeof pidfd;
    return getsockopt(connected, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0 ? pidfd : -1;
}

union control {
    char bytes[CMSG_SPACE(SENT * sizeof(int))];
    struct cmsghdr aligned;
};

static void send_fds(int socket, const int *fds, int count) {
    char byte = 'x';
    struct iovec data = {&byte, 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE((unsigned)count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                               .cmsg_len = CMSG_LEN((unsigned)count * sizeof(int))};
    memcpy(CMSG_DATA(rights), fds, (unsigned)count * sizeof(int));
    if (sendmsg(socket, &message, 0) != 1) broken("sendmsg");
}

/* Takes the descriptors from a received message. */
static int arrived(struct msghdr *message, int *fds) {
    struct cmsghdr *rights = CMSG_FIRSTHDR(message);
    if (rights == NULL) return 0;
    size_t size = rights->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(rights), size);
    return (int)(size / sizeof(int));
}

/* Returns how many arrived: at most the number that `room` allows; the others are lost. */
SITE static int by_scm_rights(int socket, int room, int *fds) {
    char byte;
    struct iovec data = {&byte, 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_LEN((unsigned)room * sizeof(int))};
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    return arrived(&message, fds);
}

/* Two messages in one call; returns how many descriptors arrived with them. */
SITE static int by_recvmmsg(int socket, int *fds) {
    char bytes[2];
    struct iovec data[2] = {{&bytes[0], 1}, {&bytes[1], 1}};
    union control control[2] = {0};
    struct mmsghdr messages[2];
    for (int i = 0; i < 2; i++)
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &data[i], .msg_iovlen = 1,
                                                   .msg_control = &control[i],
                                                   .msg_controllen = sizeof control[i]}};
    if (recvmmsg(socket, messages, 2, 0, NULL) != 2) return -1;
    int first = arrived(&messages[0].msg_hdr, fds);
    return first + arrived(&messages[1].msg_hdr, fds + first);
}

SITE static int end_close(int fd) { return close(fd); }
SITE static int end_fclose(FILE *file) { return fclose(file); }
SITE static int end_close_range(int first, int last, unsigned flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}

/* Calls that fail, or succeed without opening anything; `one` is open, and stays the same. */
SITE static void none_of_these(int one) {
    if (close(FAR) == 0 || close(-1) == 0) broken("a close of what is not open");
    if (dup2(FAR, one) >= 0 || dup3(one, one, 0) >= 0) broken("a dup that fails");
    if (dup2(one, one) != one) broken("a dup2 over itself");
    if (open("/does/not/exist", O_RDONLY) >= 0) broken("an open that fails");
    if (socket(AF_UNIX, 77, 0) >= 0 || accept(FAR, NULL, NULL) >= 0) broken("a socket that fails");
    if (syscall(SYS_pipe2, NULL, 0) == 0) broken("a pipe that fails");
    if (syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, NULL) == 0) broken("a socketpair that fails");
    if (fcntl(one, F_DUPFD, FAR) >= 0 || fcntl(one, F_GETFD) < 0) broken("fcntl");
    if (syscall(SYS_close_range, 9, 5, 0) == 0) broken("a range that fails");
    if (syscall(SYS_close_range, MOST, FAR, 0) != 0) broken("a range without any");
}

/* Changes a signalfd: the returned number is not new. */
SITE static void none_signalfd(int fd, const sigset_t *set) {
    if (signalfd(fd, set, 0) != fd) broken("a signalfd that is there");
}

#endif
