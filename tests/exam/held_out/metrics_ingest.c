/* metrics_ingest: takes packets of fifty samples, 100,000 samples a second, merges them into series every 100 ms, and
 * frees them.
 *
 * True: one sample in 500 has a unit of its own, which is freed with the sample, except for samples of type `set` (one
 * in a hundred of these): two small strings are lost per second. The table of series is healthy: an entry for each of
 * 6,000 names when it is first used.
 *
 * Hard: one block in 50,000 is lost, from a function that frees 99 %; beside it a table that is filled lazily grows
 * faster than the leak for most of the run. */
#include "../exam.h"

enum { PARSE_SAMPLE, COPY_UNIT, ADD_SERIES, SITES };
static struct site sites[SITES] = {
    HEALTHY("parse_sample", "heap", "freed at the next flush, 100 ms later"),
    LEAKS("copy_unit", "heap", "the unit of a sample of type set is not freed with the sample"),
    HEALTHY("add_series", "heap", "an entry for each of 6000 names, made when it is first used"),
};

/* One sample in 1000 is of a series that is not among the popular ones. */
enum { SERIES = 6000, POPULAR = 300, LINES = 50, RATE = 100000 };
enum type { COUNTER, GAUGE, SET };
struct line {
    uint32_t series;
    uint16_t extra; /* bytes of tags */
    uint8_t type, unit;
    float value;
};
struct sample {
    struct sample *next;
    struct line line;
    char *unit;
    char tags[];
};
struct series {
    double sum, last;
    long samples;
    char name[88];
};

static struct series *table[SERIES];
static struct sample *window;

SITE static struct sample *parse_sample(const struct line *line) {
    size_t size = sizeof(struct sample) + line->extra;
    struct sample *sample = acquired(&sites[PARSE_SAMPLE], malloc(size), size);
    sample->line = *line;
    sample->unit = NULL;
    memset(sample->tags, 't', line->extra);
    return sample;
}

SITE static char *copy_unit(size_t size) {
    char *unit = acquired(&sites[COPY_UNIT], malloc(size), size);
    memset(unit, 'u', size - 1);
    unit[size - 1] = 0;
    return unit;
}

SITE static struct series *add_series(uint32_t number) {
    struct series *series = acquired(&sites[ADD_SERIES], calloc(1, sizeof *series), sizeof *series);
    snprintf(series->name, sizeof series->name, "app.requests.%u.latency", number);
    return series;
}

static void free_sample(struct sample *sample) {
    size_t unit_size = sample->line.unit;
    if (sample->unit != NULL && sample->line.type == SET) {
        lost(&sites[COPY_UNIT], unit_size);
    } else if (sample->unit != NULL) {
        released(&sites[COPY_UNIT], unit_size);
        free(sample->unit);
    }
    released(&sites[PARSE_SAMPLE], sizeof *sample + sample->line.extra);
    free(sample);
}

static void flush_window(void) {
    for (struct sample *next; window != NULL; window = next) {
        struct series **series = &table[window->line.series];
        if (*series == NULL) *series = add_series(window->line.series);
        (*series)->last = window->line.value;
        (*series)->sum += window->line.type == COUNTER ? window->line.value : 0;
        (*series)->samples++;
        next = window->next;
        free_sample(window);
    }
}

static void *agents(void *socket) {
    struct dice own = {31337};
    struct pace pace = {0};
    struct line packet[LINES];
    for (long n; (n = due(&pace, (double)RATE / LINES)) >= 0;)
        for (; n > 0; n--) {
            for (int i = 0; i < LINES; i++) {
                uint64_t bits = roll(&own);
                long series = chance(&own, 0.001) ? between(&own, POPULAR, SERIES - 1) : skewed(&own, POPULAR);
                packet[i] = (struct line){(uint32_t)series, (uint16_t)(bits % 90), (uint8_t)(bits >> 60 & 1), 0,
                                          (float)(bits >> 40)};
                if (chance(&own, 0.002)) packet[i].unit = (uint8_t)between(&own, 8, 40);
                if (packet[i].unit != 0 && chance(&own, 0.01)) packet[i].type = SET;
            }
            (void)!send((int)(intptr_t)socket, packet, sizeof packet, 0);
        }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return NULL;
}

int main(void) {
    int ends[2];
    socket_pair(ends);
    begin();
    pthread_t sender = start_thread(agents, (void *)(intptr_t)ends[1]);
    struct line packet[LINES];
    double flushed = 0;
    for (ssize_t got; (got = receive(ends[0], packet, sizeof packet)) != 0;) {
        for (ssize_t i = 0; i < got / (ssize_t)sizeof *packet; i++) {
            struct sample *sample = parse_sample(&packet[i]);
            if (packet[i].unit != 0) sample->unit = copy_unit(packet[i].unit);
            sample->next = window;
            window = sample;
        }
        if (now() < flushed + 0.1) continue;
        flush_window();
        flushed = now();
    }
    pthread_join(sender, NULL);
    flush_window();
    FINISH("metrics_ingest", sites);
}
