/* Whatever a backend does, each unit is settled exactly once: EXPORTED exactly when an answered OK carried all its
 * spans, and otherwise by the reason that the options and the backend's answers give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/export/exporter.h"
#include "common/export/rpc_code.h"
#include "common/otlp/rpc_status.h"
#include "tests/kit/fake_link.h"

#define S NS_PER_S
#define MS NS_PER_MS
#define START (100 * S)
#define UNITS_MAX 4096

/* tag, length, trace ID; tag, length, span ID; tag, length, padding as a name */
#define SPAN_BYTES 68
#define SPAN_ID_AT 20
#define UNIT_BYTES(spans) ((spans) * (uint64_t)(SPAN_BYTES + 2))

struct test_unit {
    struct export_unit unit;
    uint8_t *spans; /* gone once the exporter said `encoded` */
    uint32_t number;
    unsigned encoded, settled;
    enum export_outcome outcome;
    unsigned accepted; /* messages answered OK that held all its spans */
};

struct fixture {
    struct fake_link fake;
    struct exporter *exporter;
    uint64_t now_ns, seed;
    unsigned short_of_memory; /* of 8 adds fail */
    uint32_t too_much;        /* number of a unit for which memory is never enough */
    size_t count, take_again; /* units; how many more are taken from inside settled */
    struct test_unit *units[UNITS_MAX];
};

static uint64_t random_next(struct fixture *f)
{
    f->seed = f->seed * 6364136223846793005ull + 1442695040888963407ull;
    return f->seed >> 24;
}

static struct test_unit *test_unit_of(struct export_unit *unit)
{
    return container_of(unit, struct test_unit, unit);
}

/* -- the owner ---------------------------------------------------------------------------------- */

static int on_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    static const uint8_t resources[2][6] = {{0x0a, 4, 0x0a, 2, 0x0a, 0}, {0x0a, 2, 0x10, 1, 0x10, 2}};
    struct fixture *f = context;
    struct test_unit *test = test_unit_of(unit);
    const uint8_t *resource = resources[test->number % 2];
    size_t len = test->number % 2 ? 4 : 6;
    struct span_header header = {0};
    uint32_t number, count = unit->span_count;
    bool fails = random_next(f) % 8 < f->short_of_memory || test->number == f->too_much;

    assert_int_equal(test->encoded + test->settled, 0);
    header.resource = header_part_of(slice_make(resource, len), hash_bytes(resource, len));
    header.scope = header_part_of(slice_make("", 0), hash_bytes("", 0));
    header.hash = header.resource.hash;
    number = regroup_header(regroup, &header);
    for (uint32_t i = 0; i < (fails ? count / 2 : count); i++)
        assert_int_equal(regroup_span(regroup, number, rope_of(test->spans + i * SPAN_BYTES, SPAN_BYTES)), 0);
    return fails ? -ENOMEM : 0;
}

static void on_encoded(void *context, struct export_unit *unit)
{
    struct test_unit *test = test_unit_of(unit);

    (void)context;
    assert_int_equal(test->encoded++ + test->settled, 0);
    free(steal(&test->spans)); /* a retry must not need it */
}

static struct test_unit *take_for(struct fixture *f, uint32_t spans, const struct metadata_set *metadata)
{
    struct test_unit *test = calloc(1, sizeof(*test));

    assert_non_null(test);
    assert_in_range(f->count, 0, UNITS_MAX - 1);
    test->number = (uint32_t)f->count + 1;
    test->unit.span_count = spans;
    test->unit.size_bytes = UNIT_BYTES(spans);
    test->unit.metadata = metadata;
    test->spans = calloc(spans + 1, SPAN_BYTES);
    assert_non_null(test->spans);
    for (uint32_t i = 0; i < spans; i++) {
        uint8_t *at = test->spans + i * SPAN_BYTES;
        uint32_t index = i + 1;

        at[0] = 0x0a, at[1] = 16;
        memcpy(at + 2, &test->number, 4);
        at[18] = 0x12, at[19] = 8;
        memcpy(at + SPAN_ID_AT, &index, 4);
        at[28] = 0x2a, at[29] = SPAN_BYTES - 30;
        memset(at + 30, 'n', SPAN_BYTES - 30);
    }
    f->units[f->count++] = test;
    exporter_take(f->exporter, &test->unit, f->now_ns);
    return test;
}

static struct test_unit *take(struct fixture *f, uint32_t spans)
{
    return take_for(f, spans, NULL);
}

static void on_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct fixture *f = context;
    struct test_unit *test = test_unit_of(unit);

    assert_false(list_linked(&unit->node));
    test->settled++;
    test->outcome = outcome;
    free(steal(&test->spans));
    if (f->take_again > 0) {
        f->take_again--;
        (void)take(f, 3);
    }
}

/* -- the backend -------------------------------------------------------------------------------- */

/* Notes which units a message that is answered OK carried, whole and once. */
static void accept_spans(struct fixture *f, struct slice bytes)
{
    unsigned *spans = calloc(f->count + 1, sizeof(*spans));
    struct span_walk walk;
    struct span_ref span;

    assert_non_null(spans);
    span_walk_init(&walk, bytes);
    while (span_walk_next(&walk, &span)) {
        uint32_t number, index;

        assert_int_equal(span.fault, SPAN_OK);
        assert_int_equal(span.bytes.len, SPAN_BYTES);
        memcpy(&number, span.trace_id.bytes, 4);
        memcpy(&index, span.bytes.at + SPAN_ID_AT, 4);
        assert_in_range(number, 1, f->count);
        assert_int_equal(index, spans[number] + 1); /* in order, none twice */
        assert_int_equal(span.header->resource.len, number % 2 ? 4 : 6);
        spans[number]++;
    }
    assert_false(walk.bad);
    for (size_t i = 1; i <= f->count; i++) {
        if (spans[i] > 0) {
            assert_int_equal(spans[i], f->units[i - 1]->unit.span_count);
            f->units[i - 1]->accepted++;
        }
    }
    free(spans);
}

