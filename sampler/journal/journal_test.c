/* What was told to be written comes back after a restart, in order and at its position; a failing disk turns appends away and is found well
 * again; damage costs the damaged record; space comes back when nothing needs it. On a disk in memory. */
#include "sampler/journal/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/num.h"
#include "common/metrics/metrics.h"
#include "common/metrics/text.h"
#include "sampler/journal/journal_recovery.h"
#include "sampler/journal/journal_segment.h"
#include "tests/kit/memory_disk.h"

#define SEGMENT (64u * 1024)

/* -- a journal and what it told ------------------------------------------------------------------------------------ */

struct bench {
    struct memory_disk *disk;
    struct journal *journal;
    struct journal_options options;
    struct journal_now now;
};

struct record {
    struct journal_write write;
    unsigned done_count;
    size_t len;
    uint8_t *bytes;
};

static struct journal_options options_of(void)
{
    return (struct journal_options){.directory = "d",
        .segment_bytes = SEGMENT,
        .max_bytes = 16 * SEGMENT,
        .sync_interval_ns = NS_PER_S,
        .verdict_keep_ns = 10 * NS_PER_S,
        .clean_age_ns = 20 * NS_PER_S,
        .new_id = 0x1234567887654321ull};
}

static void bench_open(struct bench *bench)
{
    char error[256] = "";

    if (journal_open(&bench->options, bench->now, &bench->journal, error, sizeof(error)))
        fail_msg("open: %s", error);
}

static void bench_init(struct bench *bench, struct journal_options options)
{
    *bench = (struct bench){.disk = memory_disk_new("d"), .options = options, .now = {1000 * NS_PER_S, 1700000000 * NS_PER_S}};
    bench_open(bench);
}

static void bench_deinit(struct bench *bench)
{
    journal_close(bench->journal);
    memory_disk_free(bench->disk);
}

static void pass(struct bench *bench, uint64_t ns)
{
    bench->now.ns += ns;
    bench->now.unix_ns += ns;
    (void)journal_run(bench->journal, bench->now);
}

static void on_done(struct journal_write *write)
{
    container_of(write, struct record, write)->done_count++;
}

static struct record *record_new(enum journal_kind kind, size_t len, uint8_t fill)
{
    struct record *record = calloc(1, sizeof(*record));

    assert_non_null(record);
    record->bytes = malloc(len + 1);
    assert_non_null(record->bytes);
    memset(record->bytes, fill, len);
    record->len = len;
    record->write = (struct journal_write){.done = on_done, .kind = kind, .body = slice_make(record->bytes, len)};
    if (kind == JOURNAL_REQUEST || kind == JOURNAL_TRACES)
        record->write.hold_bytes = (uint32_t)len;
    return record;
}

static void record_free(struct record *record)
{
    free(record->bytes);
    free(record);
}

static struct record *append(struct bench *bench, enum journal_kind kind, size_t len, uint8_t fill)
{
    struct record *record = record_new(kind, len, fill);

    assert_int_equal(journal_append(bench->journal, &record->write), 0);
    return record;
}

/* Appends, writes and checks that it was. */
static struct record *written(struct bench *bench, enum journal_kind kind, size_t len, uint8_t fill)
{
    struct record *record = append(bench, kind, len, fill);

    pass(bench, NS_PER_MS);
    assert_int_equal(record->done_count, 1);
    assert_int_equal(record->write.error, 0);
    return record;
}

static void release(struct bench *bench, const struct record *record)
{
    struct journal_account account;

    journal_account_init(&account, bench->journal);
    journal_release(&account, record->write.at.segment, record->write.hold_bytes);
    journal_account_deinit(&account);
}

static struct journal_stats stats_of(struct bench *bench)
{
    struct journal_stats stats;

    journal_stats(bench->journal, &stats);
    return stats;
}

/* The process dies: what was written stays. */
static void crash(struct bench *bench)
{
    memory_disk_freeze(bench->disk, true);
    journal_close(bench->journal);
    memory_disk_freeze(bench->disk, false);
    bench->journal = NULL;
}

/* -- what comes back -------------------------------------------------------------------------------------------------- */

#define SEEN_MAX 4096u

struct seen {
    struct bench *bench;
    bool hold;
    size_t count;
    struct {
        enum journal_kind kind;
        uint64_t sequence;
        struct journal_pos at;
        size_t len;
        uint8_t fill;
    } at[SEEN_MAX];
};

static void on_record(void *context, const struct journal_record *record)
{
    struct seen *seen = context;

    assert_true(seen->count < SEEN_MAX);
    for (size_t i = 1; i < record->payload.len; i++)
        assert_int_equal(record->payload.at[i], record->payload.at[0]);
    seen->at[seen->count].kind = record->kind;
    seen->at[seen->count].sequence = record->sequence;
    seen->at[seen->count].at = record->at;
    seen->at[seen->count].len = record->payload.len;
    seen->at[seen->count++].fill = record->payload.len ? record->payload.at[0] : 0;
    if (seen->hold && (record->kind == JOURNAL_REQUEST || record->kind == JOURNAL_TRACES)) {
        struct journal_account account;

        journal_account_init(&account, seen->bench->journal);
        journal_hold(&account, record->at.segment, record->payload.len);
        journal_account_deinit(&account);
    }
}

static struct journal_progress recover(struct bench *bench, struct seen *seen)
{
    struct journal_recovery *recovery = NULL;
    struct journal_progress progress;

    seen->bench = bench;
    seen->count = 0;
    assert_int_equal(journal_recovery_begin(bench->journal, &recovery), 0);
    while (journal_recovery_step(recovery, 10000, on_record, seen))
        ;
    progress = journal_recovery_progress(recovery);
    assert_true(progress.done_bytes == progress.total_bytes && progress.verdicts_done);
    journal_recovery_end(recovery);
    return progress;
}

static struct seen *seen_new(bool hold)
{
    struct seen *seen = calloc(1, sizeof(*seen));

    assert_non_null(seen);
    seen->hold = hold;
    return seen;
}

/* Returns its index, or SIZE_MAX. */
static size_t find_seen(const struct seen *seen, const struct record *record)
{
    for (size_t i = 0; i < seen->count; i++)
        if (seen->at[i].sequence == record->write.sequence)
            return i;
    return SIZE_MAX;
}

