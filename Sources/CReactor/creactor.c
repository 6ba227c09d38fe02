#define _GNU_SOURCE
#include "creactor.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { group = 0 };

struct creactor_ring {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    unsigned buffer_count;
};

static struct io_uring_buf_ring *register_buffers(struct io_uring *ring, unsigned count) {
    size_t size = count * sizeof(struct io_uring_buf);
    struct io_uring_buf_ring *buffers =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (buffers == MAP_FAILED) return NULL;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)buffers,
        .ring_entries = count,
        .bgid = group,
    };
    int result = io_uring_register_buf_ring(ring, &registration, 0);
    if (result != 0) {
        munmap(buffers, size);
        errno = -result;
        return NULL;
    }
    io_uring_buf_ring_init(buffers);
    return buffers;
}

struct creactor_ring *creactor_ring_create(unsigned entries, unsigned buffers, int *error) {
    struct creactor_ring *made = calloc(1, sizeof *made);
    if (made == NULL) {
        *error = ENOMEM;
        return NULL;
    }
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    // One thread submits, and completions are worked off only when that thread asks: no interrupts in between.
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                       IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    parameters.cq_entries = entries * 4;
    int result = io_uring_queue_init_params(entries, &made->ring, &parameters);
    if (result != 0) {
        *error = -result;
        free(made);
        return NULL;
    }
    made->buffer_count = buffers;
    made->buffers = (parameters.features & IORING_FEAT_EXT_ARG) ? register_buffers(&made->ring, buffers) : NULL;
    if (made->buffers == NULL) {
        *error = (parameters.features & IORING_FEAT_EXT_ARG) ? errno : ENOSYS;
        io_uring_queue_exit(&made->ring);
        free(made);
        return NULL;
    }
    io_uring_register_ring_fd(&made->ring);
    return made;
}

void creactor_ring_destroy(struct creactor_ring *made) {
    io_uring_unregister_buf_ring(&made->ring, group);
    munmap(made->buffers, made->buffer_count * sizeof(struct io_uring_buf));
    io_uring_queue_exit(&made->ring);
    free(made);
}

void creactor_ring_submit(struct creactor_ring *made) { io_uring_submit(&made->ring); }

// struct io_uring_getevents_arg of Linux 6.12; before that, the third field was padding that had to be 0.
struct enter_argument {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t min_wait_microseconds;
    uint64_t timeout;
};

// Publishes the prepared submissions, submits them, and waits for `wanted` completions, all in one system call.
int creactor_ring_wait(struct creactor_ring *made, unsigned wanted, uint32_t min_wait_microseconds,
                       int64_t timeout_nanoseconds) {
    struct io_uring *ring = &made->ring;
    struct io_uring_sq *queue = &ring->sq;
    unsigned tail = queue->sqe_tail;
    if (queue->sqe_head != tail) {
        queue->sqe_head = tail;
        io_uring_smp_store_release(queue->ktail, tail);
    }
    unsigned submit = tail - io_uring_smp_load_acquire(queue->khead);

    struct __kernel_timespec timeout = {
        .tv_sec = timeout_nanoseconds / 1000000000,
        .tv_nsec = timeout_nanoseconds % 1000000000,
    };
    struct enter_argument argument = {
        .sigmask_size = _NSIG / 8,
        .min_wait_microseconds = min_wait_microseconds,
        .timeout = timeout_nanoseconds < 0 ? 0 : (uint64_t)(uintptr_t)&timeout,
    };
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    int fd = ring->ring_fd;
    if (ring->enter_ring_fd != ring->ring_fd) {  // io_uring_register_ring_fd worked
        fd = ring->enter_ring_fd;
        flags |= IORING_ENTER_REGISTERED_RING;
    }
    long result = syscall(__NR_io_uring_enter, fd, submit, wanted, flags, &argument, sizeof argument);
    return result < 0 ? -errno : (int)result;
}

unsigned creactor_ring_peek(struct creactor_ring *made, struct creactor_cqe *out, unsigned capacity) {
    const struct io_uring *ring = &made->ring;
    unsigned count = 0;
    unsigned head = *ring->cq.khead;
    unsigned tail = io_uring_smp_load_acquire(ring->cq.ktail);
    unsigned mask = *ring->cq.kring_mask;
    while (head != tail && count < capacity) {
        const struct io_uring_cqe *cqe = &ring->cq.cqes[head & mask];
        out[count].user_data = cqe->user_data;
        out[count].result = cqe->res;
        out[count].buffer = cqe->flags & IORING_CQE_F_BUFFER ? (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : -1;
        out[count].more = (cqe->flags & IORING_CQE_F_MORE) != 0;
        count++;
        head++;
    }
    io_uring_smp_store_release(ring->cq.khead, head);
    return count;
}

static struct io_uring_sqe *next_sqe(struct creactor_ring *made) {
    struct io_uring *ring = &made->ring;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    while (sqe == NULL) {
        io_uring_submit(ring);
        sqe = io_uring_get_sqe(ring);
    }
    return sqe;
}

void creactor_ring_accept(struct creactor_ring *ring, int fd, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_connect(struct creactor_ring *ring, int fd, const struct sockaddr *address, socklen_t length,
                           uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_connect(sqe, fd, address, length);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_receive_lent(struct creactor_ring *ring, int fd, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_recv(sqe, fd, NULL, 0, 0);
    // The peer answers later, never now: a first attempt would be wasted.
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_receive(struct creactor_ring *ring, int fd, void *into, size_t capacity, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_recv(sqe, fd, into, capacity, 0);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_send(struct creactor_ring *ring, int fd, const void *bytes, size_t count, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_send(sqe, fd, bytes, count, MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_read(struct creactor_ring *ring, int fd, void *into, unsigned capacity, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_read(sqe, fd, into, capacity, 0);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_cancel(struct creactor_ring *ring, int fd, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(ring);
    io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data64(sqe, user_data);
}

void creactor_ring_provide(struct creactor_ring *made, void *address, unsigned size, uint16_t id) {
    io_uring_buf_ring_add(made->buffers, address, size, id, io_uring_buf_ring_mask(made->buffer_count), 0);
    io_uring_buf_ring_advance(made->buffers, 1);
}

int creactor_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int creactor_epoll_add(int epoll, int fd, uint64_t data) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = data};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int creactor_epoll_remove(int epoll, int fd) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : -errno;
}

int creactor_epoll_wait(int epoll, struct creactor_event *out, int capacity, int timeout_milliseconds) {
    struct epoll_event events[256];
    if (capacity > 256) capacity = 256;
    int count = epoll_wait(epoll, events, capacity, timeout_milliseconds);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        uint32_t bits = events[i].events;
        out[i].data = events[i].data.u64;
        out[i].readable = (bits & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        out[i].hung_up = (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        out[i].writable = (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    }
    return count;
}

int creactor_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

void creactor_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

// struct sched_attr of sched_setattr(2), which has no wrapper in glibc.
struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

void creactor_ask_for_slice(uint64_t nanoseconds) {
    struct scheduling attributes = {.size = sizeof attributes, .runtime = nanoseconds};
    errno = 0;
    attributes.nice = getpriority(PRIO_PROCESS, 0);
    if (errno == 0) syscall(__NR_sched_setattr, 0, &attributes, 0);
}

int creactor_accept(int fd) {
    int result = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return result < 0 ? -errno : result;
}
