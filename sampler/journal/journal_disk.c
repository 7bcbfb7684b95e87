/* A directory of files named by number ("00000007.segment"), a head file, and a lock file that flock holds as long as the process
 * lives: the kernel lets go of it however the process ends. */
#include "sampler/journal/journal_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"

#define HEAD_NAME JOURNAL_HEAD_NAME
#define HEAD_NEW_NAME "journal.new"
#define LOCK_NAME "lock"
#define FILE_SUFFIX ".segment"
#define FILE_NAME_SIZE 32u
#define PARTS_AT_ONCE 256u

struct journal_disk {
    int directory_fd, lock_fd;
};

struct journal_file {
    int fd;
};

static int check(int result)
{
    return result < 0 ? -errno : 0;
}

/* -- the directory ---------------------------------------------------------------------------------------------------- */

static int lock_take(struct journal_disk *disk)
{
    disk->lock_fd = openat(disk->directory_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (disk->lock_fd < 0)
        return -errno;
    return check(flock(disk->lock_fd, LOCK_EX | LOCK_NB));
}

int journal_disk_open(const char *directory, struct journal_disk **out_disk)
{
    CLEANUP(journal_disk_close) struct journal_disk *disk = malloc(sizeof(*disk));
    int r;

    if (!disk)
        return error_raise(-ENOMEM);
    *disk = (struct journal_disk){.directory_fd = -1, .lock_fd = -1};
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return -errno;
    disk->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->directory_fd < 0)
        return -errno;
    r = lock_take(disk);
    if (r)
        return r;
    *out_disk = steal(&disk);
    return 0;
}

void journal_disk_close(struct journal_disk *disk)
{
    if (!disk)
        return;
    if (disk->lock_fd >= 0)
        (void)close(disk->lock_fd);
    if (disk->directory_fd >= 0)
        (void)close(disk->directory_fd);
    free(disk);
}

int journal_disk_sync_names(struct journal_disk *disk)
{
    return check(fsync(disk->directory_fd));
}

static void file_name(uint32_t number, char out[FILE_NAME_SIZE])
{
    (void)snprintf(out, FILE_NAME_SIZE, "%08x" FILE_SUFFIX, number);
}

/* False: not a name of ours. */
static bool file_number(const char *name, uint32_t *out_number)
{
    char again[FILE_NAME_SIZE], *end;
    unsigned long number;

    errno = 0;
    number = strtoul(name, &end, 16);
    if (errno || number > UINT32_MAX)
        return false;
    file_name((uint32_t)number, again);
    *out_number = (uint32_t)number;
    return strcmp(again, name) == 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

struct number_list {
    uint32_t *at;
    size_t count, capacity;
};

static int list_add(struct number_list *list, uint32_t number)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        uint32_t *at = realloc(list->at, capacity * sizeof(at[0]));

        if (!at)
            return -ENOMEM;
        list->at = at;
        list->capacity = capacity;
    }
    list->at[list->count++] = number;
    return 0;
}