static void must_have(const struct seen *seen, const struct record *record)
{
    size_t i = find_seen(seen, record);

    if (i == SIZE_MAX)
        fail_msg("record %llu did not come back", (unsigned long long)record->write.sequence);
    assert_int_equal(seen->at[i].kind, record->write.kind);
    assert_int_equal(seen->at[i].len, record->len);
    assert_int_equal(seen->at[i].fill, record->len ? record->bytes[0] : 0);
    assert_int_equal(seen->at[i].at.segment, record->write.at.segment);
    assert_int_equal(seen->at[i].at.offset, record->write.at.offset);
}

/* -- writing and coming back ------------------------------------------------------------------------------------------- */

/* Of every kind and of many lengths, the empty one and those around the pad included; verdicts come first. */
static void test_round_trip(void **state)
{
    struct bench bench;
    struct record *records[300];
    struct seen *seen = seen_new(true);
    struct journal_progress progress;
    uint64_t id, last = 0;

    (void)state;
    bench_init(&bench, options_of());
    id = journal_id(bench.journal);
    assert_true(id == bench.options.new_id);
    for (size_t i = 0; i < 300; i++) {
        records[i] = append(&bench, (enum journal_kind)(1 + i % 6), i * 5 % 2000, (uint8_t)(i + 1));
        assert_true(records[i]->write.sequence > last && records[i]->write.at.segment != 0);
        last = records[i]->write.sequence;
        if (i % 7 == 0)
            pass(&bench, NS_PER_MS);
    }
    pass(&bench, NS_PER_MS);
    crash(&bench);
    bench.options.new_id = 99;
    bench_open(&bench);
    assert_true(journal_id(bench.journal) == id);
    assert_true(stats_of(&bench).recovering);
    progress = recover(&bench, seen);
    assert_int_equal(seen->count, 300);
    assert_int_equal(progress.records, 300);
    assert_int_equal(progress.corrupt_records, 0);
    for (size_t i = 0; i < 300; i++) {
        must_have(seen, records[i]);
        assert_int_equal(records[i]->done_count, 1);
    }
    for (size_t i = 1; i < seen->count; i++)
        if (seen->at[i - 1].kind <= JOURNAL_TRACES)
            assert_true(seen->at[i].kind <= JOURNAL_TRACES); /* no verdict behind data */
    for (size_t i = 0; i < 300; i++)
        record_free(records[i]);
    records[0] = written(&bench, JOURNAL_REQUEST, 10, 1);
    assert_true(records[0]->write.sequence > last);
    record_free(records[0]);
    free(seen);
    bench_deinit(&bench);
}

/* A head of its own and a body are one payload. */
static void test_head_and_body(void **state)
{
    struct bench bench;
    struct record *record = record_new(JOURNAL_REQUEST, 1000, 5);
    struct seen *seen = seen_new(false);

    (void)state;
    bench_init(&bench, options_of());
    record->write.head = buffer_new(77);
    memset(record->write.head->bytes, 5, 77);
    record->write.head->len = 77;
    assert_int_equal(journal_append(bench.journal, &record->write), 0);
    pass(&bench, 1);
    assert_int_equal(record->done_count, 1);
    assert_null(record->write.head);
    crash(&bench);
    bench_open(&bench);
    assert_int_equal(recover(&bench, seen).corrupt_records, 0);
    assert_int_equal(seen->count, 1);
    assert_int_equal(seen->at[0].len, 1077);
    record_free(record);
    free(seen);
    bench_deinit(&bench);
}

/* A record that no segment has room for gets one of its own size; it goes when it is over. */
static void test_large_record(void **state)
{
    struct bench bench;
    struct seen *seen = seen_new(false);
    struct record *large, *small;

    (void)state;
    bench_init(&bench, options_of());
    small = written(&bench, JOURNAL_REQUEST, 100, 1);
    large = written(&bench, JOURNAL_REQUEST, 5 * SEGMENT, 2);
    record_free(small);
    small = written(&bench, JOURNAL_REQUEST, 100, 3);
    assert_true(small->write.at.segment >= large->write.at.segment);
    release(&bench, large);
    crash(&bench);
    bench_open(&bench);
    assert_int_equal(recover(&bench, seen).corrupt_records, 0);
    assert_int_equal(seen->count, 3);
    must_have(seen, large);
    pass(&bench, 2 * NS_PER_S);
    assert_true(memory_disk_bytes(bench.disk) < 4 * SEGMENT); /* nothing was held */
    record_free(small);
    record_free(large);
    free(seen);
    bench_deinit(&bench);
}

/* -- syncing ------------------------------------------------------------------------------------------------------------- */

static void test_group_commit(void **state)
{
    static const enum journal_sync syncs[] = {JOURNAL_SYNC_NONE, JOURNAL_SYNC_INTERVAL, JOURNAL_SYNC_ALWAYS};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct journal_options options = options_of();
        struct bench bench;
        struct record *records[50];
        size_t before;

        options.sync = syncs[i];
        bench_init(&bench, options);
        for (size_t j = 0; j < 2; j++) { /* the second finds all files made */
            records[0] = append(&bench, JOURNAL_REQUEST, 500, 1);
            pass(&bench, NS_PER_S);
            record_free(records[0]);
        }
        before = memory_disk_count(bench.disk, DISK_SYNC);
        for (size_t j = 0; j < 50; j++)
            records[j] = append(&bench, JOURNAL_REQUEST, 500, 1);
        pass(&bench, NS_PER_MS);
        for (size_t j = 0; j < 50; j++)
            assert_int_equal(records[j]->done_count, 1);
        assert_int_equal(memory_disk_count(bench.disk, DISK_SYNC) - before, syncs[i] == JOURNAL_SYNC_ALWAYS ? 1 : 0);
        pass(&bench, NS_PER_S);
        assert_int_equal(memory_disk_count(bench.disk, DISK_SYNC) - before, syncs[i] == JOURNAL_SYNC_NONE ? 0 : 1);
        assert_true(memory_disk_count(bench.disk, DISK_WRITE) < 10);
        for (size_t j = 0; j < 50; j++)
            record_free(records[j]);
        bench_deinit(&bench);
    }
}

