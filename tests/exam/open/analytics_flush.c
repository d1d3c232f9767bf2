/* Collects rows in memory and writes them out every fifteen seconds, shard by shard: a sawtooth of about 10 MiB.
 *
 * Truth: `leaks`: a flush forgets the last, half-filled segment of each of twelve shards. `corrected`: it frees all.
 * Hard: what is lost grows in steps, beneath teeth that are a thousand times as large, and during a tooth even what is
 * healthy only grows. */
#include "../exam.h"

enum { SHARDS = 12, SEGMENT = 256 };

enum { ROWS, SEGMENTS, BATCHES };
static struct site sites[] = {
    HEALTHY("add_row", "heap", "sawtooth: freed by each flush"),
    PARTLY_LEAKS("open_segment", "heap", "a flush forgets the last segment of a shard", "sawtooth"),
    HEALTHY("write_batch", "heap", "freed at once"),
};

struct row {
    struct row *next;
    size_t size;
    char text[];
};
struct segment {
    struct segment *next;
    struct row *rows;
    int length;
    char index[600];
};
static struct segment *shards[SHARDS];

static SITE struct row *add_row(size_t size) {
    return (struct row *)acquired(&sites[ROWS], malloc(sizeof(struct row) + size), sizeof(struct row) + size);
}

static SITE struct segment *open_segment(void) {
    return (struct segment *)acquired(&sites[SEGMENTS], calloc(1, sizeof(struct segment)), sizeof(struct segment));
}

static SITE char *write_batch(size_t size) { return (char *)acquired(&sites[BATCHES], malloc(size), size); }

static void flush_segment(struct segment *segment) {
    char *batch = write_batch(65536);
    for (struct row *next, *row = segment->rows; row != NULL; row = next) {
        next = row->next;
        memcpy(batch + row->size, row->text, row->size);
        released(&sites[ROWS], sizeof *row + row->size);
        free(row);
    }
    segment->rows = NULL;
    released(&sites[BATCHES], 65536);
    free(batch);
}

static void flush_all(int leaks) {
    for (int shard = 0; shard < SHARDS; shard++) {
        for (struct segment *next, *segment = shards[shard]; segment != NULL; segment = next) {
            next = segment->next;
            flush_segment(segment);
            if (leaks && segment->length < SEGMENT) {
                lost(&sites[SEGMENTS], sizeof *segment);
                continue;
            }
            released(&sites[SEGMENTS], sizeof *segment);
            free(segment);
        }
        shards[shard] = NULL;
    }
}

int main(int argc, char **argv) {
    struct dice dice = {34};
    struct pace rows = {0, 0};
    double flush_at = 15;
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&rows, 2500)) >= 0;) {
        while (n-- > 0) {
            struct segment **shard = &shards[roll(&dice) % SHARDS];
            if (*shard == NULL || (*shard)->length == SEGMENT) {
                struct segment *segment = open_segment();
                segment->next = *shard;
                *shard = segment;
            }
            size_t size = (size_t)between(&dice, 100, 400);
            struct row *row = add_row(size);
            memset(row->text, 'r', size);
            row->size = size;
            row->next = (*shard)->rows;
            (*shard)->rows = row;
            (*shard)->length++;
        }
        if (now() < flush_at) continue;
        flush_all(leaks);
        flush_at = now() + 15;
    }
    FINISH("analytics_flush", sites);
}
