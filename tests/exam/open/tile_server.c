/* A map server: eight threads render tiles when they are first asked for, and again when they are 8 s old.
 *
 * Truth: `leaks`: if two threads render the same tile at once, the one that comes second forgets its own copy.
 * `corrected`: it frees it.
 * Hard: the leak depends on a race: it comes in clusters when popular tiles expire, and never for the other tiles. The
 * table of styles is filled lazily for the whole run and never freed, which is healthy: there are 3,000 styles. */
#include "../exam.h"

enum { TILES = 400, STYLES = 3000, THREADS = 8 };

enum { RENDERED, PARSED };
static struct site sites[] = {
    PARTLY_LEAKS("render_tile", "heap", "of two threads that render the same tile one forgets its copy",
                 "table of tiles"),
    HEALTHY("parse_style", "heap", "table filled lazily, one for each style, never freed"),
};

struct tile {
    double expires;
    size_t size;
    char pixels[];
};
static struct tile *tiles[TILES];
static char *styles[STYLES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int leaks;

static SITE struct tile *render_tile(size_t size) {
    return (struct tile *)acquired(&sites[RENDERED], malloc(sizeof(struct tile) + size), sizeof(struct tile) + size);
}

static SITE char *parse_style(size_t size) { return (char *)acquired(&sites[PARSED], malloc(size), size); }

static void free_tile(struct tile *tile) {
    released(&sites[RENDERED], sizeof *tile + tile->size);
    free(tile);
}

static void replace_tile(long number, struct tile *fresh) {
    pthread_mutex_lock(&lock);
    struct tile *old = tiles[number];
    if (old == NULL || old->expires <= now()) {
        tiles[number] = fresh;
        if (old != NULL) free_tile(old);
    } else if (leaks) {
        lost(&sites[RENDERED], sizeof *fresh + fresh->size);
    } else {
        free_tile(fresh);
    }
    pthread_mutex_unlock(&lock);
}

static void serve_tile(struct dice *dice) {
    long number = skewed(dice, TILES), style = skewed(dice, STYLES);
    pthread_mutex_lock(&lock);
    int fresh = tiles[number] != NULL && tiles[number]->expires > now();
    if (styles[style] == NULL) styles[style] = (char *)memset(parse_style(180), 's', 180);
    pthread_mutex_unlock(&lock);
    if (fresh) return;
    size_t size = (size_t)between(dice, 2000, 9000);
    struct tile *tile = render_tile(size);
    nap(0.1 / exam.speed); /* renders it */
    memset(tile->pixels, 't', size);
    tile->size = size;
    tile->expires = now() + 8;
    replace_tile(number, tile);
}

static void *work(void *seed) {
    struct dice dice = {(uint64_t)(uintptr_t)seed};
    struct pace requests = {0, 0};
    for (long n; (n = due(&requests, 40)) >= 0;)
        while (n-- > 0 && working()) serve_tile(&dice);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(work, (void *)(i + 36));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    FINISH("tile_server", sites);
}