/* sync: always outlives a loss of power; what interval had not synced need not, and its holes cost nothing else. */
static void test_power_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct journal_options options = options_of();
        struct bench bench;
        struct record *records[100];
        struct seen *seen = seen_new(false);

        options.sync = seed % 2 ? JOURNAL_SYNC_ALWAYS : JOURNAL_SYNC_INTERVAL;
        bench_init(&bench, options);
        for (size_t i = 0; i < 100; i++)
            records[i] = written(&bench, i % 5 == 4 ? JOURNAL_VERDICTS : JOURNAL_REQUEST, 100 + i * 30, (uint8_t)(i + 1));
        crash(&bench);
        memory_disk_lose(bench.disk, seed);
        bench_open(&bench);
        (void)recover(&bench, seen);
        for (size_t i = 0; i < 100; i++) {
            if (options.sync == JOURNAL_SYNC_ALWAYS || find_seen(seen, records[i]) != SIZE_MAX)
                must_have(seen, records[i]);
            record_free(records[i]);
        }
        free(seen);
        bench_deinit(&bench);
    }
}

/* -- damage ----------------------------------------------------------------------------------------------------------------- */

/* The file in which a segment lies. */
static uint8_t *segment_bytes(struct bench *bench, uint32_t segment, uint64_t *out_size)
{
    for (uint32_t number = 0; number < 1000; number++) {
        uint8_t *bytes = memory_disk_file(bench->disk, number, out_size);
        struct segment_head head;

        if (bytes && segment_head_read(slice_make(bytes, SEGMENT_HEAD_BYTES), &head) == SEGMENT_GOOD && head.number == segment)
            return bytes;
    }
    fail_msg("segment %u is in no file", segment);
    return NULL;
}

#define DAMAGED_RECORDS 12u

/* Each byte of the log, spoilt alone: exactly the record it belongs to is lost, and nothing comes that was not written. A byte of a pad
 * costs nothing. */
static void test_each_byte_spoilt(void **state)
{
    struct bench bench;
    struct record *records[DAMAGED_RECORDS];
    struct seen *seen = seen_new(true);
    uint64_t size, end;
    uint8_t *bytes;

    (void)state;
    bench_init(&bench, options_of());
    for (size_t i = 0; i < DAMAGED_RECORDS; i++)
        records[i] = append(&bench, JOURNAL_REQUEST, 1 + i * 3, (uint8_t)(i + 1));
    pass(&bench, 1);
    end = records[DAMAGED_RECORDS - 1]->write.at.offset + records[DAMAGED_RECORDS - 1]->len;
    for (uint64_t at = SEGMENT_HEAD_BYTES; at < end; at++) {
        size_t lost = DAMAGED_RECORDS;

        crash(&bench);
        bytes = segment_bytes(&bench, records[0]->write.at.segment, &size);
        bytes[at] ^= 0x10;
        bench_open(&bench);
        (void)recover(&bench, seen);
        for (size_t i = 0; i < DAMAGED_RECORDS; i++) {
            uint64_t begin = records[i]->write.at.offset - FRAME_BYTES;

            if (at >= begin && at < begin + FRAME_BYTES + records[i]->len)
                lost = i;
            else
                must_have(seen, records[i]);
        }
        assert_int_equal(seen->count, lost < DAMAGED_RECORDS ? DAMAGED_RECORDS - 1 : DAMAGED_RECORDS);
        /* A spoilt last frame looks like space never used. */
        if (lost < DAMAGED_RECORDS - 1)
            assert_int_equal(stats_of(&bench).corrupt_records, 1);
        bytes[at] ^= 0x10;
    }
    for (size_t i = 0; i < DAMAGED_RECORDS; i++)
        record_free(records[i]);
    free(seen);
    bench_deinit(&bench);
}

/* Torn at each byte of the last record: what stands before it is whole. */
static void test_torn_tail(void **state)
{
    struct bench bench;
    struct record *first, *last;
    struct seen *seen = seen_new(true);
    uint8_t saved[512], frame[FRAME_BYTES], *bytes;
    uint64_t size, begin, end;

    (void)state;
    bench_init(&bench, options_of());
    first = written(&bench, JOURNAL_REQUEST, 100, 1);
    last = written(&bench, JOURNAL_REQUEST, 100, 2);
    begin = last->write.at.offset - FRAME_BYTES;
    end = last->write.at.offset + last->len;
    for (uint64_t torn = begin; torn <= end; torn++) {
        crash(&bench);
        bytes = segment_bytes(&bench, first->write.at.segment, &size);
        memcpy(saved, bytes + torn, end - torn);
        memcpy(frame, bytes + begin, FRAME_BYTES);
        memset(bytes + torn, 0, end - torn);
        bench_open(&bench);
        (void)recover(&bench, seen);
        assert_int_equal(seen->count, torn == end ? 2 : 1);
        must_have(seen, first);
        /* A frame that is whole tells of a record; one that is not looks like space never used. */
        assert_int_equal(stats_of(&bench).corrupt_records, torn < end && memcmp(bytes + begin, frame, FRAME_BYTES) == 0 ? 1 : 0);
        memcpy(bytes + torn, saved, end - torn);
    }
    record_free(first);
    record_free(last);
    free(seen);
    bench_deinit(&bench);
}

/* A recycled file never shows what it held before. */
static void test_recycled_bytes_never_pass(void **state)
{
    struct bench bench;
    struct seen *seen = seen_new(false);
    struct record *record;

    (void)state;
    bench_init(&bench, options_of());
    for (unsigned i = 0; i < 400; i++) {
        record = written(&bench, JOURNAL_REQUEST, 1000, (uint8_t)i);
        release(&bench, record);
        record_free(record);
        if (i % 10 == 9)
            pass(&bench, NS_PER_S);
    }
    assert_true(stats_of(&bench).recycled_segments >= 5);
    assert_true(memory_disk_files(bench.disk) <= 4);
    crash(&bench);
    bench_open(&bench);
    (void)recover(&bench, seen);
    assert_true(seen->count <= 2 * (SEGMENT / 1032));
    for (size_t i = 1; i < seen->count; i++)
        assert_true(seen->at[i].sequence == seen->at[i - 1].sequence + 1);
    free(seen);
    bench_deinit(&bench);
}

