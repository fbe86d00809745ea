/* The file behind a segment: made without a name, given one when it is whole, given up by the last who uses it.
 *
 *   file_make      an unnamed file in a folder (O_TMPFILE), with exactly the mode that was asked, whatever the umask
 *   file_make_raw  one that has its name at once, as shm_open makes it: for memory without a header
 *   file_reserve   its room, so that a full file system is an error now and not SIGBUS later
 *   file_link      its name: from here on others see it, whole
 *   file_leave     the last one out removes the name of a leased file
 *   file_reclaim   removes a leased file whose last user was killed
 *
 * Who uses a leased file holds a shared flock on an open file description that its mapping pins, so the lock ends when
 * the last mapping does, whoever dies.  "Last" and "dead" are the kernel's word: an exclusive flock succeeds.  Whoever
 * locks re-checks that the path still names the file, since it may have been removed, and made anew, meanwhile.
 *
 * All return 0 or an errno, allocate nothing and know no Python.  Any thread may call them.  */
#ifndef SHMKIT_FILE_H
#define SHMKIT_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "_failpoint.h"
#include "_layout.h"

#ifndef O_TMPFILE
#define O_TMPFILE (020000000 | O_DIRECTORY)
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#endif

/* What a half-made file is called where the file system knows no unnamed ones. */
#define FILE_UNFINISHED ".shmkit-unfinished-"
#define FILE_PATH_LIMIT 4096

typedef struct {
    int fd;
    uint64_t inode, dev;
    char path[FILE_PATH_LIMIT]; /* the name of a half-made file where it needs one, else "" */
} file_t;

/* Does `path` name this very file (and not a link to it, nor a later file of that name)? */
static inline int file_is_at(const char *path, uint64_t dev, uint64_t inode) {
    struct stat at;
    return lstat(path, &at) == 0 && (uint64_t)at.st_ino == inode && (uint64_t)at.st_dev == dev;
}

static inline int file_is_behind(int fd, uint64_t dev, uint64_t inode) {
    struct stat behind;
    return fstat(fd, &behind) == 0 && (uint64_t)behind.st_ino == inode && (uint64_t)behind.st_dev == dev;
}

/* Removes `path` if it still names this very file.  ENOENT: it has gone, or is another one's name by now. */
static inline int file_unlink(const char *path, uint64_t dev, uint64_t inode) {
    if (!file_is_at(path, dev, inode))
        return ENOENT;
    return unlink(path) == 0 ? 0 : errno;
}

/* Closes the descriptor unless somebody closed it behind our back and the number is another file's by now. */
static inline void file_close(int fd, uint64_t dev, uint64_t inode) {
    if (fd >= 0 && file_is_behind(fd, dev, inode))
        close(fd);
}

static inline void file_abandon(file_t *file) {
    if (file->path[0])
        unlink(file->path);
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    file->path[0] = 0;
}

/* Makes fd's mode, owner and size (of a new file: 0 until now) what they shall be. */
static inline int file_shape(file_t *file, uint32_t mode, uint64_t size) {
    struct stat made;

    if (fstat(file->fd, &made) != 0)
        return errno;
    file->inode = made.st_ino;
    file->dev = made.st_dev;
    if ((made.st_mode & 07777) != mode && fchmod(file->fd, mode) != 0)
        return errno;
    if (size != 0 && ftruncate(file->fd, (off_t)size) != 0)
        return errno;
    return 0;
}

/* Makes a file of a name that it has only until it is whole, marked as in the making.  EAGAIN: between the two steps somebody
 * who collects what crashes left took it for that. */
static inline int file_make_named(file_t *file, const char *folder, uint32_t mode, uint64_t token) {
    struct stat made;
    int error = EAGAIN;
    int length =
        snprintf(file->path, sizeof file->path, "%s/" FILE_UNFINISHED "%016llx", folder, (unsigned long long)token);

    if (length < 0 || (size_t)length >= sizeof file->path) {
        file->path[0] = 0;
        return ENAMETOOLONG;
    }
    file->fd = open(file->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, mode);
    if (file->fd < 0) {
        error = errno;
        file->path[0] = 0;
        return error;
    }
    FAILPOINT("file.make.named");
    /* Held until it has its own name, so that a half-made file whose maker was killed is told from one in the making. */
    if (flock(file->fd, LOCK_SH | LOCK_NB) != 0)
        error = errno;
    else if (fstat(file->fd, &made) == 0 && file_is_at(file->path, made.st_dev, made.st_ino))
        return 0;
    file_abandon(file);
    return error;
}

/* `token` makes the name of a half-made file unique; it matters only where O_TMPFILE is not known (or not `wanted`). */
static inline int file_make(file_t *file, const char *folder, uint32_t mode, uint64_t size, uint64_t token,
                            int wanted) {
    int error = EAGAIN;

    file->path[0] = 0;
    file->fd = wanted ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, mode) : -1;
    if (file->fd < 0) {
        /* EISDIR: a kernel that ignores the flag; EOPNOTSUPP, EINVAL: a file system without it. */
        if (wanted && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
            return errno;
        for (uint64_t tries = 0; error == EAGAIN && tries < 100; tries++)
            error = file_make_named(file, folder, mode, token + tries);
        if (error)
            return error;
    }
    FAILPOINT("file.make");
    error = file_shape(file, mode, size);
    if (error)
        file_abandon(file);
    return error;
}

/* A file that has its own name from the start; `file->path` is that name until the caller has nothing left to abandon.
 * `size` is 0 where the reservation of its room makes it as large as it shall be. */
