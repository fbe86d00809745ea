/* Watching: waiting with a descriptor, in select, epoll or an event loop, rather than asleep at a gate.
 *
 *   who watches   has a datagram socket, bound to an address that no file system shows, and a word in a table that names it
 *   who changes   looks at one word beside the gate, and if somebody may watch sends an empty datagram to those who do
 *
 *   word: 0, or   id: 40 | times: 21 | room: 1 | 0 | armed: 1
 *
 *   armed     by who watches, each time that there is nothing to be had: times goes up, so that nobody disarms a later arming
 *   disarmed  by whoever has sent it a datagram: one is enough to make a descriptor readable
 *
 * For items the datagram is sent between the claim of a cell and its being READY.  So nobody can be killed between an item that
 * is there and the datagram that says so; and who has got an item knows that the datagram for it was sent before, and can be
 * taken away when nothing else is coming: a readable descriptor says that an item is there, or will be at once.
 *
 * A ring has one who watches at most, whose word is the ring's bell itself ("bells" in _layout.h).
 *
 * The kernel knows which addresses are somebody's: the word of one who was killed is given to the next.  Addresses are of
 * a network namespace.  */
#ifndef SHMKIT_WATCH_H
#define SHMKIT_WATCH_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "_wait.h"

#define WATCH_ARMED 1ull
#define WATCH_ITEMS 0ull
#define WATCH_ROOM 4ull
#define WATCH_TIME 8ull /* one arming */
#define WATCH_TIMES (((1ull << 21) - 1) * WATCH_TIME)
#define WATCH_ID_SHIFT 24
#define WATCH_ID_MASK ((1ull << 40) - 1)

/* The word beside the gate. */
#define WATCHED 1u
#define WATCHED_STEP 2u

static inline uint64_t watch_id(uint64_t word) { return word >> WATCH_ID_SHIFT; }

static inline socklen_t watch_address(struct sockaddr_un *address, uint64_t id) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    /* The first byte stays 0: an abstract address. */
    const int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "shmkit-watch-%010llx",
                                (unsigned long long)(id & WATCH_ID_MASK));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* A new socket, bound to the address of `id`; or minus an errno. */
static inline int watch_socket(uint64_t id) {
    struct sockaddr_un address;
    const socklen_t size = watch_address(&address, id);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) == 0)
        return fd < 0 ? -errno : fd;
    const int error = errno;
    close(fd);
    return -error;
}

/* Who tells has a socket too, which stays open for the next time.
 *
 *   word: 0, or   inode: 40 | fd: 24        the inode, so that a descriptor which the program has closed, and whose number is
 *                                           something else's by now, is let alone  */
#define SENDER_FD_BITS 24
#define SENDER_FD_MASK ((1ull << SENDER_FD_BITS) - 1)

/* Is `fd` still the socket that was opened as file `inode`, or did the program close it, and open something else? */
static inline int watch_is_own(int fd, uint64_t inode) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode) && ((uint64_t)about.st_ino & WATCH_ID_MASK) == inode;
}

/* Closes the socket of who tells, if it has one. */
static inline void sender_close(uint64_t *sender) {
    const uint64_t word = exchange_seq_u64(sender, 0);
    const int fd = (int)(word & SENDER_FD_MASK);
    if (word != 0 && watch_is_own(fd, word >> SENDER_FD_BITS))
        close(fd);
}

/* That socket, made if there is none; or minus an errno. */
static inline int sender_socket(uint64_t *sender) {
    struct stat about;
    for (;;) {
        uint64_t word = load_seq_u64(sender);
        if (word != 0 && watch_is_own((int)(word & SENDER_FD_MASK), word >> SENDER_FD_BITS))
            return (int)(word & SENDER_FD_MASK);
        const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return -errno;
        if ((uint64_t)fd <= SENDER_FD_MASK && fstat(fd, &about) == 0 &&
            cas_seq_u64(sender, &word, (uint64_t)about.st_ino << SENDER_FD_BITS | (uint64_t)fd))
            return fd;
        close(fd); /* another thread was quicker */
    }
}

/* Makes the socket of `id` readable.  `sender` NULL: through a socket for this once.
 * 0; ECONNREFUSED: it is nobody's; or why it could not be done. */