/* Reading fails: counted, what can be read comes, the start goes on. */
static void test_read_errors(void **state)
{
    static const struct {
        const char *what;
        enum memory_operation which;
        size_t good, count;
        size_t least;
    } cases[] = {
        {"the head file", DISK_READ, 0, 1, 60},
        {"a segment's head", DISK_READ, 1, 1, 0},
        {"all of it", DISK_READ, 0, 1000000, 0},
        {"one window", DISK_READ, 4, 1, 60},
        {"opening one", DISK_OPEN, 2, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench bench;
        struct record *record;
        struct seen *seen = seen_new(true);

        bench_init(&bench, options_of());
        for (unsigned j = 0; j < 60; j++) {
            record = written(&bench, j % 2 ? JOURNAL_REQUEST : JOURNAL_VERDICTS, 100, 1);
            record_free(record);
        }
        crash(&bench);
        memory_disk_fail(bench.disk, cases[i].which, cases[i].good, cases[i].count, EIO);
        bench_open(&bench);
        (void)recover(&bench, seen);
        if (seen->count < cases[i].least)
            fail_msg("%s: %zu records came back", cases[i].what, seen->count);
        assert_true(stats_of(&bench).read_errors > 0);
        memory_disk_fail(bench.disk, cases[i].which, 0, 0, 0);
        pass(&bench, 2 * NS_PER_S);
        pass(&bench, 2 * NS_PER_S);
        record = written(&bench, JOURNAL_REQUEST, 100, 2);
        record_free(record);
        free(seen);
        bench_deinit(&bench);
    }
}

static void test_head_file(void **state)
{
    static const struct {
        const char *what, *bytes;
        size_t len;
        int want;
    } cases[] = {
        {"gone", "", 0, 0},
        {"cut", "TRJOURNL\1\0\0\0\0", 13, 0},
        {"spoilt", "TRJOURNL\1\0\0\0\0\0\0\0xxxxxxxxyyyyyyyyzzzzzzzz", 40, 0},
        {"of a later version", "TRJOURNL\2\0\0\0\0\0\0\0xxxxxxxxyyyyyyyyzzzzzzzz", 40, JOURNAL_E_VERSION},
        {"somebody else's", "{\"a journal\": \"of what I had for breakfast\"}", 43, JOURNAL_E_VERSION},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench bench;
        struct record *record;
        struct seen *seen = seen_new(false);
        char error[256] = "";
        int r;

        bench_init(&bench, options_of());
        record = written(&bench, JOURNAL_REQUEST, 100, 1);
        crash(&bench);
        memory_disk_put_head(bench.disk, cases[i].bytes, cases[i].len);
        bench.options.new_id = 5;
        r = journal_open(&bench.options, bench.now, &bench.journal, error, sizeof(error));
        if (r != cases[i].want)
            fail_msg("%s: %d, %s", cases[i].what, r, error);
        if (r == 0) { /* the segments know whose they are */
            assert_true(journal_id(bench.journal) == 0x1234567887654321ull);
            (void)recover(&bench, seen);
            must_have(seen, record);
        } else {
            assert_non_null(strstr(error, "d"));
            bench.journal = NULL;
            assert_int_equal(memory_disk_files(bench.disk), 2); /* untouched: its segment and the spare */
        }
        record_free(record);
        free(seen);
        bench_deinit(&bench);
    }
}

/* Without knowing what is there nothing can be promised. */
static void test_list_fails(void **state)
{
    struct bench bench;
    char error[256] = "";

    (void)state;
    bench_init(&bench, options_of());
    record_free(written(&bench, JOURNAL_REQUEST, 100, 1));
    crash(&bench);
    memory_disk_fail(bench.disk, DISK_LIST, 0, 1, EIO);
    assert_int_equal(journal_open(&bench.options, bench.now, &bench.journal, error, sizeof(error)), JOURNAL_E_DIRECTORY);
    assert_non_null(strstr(error, "Input/output error"));
    bench_open(&bench);
    bench_deinit(&bench);
}

static void test_locked(void **state)
{
    struct bench bench;
    struct journal *second = NULL;
    char error[256] = "";

    (void)state;
    bench_init(&bench, options_of());
    assert_int_equal(journal_open(&bench.options, bench.now, &second, error, sizeof(error)), JOURNAL_E_LOCKED);
    assert_non_null(strstr(error, "in use by another process"));
    bench_deinit(&bench);
}

static void test_options(void **state)
{
    struct journal_options options[4];
    struct journal *journal = NULL;
    char error[256];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        options[i] = options_of();
    options[0].segment_bytes = 1000;
    options[1].max_bytes = 4 * SEGMENT - 1;
    options[2].sync = JOURNAL_SYNC_INTERVAL;
    options[2].sync_interval_ns = 0;
    options[3].directory = "not there";
    for (size_t i = 0; i < 4; i++) {
        error[0] = '\0';
        assert_int_equal(journal_open(&options[i], (struct journal_now){0}, &journal, error, sizeof(error)),
            i < 3 ? JOURNAL_E_OPTIONS : JOURNAL_E_DIRECTORY);
        assert_true(error[0] != '\0');
    }
}

/* -- a failing disk ------------------------------------------------------------------------------------------------------- */

/* refuse: those that wait are told, further ones turned away, a probe finds the disk well again. What was written before comes back. */
static void test_failing_refuse(void **state)
{
    static const struct {
        enum memory_operation which;
        size_t good;
        int error;
        const char *operation;
    } cases[] = {
        {DISK_WRITE, 0, EIO, "write"},
        {DISK_SYNC, 0, EIO, "sync"},
        {DISK_WRITE, 0, ENOSPC, "write"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct journal_options options = options_of();
        struct bench bench;
        struct record *before, *during, *turned_away, *after;
        struct seen *seen = seen_new(false);

        options.sync = JOURNAL_SYNC_ALWAYS;
        bench_init(&bench, options);
        before = written(&bench, JOURNAL_REQUEST, 100, 1);
        pass(&bench, 2 * NS_PER_S);
        memory_disk_fail(bench.disk, cases[i].which, cases[i].good, 1000, cases[i].error);
        during = append(&bench, JOURNAL_REQUEST, 100, 2);
        pass(&bench, NS_PER_MS);
        assert_int_equal(during->done_count, 1);
        assert_int_equal(during->write.error, -cases[i].error);
        assert_true(journal_failing(bench.journal));
        assert_string_equal(stats_of(&bench).last_operation, cases[i].operation);
        assert_int_equal(stats_of(&bench).last_error, cases[i].error);
        turned_away = record_new(JOURNAL_REQUEST, 100, 3);
        assert_int_equal(journal_append(bench.journal, &turned_away->write), JOURNAL_E_FAILED);
        pass(&bench, 2 * NS_PER_S);
        assert_true(journal_failing(bench.journal)); /* the probe failed */
        memory_disk_fail(bench.disk, cases[i].which, 0, 0, 0);
        pass(&bench, 2 * NS_PER_S);
        assert_false(journal_failing(bench.journal));
        after = written(&bench, JOURNAL_REQUEST, 100, 4);
        assert_int_equal(turned_away->done_count, 0);
        crash(&bench);
        bench_open(&bench);
        (void)recover(&bench, seen);
        must_have(seen, before);
        must_have(seen, after);
        record_free(before);
        record_free(during);
        record_free(turned_away);
        record_free(after);
        free(seen);
        bench_deinit(&bench);
    }
}

/* memory: everything is done, and told to be in memory only. */
static void test_failing_memory(void **state)
{
    struct journal_options options = options_of();
    struct bench bench;
    struct record *records[3];

    (void)state;
    options.on_error = JOURNAL_MEMORY;
    bench_init(&bench, options);
    assert_true(journal_room(bench.journal) == UINT64_MAX);
    memory_disk_fail(bench.disk, DISK_WRITE, 0, 1000, EIO);
    for (size_t i = 0; i < 2; i++) {
        records[i] = written(&bench, JOURNAL_REQUEST, 100, 1);
        assert_true(records[i]->write.in_memory);
        assert_int_equal(records[i]->write.at.segment == 0, i == 1); /* the first one found out */
        release(&bench, records[i]);
        record_free(records[i]);
    }
    memory_disk_fail(bench.disk, DISK_WRITE, 0, 0, 0);
    pass(&bench, 2 * NS_PER_S);
    records[2] = written(&bench, JOURNAL_REQUEST, 100, 1);
    assert_false(records[2]->write.in_memory);
    assert_int_equal(stats_of(&bench).memory_records, 2);
    record_free(records[2]);
    bench_deinit(&bench);
}

/* memory, at max_bytes: requests go on without the disk; a copy does not, for what it would replace is better where it is. */
static void test_full_memory(void **state)
{
    struct journal_options options = options_of();
    struct bench bench;
    struct record *record, *copy;
    unsigned in_memory = 0;

    (void)state;
    options.on_error = JOURNAL_MEMORY;
    bench_init(&bench, options);
    for (unsigned i = 0; i < 16 * 70; i++) {
        record = written(&bench, JOURNAL_REQUEST, 1000, 1);
        assert_int_equal(record->write.in_memory, record->write.at.segment == 0);
        in_memory += record->write.in_memory;
        record_free(record);
    }
    assert_true(in_memory > 0);
    assert_true(memory_disk_bytes(bench.disk) <= bench.options.max_bytes);
    for (unsigned i = 0; i < 16 * 70; i++) {
        int r;

        copy = record_new(JOURNAL_TRACES, 1000, 1);
        copy->write.copy = true;
        r = journal_append(bench.journal, &copy->write);
        pass(&bench, NS_PER_MS);
        assert_int_equal(copy->done_count, r == 0);
        assert_false(copy->write.in_memory);
        record_free(copy);
        if (r) {
            assert_int_equal(r, JOURNAL_E_FULL);
            break;
        }
        assert_true(i < 16 * 69);
    }
    bench_deinit(&bench);
}

/* No room on the disk for another segment: requests are turned away, verdicts still have the spare file. */
static void test_no_space_on_disk(void **state)
{
    struct bench bench;
    struct record *record;
    unsigned good = 0, verdicts = 0;

    (void)state;
    bench_init(&bench, options_of());
    memory_disk_limit(bench.disk, 3 * SEGMENT);
    pass(&bench, NS_PER_S);
    for (unsigned i = 0; i < 400 && !journal_failing(bench.journal); i++) {
        record = append(&bench, JOURNAL_REQUEST, 1000, 1);
        pass(&bench, 5 * NS_PER_MS);
        assert_int_equal(record->done_count, 1);
        good += record->write.error == 0;
        if (record->write.error)
            assert_int_equal(record->write.error, -ENOSPC);
        record_free(record);
    }
    assert_true(journal_failing(bench.journal));
    assert_true(good >= SEGMENT / 1032 - 1);
    for (unsigned i = 0; i < 50; i++) {
        record = record_new(JOURNAL_VERDICTS, 1000, 1);
        assert_int_equal(journal_append(bench.journal, &record->write), 0);
        pass(&bench, NS_PER_MS);
        verdicts += record->write.error == 0;
        record_free(record);
    }
    assert_int_equal(verdicts, 50);
    bench_deinit(&bench);
}

/* At max_bytes data is turned away a little before, and room says so; verdicts and copies are not; released, there is room again. */
static void test_full(void **state)
{
    struct bench bench;
    struct record *records[2000], *one;
    size_t count = 0;
    uint64_t room;
    int r = 0;

    (void)state;
    bench_init(&bench, options_of());
    room = journal_room(bench.journal);
    assert_true(room > 0 && room < bench.options.max_bytes);
    while (r == 0 && count < 2000) {
        records[count] = record_new(JOURNAL_REQUEST, 1000, 1);
        r = journal_append(bench.journal, &records[count]->write);
        pass(&bench, NS_PER_MS);
        count++;
    }
    assert_int_equal(r, JOURNAL_E_FULL);
    assert_true(journal_room(bench.journal) < 1032);
    assert_true(count * 1032 + 16 * SEGMENT_HEAD_BYTES + SEGMENT > room);
    assert_true(memory_disk_bytes(bench.disk) <= bench.options.max_bytes);
    one = written(&bench, JOURNAL_VERDICTS, 2000, 2);
    record_free(one);
    one = record_new(JOURNAL_TRACES, 1000, 3);
    one->write.copy = true;
    assert_int_equal(journal_append(bench.journal, &one->write), 0);
    pass(&bench, NS_PER_MS);
    assert_int_equal(one->done_count, 1);
    record_free(one);
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count)
            release(&bench, records[i]);
        record_free(records[i]);
    }
    pass(&bench, NS_PER_S);
    assert_true(journal_room(bench.journal) > room / 2);
    one = written(&bench, JOURNAL_REQUEST, 1000, 2);
    record_free(one);
    bench_deinit(&bench);
}

