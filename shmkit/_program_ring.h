/* A C program's hold on a ring: its segment found by name, or made, checked, mapped, and let go.
 *
 * What is checked is what the Python side checks ("segment header" in _layout.h): the file is a regular one of this user's, and its
 * header keeps every rule.  Any thread may call anything here, for one handle one at a time.  */
#ifndef SHMKIT_PROGRAM_RING_H
#define SHMKIT_PROGRAM_RING_H

#include <signal.h>
#include <sys/random.h>

#include "_file.h"
#include "_process.h"
#include "_ring_roles.h"

#define RING_FOLDER "/dev/shm/"
#define RING_NAME_LIMIT 256u
#define LEASE_TRIES 50000u  /* of 100 µs each: as long as somebody makes sure that nobody uses the segment */
#define LEAVING_TRIES 1000u /* of a millisecond each: as long as a role's holder may take to leave */
#define LOOKS_PER_QUESTION                                                                                             \
    256 /* tries that find nothing, after which the kernel is asked whether the other end lives */
#define ROOM_PIECE (64ull << 20)

typedef struct {
    char *addr;    /* the segment; NULL: this handle is closed */
    uint64_t size; /* mapped bytes */
    uint8_t *payload;
    uint64_t capacity; /* checked once; the shared one is not read again */
    uint64_t dev, inode, key;
    uint32_t *ours;                    /* a page that a forked child finds zeroed */
    const volatile sig_atomic_t *stop; /* waits end with INTERRUPTED once this is not 0.  NULL: nothing stops them */
    int fd;                            /* to take leases, and to ask, through */
    int leased;                        /* the name goes with the last process that has it mapped */
    uint32_t peer;                     /* the other end's process, when it was last asked about */
    uint32_t looks;
    char name[RING_NAME_LIMIT];
} handle_t;

static inline void handle_path(const handle_t *handle, char *path) {
    snprintf(path, sizeof RING_FOLDER + RING_NAME_LIMIT, "%s%s", RING_FOLDER, handle->name);
}

/* Takes the name, which may begin with a slash as shm_open has it. */
static inline status_t handle_begin(handle_t *handle, const char *name) {
    memset(handle, 0, sizeof *handle);
    handle->fd = -1;
    if (name[0] == '/')
        name++;
    const size_t length = strlen(name);
    if (length == 0 || length >= RING_NAME_LIMIT || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        errno = length >= RING_NAME_LIMIT ? ENAMETOOLONG : EINVAL;
        return FAILED;
    }
    memcpy(handle->name, name, length + 1);
    return OK;
}

/* Lets go of the memory, the descriptor and, as the last one, of a leased segment's name. */
static inline void handle_end(handle_t *handle) {
    char path[sizeof RING_FOLDER + RING_NAME_LIMIT];

    if (handle->addr != NULL)
        munmap(handle->addr, handle->size);
    if (handle->ours != NULL)
        munmap(handle->ours, PAGE);
    file_close(handle->fd, handle->dev, handle->inode);
    if (handle->leased) {
        handle_path(handle, path);
        file_leave(path, handle->dev, handle->inode, -1);
    }
    handle->addr = NULL;
    handle->payload = NULL;
    handle->ours = NULL;
    handle->fd = -1;
    handle->leased = 0;
}

/* FAILED with the errno of what went wrong, after everything is let go. */
static inline status_t handle_fail(handle_t *handle, int error) {
    handle_end(handle);
    errno = error;
    return FAILED;
}

/* Maps `size` bytes of the file, and a page that tells a forked child from this process. */
static inline status_t handle_map(handle_t *handle, uint64_t size, uint64_t header_size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, handle->fd, 0);
    if (memory == MAP_FAILED)
        return handle_fail(handle, errno);
    handle->addr = (char *)memory;
    handle->size = size;
    handle->payload = (uint8_t *)memory + header_size;
    void *ours = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ours == MAP_FAILED)
        return handle_fail(handle, errno);
    handle->ours = (uint32_t *)ours;
    if (madvise(ours, PAGE, MADV_WIPEONFORK) != 0)
        return handle_fail(handle, errno);
    *handle->ours = 1;
    return OK;
}

