/* A report server. For each report it loads the plugin of the report's format, has it render some pages, and unloads it:
 * four reports a second. The plugins are `report_server/csv.c` and `report_server/pdf.c`.
 *
 * Truth: `leaks`: each report in PDF leaves one of the fonts that it embeds. `corrected`: all are freed with the report.
 * Hard: both plugins are loaded in turn at the same addresses, call the allocator at similar places, and are gone when
 * somebody asks for names. */
#include "../exam.h"
#include <dlfcn.h>

enum { QUERIES = 400, JOBS = 64 };

enum { CSV_FIELDS, CSV_ROWS, PDF_FONTS, PDF_PAGES, ROWS, CACHED, WAITING };
static struct site sites[] = {
    HEALTHY("quote_field", "heap", "freed with the report"),
    HEALTHY("write_row", "heap", "freed with the report"),
    PARTLY_LEAKS("embed_font", "heap", "each report in PDF forgets one of its fonts", "freed with the report"),
    HEALTHY("lay_out_page", "heap", "freed with the report"),
    HEALTHY("read_rows", "heap", "freed at once"),
    HEALTHY("cache_query", "heap", "cache, full at 400"),
    HEALTHY("queue_report", "heap", "reports that wait for a second"),
};

struct report {
    struct timed timed;
    int is_pdf;
    char title[100];
};
typedef void render_report(const void *clock, struct site *of_plugin, struct dice *dice, int leaks);
static struct wheel waiting;
static char plugins[2][4096];

static SITE char *read_rows(size_t size) { return (char *)acquired(&sites[ROWS], malloc(size), size); }

static SITE char *cache_query(size_t size) { return (char *)acquired(&sites[CACHED], malloc(size), size); }

static SITE struct report *queue_report(void) {
    void *block = malloc(sizeof(struct report));
    return (struct report *)acquired(&sites[WAITING], block, sizeof(struct report));
}

/* Plugins are files beside the program: their names begin with its own. */
static void find_plugin(char path[4096], const char *format) {
    char own[4000];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own);
    if (length < 0) die("readlink");
    snprintf(path, 4096, "%.*s_%s.so", (int)length, own, format);
}

static void render(const struct report *report, struct dice *dice, int leaks) {
    void *plugin = dlopen(plugins[report->is_pdf], RTLD_NOW | RTLD_LOCAL);
    render_report *of_plugin = NULL;
    if (plugin != NULL) *(void **)&of_plugin = dlsym(plugin, "render");
    if (of_plugin == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(3);
    }
    of_plugin(&exam, &sites[report->is_pdf ? PDF_FONTS : CSV_FIELDS], dice, leaks);
    dlclose(plugin);
}

static void render_waiting(double until, struct dice *dice, int leaks) {
    for (struct timed *next, *timed = wheel_ended(&waiting, until); timed != NULL; timed = next) {
        next = timed->next;
        render((struct report *)timed, dice, leaks);
        released(&sites[WAITING], sizeof(struct report));
        free(timed);
    }
}

static void answer_query(struct dice *dice) {
    static char *cache[QUERIES];
    size_t size = (size_t)between(dice, 200, 4000);
    char *rows = (char *)memset(read_rows(size), 'r', size);
    char **query = &cache[skewed(dice, QUERIES)];
    if (*query == NULL) *query = (char *)memset(cache_query(300), 'q', 300);
    released(&sites[ROWS], size);
    free(rows);
}

int main(int argc, char **argv) {
    struct dice dice = {90};
    struct pace reports = {0, 0}, queries = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0, is_pdf = 0;
    find_plugin(plugins[0], "csv");
    find_plugin(plugins[1], "pdf");
    begin();
    for (long n; (n = due(&reports, 4)) >= 0; render_waiting(now(), &dice, leaks)) {
        for (; n > 0; n--) {
            struct report *report = queue_report();
            memset(report->title, 't', sizeof report->title);
            report->is_pdf = is_pdf ^= 1;
            wheel_add(&waiting, report, now() + about(&dice, 1));
        }
        for (n = due(&queries, 200); n > 0; n--) answer_query(&dice);
    }
    render_waiting(FOREVER, &dice, leaks);
    FINISH("report_server", sites);
}