/* -- verdicts' segments ----------------------------------------------------------------------------------------------------- */

/* Fills the verdicts' current segment, so that the one before is sealed. */
static void roll_verdicts(struct bench *bench)
{
    for (unsigned i = 0; i < 2 * SEGMENT / 4096; i++)
        record_free(written(bench, JOURNAL_VERDICTS, 4000, 9));
}

static void roll_data(struct bench *bench)
{
    for (unsigned i = 0; i < 2 * SEGMENT / 4096; i++) {
        struct record *record = written(bench, JOURNAL_REQUEST, 4000, 9);

        release(bench, record);
        record_free(record);
    }
}

/* A verdict stays as long as the data it speaks of, and at least verdict_keep; so no crash brings a span back without it. */
static void test_verdicts_outlive_data(void **state)
{
    struct bench bench;
    struct record *data, *verdict, *naming;
    struct seen *seen = seen_new(false);

    (void)state;
    bench_init(&bench, options_of());
    data = written(&bench, JOURNAL_REQUEST, 100, 1);
    roll_data(&bench);
    naming = record_new(JOURNAL_EXPORTED, 100, 2);
    naming->write.refers = &data->write.at.segment;
    naming->write.refer_count = 1;
    assert_int_equal(journal_append(bench.journal, &naming->write), 0);
    roll_verdicts(&bench);
    verdict = written(&bench, JOURNAL_VERDICTS, 100, 3);
    for (unsigned i = 0; i < 30; i++)
        pass(&bench, NS_PER_S);
    crash(&bench);
    bench_open(&bench);
    (void)recover(&bench, seen);
    must_have(seen, data);
    must_have(seen, naming);
    must_have(seen, verdict);
    /* Nobody held it this time: data goes at once, verdicts after verdict_keep. */
    pass(&bench, NS_PER_S);
    assert_int_equal(stats_of(&bench).data_segments, 0);
    assert_true(stats_of(&bench).verdict_segments > 0);
    for (unsigned i = 0; i < 12; i++)
        pass(&bench, NS_PER_S);
    assert_int_equal(stats_of(&bench).verdict_segments, 0);
    record_free(data);
    record_free(naming);
    record_free(verdict);
    free(seen);
    bench_deinit(&bench);
}

