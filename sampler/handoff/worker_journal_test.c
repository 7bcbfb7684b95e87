/* One worker with a journal in a directory, turned by hand: nobody is answered before the record is written, nothing leaves before
 * its verdict is, and after a crash at any such moment what is held again is what was acknowledged less what was dropped or
 * exported, with the same deadlines; also after its segments were emptied by copying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/handoff/handoff_test_kit.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/run/clock.h"
#include "sampler/handoff/gate.h"
#include "sampler/handoff/recovery.h"
#include "sampler/handoff/takeover.h"
#include "sampler/journal/journal.h"
#include "sampler/journal/journal_record.h"

static struct node *node;
static char directory[64];
static uint64_t unix_ns;
static uint64_t disk_bytes; /* the journal may have */

/* -- time: the journal's records say when they were written; tests move both clocks as one -------------------------------- */

uint64_t clock_now_ns(void)
{
    return now_ns;
}

uint64_t clock_now_unix_ns(void)
{
    return unix_ns;
}

static void pass(uint64_t time_ns)
{
    now_ns += time_ns;
    unix_ns += time_ns;
}

/* -- clients ----------------------------------------------------------------------------------------------------------------- */

static unsigned settled, refused;

static void on_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer)
{
    (void)rejected;
    (void)message;
    (void)send_trailer;
    assert_int_equal(rejected_count, 0);
    settled++;
    free(request);
}

static void on_refuse(struct request *request, struct answer_status status)
{
    assert_true(status.retry_ns > 0);
    refused++;
    free(request);
}

static const struct transport transport = {on_settle, on_refuse, METRIC_ACCEPTED_SPANS, METRIC_REFUSED_SPANS};

static void request_arrives(uint64_t trace, uint64_t first_span, unsigned count, bool error)
{
    struct request *request = calloc(1, sizeof(*request));
    struct otlp_build build = {0};

    otlp_spans(&build, trace, first_span, count, error);
    *request = (struct request){.transport = &transport, .worker = &node->home.worker, .bytes = otlp_slice(&build), .received_ns = now_ns, .deadline_ns = UINT64_MAX};
    node->home.worker.now_ns = now_ns;
    sampler_on_request(&node->sampler, request);
    otlp_build_deinit(&build);
}

/* -- a disk that takes nothing: writes end with EFBIG, as they would with ENOSPC -------------------------------------------- */

