/* What names a process for good.  */
#ifndef SHMKIT_PROCESS_H
#define SHMKIT_PROCESS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Clock ticks from boot to the start of process `pid` (0: this one): field 22 of /proc/<pid>/stat.  0: no such process.
 * Together with the pid it names a process for good: pids are used again, starts are not. */
static inline uint64_t process_start_ticks(uint32_t pid) {
    char path[40], text[1024];
    ssize_t length;
    int fd;

    if (pid == 0)
        snprintf(path, sizeof path, "/proc/self/stat");
    else
        snprintf(path, sizeof path, "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    /* The second field is the program's name in parentheses, which may itself hold spaces and parentheses. */
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

#endif