static struct record *copied(struct bench *bench, uint32_t from, uint8_t fill)
{
    struct record *copy = record_new(JOURNAL_TRACES, 100, fill);

    copy->write.copy = true;
    copy->write.refers = &from;
    copy->write.refer_count = 1;
    assert_int_equal(journal_append(bench->journal, &copy->write), 0);
    pass(bench, NS_PER_MS);
    assert_int_equal(copy->done_count, 1);
    return copy;
}

static void roll_copies(struct bench *bench)
{
    for (unsigned i = 0; i < 2 * SEGMENT / 132; i++) {
        struct record *copy = copied(bench, 0, 9);

        release(bench, copy);
        record_free(copy);
    }
}

/* A span that was copied twice lies in two segments of copies; its verdict, which names the second, outlives the first too. */
static void test_verdicts_outlive_copies_of_copies(void **state)
{
    struct bench bench;
    struct record *data, *first, *beside, *second, *naming;
    struct seen *seen = seen_new(false);

    (void)state;
    bench_init(&bench, options_of());
    data = written(&bench, JOURNAL_REQUEST, 100, 1);
    first = copied(&bench, data->write.at.segment, 1);
    beside = copied(&bench, data->write.at.segment, 2);
    release(&bench, data);
    roll_copies(&bench);
    second = copied(&bench, first->write.at.segment, 1);
    assert_true(second->write.at.segment > first->write.at.segment);
    release(&bench, first);
    roll_copies(&bench);
    naming = record_new(JOURNAL_EXPORTED, 100, 3);
    naming->write.refers = &second->write.at.segment;
    naming->write.refer_count = 1;
    assert_int_equal(journal_append(bench.journal, &naming->write), 0);
    pass(&bench, NS_PER_MS);
    release(&bench, second);
    roll_verdicts(&bench);
    for (unsigned i = 0; i < 30; i++)
        pass(&bench, NS_PER_S);
    crash(&bench);
    bench_open(&bench);
    (void)recover(&bench, seen);
    assert_true(find_seen(seen, second) == SIZE_MAX);
    must_have(seen, first);
    must_have(seen, beside);
    must_have(seen, naming);
    record_free(data);
    record_free(first);
    record_free(beside);
    record_free(second);
    record_free(naming);
    free(seen);
    bench_deinit(&bench);
}

/* The newest MEMBER record moves on with the log. */
static void test_member_stays(void **state)
{
    struct bench bench;
    struct record *member;
    struct seen *seen = seen_new(false);
    size_t found = 0;

    (void)state;
    bench_init(&bench, options_of());
    member = written(&bench, JOURNAL_MEMBER, 50, 1);
    record_free(member);
    member = written(&bench, JOURNAL_MEMBER, 60, 2);
    for (unsigned i = 0; i < 10; i++) {
        roll_verdicts(&bench);
        for (unsigned j = 0; j < 12; j++)
            pass(&bench, NS_PER_S);
    }
    assert_true(stats_of(&bench).recycled_segments >= 10);
    for (unsigned i = 0; i < 3; i++) { /* over restarts too, with nothing new said */
        crash(&bench);
        bench_open(&bench);
        (void)recover(&bench, seen);
        for (unsigned j = 0; j < 15; j++)
            pass(&bench, NS_PER_S);
    }
    crash(&bench);
    bench_open(&bench);
    (void)recover(&bench, seen);
    for (size_t i = 0; i < seen->count; i++)
        if (seen->at[i].kind == JOURNAL_MEMBER) {
            assert_int_equal(seen->at[i].len, 60);
            assert_int_equal(seen->at[i].fill, 2);
            found++;
        }
    assert_true(found >= 1);
    record_free(member);
    free(seen);
    bench_deinit(&bench);
}

/* -- files ------------------------------------------------------------------------------------------------------------------- */

/* Of the file where that record lies; UINT32_MAX: in none. */
static uint32_t file_of(struct bench *bench, const struct record *record)
{
    for (uint32_t number = 0; number < 64; number++) {
        uint64_t size;
        const uint8_t *bytes = memory_disk_file(bench->disk, number, &size);

        if (bytes && record->write.at.offset + record->len <= size &&
            memcmp(bytes + record->write.at.offset, record->bytes, record->len) == 0)
            return number;
    }
    return UINT32_MAX;
}

/* Each in a segment of its own, and all are let go of. */
static void burst(struct bench *bench, size_t count)
{
    struct record *records[16];

    for (size_t i = 0; i < count; i++)
        records[i] = written(bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 1);
    for (size_t i = 0; i < count; i++) {
        release(bench, records[i]);
        record_free(records[i]);
    }
    pass(bench, NS_PER_S);
}