static void disk_fails(bool fails)
{
    struct rlimit limit;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = fails ? 0 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* -- the node's life ------------------------------------------------------------------------------------------------------------ */

static struct mail replayed_mail;
static bool replayed;

static void on_replayed(struct mail *mail, void *receiver)
{
    (void)mail;
    (void)receiver;
    replayed = true;
}

static void on_stop(void *tier, unsigned count)
{
    (void)tier;
    (void)count;
}

static void journal_writes(void)
{
    (void)journal_run(node->sampler.journal, (struct journal_now){now_ns, unix_ns});
    (void)journal_run_reads(node->sampler.journal, (struct journal_now){now_ns, unix_ns});
}

static void turn(bool exports)
{
    struct sampler_worker *home = &node->home;

    home->worker.now_ns = now_ns;
    (void)mailbox_deliver(&home->worker.mailbox, &home->worker);
    (void)decide_due(home, now_ns);
    decision_cache_tend(home->cache, trace_table_count(home->traces), now_ns);
    if (exports)
        (void)worker_backends_run(home->backends, now_ns);
    (void)worker_handoff_run(home->handoff, now_ns);
    (void)worker_journal_run(home->journal, now_ns);
    LIST_FOR_EACH_SAFE (hook, following, &home->worker.hooks) /* recovery's */
        (void)container_of(hook, struct turn_hook, node)->run(container_of(hook, struct turn_hook, node), now_ns);
    (void)mailbox_deliver(&node->sampler.control.mailbox, &node->sampler.control);
    node_balances(node);
}

static void turns(unsigned count, bool exports)
{
    for (unsigned i = 0; i < count; i++) {
        pass(NS_PER_MS);
        turn(exports);
        journal_writes();
    }
}

static void start(void)
{
    const struct journal_options options = {.directory = directory,
        .segment_bytes = JOURNAL_SEGMENT_MIN,
        .max_bytes = disk_bytes,
        .verdict_keep_ns = VERDICT_KEEP_NS,
        .clean_age_ns = WAIT_NS + NS_PER_S,
        .new_id = 1};
    char error[256];

    node = calloc(1, sizeof(*node));
    assert_non_null(node);
    assert_int_equal(control_init(&node->sampler.control, on_stop, NULL, node), 0);
    assert_int_equal(journal_open(&options, (struct journal_now){now_ns, unix_ns}, &node->sampler.journal, error, sizeof(error)), 0);
    node_open(node, "a", (struct handoff_options){.journal = true});
    replayed = false;
    replayed_mail.deliver = on_replayed;
    recovery_start(&node->sampler, &replayed_mail);
}

static void recover(void)
{
    for (unsigned i = 0; i < 2000 && !replayed; i++)
        turns(1, false);
    assert_true(replayed);
}

/* The process dies: what is queued and not written is gone, and so is all memory. */
static void stop(bool written)
{
    struct journal *journal = node->sampler.journal;

    if (written)
        journal_writes();
    gate_close(node->home.handoff);
    if (!written) { /* the last records are lost: as the writer left the files, so they are found */
        char command[200];

        (void)snprintf(command, sizeof(command), "cp -a %s %s.crashed", directory, directory);
        assert_int_equal(system(command), 0);
    }
    (void)mailbox_deliver(&node->home.worker.mailbox, &node->home.worker);
    journal_writes();
    (void)mailbox_deliver(&node->home.worker.mailbox, &node->home.worker);
    node_close(node);
    journal_close(journal);
    control_deinit(&node->sampler.control);
    free(node);
    node = NULL;
    if (!written) {
        char command[256];

        (void)snprintf(command, sizeof(command), "rm -rf %s && mv %s.crashed %s", directory, directory, directory);
        assert_int_equal(system(command), 0);
    }
}

static void restart(bool written)
{
    stop(written);
    start();
    recover();
}

static int setup(void **state)
{
    (void)state;
    now_ns = START_NS;
    unix_ns = 1700000000 * NS_PER_S;
    settled = refused = 0;
    disk_bytes = 64 * MIB;
    (void)snprintf(directory, sizeof(directory), "%s", "/tmp/tailrace-journal-XXXXXX");
    assert_non_null(mkdtemp(directory));
    start();
    recover();
    return 0;
}

/* What the journal still holds for somebody. */
static uint64_t live_bytes(void)
{
    struct journal_stats stats;

    journal_stats(node->sampler.journal, &stats);
    return stats.live_bytes;
}

/* Whatever a test did: where no span is held, nothing of the journal is. */
static int teardown(void **state)
{
    char command[128];

    (void)state;
    disk_fails(false);
    pool_bytes = 256 * MIB;
    turns(2, false);
    if (held(node) == 0)
        assert_int_equal(live_bytes(), 0);
    stop(true);
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

/* -- the way in ------------------------------------------------------------------------------------------------------------------ */

static void the_answer_waits_for_the_record(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, false);
    turn(true);
    assert_int_equal(settled, 0);
    journal_writes();
    turn(true);
    assert_int_equal(settled, 1);
    restart(true);
    assert_int_equal(held(node), 3);
    assert_int_equal(node->home.books[BOOK_RECOVERED], 3);
}

static void what_was_not_written_was_not_answered(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, false);
    turn(true);
    assert_int_equal(settled, 0);
    stop(false);
    settled = 0;
    start();
    recover();
    assert_int_equal(held(node), 0);
}

static void deadlines_go_on(void **state)
{
    const struct trace_id id = otlp_trace_id(1);
    struct trace *trace;

    (void)state;
    request_arrives(1, 1, 3, true);
    turns(2, true);
    stop(true);
    pass(4 * NS_PER_S);
    start();
    recover();
    trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    assert_non_null(trace);
    assert_in_range(now_ns - trace_info(trace).first_ns, 4 * NS_PER_S, 5 * NS_PER_S);
    assert_in_range(trace_info(trace).deadline_ns - now_ns, 5 * NS_PER_S, 6 * NS_PER_S);
    pass(7 * NS_PER_S);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
}

static void the_wait_after_the_root_goes_on(void **state)
{
    const struct trace_id id = otlp_trace_id(1);
    struct trace *trace;

    (void)state;
    node->home.settings->config.tail_sampling.decision_wait_after_root_received_ns = (int64_t)(3 * NS_PER_S);
    request_arrives(1, 1, 3, true);
    turns(2, true);
    stop(true);
    pass(2 * NS_PER_S);
    start();
    node->home.settings->config.tail_sampling.decision_wait_after_root_received_ns = (int64_t)(3 * NS_PER_S);
    recover();
    trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    assert_non_null(trace);
    assert_in_range(trace_info(trace).deadline_ns, now_ns, now_ns + NS_PER_S);
}

/* A clock that was set back makes nothing older or younger than new. */
static void a_clock_set_back_does_no_harm(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, true);
    turns(2, true);
    stop(true);
    unix_ns -= 3600 * NS_PER_S;
    start();
    recover();
    assert_int_equal(held(node), 3);
    pass(WAIT_NS + NS_PER_S);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
}

/* -- verdicts ---------------------------------------------------------------------------------------------------------------------- */

