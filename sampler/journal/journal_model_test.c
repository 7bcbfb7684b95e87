/* Whatever is appended, let go, copied and cut short, on a disk that fails now and then: what was told to be written and not told to be
 * gone comes back after a crash, what was told to be gone does not, and what is nobody's leaves the disk. Against a model, seed by seed. */
#include "sampler/journal/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/num.h"
#include "sampler/journal/journal_recovery.h"
#include "tests/kit/memory_disk.h"
#include "tests/kit/splitmix.h"

#define SEEDS 240u
#define STEPS 600u
#define ITEMS_MAX 1000u
#define SEGMENT (64u * 1024)

enum item_state {
    ITEM_NONE,
    ITEM_NEW,       /* appended, not yet done */
    ITEM_HELD,      /* written: must come back */
    ITEM_MAYBE,     /* a write about it failed: both are right */
    ITEM_EXPORTING, /* its EXPORTED record is not yet done: both are right */
    ITEM_GONE,      /* its EXPORTED record is written: must not come back */
};

struct item {
    enum item_state state;
    struct journal_pos at;
    uint32_t hold_bytes;
    bool holding; /* we have not released its bytes */
    bool busy;    /* a copy is under way */
    bool on_disk;
    uint64_t since_ns; /* it is held, or gone */
    /* recovery */
    uint64_t found_sequence, exported_sequence;
    struct journal_pos found_at;
};

struct model {
    uint64_t seed, random;
    struct memory_disk *disk;
    struct journal *journal;
    struct journal_options options;
    struct journal_now now;
    uint64_t last_run_ns;
    struct journal_account account;
    struct item items[ITEMS_MAX];
    uint32_t item_count;
    uint64_t member_told, member_found, member_made;
    struct journal_clean clean;
    enum { PROMISE_ALL, PROMISE_SYNCED, PROMISE_NOTHING } promise; /* of this kind of sync, for the last crash */
    uint64_t promised_ns; /* with PROMISE_SYNCED: what is so old */
    bool shaken;          /* the disk failed since the last crash */
    size_t checked, back, full, failed, crashes;
};

struct note { /* one record under way */
    struct journal_write write;
    struct model *model;
    uint32_t item;
    uint64_t member;
    uint8_t bytes[];
};

static uint64_t next_random(struct model *model)
{
    return splitmix64(&model->random);
}

static uint64_t below(struct model *model, uint64_t end)
{
    return next_random(model) % end;
}

/* -- records: the item's number, then bytes that follow from it ------------------------------------------------------ */

static struct note *note_new(struct model *model, enum journal_kind kind, size_t len, uint32_t item)
{
    struct note *note = malloc(sizeof(*note) + len);

    assert_non_null(note);
    memset(note, 0, sizeof(*note));
    note->model = model;
    note->item = item;
    for (size_t i = 0; i < len; i++)
        note->bytes[i] = (uint8_t)(item * 31 + i);
    memcpy(note->bytes, &item, sizeof(item));
    note->write.kind = kind;
    note->write.body = slice_make(note->bytes, len);
    return note;
}

static uint32_t item_of(struct slice payload)
{
    uint32_t item;

    assert_true(payload.len >= sizeof(item));
    memcpy(&item, payload.at, sizeof(item));
    assert_true(item < ITEMS_MAX);
    for (size_t i = sizeof(item); i < payload.len; i++)
        assert_int_equal(payload.at[i], (uint8_t)(item * 31 + i));
    return item;
}

static void drop(struct model *model, struct item *item)
{
    if (item->holding)
        journal_release(&model->account, item->at.segment, item->hold_bytes);
    item->holding = false;
}

/* -- what is appended, and what becomes of it ---------------------------------------------------------------------------- */

static bool take(struct model *model, struct note *note, void (*done)(struct journal_write *))
{
    int r;

    note->write.done = done;
    r = journal_append(model->journal, &note->write);
    if (r == 0)
        return true;
    assert_true(r == JOURNAL_E_FULL || r == JOURNAL_E_FAILED);
    model->full += r == JOURNAL_E_FULL;
    model->failed += r == JOURNAL_E_FAILED;
    free(note);
    return false;
}

static void data_done(struct journal_write *write)
{
    struct note *note = container_of(write, struct note, write);
    struct item *item = &note->model->items[note->item];

    item->state = write->error ? ITEM_MAYBE : ITEM_HELD;
    item->since_ns = note->model->now.ns;
    item->on_disk = !write->error;
    if (write->error)
        drop(note->model, item); /* its client was told no */
    free(note);
}

