/* route_table: a router whose four reader threads look routes up without a lock while one writer replaces routes; what
 * was replaced is retired, and freed later, when no reader can see it any more.
 *
 * True: healthy: frees are deferred. The list of retired routes is swept when it has 5,000 entries or is eight virtual
 * seconds old and every reader has passed a quiet point; so it goes up and down like a sawtooth.
 *
 * Hard: between two sweeps nothing is freed, whatever was replaced; new routes appear at the rate of the replacements;
 * the table itself also grows at first, until all 4,000 routes have been announced. */
#include "../exam.h"

enum { ANNOUNCE_ROUTE, RETIRE_ROUTE, TRACE_LOOKUP, SITES };
static struct site sites[SITES] = {
    HEALTHY("announce_route", "heap", "4000 routes, and those replaced since the last sweep"),
    HEALTHY("retire_route", "heap", "entries of the list of retired routes, freed when it is swept"),
    HEALTHY("trace_lookup", "heap", "freed by the reader after the lookup"),
};

enum { PREFIXES = 4000, READERS = 4, MOST_RETIRED = 5000, OLDEST = 8, UPDATES = 400, LOOKUPS = 800 };
struct route {
    uint32_t prefix, metric;
    char next_hops[88];
};
struct retired {
    struct retired *next;
    struct route *route;
};

static struct route *_Atomic routes[PREFIXES];
static struct retired *retired;
static long retired_count;
static unsigned long epochs[READERS]; /* a reader is inside a lookup while its epoch is odd */

SITE static struct route *announce_route(uint32_t prefix) {
    struct route *route = acquired(&sites[ANNOUNCE_ROUTE], malloc(sizeof *route), sizeof *route);
    memset(route, 0, sizeof *route);
    route->prefix = prefix;
    return route;
}

SITE static void retire_route(struct route *route) {
    struct retired *entry = acquired(&sites[RETIRE_ROUTE], malloc(sizeof *entry), sizeof *entry);
    *entry = (struct retired){retired, route};
    retired = entry;
    retired_count++;
}

SITE static char *trace_lookup(size_t size) {
    char *trace = acquired(&sites[TRACE_LOOKUP], malloc(size), size);
    return memset(trace, 'T', size);
}

static void *read_routes(void *argument) {
    unsigned long *epoch = argument, found = 0;
    struct dice own = {(uint64_t)(epoch - epochs) * 7919 + 53};
    struct pace pace = {0};
    for (long n; (n = due(&pace, LOOKUPS)) >= 0;)
        for (; n > 0; n--) {
            size_t size = (size_t)between(&own, 32, 200);
            char *trace = trace_lookup(size);
            __atomic_fetch_add(epoch, 1, __ATOMIC_SEQ_CST);
            struct route *route = routes[skewed(&own, PREFIXES)];
            if (route != NULL) found += route->metric + (unsigned char)trace[size / 2];
            __atomic_fetch_add(epoch, 1, __ATOMIC_SEQ_CST);
            released(&sites[TRACE_LOOKUP], size);
            free(trace);
        }
    return found == 1 ? argument : NULL;
}

/* Waits until each reader has been outside a lookup, and frees what was retired before. */
static void sweep(void) {
    for (int i = 0; i < READERS; i++) {
        unsigned long seen = __atomic_load_n(&epochs[i], __ATOMIC_SEQ_CST);
        while (seen % 2 != 0 && __atomic_load_n(&epochs[i], __ATOMIC_SEQ_CST) == seen) nap(0.0001);
    }
    for (struct retired *next; retired != NULL; retired = next) {
        next = retired->next;
        released(&sites[ANNOUNCE_ROUTE], sizeof(struct route));
        free(retired->route);
        released(&sites[RETIRE_ROUTE], sizeof *retired);
        free(retired);
    }
    retired_count = 0;
}

int main(void) {
    struct dice dice = {179};
    struct pace pace = {0};
    pthread_t readers[READERS];
    begin();
    for (int i = 0; i < READERS; i++) readers[i] = start_thread(read_routes, &epochs[i]);
    double swept = 0;
    for (long n; (n = due(&pace, UPDATES)) >= 0;) {
        for (; n > 0; n--) {
            uint32_t prefix = (uint32_t)between(&dice, 0, PREFIXES - 1);
            struct route *route = announce_route(prefix), *old;
            route->metric = (uint32_t)between(&dice, 1, 100);
            old = __atomic_exchange_n((struct route **)&routes[prefix], route, __ATOMIC_SEQ_CST);
            if (old != NULL) retire_route(old);
        }
        if (retired_count < MOST_RETIRED && now() < swept + OLDEST) continue;
        sweep();
        swept = now();
    }
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    FINISH("route_table", sites);
}