static void nothing_leaves_before_its_verdict_is_written(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, true);
    turns(2, true);
    pass(WAIT_NS + NS_PER_S);
    turn(true);
    turn(true);
    turn(true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 0);
    assert_int_equal(worker_journal_spans(node->home.journal), 3);
    journal_writes();
    turn(true);
    turn(true);
    turn(true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
    /* Exported: written down by then; after a restart it is a repeat. */
    restart(true);
    assert_int_equal(held(node), 0);
    request_arrives(1, 1, 4, true);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_DUPLICATE], 3);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 1);
}

static void verdicts_come_back_and_are_followed(void **state)
{
    struct decision_record record;
    const struct trace_id kept = otlp_trace_id(1), dropped = otlp_trace_id(2);

    (void)state;
    request_arrives(1, 1, 3, true);
    request_arrives(2, 1, 3, false);
    turns(2, true);
    pass(WAIT_NS + NS_PER_S);
    turns(3, false); /* decided and written, not exported */
    restart(true);
    assert_int_equal(held(node), 3);
    assert_true(decision_cache_find(node->home.cache, &kept, hash_trace(&kept), false, now_ns, &record));
    assert_int_equal(record.decision, DECISION_SAMPLED);
    assert_string_equal(record_policy_name(&node->home, &record), "errors");
    assert_true(decision_cache_find(node->home.cache, &dropped, hash_trace(&dropped), false, now_ns, &record));
    assert_int_equal(record.decision, DECISION_NOT_SAMPLED);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
    request_arrives(2, 4, 2, false);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_DROPPED_LATE], 2);
}

/* A verdict that came with a Give stays known when the segment with the Give is used again, and so does what was exported elsewhere;
 * what was here of its trace does not come back. */
static void a_verdict_that_was_taken_over_comes_back(void **state)
{
    const struct trace_id kept = otlp_trace_id(1), dropped = otlp_trace_id(2);
    struct otlp_build build = {0};
    struct join_verdict verdict = {.decision = DECISION_SAMPLED, .policy = slice_text("errors"), .span_count = 1};
    struct decision_record record;
    struct intake_span span;

    (void)state;
    request_arrives(2, 1, 3, true);
    turns(2, true);
    otlp_spans(&build, 1, 1, 1, true);
    assert_true(intake_read(&node->home.intake, otlp_slice(&build), NULL, set, node->home.scratch, node->home.headers));
    span = node->home.intake.spans[0];
    intake_release(&node->home.intake, node->home.headers);
    otlp_build_deinit(&build);
    verdict.id = kept;
    verdict.decided_ns = now_ns - 5 * NS_PER_S;
    verdict.hashes = &span.span_hash;
    verdict.hash_count = 1;
    verdict_share_out(&node->home, VERDICT_IS, &verdict);
    verdict = (struct join_verdict){.id = dropped, .decision = DECISION_NOT_SAMPLED, .decided_ns = now_ns - 5 * NS_PER_S};
    verdict_share_out(&node->home, VERDICT_IS, &verdict);
    assert_int_equal(held(node), 0);
    turns(3, true);
    restart(true);
    assert_int_equal(held(node), 0);
    assert_true(decision_cache_find(node->home.cache, &kept, hash_trace(&kept), false, now_ns, &record));
    assert_int_equal(record.decision, DECISION_SAMPLED);
    assert_string_equal(record_policy_name(&node->home, &record), "errors");
    assert_in_range(now_ns - record.decided_ns, 5 * NS_PER_S, 7 * NS_PER_S);
    assert_true(decision_cache_find(node->home.cache, &dropped, hash_trace(&dropped), false, now_ns, &record));
    assert_int_equal(record.decision, DECISION_NOT_SAMPLED);
    request_arrives(1, 1, 2, true); /* the first of them is out already */
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_DUPLICATE], 1);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 1);
}

static void nobody_waits(struct journal_write *write)
{
    (void)write;
}

/* Another said how old its trace was: whatever it said, time goes on from there. */
static void a_trace_of_any_age_is_due_after_a_restart(void **state)
{
    const struct trace_id id = otlp_trace_id(1);
    struct otlp_build build = {0};
    struct transfer_part part;
    struct transfer_trace given = {.id = id, .parts = &part, .part_count = 1, .age_ms = UINT64_MAX, .remaining_ms = INT64_MIN};
    struct journal_write write = {.done = nobody_waits, .kind = JOURNAL_TRACES, .head = journal_traces_head(unix_ns)};
    uint8_t bytes[1024];
    struct trace *trace;

    (void)state;
    otlp_spans(&build, 1, 1, 3, true);
    part = (struct transfer_part){.spans = otlp_slice(&build)};
    given.verdict.evidence_bit = UINT16_MAX;
    assert_in_range(transfer_trace_size(&given), 1, sizeof(bytes));
    write.body = slice_make(bytes, (size_t)(transfer_trace_write(&given, bytes) - bytes));
    assert_int_equal(journal_append(node->sampler.journal, &write), 0);
    journal_writes();
    otlp_build_deinit(&build);
    pass(NS_PER_S);
    restart(true);
    trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    assert_non_null(trace);
    assert_in_range(trace_info(trace).first_ns, 0, now_ns - NS_PER_S);
    assert_in_range(trace_info(trace).deadline_ns, 0, now_ns);
    pass(NS_PER_S);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
}