static void answer(struct fixture *f, struct fake_message *message, const struct link_result *result)
{
    if (result->code == RPC_OK)
        accept_spans(f, buffer_slice(message->bytes));
    fake_link_end(&f->fake, message, result);
}

static void answer_code(struct fixture *f, int code)
{
    struct link_result result = {.code = code};

    answer(f, fake_link_pending(&f->fake, 0), &result);
}

static struct exporter_options options_of(void)
{
    struct exporter_options options = {
        .name = "otlp/test",
        .timeout_ns = 5 * S,
        .retry = retry_defaults(),
        .max_request_bytes = UNIT_BYTES(100),
        .flush_timeout_ns = 200 * MS,
        .max_calls = 3,
    };

    options.retry.randomization_factor = 0; /* times are exact */
    return options;
}

static void open_fixture(struct fixture *f, enum link_state state, const struct exporter_options *options)
{
    struct exporter_owner owner = {f, on_add, on_encoded, on_settled, NULL, NULL};

    memset(f, 0, sizeof(*f));
    f->now_ns = START;
    f->seed = 1;
    fake_link_init(&f->fake, state);
    assert_int_equal(exporter_new(options, &f->fake.link, &owner, &f->exporter), 0);
}

static void check_settled(struct fixture *f)
{
    const struct exporter_stats *stats = exporter_stats(f->exporter);
    uint64_t spans[EXPORT_STOPPED + 1] = {0}, left = 0;

    for (size_t i = 0; i < f->count; i++) {
        struct test_unit *test = f->units[i];

        if (test->settled > 1)
            fail_msg("unit %u: settled %u times", test->number, test->settled);
        if (test->settled && test->outcome != EXPORT_STOPPED && (test->outcome == EXPORTED) != (test->accepted == 1))
            fail_msg("unit %u: outcome %u, accepted %u times", test->number, test->outcome, test->accepted);
        if (test->settled)
            spans[test->outcome] += test->unit.span_count;
        else
            left += test->unit.span_count;
    }
    assert_int_equal(stats->queue_spans, left);
    assert_int_equal(stats->queue_bytes, UNIT_BYTES(left));
    assert_int_equal(stats->sent_spans, spans[EXPORTED]);
    assert_int_equal(stats->refused_spans, spans[EXPORT_REFUSED]);
    assert_int_equal(stats->failed_spans, spans[EXPORT_REFUSED] + spans[EXPORT_GAVE_UP]);
    assert_int_equal(stats->enqueue_failed_spans, spans[EXPORT_QUEUE_FULL]);
    assert_int_equal(stats->calls_in_flight, f->fake.pending);
}

/* Frees the exporter, then ends its calls: in this order, as a process stops. */
static void close_fixture(struct fixture *f)
{
    check_settled(f);
    exporter_free(f->exporter);
    for (size_t i = 0; i < f->count; i++) {
        if (f->units[i]->settled != 1)
            fail_msg("unit %u: settled %u times", f->units[i]->number, f->units[i]->settled);
        free(f->units[i]);
    }
    for (size_t i = 0; i < f->fake.count; i++)
        assert_true(f->fake.messages[i]->cancelled == (f->fake.messages[i]->call != NULL));
    fake_link_end_all(&f->fake, RPC_OK);
    fake_link_deinit(&f->fake);
}

/* -- scenarios ---------------------------------------------------------------------------------- */

static void test_flush_rules(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP, &options);
    assert_int_equal(exporter_run(f.exporter, f.now_ns), UINT64_MAX);

    /* At once while nothing is under way. */
    take(&f, 10);
    take(&f, 10);
    assert_int_equal(exporter_run(f.exporter, f.now_ns), UINT64_MAX);
    assert_int_equal(f.fake.pending, 1);
    assert_string_equal(f.fake.messages[0]->method, LINK_EXPORT);
    assert_int_equal(f.fake.messages[0]->deadline_ns, START + 5 * S);
    assert_int_equal(f.units[1]->encoded, 1);

    /* Then after flush_timeout from the first that waits ... */
    take(&f, 10);
    f.now_ns += 50 * MS;
    take(&f, 10);
    assert_int_equal(exporter_run(f.exporter, f.now_ns), START + 200 * MS);
    assert_int_equal(f.fake.pending, 1);
    f.now_ns = START + 200 * MS;
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 2);

    /* ... or when a batch is full: three units of 40 are more than 100 spans. */
    take(&f, 40);
    take(&f, 40);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 2);
    take(&f, 40);
    assert_int_equal(exporter_run(f.exporter, f.now_ns), UINT64_MAX); /* all three calls are taken */
    assert_int_equal(f.fake.pending, 3);
    assert_int_equal(f.units[5]->encoded, 1);
    assert_int_equal(f.units[6]->encoded, 0); /* would have passed the target */
    assert_true(f.fake.messages[2]->bytes->len <= options.max_request_bytes);

    /* A call that ends makes room, here for what hurries. */
    answer_code(&f, RPC_OK);
    exporter_hurry(f.exporter);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 3);
    while (f.fake.pending)
        answer_code(&f, RPC_OK);
    for (size_t i = 0; i < f.count; i++)
        assert_int_equal(f.units[i]->outcome, EXPORTED);
    close_fixture(&f);
}

