#pragma once
// What the reactor needs of Linux that Swift cannot import by itself: liburing's inline functions, epoll's packed
// event, and a few socket calls whose macros or flags do not cross. Nothing here decides anything.

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct creactor_cqe {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

// io_uring. All return 0 or a positive count on success, a negative errno on failure.
int creactor_ring_init(struct io_uring *ring, unsigned entries);
int creactor_ring_wait(struct io_uring *ring, unsigned wanted, uint32_t min_wait_microseconds,
                       int64_t timeout_nanoseconds);
unsigned creactor_ring_peek(struct io_uring *ring, struct creactor_cqe *out, unsigned capacity);

void creactor_ring_accept(struct io_uring *ring, int fd, uint64_t user_data);
void creactor_ring_connect(struct io_uring *ring, int fd, const struct sockaddr *address, socklen_t length,
                           uint64_t user_data);
void creactor_ring_receive_lent(struct io_uring *ring, int fd, uint16_t group, uint64_t user_data);
void creactor_ring_receive(struct io_uring *ring, int fd, void *into, size_t capacity, uint64_t user_data);
void creactor_ring_send(struct io_uring *ring, int fd, const void *bytes, size_t count, uint64_t user_data);
void creactor_ring_read(struct io_uring *ring, int fd, void *into, unsigned capacity, uint64_t user_data);
void creactor_ring_cancel(struct io_uring *ring, int fd, uint64_t user_data);

// Provided buffers: `entries` (a power of two) slots that lend buffers of `size` bytes.
struct io_uring_buf_ring *creactor_buffers_register(struct io_uring *ring, unsigned entries, uint16_t group);
void creactor_buffers_free(struct io_uring *ring, struct io_uring_buf_ring *buffers, unsigned entries, uint16_t group);
void creactor_buffers_provide(struct io_uring_buf_ring *buffers, unsigned entries, void *address, unsigned size,
                              uint16_t id);

// epoll, edge-triggered for both directions.
int creactor_epoll_create(void);
int creactor_epoll_add(int epoll, int fd, uint64_t data);
int creactor_epoll_remove(int epoll, int fd);
struct creactor_event {
    uint64_t data;
    uint32_t readable, writable, hung_up;
};
int creactor_epoll_wait(int epoll, struct creactor_event *out, int capacity, int timeout_milliseconds);

int creactor_eventfd(void);
int creactor_accept(int fd);
