/* In the place of sampler/journal's journal_disk.c and journal_thread.c: files in memory, and the writer's and the reader's turns as
 * events. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/run/clock.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_disk.h"
#include "sampler/journal/journal_thread.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/process.h"
#include "tests/sim/volume.h"

#define SECTOR 512u

/* -- volumes ---------------------------------------------------------------------------------------------------------------------- */

struct unsynced { /* one write: what was there before */
    struct list node;
    uint64_t offset, len;
    uint8_t before[];
};

struct stored {
    struct list node;
    uint32_t number;
    uint64_t size;
    uint8_t *bytes;
    struct list unsynced; /* oldest first */
    bool removed;         /* its name is gone, but not yet for good */
    bool named;           /* its name is there for good */
};

struct volume {
    struct list files;
    uint8_t head[256];
    size_t head_len;
    uint32_t owner; /* the process that has it */
    struct volume_faults faults;
    struct stored *last;
    uint64_t last_offset, last_len;
};

struct journal_disk {
    struct volume *volume;
    struct process *process;
};

struct journal_file {
    struct journal_disk *disk;
    struct stored *stored;
};

struct volume *volume_new(void)
{
    struct volume *volume = sim_alloc(sizeof(*volume));

    list_init(&volume->files);
    return volume;
}

static void unsynced_drop(struct stored *stored)
{
    struct list *node;

    while ((node = list_take_first(&stored->unsynced)))
        sim_free(container_of(node, struct unsynced, node));
}

static void stored_free(struct volume *volume, struct stored *stored)
{
    if (volume->last == stored)
        volume->last = NULL;
    unsynced_drop(stored);
    list_del(&stored->node);
    sim_free(stored->bytes);
    sim_free(stored);
}

void volume_free(struct volume *volume)
{
    if (!volume)
        return;
    while (!list_empty(&volume->files))
        stored_free(volume, container_of(list_first(&volume->files), struct stored, node));
    sim_free(volume);
}

struct volume_faults *volume_faults(struct volume *volume)
{
    return &volume->faults;
}

/* A write is undone from some sector on. */
static void write_torn(struct stored *stored, const struct unsynced *write)
{
    uint64_t kept = rng_below(&world.fault, write->len / SECTOR + 1) * SECTOR;

    memcpy(stored->bytes + write->offset + kept, write->before + kept, write->len - kept);
}

void volume_process_died(struct volume *volume)
{
    volume->owner = 0; /* what was written is there */
}

void volume_machine_died(struct volume *volume)
{
    volume->owner = 0;
    LIST_FOR_EACH_SAFE(node, following, &volume->files) {
        struct stored *stored = container_of(node, struct stored, node);

        if ((!stored->named || stored->removed) && rng_chance(&world.fault, 500)) {
            if (!stored->named) {
                stored_free(volume, stored);
                continue;
            }
            stored->removed = false; /* it is back */
        } else if (stored->removed) {
            stored_free(volume, stored);
            continue;
        }
        stored->named = true;
        for (struct list *at = stored->unsynced.prev; at != &stored->unsynced; at = at->prev) {
            const struct unsynced *write = container_of(at, struct unsynced, node);

            if (rng_chance(&world.fault, 400))
                write_torn(stored, write);
        }
        unsynced_drop(stored);
    }
}

bool volume_damage(struct volume *volume)
{
    if (!volume->last || volume->last_len == 0)
        return false;
    for (unsigned i = 0; i < 3; i++)
        volume->last->bytes[volume->last_offset + rng_below(&world.fault, volume->last_len)] ^= (uint8_t)rng_between(&world.fault, 1, 255);
    return true;
}

/* -- journal_disk.h ------------------------------------------------------------------------------------------------------------------ */

static struct stored *stored_find(struct volume *volume, uint32_t number)
{
    LIST_FOR_EACH(node, &volume->files) {
        struct stored *stored = container_of(node, struct stored, node);

        if (stored->number == number && !stored->removed)
            return stored;
    }
    return NULL;
}

int journal_disk_open(const char *directory, struct journal_disk **out_disk)
{
    struct volume *volume = process_now->node->volume;
    struct journal_disk *disk;

    (void)directory;
    ASSERT(volume != NULL);
    if (volume->owner != 0)
        return -EWOULDBLOCK;
    disk = malloc(sizeof(*disk));
    volume->owner = process_now->owner;
    *disk = (struct journal_disk){volume, process_now};
    *out_disk = disk;
    return 0;
}