/* Whether a header that was read from a file of `room` bytes can be believed. */
static inline int handle_believes(const segment_header_t *head, uint64_t room) {
    return head->magic == SHMKIT_MAGIC && head->layout_version == SHMKIT_LAYOUT_VERSION &&
           head->kind == SEGMENT_KIND_RING && head->header_size % PAGE == 0 && head->header_size >= PAGE &&
           head->header_size <= sizeof *head + SEGMENT_META_LIMIT + PAGE &&
           head->meta_size <= head->header_size - sizeof *head && room >= head->header_size &&
           head->payload_size <= room - head->header_size && (head->flags & ~(SEGMENT_LEASED | SEGMENT_HUGE)) == 0 &&
           head->identity != 0;
}

/* Joins those who use a leased segment.  0; ENOENT: the last of them has just removed it; or another errno. */
static inline int handle_share(handle_t *handle, const char *path) {
    for (uint32_t tries = 0; flock(handle->fd, LOCK_SH | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK || tries == LEASE_TRIES)
            return errno == EWOULDBLOCK ? EBUSY : errno;
        const struct timespec moment = {0, 100000};
        nanosleep(&moment, NULL);
    }
    return file_is_at(path, handle->dev, handle->inode) ? 0 : ENOENT;
}

/* Finds the ring `name` and maps it.  OK; FAILED with errno (ENOENT: there is none); FOREIGN; MISMATCH. */
static inline status_t handle_attach(handle_t *handle, const char *name) {
    char path[sizeof RING_FOLDER + RING_NAME_LIMIT];
    segment_header_t head;
    struct stat file;
    status_t status = handle_begin(handle, name);

    if (status != OK)
        return status;
    handle_path(handle, path);
    handle->fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (handle->fd < 0)
        return FAILED;
    if (fstat(handle->fd, &file) != 0)
        return handle_fail(handle, errno);
    handle->dev = (uint64_t)file.st_dev;
    handle->inode = (uint64_t)file.st_ino;
    handle->key = lease_key_of(&file);
    /* An ordinary read: were the file truncated meanwhile, it comes out short; a mapping would be SIGBUS. */
    if (!S_ISREG(file.st_mode) || file.st_uid != geteuid())
        status = S_ISREG(file.st_mode) ? FOREIGN : MISMATCH;
    else if (pread(handle->fd, &head, sizeof head, 0) != (ssize_t)sizeof head ||
             !handle_believes(&head, (uint64_t)file.st_size))
        status = MISMATCH;
    if (status != OK) {
        handle_end(handle);
        return status;
    }
    if (head.flags & SEGMENT_LEASED) {
        const int error = handle_share(handle, path);
        if (error != 0)
            return handle_fail(handle, error);
    }
    status = handle_map(handle, head.header_size + head.payload_size, head.header_size);
    if (status != OK)
        return status;
    handle->leased = (head.flags & SEGMENT_LEASED) != 0;
    handle->capacity = ring_check(handle->payload, head.payload_size);
    if (handle->capacity == 0) {
        handle_end(handle);
        return MISMATCH;
    }
    return OK;
}

/* A number that no other segment has. */
static inline int handle_identity(uint64_t *identity) {
    do
        if (getrandom(identity, sizeof *identity, 0) != (ssize_t)sizeof *identity)
            return errno == 0 ? EAGAIN : errno;
    while (*identity == 0);
    return 0;
}

static inline int handle_write_header(int fd, uint64_t payload_size, uint64_t identity) {
    segment_header_t head;
    struct timespec now;

    memset(&head, 0, sizeof head);
    clock_gettime(CLOCK_REALTIME, &now);
    head.magic = SHMKIT_MAGIC;
    head.layout_version = SHMKIT_LAYOUT_VERSION;
    head.header_size = PAGE;
    head.payload_size = payload_size;
    head.kind = SEGMENT_KIND_RING;
    head.identity = identity;
    head.creator_pid = (uint32_t)getpid();
    head.creator_uid = (uint32_t)geteuid();
    head.creator_start = process_start_ticks(0);
    head.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return pwrite(fd, &head, sizeof head, 0) == (ssize_t)sizeof head ? 0 : errno;
}

/* Reserves the whole file in pieces, since a signal undoes the piece under way. */
static inline int handle_reserve(int fd, uint64_t size) {
    for (uint64_t from = 0; from < size;) {
        const uint64_t piece = size - from < ROOM_PIECE ? size - from : ROOM_PIECE;
        const int error = file_reserve(fd, from, piece);
        if (error == 0)
            from += piece;
        else if (error != EINTR)
            return error;
    }
    return 0;
}