static inline int watch_tell(uint64_t *sender, uint64_t id) {
    struct sockaddr_un address;
    const socklen_t size = watch_address(&address, id);
    uint64_t once = 0;
    const int fd = sender_socket(sender != NULL ? sender : &once);
    if (fd < 0)
        return -fd;
    int error = 0;
    if (sendto(fd, "", 0, MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
        error = errno;
    if (sender == NULL)
        sender_close(&once);
    return error == EAGAIN || error == ENOBUFS ? 0 : error; /* its queue is full of them: it is readable */
}

static inline void watch_ring_each(uint32_t *watched, uint64_t *words, uint32_t count, uint64_t kind,
                                   uint64_t *sender) {
    const int saved = errno;
    uint32_t seen = load_seq_u32(watched);
    int left = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* SYNC watch-word: pairs with cas_seq(at) in watch_arm */
        uint64_t word = load_seq_u64(&words[i]);
        if ((word & (WATCH_ARMED | WATCH_ROOM)) != (WATCH_ARMED | kind))
            continue;
        const int error = watch_tell(sender, watch_id(word));
        FAILPOINT("watch.told");
        if (error == 0 || error == ECONNREFUSED)
            cas_seq_u64(&words[i], &word, word & ~WATCH_ARMED);
        else
            left = 1; /* no descriptor to be had: whoever comes next tries again */
    }
    FAILPOINT("watch.told.all");
    if (!left) /* unless somebody has armed meanwhile: then the word has moved, and the bit stays */
        cas_seq_u32(watched, &seen, (seen + WATCHED_STEP) & ~WATCHED);
    errno = saved;
}

/* Tells all who watch for that.  Call it after a seq read-modify-write of what they look at once they have armed. */
static ALWAYS_INLINE void watch_ring(uint32_t *watched, uint64_t *words, uint32_t count, uint64_t kind,
                                     uint64_t *sender) {
    /* SYNC watched: pairs with cas_seq(watched) in watch_arm; of two who each store and then look, one sees the other */
    if (__builtin_expect(load_seq_u32(watched) & WATCHED, 0))
        watch_ring_each(watched, words, count, kind, sender);
}

/* Takes a word for `id`.  Its place, or -1: all belong to others, who live. */
static inline int watch_join(uint64_t *words, uint32_t count, uint64_t id, uint64_t kind) {
    for (int dead_too = 0; dead_too < 2; dead_too++)
        for (uint32_t i = 0; i < count; i++) {
            uint64_t word = load_seq_u64(&words[i]);
            if (word != 0 && dead_too) {
                if (watch_tell(NULL, watch_id(word)) != ECONNREFUSED)
                    continue; /* who lives looks once more than it need */
            } else if (word != 0)
                continue;
            if (cas_seq_u64(&words[i], &word, id << WATCH_ID_SHIFT | kind))
                return (int)i;
        }
    return -1;
}

/* The next one who changes something sends a datagram.  Look at what is waited for after it.  0: the word is not `id`'s. */
static inline int watch_arm(uint32_t *watched, uint64_t *at, uint64_t id) {
    uint64_t word = load_seq_u64(at), next;
    do {
        if (watch_id(word) != id)
            return 0;
        next = (word & ~WATCH_TIMES) | ((word + WATCH_TIME) & WATCH_TIMES) | WATCH_ARMED;
        /* SYNC watch-word: pairs with load_seq(words) in watch_ring_each */
    } while (!cas_seq_u64(at, &word, next));
    FAILPOINT("watch.armed");
    uint32_t now = load_relaxed_u32(watched); /* relaxed: a guess for the compare-and-swap */
    /* SYNC watched: pairs with load_seq(watched) in watch_ring */
    while (!cas_seq_u32(watched, &now, (now + WATCHED_STEP) | WATCHED))
        ;
    return 1;
}

/* Has nobody sent a datagram since the last arming? */
static inline int watch_is_armed(const uint64_t *at) { return (load_seq_u64(at) & WATCH_ARMED) != 0; }

/* Makes its own socket `fd` readable, which nobody else need do then.  0, or an errno. */
static inline int watch_tell_own(int fd, uint64_t id) {
    struct sockaddr_un address;
    const socklen_t size = watch_address(&address, id);
    const int error = sendto(fd, "", 0, MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0 ? errno : 0;
    return error == EAGAIN || error == ENOBUFS ? 0 : error;
}

static inline int watch_tell_itself(uint64_t *at, int fd, uint64_t id) {
    uint64_t word = load_seq_u64(at);
    const int error = watch_tell_own(fd, id);
    while (error == 0 && watch_id(word) == id && !cas_seq_u64(at, &word, word & ~WATCH_ARMED))
        ;
    return error;
}

/* Gives the word back. */
static inline void watch_leave(uint64_t *at, uint64_t id) {
    uint64_t word = load_seq_u64(at);
    while (watch_id(word) == id && !cas_seq_u64(at, &word, 0))
        ;
}

/* Takes away all datagrams that have come to a socket, which then is not readable. */
static inline void watch_drain(int fd, uint64_t inode) {
    const int saved = errno;
    char nothing;
    if (watch_is_own(fd, inode))
        while (recv(fd, &nothing, 0, MSG_DONTWAIT) == 0)
            ;
    errno = saved;
}

#endif
