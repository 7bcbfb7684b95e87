/* The journal's inside, shared by its files: journal_open.c, journal.c (appends and accounts), journal_writer.c, journal_space.c, journal_reader.c,
 * journal_recovery.c, journal_stats.c.
 *
 *   (none) --append--> OPEN --full, or failed--> SEALED --nothing held, nothing queued, nobody refers--> DEAD --head wiped--> freed
 *
 * Threads  what stands under "lock" is touched with it held; what is the writer's by nobody else. The lock is never held over I/O.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "sampler/journal/journal.h"
#include "sampler/journal/journal_disk.h"
#include "sampler/journal/journal_segment.h"
#include "sampler/journal/journal_thread.h"

enum segment_state { SEGMENT_OPEN, SEGMENT_SEALED, SEGMENT_DEAD };

#define NO_FILE UINT32_MAX

struct segment {
    /* lock; set at birth: number, stream, size, seed, recovered */
    uint32_t number;
    enum journal_stream stream;
    enum segment_state state;
    bool recovered;
    bool unread;               /* recovered, and recovery has not been through it */
    uint64_t size_bytes, seed, first_sequence, created_unix_ns;
    uint64_t tail;             /* where the next record goes */
    uint64_t written;          /* below it every record is done, without an error; of a recovered one all there is */
    int64_t live_bytes;        /* held */
    uint64_t came_bytes;       /* that were ever held: what live is a share of */
    uint64_t changed_ns;       /* when live last changed, or it was sealed */
    uint64_t sealed_ns;
    uint64_t pending;          /* records queued and not yet done with */
    uint64_t clean_again_ns;   /* not asked to be emptied before */
    uint64_t created_ns;
    uint64_t last_sequence;    /* of verdicts; recovered ones: an upper bound */
    uint32_t *refers;          /* ascending; of verdicts, where copies lie that they speak of; of copies, where there may be older ones */
    size_t refer_count, refer_capacity;
    uint32_t file;             /* NO_FILE: the writer has not got to it */
    /* the writer's */
    struct journal_file *handle; /* NULL: not open */
    bool begun;                /* its head is written */
    bool dirty;                /* written to since the last sync */
    struct segment *next_dirty;
    int error;                 /* -errno of what broke it: nothing more is written to it */
    int sync_error;            /* -errno: what was written since the sync before may be gone */
};

struct stream {
    struct segment *current;   /* lock; NULL: the next append makes one */
    bool failing;              /* lock */
    uint64_t appended, done;   /* lock; sequences of the last ones, 0: none. In order, so that up to `done` all are */
};

struct free_file {
    uint32_t number;
    uint64_t size_bytes;
};

struct write_group;

struct write_queue {
    struct journal_write *first, **last;
};

struct journal {
    struct journal_options options;
    struct journal_disk *disk;
    struct journal_thread *thread;
    uint64_t id;
    bool opened;               /* there is something to finish at the end */
    pthread_mutex_t lock;
    /* lock */
    struct journal_now now;    /* of the last run */
    struct stream streams[STREAM_COUNT];
    struct segment **segments; /* ascending by number */
    size_t segment_count, segment_capacity;
    uint64_t used_bytes;       /* sizes of these */
    int64_t live_bytes;
    uint32_t next_number;
    uint64_t next_sequence;
    struct write_queue queue;
    uint64_t queued_bytes;
    struct buffer *member;     /* the newest written MEMBER record's payload */
    uint32_t members_queued;
    uint64_t member_sequence;
    uint32_t member_segment;
    bool recovery_begun, recovering;
    struct journal_clean clean;
    uint64_t clean_until_ns;
    struct journal_read *reads, **reads_last;
    struct journal_stats stats; /* the counters in it */
    uint64_t retry_at_ns;      /* the next probe */
    bool space_at_once;        /* a segment is empty and space is short: do not wait for the tick */
    /* read by anybody */
    _Atomic uint64_t room_bytes;
    _Atomic uint32_t clean_generation;
    atomic_bool failing;       /* any stream */
    atomic_bool lost_some;     /* a record of data is not on disk, since the start */
    /* the writer's */
    struct free_file *free_files; /* the last one is used next */
    size_t free_count, free_capacity;
    uint64_t free_bytes;
    size_t free_least;         /* of them, since the last trim */
    uint64_t next_trim_ns;
    uint32_t next_file;
    struct segment *dirty;
    bool head_written, names_changed;
    uint64_t next_sync_ns, next_tick_ns;
    struct write_group *group; /* scratch */
    /* the reader's */
    struct journal_read *reading;
    size_t reading_at;
    uint64_t next_read_ns;
    uint8_t *read_scratch;
};

static inline void journal_lock(struct journal *journal)
{
    (void)pthread_mutex_lock(&journal->lock);
}

static inline void journal_unlock(struct journal *journal)
{
    (void)pthread_mutex_unlock(&journal->lock);
}

/* -- journal.c, with the lock ---------------------------------------------------------------------------------------- */

/* NULL: not there (any more). */
struct segment *journal_find(const struct journal *journal, uint32_t number);
/* Takes the segment, whose number is the highest. 0 or -ENOMEM. */
int journal_add_segment(struct journal *journal, struct segment *segment);
/* Out of the list; the caller has it. */
void journal_take_segment(struct journal *journal, struct segment *segment);
void segment_free(struct segment *segment);
void journal_room_changed(struct journal *journal);
/* What copies may still take, in segments of the usual size. */
uint64_t journal_copies_room(const struct journal *journal);
/* No further record goes into it. */
void journal_seal(struct journal *journal, struct segment *segment);
/* Appends whatever its state: for the journal's own records. */
int journal_append_locked(struct journal *journal, struct journal_write *write);
/* Remembers a MEMBER payload, if it is the newest. */
void journal_member_remember(struct journal *journal, struct slice head, struct slice body, uint64_t sequence, uint32_t segment);

/* -- journal_writer.c ------------------------------------------------------------------------------------------------- */

struct write_group *journal_group_new(void);
void journal_group_free(struct write_group *group);
/* The operation failed: counts it, and turns the stream's appends away until a probe succeeds. */
void journal_failed(struct journal *journal, enum journal_stream stream, const char *operation, int error);
/* Syncs all that was written since the last time, names included. 0 or -errno, counted. */
int journal_sync_dirty(struct journal *journal);

/* -- journal_space.c: the writer's ------------------------------------------------------------------------------------- */

/* A file of that size with a head for the segment: recycled, or made. Sets file, handle, begun. 0 or -errno. */
int journal_begin_segment(struct journal *journal, struct segment *segment);
/* Finds what is dead and wipes it, keeps a spare file, gives back those that are too many. */
void journal_tend_space(struct journal *journal);
/* Whether a file can be had, written and synced. 0 or -errno. */
int journal_probe(struct journal *journal);
/* Remembers a file that holds nothing, to be used after all others. Removes it if it is of another size, or memory is out. */
void journal_file_freed(struct journal *journal, uint32_t number, uint64_t size_bytes);

/* -- journal_clean.c, with the lock --------------------------------------------------------------------------------------- */

void journal_choose_clean(struct journal *journal);
