/* A daemon that keeps the last 6,000 events of a firewall in a ring, and a summary of each rule.
 *
 * Truth: `leaks`: the ring overwrites the oldest event but forgets its attachment, which one event in twenty has.
 * `corrected`: it frees it.
 * Hard: until the ring is full, for fifteen seconds, ring and attachments grow as a leak does, in both variants. */
#include "../exam.h"

enum { RING = 6000, RULES = 400 };

enum { EVENTS, ATTACHMENTS, SUMMARIES };
static struct site sites[] = {
    HEALTHY("record_event", "heap", "ring: full at 6,000"),
    PARTLY_LEAKS("attach_packet", "heap", "overwriting an event forgets its attachment", "attachments of the ring"),
    HEALTHY("summarize_rule", "heap", "table filled lazily, then replaced in place"),
};

struct event {
    char *packet;
    size_t packet_size;
    char line[120];
};
static struct event *ring[RING];
static char *summaries[RULES];
static long at;

static SITE struct event *record_event(void) {
    return (struct event *)acquired(&sites[EVENTS], malloc(sizeof(struct event)), sizeof(struct event));
}

static SITE char *attach_packet(size_t size) { return (char *)acquired(&sites[ATTACHMENTS], malloc(size), size); }

static SITE char *summarize_rule(size_t size) { return (char *)acquired(&sites[SUMMARIES], malloc(size), size); }

static void drop_event(struct event *event, int leaks) {
    if (event->packet != NULL && leaks) {
        lost(&sites[ATTACHMENTS], event->packet_size);
    } else if (event->packet != NULL) {
        released(&sites[ATTACHMENTS], event->packet_size);
        free(event->packet);
    }
    released(&sites[EVENTS], sizeof *event);
    free(event);
}

int main(int argc, char **argv) {
    struct dice dice = {35};
    struct pace events = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&events, 400)) >= 0;)
        while (n-- > 0) {
            struct event **slot = &ring[at++ % RING];
            if (*slot != NULL) drop_event(*slot, leaks);
            *slot = record_event();
            memset((*slot)->line, 'e', sizeof (*slot)->line);
            (*slot)->packet = NULL;
            if (chance(&dice, 0.05)) {
                (*slot)->packet_size = (size_t)between(&dice, 64, 1500);
                (*slot)->packet = attach_packet((*slot)->packet_size);
                memset((*slot)->packet, 'p', (*slot)->packet_size);
            }
            char **summary = &summaries[skewed(&dice, RULES)];
            if (*summary != NULL) {
                released(&sites[SUMMARIES], 256);
                free(*summary);
            }
            *summary = summarize_rule(256);
            memset(*summary, 's', 256);
        }
    FINISH("audit_ring", sites);
}