static void test_a_unit_larger_than_a_request_goes_alone(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP, &options);
    take(&f, 500);
    take(&f, 1);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 1);
    assert_int_equal(f.units[0]->encoded, 1);
    assert_int_equal(f.units[1]->encoded, 0);
    answer_code(&f, RPC_OK);
    (void)exporter_run(f.exporter, f.now_ns);
    answer_code(&f, RPC_OK);
    close_fixture(&f);
}

/* How a first answer ends one unit, or when it is tried again. */
/* What arrived of one unit's spans, each at most once, from messages that the backend found small enough. */
static uint64_t accept_small(struct fixture *f, size_t limit, uint32_t span_count)
{
    const struct link_result too_large = {.code = RPC_RESOURCE_EXHAUSTED}, fine = {.code = RPC_OK};
    uint8_t *seen = calloc(span_count + 1, 1);
    uint64_t arrived = 0;

    assert_non_null(seen);
    while (f->fake.pending > 0) {
        struct fake_message *message = fake_link_pending(&f->fake, 0);
        struct slice bytes = buffer_slice(message->bytes);
        struct span_walk walk;
        struct span_ref span;

        assert_int_equal(f->fake.pending, 1); /* one half after the other */
        if (bytes.len > limit) {
            fake_link_end(&f->fake, message, &too_large);
        } else {
            span_walk_init(&walk, bytes);
            while (span_walk_next(&walk, &span)) {
                uint32_t index;

                memcpy(&index, span.bytes.at + SPAN_ID_AT, 4);
                assert_in_range(index, 1, span_count);
                assert_int_equal(seen[index]++, 0);
                arrived++;
            }
            assert_false(walk.bad);
            fake_link_end(&f->fake, message, &fine);
        }
        (void)exporter_run(f->exporter, f->now_ns);
    }
    free(seen);
    return arrived;
}

static void test_what_is_too_large_goes_in_halves(void **state)
{
    static const struct {
        size_t limit;
        uint64_t arrived;
        enum export_outcome outcome;
    } cases[] = {
        {1024 * 1024, 6000, EXPORTED}, /* fits as it is: 420 KB */
        {220 * 1000, 6000, EXPORTED},
        {70 * 1000, 6000, EXPORTED},
        {100, 0, EXPORT_REFUSED}, /* no half above 64 KiB is small enough: it is refused for good */
    };
    struct exporter_options options = options_of();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct test_unit *unit;
        struct fixture f;

        open_fixture(&f, LINK_UP, &options);
        unit = take(&f, 6000);
        (void)exporter_run(f.exporter, f.now_ns);
        assert_int_equal(accept_small(&f, cases[i].limit, 6000), cases[i].arrived);
        assert_int_equal(unit->settled, 1);
        assert_int_equal(unit->outcome, cases[i].outcome);
        assert_int_equal(exporter_stats(f.exporter)->rejected_spans, 0);
        unit->accepted = unit->outcome == EXPORTED; /* in parts, which accept_spans does not know */
        close_fixture(&f);
    }
}

/* A unit whose last span is most of it, and what a server says that calls too large OUT_OF_RANGE. */
static void test_the_largest_span_may_come_last(void **state)
{
    const struct link_result too_large = {.code = RPC_OUT_OF_RANGE}, fine = {.code = RPC_OK};
    struct exporter_options options = options_of();
    struct test_unit *unit;
    struct fixture f;

    (void)state;
    options.max_request_bytes = 64 * 1024;
    open_fixture(&f, LINK_UP, &options);
    unit = take(&f, 1000); /* 70 KB */
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 1);
    fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &too_large);
    for (unsigned halves = 0; halves < 2; halves++) {
        (void)exporter_run(f.exporter, f.now_ns);
        assert_int_equal(f.fake.pending, 1);
        assert_false(unit->settled);
        fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &fine);
    }
    assert_int_equal(unit->outcome, EXPORTED);
    assert_int_equal(exporter_stats(f.exporter)->request_bytes, 0);
    unit->accepted = 1;

    /* Below the size that was meant to be sent it is another matter: tried again as it is. */
    unit = take(&f, 500);
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &too_large);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 0);
    assert_int_equal(exporter_stats(f.exporter)->requests_waiting, 1);
    close_fixture(&f);
}

/* One unit that the backend cannot read costs at most what shares its last 64 KiB. */
static void test_rubbish_of_one_unit_spares_the_others(void **state)
{
    const struct link_result broken = {.code = RPC_INTERNAL}, fine = {.code = RPC_OK};
    const uint32_t rubbish = 1500, units = 3000;
    struct exporter_options options = options_of();
    uint64_t arrived = 0;
    unsigned calls = 0;
    struct fixture f;

    (void)state;
    options.max_request_bytes = 1024 * 1024;
    open_fixture(&f, LINK_UP, &options);
    for (uint32_t i = 0; i < units; i++)
        take(&f, 1);
    (void)exporter_run(f.exporter, f.now_ns);
    while (f.fake.pending > 0) {
        struct fake_message *message = fake_link_pending(&f.fake, 0);
        bool has_rubbish = false;
        uint64_t count = 0;
        struct span_walk walk;
        struct span_ref span;

        span_walk_init(&walk, buffer_slice(message->bytes));
        while (span_walk_next(&walk, &span)) {
            uint32_t number;

            memcpy(&number, span.trace_id.bytes, 4);
            has_rubbish |= number == rubbish;
            count++;
        }
        arrived += has_rubbish ? 0 : count;
        fake_link_end(&f.fake, message, has_rubbish ? &broken : &fine);
        calls++;
        (void)exporter_run(f.exporter, f.now_ns);
    }
    assert_in_range(arrived, units - 64 * 1024 / SPAN_BYTES, units - 1);
    assert_int_equal(exporter_stats(f.exporter)->rejected_spans, units - arrived);
    assert_in_range(calls, 3, 20);
    for (uint32_t i = 0; i < units; i++) {
        assert_int_equal(f.units[i]->outcome, EXPORTED);
        f.units[i]->accepted = 1;
    }
    close_fixture(&f);
}

