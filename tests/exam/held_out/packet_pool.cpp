// packet_pool: a media relay: 4,000 packets a second of 16 streams wait in jitter buffers until they are played.
//
// True: healthy. Packets are taken from a pool that adds a slab of 32 buffers when it is empty and never gives one
// back; 256 slabs at most, then packets are dropped. A decoder is opened for each stream when its first packet
// comes, within the first minute.
//
// Hard: the pool grows to the largest number of packets that ever waited. Streams stall at random, now and then several
// at the same time, so that new slabs come ever more rarely, but still after minutes, and none is ever freed.
#include "../exam.h"
#include <vector>

enum { ADD_SLAB, PUT_BUFFER, OPEN_DECODER, SITES };
static struct site sites[SITES] = {
    HEALTHY("add_slab", "heap", "pool of at most 256 slabs; as many as were ever needed at one time"),
    HEALTHY("put_buffer", "heap", "the array of free buffers, as large as the pool"),
    HEALTHY("open_decoder", "heap", "one for each of 16 streams, within the first minute"),
};

enum { STREAMS = 16, SLAB = 32, MOST_SLABS = 256, RATE = 4000 };
struct Packet {
    uint8_t stream, size_class;
    uint16_t size;
    uint32_t sequence;
};
struct Buffer {
    timed time;
    unsigned stream;
    char payload[1400];
};
struct Slab {
    Slab *next;
    Buffer buffers[SLAB];
};
struct Decoder {
    unsigned long played;
    char state[24000];
};
struct Stream {
    Decoder *decoder;
    double stalls_until;
};

static Stream streams[STREAMS];
static Slab *slabs;
static unsigned slab_count, dropped;
static wheel jitter;
static dice random_of_server = {5004};
static std::vector<Buffer *, Counted<Buffer *>> spare{Counted<Buffer *>(&sites[PUT_BUFFER])};

SITE static void put_buffer(Buffer *buffer) {
    spare.push_back(buffer);
    KEEP_FRAME();
}

SITE static void add_slab() {
    Slab *slab = static_cast<Slab *>(acquired(&sites[ADD_SLAB], new Slab, sizeof(Slab)));
    slab->next = slabs;
    slabs = slab;
    slab_count++;
    for (Buffer &buffer : slab->buffers) put_buffer(&buffer);
}

SITE static Decoder *open_decoder() {
    Decoder *decoder = static_cast<Decoder *>(acquired(&sites[OPEN_DECODER], new Decoder, sizeof(Decoder)));
    memset(decoder, 0, sizeof *decoder);
    return decoder;
}

static Buffer *get_buffer() {
    if (spare.empty() && slab_count == MOST_SLABS) return nullptr;
    if (spare.empty()) add_slab();
    Buffer *buffer = spare.back();
    spare.pop_back();
    return buffer;
}

static void hear(const Packet &packet) {
    Stream &stream = streams[packet.stream];
    if (stream.decoder == nullptr) stream.decoder = open_decoder();
    double at = now();
    if (stream.stalls_until < at && chance(&random_of_server, 0.0002))
        stream.stalls_until = at + about(&random_of_server, 0.7);
    Buffer *buffer = get_buffer();
    if (buffer == nullptr) {
        dropped++;
        return;
    }
    buffer->stream = packet.stream;
    memset(buffer->payload, packet.stream, packet.size);
    wheel_add(&jitter, buffer, (stream.stalls_until > at ? stream.stalls_until : at) + 0.1);
}

static void play(double until) {
    timed *next;
    for (timed *ended = wheel_ended(&jitter, until); ended != nullptr; ended = next) {
        next = ended->next;
        Buffer *buffer = reinterpret_cast<Buffer *>(ended);
        streams[buffer->stream].decoder->played++;
        put_buffer(buffer);
    }
}

static void *senders(void *socket) {
    dice own = {16384};
    pace pace = {0, 0};
    uint32_t sequence = 0;
    for (long n; (n = due(&pace, RATE)) >= 0;) {
        double joined = 2 + now() / 4; // a new stream every four seconds
        long present = joined < STREAMS ? (long)joined : (long)STREAMS;
        for (; n > 0; n--) {
            Packet packet = {(uint8_t)between(&own, 0, present - 1), 0, (uint16_t)between(&own, 100, 1400), sequence++};
            (void)!send((int)(intptr_t)socket, &packet, sizeof packet, 0);
        }
    }
    shutdown((int)(intptr_t)socket, SHUT_WR);
    return nullptr;
}

int main() {
    int ends[2];
    socket_pair(ends);
    begin();
    pthread_t sender = start_thread(senders, (void *)(intptr_t)ends[1]);
    Packet packet;
    for (ssize_t got; (got = receive(ends[0], &packet, sizeof packet)) != 0;) {
        if (got > 0) hear(packet);
        play(now());
    }
    pthread_join(sender, nullptr);
    FINISH("packet_pool", sites);
}
