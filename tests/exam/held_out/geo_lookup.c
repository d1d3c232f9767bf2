/* geo_lookup: answers for addresses in which city they are; the data is read when it is first needed.
 *
 * True: healthy: tables that are filled lazily and then stay. Countries (240) are loaded during the warm-up, the first
 * three seconds; a page of cities for each of 12,000 prefixes when it is first asked for; and the 24 shards of the data
 * file are mapped when a page is first read from them.
 *
 * Hard: nothing is ever released. The popular prefixes are there within seconds, the rare ones come for many minutes:
 * growth slows down but does not stop within any run of usual length. */
#include "../exam.h"

enum { LOAD_COUNTRY, READ_PAGE, MAP_SHARD, FORMAT_ANSWER, SITES };
static struct site sites[SITES] = {
    HEALTHY("load_country", "heap", "240 countries, loaded in the first 3 s"),
    HEALTHY("read_page", "heap", "one page for each of 12000 prefixes, read when it is first asked for"),
    HEALTHY("map_shard", "mmap", "24 shards, mapped when a page is first read from them"),
    HEALTHY("format_answer", "heap", "freed when the answer is sent"),
};

enum { COUNTRIES = 240, PREFIXES = 12000, RATE = 1500 };
enum { SHARDS = 24, SHARD_PREFIXES = PREFIXES / SHARDS, SHARD = 1 << 20 };
struct country {
    char name[64];
    uint32_t cities;
    uint16_t borders[60];
};
struct page {
    uint32_t prefix, size, country;
    char cities[];
};

static struct country *countries[COUNTRIES];
static struct page *pages[PREFIXES];
static char *shards[SHARDS];
static int data_file;
static struct dice dice = {51};

SITE static struct country *load_country(int number) {
    struct country *country = acquired(&sites[LOAD_COUNTRY], calloc(1, sizeof *country), sizeof *country);
    snprintf(country->name, sizeof country->name, "country %d", number);
    return country;
}

SITE static char *map_shard(int number) {
    off_t offset = (off_t)number * SHARD;
    return acquired(&sites[MAP_SHARD], mmap(NULL, SHARD, PROT_READ, MAP_SHARED, data_file, offset), SHARD);
}

SITE static struct page *read_page(uint32_t prefix) {
    uint32_t size = (uint32_t)between(&dice, 60, 700);
    struct page *page = acquired(&sites[READ_PAGE], malloc(sizeof *page + size), sizeof *page + size);
    *page = (struct page){prefix, size, prefix % COUNTRIES};
    memcpy(page->cities, shards[prefix / SHARD_PREFIXES] + prefix % SHARD_PREFIXES * 64, size);
    return page;
}

SITE static char *format_answer(size_t size) {
    char *answer = acquired(&sites[FORMAT_ANSWER], malloc(size), size);
    memset(answer, ' ', size);
    return answer;
}

static void answer(int client, uint32_t prefix) {
    char **shard = &shards[prefix / SHARD_PREFIXES];
    struct page **page = &pages[prefix];
    if (*shard == NULL) *shard = map_shard((int)(prefix / SHARD_PREFIXES));
    if (*page == NULL) *page = read_page(prefix);
    struct country *country = countries[(*page)->country];
    size_t size = 80 + (*page)->size / 8;
    char *text = format_answer(size);
    if (country != NULL) memcpy(text, country->name, sizeof country->name);
    (void)!send(client, text, size, MSG_DONTWAIT);
    released(&sites[FORMAT_ANSWER], size);
    free(text);
}

static void *clients(void *socket) {
    struct dice own = {4294967291u};
    struct pace pace = {0};
    char answer[512];
    for (long n; (n = due(&pace, RATE)) >= 0;)
        for (; n > 0; n--) {
            uint32_t prefix = (uint32_t)skewed(&own, 1 + skewed(&own, PREFIXES));
            (void)!send((int)(intptr_t)socket, &prefix, sizeof prefix, 0);
            while (recv((int)(intptr_t)socket, answer, sizeof answer, MSG_DONTWAIT) > 0) continue;
        }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return NULL;
}

int main(void) {
    int ends[2], loaded = 0;
    socket_pair(ends);
    data_file = memfd_create("cities", MFD_CLOEXEC);
    if (data_file < 0 || ftruncate(data_file, (off_t)SHARDS * SHARD) != 0) die("cities");
    begin();
    pthread_t client = start_thread(clients, (void *)(intptr_t)ends[1]);
    uint32_t prefix;
    for (ssize_t got; (got = receive(ends[0], &prefix, sizeof prefix)) != 0;) {
        if (got > 0) answer(ends[0], prefix);
        for (; loaded < COUNTRIES && now() > loaded / 80.0; loaded++) countries[loaded] = load_country(loaded);
    }
    pthread_join(client, NULL);
    FINISH("geo_lookup", sites);
}
