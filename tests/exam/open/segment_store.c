/* A log-structured store. Its segments are mapped: the one that is written, and those of the last quarter minute for
 * readers. Every few seconds small segments are compacted into one.
 *
 * Truth: `leaks`: compacting unmaps its sources, except the one that was sealed early, which is forgotten; and every
 * snapshot for a backup leaves its anonymous mapping. `corrected`: all are unmapped.
 * Hard: mappings come and go at two call sites in both variants, and resident memory follows the readers. */
#include "../exam.h"
#include <fcntl.h>

enum { SEGMENT = 512 << 10, SNAPSHOT = 192 << 10, KEPT = 40, SOURCES = 4 };

enum { SEGMENTS, SNAPSHOTS, KEYS };
static struct site sites[] = {
    PARTLY_LEAKS("map_segment", "mmap", "a segment that was sealed early stays mapped after compaction",
                 "segments of the last quarter minute"),
    PARTLY_LEAKS("map_snapshot", "mmap", "mappings of snapshots are never removed", "snapshot in progress"),
    HEALTHY("copy_key", "heap", "freed at once"),
};
static char *segments[KEPT];
static long first, after; /* segments[first % KEPT] is the oldest */
static int file;

static SITE char *map_segment(void) {
    void *block = mmap(NULL, SEGMENT, PROT_READ, MAP_SHARED, file, 0);
    return (char *)acquired(&sites[SEGMENTS], block, SEGMENT);
}

static SITE char *map_snapshot(void) {
    void *block = mmap(NULL, SNAPSHOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return (char *)acquired(&sites[SNAPSHOTS], block, SNAPSHOT);
}

static SITE char *copy_key(size_t size) { return (char *)acquired(&sites[KEYS], malloc(size), size); }

static void unmap(struct site *site, char *block, size_t size) {
    released(site, size);
    munmap(block, size);
}

static void add_segment(void) {
    char *segment = map_segment();
    volatile char byte = 0;
    for (long at = 0; at < SEGMENT; at += 4096) byte ^= segment[at]; /* pages become resident */
    segments[after++ % KEPT] = segment;
}

/* The oldest segments become one. */
static void compact(struct dice *dice, int leaks) {
    long sealed_early = between(dice, 0, SOURCES); /* in one of five cases none of them */
    for (long i = 0; i < SOURCES; i++, first++) {
        if (leaks && i == sealed_early) lost(&sites[SEGMENTS], SEGMENT);
        else unmap(&sites[SEGMENTS], segments[first % KEPT], SEGMENT);
    }
}

static void back_up(int leaks) {
    char *snapshot = map_snapshot();
    memset(snapshot, 's', SNAPSHOT);
    if (leaks) lost(&sites[SNAPSHOTS], SNAPSHOT);
    else unmap(&sites[SNAPSHOTS], snapshot, SNAPSHOT);
}

int main(int argc, char **argv) {
    struct dice dice = {53};
    struct pace sealed = {0, 0}, backups = {0, 0}, reads = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    file = memfd_create("segments", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, SEGMENT) != 0) die("memfd_create");
    begin();
    for (long n; (n = due(&sealed, 2)) >= 0;) {
        for (; n > 0; n--) {
            add_segment();
            if (after - first > KEPT - SOURCES) compact(&dice, leaks);
        }
        for (n = due(&backups, 0.5); n > 0; n--) back_up(leaks);
        for (n = due(&reads, 300); n > 0; n--) {
            size_t size = (size_t)between(&dice, 16, 200);
            char *key = (char *)memset(copy_key(size), 'k', size);
            released(&sites[KEYS], size);
            free(key);
        }
    }
    FINISH("segment_store", sites);
}
