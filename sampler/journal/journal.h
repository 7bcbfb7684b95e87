/* What survives a restart: an append-only log of records on the StatefulSet's volume.
 *
 *   workers, control ── journal_append ──▶ queue ──▶ writer: write, sync, tell ──▶ mail to who waits
 *   worker           ── journal_read   ──▶ queue ──▶ reader ─────────────────────▶ mail to who waits
 *
 * Streams  three, each a row of segments (files of one size, recycled): what came in, copies of what stays longer (journal_clean_wanted),
 *          and verdicts. One sequence number runs through all of them. Formats: journal_segment.h, journal_record.h.
 * Order    per stream as appended; a position is known when journal_append returns, the bytes lie there once the write is done.
 * Sync     none: done = written, a process may crash. interval: the same, and synced at that interval. always: done = synced; one
 *          sync serves all that waited (group commit).
 * Space    a data segment is free when none of its bytes is held (hold_bytes, journal_hold, journal_release); a verdict segment when
 *          it is older than verdict_keep, and every request that came before its verdicts is gone, and every copy that they refer to;
 *          gone means: on disk too.
 * Failing  I/O errors are counted and shown. on_error refuse: appends are turned away until a probe, once a second, succeeds.
 *          memory: they are done without being written, but for copies. Nothing here stops the process.
 * Threads  append, read, room and stats: any. An account: its owner. Run functions: the threads of journal_thread.h, or the simulator.
 * No clock and no randomness: times and seeds are passed in.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/cleanup.h"
#include "common/base/slice.h"
#include "common/run/mailbox.h"

struct journal;
struct metrics_cell;
struct text;

enum journal_sync { JOURNAL_SYNC_NONE, JOURNAL_SYNC_INTERVAL, JOURNAL_SYNC_ALWAYS };
enum journal_on_error { JOURNAL_REFUSE, JOURNAL_MEMORY };

/* What a record is. Numbers are the disk's: never reused. */
enum journal_kind {
    JOURNAL_REQUEST = 1,  /* a request as it was received, or the part of it that stays here */
    JOURNAL_TRACES = 2,   /* traces as a Give carries them: taken over, or copied forward */
    JOURNAL_VERDICTS = 3, /* what was decided */
    JOURNAL_EXPORTED = 4, /* spans that the backends have */
    JOURNAL_GIVEN = 5,    /* spans, and verdicts, that another sampler has */
    JOURNAL_MEMBER = 6,   /* this node's incarnation and its ring; the newest one is never lost to recycling */
};

/* Where bytes lie: `offset` in the segment's file. Segment 0: nowhere. */
struct journal_pos {
    uint32_t segment, offset;
};

struct journal_now {
    uint64_t ns, unix_ns; /* monotonic; time of day */
};

struct journal_options {
    const char *directory; /* made if missing; its parent must be there */
    enum journal_sync sync;
    enum journal_on_error on_error;
    uint64_t sync_interval_ns;
    uint64_t segment_bytes; /* at least JOURNAL_SEGMENT_MIN; a record that needs more gets a segment of its own size */
    uint64_t max_bytes;     /* at least four segments. Data is turned away a little before (journal_room); verdicts never are */
    uint64_t verdict_keep_ns;
    uint64_t clean_age_ns;  /* a data segment is let alone so long: its traces are not decided yet. decision_wait and some */
    uint64_t new_id;        /* random: the journal_id of a directory that is new */
    uint32_t reads_per_second; /* the reader's cap on disk reads; 0: none. For measuring a slow disk's share */
};
#define JOURNAL_SEGMENT_MIN (64u * 1024)
#define JOURNAL_SEGMENT_MAX (1024u * 1024 * 1024)

/* Takes the directory for this process and finds its segments; reads no record yet (journal_recovery.h), starts no thread. 0,
 * or one of these with a sentence for people in out_error. A disk that fails otherwise is no error: it shows in the state. */
#define JOURNAL_E_LOCKED 1    /* another process has it */
#define JOURNAL_E_VERSION 2   /* written by a format that this program does not know */
#define JOURNAL_E_DIRECTORY 3 /* cannot be made, opened, locked or listed */
#define JOURNAL_E_OPTIONS 4
int journal_open(const struct journal_options *options, struct journal_now now, struct journal **out_journal, char *out_error, size_t error_size);
/* Writes and syncs what is queued, then lets the directory go. No thread runs any more, every account is gone. Accepts NULL. */
void journal_close(struct journal *journal);
CLEANUP_DEFINE(struct journal, journal_close);
/* Of this directory, from its creation on. */
uint64_t journal_id(const struct journal *journal);
/* All records so far have a lower one, all to come have not. Any thread. */
uint64_t journal_sequence(struct journal *journal);

