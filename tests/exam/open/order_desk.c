/* An order desk. Orders wait for their execution for some seconds, quotes are answered at once, and each order holds
 * credit until it is filled or canceled. All memory comes from the library `order_desk/libpool.c`: each function that
 * makes something ends in a tail jump into it, and has no frame.
 *
 * Variants: if an order is canceled, one in four, the desk forgets: `heap`: its hold on the credit; `descriptor`: the
 * eventfd of its timer. `corrected`: neither.
 * Hard: on the stack, the library's function, or that of the C library, is called by `accept_order`, `answer_quote` or
 * `end_order`, which call several functions that jump; the one to look at is not on the stack. */
#include "../exam.h"
#include <sys/eventfd.h>

void *pool_take(size_t size), pool_give(void *block);

enum { HEAP_LOST, DESCRIPTOR_LOST, CLIENTS = 500 };

enum { ORDERS, HOLDS, WAKEUPS, NOTES, QUOTES, LEGS, SYMBOLS, RISKS, CLIENT_NAMES, FILLS, CONFIRMATIONS, POSTINGS };
static struct site sites[] = {
    HEALTHY("make_order", "heap", "orders that wait for some seconds"),
    PARTLY_LEAKS("make_hold", "heap", "the hold of a canceled order is forgotten", "orders that wait for some seconds"),
    PARTLY_LEAKS("make_wakeup", "descriptor", "the wakeup of a canceled order is never closed",
                 "orders that wait for some seconds"),
    HEALTHY("copy_note", "heap", "orders that wait for some seconds"),
    HEALTHY("make_quote", "heap", "freed at once"),
    HEALTHY("make_legs", "heap", "freed at once"),
    HEALTHY("copy_symbol", "heap", "freed at once"),
    HEALTHY("assess_risk", "heap", "freed at once"),
    HEALTHY("remember_client", "heap", "table of 500 clients"),
    HEALTHY("make_fill", "heap", "freed at once"),
    HEALTHY("write_confirmation", "heap", "freed at once"),
    HEALTHY("post_trade", "heap", "freed at once"),
};

struct order {
    struct timed timed;
    char *hold, *note;
    size_t hold_size, note_size;
    int wakeup;
};
struct leg {
    long price, amount;
};
static struct wheel orders;

/* These do not count what they get: nothing follows the call, and the compiler makes it a jump. */
static SITE struct order *make_order(void) { return (struct order *)pool_take(sizeof(struct order)); }
static SITE char *make_hold(size_t size) { return (char *)pool_take(size); }
static SITE int make_wakeup(void) { return eventfd(0, EFD_CLOEXEC); }
static SITE char *copy_note(size_t size) { return (char *)pool_take(size); }
static SITE char *make_quote(size_t size) { return (char *)pool_take(size); }
static SITE struct leg *make_legs(size_t number) { return (struct leg *)pool_take(number * sizeof(struct leg)); }
static SITE char *copy_symbol(size_t size) { return (char *)pool_take(size); }
static SITE char *assess_risk(size_t size) { return (char *)pool_take(size); }
static SITE char *remember_client(size_t size) { return (char *)pool_take(size); }
static SITE char *make_fill(size_t size) { return (char *)pool_take(size); }
static SITE char *write_confirmation(size_t size) { return (char *)pool_take(size); }
static SITE char *post_trade(size_t size) { return (char *)pool_take(size); }

/* What a call of one of them returns, counted. */
static char *got(int site, void *block, size_t size) {
    return (char *)memset(acquired(&sites[site], block, size), 'x', size);
}

static void give(int site, void *block, size_t size) {
    released(&sites[site], size);
    pool_give(block);
}

static __attribute__((noinline)) void accept_order(struct dice *dice) {
    struct order *order = (struct order *)got(ORDERS, make_order(), sizeof *order);
    order->hold_size = (size_t)between(dice, 40, 340);
    order->note_size = (size_t)between(dice, 20, 120);
    order->hold = got(HOLDS, make_hold(order->hold_size), order->hold_size);
    order->note = got(NOTES, copy_note(order->note_size), order->note_size);
    order->wakeup = opened(&sites[WAKEUPS], make_wakeup());
    wheel_add(&orders, order, now() + about(dice, 2));
}

static __attribute__((noinline)) void answer_quote(struct dice *dice) {
    static char *clients[CLIENTS];
    size_t size = (size_t)between(dice, 100, 900), number = (size_t)between(dice, 1, 30);
    char *quote = got(QUOTES, make_quote(size), size), *symbol = got(SYMBOLS, copy_symbol(24), 24);
    char *legs = got(LEGS, make_legs(number), number * sizeof(struct leg)), *risk = got(RISKS, assess_risk(700), 700);
    char **client = &clients[skewed(dice, CLIENTS)];
    if (*client == NULL) *client = got(CLIENT_NAMES, remember_client(200), 200);
    give(RISKS, risk, 700);
    give(LEGS, legs, number * sizeof(struct leg));
    give(SYMBOLS, symbol, 24);
    give(QUOTES, quote, size);
}

static __attribute__((noinline)) void end_order(struct order *order, struct dice *dice, int variant) {
    int is_canceled = chance(dice, 0.25);
    char *fill = got(FILLS, make_fill(150), 150), *posting = got(POSTINGS, post_trade(300), 300);
    give(CONFIRMATIONS, got(CONFIRMATIONS, write_confirmation(1200), 1200), 1200);
    give(POSTINGS, posting, 300);
    give(FILLS, fill, 150);
    give(NOTES, order->note, order->note_size);
    if (is_canceled && variant == HEAP_LOST) lost(&sites[HOLDS], order->hold_size);
    else give(HOLDS, order->hold, order->hold_size);
    if (is_canceled && variant == DESCRIPTOR_LOST) {
        lost(&sites[WAKEUPS], 0);
    } else {
        released(&sites[WAKEUPS], 0);
        close(order->wakeup);
    }
    give(ORDERS, order, sizeof *order);
}

static void end_orders(double until, struct dice *dice, int variant) {
    for (struct timed *next, *timed = wheel_ended(&orders, until); timed != NULL; timed = next) {
        next = timed->next;
        end_order((struct order *)timed, dice, variant);
    }
}

int main(int argc, char **argv) {
    struct dice dice = {100};
    struct pace accepted = {0, 0}, quotes = {0, 0};
    int variant = choose(argc, argv, "heap descriptor corrected");
    begin();
    for (long n; (n = due(&accepted, 10)) >= 0; end_orders(now(), &dice, variant)) {
        for (; n > 0; n--) accept_order(&dice);
        for (n = due(&quotes, 100); n > 0; n--) answer_quote(&dice);
    }
    FINISH("order_desk", sites);
}