static void test_halves_that_are_refused_count_as_rejected(void **state)
{
    const struct link_result too_large = {.code = RPC_RESOURCE_EXHAUSTED}, refused = {.code = RPC_INVALID_ARGUMENT};
    struct exporter_options options = options_of();
    struct test_unit *unit;
    uint64_t arrived;
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP, &options);
    unit = take(&f, 2000);
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &too_large);
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &refused);
    (void)exporter_run(f.exporter, f.now_ns);
    arrived = accept_small(&f, SIZE_MAX, 2000);
    assert_in_range(arrived, 900, 1100); /* halves in bytes: not to the span */
    assert_int_equal(unit->outcome, EXPORTED);
    assert_int_equal(exporter_stats(f.exporter)->rejected_spans, 2000 - arrived);
    unit->accepted = 1;

    /* And an end in the middle leaves nothing behind. */
    unit = take(&f, 2000);
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_end(&f.fake, fake_link_pending(&f.fake, 0), &too_large);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 1);
    close_fixture(&f);
}

static void test_answers(void **state)
{
    static const struct {
        const char *what;
        struct link_result result;
        int outcome;          /* -1: tried again */
        uint64_t again_in_ns; /* after the answer */
    } cases[] = {
        {"OK", {.code = RPC_OK}, EXPORTED, 0},
        {"unavailable", {.code = RPC_UNAVAILABLE}, -1, 5 * S},
        {"the call took too long", {.code = RPC_DEADLINE_EXCEEDED}, -1, 5 * S},
        {"a delay shorter than ours", {.code = RPC_UNAVAILABLE, .retry_ns = S, .has_retry = true}, -1, 5 * S},
        {"a delay longer than ours", {.code = RPC_UNAVAILABLE, .retry_ns = 9 * S, .has_retry = true}, -1, 9 * S},
        {"overloaded, come back", {.code = RPC_RESOURCE_EXHAUSTED, .retry_ns = 7 * S, .has_retry = true}, -1, 7 * S},
        {"overloaded, no delay named", {.code = RPC_RESOURCE_EXHAUSTED, .has_retry = true}, -1, 5 * S},
        {"too large", {.code = RPC_RESOURCE_EXHAUSTED}, EXPORT_REFUSED, 0},
        {"malformed", {.code = RPC_INVALID_ARGUMENT}, EXPORT_REFUSED, 0},
        {"not allowed", {.code = RPC_PERMISSION_DENIED}, EXPORT_REFUSED, 0},
        {"no such service", {.code = RPC_UNIMPLEMENTED}, EXPORT_REFUSED, 0},
        {"a delay does not soften a final refusal",
            {.code = RPC_INTERNAL, .retry_ns = S, .has_retry = true}, EXPORT_REFUSED, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct exporter_options options = options_of();
        struct fixture f;
        struct test_unit *unit;
        uint64_t first, next_ns;

        open_fixture(&f, LINK_UP, &options);
        unit = take(&f, 4);
        (void)exporter_run(f.exporter, f.now_ns);
        first = hash_bytes(f.fake.messages[0]->bytes->bytes, f.fake.messages[0]->bytes->len);
        answer(&f, f.fake.messages[0], &cases[i].result);
        next_ns = exporter_run(f.exporter, f.now_ns);
        if (cases[i].outcome >= 0) {
            if (!unit->settled || (int)unit->outcome != cases[i].outcome || next_ns != UINT64_MAX)
                fail_msg("%s: settled %u, outcome %u", cases[i].what, unit->settled, unit->outcome);
        } else {
            if (unit->settled || next_ns != START + cases[i].again_in_ns)
                fail_msg("%s: again in %lld ms", cases[i].what, (long long)(next_ns - START) / 1000000);
            (void)exporter_run(f.exporter, next_ns - 1);
            assert_int_equal(f.fake.count, 1);
            (void)exporter_run(f.exporter, next_ns);
            assert_int_equal(f.fake.count, 2);
            assert_true(first == hash_bytes(f.fake.messages[1]->bytes->bytes, f.fake.messages[1]->bytes->len));
            assert_int_equal(f.fake.messages[1]->deadline_ns, next_ns + 5 * S);
            assert_int_equal(exporter_stats(f.exporter)->retries, 1);
            answer_code(&f, RPC_OK);
            assert_int_equal(unit->outcome, EXPORTED);
        }
        close_fixture(&f);
    }
}

static void test_partial_success_is_counted_and_not_sent_again(void **state)
{
    static const struct {
        uint64_t rejected, want;
    } cases[] = {{0, 0}, {2, 2}, {400, 4}, {UINT64_MAX, 4}}; /* no more than were sent */
    uint8_t response[RPC_STATUS_BYTES_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        size_t len = partial_success_write(cases[i].rejected, "no\nservice.name", response);
        struct link_result result = {.response = slice_make(response, len)};
        struct exporter_options options = options_of();
        struct fixture f;

        open_fixture(&f, LINK_UP, &options);
        take(&f, 4);
        (void)exporter_run(f.exporter, f.now_ns);
        answer(&f, f.fake.messages[0], &result);
        assert_int_equal(f.units[0]->outcome, EXPORTED);
        assert_int_equal(exporter_stats(f.exporter)->rejected_spans, cases[i].want);
        if (cases[i].want == 2)
            assert_string_equal(
                exporter_stats(f.exporter)->last_error, "partial_success, rejected spans 2: no?service.name");
        (void)exporter_run(f.exporter, f.now_ns + 60 * S);
        assert_int_equal(f.fake.count, 1);
        close_fixture(&f);
    }

    { /* An OK that cannot be read is an OK. */
        struct link_result result = {.response = SLICE_LITERAL("\x0a\xff")};
        struct exporter_options options = options_of();
        struct fixture f;

        open_fixture(&f, LINK_UP, &options);
        take(&f, 4);
        (void)exporter_run(f.exporter, f.now_ns);
        answer(&f, f.fake.messages[0], &result);
        assert_int_equal(f.units[0]->outcome, EXPORTED);
        close_fixture(&f);
    }
}

static void test_the_last_error_is_kept_short(void **state)
{
    struct exporter_options options = options_of();
    struct link_result result = {.code = RPC_UNAVAILABLE};
    uint8_t message[4096];
    struct fixture f;

    (void)state;
    memset(message, 'x', sizeof(message));
    result.message = slice_make(message, sizeof(message));
    open_fixture(&f, LINK_UP, &options);
    assert_string_equal(exporter_stats(f.exporter)->last_error, "");
    take(&f, 1);
    (void)exporter_run(f.exporter, f.now_ns);
    answer(&f, f.fake.messages[0], &result);
    assert_int_equal(strlen(exporter_stats(f.exporter)->last_error), sizeof(exporter_stats(f.exporter)->last_error) - 1);
    assert_memory_equal(exporter_stats(f.exporter)->last_error, "status 14: xxx", 14);
    assert_int_equal(exporter_stats(f.exporter)->failed_calls, 1);
    close_fixture(&f);
}

static void test_max_elapsed_time_gives_up(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;
    struct test_unit *unit;
    unsigned calls = 0;

    (void)state;
    options.retry.max_elapsed_time_ns = 30 * S;
    open_fixture(&f, LINK_UP, &options);
    unit = take(&f, 2);
    while (!unit->settled) {
        uint64_t next_ns = exporter_run(f.exporter, f.now_ns);

        if (f.fake.pending) {
            calls++;
            answer_code(&f, RPC_UNAVAILABLE);
        } else if (!unit->settled) {
            f.now_ns = next_ns;
        }
    }
    assert_int_equal(calls, 4); /* after 0, 5, 12.5 and 23.75 s */
    assert_int_equal(unit->outcome, EXPORT_GAVE_UP);
    close_fixture(&f);

    options.retry.enabled = false;
    open_fixture(&f, LINK_UP, &options);
    unit = take(&f, 2);
    (void)exporter_run(f.exporter, f.now_ns);
    answer_code(&f, RPC_UNAVAILABLE);
    assert_int_equal(exporter_run(f.exporter, f.now_ns), UINT64_MAX);
    assert_int_equal(unit->outcome, EXPORT_GAVE_UP);
    close_fixture(&f);
}

static void test_a_backend_that_is_away_costs_no_calls(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;
    unsigned turns = 0;

    (void)state;
    open_fixture(&f, LINK_DOWN, &options);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t next_ns;

        if (i < 200)
            take(&f, 10);
        next_ns = exporter_run(f.exporter, f.now_ns);
        assert_true(next_ns > f.now_ns); /* never a busy loop */
        f.now_ns = u64_min(next_ns, f.now_ns + S);
        turns++;
    }
    assert_int_equal(f.fake.count, 0);
    assert_int_equal(exporter_stats(f.exporter)->queue_units, 200);
    assert_int_equal(exporter_stats(f.exporter)->requests_waiting, 1); /* one finds out; the rest are units as they were */
    assert_in_range(exporter_stats(f.exporter)->request_bytes, 1, options.max_request_bytes);
    assert_int_equal(exporter_stats(f.exporter)->calls, 0);

    /* Back again: what waits goes at once, and then everything else. */
    fake_link_set_state(&f.fake, LINK_UP);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 3);
    assert_int_equal(exporter_stats(f.exporter)->retries, 0);
    for (turns = 0; f.fake.pending; turns++) {
        answer_code(&f, RPC_OK);
        (void)exporter_run(f.exporter, f.now_ns);
    }
    assert_int_equal(exporter_stats(f.exporter)->sent_spans, 2000);
    assert_in_range(turns, 20, 25); /* in full requests */
    close_fixture(&f);
}