/* Of a segment that is just let go of. */
static uint32_t file_emptied_last(struct bench *bench)
{
    struct record *gone = written(bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 2);
    struct record *after = written(bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 3);
    uint32_t file = file_of(bench, gone);

    assert_int_not_equal(file, UINT32_MAX);
    release(bench, gone);
    pass(bench, NS_PER_S);
    release(bench, after);
    record_free(gone);
    record_free(after);
    return file;
}

/* Files whose pages the kernel has are worth more than new ones: bursts find those of the last, the one that was emptied last is used next,
 * and what no segment needed for a minute is given back. */
static void test_files_are_used_again(void **state)
{
    struct bench bench;
    struct record *last;
    uint32_t file;
    size_t made;

    (void)state;
    bench_init(&bench, options_of());
    burst(&bench, 8);
    made = memory_disk_count(bench.disk, DISK_CREATE);
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned j = 0; j < 20; j++)
            pass(&bench, NS_PER_S);
        burst(&bench, 8);
    }
    assert_int_equal(memory_disk_count(bench.disk, DISK_CREATE), made);
    assert_int_equal(memory_disk_count(bench.disk, DISK_REMOVE), 0);

    file = file_emptied_last(&bench);
    last = written(&bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 4);
    assert_int_equal(file_of(&bench, last), file);
    release(&bench, last);
    record_free(last);
    for (unsigned i = 0; i < 4; i++)
        pass(&bench, 60 * NS_PER_S);
    assert_true(memory_disk_files(bench.disk) <= 4);
    bench_deinit(&bench);
}

static void test_a_bad_file_comes_last(void **state)
{
    struct bench bench;
    struct record *bad, *good;
    uint32_t file;

    (void)state;
    bench_init(&bench, options_of());
    burst(&bench, 8);
    file = file_emptied_last(&bench);
    memory_disk_fail(bench.disk, DISK_WRITE, 0, 1, EIO);
    bad = append(&bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 4);
    pass(&bench, NS_PER_MS);
    assert_int_equal(bad->write.error, -EIO);
    pass(&bench, 2 * NS_PER_S);
    good = written(&bench, JOURNAL_REQUEST, SEGMENT * 3 / 4, 5);
    assert_int_not_equal(file_of(&bench, good), UINT32_MAX);
    assert_int_not_equal(file_of(&bench, good), file);
    release(&bench, bad);
    release(&bench, good);
    record_free(bad);
    record_free(good);
    bench_deinit(&bench);
}

/* -- cleaning ------------------------------------------------------------------------------------------------------------------ */

struct survivor {
    uint32_t segment, bytes;
};

/* Copies forward what lies in the segments of the set. */
static void empty_segments(struct bench *bench, const struct journal_clean *clean, struct survivor *survivors, size_t count)
{
    struct journal_account account;

    journal_account_init(&account, bench->journal);
    for (size_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < clean->count; j++)
            if (survivors[i].segment == clean->segments[j]) {
                struct record *copy = record_new(JOURNAL_TRACES, survivors[i].bytes, 1);

                copy->write.copy = true;
                assert_int_equal(journal_append(bench->journal, &copy->write), 0);
                pass(bench, 0);
                assert_int_equal(copy->write.error, 0);
                journal_release(&account, survivors[i].segment, survivors[i].bytes);
                survivors[i].segment = copy->write.at.segment;
                record_free(copy);
                break;
            }
    journal_account_deinit(&account);
}

/* An outage of 300 s with 10 % kept: once its traces are decided, the disk holds at most 1.3 times what survivors came with, and each of
 * them is copied about once. */
static void test_outage(void **state)
{
    enum { REQUESTS = 300 * 20, BYTES = 1000, SECOND = 20, WAIT_S = 10 };
    struct journal_options options = options_of();
    struct bench bench;
    struct survivor *held = calloc(REQUESTS, sizeof(held[0]));
    size_t survivors = 0, decided = 0;
    struct journal_clean clean = {0};
    struct journal_account account;
    struct journal_stats stats;

    (void)state;
    assert_non_null(held);
    options.max_bytes = 256 * SEGMENT;
    bench_init(&bench, options);
    journal_account_init(&account, bench.journal);
    for (size_t i = 0; i < REQUESTS + (WAIT_S + 100) * SECOND; i++) {
        if (i < REQUESTS) {
            struct record *record = append(&bench, JOURNAL_REQUEST, BYTES, 1);

            held[i] = (struct survivor){record->write.at.segment, BYTES};
            pass(&bench, 0);
            record_free(record);
        }
        if (i >= WAIT_S * SECOND && decided < REQUESTS) { /* nine of ten are dropped */
            if (decided % 10 == 0)
                held[survivors++] = held[decided];
            else
                journal_release(&account, held[decided].segment, BYTES);
            decided++;
        }
        journal_account_flush(&account);
        pass(&bench, NS_PER_S / SECOND);
        if (journal_clean_wanted(bench.journal, &clean))
            empty_segments(&bench, &clean, held, survivors);
    }
    stats = stats_of(&bench);
    assert_int_equal(survivors, REQUESTS / 10);
    assert_true(stats.live_bytes == survivors * BYTES);
    /* Two open segments beside. */
    if ((stats.data_segments + stats.copy_segments - 2) * SEGMENT > survivors * BYTES * 13 / 10)
        fail_msg("%llu + %llu segments for %zu bytes", (unsigned long long)stats.data_segments, (unsigned long long)stats.copy_segments, survivors * BYTES);
    if (stats.copied_bytes > survivors * BYTES * 12 / 10)
        fail_msg("%llu bytes were copied", (unsigned long long)stats.copied_bytes);
    assert_true(stats.cleaned_segments > 50);
    for (size_t i = 0; i < survivors; i++)
        journal_release(&account, held[i].segment, BYTES);
    journal_account_deinit(&account);
    for (unsigned i = 0; i < 4; i++) /* what no segment needed for a minute is given back */
        pass(&bench, 60 * NS_PER_S);
    assert_true(stats_of(&bench).live_bytes == 0);
    assert_true(memory_disk_bytes(bench.disk) <= 6 * SEGMENT);
    free(held);
    bench_deinit(&bench);
}

/* -- reading back ---------------------------------------------------------------------------------------------------------------- */

struct reading {
    struct journal_read read;
    bool done;
};

static void on_read(struct journal_read *read)
{
    container_of(read, struct reading, read)->done = true;
}

#define READS 40u

