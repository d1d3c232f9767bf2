/* A relay for mail: mails wait in a queue in the order of their arrival and leave it in that order.
 *
 * Variants: `overload`: the outflow is 85 % of the inflow forever, so that the queue grows without end, though every
 * mail is released in its turn: a backlog, not a leak. `recovers`: the outflow stops for 20 of every 30 seconds, then
 * catches up. `leaks`: as `recovers`, and 2 % of the mails are deferred to a list that nobody reads.
 * Hard: in all variants the queue grows as a leak does, while the age of its oldest mail rises; what is deferred has
 * the call site of all mails. */
#include "../exam.h"

enum { OVERLOAD, RECOVERS, DEFERS };

enum { MAILS, LOOKUPS };
static struct site sites[] = {
    PARTLY_LEAKS("enqueue_mail", "heap", "deferred mails are never sent", "backlog: mails leave the queue in order"),
    HEALTHY("look_up_host", "heap", "freed at once"),
};

struct mail {
    struct mail *next;
    size_t size;
    char text[];
};
static struct mail *oldest, **newest = &oldest, *deferred;

static SITE struct mail *enqueue_mail(size_t size) {
    return (struct mail *)acquired(&sites[MAILS], malloc(sizeof(struct mail) + size), sizeof(struct mail) + size);
}

static SITE char *look_up_host(size_t size) { return (char *)acquired(&sites[LOOKUPS], malloc(size), size); }

static void send_oldest(struct dice *dice, int variant) {
    struct mail *mail = oldest;
    char *host = (char *)memset(look_up_host(128), 'h', 128);
    oldest = mail->next;
    if (oldest == NULL) newest = &oldest;
    if (variant == DEFERS && chance(dice, 0.02)) {
        mail->next = deferred;
        deferred = mail;
        lost(&sites[MAILS], sizeof *mail + mail->size);
    } else {
        released(&sites[MAILS], sizeof *mail + mail->size);
        free(mail);
    }
    released(&sites[LOOKUPS], 128);
    free(host);
}

int main(int argc, char **argv) {
    const double inflow = 120;
    struct dice dice = {50};
    struct pace arrivals = {0, 0}, departures = {0, 0};
    int variant = choose(argc, argv, "overload recovers leaks");
    begin();
    for (long n; (n = due(&arrivals, inflow)) >= 0;) {
        for (; n > 0; n--) {
            size_t size = (size_t)about(&dice, 900) + 100;
            struct mail *mail = enqueue_mail(size);
            memset(mail->text, 'm', size);
            mail->size = size;
            mail->next = NULL;
            *newest = mail;
            newest = &mail->next;
        }
        double outflow = variant == OVERLOAD ? 0.85 * inflow : (long)now() % 30 < 20 ? 0 : 5 * inflow;
        for (n = due(&departures, outflow); n > 0 && oldest != NULL; n--) send_oldest(&dice, variant);
    }
    FINISH("smtp_relay", sites);
}
