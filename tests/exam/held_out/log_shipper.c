/* log_shipper: takes records from an application over a socket pair, queues them, and ships them to a collector, which
 * answers each.
 *
 * True: an entry in the table of records that are not acknowledged yet is made for each record shipped, and removed
 * when the collector says yes. When it says no (one in 200), the record is skipped, and its entry stays in the table:
 * reachable, but nothing will ever remove it. The queue is healthy: the collector pauses for ten seconds of every
 * thirty, and then takes records faster than they come.
 *
 * Hard: the queue goes up and down by megabytes, and may be high at the end; the leak is some 0.3 KiB a second, and
 * comes in bursts after the pauses. */
#include "../exam.h"
#include <errno.h>

enum { QUEUE_RECORD, TRACK_UNACKED, SITES };
static struct site sites[SITES] = {
    HEALTHY("queue_record", "heap", "backlog while the collector pauses (10 s of every 30 s); shipped afterwards"),
    PARTLY_LEAKS("track_unacked", "heap", "the entry of a record that the collector refuses is never removed",
                 "one entry for each record on its way"),
};

enum { RATE = 1200, MOST = 900, TABLE = 4096, REFUSED = 200 }; /* one in REFUSED */
struct record {
    struct record *next;
    uint32_t number, size;
    char text[];
};
struct entry {
    struct entry *next;
    uint32_t number, size;
    double shipped;
    char stream[24];
};
struct answer {
    uint32_t number;
    int accepted;
};

static struct record *first, **last = &first;
static struct entry *table[TABLE];
static uint32_t numbers;

static int collector_pauses(void) {
    long second = (long)now() % 30;
    return second >= 12 && second < 22;
}

SITE static void queue_record(const char *text, size_t size) {
    struct record *record = acquired(&sites[QUEUE_RECORD], malloc(sizeof *record + size), sizeof *record + size);
    record->next = NULL;
    record->number = numbers++;
    record->size = (uint32_t)size;
    memcpy(record->text, text, size);
    *last = record;
    last = &record->next;
}

SITE static void track_unacked(const struct record *record) {
    struct entry *entry = acquired(&sites[TRACK_UNACKED], calloc(1, sizeof *entry), sizeof *entry);
    struct entry **slot = &table[record->number % TABLE];
    *entry = (struct entry){.next = *slot, .number = record->number, .size = record->size, .shipped = now()};
    *slot = entry;
}

static void forget_unacked(uint32_t number) {
    struct entry **link = &table[number % TABLE], *entry;
    while ((*link)->number != number) link = &(*link)->next;
    entry = *link;
    *link = entry->next;
    released(&sites[TRACK_UNACKED], sizeof *entry);
    free(entry);
}

static void ship_records(int collector) {
    while (first != NULL) {
        struct record *record = first;
        struct answer header = {record->number, 0};
        if (send(collector, &header, sizeof header, MSG_DONTWAIT) < 0) return; /* full: later */
        track_unacked(record);
        first = record->next;
        if (first == NULL) last = &first;
        released(&sites[QUEUE_RECORD], sizeof *record + record->size);
        free(record);
    }
}

static void hear_collector(int collector) {
    struct answer answer;
    while (recv(collector, &answer, sizeof answer, MSG_DONTWAIT) > 0) {
        if (answer.accepted) forget_unacked(answer.number);
        else lost(&sites[TRACK_UNACKED], sizeof(struct entry));
    }
}

static void *collect(void *argument) {
    int shipper = (int)(intptr_t)argument;
    struct dice own = {90210};
    struct pace pace = {0};
    struct answer answer;
    for (long n; (n = due(&pace, RATE * 4)) >= 0;)
        while (!collector_pauses() && n-- > 0 && recv(shipper, &answer, sizeof answer, MSG_DONTWAIT) > 0) {
            answer.accepted = !chance(&own, 1.0 / REFUSED);
            (void)!send(shipper, &answer, sizeof answer, 0);
        }
    return NULL;
}

static void *application(void *socket) {
    struct dice own = {555};
    struct pace pace = {0};
    char text[MOST];
    memset(text, 'r', sizeof text);
    for (long n; (n = due(&pace, RATE)) >= 0;)
        for (; n > 0; n--) (void)!send((int)(intptr_t)socket, text, 40 + (size_t)skewed(&own, MOST - 40), MSG_DONTWAIT);
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return NULL;
}

int main(void) {
    int source[2], sink[2];
    socket_pair(source);
    socket_pair(sink);
    begin();
    pthread_t producer = start_thread(application, (void *)(intptr_t)source[1]);
    pthread_t collector = start_thread(collect, (void *)(intptr_t)sink[1]);
    char text[MOST];
    for (ssize_t got; (got = receive(source[0], text, sizeof text)) != 0;) {
        if (got > 0) queue_record(text, (size_t)got);
        hear_collector(sink[0]);
        ship_records(sink[0]);
    }
    pthread_join(producer, NULL);
    pthread_join(collector, NULL);
    FINISH("log_shipper", sites);
}
