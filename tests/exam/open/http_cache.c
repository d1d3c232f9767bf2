/* A cache of HTTP responses within a budget of bytes, as in Varnish or Squid: it grows for half a minute, then evicts
 * the oldest for each new response.
 *
 * Truth: `leaks`: evicting a response forgets the copy of its Vary header, which one in four has. `corrected`: nothing.
 * Hard: the cache grows much faster than the leak, and the leak begins only when the cache is full. Before that, the
 * copies look the same in both variants. */
#include "../exam.h"

enum { BUDGET = 12 << 20, URLS = 100000, MOST = 32768 };

enum { RESPONSES, VARY };
static struct site sites[] = {
    HEALTHY("store_response", "heap", "cache: grows up to its budget of bytes"),
    PARTLY_LEAKS("copy_vary", "heap", "evicting a response forgets its Vary header", "as many as the cache holds"),
};

struct response {
    size_t size, vary_size;
    char *vary;
    long url;
    char body[];
};
static struct response *by_url[URLS], *oldest_first[MOST];
static long first, stored;
static size_t held;
static int leaks;

static SITE struct response *store_response(size_t size) {
    return (struct response *)acquired(&sites[RESPONSES], malloc(sizeof(struct response) + size),
                                       sizeof(struct response) + size);
}

static SITE char *copy_vary(size_t size) { return (char *)acquired(&sites[VARY], malloc(size), size); }

static void evict(void) {
    struct response *response = oldest_first[first++ % MOST];
    by_url[response->url] = NULL;
    held -= response->size;
    stored--;
    if (response->vary != NULL && leaks) {
        lost(&sites[VARY], response->vary_size);
    } else if (response->vary != NULL) {
        released(&sites[VARY], response->vary_size);
        free(response->vary);
    }
    released(&sites[RESPONSES], sizeof *response + response->size);
    free(response);
}

static void serve(struct dice *dice) {
    long url = skewed(dice, URLS);
    if (by_url[url] != NULL) return;
    size_t size = (size_t)between(dice, 300, 2900);
    while (stored == MOST || held + size > BUDGET) evict();
    struct response *response = store_response(size);
    memset(response->body, 'r', size);
    response->size = size;
    response->url = url;
    response->vary = NULL;
    if (chance(dice, 0.25)) {
        response->vary_size = (size_t)between(dice, 16, 90);
        response->vary = copy_vary(response->vary_size);
        memset(response->vary, 'v', response->vary_size);
    }
    by_url[url] = response;
    oldest_first[(first + stored++) % MOST] = response;
    held += size;
}

int main(int argc, char **argv) {
    struct dice dice = {31};
    struct pace requests = {0, 0};
    leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&requests, 500)) >= 0;)
        while (n-- > 0) serve(&dice);
    FINISH("http_cache", sites);
}
