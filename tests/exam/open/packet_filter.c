/* A filter that copies, parses and frees 50,000 packets a second: 100,000 allocations a second, none of which lives
 * long.
 *
 * Truth: `leaks`: one fragment in 50,000 packets, one a second, waits for its other half, which never comes.
 * `corrected`: fragments are dropped after three seconds.
 * Hard: the leak is one in 100,000 allocations, 96 bytes a second. A sampling tool does not see it for hours. */
#include "../exam.h"

enum { PACKETS, HEADERS, FRAGMENTS };
static struct site sites[] = {
    HEALTHY("copy_packet", "heap", "freed at once"),
    HEALTHY("parse_headers", "heap", "freed at once"),
    PARTLY_LEAKS("keep_fragment", "heap", "fragments wait for their other half forever",
                 "fragments of the last seconds"),
};

struct fragment {
    struct timed timed;
    char data[80];
};
static struct wheel fragments;

static SITE char *copy_packet(size_t size) { return (char *)acquired(&sites[PACKETS], malloc(size), size); }

static SITE char *parse_headers(size_t size) { return (char *)acquired(&sites[HEADERS], malloc(size), size); }

static SITE struct fragment *keep_fragment(void) {
    return (struct fragment *)acquired(&sites[FRAGMENTS], malloc(sizeof(struct fragment)), sizeof(struct fragment));
}

static void filter(struct dice *dice, int leaks) {
    size_t size = (size_t)between(dice, 60, 900), headers_size = (size_t)between(dice, 24, 120);
    char *packet = copy_packet(size), *headers = parse_headers(headers_size);
    packet[0] = headers[0] = 'p';
    if (chance(dice, 1.0 / 50000)) {
        struct fragment *fragment = keep_fragment();
        memset(fragment->data, 'f', sizeof fragment->data);
        if (leaks) lost(&sites[FRAGMENTS], sizeof *fragment);
        else wheel_add(&fragments, fragment, now() + 3);
    }
    released(&sites[HEADERS], headers_size);
    free(headers);
    released(&sites[PACKETS], size);
    free(packet);
}

int main(int argc, char **argv) {
    struct dice dice = {42};
    struct pace packets = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&packets, 50000)) >= 0;) {
        while (n-- > 0) filter(&dice, leaks);
        for (struct timed *next, *timed = wheel_ended(&fragments, now()); timed != NULL; timed = next) {
            next = timed->next;
            released(&sites[FRAGMENTS], sizeof(struct fragment));
            free(timed);
        }
    }
    FINISH("packet_filter", sites);
}