static void append_data(struct model *model)
{
    uint32_t number = model->item_count;
    size_t len = 4 + below(model, below(model, 10) ? 1500 : 6000);
    struct note *note;

    if (number == ITEMS_MAX)
        return;
    note = note_new(model, JOURNAL_REQUEST, len, number);
    note->write.hold_bytes = (uint32_t)len;
    if (!take(model, note, data_done))
        return;
    model->item_count++;
    model->items[number] = (struct item){.state = ITEM_NEW, .at = note->write.at, .hold_bytes = (uint32_t)len, .holding = true};
}

/* A held item that nothing is under way for; NULL: a wrong guess. */
static struct item *some_held(struct model *model)
{
    struct item *item;

    if (model->item_count == 0)
        return NULL;
    item = &model->items[below(model, model->item_count)];
    return (item->state == ITEM_HELD || item->state == ITEM_MAYBE) && item->holding && !item->busy ? item : NULL;
}

static void exported_done(struct journal_write *write)
{
    struct note *note = container_of(write, struct note, write);
    struct item *item = &note->model->items[note->item];

    item->state = write->error ? ITEM_MAYBE : ITEM_GONE;
    item->since_ns = note->model->now.ns;
    if (!write->error)
        drop(note->model, item);
    free(note);
}

static void append_exported(struct model *model, struct item *item)
{
    uint32_t segment = item->at.segment;
    struct note *note = note_new(model, JOURNAL_EXPORTED, 4 + below(model, 6000), (uint32_t)(item - model->items));

    note->write.refers = &segment;
    note->write.refer_count = 1;
    if (take(model, note, exported_done))
        item->state = ITEM_EXPORTING;
}

static void copy_done(struct journal_write *write)
{
    struct note *note = container_of(write, struct note, write);
    struct model *model = note->model;
    struct item *item = &model->items[note->item];

    item->busy = false;
    if (write->error) {
        journal_release(&model->account, write->at.segment, write->hold_bytes);
    } else {
        journal_release(&model->account, item->at.segment, item->hold_bytes);
        item->at = write->at;
        item->hold_bytes = write->hold_bytes;
        item->on_disk = true;
    }
    free(note);
}

static void append_copy(struct model *model, struct item *item)
{
    struct note *note = note_new(model, JOURNAL_TRACES, item->hold_bytes, (uint32_t)(item - model->items));

    note->write.refers = &item->at.segment;
    note->write.refer_count = 1;
    note->write.copy = true;
    note->write.hold_bytes = item->hold_bytes;
    if (take(model, note, copy_done))
        item->busy = true;
}

static void resend_done(struct journal_write *write)
{
    free(container_of(write, struct note, write));
}

/* The same once more, of which its holder never knows where it lies. */
static void append_resend(struct model *model, const struct item *item)
{
    struct note *note = note_new(model, JOURNAL_REQUEST, item->hold_bytes, (uint32_t)(item - model->items));

    (void)take(model, note, resend_done);
}

static void member_done(struct journal_write *write)
{
    struct note *note = container_of(write, struct note, write);

    if (!write->error)
        note->model->member_told = u64_max(note->model->member_told, note->member);
    free(note);
}

static void append_member(struct model *model)
{
    struct note *note = note_new(model, JOURNAL_MEMBER, 8, 0);

    note->member = ++model->member_made;
    memcpy(note->bytes, &note->member, sizeof(note->member));
    (void)take(model, note, member_done);
}

static void spoil_disk(struct model *model)
{
    static const enum memory_operation which[] = {DISK_CREATE, DISK_WRITE, DISK_WRITE, DISK_SYNC, DISK_REMOVE, DISK_OPEN};

    model->shaken = true;
    memory_disk_fail(model->disk, which[below(model, 6)], below(model, 8), 1 + below(model, 3), below(model, 2) ? EIO : ENOSPC);
}

static void disk_is_well(struct model *model)
{
    for (int which = 0; which < DISK_OPERATIONS; which++)
        memory_disk_fail(model->disk, (enum memory_operation)which, 0, 0, 0);
}

static void ignored(struct journal_read *read)
{
    (void)read;
}

