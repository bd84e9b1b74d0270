/* Makes a disk slow for a process that loads this before its libraries (LD_PRELOAD): while the file SLOW_WHILE exists, each write to a
 * regular file whose path has SLOW_UNDER in it, and each flush of one, takes up to a minute. Everything else is as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_slow(int file) {
    struct stat about;
    char link[64], path[PATH_MAX];
    const char *under = getenv("SLOW_UNDER");
    if (!under || fstat(file, &about) || !S_ISREG(about.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, under) != NULL;
}

static void wait_for_disk(int file) {
    const char *flag = getenv("SLOW_WHILE");
    for (int times = 0; flag && times < 3000 && access(flag, F_OK) == 0 && is_slow(file); times++) usleep(20000);
}

#define SLOW(result, name, parameters, arguments)                                    \
    result name parameters {                                                         \
        static result(*next) parameters;                                             \
        if (!next) next = (result(*) parameters)dlsym(RTLD_NEXT, #name);             \
        wait_for_disk(file);                                                         \
        return next arguments;                                                       \
    }

SLOW(ssize_t, write, (int file, const void *bytes, size_t count), (file, bytes, count))
SLOW(ssize_t, writev, (int file, const struct iovec *pieces, int count), (file, pieces, count))
SLOW(int, fsync, (int file), (file))
SLOW(int, fdatasync, (int file), (file))
