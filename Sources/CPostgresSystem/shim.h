// What `import Glibc` does not expose: epoll, eventfd, and a few calls that are macros or variadic.
// Header-only, no logic.
#ifndef CPOSTGRES_SYSTEM_SHIM_H
#define CPOSTGRES_SYSTEM_SHIM_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// `struct epoll_event` is packed and holds a union, which Swift cannot read safely field by field.
static inline int postgres_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t data) {
    struct epoll_event event;
    event.events = events;
    event.data.u64 = data;
    return epoll_ctl(epoll, operation, descriptor, &event);
}
static inline uint32_t postgres_epoll_events(const struct epoll_event *events, int index) {
    return events[index].events;
}
static inline uint64_t postgres_epoll_data(const struct epoll_event *events, int index) {
    return events[index].data.u64;
}

// The enumeration's cases, as the integers that epoll_ctl takes.
static const uint32_t postgres_EPOLLIN = (uint32_t)EPOLLIN;
static const uint32_t postgres_EPOLLOUT = (uint32_t)EPOLLOUT;
static const uint32_t postgres_EPOLLERR = (uint32_t)EPOLLERR;
static const uint32_t postgres_EPOLLHUP = (uint32_t)EPOLLHUP;
static const uint32_t postgres_EPOLLONESHOT = (uint32_t)EPOLLONESHOT;
static const uint32_t postgres_EPOLLRDHUP = (uint32_t)EPOLLRDHUP;
static const uint32_t postgres_EPOLLET = (uint32_t)EPOLLET;

static const int postgres_EPOLL_CLOEXEC = (int)EPOLL_CLOEXEC;
static const int postgres_EFD_FLAGS = (int)EFD_NONBLOCK | (int)EFD_CLOEXEC;

// epoll_wait with a time in nanoseconds; -1 and ENOSYS before Linux 5.11.
static inline int postgres_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t nanoseconds) {
#if defined(SYS_epoll_pwait2) && __SIZEOF_LONG__ == 8
    struct timespec timeout = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};
    return (int)syscall(SYS_epoll_pwait2, epoll, events, capacity, &timeout, (void *)0, 0);
#else
    errno = ENOSYS;
    return -1;
#endif
}

// ppoll is declared by <poll.h> only under _GNU_SOURCE, which Swift does not set.
extern int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *timeout, const sigset_t *mask);

// The C library makes these calls points where pthread_cancel may end a thread, which in a process with threads costs two
// locked instructions each. Nobody cancels the threads that wait here: the calls are made without. As in the C library, -1 and
// errno for an error.
static inline ssize_t postgres_send(int descriptor, const void *bytes, size_t count, int flags) {
    return syscall(SYS_sendto, descriptor, bytes, count, flags, (void *)0, 0);
}
static inline ssize_t postgres_send_parts(
    int descriptor, const void *head, size_t head_count, const void *bytes, size_t count, const void *tail,
    size_t tail_count, int flags) {
    struct iovec parts[3] = {{(void *)head, head_count}, {(void *)bytes, count}, {(void *)tail, tail_count}};
    struct msghdr message = {0};
    message.msg_iov = parts;
    message.msg_iovlen = 3;
    return syscall(SYS_sendmsg, descriptor, &message, flags);
}
static inline ssize_t postgres_receive(int descriptor, void *buffer, size_t count, int flags) {
    return syscall(SYS_recvfrom, descriptor, buffer, count, flags, (void *)0, (void *)0);
}

// Waits for one descriptor; a negative time waits without bound. Returns what was found, 0 if the time ran out, -1 for an error.
static inline int postgres_poll(int descriptor, short events, int64_t nanoseconds) {
    struct pollfd entry = {descriptor, events, 0};
#if defined(SYS_ppoll) && __SIZEOF_LONG__ == 8
    struct timespec timeout = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};
    long count = syscall(SYS_ppoll, &entry, 1, nanoseconds < 0 ? (void *)0 : &timeout, (void *)0, 0);
#else
    // To the next whole millisecond.
    int64_t milliseconds = nanoseconds < 0 ? -1 : nanoseconds / 1000000 + (nanoseconds % 1000000 != 0);
    int count = poll(&entry, 1, milliseconds > INT32_MAX ? INT32_MAX : (int)milliseconds);
#endif
    return count > 0 ? entry.revents : (int)count;
}

// The thread sanitizer's runtime, where it is linked in. It cannot see into the system's locks: these tell it of them.
extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));
static inline int postgres_is_thread_sanitized(void) { return __tsan_acquire != 0; }
static inline void postgres_tsan_acquire(void *address) {
    if (__tsan_acquire) __tsan_acquire(address);
}
static inline void postgres_tsan_release(void *address) {
    if (__tsan_release) __tsan_release(address);
}

// sched_getaffinity is declared under _GNU_SOURCE only, and its CPU_COUNT is a macro. Returns -1 if it cannot be told.
static inline int postgres_usable_processors(void) {
    unsigned long mask[64] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    if (bytes <= 0) return -1;
    int count = 0;
    for (unsigned i = 0; i < 64; i++) count += __builtin_popcountl(mask[i]);
    return count;
}

#endif