/* -- what was given away --------------------------------------------------------------------------------------------------------- */

struct hashes {
    uint64_t at[16];
    size_t count;
};

static void place_hash(void *into, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct hashes *hashes = into;

    (void)len;
    (void)at;
    assert_true(hashes->count < 16);
    hashes->at[hashes->count++] = span_hash;
}

/* T3, for all that is held of a trace. */
static void trace_is_given(uint64_t number)
{
    const struct trace_id id = otlp_trace_id(number);
    struct trace *trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    struct hashes hashes = {.count = 0};

    assert_non_null(trace);
    trace_places(trace, place_hash, &hashes);
    worker_journal_given(node->home.journal, &id, trace, hashes.at, hashes.count, false);
    assert_int_equal(trace_remove_spans(node->home.traces, trace, hashes.at, hashes.count), hashes.count);
    node->home.books[BOOK_HANDED_OVER] += hashes.count;
    trace_free(node->home.traces, trace);
}

static void what_was_given_does_not_come_back(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, true);
    turns(2, true);
    trace_is_given(1);
    turns(2, true);
    restart(true);
    assert_int_equal(held(node), 0);
}

/* The GIVEN is written behind the request that brought the spans once more, as it is after a time in which it could not be written. */
static void what_came_back_before_its_giving_was_written_is_held(void **state)
{
    (void)state;
    request_arrives(1, 1, 3, true);
    request_arrives(2, 1, 2, true);
    turns(2, true);
    trace_is_given(1);
    trace_is_given(2);
    request_arrives(1, 1, 3, true);
    turns(2, true);
    restart(true);
    assert_int_equal(held(node), 3);
    assert_int_equal(node->home.books[BOOK_RECOVERED], 3);
}

static void a_verdict_that_came_back_before_its_giving_was_written_stays(void **state)
{
    const struct trace_id again = otlp_trace_id(1), gone = otlp_trace_id(2);
    struct join_verdict verdict = {.decision = DECISION_NOT_SAMPLED, .decided_ns = now_ns};
    struct decision_record record;

    (void)state;
    request_arrives(1, 1, 3, false);
    request_arrives(2, 1, 3, false);
    turns(2, true);
    pass(WAIT_NS + NS_PER_S);
    turns(3, true);
    for (int i = 0; i < 2; i++) {
        const struct trace_id *id = i == 0 ? &again : &gone;

        worker_journal_given(node->home.journal, id, NULL, NULL, 0, true);
        (void)decision_cache_remove(node->home.cache, id, hash_trace(id));
    }
    verdict.id = again;
    verdict_share_out(&node->home, VERDICT_IS, &verdict);
    turns(2, true);
    restart(true);
    assert_true(decision_cache_find(node->home.cache, &again, hash_trace(&again), false, now_ns, &record));
    assert_int_equal(record.decision, DECISION_NOT_SAMPLED);
    assert_false(decision_cache_find(node->home.cache, &gone, hash_trace(&gone), false, now_ns, &record));
}

/* More survivors than the cache has room for verdicts, at the end of a long outage: none is decided anew. */
static void survivors_keep_their_verdicts_without_room_for_them(void **state)
{
    enum { TRACES = 1500 };

    (void)state;
    for (unsigned i = 0; i < TRACES; i++) {
        request_arrives(1 + i, 1, 1, true);
        if (i % 50 == 49)
            turns(1, false);
    }
    pass(WAIT_NS + NS_PER_S);
    turns(40, false);
    assert_int_equal(held(node), TRACES);
    stop(true);
    pass(2 * VERDICT_KEEP_NS);
    start();
    recover();
    assert_int_equal(held(node), TRACES);
    assert_true(decision_cache_stats(node->home.cache).records < TRACES);
    turns(200, true);
    assert_int_equal(metrics_sum(&node->metrics, METRIC_DECIDED_SAMPLED), 0);
    assert_int_equal(node->home.books[BOOK_EXPORTED], TRACES);
}

/* -- segments ------------------------------------------------------------------------------------------------------------------------ */

static uint64_t segments(void)
{
    struct journal_stats stats;

    journal_stats(node->sampler.journal, &stats);
    return stats.data_segments;
}

