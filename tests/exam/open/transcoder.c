/* Eight threads transcode segments of video. One of them drives the hardware encoder, with a path of its own.
 *
 * Truth: `leaks`: the hardware path forgets the side data of each segment that it had to split. `corrected`: it frees
 * it.
 * Hard: seven threads acquire and free at the same call site, with the same stack up to the thread's function; the
 * share that is never freed is 1 in 24. Frames are reused for the whole life of a thread. */
#include "../exam.h"

enum { THREADS = 8, HARDWARE = 5, FRAME = 120000 };

enum { SEGMENTS, SIDE_DATA, FRAMES };
static struct site sites[] = {
    HEALTHY("read_segment", "heap", "freed when the segment is written"),
    PARTLY_LEAKS("copy_side_data", "heap", "the hardware path forgets the side data of split segments",
                 "freed with the segment"),
    HEALTHY("grow_frame", "heap", "scratch memory of each thread, reused"),
};
static int leaks;

static SITE char *read_segment(size_t size) { return (char *)acquired(&sites[SEGMENTS], malloc(size), size); }

static SITE char *copy_side_data(size_t size) { return (char *)acquired(&sites[SIDE_DATA], malloc(size), size); }

static SITE char *grow_frame(char *frame, size_t from, size_t to) {
    if (from > 0) released(&sites[FRAMES], from);
    return (char *)acquired(&sites[FRAMES], realloc(frame, to), to);
}

static void encode(struct dice *dice, int hardware, char *frame) {
    size_t size = (size_t)between(dice, 4000, 30000), side_size = (size_t)between(dice, 48, 320);
    char *segment = read_segment(size), *side_data = copy_side_data(side_size);
    memset(segment, 's', size);
    memset(side_data, 'd', side_size);
    memcpy(frame, segment, size);
    int split = chance(dice, 0.33);
    released(&sites[SEGMENTS], size);
    free(segment);
    if (hardware && split && leaks) {
        lost(&sites[SIDE_DATA], side_size);
        return;
    }
    released(&sites[SIDE_DATA], side_size);
    free(side_data);
}

static void *transcode(void *number) {
    struct dice dice = {(uint64_t)(uintptr_t)number + 44};
    struct pace segments = {0, 0};
    size_t size = 30000;
    char *frame = grow_frame(NULL, 0, size);
    for (long n; (n = due(&segments, 25)) >= 0;)
        while (n-- > 0) {
            if (size < FRAME && chance(&dice, 0.01)) {
                frame = grow_frame(frame, size, size + 10000);
                size += 10000;
            }
            encode(&dice, (uintptr_t)number == HARDWARE, frame);
        }
    return NULL; /* the thread's frame stays: threads end with the process only */
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (uintptr_t i = 0; i < THREADS; i++) threads[i] = start_thread(transcode, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    FINISH("transcoder", sites);
}
