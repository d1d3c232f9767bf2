/* A crawler that fetches each page in a thread of its own.
 *
 * Truth: `leaks`: a page that redirects, one in six, starts a thread that nobody joins; it has ended, but its stack and
 * its descriptor remain in the C library. `corrected`: all threads are joined.
 * Hard: no function of the program allocates what is lost, few threads run at any time, and most are joined. */
#include "../exam.h"

enum { STACK = 256 << 10, MOST = 256 };

enum { FETCHES, REDIRECTS, PAGES };
static struct site sites[] = {
    HEALTHY("start_fetch", "thread", "joined when the page is there"),
    PARTLY_LEAKS("follow_redirect", "thread", "threads that follow a redirect are never joined", "joined at once"),
    HEALTHY("parse_page", "heap", "freed by its thread"),
};

struct fetch {
    struct timed timed;
    pthread_t thread;
    uint64_t seed;
};
static struct wheel fetches;
static struct fetch room[MOST], *unused[MOST];
static pthread_attr_t small;
static int left;

static SITE char *parse_page(size_t size) { return (char *)acquired(&sites[PAGES], malloc(size), size); }

static void *fetch_page(void *argument) {
    struct dice dice = {((struct fetch *)argument)->seed};
    nap(about(&dice, 0.3) / exam.speed);
    size_t size = (size_t)between(&dice, 2000, 60000);
    char *page = (char *)memset(parse_page(size), 'p', size);
    released(&sites[PAGES], size);
    free(page);
    return NULL;
}

static void *resolve_redirect(void *argument) {
    nap(0.02 / exam.speed);
    return argument;
}

static SITE void start_fetch(struct fetch *fetch) {
    if (pthread_create(&fetch->thread, &small, fetch_page, fetch) != 0) die("pthread_create");
    acquired(&sites[FETCHES], fetch, STACK);
}

static SITE pthread_t follow_redirect(void) {
    pthread_t thread;
    if (pthread_create(&thread, &small, resolve_redirect, NULL) != 0) die("pthread_create");
    acquired(&sites[REDIRECTS], &small, STACK);
    return thread;
}

static void end_fetches(double until) {
    for (struct timed *next, *timed = wheel_ended(&fetches, until); timed != NULL; timed = next) {
        struct fetch *fetch = (struct fetch *)timed;
        next = timed->next;
        pthread_join(fetch->thread, NULL);
        released(&sites[FETCHES], STACK);
        unused[left++] = fetch;
    }
}

int main(int argc, char **argv) {
    struct dice dice = {51};
    struct pace pages = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK);
    while (left < MOST) unused[left] = &room[left], left++;
    begin();
    for (long n; (n = due(&pages, 12)) >= 0; end_fetches(now())) {
        for (; n > 0 && left > 0; n--) {
            struct fetch *fetch = unused[--left];
            fetch->seed = roll(&dice) | 1;
            start_fetch(fetch);
            wheel_add(&fetches, fetch, now() + 1);
            if (!chance(&dice, 1.0 / 6)) continue;
            pthread_t thread = follow_redirect();
            if (leaks) {
                lost(&sites[REDIRECTS], STACK);
                continue;
            }
            pthread_join(thread, NULL);
            released(&sites[REDIRECTS], STACK);
        }
    }
    end_fetches(FOREVER);
    nap(0.05); /* the threads that nobody joins end */
    FINISH("crawler", sites);
}
