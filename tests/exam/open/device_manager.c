/* A manager of devices that come and go. For each device it opens three of ten kinds of descriptors.
 *
 * Variants: a kind: one device in three is unplugged without notice, and its descriptor of that kind stays open; those
 * of the nine other kinds are closed. `corrected`: all are closed. The pipe loses its writing end alone.
 * Hard: each kind comes and goes all the time, two or three are open at once, and one is lost every two or three
 * seconds; nothing is lost on the heap, except with the opened directory. */
#include "../exam.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { SOCKET, PIPE, EVENTFD, TIMERFD, EPOLL, SIGNALFD, INOTIFY, MEMFD, STATE, DIRECTORY, KINDS, EACH = 3 };

#define KIND(function) \
    PARTLY_LEAKS(function, "descriptor", "stays open when a device is unplugged without notice", "devices plugged in")
static struct site sites[] = {
    KIND("open_control_socket"), KIND("open_event_pipe"),    KIND("open_wakeup"),    KIND("open_poll_timer"),
    KIND("open_event_loop"),     KIND("open_child_signals"), KIND("watch_firmware"), KIND("open_frame_buffer"),
    KIND("open_state_file"),     KIND("list_nodes"),         HEALTHY("add_device", "heap", "devices plugged in"),
};

struct device {
    struct timed timed;
    int first, descriptors[KINDS], other_end;
    DIR *directory;
};
static struct wheel devices;

static SITE struct device *add_device(void) {
    return (struct device *)acquired(&sites[KINDS], calloc(1, sizeof(struct device)), sizeof(struct device));
}

static SITE int open_control_socket(void) { return opened(&sites[SOCKET], socket(AF_UNIX, SOCK_DGRAM, 0)); }
static SITE int open_wakeup(void) { return opened(&sites[EVENTFD], eventfd(0, EFD_NONBLOCK)); }
static SITE int open_poll_timer(void) { return opened(&sites[TIMERFD], timerfd_create(CLOCK_MONOTONIC, 0)); }
static SITE int open_event_loop(void) { return opened(&sites[EPOLL], epoll_create1(0)); }
static SITE int watch_firmware(void) { return opened(&sites[INOTIFY], inotify_init1(IN_NONBLOCK)); }
static SITE int open_frame_buffer(void) { return opened(&sites[MEMFD], memfd_create("frame", 0)); }
static SITE int open_state_file(void) { return opened(&sites[STATE], open("/proc/self/stat", O_RDONLY)); }

static SITE int open_child_signals(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    return opened(&sites[SIGNALFD], signalfd(-1, &signals, 0));
}

static SITE int open_event_pipe(int *other_end) {
    int ends[2];
    if (pipe(ends) != 0) die("pipe");
    *other_end = opened(&sites[PIPE], ends[0]);
    return opened(&sites[PIPE], ends[1]);
}

static SITE DIR *list_nodes(void) {
    DIR *directory = opendir("/dev");
    opened(&sites[DIRECTORY], directory != NULL ? dirfd(directory) : -1);
    return directory;
}

static void close_counted(int kind, int descriptor) {
    released(&sites[kind], 0);
    close(descriptor);
}

static void plug(struct device *device, int first) {
    device->first = first;
    for (int i = 0; i < EACH; i++) {
        int kind = (first + i) % KINDS, *descriptor = &device->descriptors[kind];
        switch (kind) {
        case SOCKET: *descriptor = open_control_socket(); break;
        case PIPE: *descriptor = open_event_pipe(&device->other_end); break;
        case EVENTFD: *descriptor = open_wakeup(); break;
        case TIMERFD: *descriptor = open_poll_timer(); break;
        case EPOLL: *descriptor = open_event_loop(); break;
        case SIGNALFD: *descriptor = open_child_signals(); break;
        case INOTIFY: *descriptor = watch_firmware(); break;
        case MEMFD: *descriptor = open_frame_buffer(); break;
        case STATE: *descriptor = open_state_file(); break;
        default: device->directory = list_nodes();
        }
    }
}

static void unplug(struct device *device, int forget) {
    for (int i = 0; i < EACH; i++) {
        int kind = (device->first + i) % KINDS;
        if (kind == PIPE) close_counted(PIPE, device->other_end);
        if (kind == forget) {
            lost(&sites[kind], 0);
        } else if (kind == DIRECTORY) {
            released(&sites[kind], 0);
            closedir(device->directory);
        } else {
            close_counted(kind, device->descriptors[kind]);
        }
    }
    released(&sites[KINDS], sizeof *device);
    free(device);
}

int main(int argc, char **argv) {
    struct dice dice = {52};
    struct pace arrivals = {0, 0};
    const char *variants = "socket pipe eventfd timerfd epoll signalfd inotify memfd file directory corrected";
    int leaking = choose(argc, argv, variants), next_kind = 0; /* of `corrected` it is KINDS */
    sites[DIRECTORY].also = "\"heap\"";
    begin();
    for (long n; (n = due(&arrivals, 4)) >= 0;) {
        for (; n > 0; n--) {
            struct device *device = add_device();
            plug(device, next_kind++ % KINDS);
            wheel_add(&devices, device, now() + about(&dice, 2));
        }
        for (struct timed *next, *timed = wheel_ended(&devices, now()); timed != NULL; timed = next) {
            next = timed->next;
            unplug((struct device *)timed, chance(&dice, 0.33) ? leaking : KINDS);
        }
    }
    FINISH("device_manager", sites);
}
