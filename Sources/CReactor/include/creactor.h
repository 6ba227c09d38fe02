#pragma once
// What the reactor needs of Linux that Swift cannot import by itself: liburing's inline functions, epoll's packed
// event, and a few socket calls whose macros or flags do not cross. Nothing here decides anything.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

// liburing.h stays out of sight: it changes feature macros that Swift's own view of libc was built without.
struct creactor_ring;

struct creactor_cqe {
    uint64_t user_data;
    int32_t result;
    int32_t buffer;  // lent to a receive; -1 for none
    bool more;       // the operation goes on
};

// io_uring. Functions return 0 or a positive count on success, a negative errno on failure.
struct creactor_ring *creactor_ring_create(unsigned entries, unsigned buffers, int *error);
void creactor_ring_destroy(struct creactor_ring *ring);
void creactor_ring_submit(struct creactor_ring *ring);
int creactor_ring_wait(struct creactor_ring *ring, unsigned wanted, uint32_t min_wait_microseconds,
                       int64_t timeout_nanoseconds);
unsigned creactor_ring_peek(struct creactor_ring *ring, struct creactor_cqe *out, unsigned capacity);

void creactor_ring_accept(struct creactor_ring *ring, int fd, uint64_t user_data);
void creactor_ring_connect(struct creactor_ring *ring, int fd, const struct sockaddr *address, socklen_t length,
                           uint64_t user_data);
void creactor_ring_receive_lent(struct creactor_ring *ring, int fd, uint64_t user_data);
void creactor_ring_receive(struct creactor_ring *ring, int fd, void *into, size_t capacity, uint64_t user_data);
void creactor_ring_send(struct creactor_ring *ring, int fd, const void *bytes, size_t count, uint64_t user_data);
void creactor_ring_read(struct creactor_ring *ring, int fd, void *into, unsigned capacity, uint64_t user_data);
void creactor_ring_cancel(struct creactor_ring *ring, int fd, uint64_t user_data);

// Gives the kernel a buffer to lend to receives. The ring was created with room for so many.
void creactor_ring_provide(struct creactor_ring *ring, void *address, unsigned size, uint16_t id);

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
void creactor_name_thread(const char *name);
void creactor_ask_for_slice(uint64_t nanoseconds);
int creactor_accept(int fd);