static void test_a_link_that_comes_up_does_not_cut_a_named_delay(void **state)
{
    struct exporter_options options = options_of();
    struct link_result wait = {.code = RPC_UNAVAILABLE, .retry_ns = 20 * S, .has_retry = true};
    struct fixture f;

    (void)state;
    open_fixture(&f, LINK_UP, &options);
    take(&f, 1);
    (void)exporter_run(f.exporter, f.now_ns);
    answer(&f, f.fake.messages[0], &wait);
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_set_state(&f.fake, LINK_DOWN);
    (void)exporter_run(f.exporter, f.now_ns + S);
    fake_link_set_state(&f.fake, LINK_UP);
    assert_int_equal(exporter_run(f.exporter, f.now_ns + 2 * S), START + 20 * S);
    assert_int_equal(f.fake.pending, 0);
    (void)exporter_run(f.exporter, START + 20 * S);
    answer_code(&f, RPC_OK);
    close_fixture(&f);
}

static void test_queue_bounds_set_by_the_user(void **state)
{
    static const struct {
        const char *what;
        uint64_t bytes, requests, spans;
    } cases[] = {
        {"bytes", UNIT_BYTES(30), 0, 0},
        {"requests", 0, 3, 0},
        {"items", 0, 0, 30},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct exporter_options options = options_of();
        struct fixture f;

        options.queue_bytes = cases[i].bytes;
        options.queue_requests = cases[i].requests;
        options.queue_spans = cases[i].spans;
        open_fixture(&f, LINK_UP, &options);
        take(&f, 10);
        (void)exporter_run(f.exporter, f.now_ns); /* under way: still counts */
        take(&f, 10);
        take(&f, 10);
        assert_int_equal(f.units[2]->settled, 0);
        take(&f, 10);
        if (!f.units[3]->settled || f.units[3]->outcome != EXPORT_QUEUE_FULL)
            fail_msg("%s: not full", cases[i].what);
        answer_code(&f, RPC_OK);
        take(&f, 10);
        if (f.units[4]->settled)
            fail_msg("%s: full after an answer", cases[i].what);
        close_fixture(&f);
    }
}