static int list_read(struct journal_disk *disk, struct number_list *list)
{
    int fd = openat(disk->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    uint32_t number;

    if (!directory) {
        r = -errno;
        if (fd >= 0)
            (void)close(fd);
        return r;
    }
    for (errno = 0; r == 0 && (entry = readdir(directory)) != NULL; errno = 0)
        if (file_number(entry->d_name, &number))
            r = list_add(list, number);
    if (r == 0 && errno)
        r = -errno;
    (void)closedir(directory);
    return r;
}

int journal_disk_list(struct journal_disk *disk, void (*visit)(void *context, uint32_t number, uint64_t size_bytes), void *context)
{
    struct number_list list = {0};
    char name[FILE_NAME_SIZE];
    struct stat status;
    int r = list_read(disk, &list);

    if (list.count > 0)
        qsort(list.at, list.count, sizeof(list.at[0]), compare_numbers);
    for (size_t i = 0; i < list.count; i++) {
        file_name(list.at[i], name);
        if (fstatat(disk->directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            status.st_size = 0;
        visit(context, list.at[i], (uint64_t)status.st_size);
    }
    free(list.at);
    return r;
}

/* -- the head ------------------------------------------------------------------------------------------------------------ */

static int read_all(int fd, uint64_t offset, uint8_t *bytes, size_t len, size_t *out_len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t got = pread(fd, bytes + done, len - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *out_len = done;
    return 0;
}

int journal_disk_read_head(struct journal_disk *disk, uint8_t *bytes, size_t capacity, size_t *out_len)
{
    int fd = openat(disk->directory_fd, HEAD_NAME, O_RDONLY | O_CLOEXEC), r;

    if (fd < 0 && errno == ENOENT) {
        *out_len = 0;
        return 0;
    }
    if (fd < 0)
        return -errno;
    r = read_all(fd, 0, bytes, capacity, out_len);
    (void)close(fd);
    return r;
}

/* Skips what was written of `parts`, in place; returns how many are left, at *io_parts. */
static size_t parts_skip(struct iovec **io_parts, size_t count, size_t written)
{
    while (count > 0 && written >= (*io_parts)->iov_len) {
        written -= (*io_parts)->iov_len;
        (*io_parts)++;
        count--;
    }
    if (count > 0) {
        (*io_parts)->iov_base = (char *)(*io_parts)->iov_base + written;
        (*io_parts)->iov_len -= written;
    }
    return count;
}

static int write_parts(int fd, uint64_t *io_offset, struct iovec *parts, size_t count)
{
    while (count > 0) {
        ssize_t written = pwritev(fd, parts, (int)count, (off_t)*io_offset);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO; /* no progress and no reason: do not spin on it */
        *io_offset += (uint64_t)written;
        count = parts_skip(&parts, count, (size_t)written);
    }
    return 0;
}

static int write_all(int fd, uint64_t offset, const struct slice *slices, size_t count)
{
    struct iovec parts[PARTS_AT_ONCE];
    int r = 0;

    for (size_t done = 0; r == 0 && done < count;) {
        size_t taken = 0;

        for (; taken < PARTS_AT_ONCE && done < count; done++) {
            if (slices[done].len == 0)
                continue;
            /* pwritev only reads them. */
            parts[taken].iov_base = (void *)(uintptr_t)slices[done].at;
            parts[taken++].iov_len = slices[done].len;
        }
        r = write_parts(fd, &offset, parts, taken);
    }
    return r;
}

int journal_disk_write_head(struct journal_disk *disk, struct slice bytes)
{
    int fd = openat(disk->directory_fd, HEAD_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r;

    if (fd < 0)
        return -errno;
    r = write_all(fd, 0, &bytes, 1);
    if (r == 0)
        r = check(fsync(fd));
    (void)close(fd);
    if (r == 0)
        r = check(renameat(disk->directory_fd, HEAD_NEW_NAME, disk->directory_fd, HEAD_NAME));
    if (r == 0)
        r = journal_disk_sync_names(disk);
    return r;
}

/* -- files ----------------------------------------------------------------------------------------------------------------- */

static int file_take(int fd, struct journal_file **out_file)
{
    struct journal_file *file = malloc(sizeof(*file));

    if (!file) {
        (void)close(fd);
        return error_raise(-ENOMEM);
    }
    file->fd = fd;
    *out_file = file;
    return 0;
}

/* Takes the space of a new file. Where the file system cannot promise it, the size alone is set. */
static int file_reserve(int fd, uint64_t size_bytes)
{
    int r;

    do
        r = check(fallocate(fd, 0, 0, (off_t)size_bytes));
    while (r == -EINTR);
    return r == -EOPNOTSUPP ? check(ftruncate(fd, (off_t)size_bytes)) : r;
}

int journal_disk_create(struct journal_disk *disk, uint32_t number, uint64_t size_bytes, struct journal_file **out_file)
{
    char name[FILE_NAME_SIZE];
    int fd, r;

    file_name(number, name);
    fd = openat(disk->directory_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = file_reserve(fd, size_bytes);
    if (r == 0)
        return file_take(fd, out_file);
    (void)close(fd);
    (void)unlinkat(disk->directory_fd, name, 0);
    return r;
}

int journal_disk_open_file(struct journal_disk *disk, uint32_t number, struct journal_file **out_file)
{
    char name[FILE_NAME_SIZE];
    int fd;

    file_name(number, name);
    fd = openat(disk->directory_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : file_take(fd, out_file);
}

int journal_disk_remove(struct journal_disk *disk, uint32_t number)
{
    char name[FILE_NAME_SIZE];

    file_name(number, name);
    return check(unlinkat(disk->directory_fd, name, 0));
}

int journal_file_write(struct journal_file *file, uint64_t offset, const struct slice *parts, size_t count)
{
    return write_all(file->fd, offset, parts, count);
}

int journal_file_sync(struct journal_file *file)
{
    return check(fdatasync(file->fd));
}

int journal_file_read(struct journal_file *file, uint64_t offset, uint8_t *bytes, size_t len, size_t *out_len)
{
    return read_all(file->fd, offset, bytes, len, out_len);
}

void journal_file_close(struct journal_file *file)
{
    if (!file)
        return;
    (void)close(file->fd);
    free(file);
}
