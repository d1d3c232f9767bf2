/* thumbnail_workers: eight worker threads scale images that a dispatcher hands to them over socket pairs.
 *
 * True: worker 5 serves the customer that wants its metadata kept. When such an image is rotated (one in three), it
 * forgets the copy of the metadata; the seven others run the same code and free it always. The scratch memory of each
 * worker is healthy: it grows to the largest image that the worker has seen, 1 MiB at most.
 *
 * Hard: one thread of eight leaks, 1 block of 24 from this function; the sizes of the blocks vary widely. */
#include "../exam.h"

enum { ALLOC_SCANLINES, COPY_EXIF, GROW_SCRATCH, SITES };
static struct site sites[SITES] = {
    HEALTHY("alloc_scanlines", "heap", "freed when the image is done"),
    LEAKS("copy_exif", "heap", "worker 5 forgets the metadata of rotated images"),
    HEALTHY("grow_scratch", "heap", "one block for each worker, as large as its largest image"),
};

enum { WORKERS = 8, RATE = 2400, LARGEST = 1 << 20 };
struct image {
    uint32_t width, height, exif;
    uint8_t rotated;
};
struct worker {
    int number, ends[2];
    size_t scratch_size;
    char *scratch;
    unsigned long pixels;
    pthread_t thread;
};
static struct worker workers[WORKERS];

SITE static char *alloc_scanlines(size_t size) {
    return acquired(&sites[ALLOC_SCANLINES], malloc(size), size);
}

SITE static char *copy_exif(size_t size) {
    char *exif = acquired(&sites[COPY_EXIF], malloc(size), size);
    return memset(exif, 'E', size);
}

SITE static void grow_scratch(struct worker *worker, size_t size) {
    char *larger = realloc(worker->scratch, size);
    if (worker->scratch_size != 0) released(&sites[GROW_SCRATCH], worker->scratch_size);
    worker->scratch = acquired(&sites[GROW_SCRATCH], larger, size);
    worker->scratch_size = size;
}

static void scale(struct worker *worker, const struct image *image) {
    size_t whole = (size_t)image->width * image->height, line = (size_t)image->width * 4;
    if (whole > LARGEST) whole = LARGEST;
    if (whole > worker->scratch_size) grow_scratch(worker, whole);
    char *scanlines = alloc_scanlines(line), *exif = copy_exif(image->exif);
    memset(scanlines, image->rotated, line);
    memcpy(worker->scratch, scanlines, line < whole ? line : whole);
    worker->pixels += (unsigned char)worker->scratch[whole / 2] + (unsigned char)exif[0];
    released(&sites[ALLOC_SCANLINES], line);
    free(scanlines);
    int keeps_metadata = worker->number == 5;
    if (keeps_metadata && image->rotated) {
        lost(&sites[COPY_EXIF], image->exif);
        return;
    }
    released(&sites[COPY_EXIF], image->exif);
    free(exif);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct image image;
    for (ssize_t got; (got = receive(worker->ends[0], &image, sizeof image)) != 0;)
        if (got > 0) scale(worker, &image);
    return NULL;
}

int main(void) {
    struct dice dice = {8086};
    struct pace pace = {0};
    for (int i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        socket_pair(workers[i].ends);
        workers[i].thread = start_thread(work, &workers[i]);
    }
    begin();
    unsigned long images = 0;
    for (long n; (n = due(&pace, RATE)) >= 0;)
        for (; n > 0; n--) {
            struct image image = {.width = (uint32_t)between(&dice, 16, 640),
                                  .height = (uint32_t)(16 + skewed(&dice, 16 + skewed(&dice, 1700))),
                                  .exif = (uint32_t)(64 + skewed(&dice, 3000)),
                                  .rotated = (uint8_t)chance(&dice, 1.0 / 3)};
            (void)!send(workers[images++ % WORKERS].ends[1], &image, sizeof image, 0);
        }
    for (int i = 0; i < WORKERS; i++) {
        shutdown(workers[i].ends[1], SHUT_WR);
        pthread_join(workers[i].thread, NULL);
    }
    FINISH("thumbnail_workers", sites);
}