static void test_want_of_memory_puts_off_and_loses_nothing(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;
    uint64_t next_ns;

    (void)state;
    open_fixture(&f, LINK_UP, &options);
    take(&f, 8);
    take(&f, 8);
    f.short_of_memory = 8;
    next_ns = exporter_run(f.exporter, f.now_ns);
    assert_true(next_ns > f.now_ns && next_ns <= f.now_ns + S);
    assert_int_equal(exporter_stats(f.exporter)->starved, 1);
    assert_int_equal(f.fake.count, 0);
    f.short_of_memory = 0;
    (void)exporter_run(f.exporter, next_ns);
    answer_code(&f, RPC_OK);
    assert_int_equal(f.units[0]->outcome + f.units[1]->outcome, EXPORTED + EXPORTED);

    /* What fits goes, without the half of the unit that does not. */
    take(&f, 8);
    take(&f, 8);
    f.too_much = f.units[3]->number;
    (void)exporter_run(f.exporter, f.now_ns + S);
    assert_int_equal(f.fake.pending, 1);
    answer_code(&f, RPC_OK);
    assert_int_equal(f.units[2]->settled, 1);
    assert_int_equal(f.units[3]->encoded, 0);
    f.too_much = 0;
    (void)exporter_run(f.exporter, f.now_ns + 2 * S);
    answer_code(&f, RPC_OK);
    assert_int_equal(f.units[3]->settled, 1);
    close_fixture(&f);
}

static void test_the_end_settles_everything(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;

    (void)state;
    exporter_free(NULL);
    options.max_calls = 2;
    open_fixture(&f, LINK_UP, &options);
    take(&f, 90);
    (void)exporter_run(f.exporter, f.now_ns);
    answer_code(&f, RPC_UNAVAILABLE);
    take(&f, 90);
    take(&f, 90);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 1); /* one waits for its retry, one is under way, one is queued */
    f.take_again = 2;                    /* and one comes while they are settled */
    close_fixture(&f);
}

/* -- random runs -------------------------------------------------------------------------------- */

static void random_answer(struct fixture *f, struct fake_message *message)
{
    static const int codes[] = {RPC_UNAVAILABLE, RPC_DEADLINE_EXCEEDED, RPC_CANCELLED, RPC_RESOURCE_EXHAUSTED,
        RPC_INVALID_ARGUMENT, RPC_INTERNAL};
    struct link_result result = {0};

    if (random_next(f) % 2) {
        result.code = codes[random_next(f) % ARRAY_COUNT(codes)];
        result.has_retry = random_next(f) % 2;
        result.retry_ns = random_next(f) % (3 * S);
    }
    answer(f, message, &result);
}

static void random_run(uint64_t seed)
{
    struct exporter_options options = options_of();
    struct fixture *f = malloc(sizeof(*f));

    assert_non_null(f);
    options.retry = retry_defaults();
    options.retry.initial_interval_ns = 100 * MS;
    options.retry.max_interval_ns = 2 * S;
    options.max_calls = (uint32_t)(seed % 5);
    options.retry.max_elapsed_time_ns = seed % 2 ? 0 : 10 * S;
    options.queue_bytes = seed % 3 ? 0 : UNIT_BYTES(2000);
    open_fixture(f, LINK_CONNECTING, &options);
    f->seed = seed * 0x9e3779b97f4a7c15ull;
    for (unsigned step = 0; step < 4000; step++) {
        uint64_t dice = random_next(f) % 100;

        if (dice < 30) {
            (void)take(f, (uint32_t)(1 + random_next(f) % 40));
        } else if (dice < 70) {
            f->now_ns += random_next(f) % (200 * MS);
            (void)exporter_run(f->exporter, f->now_ns);
        } else if (dice < 97 && f->fake.pending > 0) {
            random_answer(f, fake_link_pending(&f->fake, random_next(f) % f->fake.pending));
        } else if (dice == 97) {
            fake_link_set_state(&f->fake, (enum link_state)(random_next(f) % 3));
        } else if (dice == 98) {
            f->short_of_memory = (unsigned)(random_next(f) % 3);
        } else if (dice == 99) {
            f->take_again = random_next(f) % 3;
        }
    }
    check_settled(f);
    if (seed % 4 > 0) { /* all is well again: everything gets there; else the end comes in the middle */
        f->short_of_memory = 0;
        fake_link_set_state(&f->fake, LINK_UP);
        for (unsigned turn = 0; exporter_stats(f->exporter)->queue_units > 0; turn++) {
            uint64_t next_ns = exporter_run(f->exporter, f->now_ns);

            if (f->fake.pending)
                answer_code(f, RPC_OK);
            else
                f->now_ns = u64_max(f->now_ns, next_ns);
            assert_true(turn < 100000);
        }
        assert_true(exporter_stats(f->exporter)->sent_spans > 0);
    }
    close_fixture(f);
    free(f);
}

