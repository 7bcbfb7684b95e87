#include "tests/kit/memory_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/kit/splitmix.h"

#define HEAD_MAX 256u

/* A write that no sync has made sure of. */
struct unsynced {
    struct unsynced *next;
    uint64_t offset;
    size_t len;
    uint8_t bytes[];
};

struct memory_file {
    struct memory_file *next; /* ascending by number */
    uint32_t number;
    uint64_t size;
    uint8_t *bytes, *durable;
    bool there, durably_there;
    struct unsynced *unsynced, **unsynced_last;
};

struct plan {
    size_t good, count;
    int error;
};

struct memory_disk {
    struct memory_disk *next;
    char *directory;
    bool locked, frozen;
    uint64_t limit_bytes;
    uint8_t head[HEAD_MAX];
    size_t head_len;
    struct memory_file *files;
    struct plan plans[DISK_OPERATIONS];
    size_t counts[DISK_OPERATIONS];
};

struct journal_disk {
    struct memory_disk *memory;
};

struct journal_file {
    struct memory_disk *memory;
    struct memory_file *file;
};

static struct memory_disk *disks;

/* -- what tests do with it ---------------------------------------------------------------------------------------------- */

struct memory_disk *memory_disk_new(const char *directory)
{
    struct memory_disk *disk = calloc(1, sizeof(*disk));

    ASSERT(disk != NULL);
    disk->directory = strdup(directory);
    disk->limit_bytes = UINT64_MAX;
    disk->next = disks;
    disks = disk;
    return disk;
}

static void forget_unsynced(struct memory_file *file)
{
    while (file->unsynced) {
        struct unsynced *write = file->unsynced;

        file->unsynced = write->next;
        free(write);
    }
    file->unsynced_last = &file->unsynced;
}

static void file_free(struct memory_file *file)
{
    forget_unsynced(file);
    free(file->bytes);
    free(file->durable);
    free(file);
}

void memory_disk_free(struct memory_disk *disk)
{
    struct memory_disk **at = &disks;

    while (*at != disk)
        at = &(*at)->next;
    *at = disk->next;
    while (disk->files) {
        struct memory_file *file = disk->files;

        disk->files = file->next;
        file_free(file);
    }
    free(disk->directory);
    free(disk);
}

void memory_disk_fail(struct memory_disk *disk, enum memory_operation which, size_t good, size_t count, int error)
{
    disk->plans[which] = (struct plan){good, count, error};
}

void memory_disk_freeze(struct memory_disk *disk, bool frozen)
{
    disk->frozen = frozen;
}

void memory_disk_limit(struct memory_disk *disk, uint64_t bytes)
{
    disk->limit_bytes = bytes;
}

size_t memory_disk_count(const struct memory_disk *disk, enum memory_operation which)
{
    return disk->counts[which];
}

uint64_t memory_disk_bytes(const struct memory_disk *disk)
{
    uint64_t bytes = 0;

    for (const struct memory_file *file = disk->files; file; file = file->next)
        bytes += file->there ? file->size : 0;
    return bytes;
}

size_t memory_disk_files(const struct memory_disk *disk)
{
    size_t count = 0;

    for (const struct memory_file *file = disk->files; file; file = file->next)
        count += file->there;
    return count;
}

static void lose_file(struct memory_file *file, uint64_t *seed)
{
    for (const struct unsynced *write = file->unsynced; write; write = write->next) {
        size_t kept = 0;

        switch (splitmix64(seed) % 3) {
        case 0:
            break;
        case 1:
            kept = write->len;
            break;
        case 2:
            kept = splitmix64(seed) % (write->len + 1);
            break;
        }
        memcpy(file->durable + write->offset, write->bytes, kept);
    }
    forget_unsynced(file);
    memcpy(file->bytes, file->durable, file->size);
    if (file->there != file->durably_there)
        file->there = file->durably_there = splitmix64(seed) % 2;
}

void memory_disk_lose(struct memory_disk *disk, uint64_t seed)
{
    for (struct memory_file *file = disk->files; file; file = file->next)
        lose_file(file, &seed);
}

/* -- files ------------------------------------------------------------------------------------------------------------------ */