/* 600 traces of which every 30th is kept, while no backend takes anything; and the disk nothing when all is decided. */
static unsigned outage_with(bool disk_too)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < 600; i++) {
        bool error = i % 30 == 0;

        kept += error;
        request_arrives(1000 + i, 1, 20, error);
        if (i % 20 == 19)
            turns(1, false);
    }
    pass(WAIT_NS + NS_PER_S);
    turns(1, false); /* decided, and the segments to be emptied are known */
    disk_fails(disk_too);
    turns(19, false);
    return kept;
}

static unsigned outage(void)
{
    return outage_with(false);
}

static void an_outage_costs_little_more_than_survivors(void **state)
{
    uint64_t before;
    unsigned kept;

    (void)state;
    kept = outage();
    assert_int_equal(held(node), kept * 20);
    before = segments();
    assert_true(before >= 8);
    for (unsigned i = 0; i < 40; i++) {
        pass(NS_PER_S);
        turns(2, false);
    }
    assert_true(segments() * 3 < before);
    assert_int_equal(held(node), kept * 20);
    restart(true); /* from the copies */
    assert_int_equal(held(node), kept * 20);
    turns(20, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], kept * 20);
    assert_int_equal(held(node), 0);
    restart(true); /* what was exported from copies does not come back */
    assert_int_equal(held(node), 0);
}

static void segments_are_free_when_all_has_gone(void **state)
{
    (void)state;
    (void)outage();
    turns(50, true);
    assert_int_equal(held(node), 0);
    pass(VERDICT_KEEP_NS);
    turns(5, true);
    assert_true(segments() <= 2);
}

/* The last of the space is what copies need to make some: they are no larger than that. A trace that is larger than a copy moves in
 * several. */
static void a_full_journal_is_emptied_step_by_step(void **state)
{
    unsigned kept = 0, spans;

    (void)state;
    for (spans = 20; spans <= 400; spans += 380) {
        stop(true);
        pass(2 * VERDICT_KEEP_NS);
        disk_bytes = 8 * JOURNAL_SEGMENT_MIN;
        start();
        recover();
        refused = settled = 0;
        for (unsigned i = 0; refused == 0; i++) {
            request_arrives(1000 * spans + i, 1, spans, i % 5 < 2);
            turns(2, false);
            kept += refused == 0 && i % 5 < 2 ? spans : 0;
        }
        pass(WAIT_NS + NS_PER_S);
        turns(4, false);
        assert_int_equal(held(node), kept);
        for (unsigned i = 0; i < 20; i++) {
            pass(NS_PER_S);
            turns(4, false);
        }
        refused = settled = 0;
        request_arrives(spans, 1, 20, false);
        turns(3, false);
        assert_int_equal(settled, 1);
        assert_int_equal(refused, 0);
        restart(true); /* from the copies */
        assert_int_equal(held(node), kept + 20);
        pass(WAIT_NS + NS_PER_S);
        turns(50, true);
        assert_int_equal(held(node), 0);
        assert_int_equal(node->home.books[BOOK_EXPORTED], kept);
        kept = 0;
    }
}

/* -- spill ---------------------------------------------------------------------------------------------------------------------------- */

static void spill_all(void)
{
    struct trace *trace;

    while ((trace = trace_table_spillable(node->home.traces)))
        assert_true(trace_spill(node->home.traces, trace));
}

static void spilled_traces_are_decided_and_leave_whole(void **state)
{
    const struct trace_id id = otlp_trace_id(7);

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        request_arrives(i, 1, 5, i % 4 == 3);
    turns(2, true);
    spill_all();
    assert_int_equal(trace_table_spilled_count(node->home.traces), 200);
    request_arrives(7, 4, 3, true); /* two it has, one it has not */
    turns(2, true);
    assert_int_equal(node->home.books[BOOK_DUPLICATE], 2);
    assert_int_equal(trace_info(trace_table_find(node->home.traces, &id, hash_trace(&id))).span_count, 6);
    pass(WAIT_NS + NS_PER_S);
    turns(10, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 51);
    assert_int_equal(node->home.books[BOOK_DROPPED_NOT_SAMPLED], 150);
    assert_int_equal(held(node), 0);
    assert_int_equal(trace_table_spilled_count(node->home.traces), 0);
    restart(true);
    assert_int_equal(held(node), 0);
}

/* However long some wait to be read, those behind us cost nothing. */
static void who_waits_to_be_read_is_a_bounded_list(void **state)
{
    struct spill *spill = &node->home.handoff->spill;
    const struct travel_entry entry = {.id = otlp_trace_id(1)};
    const struct trace_id id = otlp_trace_id(1);
    struct trace *trace;

    (void)state;
    request_arrives(1, 1, 3, false);
    turns(2, false);
    trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    for (unsigned i = 0; i < 10000; i++) {
        spill_read_for(node->home.handoff, trace, &entry);
        spill->next += i >= 40; /* as if one was read: 40 wait all the time */
    }
    assert_int_equal(spill->count - spill->next, 40);
    assert_in_range(spill->capacity, 40, 128);
    turns(2, false);
    assert_int_equal(spill->next, spill->count);
}

