/* A server for forty long streams. Each has a buffer for its current message, which is reallocated when a message is
 * larger than all before it; and all write a journal.
 *
 * Truth: `leaks`: the journal of a stream is one block that is reallocated forever, since nobody truncates it after a
 * checkpoint. `corrected`: it starts again at each checkpoint, every ten seconds.
 * Hard: the number of blocks never changes; only one of two functions whose blocks grow by realloc grows without bound,
 * and both grow for the first half minute. A leak of bytes, not of blocks. */
#include "../exam.h"

enum { STREAMS = 40, LARGEST = 200000, STEP = 2048 };

enum { MESSAGES, JOURNALS };
static struct site sites[] = {
    HEALTHY("grow_message", "heap", "buffers grow up to the largest message"),
    PARTLY_LEAKS("extend_journal", "heap", "journals are never truncated: one block of each stream grows forever",
                 "journals since the last checkpoint"),
};

struct stream {
    char *message, *journal;
    size_t message_room, journal_room, journal_length;
};
static struct stream streams[STREAMS];

static SITE char *grow_message(struct stream *stream, size_t size) {
    if (stream->message != NULL) released(&sites[MESSAGES], stream->message_room);
    stream->message_room = size;
    return stream->message = (char *)acquired(&sites[MESSAGES], realloc(stream->message, size), size);
}

static SITE char *extend_journal(struct stream *stream, size_t size) {
    if (stream->journal != NULL) released(&sites[JOURNALS], stream->journal_room);
    stream->journal_room = size;
    return stream->journal = (char *)acquired(&sites[JOURNALS], realloc(stream->journal, size), size);
}

static void checkpoint(void) {
    for (struct stream *stream = streams; stream < streams + STREAMS; stream++) {
        if (stream->journal == NULL) continue;
        released(&sites[JOURNALS], stream->journal_room);
        free(stream->journal);
        stream->journal = NULL;
        stream->journal_room = stream->journal_length = 0;
    }
}

static void parse(struct stream *stream, struct dice *dice) {
    size_t size = (size_t)about(dice, 9000) % LARGEST + 200, record = (size_t)between(dice, 20, 120);
    if (size > stream->message_room) grow_message(stream, size + size / 4);
    memset(stream->message, 'm', size);
    if (stream->journal_length + record > stream->journal_room) extend_journal(stream, stream->journal_room + STEP);
    memset(stream->journal + stream->journal_length, 'j', record);
    stream->journal_length += record;
}

int main(int argc, char **argv) {
    struct dice dice = {55};
    struct pace messages = {0, 0};
    double checkpoint_at = 10;
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&messages, 400)) >= 0;) {
        while (n-- > 0) parse(&streams[roll(&dice) % STREAMS], &dice);
        if (leaks || now() < checkpoint_at) continue;
        checkpoint();
        checkpoint_at = now() + 10;
    }
    if (leaks) all_lost(&sites[JOURNALS]);
    FINISH("stream_parser", sites);
}