static struct memory_file *file_find(const struct memory_disk *disk, uint32_t number)
{
    for (struct memory_file *file = disk->files; file; file = file->next)
        if (file->number == number && file->there)
            return file;
    return NULL;
}

/* One that was removed has no second life beside its successor. */
static void purge(struct memory_disk *disk, uint32_t number)
{
    struct memory_file **at = &disk->files;

    while (*at) {
        struct memory_file *file = *at;

        if (file->number != number || file->there) {
            at = &file->next;
            continue;
        }
        *at = file->next;
        file_free(file);
    }
}

static struct memory_file *file_add(struct memory_disk *disk, uint32_t number, uint64_t size)
{
    struct memory_file *file = calloc(1, sizeof(*file)), **at = &disk->files;

    purge(disk, number);

    ASSERT(file != NULL);
    *file = (struct memory_file){.number = number, .size = size, .bytes = calloc(1, size + 1), .durable = calloc(1, size + 1), .there = true};
    ASSERT(file->bytes && file->durable);
    file->unsynced_last = &file->unsynced;
    while (*at && (*at)->number < number)
        at = &(*at)->next;
    file->next = *at;
    *at = file;
    return file;
}

uint8_t *memory_disk_file(struct memory_disk *disk, uint32_t number, uint64_t *out_size)
{
    struct memory_file *file = file_find(disk, number);

    if (!file)
        return NULL;
    *out_size = file->size;
    return file->bytes;
}

void memory_disk_put(struct memory_disk *disk, uint32_t number, const void *bytes, uint64_t size)
{
    struct memory_file *file = file_add(disk, number, size);

    if (size > 0) {
        memcpy(file->bytes, bytes, size);
        memcpy(file->durable, bytes, size);
    }
    file->durably_there = true;
}

void memory_disk_put_head(struct memory_disk *disk, const void *bytes, size_t len)
{
    ASSERT(len <= HEAD_MAX);
    if (len > 0)
        memcpy(disk->head, bytes, len);
    disk->head_len = len;
}

/* 0, or the errno that this operation fails with. */
static int fate(struct memory_disk *disk, enum memory_operation which)
{
    struct plan *plan = &disk->plans[which];

    disk->counts[which]++;
    if (disk->frozen)
        return -EIO;
    if (plan->count == 0)
        return 0;
    if (plan->good > 0) {
        plan->good--;
        return 0;
    }
    plan->count--;
    return -plan->error;
}

/* -- journal_disk.h ----------------------------------------------------------------------------------------------------------- */

int journal_disk_open(const char *directory, struct journal_disk **out_disk)
{
    struct memory_disk *memory = disks;
    struct journal_disk *disk;

    while (memory && strcmp(memory->directory, directory) != 0)
        memory = memory->next;
    if (!memory)
        return -ENOENT;
    if (memory->locked)
        return -EWOULDBLOCK;
    disk = malloc(sizeof(*disk));
    ASSERT(disk != NULL);
    disk->memory = memory;
    memory->locked = true;
    *out_disk = disk;
    return 0;
}

void journal_disk_close(struct journal_disk *disk)
{
    if (disk)
        disk->memory->locked = false;
    free(disk);
}

int journal_disk_read_head(struct journal_disk *disk, uint8_t *bytes, size_t capacity, size_t *out_len)
{
    int r = fate(disk->memory, DISK_READ);

    if (r)
        return r;
    *out_len = disk->memory->head_len < capacity ? disk->memory->head_len : capacity;
    memcpy(bytes, disk->memory->head, *out_len);
    return 0;
}

int journal_disk_write_head(struct journal_disk *disk, struct slice bytes)
{
    int r = fate(disk->memory, DISK_HEAD);

    if (r)
        return r;
    memory_disk_put_head(disk->memory, bytes.at, bytes.len);
    return 0;
}

int journal_disk_list(struct journal_disk *disk, void (*visit)(void *context, uint32_t number, uint64_t size_bytes), void *context)
{
    int r = fate(disk->memory, DISK_LIST);
    struct memory_file *next;

    if (r)
        return r;
    for (struct memory_file *file = disk->memory->files; file; file = next) {
        next = file->next;
        if (file->there)
            visit(context, file->number, file->size);
    }
    return 0;
}