static void what_the_journal_lost_is_counted(void **state)
{
    char command[200];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        request_arrives(i, 1, 5, true);
    turns(2, true);
    spill_all();
    (void)snprintf(command, sizeof(command), "for f in %s/*; do truncate -s 4096 $f; done", directory);
    assert_int_equal(system(command), 0);
    pass(WAIT_NS + NS_PER_S);
    turns(10, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED] + node->home.books[BOOK_DROPPED_EXPORT], 20);
    assert_int_equal(held(node), 0);
}

/* -- a disk in trouble ------------------------------------------------------------------------------------------------------------------ */

/* The spans of a refused request stay. When their sender repeats it, what is acknowledged then is on disk until it is exported, however far
 * their trace has come meanwhile. */
static void refused_by_the_disk(void)
{
    disk_fails(true);
    request_arrives(1, 1, 3, true);
    turns(3, false);
    assert_int_equal(refused, 1);
    assert_int_equal(settled, 0);
}

static void disk_recovers(void)
{
    disk_fails(false);
    pass(2 * NS_PER_S); /* until it is tried again */
    turns(2, false);
    assert_false(journal_failing(node->sampler.journal));
}

static void sent_again(void)
{
    request_arrives(1, 1, 3, true);
    turns(3, false);
    assert_int_equal(settled, 1);
    assert_int_equal(node->home.books[BOOK_DUPLICATE], 3);
}

/* While no backend takes it, what nobody holds goes from the disk; then the process dies. */
static void is_safe_until_exported(void)
{
    for (unsigned i = 0; i < 4; i++) {
        pass(VERDICT_KEEP_NS);
        turns(3, false);
    }
    assert_int_equal(node->home.books[BOOK_EXPORTED], 0);
    restart(true);
    assert_int_equal(held(node), 3);
    pass(WAIT_NS + NS_PER_S);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
    assert_int_equal(held(node), 0);
}

static void a_repeat_of_what_could_not_be_written_is_written(void **state)
{
    (void)state;
    refused_by_the_disk();
    disk_recovers();
    sent_again();
    is_safe_until_exported();
}

static void a_repeat_of_a_sampled_trace_that_waits_for_its_backend_is_written(void **state)
{
    (void)state;
    refused_by_the_disk();
    disk_recovers();
    pass(WAIT_NS + NS_PER_S);
    turns(4, false);
    assert_int_equal(worker_backends_spans(node->home.backends), 3);
    sent_again();
    is_safe_until_exported();
}

static void a_repeat_of_a_sampled_trace_that_waits_for_its_verdict_is_written(void **state)
{
    (void)state;
    refused_by_the_disk();
    pass(WAIT_NS + NS_PER_S);
    turn(false);
    turn(false);
    disk_fails(false);
    while (journal_failing(node->sampler.journal)) {
        pass(100 * NS_PER_MS);
        journal_writes();
    }
    assert_int_equal(worker_journal_spans(node->home.journal), 3); /* its verdict is tried again later */
    request_arrives(1, 1, 3, true);
    journal_writes();
    turns(3, false);
    assert_int_equal(settled, 1);
    is_safe_until_exported();
}

static bool any_trace(void *unused, const struct trace_id *id)
{
    (void)unused;
    (void)id;
    return true;
}

static void a_repeat_of_a_sampled_trace_that_came_back_from_its_backend_is_written(void **state)
{
    (void)state;
    refused_by_the_disk();
    disk_recovers();
    pass(WAIT_NS + NS_PER_S);
    turns(4, false);
    survivors_withdraw(&node->home, any_trace, NULL);
    assert_int_equal(trace_table_span_count(node->home.traces), 3);
    sent_again();
    is_safe_until_exported();
}

/* Exported: a repeat needs no place. */
static void a_repeat_of_what_was_exported_is_let_go_of(void **state)
{
    (void)state;
    refused_by_the_disk();
    disk_recovers();
    pass(WAIT_NS + NS_PER_S);
    turns(4, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 3);
    sent_again();
    pass(2 * NS_PER_S);
    turns(3, true);
    assert_int_equal(live_bytes(), 0);
}

static void a_segment_fills(uint64_t trace, uint64_t up_to_bytes)
{
    struct journal_stats stats;

    for (uint64_t span = 1000;; span += 10) {
        journal_stats(node->sampler.journal, &stats);
        if (stats.appended_bytes >= up_to_bytes)
            return;
        request_arrives(trace, span, 10, false);
    }
}

static void place_last(void *into, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    (void)span_hash;
    (void)len;
    *(struct journal_pos *)into = *at;
}