/* -- appending ------------------------------------------------------------------------------------------------ */

/* One record to be written; embedded in the caller's object, which stays until `done` was called. The payload is head and body in one. */
struct journal_write {
    struct mail mail;    /* for journal_done_at_worker and _at_control: deliver is the caller's */
    void (*done)(struct journal_write *write); /* on the writer's thread, once; in order of each stream. The write is the caller's again, and may be freed */
    void *to;            /* whom the mail goes to */
    enum journal_kind kind;
    bool copy;           /* data that was in an older segment: the copies' stream, and the reserve (journal_clean_wanted) */
    struct buffer *head; /* NULL: none. One reference, which the journal gives up before `done` */
    struct slice body;   /* borrowed until `done` */
    uint32_t hold_bytes; /* of a data record: the sum of what its holders will release, held from now on */
    const uint32_t *refers; /* segments: of a verdict record, where the spans lie that it speaks of; of a copy, where they lay. Borrowed for */
    size_t refer_count;     /* the call of journal_append only */
    /* out, set by journal_append */
    uint64_t sequence;
    struct journal_pos at; /* of the payload; segment 0: it is kept in memory only (on_error memory) */
    /* out, set before done */
    int error;           /* 0, or -errno: it is not on disk, and may still come back after a restart */
    bool in_memory;      /* error is 0, but it is not on disk (on_error memory): do not journal_read it */
    struct journal_write *next;
};

/* Queues the record. What the caller must keep to:
 *
 *   - hold_bytes are held whatever comes of the write, and released in parts by whoever lets go of the spans. Where `at.segment`
 *     is 0 nothing is held, and releasing for segment 0 does nothing.
 *   - `refers` is complete, or a verdict may be recycled before a span that it speaks of. (Requests could do without: those that came
 *     before a verdict keep it by their order, resends of the same spans included.) A held span that came after its verdict, a late one,
 *     needs a verdict record after its request.
 *   - A TRACES record says all that is known of its traces (verdict, hashes of exported spans): older records may be gone.
 *
 * 0: queued, `done` will be called. Else nothing is kept, the head's reference included: */
#define JOURNAL_E_FULL 1   /* max_bytes, data only, on_error refuse */
#define JOURNAL_E_FAILED 2 /* the disk fails, on_error refuse: again when journal_failing says no */
/* or -ENOMEM, or -EMSGSIZE: more than JOURNAL_SEGMENT_MAX. */
WARN_UNUSED int journal_append(struct journal *journal, struct journal_write *write);
/* Ready-made `done`s: `to` is a struct worker, a struct control. */
void journal_done_at_worker(struct journal_write *write);
void journal_done_at_control(struct journal_write *write);

/* Live reload: as in the options. Any thread. */
void journal_keep(struct journal *journal, uint64_t verdict_keep_ns, uint64_t clean_age_ns);

/* Whether the bytes from `at` on are on disk, as sync asks for it. */
enum journal_written { JOURNAL_UNDER_WAY, JOURNAL_WRITTEN, JOURNAL_NOT_WRITTEN };
enum journal_written journal_written(const struct journal *journal, struct journal_pos at, uint64_t len);
/* Every record of data that was appended before this sequence is done with: written, or known not to be. Any thread. */
bool journal_done_before(struct journal *journal, uint64_t sequence);
/* Some record of data was refused or done in memory only: what lies in the journal may have to be asked for. Cheap. */
bool journal_lost_some(const struct journal *journal);

/* Bytes of data that can still be taken in; UINT64_MAX with on_error memory. */
uint64_t journal_room(const struct journal *journal);
bool journal_failing(const struct journal *journal);

/* -- what is held in data segments ------------------------------------------------------------------------------ */

/* One thread's changes, passed on once a turn. All zero but `journal` is a good one. */
struct journal_account {
    struct journal *journal;
    struct journal_delta *deltas;
    size_t count, capacity;
    struct journal_delta *last;
};