/* Removes what a half-made file is called where it needs a name, whatever becomes of errno. */
static inline void file_forget(const file_t *file) {
    const int error = errno;
    if (file->path[0])
        unlink(file->path);
    errno = error;
}

/* Makes a ring without a name yet: handle_link gives it that, when whoever makes it has its role. */
static inline status_t handle_create(handle_t *handle, file_t *file, const char *name, uint64_t capacity) {
    uint64_t identity;
    int error;
    status_t status = handle_begin(handle, name);

    if (status != OK)
        return status;
    if (capacity < RING_MIN_CAPACITY || (capacity & (capacity - 1)) != 0 || capacity > 1ull << 46) {
        errno = EINVAL;
        return FAILED;
    }
    error = handle_identity(&identity);
    if (error == 0)
        error = file_make(file, "/dev/shm", 0600, PAGE + RING_DATA_AT + capacity, identity, 1);
    if (error != 0)
        return handle_fail(handle, error);
    handle->fd = file->fd;
    handle->dev = file->dev;
    handle->inode = file->inode;
    handle->key = lease_key(file->dev, file->inode);
    handle->capacity = capacity;
    error = handle_reserve(file->fd, PAGE + RING_DATA_AT + capacity);
    if (error == 0)
        error = handle_write_header(file->fd, RING_DATA_AT + capacity, identity);
    status = error == 0 ? handle_map(handle, PAGE + RING_DATA_AT + capacity, PAGE) : handle_fail(handle, error);
    if (status == OK)
        ring_format(handle->payload, capacity);
    else
        file_forget(file);
    return status;
}

/* Gives a new ring its name; what a dead leased one left there goes.  EEXIST: somebody else's ring has it. */
static inline status_t handle_link(handle_t *handle, file_t *file) {
    char path[sizeof RING_FOLDER + RING_NAME_LIMIT];
    int error;

    handle_path(handle, path);
    error = file_link(file, path);
    if (error == EEXIST && file_reclaim(path, 0) == 0)
        error = file_link(file, path);
    if (error == 0)
        return OK;
    file_forget(file);
    return handle_fail(handle, error);
}

/* Whether this handle is open, and this process's own and not a forked child's copy. */
static inline int handle_usable(const handle_t *handle) { return handle->addr != NULL && *handle->ours != 0; }

static inline int handle_stopped(const handle_t *handle) { return handle->stop != NULL && *handle->stop != 0; }

/* The monotonic instant that is `timeout` seconds away; negative: never. */
static inline uint64_t handle_deadline(double timeout) {
    if (timeout < 0 || timeout > 1e9)
        return FOREVER;
    return clock_ns() + (uint64_t)(timeout * 1e9);
}

/* Whether to try for a role again: between saying CLOSED and dropping its lease, its holder leaves. */
static inline int handle_role_leaves(ring_role_t *role, uint32_t *tries) {
    /* SYNC role-state: pairs with store_seq(state) in ring_role_open */
    if (++*tries > LEAVING_TRIES || load_seq_u32(&role->state) != ROLE_CLOSED)
        return 0;
    futex_wait(&role->state, ROLE_CLOSED, 1000000u);
    return 1;
}

/* What a status means, in words. */
static inline const char *status_text(status_t status) {
    switch (status) {
    case OK:
        return "done";
    case FULL:
        return "the ring is full";
    case EMPTY:
        return "there is no record";
    case TIMED_OUT:
        return "the time is up";
    case INTERRUPTED:
        return "stopped by this program";
    case CLOSED:
        return "the other end has closed the ring";
    case DIED:
        return "the process at the other end has died";
    case CORRUPT:
        return "the ring contradicts itself";
    case TOO_LARGE:
        return "the record can never fit the ring";
    case TAKEN:
        return "another process has that end";
    case TOO_MANY:
        return "too many records are held";
    case FAILED:
        return "the system refused; errno says why";
    case MISMATCH:
        return "this is no ring that this program can read";
    case FOREIGN:
        return "the ring belongs to another user";
    case TOO_SMALL:
        return "the record is larger than the buffer";
    case MISUSED:
        return "closed, forked, or a reservation is open, or none, or a bad argument";
    default:
        return "unknown";
    }
}

#endif