static void test_random_runs_settle_each_unit_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++)
        random_run(seed);
}

static struct metadata_set *tenant_new(const char *name)
{
    const struct metadata_entry entry = {SLICE_LITERAL("x-scope-orgid"), slice_text(name)};
    struct metadata_set *set;

    assert_int_equal(metadata_set_new(&entry, 1, &set), 0);
    return set;
}

static size_t spans_of(struct fake_message *message)
{
    struct span_walk walk;
    struct span_ref span;
    size_t count = 0;

    span_walk_init(&walk, buffer_slice(message->bytes));
    while (span_walk_next(&walk, &span))
        count++;
    assert_false(walk.bad);
    return count;
}

/* Units of unequal metadata never share a request; equal sets do, whoever made them, and nobody waits for ever. */
static void test_metadata_keeps_requests_apart(void **state)
{
    struct exporter_options options = options_of();
    struct metadata_set *sets[4] = {NULL, tenant_new("a"), tenant_new("b"), tenant_new("a")};
    struct fixture f;

    (void)state;
    options.max_calls = 8;
    open_fixture(&f, LINK_UP, &options);
    for (unsigned i = 0; i < 40; i++)
        take_for(&f, 1 + i % 4, sets[i % 4]);
    exporter_hurry(f.exporter);
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.pending, 3);
    for (size_t i = 0; i < 3; i++) {
        struct fake_message *message = f.fake.messages[i];
        bool is_a = metadata_set_equal(message->metadata, sets[1]), is_b = metadata_set_equal(message->metadata, sets[2]);

        assert_int_equal(spans_of(message), is_a ? 10 * (2 + 4) : is_b ? 10 * 3 : 10);
        assert_true(is_a || is_b || !message->metadata);
    }
    while (f.fake.pending)
        answer_code(&f, RPC_OK);
    close_fixture(&f);
    for (size_t i = 0; i < 4; i++)
        metadata_set_unref(sets[i]);
}

/* More tenants than the table has buckets, in random order: each lane goes out whole, in time, and is gone. */
static void test_many_tenants(void **state)
{
    enum { TENANTS = 700 };
    struct exporter_options options = options_of();
    struct metadata_set *sets[TENANTS];
    struct fixture f;
    char name[32];

    (void)state;
    options.max_calls = 1;
    open_fixture(&f, LINK_UP, &options);
    for (unsigned i = 0; i < TENANTS; i++) {
        (void)snprintf(name, sizeof(name), "tenant-%u", i);
        sets[i] = tenant_new(name);
    }
    for (unsigned i = 0; i < 3 * TENANTS; i++)
        take_for(&f, 1, sets[random_next(&f) % TENANTS]);
    for (unsigned i = 0; exporter_stats(f.exporter)->queue_units > 0; i++) {
        assert_in_range(i, 0, TENANTS);
        (void)exporter_run(f.exporter, f.now_ns);
        assert_int_equal(f.fake.pending, 1);
        answer_code(&f, RPC_OK);
    }
    close_fixture(&f);
    for (unsigned i = 0; i < TENANTS; i++)
        metadata_set_unref(sets[i]);
}

/* A least size makes units wait for each other, for flush_timeout at most; a most is never passed, not even by one unit. */
static void test_batch_sizes(void **state)
{
    static const struct {
        uint64_t least_spans, least_bytes, most_spans, most_bytes;
        unsigned units;     /* of 10 spans each */
        size_t at_once;     /* spans sent before flush_timeout */
        size_t largest;     /* spans of a request */
    } cases[] = {
        {0, 0, 0, 0, 3, 30, 30},                                /* no batch: at once, while nothing is under way */
        {50, 0, 0, 0, 4, 0, 40},                                /* too few: they wait */
        {50, 0, 0, 0, 5, 50, 50},
        {50, 0, 0, 0, 12, 100, 50},                             /* ... and none more than is wanted */
        {0, UNIT_BYTES(50), 0, 0, 4, 0, 40},
        {0, UNIT_BYTES(50), 0, 0, 5, 50, 50},
        {20, 0, 35, 0, 7, 60, 30},                              /* whole units, as long as there are */
        {20, 0, 0, UNIT_BYTES(35), 7, 60, 20},                  /* what a message holds besides spans counts too */
        {0, 0, 15, 0, 4, 30, 10},                               /* the last one is no full batch */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exporter_options options = options_of();
        size_t sent = 0, largest = 0;
        struct fixture f;

        options.max_request_bytes = 0;
        options.max_calls = 16;
        options.least_spans = cases[i].least_spans;
        options.least_bytes = cases[i].least_bytes;
        options.most_spans = cases[i].most_spans;
        options.most_bytes = cases[i].most_bytes;
        open_fixture(&f, LINK_UP, &options);
        for (unsigned k = 0; k < cases[i].units; k++)
            take(&f, 10);
        (void)exporter_run(f.exporter, f.now_ns);
        for (size_t k = 0; k < f.fake.count; k++)
            sent += spans_of(f.fake.messages[k]);
        if (sent != cases[i].at_once)
            fail_msg("case %zu: %zu spans at once", i, sent);
        f.now_ns += 200 * MS;
        (void)exporter_run(f.exporter, f.now_ns);
        for (size_t k = 0; k < f.fake.count; k++)
            largest = spans_of(f.fake.messages[k]) > largest ? spans_of(f.fake.messages[k]) : largest;
        if (largest != cases[i].largest)
            fail_msg("case %zu: a request of %zu spans", i, largest);
        while (f.fake.pending)
            answer_code(&f, RPC_OK);
        assert_int_equal(exporter_stats(f.exporter)->queue_units, 0);
        close_fixture(&f);
    }
}

