/* A picture service that is a tree of processes. Two thumbnailers are forked before `go` and live as long as the
 * master. Three renderers answer twelve requests each and exit without freeing their tiles; the master forks the next.
 *
 * Variants: `master`: the master forgets its record of each renderer that has exited. `workers`: a thumbnailer forgets
 * the metadata of each picture with a comment, one in eight. `corrected`: neither.
 * Hard: the renderers acquire thousands of times as much as the master leaks, and never free it; but their memory goes
 * with them. The thumbnailers are older than the attach, and are found as descendants of the master. */
#include "../exam.h"
#include <sys/wait.h>

enum { MASTER_LEAKS, WORKERS_LEAK };
enum { RENDERERS = 3, THUMBNAILERS = 2, REQUESTS_EACH = 12, TILE = 100000, CACHED = 300, LINES = 60 };

enum { RECORDS, LOG_LINES, STATUS, IMAGES, TILES, ORIGINALS, THUMBNAILS, METADATA };
static struct site *sites;
static const struct site initial[] = {
    PARTLY_LEAKS("record_renderer", "heap", "the record of a renderer that exited is forgotten", "renderers that run"),
    HEALTHY("log_line", "heap", "ring of the last 60 lines"),
    HEALTHY("format_status", "heap", "freed at once"),
    HEALTHY("decode_image", "heap", "freed with the request"),
    HEALTHY("cache_tile", "heap", "never freed, but gone with its process"),
    HEALTHY("load_original", "heap", "freed with the request"),
    HEALTHY("cache_thumbnail", "heap", "cache of each process, full at 300"),
    PARTLY_LEAKS("copy_metadata", "heap", "the metadata of pictures with a comment is forgotten",
                 "freed with the request"),
};

struct renderer {
    pid_t pid;
    char title[160];
};
static struct renderer *renderers[RENDERERS];
static int to_render[2], to_thumbnail[2]; /* [0]: the workers' end */

static SITE struct renderer *record_renderer(void) {
    void *block = malloc(sizeof(struct renderer));
    return (struct renderer *)acquired(&sites[RECORDS], block, sizeof(struct renderer));
}

static SITE char *log_line(size_t size) { return (char *)acquired(&sites[LOG_LINES], malloc(size), size); }

static SITE char *format_status(size_t size) { return (char *)acquired(&sites[STATUS], malloc(size), size); }

static SITE char *decode_image(size_t size) { return (char *)acquired(&sites[IMAGES], malloc(size), size); }

static SITE char *cache_tile(void) { return (char *)acquired(&sites[TILES], malloc(TILE), TILE); }

static SITE char *load_original(size_t size) { return (char *)acquired(&sites[ORIGINALS], malloc(size), size); }

static SITE char *cache_thumbnail(void) { return (char *)acquired(&sites[THUMBNAILS], malloc(900), 900); }

static SITE char *copy_metadata(size_t size) { return (char *)acquired(&sites[METADATA], malloc(size), size); }

static void release(struct site *site, char *block, size_t size) {
    released(site, size);
    free(block);
}

/* Whether this worker got a request: another one may have been first. */
static int take_request(int from) {
    char request[8];
    struct pollfd ready = {from, POLLIN, 0};
    return poll(&ready, 1, 10) > 0 && recv(from, request, sizeof request, MSG_DONTWAIT) > 0;
}

/* In a renderer: its tiles are released by its end. */
static void render(uint64_t seed) {
    struct dice dice = {seed};
    long tiles = 0;
    for (int answered = 0; working() && answered < REQUESTS_EACH;) {
        if (!take_request(to_render[0])) continue;
        size_t size = (size_t)between(&dice, 2000, 20000);
        char *image = (char *)memset(decode_image(size), 'i', size);
        memset(cache_tile(), image[0], TILE);
        tiles++;
        release(&sites[IMAGES], image, size);
        answered++;
    }
    __atomic_fetch_add(&sites[TILES].released_count, tiles, __ATOMIC_RELAXED);
    __atomic_fetch_add(&sites[TILES].released_bytes, tiles * TILE, __ATOMIC_RELAXED);
    _exit(0);
}