void journal_disk_close(struct journal_disk *disk)
{
    if (!disk)
        return;
    disk->volume->owner = 0;
    free(disk);
}

int journal_disk_read_head(struct journal_disk *disk, uint8_t *bytes, size_t capacity, size_t *out_len)
{
    *out_len = size_min(capacity, disk->volume->head_len);
    memcpy(bytes, disk->volume->head, *out_len);
    return 0;
}

int journal_disk_write_head(struct journal_disk *disk, struct slice bytes)
{
    ASSERT(bytes.len <= sizeof(disk->volume->head));
    if (rng_chance(&world.fault, disk->volume->faults.write_per_mille))
        return -EIO;
    memcpy(disk->volume->head, bytes.at, bytes.len);
    disk->volume->head_len = bytes.len;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const struct stored *const *left = a, *const *right = b;

    return (*left)->number < (*right)->number ? -1 : (*left)->number > (*right)->number;
}

int journal_disk_list(struct journal_disk *disk, void (*visit)(void *context, uint32_t number, uint64_t size_bytes), void *context)
{
    struct stored *all[512];
    size_t count = 0;

    LIST_FOR_EACH(node, &disk->volume->files) {
        struct stored *stored = container_of(node, struct stored, node);

        ASSERT(count < ARRAY_COUNT(all));
        if (!stored->removed)
            all[count++] = stored;
    }
    qsort(all, count, sizeof(struct stored *), by_number);
    for (size_t i = 0; i < count; i++)
        visit(context, all[i]->number, all[i]->size);
    return 0;
}

static struct journal_file *file_of(struct journal_disk *disk, struct stored *stored)
{
    struct journal_file *file = malloc(sizeof(*file));

    ASSERT(file != NULL);
    *file = (struct journal_file){disk, stored};
    return file;
}

int journal_disk_create(struct journal_disk *disk, uint32_t number, uint64_t size_bytes, struct journal_file **out_file)
{
    struct stored *stored;

    if (stored_find(disk->volume, number))
        return -EEXIST;
    if (disk->volume->faults.full)
        return -ENOSPC;
    if (rng_chance(&world.fault, disk->volume->faults.write_per_mille))
        return -EIO;
    stored = sim_alloc(sizeof(*stored));
    stored->number = number;
    stored->size = size_bytes;
    stored->bytes = sim_alloc(size_bytes);
    list_init(&stored->unsynced);
    list_add_tail(&disk->volume->files, &stored->node);
    *out_file = file_of(disk, stored);
    return 0;
}

int journal_disk_open_file(struct journal_disk *disk, uint32_t number, struct journal_file **out_file)
{
    struct stored *stored = stored_find(disk->volume, number);

    if (!stored)
        return -ENOENT;
    *out_file = file_of(disk, stored);
    return 0;
}

int journal_disk_remove(struct journal_disk *disk, uint32_t number)
{
    struct stored *stored = stored_find(disk->volume, number);

    if (!stored)
        return -ENOENT;
    stored->removed = true;
    return 0;
}

int journal_disk_sync_names(struct journal_disk *disk)
{
    if (rng_chance(&world.fault, disk->volume->faults.sync_per_mille))
        return -EIO;
    LIST_FOR_EACH_SAFE(node, following, &disk->volume->files) {
        struct stored *stored = container_of(node, struct stored, node);

        stored->named = true;
        if (stored->removed)
            stored_free(disk->volume, stored);
    }
    return 0;
}

static void write_remember(struct stored *stored, uint64_t offset, uint64_t len)
{
    struct unsynced *write = sim_alloc(sizeof(*write) + len);

    write->offset = offset;
    write->len = len;
    memcpy(write->before, stored->bytes + offset, len);
    list_add_tail(&stored->unsynced, &write->node);
}