static inline int file_make_raw(file_t *file, const char *path, uint32_t mode, uint64_t size) {
    size_t length = strlen(path);
    int error;

    if (length >= sizeof file->path)
        return ENAMETOOLONG;
    file->fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, mode);
    if (file->fd < 0)
        return errno;
    memcpy(file->path, path, length + 1);
    error = file_shape(file, mode, size);
    if (error)
        file_abandon(file);
    return error;
}

/* A nameless file of memory, 0600; it has no permissions to speak of but who may open /proc/<pid>/fd. */
static inline int file_memory(file_t *file, const char *label, uint64_t size, int huge) {
    static int plain; /* an older kernel, which does not know MFD_NOEXEC_SEAL; a race only asks it once more */
    uint32_t flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0);
    int error;

    file->path[0] = 0;
    file->fd = plain ? -1 : memfd_create(label, flags | MFD_NOEXEC_SEAL);
    if (file->fd < 0 && (plain || errno == EINVAL)) {
        file->fd = memfd_create(label, flags);
        if (file->fd >= 0)
            plain = 1;
    }
    if (file->fd < 0)
        return errno;
    error = file_shape(file, 0600, size);
    if (error)
        file_abandon(file);
    return error;
}

/* From here on nobody can truncate it, so nobody can cause SIGBUS. */
static inline int file_seal(int fd) {
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 ? 0 : errno;
}

/* Reserves the room of [from, from + length).  The kernel gives up at a signal and takes back what this call had
 * reserved, so the caller asks for moderate pieces and repeats those that end with EINTR. */
static inline int file_reserve(int fd, uint64_t from, uint64_t length) {
    static const char zeros[PAGE] = {0};

    if (fallocate(fd, 0, (off_t)from, (off_t)length) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    /* The file is new and nobody has it mapped: writing zeros loses nothing and reserves the same. */
    while (length) {
        size_t piece = length < sizeof zeros ? (size_t)length : sizeof zeros;
        ssize_t written = pwrite(fd, zeros, piece, (off_t)from);
        if (written < 0)
            return errno;
        from += (uint64_t)written;
        length -= (uint64_t)written;
    }
    return 0;
}

/* Removes `path` if it is a leased file of ours that nobody uses, or (`unfinished`) a half-made one whose maker died.
 * Returns 0: removed; EBUSY: it is in use; anything else: it is none of our business. */
static inline int file_reclaim(const char *path, int unfinished) {
    struct stat found;
    segment_header_t head;
    int error = EBUSY;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return errno;
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode) || found.st_uid != geteuid())
        error = EPERM;
    else if (!unfinished && (pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head || head.magic != SHMKIT_MAGIC ||
                             !(head.flags & SEGMENT_LEASED)))
        error = EPERM;
    else if (flock(fd, LOCK_EX | LOCK_NB) == 0 && file_is_at(path, found.st_dev, found.st_ino))
        error = unlink(path) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* Marks the file as used, for as long as this open file description is mapped or open.  Where the process may have been
 * forked since the file was made (`anew`), a child could have the description too and keep the lease alive: then the
 * lease goes to a new description, which no child has. */
static inline int file_lease(file_t *file, int anew) {
    char self[40];
    int own = file->fd;

    if (anew) {
        snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
        own = open(self, O_RDWR | O_CLOEXEC);
        if (own < 0)
            return errno;
    }
    if (flock(own, LOCK_SH | LOCK_NB) != 0) {
        int error = errno;
        if (anew)
            close(own);
        return error;
    }
    if (anew) {
        close(file->fd);
        file->fd = own;
    }
    return 0;
}

static inline void file_end_lease(file_t *file) { flock(file->fd, LOCK_UN); }

static inline int file_link_unfinished(file_t *file, const char *path) {
    if (link(file->path, path) == 0) {
        FAILPOINT("file.linked");
        unlink(file->path);
    } else if (errno != EPERM && errno != EOPNOTSUPP) {
        return errno;
    } else if (syscall(SYS_renameat2, AT_FDCWD, file->path, AT_FDCWD, path, RENAME_NOREPLACE) != 0) {
        /* A file system without hard links, and without this either. */
        return errno;
    }
    file->path[0] = 0;
    return 0;
}

/* Gives the file its name.  EEXIST: somebody else's already. */
static inline int file_link(file_t *file, const char *path) {
    char self[40];

    FAILPOINT("file.link");
    if (file->path[0])
        return file_link_unfinished(file, path);
    /* Since Linux 6.10 whoever opened the file may; before, only root, and others go through /proc. */
    if (linkat(file->fd, "", AT_FDCWD, path, AT_EMPTY_PATH) != 0) {
        if (errno != ENOENT)
            return errno;
        snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
        if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
            return errno;
    }
    FAILPOINT("file.linked");
    return 0;
}

/* Called when a process has unmapped a leased segment: if nobody else has it mapped, its name goes, and with it the
 * SysV segment `shmid` that it stands for (-1: none). */
static inline void file_leave(const char *path, uint64_t dev, uint64_t inode, int shmid) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return;
    FAILPOINT("file.leave");
    if (file_is_behind(fd, dev, inode) && flock(fd, LOCK_EX | LOCK_NB) == 0 && file_is_at(path, dev, inode)) {
        if (shmid >= 0)
            shmctl(shmid, IPC_RMID, NULL);
        FAILPOINT("file.leave.unlink");
        unlink(path);
    }
    close(fd);
}

#endif
