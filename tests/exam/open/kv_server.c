/* A key-value server with an LRU list of 12,000 entries, as in memcached.
 *
 * Truth: `leaks`: a `set` of an existing key reuses the value's block if the new value fits, and otherwise forgets the
 * old block. `corrected`: it frees it.
 * Hard: most blocks of the function are released, by eviction or by `delete`, and the share that is not depends on the
 * sizes that clients send. The LRU fills at the same time. */
#include "../exam.h"

enum { KEYS = 60000, MOST = 12000 };

enum { ENTRIES, VALUES };
static struct site sites[] = {
    HEALTHY("insert_entry", "heap", "LRU: full at 12,000 entries"),
    PARTLY_LEAKS("allocate_value", "heap", "a larger value replaces the old one, which is forgotten",
                 "values of the LRU"),
};

struct entry {
    struct entry *newer, *older;
    char *value;
    size_t room;
    long key;
};
static struct entry *table[KEYS], ends = {&ends, &ends, NULL, 0, -1};
static long entries;
static int leaks;

static SITE struct entry *insert_entry(void) {
    return (struct entry *)acquired(&sites[ENTRIES], malloc(sizeof(struct entry)), sizeof(struct entry));
}

static SITE char *allocate_value(size_t size) { return (char *)acquired(&sites[VALUES], malloc(size), size); }

static void free_value(struct entry *entry) {
    released(&sites[VALUES], entry->room);
    free(entry->value);
}

static void unlink_entry(struct entry *entry) {
    entry->newer->older = entry->older;
    entry->older->newer = entry->newer;
}

static void link_newest(struct entry *entry) {
    entry->older = ends.older;
    entry->newer = &ends;
    ends.older->newer = entry;
    ends.older = entry;
}

static void delete_entry(struct entry *entry) {
    unlink_entry(entry);
    table[entry->key] = NULL;
    free_value(entry);
    released(&sites[ENTRIES], sizeof *entry);
    free(entry);
    entries--;
}

static void set(long key, size_t size) {
    struct entry *entry = table[key];
    if (entry != NULL) {
        unlink_entry(entry);
    } else {
        if (entries == MOST) delete_entry(ends.newer);
        table[key] = entry = insert_entry();
        entry->key = key;
        entry->value = NULL;
        entries++;
    }
    link_newest(entry);
    if (entry->value == NULL || entry->room < size) {
        if (entry->value != NULL && leaks) lost(&sites[VALUES], entry->room);
        else if (entry->value != NULL) free_value(entry);
        entry->value = allocate_value(size);
        entry->room = size;
    }
    memset(entry->value, 'v', size);
}

int main(int argc, char **argv) {
    struct dice dice = {32};
    struct pace requests = {0, 0};
    leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&requests, 900)) >= 0;)
        while (n-- > 0) {
            long key = skewed(&dice, KEYS);
            if (chance(&dice, 0.05) && table[key] != NULL) delete_entry(table[key]);
            else if (chance(&dice, 0.6)) set(key, (size_t)between(&dice, 40, 400));
        }
    FINISH("kv_server", sites);
}
