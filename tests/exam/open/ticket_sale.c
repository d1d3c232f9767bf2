/* A shop for tickets: seats are held while an order is open. Only the load changes.
 *
 * Variants: `ramp_up`: the load rises to twelve times its beginning during the whole run; `ramp_down`: the reverse;
 * `daily`: a wave with a period of a virtual day, to be played at a speed of about 1,920; nothing leaks. `daily_leaks`:
 * one order in forty is abandoned, and its seat is forgotten.
 * Hard: outstanding memory follows the load alone; on the rising half of a day healthy memory grows faster than what
 * leaks, and on the falling half even a leaking process shrinks. */
#include "../exam.h"

static const double DAY = 86400;

enum { ORDERS, SEATS, RECEIPTS };
static struct site sites[] = {
    HEALTHY("open_order", "heap", "orders in progress follow the load"),
    PARTLY_LEAKS("hold_seat", "heap", "the seat of an abandoned order is forgotten", "seats of orders in progress"),
    HEALTHY("print_receipt", "heap", "freed at once"),
};

struct order {
    struct timed timed;
    char *seat;
    char customer[400];
};
enum { SEAT = 72, RECEIPT = 900 };
static struct wheel orders;

static SITE struct order *open_order(void) {
    return (struct order *)acquired(&sites[ORDERS], malloc(sizeof(struct order)), sizeof(struct order));
}

static SITE char *hold_seat(void) { return (char *)acquired(&sites[SEATS], malloc(SEAT), SEAT); }

static SITE char *print_receipt(void) { return (char *)acquired(&sites[RECEIPTS], malloc(RECEIPT), RECEIPT); }

static void end_orders(double until, struct dice *dice, int leaks) {
    for (struct timed *next, *timed = wheel_ended(&orders, until); timed != NULL; timed = next) {
        struct order *order = (struct order *)timed;
        next = timed->next;
        if (leaks && chance(dice, 0.025)) {
            lost(&sites[SEATS], SEAT);
        } else {
            free(memset(print_receipt(), 'r', RECEIPT));
            released(&sites[RECEIPTS], RECEIPT);
            released(&sites[SEATS], SEAT);
            free(order->seat);
        }
        released(&sites[ORDERS], sizeof *order);
        free(order);
    }
}

/* A wave between 0 and 1, without the mathematical library: lowest at midnight. */
static double wave(double time) {
    double x = 2 * (time / DAY - (double)(long)(time / DAY));
    if (x > 1) x = 2 - x;
    return x * x * (3 - 2 * x);
}

int main(int argc, char **argv) {
    enum { RAMP_UP, RAMP_DOWN, DAILY, DAILY_LEAKS };
    struct dice dice = {40};
    struct pace arrivals = {0, 0};
    int variant = choose(argc, argv, "ramp_up ramp_down daily daily_leaks");
    double lifetime = variant < DAILY ? 12 : 900;
    begin();
    for (double rate = 0;;) {
        long n = due(&arrivals, rate);
        double part = now() / duration();
        if (n < 0) break;
        if (variant < DAILY) rate = 20 + 220 * (variant == RAMP_DOWN ? 1 - part : part);
        else rate = 0.1 + 1.4 * wave(now());
        while (n-- > 0) {
            struct order *order = open_order();
            memset(order->customer, 'c', sizeof order->customer);
            order->seat = (char *)memset(hold_seat(), 's', SEAT);
            wheel_add(&orders, order, now() + about(&dice, lifetime));
        }
        end_orders(now(), &dice, variant == DAILY_LEAKS);
    }
    FINISH("ticket_sale", sites);
}