/* The first record is still under way when the repeat comes, and fails; the repeat's own is written. */
static void a_repeat_of_what_is_under_way_is_written(void **state)
{
    const struct trace_id id = otlp_trace_id(1);
    struct journal_pos first = {0, 0}, second = {0, 0};
    struct rlimit limit;
    struct trace *trace;

    (void)state;
    a_segment_fills(2, 136 * 1024);
    pass(WAIT_NS + NS_PER_S);
    turns(4, false); /* two are free: the fourth needs no new file */
    pass(2 * NS_PER_S);
    turns(2, false);
    a_segment_fills(3, 172 * 1024);
    turns(2, false);
    settled = 0;
    request_arrives(1, 1, 3, true);
    trace = trace_table_find(node->home.traces, &id, hash_trace(&id));
    trace_places(trace, place_last, &first);
    a_segment_fills(4, 205 * 1024);
    request_arrives(1, 1, 3, true);
    assert_int_equal(node->home.books[BOOK_DUPLICATE], 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    limit.rlim_cur = 36 * 1024;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    turns(2, false);
    disk_fails(false);
    assert_true(refused > 0);
    assert_true(settled > 0);
    assert_int_equal(journal_written(node->sampler.journal, first, 1), JOURNAL_NOT_WRITTEN);
    disk_recovers();
    trace_places(trace, place_last, &second);
    assert_int_equal(journal_written(node->sampler.journal, second, 1), JOURNAL_WRITTEN);
    pass(WAIT_NS + NS_PER_S);
    turns(4, false);
    is_safe_until_exported();
}

/* Of verdicts that are under way together some fail, and later ones do not: when the failed ones are written too, all are. */
static void verdicts_written_out_of_order_are_all_written(void **state)
{
    struct journal_stats before, after;
    struct rlimit limit;

    (void)state;
    a_segment_fills(2, 136 * 1024);
    pass(WAIT_NS + NS_PER_S);
    turns(4, false); /* two segments are free: the next one of verdicts needs no new file */
    pass(2 * NS_PER_S);
    turns(2, false);
    for (unsigned i = 0; i < 2500; i++)
        request_arrives(100 + i, 1, 1, false);
    turns(2, false);
    pass(WAIT_NS + NS_PER_S);
    node->home.begun = 0; /* so many a turn are decided, and a turn's verdicts are a record */
    for (unsigned i = 0; i < 25; i++)
        turn(false);
    journal_stats(node->sampler.journal, &before);
    disk_fails(true);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 36 * 1024;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    journal_writes();
    journal_stats(node->sampler.journal, &after);
    disk_fails(false);
    assert_true(after.failed_records > before.failed_records);
    assert_true(after.verdict_segments > 1);
    turns(2, false);
    assert_true(worker_journal_unwritten(node->home.journal) > 0);
    pass(2 * NS_PER_S);
    turns(2, false);
    pass(2 * NS_PER_S);
    turns(2, false);
    assert_int_equal(worker_journal_unwritten(node->home.journal), 0);
    assert_true(worker_journal_wrote(node->home.journal, worker_journal_now(node->home.journal)));
}

/* Memory is let go of only for what is on disk. */
static void what_is_not_written_is_not_spilled(void **state)
{
    struct budget *budget = &node->sampler.budget;

    (void)state;
    request_arrives(1, 1, 3, true);
    atomic_store(&budget->spilling, true);
    turn(false);
    assert_int_equal(trace_table_spilled_count(node->home.traces), 0); /* under way */
    journal_writes();
    turn(false);
    assert_int_equal(trace_table_spilled_count(node->home.traces), 3);
    atomic_store(&budget->spilling, false);
    disk_fails(true);
    request_arrives(2, 1, 3, true);
    turns(2, false);
    disk_fails(false);
    pass(2 * NS_PER_S);
    turns(2, false);
    assert_false(journal_failing(node->sampler.journal));
    atomic_store(&budget->spilling, true);
    turns(3, false);
    assert_int_equal(trace_table_spilled_count(node->home.traces), 3);
    atomic_store(&budget->spilling, false);
    pass(WAIT_NS + NS_PER_S);
    turns(10, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], 6);
}

/* Copies that cannot be written leave what they would have replaced. */
static void a_copy_that_fails_changes_nothing(void **state)
{
    unsigned kept;

    (void)state;
    kept = outage_with(true);
    for (unsigned i = 0; i < 5; i++) {
        pass(NS_PER_S);
        turns(2, false);
    }
    assert_true(journal_failing(node->sampler.journal)); /* it was tried */
    disk_fails(false);
    for (unsigned i = 0; i < 3; i++) {
        pass(NS_PER_S);
        turns(2, false);
    }
    assert_int_equal(held(node), kept * 20);
    restart(true);
    assert_int_equal(held(node), kept * 20);
    turns(20, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], kept * 20);
    restart(true);
    assert_int_equal(held(node), 0);
}