/* Its bytes are where its position says. */
static void read_back(struct model *model, const struct item *item)
{
    uint8_t bytes[8000];
    struct journal_read_item wanted = {.at = item->at, .len = item->hold_bytes, .to = bytes};
    struct journal_read read = {.done = ignored, .items = &wanted, .count = 1};

    if (!item->on_disk)
        return;
    wanted.failed = true;
    for (unsigned attempt = 0; wanted.failed; attempt++, disk_is_well(model)) {
        size_t reads = memory_disk_count(model->disk, DISK_READ);

        journal_read(model->journal, &read);
        assert_true(journal_run_reads(model->journal, model->now) == UINT64_MAX);
        if (wanted.failed && (attempt > 0 || memory_disk_count(model->disk, DISK_READ) > reads))
            fail_msg("seed %llu: read, but not what was written", (unsigned long long)model->seed);
    }
    assert_int_equal(item_of(slice_make(bytes, item->hold_bytes)), item - model->items);
}

static void clean(struct model *model)
{
    if (!journal_clean_wanted(model->journal, &model->clean))
        return;
    for (uint32_t i = 0; i < model->item_count; i++) {
        struct item *item = &model->items[i];

        if (!item->holding || item->busy || (item->state != ITEM_HELD && item->state != ITEM_MAYBE))
            continue;
        for (uint32_t j = 0; j < model->clean.count; j++)
            if (item->at.segment == model->clean.segments[j]) {
                append_copy(model, item);
                break;
            }
    }
}

static void run(struct model *model, uint64_t ns)
{
    model->now.ns += ns;
    model->now.unix_ns += ns;
    model->last_run_ns = model->now.ns;
    (void)journal_run(model->journal, model->now);
    journal_account_flush(&model->account);
}

/* -- crashes ------------------------------------------------------------------------------------------------------------------ */

static void on_record(void *context, const struct journal_record *record)
{
    struct model *model = context;
    struct item *item;

    if (record->kind == JOURNAL_MEMBER) {
        uint64_t member;

        memcpy(&member, record->payload.at, sizeof(member));
        model->member_found = u64_max(model->member_found, member);
        return;
    }
    item = &model->items[item_of(record->payload)];
    if (record->kind == JOURNAL_EXPORTED) {
        item->exported_sequence = u64_max(item->exported_sequence, record->sequence);
    } else if (record->sequence > item->found_sequence) {
        item->found_sequence = record->sequence;
        item->found_at = record->at;
        item->hold_bytes = (uint32_t)record->payload.len;
    }
}

static void check_item(struct model *model, uint32_t number)
{
    struct item *item = &model->items[number];
    bool is_back = item->found_sequence > item->exported_sequence;
    bool promised = model->promise == PROMISE_ALL || (model->promise == PROMISE_SYNCED && item->since_ns <= model->promised_ns);

    if (promised && item->state == ITEM_HELD && !is_back)
        fail_msg("seed %llu: item %u was written and is lost", (unsigned long long)model->seed, number);
    if (promised && item->state == ITEM_GONE && is_back)
        fail_msg("seed %llu: item %u was gone and is back", (unsigned long long)model->seed, number);
    model->checked++;
    model->back += is_back;
    item->state = is_back ? ITEM_HELD : item->exported_sequence ? ITEM_GONE : ITEM_NONE;
    item->at = item->found_at;
    item->holding = item->on_disk = is_back;
    item->busy = false;
    item->since_ns = model->now.ns;
    if (is_back)
        journal_hold(&model->account, item->at.segment, item->hold_bytes);
}

static void recover(struct model *model)
{
    struct journal_recovery *recovery = NULL;

    for (uint32_t i = 0; i < model->item_count; i++)
        model->items[i].found_sequence = model->items[i].exported_sequence = 0;
    model->member_found = 0;
    assert_int_equal(journal_recovery_begin(model->journal, &recovery), 0);
    while (journal_recovery_step(recovery, 1 + below(model, 200000), on_record, model))
        if (below(model, 4) == 0)
            run(model, below(model, NS_PER_S));
    for (uint32_t i = 0; i < model->item_count; i++)
        check_item(model, i);
    journal_account_flush(&model->account);
    journal_recovery_end(recovery);
    if (model->promise == PROMISE_ALL && model->member_found < model->member_told)
        fail_msg("seed %llu: the member record is lost", (unsigned long long)model->seed);
    model->member_told = model->member_found;
}

static void open_journal(struct model *model)
{
    char error[256] = "";

    if (journal_open(&model->options, model->now, &model->journal, error, sizeof(error)))
        fail_msg("seed %llu: %s", (unsigned long long)model->seed, error);
    journal_account_init(&model->account, model->journal);
    model->clean = (struct journal_clean){0};
}

static void close_journal(struct model *model)
{
    journal_account_deinit(&model->account);
    journal_close(model->journal);
    /* Releases by what was done just now: the journal they are for is gone. */
    free(model->account.deltas);
    model->account = (struct journal_account){0};
}

