/* leaks_cares: leaks of programs on c-ares, one case each. See leaks.h. */
#include <ares.h>
#include <netdb.h>

#include "leaks.h"

SITE static ares_channel make_resolver(void) {
    ares_channel channel = NULL;
    must(ares_init(&channel) == ARES_SUCCESS, "ares_init");
    made("ares_channel", 1);
    return channel;
}

static void give_up_resolver(ares_channel channel) {
    ares_destroy(channel);
    gone("ares_channel", 1);
}

static void channel_not_destroyed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = make_resolver();
        if (corrected) give_up_resolver(kept[at]);
    }
}

/* Destroyed where it is used, but not where its settings are refused. */
static void channel_not_destroyed_after_error(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        ares_channel channel = make_resolver();
        must(ares_set_servers_csv(channel, "no address") != ARES_SUCCESS, "servers that are none");
        if (corrected) give_up_resolver(channel);
    }
}

/* A copy of a channel for each thread. */
SITE static ares_channel copy_resolver(ares_channel from) {
    ares_channel channel = NULL;
    must(ares_dup(&channel, from) == ARES_SUCCESS, "ares_dup");
    made("ares_channel", 1);
    return channel;
}

static void copy_not_destroyed(long count, int corrected) {
    ares_channel first = make_resolver();
    for (long at = 0; at < count; at++) {
        kept[at] = copy_resolver(first);
        if (corrected) give_up_resolver(kept[at]);
    }
    give_up_resolver(first);
}

/* host.test is 10.0.0.7. */
static const unsigned char ANSWER[] = {
    0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0,               /* one question, one answer */
    4, 'h', 'o', 's', 't', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1, /* A, IN */
    0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7,
};

SITE static struct hostent *read_answer(void) {
    struct hostent *host = NULL;
    must(ares_parse_a_reply(ANSWER, sizeof ANSWER, &host, NULL, NULL) == ARES_SUCCESS, "ares_parse_a_reply");
    made("ares_hostent", 1);
    return host;
}

static void answer_not_freed(long count, int corrected) {
    for (long at = 0; at < count; at++) {
        kept[at] = read_answer();
        if (!corrected) continue;
        ares_free_hostent(kept[at]);
        gone("ares_hostent", 1);
    }
}

static const struct leak_case CASES[] = {
    {"channel_not_destroyed", "ares_channel", "make_resolver", channel_not_destroyed},
    {"channel_not_destroyed_after_error", "ares_channel", "make_resolver", channel_not_destroyed_after_error},
    {"copy_not_destroyed", "ares_channel", "copy_resolver", copy_not_destroyed},
    {"answer_not_freed", "ares_hostent", "read_answer", answer_not_freed},
};

static void set_up(void) { must(ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS, "ares_library_init"); }

int main(int count, char **arguments) {
    return leaks_main(count, arguments, CASES, sizeof CASES / sizeof *CASES, set_up);
}
