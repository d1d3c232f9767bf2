/* io_uring through raw system calls, with space for one request at a time: requests that open and close. */
#ifndef DESCRIPTORS_RING_H
#define DESCRIPTORS_RING_H

#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "descriptors_account.h"

struct ring {
    int fd;
    char *queues;
    struct io_uring_sqe *requests;
    struct io_uring_params params;
};

/* Makes the system call itself, and leaves the rest to `ring_map`. */
SITE static int by_io_uring_setup(struct ring *ring) {
    return (int)syscall(SYS_io_uring_setup, 8, &ring->params);
}

static void ring_map(struct ring *ring) {
    const struct io_uring_params *p = &ring->params;
    size_t requests = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    size_t results = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    if (!(p->features & IORING_FEAT_SINGLE_MMAP)) broken("io_uring without a single mapping");
    ring->queues = mmap(NULL, requests > results ? requests : results, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
    ring->requests = mmap(NULL, p->sq_entries * sizeof *ring->requests, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (ring->queues == MAP_FAILED || (void *)ring->requests == MAP_FAILED) broken("io_uring's mappings");
}

static unsigned *ring_word(struct ring *ring, uint32_t offset) {
    return (unsigned *)(void *)(ring->queues + offset);
}

/* Queues one request; the caller enters the kernel itself, so that its frame is the first. */
static void ring_ask(struct ring *ring, struct io_uring_sqe request) {
    unsigned tail = *ring_word(ring, ring->params.sq_off.tail);
    unsigned at = tail & *ring_word(ring, ring->params.sq_off.ring_mask);
    ring->requests[at] = request;
    ring_word(ring, ring->params.sq_off.array)[at] = at;
    __atomic_store_n(ring_word(ring, ring->params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

#define RING_ENTER(ring) syscall(SYS_io_uring_enter, (ring)->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)

/* The result of the one request, as a system call would have returned it. */
static int ring_answer(struct ring *ring, long entered) {
    if (entered < 0) return -1;
    unsigned *head = ring_word(ring, ring->params.cq_off.head);
    if (entered != 1 || *head == __atomic_load_n(ring_word(ring, ring->params.cq_off.tail), __ATOMIC_ACQUIRE))
        broken("io_uring_enter");
    const struct io_uring_cqe *results = (void *)(ring->queues + ring->params.cq_off.cqes);
    int result = results[*head & *ring_word(ring, ring->params.cq_off.ring_mask)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    if (result >= 0) return result;
    errno = -result;
    return -1;
}

static struct io_uring_sqe openat_request(const char *path) {
    return (struct io_uring_sqe){
        .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uint64_t)(uintptr_t)path, .open_flags = O_RDONLY};
}

SITE static int by_io_uring_openat(struct ring *ring, const char *path) {
    ring_ask(ring, openat_request(path));
    return ring_answer(ring, RING_ENTER(ring));
}

/* By a kernel thread: without a user-space stack. */
SITE static int by_io_uring_worker(struct ring *ring, const char *path) {
    struct io_uring_sqe request = openat_request(path);
    request.flags = IOSQE_ASYNC;
    ring_ask(ring, request);
    return ring_answer(ring, RING_ENTER(ring));
}

SITE static int by_io_uring_accept(struct ring *ring, int server) {
    ring_ask(ring, (struct io_uring_sqe){.opcode = IORING_OP_ACCEPT, .fd = server});
    return ring_answer(ring, RING_ENTER(ring));
}

SITE static int by_io_uring_socket(struct ring *ring) {
    /* Its domain is in `fd`, its type in `off`, its protocol in `len`. */
    ring_ask(ring, (struct io_uring_sqe){.opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM});
    return ring_answer(ring, RING_ENTER(ring));
}

SITE static int end_io_uring(struct ring *ring, int fd) {
    ring_ask(ring, (struct io_uring_sqe){.opcode = IORING_OP_CLOSE, .fd = fd});
    return ring_answer(ring, RING_ENTER(ring));
}

/* Opens into the ring's own table, not into the process's. Returns less than 0 if the kernel does not support that. */
SITE static int none_io_uring_direct(struct ring *ring, const char *path) {
    struct io_uring_rsrc_register table = {.nr = 4, .flags = IORING_RSRC_REGISTER_SPARSE};
    if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES2, &table, sizeof table) != 0) return -1;
    struct io_uring_sqe request = openat_request(path);
    request.file_index = 1;
    ring_ask(ring, request);
    return ring_answer(ring, RING_ENTER(ring));
}

#endif
