/* The plugin of the report server that writes CSV: the same amount of work as `pdf.c`, and all is freed. */
#include "../../exam.h"

enum { FIELDS, ROWS, FIELDS_EACH = 3, ROWS_EACH = 6 };
static struct site *sites;

static SITE char *quote_field(size_t size) { return (char *)acquired(&sites[FIELDS], malloc(size), size); }

static SITE char *write_row(size_t size) { return (char *)acquired(&sites[ROWS], malloc(size), size); }

static void release(struct site *site, char *block, size_t size) {
    released(site, size);
    free(block);
}

void render(const void *clock, struct site *of_plugin, struct dice *dice, int leaks) {
    char *fields[FIELDS_EACH];
    size_t sizes[FIELDS_EACH];
    (void)leaks; /* never */
    memcpy(&exam, clock, sizeof exam);
    sites = of_plugin;
    for (int i = 0; i < FIELDS_EACH; i++) {
        sizes[i] = (size_t)between(dice, 20, 600);
        fields[i] = (char *)memset(quote_field(sizes[i]), 'f', sizes[i]);
    }
    for (int i = 0; i < ROWS_EACH; i++) {
        size_t size = (size_t)between(dice, 100, 3000);
        release(&sites[ROWS], (char *)memset(write_row(size), 'r', size), size);
    }
    for (int i = 0; i < FIELDS_EACH; i++) release(&sites[FIELDS], fields[i], sizes[i]);
}