static void crash(struct model *model, bool power)
{
    memory_disk_freeze(model->disk, true);
    close_journal(model);
    memory_disk_freeze(model->disk, false);
    disk_is_well(model);
    if (power)
        memory_disk_lose(model->disk, next_random(model));
    model->promise = PROMISE_ALL;
    if (power && model->options.sync != JOURNAL_SYNC_ALWAYS)
        model->promise = model->options.sync == JOURNAL_SYNC_NONE || model->shaken ? PROMISE_NOTHING : PROMISE_SYNCED;
    model->promised_ns = u64_sub_floor(model->last_run_ns, model->options.sync_interval_ns);
    model->shaken = false;
    model->crashes++;
    open_journal(model);
    recover(model);
}

/* -- a life -------------------------------------------------------------------------------------------------------------------- */

static void step(struct model *model)
{
    struct item *item;

    uint64_t chance = below(model, 20);

    switch (chance < 7 ? 0 : chance < 12 ? 1 : chance) {
    case 0:
        append_data(model);
        break;
    case 1:
        item = some_held(model);
        if (item)
            append_exported(model, item);
        break;
    case 12:
        item = some_held(model);
        if (item)
            append_copy(model, item);
        break;
    case 13:
        if (below(model, 10) == 0)
            append_member(model);
        break;
    case 14:
        item = some_held(model);
        if (item)
            read_back(model, item);
        if (item && below(model, 2))
            append_resend(model, item);
        break;
    case 15:
        clean(model);
        break;
    case 16:
        if (below(model, 8) == 0)
            spoil_disk(model);
        break;
    default:
        run(model, below(model, 3) ? below(model, NS_PER_S) : 3 * NS_PER_S);
        break;
    }
    if (below(model, 100) == 0)
        crash(model, below(model, 3) == 0);
}

/* Nothing is held any more: minutes later little is left on the disk. */
static void wind_down(struct model *model)
{
    struct journal_stats stats;

    disk_is_well(model);
    run(model, 2 * NS_PER_S);
    run(model, 2 * NS_PER_S);
    for (uint32_t i = 0; i < model->item_count; i++)
        drop(model, &model->items[i]);
    journal_account_flush(&model->account);
    for (unsigned i = 0; i < 3 * 60; i++)
        run(model, NS_PER_S);
    journal_stats(model->journal, &stats);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.queued_bytes, 0);
    if (stats.data_segments > 1 || stats.copy_segments > 1 || stats.verdict_segments > 2 || memory_disk_files(model->disk) > 8)
        fail_msg("seed %llu: %llu data, %llu copies, %llu verdicts in %zu files are left", (unsigned long long)model->seed,
            (unsigned long long)stats.data_segments, (unsigned long long)stats.copy_segments, (unsigned long long)stats.verdict_segments,
            memory_disk_files(model->disk));
}

static void live(uint64_t seed, struct model *model)
{
    *model = (struct model){.seed = seed,
        .random = seed * 77,
        .disk = memory_disk_new("model"),
        .now = {NS_PER_S, 1700000000 * NS_PER_S},
        .options = {.directory = "model",
            .sync = (enum journal_sync)(seed % 3),
            .sync_interval_ns = (1 + seed % 5) * NS_PER_S,
            .segment_bytes = SEGMENT,
            .max_bytes = (6 + seed % 7) * SEGMENT,
            .verdict_keep_ns = (1 + seed % 20) * NS_PER_S,
            .clean_age_ns = (1 + seed % 5) * NS_PER_S,
            .new_id = seed + 1}};
    open_journal(model);
    recover(model);
    for (unsigned i = 0; i < STEPS; i++) {
        step(model);
        if (memory_disk_bytes(model->disk) > 2 * model->options.max_bytes)
            fail_msg("seed %llu: the disk is too full", (unsigned long long)seed);
    }
    wind_down(model);
    close_journal(model);
    memory_disk_free(model->disk);
}

static void test_against_model(void **state)
{
    struct model *model = malloc(sizeof(*model));
    size_t checked = 0, back = 0, full = 0, failed = 0, crashes = 0;

    (void)state;
    assert_non_null(model);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        live(seed, model);
        checked += model->checked;
        back += model->back;
        full += model->full;
        failed += model->failed;
        crashes += model->crashes;
    }
    /* It went through all that it is about. */
    assert_true(crashes > SEEDS && checked > 10000 && back > 1000 && full > 10 && failed > 100);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
