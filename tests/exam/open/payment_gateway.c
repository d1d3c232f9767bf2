/* A gateway for payments: 400 a second, in flight for half a second.
 *
 * Variants: `declined`: 1 % of the payments are declined, and that path returns without freeing the receipt.
 * `disputed`: 0.1 % are disputed, and that path forgets the file it opened for the dispute. `corrected`: both paths
 * free everything.
 * Hard: all paths acquire at the same call sites; only a share of 1 % is never freed, or a file every 2.5 seconds. In
 * each variant the error path of the other is right. */
#include "../exam.h"

enum { DECLINED, DISPUTED };

enum { PAYMENTS, RECEIPTS, DISPUTES };
static struct site sites[] = {
    HEALTHY("begin_payment", "heap", "payments in flight"),
    PARTLY_LEAKS("build_receipt", "heap", "declined payments, 1 %, forget their receipt",
                 "receipts of payments in flight"),
    PARTLY_LEAKS("open_dispute", "heap", "disputed payments, 0.1 %, forget the file", "freed at once"),
};

struct payment {
    struct timed timed;
    char *receipt;
    size_t receipt_size;
    char card[64];
};
enum { DISPUTE = 1500 };
static struct wheel in_flight;

static SITE struct payment *begin_payment(void) {
    return (struct payment *)acquired(&sites[PAYMENTS], malloc(sizeof(struct payment)), sizeof(struct payment));
}

static SITE char *build_receipt(size_t size) { return (char *)acquired(&sites[RECEIPTS], malloc(size), size); }

static SITE char *open_dispute(void) { return (char *)acquired(&sites[DISPUTES], malloc(DISPUTE), DISPUTE); }

static void end_payment(struct payment *payment, struct dice *dice, int variant) {
    double outcome = fraction(dice);
    if (outcome < 0.001) {
        char *file = (char *)memset(open_dispute(), 'd', DISPUTE);
        if (variant == DISPUTED) {
            lost(&sites[DISPUTES], DISPUTE);
        } else {
            released(&sites[DISPUTES], DISPUTE);
            free(file);
        }
    }
    if (outcome > 0.99 && variant == DECLINED) {
        lost(&sites[RECEIPTS], payment->receipt_size);
    } else {
        released(&sites[RECEIPTS], payment->receipt_size);
        free(payment->receipt);
    }
    released(&sites[PAYMENTS], sizeof *payment);
    free(payment);
}

int main(int argc, char **argv) {
    struct dice dice = {43};
    struct pace payments = {0, 0};
    int variant = choose(argc, argv, "declined disputed corrected");
    begin();
    for (long n; (n = due(&payments, 400)) >= 0;) {
        while (n-- > 0) {
            struct payment *payment = begin_payment();
            memset(payment->card, '4', sizeof payment->card);
            payment->receipt_size = (size_t)between(&dice, 120, 700);
            payment->receipt = build_receipt(payment->receipt_size);
            memset(payment->receipt, 'r', payment->receipt_size);
            wheel_add(&in_flight, payment, now() + about(&dice, 0.5));
        }
        for (struct timed *next, *timed = wheel_ended(&in_flight, now()); timed != NULL; timed = next) {
            next = timed->next;
            end_payment((struct payment *)timed, &dice, variant);
        }
    }
    FINISH("payment_gateway", sites);
}