int journal_file_write(struct journal_file *file, uint64_t offset, const struct slice *parts, size_t count)
{
    struct volume *volume = file->disk->volume;
    struct stored *stored = file->stored;
    uint64_t len = 0, at = offset;

    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    if (offset + len > stored->size)
        return -EFBIG;
    write_remember(stored, offset, len);
    for (size_t i = 0; i < count; at += parts[i++].len)
        if (parts[i].len > 0)
            memcpy(stored->bytes + at, parts[i].at, parts[i].len);
    volume->last = stored;
    volume->last_offset = offset;
    volume->last_len = len;
    if (volume->faults.die_in_write) {
        write_torn(stored, container_of(stored->unsynced.prev, struct unsynced, node));
        plan_at(world.now_ns, "killed while it writes", volume->faults.die_in_write, file->disk->process->node, 0);
        volume->faults.die_in_write = NULL;
        return 0; /* nobody hears of it any more */
    }
    if (!rng_chance(&world.fault, volume->faults.write_per_mille))
        return 0;
    write_torn(stored, container_of(stored->unsynced.prev, struct unsynced, node));
    return -EIO;
}

int journal_file_sync(struct journal_file *file)
{
    if (rng_chance(&world.fault, file->disk->volume->faults.sync_per_mille))
        return -EIO;
    unsynced_drop(file->stored);
    return 0;
}

int journal_file_read(struct journal_file *file, uint64_t offset, uint8_t *bytes, size_t len, size_t *out_len)
{
    const struct stored *stored = file->stored;

    if (rng_chance(&world.fault, file->disk->volume->faults.read_per_mille))
        return -EIO;
    *out_len = offset < stored->size ? (size_t)u64_min(len, stored->size - offset) : 0;
    memcpy(bytes, stored->bytes + offset, *out_len);
    return 0;
}

void journal_file_close(struct journal_file *file)
{
    free(file);
}

/* -- journal_thread.h ------------------------------------------------------------------------------------------------------------------ */

struct journal_thread {
    struct list node;
    struct process *process;
    struct journal *journal;
    struct sim_event writes, reads;
};

static struct journal_now journal_now(void)
{
    return (struct journal_now){clock_now_ns(), clock_now_unix_ns()};
}

/* As a disk with a queue: mostly at once, now and then behind others. */
static uint64_t disk_delay_ns(const struct journal_thread *thread)
{
    uint64_t ns = rng_between(&world.net, 30, 400) * NS_PER_US;

    if (rng_chance(&world.net, 30))
        ns += rng_between(&world.net, 1, 30) * NS_PER_MS;
    return ns + thread->process->node->volume->faults.slow_ns;
}

static void thread_runs(struct journal_thread *thread, struct sim_event *event, uint64_t (*run)(struct journal *, struct journal_now))
{
    uint64_t next_ns;

    process_enter(thread->process);
    next_ns = sim_of(thread->process->node, run(thread->journal, journal_now()));
    process_leave();
    if (next_ns != UINT64_MAX)
        event_sooner(event, u64_max(next_ns, world.now_ns + disk_delay_ns(thread)));
}

static void thread_writes(struct sim_event *event)
{
    thread_runs(container_of(event, struct journal_thread, writes), event, journal_run);
}

static void thread_reads(struct sim_event *event)
{
    thread_runs(container_of(event, struct journal_thread, reads), event, journal_run_reads);
}

int journal_thread_start(struct journal *journal, struct journal_thread **out_thread)
{
    struct journal_thread *thread = sim_alloc(sizeof(*thread));

    thread->process = process_now;
    thread->journal = journal;
    event_init(&thread->writes, "journal", thread_writes);
    event_init(&thread->reads, "journal reads", thread_reads);
    list_add_tail(&process_now->threads, &thread->node);
    journal_set_thread(journal, thread);
    journal_thread_wake_writer(thread);
    journal_thread_wake_reader(thread);
    *out_thread = thread;
    return 0;
}

static void thread_free(struct journal_thread *thread)
{
    event_cancel(&thread->writes);
    event_cancel(&thread->reads);
    list_del(&thread->node);
    sim_free(thread);
}

void journal_thread_stop(struct journal_thread *thread)
{
    if (!thread)
        return;
    (void)journal_run(thread->journal, journal_now());
    (void)journal_run_reads(thread->journal, journal_now());
    journal_set_thread(thread->journal, NULL);
    thread_free(thread);
}

void journal_thread_wake_writer(struct journal_thread *thread)
{
    event_sooner(&thread->writes, world.now_ns + disk_delay_ns(thread));
}

void journal_thread_wake_reader(struct journal_thread *thread)
{
    event_sooner(&thread->reads, world.now_ns + disk_delay_ns(thread));
}

void threads_forget(struct process *process)
{
    while (!list_empty(&process->threads))
        thread_free(container_of(list_first(&process->threads), struct journal_thread, node));
}
