/* A proxy that takes its buffers from a pool. Every twelve seconds a burst of requests needs more than the pool keeps.
 *
 * Truth: `leaks`: a buffer that comes back while the pool is full is forgotten. `corrected`: it is freed.
 * Hard: the function acquires in bursts only, and leaks only at their ends: most windows of time show nothing at all.
 * In both variants the pool keeps its 192 buffers forever. */
#include "../exam.h"

enum { POOLED = 192, SIZE = 4096 };

enum { BUFFERS, REQUESTS };
static struct site sites[] = {
    PARTLY_LEAKS("make_buffer", "heap", "buffers that find the pool full are forgotten",
                 "the pool, and buffers in use"),
    HEALTHY("begin_request", "heap", "requests in flight"),
};

struct request {
    struct timed timed;
    char *buffer;
};
static char *pool[POOLED];
static long pooled;
static struct wheel in_flight;

static SITE char *make_buffer(void) { return (char *)acquired(&sites[BUFFERS], malloc(SIZE), SIZE); }

static SITE struct request *begin_request(void) {
    return (struct request *)acquired(&sites[REQUESTS], malloc(sizeof(struct request)), sizeof(struct request));
}

static void give_back(char *buffer, int leaks) {
    if (pooled < POOLED) {
        pool[pooled++] = buffer;
    } else if (leaks) {
        lost(&sites[BUFFERS], SIZE);
    } else {
        released(&sites[BUFFERS], SIZE);
        free(buffer);
    }
}

static void end_requests(double until, int leaks) {
    for (struct timed *next, *timed = wheel_ended(&in_flight, until); timed != NULL; timed = next) {
        struct request *request = (struct request *)timed;
        next = timed->next;
        give_back(request->buffer, leaks);
        released(&sites[REQUESTS], sizeof *request);
        free(request);
    }
}

int main(int argc, char **argv) {
    struct dice dice = {33};
    struct pace requests = {0, 0};
    int leaks = choose(argc, argv, "leaks corrected") == 0;
    begin();
    for (long n; (n = due(&requests, 700)) >= 0; end_requests(now(), leaks)) {
        long burst = (long)now() % 12 == 11;
        while (n-- > 0) {
            if (!burst && chance(&dice, 0.7)) continue;
            struct request *request = begin_request();
            request->buffer = pooled > 0 ? pool[--pooled] : make_buffer();
            memset(request->buffer, 'b', 200);
            wheel_add(&in_flight, request, now() + about(&dice, 0.5));
        }
    }
    FINISH("buffer_pool", sites);
}