void journal_account_init(struct journal_account *account, struct journal *journal);
/* Passes on what is left, frees the memory. Accepts one that is all zero. */
void journal_account_deinit(struct journal_account *account);
/* For what recovery found to be held; what is appended is held by its hold_bytes. Who passes the span on to another thread flushes before. */
void journal_hold(struct journal_account *account, uint32_t segment, uint64_t bytes);
void journal_release(struct journal_account *account, uint32_t segment, uint64_t bytes);
void journal_account_flush(struct journal_account *account);

/* The segments that shall be emptied: long decided, and most of what they held is gone. Each worker copies its traces that hold bytes
 * in one of them forward (TRACES records with `copy`) and releases the old bytes when these are done; an empty segment frees itself. */
#define JOURNAL_CLEAN_MAX 16u
struct journal_clean {
    uint32_t generation; /* 0 at first */
    uint32_t count;
    uint32_t segments[JOURNAL_CLEAN_MAX]; /* ascending */
};
/* True: there is another set since `known`, which is now that one; a worker looks through its traces once for it. What could not be
 * moved then (an export under way) is asked for again in a later set. Any thread, cheap. */
bool journal_clean_wanted(const struct journal *journal, struct journal_clean *known);

/* -- reading back ----------------------------------------------------------------------------------------------- */

/* How large a copy should be: several share a segment. 0: there is no room for one now. */
uint64_t journal_copy_bytes(struct journal *journal);
struct journal_read_item {
    struct journal_pos at; /* anywhere inside a payload */
    uint32_t len;
    bool failed;           /* out: `to` is not what was written */
    uint8_t *to;           /* room for len bytes */
};

/* A batch; embedded in the caller's object. The caller holds all that it names, and its writes are done. */
struct journal_read {
    struct mail mail;   /* deliver is the caller's */
    void (*done)(struct journal_read *read); /* on the reader's thread, once */
    void *to;           /* whom the mail goes to */
    struct journal_read_item *items; /* come back in order of position */
    size_t count;
    struct journal_read *next;
};

void journal_read(struct journal *journal, struct journal_read *read);
void journal_read_done_at_worker(struct journal_read *read);

/* -- the threads' work ------------------------------------------------------------------------------------------ */

struct journal_thread;
/* Whom to wake when something is queued; NULL: nobody, run functions are called by somebody who knows. Before the first append. */
void journal_set_thread(struct journal *journal, struct journal_thread *thread);
/* Writes all that is queued, syncs if it is time to, frees segments, probes a failing disk. Returns when to run again
 * at the latest (ns, monotonic; UINT64_MAX: when woken). Never both at once on two threads. */
uint64_t journal_run(struct journal *journal, struct journal_now now);
/* Serves what reads are queued, as far as the cap allows. Returns as journal_run. May run beside it. */
uint64_t journal_run_reads(struct journal *journal, struct journal_now now);

/* -- what it says of itself ------------------------------------------------------------------------------------- */

struct journal_stats {
    uint64_t size_bytes, live_bytes, max_bytes; /* of all files; held in data segments */
    uint64_t data_segments, copy_segments, verdict_segments, free_segments;
    uint64_t oldest_segment_unix_ns;            /* 0: none */
    uint64_t queued_bytes;
    uint64_t appends, appended_bytes;           /* taken in */
    uint64_t records_written, written_bytes;    /* on disk */
    uint64_t memory_records;                    /* done without being written */
    uint64_t refused_full, refused_failed, failed_records;
    uint64_t batches, syncs;                    /* records_written / batches: how large groups are */
    uint64_t write_errors, sync_errors, read_errors;
    uint64_t reads, read_bytes;                 /* of spilled spans */
    uint64_t cleaned_segments, copied_bytes, recycled_segments;
    uint64_t recovered_records, recovered_bytes, recovery_total_bytes, corrupt_records, unreadable_bytes;
    bool failing, recovering;
    uint64_t failed_since_unix_ns, retry_in_ns;
    int last_error;                             /* errno; stays after the failure is over. 0: there was none */
    const char *last_operation;                 /* "write" …; NULL: there was none */
};

void journal_stats(struct journal *journal, struct journal_stats *out_stats);
/* Sets METRIC_JOURNAL_* in a cell that nobody else sets them in. */
void journal_metrics(const struct journal_stats *stats, uint64_t now_unix_ns, struct metrics_cell *cell);
/* For /status: one JSON object. */
void journal_status(const struct journal_stats *stats, uint64_t now_unix_ns, struct text *out);
