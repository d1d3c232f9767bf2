/* A server that forks a process for each connection, as ftp servers do: three a second, over TCP on loopback. The child
 * allocates a listing of up to 400 entries, sends it, and exits without freeing anything.
 *
 * Variants: if a transfer is aborted, one in six, the parent forgets: `record`: its record of the child; `descriptor`:
 * its copy of the connection. `corrected`: neither.
 * Hard: the children acquire a hundred times as much as the parent leaks, and free nothing; but their memory goes with
 * them. The descriptor is lost in the parent although the child closed its copy. */
#include "../exam.h"
#include <sys/wait.h>

enum { RECORD_LOST, DESCRIPTOR_LOST, MOST = 512, ABORTED = 1 };

enum { ACCEPTED, RECORDS, ENTRIES };
static struct site *sites;
static const struct site initial[] = {
    PARTLY_LEAKS("accept_client", "descriptor", "the connection of an aborted transfer stays open in the parent",
                 "transfers in progress"),
    PARTLY_LEAKS("add_child", "heap", "the record of an aborted transfer is forgotten", "transfers in progress"),
    HEALTHY("list_entry", "heap", "never freed, but gone with its process"),
};

struct child {
    pid_t pid;
    int connection;
    char client[200];
};
static struct child *children[MOST];
static int length;

static SITE int accept_client(int listener) {
    return opened(&sites[ACCEPTED], accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static SITE struct child *add_child(void) {
    return (struct child *)acquired(&sites[RECORDS], malloc(sizeof(struct child)), sizeof(struct child));
}

static SITE char *list_entry(size_t size) { return (char *)acquired(&sites[ENTRIES], malloc(size), size); }

/* In the child: what it lists is released by its end. */
static void transfer(int connection, uint64_t seed) {
    struct dice dice = {seed};
    long entries = between(&dice, 20, 400), bytes = 0;
    char command[16], line[16];
    for (long i = 0; i < entries; i++) {
        size_t size = (size_t)between(&dice, 40, 300);
        char *entry = (char *)memset(list_entry(size), 'l', size);
        memcpy(line, entry, sizeof line);
        send(connection, line, sizeof line, MSG_NOSIGNAL);
        bytes += (long)size;
    }
    shutdown(connection, SHUT_WR);
    while (working() && receive(connection, command, sizeof command) < 0) continue;
    __atomic_fetch_add(&sites[ENTRIES].released_count, entries, __ATOMIC_RELAXED);
    __atomic_fetch_add(&sites[ENTRIES].released_bytes, bytes, __ATOMIC_RELAXED);
    _exit(chance(&dice, 1.0 / 6) ? ABORTED : 0);
}

static void reap(pid_t pid, int status, int variant) {
    int aborted = WIFEXITED(status) && WEXITSTATUS(status) == ABORTED, at = 0;
    while (at < length && children[at]->pid != pid) at++;
    if (at == length) return;
    struct child *child = children[at];
    children[at] = children[--length];
    if (aborted && variant == DESCRIPTOR_LOST) {
        lost(&sites[ACCEPTED], 0);
    } else {
        released(&sites[ACCEPTED], 0);
        close(child->connection);
    }
    if (aborted && variant == RECORD_LOST) {
        lost(&sites[RECORDS], sizeof *child);
    } else {
        released(&sites[RECORDS], sizeof *child);
        free(child);
    }
}

static void serve(int listener, struct dice *dice) {
    struct pollfd ready = {listener, POLLIN, 0};
    if (length == MOST || poll(&ready, 1, 5) <= 0) return;
    int connection = accept_client(listener);
    struct child *child = add_child();
    memset(child->client, 'c', sizeof child->client);
    uint64_t seed = roll(dice) | 1;
    child->connection = connection;
    child->pid = fork_child();
    if (child->pid == 0) transfer(connection, seed);
    children[length++] = child;
}

static void be_client(const struct sockaddr_in *address) {
    struct dice dice = {61};
    struct pace arrivals = {0, 0};
    for (long n; (n = due(&arrivals, 3)) >= 0;)
        while (n-- > 0) {
            char line[4096];
            int connection = connect_to(address);
            while (working() && recv(connection, line, sizeof line, 0) > 0) continue;
            nap(about(&dice, 0.2) / exam.speed);
            close(connection);
        }
    _exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in address;
    struct dice dice = {62};
    int start[2], status, variant = choose(argc, argv, "record descriptor corrected");
    int listener = listen_on_loopback(&address);
    sites = share_sites(initial, sizeof initial);
    if (pipe(start) != 0) die("pipe");
    if (fork_child() == 0) {
        wait_for_go(start[0]);
        be_client(&address);
    }
    begin();
    send_go(start[1], 1);
    for (pid_t pid; working(); serve(listener, &dice))
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) reap(pid, status, variant);
    while (length > 0) reap(waitpid(-1, &status, 0), status, variant);
    print_truth("ftp_server", sites, sizeof initial / sizeof *initial);
}
