/* The plugin of the report server that writes PDF. It counts with the clock and the sites of its host. */
#include "../../exam.h"

enum { FONTS, PAGES, FONTS_EACH = 3, PAGES_EACH = 6 };
static struct site *sites;

static SITE char *embed_font(size_t size) { return (char *)acquired(&sites[FONTS], malloc(size), size); }

static SITE char *lay_out_page(size_t size) { return (char *)acquired(&sites[PAGES], malloc(size), size); }

static void release(struct site *site, char *block, size_t size) {
    released(site, size);
    free(block);
}

void render(const void *clock, struct site *of_plugin, struct dice *dice, int leaks) {
    char *fonts[FONTS_EACH];
    size_t sizes[FONTS_EACH];
    memcpy(&exam, clock, sizeof exam);
    sites = of_plugin;
    for (int i = 0; i < FONTS_EACH; i++) {
        sizes[i] = (size_t)between(dice, 400, 2000);
        fonts[i] = (char *)memset(embed_font(sizes[i]), 'f', sizes[i]);
    }
    for (int i = 0; i < PAGES_EACH; i++) {
        size_t size = (size_t)between(dice, 1000, 9000);
        release(&sites[PAGES], (char *)memset(lay_out_page(size), 'p', size), size);
    }
    for (int i = 0; i < FONTS_EACH; i++) {
        if (leaks && i == 1) lost(&sites[FONTS], sizes[i]);
        else release(&sites[FONTS], fonts[i], sizes[i]);
    }
}