/* A unit larger than the most goes in parts of at most that, one after the other, each span once. */
static void test_a_large_unit_is_cut(void **state)
{
    static const struct {
        uint64_t most_spans, most_bytes;
    } cases[] = {{100, 0}, {0, UNIT_BYTES(100)}, {1, 0}, {0, 1}, {7, UNIT_BYTES(3)}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exporter_options options = options_of();
        struct test_unit *unit;
        struct fixture f;

        options.most_spans = cases[i].most_spans;
        options.most_bytes = cases[i].most_bytes;
        open_fixture(&f, LINK_UP, &options);
        unit = take(&f, 1234);
        (void)exporter_run(f.exporter, f.now_ns);
        assert_int_equal(accept_small(&f, SIZE_MAX, 1234), 1234);
        assert_int_equal(unit->outcome, EXPORTED);
        for (size_t k = 0; k < f.fake.count; k++) {
            struct fake_message *message = f.fake.messages[k];

            if (cases[i].most_spans)
                assert_in_range(spans_of(message), 1, cases[i].most_spans);
            if (cases[i].most_bytes)
                assert_true(message->bytes->len <= cases[i].most_bytes || spans_of(message) == 1);
        }
        assert_int_equal(exporter_stats(f.exporter)->request_bytes, 0);
        unit->accepted = 1; /* in parts, which accept_spans does not know */
        close_fixture(&f);
    }
}

/* Compressed bytes are made once and sent by each try; what is cut is cut from the plain ones. */
static void test_compressed_requests(void **state)
{
    struct exporter_options options = options_of();
    struct fixture f;

    (void)state;
    options.compression = COMPRESS_GZIP;
    open_fixture(&f, LINK_UP, &options);
    take(&f, 100)->accepted = 1; /* accept_spans cannot read it */
    (void)exporter_run(f.exporter, f.now_ns);
    fake_link_end_code(&f.fake, fake_link_pending(&f.fake, 0), RPC_UNAVAILABLE);
    f.now_ns += exporter_run(f.exporter, f.now_ns) - f.now_ns;
    (void)exporter_run(f.exporter, f.now_ns);
    assert_int_equal(f.fake.count, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct buffer *bytes = f.fake.messages[i]->bytes;

        assert_true(bytes->len < UNIT_BYTES(100) / 2);
        assert_true(bytes->bytes[0] == 0x1f && bytes->bytes[1] == 0x8b);
        assert_int_equal(f.fake.messages[i]->encoding, COMPRESS_GZIP);
    }
    assert_memory_equal(f.fake.messages[0]->bytes->bytes, f.fake.messages[1]->bytes->bytes, f.fake.messages[0]->bytes->len);
    assert_true(exporter_stats(f.exporter)->plain_bytes >= UNIT_BYTES(100));
    assert_int_equal(exporter_stats(f.exporter)->packed_bytes, f.fake.messages[0]->bytes->len); /* once */
    fake_link_end_code(&f.fake, fake_link_pending(&f.fake, 0), RPC_OK);
    assert_int_equal(exporter_stats(f.exporter)->request_bytes, 0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flush_rules),
        cmocka_unit_test(test_a_unit_larger_than_a_request_goes_alone),
        cmocka_unit_test(test_what_is_too_large_goes_in_halves),
        cmocka_unit_test(test_the_largest_span_may_come_last),
        cmocka_unit_test(test_rubbish_of_one_unit_spares_the_others),
        cmocka_unit_test(test_halves_that_are_refused_count_as_rejected),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_partial_success_is_counted_and_not_sent_again),
        cmocka_unit_test(test_the_last_error_is_kept_short),
        cmocka_unit_test(test_max_elapsed_time_gives_up),
        cmocka_unit_test(test_a_backend_that_is_away_costs_no_calls),
        cmocka_unit_test(test_a_link_that_comes_up_does_not_cut_a_named_delay),
        cmocka_unit_test(test_queue_bounds_set_by_the_user),
        cmocka_unit_test(test_want_of_memory_puts_off_and_loses_nothing),
        cmocka_unit_test(test_the_end_settles_everything),
        cmocka_unit_test(test_metadata_keeps_requests_apart),
        cmocka_unit_test(test_many_tenants),
        cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_a_large_unit_is_cut),
        cmocka_unit_test(test_compressed_requests),
        cmocka_unit_test(test_random_runs_settle_each_unit_once),
    };

    return cmocka_run_group_tests_name("exporter", tests, NULL, NULL);
}
