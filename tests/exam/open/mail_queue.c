/* A mail server: messages of all sizes come and go within seconds, and small entries of an index stay among them, so
 * that pages cannot be given back: resident memory stays at its highest while half of the messages leave.
 *
 * Truth: `leaks`: one message in a hundred bounces, and its envelope is forgotten. `corrected`: it is freed.
 * Hard: resident memory grows with fragmentation and does not fall; what leaks is a thousandth of it. */
#include "../exam.h"

enum { INDEX = 20000, ENTRY = 40 };

enum { BODIES, ENTRIES, ENVELOPES };
static struct site sites[] = {
    HEALTHY("receive_body", "heap", "messages in transit, of all sizes"),
    HEALTHY("index_message", "heap", "ring of small entries that fragments the heap"),
    PARTLY_LEAKS("copy_envelope", "heap", "the envelope of a message that bounces is forgotten",
                 "envelopes in transit"),
};

struct message {
    struct timed timed;
    size_t size, envelope_size;
    char *envelope;
    char body[];
};
static struct wheel transit;
static char *entries[INDEX];
static long indexed;

static SITE struct message *receive_body(size_t size) {
    return (struct message *)acquired(&sites[BODIES], malloc(sizeof(struct message) + size),
                                      sizeof(struct message) + size);
}

static SITE char *index_message(void) { return (char *)acquired(&sites[ENTRIES], malloc(ENTRY), ENTRY); }

static SITE char *copy_envelope(size_t size) { return (char *)acquired(&sites[ENVELOPES], malloc(size), size); }

static void receive_message(struct dice *dice) {
    size_t size = (size_t)about(dice, 6000) + 200;
    struct message *message = receive_body(size);
    memset(message->body, 'm', size);
    message->size = size;
    message->envelope_size = (size_t)between(dice, 60, 200);
    message->envelope = copy_envelope(message->envelope_size);
    memset(message->envelope, 'e', message->envelope_size);
    char **entry = &entries[indexed++ % INDEX];
    if (*entry != NULL) {
        released(&sites[ENTRIES], ENTRY);
        free(*entry);
    }
    *entry = (char *)memset(index_message(), 'i', ENTRY);
    /* Waves: every 20 seconds most of the queue is delivered at once. */
    double wave = (double)((long)(now() / 20) + 1) * 20;
    wheel_add(&transit, message, chance(dice, 0.5) ? wave : now() + about(dice, 6));
}

static void deliver(struct message *message, struct dice *dice, int leaks) {
    if (leaks && chance(dice, 0.01)) {
        lost(&sites[ENVELOPES], message->envelope_size);
    } else {
        released(&sites[ENVELOPES], message->envelope_size);
        free(message->envelope);
    }
    released(&sites[BODIES], sizeof *message + message->size);
    free(message);
}

int main(int argc, char **argv) {
    struct dice dice = {41};
    struct pace messages = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&messages, 250)) >= 0;) {
        while (n-- > 0) receive_message(&dice);
        for (struct timed *next, *timed = wheel_ended(&transit, now()); timed != NULL; timed = next) {
            next = timed->next;
            deliver((struct message *)timed, &dice, leaks);
        }
    }
    FINISH("mail_queue", sites);
}
