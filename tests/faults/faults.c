/* Loaded before libc (LD_PRELOAD): makes the system calls of writing fail below one folder.
 *
 * FAULT_PREFIX   absolute path of the folder; calls on files elsewhere are left alone.
 * FAULT_BUDGET   bytes that may still be written there by this process; then a write is cut short, and the next fails
 *                with ENOSPC, as on a full disk.
 * FAULT_FSYNC    if set, fsync and fdatasync fail with EIO.
 * FAULT_RENAME   if set, renaming to a name that ends with its value fails with EIO.
 * FAULT_SHORT    if set, a write takes half of what it is given (nothing is lost: the caller must write the rest).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static long long spent;

static int below(const char *path)
{
    const char *prefix = getenv("FAULT_PREFIX");
    size_t length = prefix ? strlen(prefix) : 0;
    return length && !strncmp(path, prefix, length) && (path[length] == '/' || !path[length]);
}

static int concerned(int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t length;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

/* How much of a write of `count` bytes is let through; -1 with errno set for none. */
static ssize_t allowed(int fd, size_t count)
{
    const char *budget = getenv("FAULT_BUDGET");
    if (!count || !(budget || getenv("FAULT_SHORT")) || !concerned(fd))
        return (ssize_t)count;
    if (getenv("FAULT_SHORT") && count > 1)
        count = count / 2;
    if (budget) {
        long long left = atoll(budget) - __atomic_load_n(&spent, __ATOMIC_RELAXED);
        if (left <= 0) {
            errno = ENOSPC;
            return -1;
        }
        if ((long long)count > left)
            count = (size_t)left;
        __atomic_add_fetch(&spent, (long long)count, __ATOMIC_RELAXED);
    }
    return (ssize_t)count;
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *data, size_t count)
{
    static ssize_t (*next)(int, const void *, size_t);
    ssize_t let = allowed(fd, count);
    if (!next)
        next = NEXT(ssize_t (*)(int, const void *, size_t), "write");
    return let < 0 ? -1 : next(fd, data, (size_t)let);
}

static ssize_t positioned(int fd, const void *data, size_t count, off64_t at)
{
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    ssize_t let = allowed(fd, count);
    if (!next)
        next = NEXT(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64");
    return let < 0 ? -1 : next(fd, data, (size_t)let, at);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t at) { return positioned(fd, data, count, at); }
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) { return positioned(fd, data, count, at); }

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    /* Part by part, so that the budget can end inside one. */
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = parts[i].iov_len ? write(fd, parts[i].iov_base, parts[i].iov_len) : 0;
        if (done < 0)
            return total ? total : -1;
        total += done;
        if ((size_t)done < parts[i].iov_len)
            break;
    }
    return total;
}

static int grown(int fd, off64_t size, const char *name)
{
    int (*next)(int, off64_t) = NEXT(int (*)(int, off64_t), name);
    off64_t now = getenv("FAULT_BUDGET") && concerned(fd) ? lseek64(fd, 0, SEEK_END) : -1;
    if (now >= 0 && size > now && atoll(getenv("FAULT_BUDGET")) - spent < size - now) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd, size);
}

int ftruncate(int fd, off_t size) { return grown(fd, size, "ftruncate64"); }
int ftruncate64(int fd, off64_t size) { return grown(fd, size, "ftruncate64"); }

static int flushed(int fd, const char *name)
{
    if (getenv("FAULT_FSYNC") && concerned(fd)) {
        errno = EIO;
        return -1;
    }
    return NEXT(int (*)(int), name)(fd);
}

int fsync(int fd) { return flushed(fd, "fsync"); }
int fdatasync(int fd) { return flushed(fd, "fdatasync"); }

static int refused(const char *target)
{
    const char *end = getenv("FAULT_RENAME");
    size_t length = strlen(target), tail = end ? strlen(end) : 0;
    if (!end || length < tail || strcmp(target + length - tail, end) || !below(target))
        return 0;
    errno = EIO;
    return 1;
}

int rename(const char *source, const char *target)
{
    return refused(target) ? -1 : NEXT(int (*)(const char *, const char *), "rename")(source, target);
}

int renameat2(int from, const char *source, int to, const char *target, unsigned flags)
{
    int (*next)(int, const char *, int, const char *, unsigned) = dlsym(RTLD_NEXT, "renameat2");
    return refused(target) ? -1 : next(from, source, to, target, flags);
}
