/* A chat server's table of who is online: a hash table with lists, and a list of the devices of each user.
 *
 * Truth: `leaks`: users who vanish without logging off, 2 %, stay in the table with their devices forever. `corrected`:
 * whoever was not seen for twenty seconds is removed.
 * Hard: what leaks is linked in the same lists as what lives, and nearly all users log off. In the first twenty seconds
 * both variants are equal. */
#include "../exam.h"

enum { BUCKETS = 4096, DEVICE = 88 };

enum { USERS, DEVICES, NOTICES };
static struct site sites[] = {
    PARTLY_LEAKS("add_user", "heap", "users who vanish are never removed", "users online"),
    PARTLY_LEAKS("add_device", "heap", "users who vanish are never removed", "devices of users online"),
    HEALTHY("send_notice", "heap", "freed at once"),
};

struct device {
    struct device *next;
    char name[DEVICE - 8];
};
struct user {
    struct timed timed; /* when it logs off, or would be removed */
    struct user *next, **link;
    struct device *devices;
    int vanished;
    char status[100];
};
static struct user *buckets[BUCKETS];
static struct wheel logoffs;

static SITE struct user *add_user(void) {
    return (struct user *)acquired(&sites[USERS], calloc(1, sizeof(struct user)), sizeof(struct user));
}

static SITE struct device *add_device(void) {
    return (struct device *)acquired(&sites[DEVICES], malloc(sizeof(struct device)), sizeof(struct device));
}

static SITE char *send_notice(size_t size) { return (char *)acquired(&sites[NOTICES], malloc(size), size); }

static void remove_user(struct user *user) {
    *user->link = user->next;
    if (user->next != NULL) user->next->link = user->link;
    for (struct device *next, *device = user->devices; device != NULL; device = next) {
        next = device->next;
        released(&sites[DEVICES], sizeof *device);
        free(device);
    }
    released(&sites[USERS], sizeof *user);
    free(user);
}

static void log_on(struct dice *dice, int leaks) {
    struct user *user = add_user(), **link = &buckets[roll(dice) % BUCKETS];
    user->next = *link;
    user->link = link;
    if (*link != NULL) (*link)->link = &user->next;
    *link = user;
    for (long i = between(dice, 1, 3); i > 0; i--) {
        struct device *device = add_device();
        memset(device->name, 'd', sizeof device->name);
        device->next = user->devices;
        user->devices = device;
    }
    user->vanished = chance(dice, 0.02);
    if (!user->vanished || !leaks) {
        wheel_add(&logoffs, user, now() + (user->vanished ? 20 : about(dice, 5)));
        return;
    }
    lost(&sites[USERS], sizeof *user);
    for (struct device *device = user->devices; device != NULL; device = device->next)
        lost(&sites[DEVICES], sizeof *device);
}

int main(int argc, char **argv) {
    struct dice dice = {47};
    struct pace logons = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&logons, 80)) >= 0;) {
        while (n-- > 0) log_on(&dice, leaks);
        for (struct timed *next, *timed = wheel_ended(&logoffs, now()); timed != NULL; timed = next) {
            next = timed->next;
            char *notice = (char *)memset(send_notice(300), 'n', 300);
            released(&sites[NOTICES], 300);
            free(notice);
            remove_user((struct user *)timed);
        }
    }
    FINISH("presence_table", sites);
}