/* In a thumbnailer. */
static void make_thumbnails(int number, int start, int done, int leaks) {
    static char *cache[CACHED];
    struct dice dice = {(uint64_t)number + 81};
    wait_for_go(start);
    while (working()) {
        if (!take_request(to_thumbnail[0])) continue;
        size_t size = (size_t)between(&dice, 4000, 30000), notes = (size_t)between(&dice, 60, 500);
        char *original = (char *)memset(load_original(size), 'o', size);
        char *metadata = (char *)memset(copy_metadata(notes), 'm', notes);
        char **thumbnail = &cache[skewed(&dice, CACHED)];
        if (*thumbnail == NULL) *thumbnail = (char *)memcpy(cache_thumbnail(), original, 900);
        if (leaks && chance(&dice, 1.0 / 8)) lost(&sites[METADATA], notes);
        else release(&sites[METADATA], metadata, notes);
        release(&sites[ORIGINALS], original, size);
    }
    if (write(done, "d", 1) != 1) _exit(3);
    for (;;) pause(); /* still holding everything; it ends with the master */
}

/* The clients, a thread of the master: a request that no worker takes in time is not sent. */
static void *be_clients(void *unused) {
    struct pace pictures = {0, 0}, thumbnails = {0, 0};
    for (long n; (n = due(&pictures, 20)) >= 0;) {
        for (; n > 0; n--) send(to_render[1], "render", 6, MSG_DONTWAIT | MSG_NOSIGNAL);
        for (n = due(&thumbnails, 60); n > 0; n--) send(to_thumbnail[1], "small", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return unused;
}

static void add_renderer(int at, struct dice *dice) {
    uint64_t seed = roll(dice) | 1;
    struct renderer *renderer = record_renderer();
    memset(renderer->title, 't', sizeof renderer->title);
    renderer->pid = fork_child();
    if (renderer->pid == 0) render(seed);
    renderers[at] = renderer;
}

static void forget_renderer(int at, int leaks) {
    if (leaks) lost(&sites[RECORDS], sizeof(struct renderer));
    else release(&sites[RECORDS], (char *)renderers[at], sizeof(struct renderer));
    renderers[at] = NULL;
}

static void write_log(struct dice *dice, char *lines[LINES], size_t sizes[LINES], long number) {
    long at = number % LINES;
    size_t size = (size_t)between(dice, 80, 250);
    char *status = (char *)memset(format_status(1500), 's', 1500);
    if (lines[at] != NULL) release(&sites[LOG_LINES], lines[at], sizes[at]);
    lines[at] = (char *)memcpy(log_line(size), status, size);
    sizes[at] = size;
    release(&sites[STATUS], status, 1500);
}

int main(int argc, char **argv) {
    static char *lines[LINES];
    static size_t sizes[LINES];
    struct dice dice = {80};
    struct pace log = {0, 0};
    long logged = 0;
    int start[2], done[2], variant = choose(argc, argv, "master workers corrected");
    sites = share_sites(initial, sizeof initial);
    socket_pair(to_render);
    socket_pair(to_thumbnail);
    if (pipe(start) != 0 || pipe(done) != 0) die("pipe");
    for (int i = 0; i < THUMBNAILERS; i++)
        if (fork_child() == 0) make_thumbnails(i, start[0], done[1], variant == WORKERS_LEAK);
    begin();
    send_go(start[1], THUMBNAILERS);
    pthread_t clients = start_thread(be_clients, NULL);
    for (long n; (n = due(&log, 15)) >= 0;) {
        for (; n > 0; n--) write_log(&dice, lines, sizes, logged++);
        for (int i = 0; i < RENDERERS; i++) {
            if (renderers[i] != NULL) {
                if (waitpid(renderers[i]->pid, NULL, WNOHANG) == 0) continue;
                forget_renderer(i, variant == MASTER_LEAKS);
            }
            add_renderer(i, &dice);
        }
    }
    pthread_join(clients, NULL);
    for (int i = 0; i < RENDERERS; i++) {
        if (renderers[i] == NULL) continue;
        waitpid(renderers[i]->pid, NULL, 0);
        forget_renderer(i, variant == MASTER_LEAKS);
    }
    char byte;
    for (int i = 0; i < THUMBNAILERS; i++)
        if (read(done[0], &byte, 1) != 1) die("read");
    print_truth("image_service", sites, sizeof initial / sizeof *initial);
}