static void test_read_back(void **state)
{
    struct bench bench;
    struct record *records[READS];
    struct journal_read_item items[READS + 1];
    uint8_t to[READS][3000];
    struct reading reading = {.read = {.done = on_read, .items = items, .count = READS + 1}};
    unsigned failed = 0;

    (void)state;
    bench_init(&bench, options_of());
    for (size_t i = 0; i < READS; i++)
        records[i] = written(&bench, JOURNAL_REQUEST, 3000, (uint8_t)(i + 1));
    for (size_t i = 0; i < READS; i++) {
        size_t j = i * 7 % READS;

        items[i] = (struct journal_read_item){.at = {records[j]->write.at.segment, records[j]->write.at.offset + 10}, .len = 2000, .to = to[j]};
        memset(to[j], 0, sizeof(to[j]));
    }
    items[READS] = (struct journal_read_item){.at = {4711, 5000}, .len = 1, .to = to[0] + 2500}; /* nowhere */
    journal_read(bench.journal, &reading.read);
    assert_true(journal_run_reads(bench.journal, bench.now) == UINT64_MAX);
    assert_true(reading.done);
    for (size_t i = 0; i <= READS; i++)
        failed += items[i].failed;
    assert_int_equal(failed, 1);
    for (size_t i = 0; i < READS; i++)
        for (size_t j = 0; j < 2000; j++)
            assert_int_equal(to[i][j], i + 1);
    assert_true(stats_of(&bench).reads <= 5); /* neighbours together */
    for (size_t i = 0; i < READS; i++)
        record_free(records[i]);
    bench_deinit(&bench);
}

/* The cap is kept over a second; a bad block costs what lies in it. */
static void test_read_cap_and_errors(void **state)
{
    struct journal_options options = options_of();
    struct bench bench;
    struct record *records[20];
    struct journal_read_item items[20];
    uint8_t to[20];
    struct reading reading = {.read = {.done = on_read, .items = items, .count = 20}};
    unsigned failed = 0;
    uint64_t began_ns;

    (void)state;
    options.reads_per_second = 100;
    options.max_bytes = 64 * SEGMENT;
    bench_init(&bench, options);
    for (size_t i = 0; i < 20; i++) {
        records[i] = written(&bench, JOURNAL_REQUEST, 50000, (uint8_t)(i + 1));
        items[i] = (struct journal_read_item){.at = records[i]->write.at, .len = 1, .to = &to[i]};
    }
    memory_disk_fail(bench.disk, DISK_READ, 3, 1, EIO);
    journal_read(bench.journal, &reading.read);
    began_ns = bench.now.ns;
    for (unsigned turns = 0; !reading.done && turns < 1000; turns++) {
        uint64_t next_ns = journal_run_reads(bench.journal, bench.now);

        if (!reading.done) {
            assert_true(next_ns > bench.now.ns);
            bench.now.ns = next_ns;
        }
    }
    assert_true(reading.done);
    assert_true(bench.now.ns - began_ns >= 170 * NS_PER_MS && bench.now.ns - began_ns <= 210 * NS_PER_MS);
    for (size_t i = 0; i < 20; i++) {
        failed += items[i].failed;
        if (!items[i].failed)
            assert_int_equal(to[i], i + 1);
        record_free(records[i]);
    }
    assert_int_equal(failed, 1);
    bench_deinit(&bench);
}

/* Reads that are queued when it closes are told so. */
static void test_close_fails_reads(void **state)
{
    struct bench bench;
    struct journal_read_item item = {.at = {1, 2000}};
    struct reading reading = {.read = {.done = on_read, .items = &item, .count = 1}};

    (void)state;
    bench_init(&bench, options_of());
    journal_read(bench.journal, &reading.read);
    bench_deinit(&bench);
    assert_true(reading.done && item.failed);
}

/* -- what it says -------------------------------------------------------------------------------------------------------------------- */

static void test_status(void **state)
{
    struct bench bench;
    struct metrics metrics;
    struct journal_stats stats;
    struct text text = {0};
    struct record *failing;

    (void)state;
    bench_init(&bench, options_of());
    assert_int_equal(metrics_init(&metrics, 0), 0);
    record_free(written(&bench, JOURNAL_REQUEST, 100, 1));
    stats = stats_of(&bench);
    journal_metrics(&stats, bench.now.unix_ns, &metrics.cells[0]);
    assert_int_equal(metrics_sum(&metrics, METRIC_JOURNAL_WRITTEN_RECORDS), 1);
    assert_int_equal(metrics_sum(&metrics, METRIC_JOURNAL_LIVE_BYTES), 100);
    assert_int_equal(metrics_sum(&metrics, METRIC_JOURNAL_SEGMENTS_DATA), 1);
    journal_status(&stats, bench.now.unix_ns, &text);
    assert_non_null(strstr(text.at, "\"state\":\"good\""));
    assert_non_null(strstr(text.at, "\"last_error\":null}"));
    memory_disk_fail(bench.disk, DISK_WRITE, 0, 1, EIO);
    failing = append(&bench, JOURNAL_REQUEST, 100, 1);
    pass(&bench, NS_PER_MS);
    text_clear(&text);
    stats = stats_of(&bench);
    journal_status(&stats, bench.now.unix_ns, &text);
    assert_non_null(strstr(text.at, "\"state\":\"failing\""));
    assert_non_null(strstr(text.at, "\"last_error\":\"write: Input/output error\"}"));
    record_free(failing);
    text_deinit(&text);
    metrics_deinit(&metrics);
    bench_deinit(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_head_and_body),
        cmocka_unit_test(test_large_record),
        cmocka_unit_test(test_group_commit),
        cmocka_unit_test(test_power_loss),
        cmocka_unit_test(test_each_byte_spoilt),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_recycled_bytes_never_pass),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_head_file),
        cmocka_unit_test(test_list_fails),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_failing_refuse),
        cmocka_unit_test(test_failing_memory),
        cmocka_unit_test(test_full_memory),
        cmocka_unit_test(test_no_space_on_disk),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_verdicts_outlive_data),
        cmocka_unit_test(test_verdicts_outlive_copies_of_copies),
        cmocka_unit_test(test_member_stays),
        cmocka_unit_test(test_files_are_used_again),
        cmocka_unit_test(test_a_bad_file_comes_last),
        cmocka_unit_test(test_outage),
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_read_cap_and_errors),
        cmocka_unit_test(test_close_fails_reads),
        cmocka_unit_test(test_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