static int handle_new(struct memory_disk *memory, struct memory_file *file, struct journal_file **out_file)
{
    struct journal_file *handle = malloc(sizeof(*handle));

    ASSERT(handle != NULL);
    *handle = (struct journal_file){memory, file};
    *out_file = handle;
    return 0;
}

int journal_disk_create(struct journal_disk *disk, uint32_t number, uint64_t size_bytes, struct journal_file **out_file)
{
    int r = fate(disk->memory, DISK_CREATE);

    if (r)
        return r;
    if (file_find(disk->memory, number))
        return -EEXIST;
    if (memory_disk_bytes(disk->memory) + size_bytes > disk->memory->limit_bytes)
        return -ENOSPC;
    return handle_new(disk->memory, file_add(disk->memory, number, size_bytes), out_file);
}

int journal_disk_open_file(struct journal_disk *disk, uint32_t number, struct journal_file **out_file)
{
    struct memory_file *file = file_find(disk->memory, number);
    int r = fate(disk->memory, DISK_OPEN);

    if (r)
        return r;
    return file ? handle_new(disk->memory, file, out_file) : -ENOENT;
}

int journal_disk_remove(struct journal_disk *disk, uint32_t number)
{
    struct memory_file *file = file_find(disk->memory, number);
    int r = fate(disk->memory, DISK_REMOVE);

    if (r)
        return r;
    if (!file)
        return -ENOENT;
    file->there = false;
    return 0;
}

int journal_disk_sync_names(struct journal_disk *disk)
{
    int r = fate(disk->memory, DISK_SYNC);

    if (r)
        return r;
    for (struct memory_file *file = disk->memory->files; file; file = file->next)
        file->durably_there = file->there;
    return 0;
}

static void write_one(struct memory_file *file, uint64_t offset, struct slice part)
{
    struct unsynced *write = malloc(sizeof(*write) + part.len);

    ASSERT(write != NULL && offset + part.len <= file->size);
    write->next = NULL;
    write->offset = offset;
    write->len = part.len;
    memcpy(write->bytes, part.at, part.len);
    memcpy(file->bytes + offset, part.at, part.len);
    *file->unsynced_last = write;
    file->unsynced_last = &write->next;
}

int journal_file_write(struct journal_file *file, uint64_t offset, const struct slice *parts, size_t count)
{
    int r = fate(file->memory, DISK_WRITE);

    if (file->memory->frozen)
        return r;
    for (size_t i = 0; i < count; i++) {
        struct slice part = parts[i];

        if (r && i == count / 2)
            part.len /= 2; /* here it broke off */
        if (part.len > 0)
            write_one(file->file, offset, part);
        offset += part.len;
        if (r && i == count / 2)
            break;
    }
    return r;
}

int journal_file_sync(struct journal_file *file)
{
    int r = fate(file->memory, DISK_SYNC);

    if (r && !file->memory->frozen) { /* as Linux does: the pages count as clean from now on, whatever the disk has of them */
        uint64_t seed = file->file->number;
        bool there = file->file->there, durably_there = file->file->durably_there;
        uint8_t *bytes = malloc(file->file->size + 1);

        ASSERT(bytes != NULL);
        memcpy(bytes, file->file->bytes, file->file->size);
        lose_file(file->file, &seed);
        memcpy(file->file->bytes, bytes, file->file->size);
        file->file->there = there;
        file->file->durably_there = durably_there;
        free(bytes);
    }
    if (r)
        return r;
    forget_unsynced(file->file);
    memcpy(file->file->durable, file->file->bytes, file->file->size);
    return 0;
}

int journal_file_read(struct journal_file *file, uint64_t offset, uint8_t *bytes, size_t len, size_t *out_len)
{
    int r = fate(file->memory, DISK_READ);

    if (r)
        return r;
    *out_len = offset >= file->file->size ? 0 : len < file->file->size - offset ? len : (size_t)(file->file->size - offset);
    if (*out_len > 0)
        memcpy(bytes, file->file->bytes + offset, *out_len);
    return 0;
}

void journal_file_close(struct journal_file *file)
{
    free(file);
}