/* And nothing of theirs is held for ever. */
static void what_a_failed_copy_left_is_let_go_of(void **state)
{
    unsigned kept;

    (void)state;
    kept = outage_with(true);
    for (unsigned i = 0; i < 5; i++) {
        pass(NS_PER_S);
        turns(2, false);
    }
    assert_true(journal_failing(node->sampler.journal));
    disk_fails(false);
    pass(2 * NS_PER_S);
    turns(3, false);
    turns(20, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], kept * 20);
    assert_int_equal(held(node), 0);
    assert_int_equal(live_bytes(), 0);
}

/* -- more than memory ------------------------------------------------------------------------------------------------------------------- */

/* Traces of one span each, as large as ones that a block holds. */
static void single_spans_arrive(uint64_t first_trace, unsigned count)
{
    struct request *request = calloc(1, sizeof(*request));
    struct otlp_build build = {0};
    char name[600];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    otlp_resource_spans(&build);
    otlp_scope_spans(&build);
    for (unsigned i = 0; i < count; i++)
        otlp_span(&build, &(struct otlp_span){.trace_id = otlp_trace_id(first_trace + i), .span_id = otlp_span_id(1), .name = name, .status = 2});
    otlp_end(&build);
    otlp_end(&build);
    *request = (struct request){.transport = &transport, .worker = &node->home.worker, .bytes = otlp_slice(&build), .received_ns = now_ns, .deadline_ns = UINT64_MAX};
    sampler_on_request(&node->sampler, request);
    otlp_build_deinit(&build);
}

/* What a journal holds goes back there as it is read, and the reader waits for that: nothing is lost, though memory would hold a part of it. */
static void a_journal_larger_than_memory_is_recovered(void **state)
{
    enum { TRACES = 24000, AT_ONCE = 100 };

    (void)state;
    for (unsigned i = 0; i < TRACES; i += AT_ONCE) {
        single_spans_arrive(i, AT_ONCE);
        if (i % (10 * AT_ONCE) == 0)
            turns(1, false);
    }
    turns(2, false);
    assert_int_equal(settled, TRACES / AT_ONCE);
    stop(true);
    pool_bytes = budget_least_bytes(1);
    start();
    for (unsigned i = 0; i < 2000 && !replayed; i++) {
        turns(1, false);
        assert_true(budget_handoff_room(&node->sampler.budget) > 0); /* what was admitted before always has its reserve */
    }
    assert_true(replayed);
    assert_int_equal(held(node), TRACES);
    assert_true(trace_table_spilled_count(node->home.traces) > 0);
    pass(WAIT_NS + NS_PER_S);
    for (unsigned i = 0; i < 5000 && held(node) > 0; i++)
        turns(1, true);
    assert_int_equal(node->home.books[BOOK_EXPORTED], TRACES);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_answer_waits_for_the_record),
        CASE(what_was_not_written_was_not_answered),
        CASE(deadlines_go_on),
        CASE(the_wait_after_the_root_goes_on),
        CASE(a_clock_set_back_does_no_harm),
        CASE(nothing_leaves_before_its_verdict_is_written),
        CASE(verdicts_come_back_and_are_followed),
        CASE(a_verdict_that_was_taken_over_comes_back),
        CASE(a_trace_of_any_age_is_due_after_a_restart),
        CASE(what_was_given_does_not_come_back),
        CASE(what_came_back_before_its_giving_was_written_is_held),
        CASE(a_verdict_that_came_back_before_its_giving_was_written_stays),
        CASE(survivors_keep_their_verdicts_without_room_for_them),
        CASE(an_outage_costs_little_more_than_survivors),
        CASE(segments_are_free_when_all_has_gone),
        CASE(a_full_journal_is_emptied_step_by_step),
        CASE(spilled_traces_are_decided_and_leave_whole),
        CASE(who_waits_to_be_read_is_a_bounded_list),
        CASE(what_the_journal_lost_is_counted),
        CASE(a_repeat_of_what_could_not_be_written_is_written),
        CASE(a_repeat_of_a_sampled_trace_that_waits_for_its_backend_is_written),
        CASE(a_repeat_of_a_sampled_trace_that_waits_for_its_verdict_is_written),
        CASE(a_repeat_of_a_sampled_trace_that_came_back_from_its_backend_is_written),
        CASE(a_repeat_of_what_was_exported_is_let_go_of),
        CASE(a_repeat_of_what_is_under_way_is_written),
        CASE(verdicts_written_out_of_order_are_all_written),
        CASE(what_is_not_written_is_not_spilled),
        CASE(a_copy_that_fails_changes_nothing),
        CASE(what_a_failed_copy_left_is_let_go_of),
        CASE(a_journal_larger_than_memory_is_recovered),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
