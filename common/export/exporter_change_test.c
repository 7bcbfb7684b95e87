/* An exporter that goes over to another link, or to other options, loses no unit and delivers none twice, whatever its links do
 * meanwhile; nothing is sent on an old link any more, and what is compressed says how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/export/exporter.h"
#include "common/export/rpc_code.h"
#include "tests/kit/fake_link.h"

#define S NS_PER_S
#define LINKS 12
#define UNITS 400
#define SPAN_BYTES 68
#define SPAN_ID_AT 20

struct test_unit {
    struct export_unit unit;
    bool settled;
    unsigned accepted; /* by backends */
};

struct fixture {
    struct exporter *exporter;
    struct fake_link links[LINKS];
    size_t link; /* in force */
    size_t sent_before[LINKS]; /* calls when the link was replaced */
    struct test_unit units[UNITS];
    uint8_t spans[UNITS][SPAN_BYTES];
    size_t taken;
    uint64_t now_ns, random;
};

static uint64_t draw(struct fixture *f, uint64_t below)
{
    f->random = f->random * 6364136223846793005ull + 1442695040888963407ull;
    return (f->random >> 33) % below;
}

static int on_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct fixture *f = context;
    struct span_header header = {0};

    header.resource = header.scope = header_part_of(slice_make("", 0), hash_bytes("", 0));
    return regroup_span(regroup, regroup_header(regroup, &header),
        rope_of(f->spans[container_of(unit, struct test_unit, unit) - f->units], SPAN_BYTES));
}

static void on_encoded(void *context, struct export_unit *unit)
{
    (void)context;
    (void)unit;
}

static void on_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct test_unit *test = container_of(unit, struct test_unit, unit);

    (void)context;
    assert_false(test->settled);
    assert_int_equal(outcome, EXPORTED);
    assert_int_equal(test->accepted, 1);
    test->settled = true;
}

/* A span's bytes: its trace ID and span ID say which unit it is of. */
static void span_write(uint8_t *at, uint32_t number)
{
    memset(at, 0, SPAN_BYTES);
    at[0] = 0x0a;
    at[1] = 16;
    memcpy(at + 2, &number, 4);
    at[2 + 15] = 1;
    at[18] = 0x12;
    at[19] = 8;
    memcpy(at + SPAN_ID_AT, &number, 4);
    at[SPAN_ID_AT + 7] = 1;
    at[28] = 0x2a; /* name, the rest */
    at[29] = SPAN_BYTES - 30;
    memset(at + 30, 'x', SPAN_BYTES - 30);
}

static void accept(struct fixture *f, const struct fake_message *message)
{
    struct span_walk walk;
    struct span_ref span;

    if (message->encoding != COMPRESS_NONE) {
        /* gzip and zstd begin as they do: what is not what it says would not be readable. */
        assert_int_equal(message->bytes->bytes[0], message->encoding == COMPRESS_GZIP ? 0x1f : 0x28);
        assert_int_equal(message->bytes->bytes[1], message->encoding == COMPRESS_GZIP ? 0x8b : 0xb5);
        return;
    }
    span_walk_init(&walk, buffer_slice(message->bytes));
    while (span_walk_next(&walk, &span)) {
        uint32_t number;

        memcpy(&number, span.trace_id.bytes, 4);
        assert_in_range(number, 1, UNITS);
        f->units[number - 1].accepted++;
    }
    assert_false(walk.bad);
}

static struct exporter_options options_of(struct fixture *f)
{
    static const uint32_t calls[] = {1, 2, 5, 10};

    return (struct exporter_options){.name = "test",
        .timeout_ns = S,
        .retry = {.enabled = true, .initial_interval_ns = S / 10, .max_interval_ns = S, .multiplier = 2},
        .most_spans = draw(f, 2) ? 0 : 1 + draw(f, 20),
        .flush_timeout_ns = draw(f, 2) ? 0 : S / 5,
        .max_calls = calls[draw(f, 4)]};
}

static void change(struct fixture *f, bool links_too)
{
    struct exporter_options options = options_of(f);

    if (links_too && f->link + 1 < LINKS) {
        f->sent_before[f->link] = f->links[f->link].count;
        f->link++;
    }
    assert_int_equal(exporter_change(f->exporter, &options, &f->links[f->link].link), 0);
}

/* One of the calls under way ends, on whatever link. */
static void end_one(struct fixture *f, bool well)
{
    for (size_t i = 0, at = draw(f, LINKS); i < LINKS; i++, at = (at + 1) % LINKS) {
        struct fake_link *fake = &f->links[at];
        struct fake_message *message = fake_link_pending(fake, fake->pending ? draw(f, fake->pending) : 0);

        assert_int_equal(exporter_uses(f->exporter, &fake->link), message != NULL);
        if (!message)
            continue;
        if (well)
            accept(f, message);
        fake_link_end_code(fake, message, well ? RPC_OK : RPC_UNAVAILABLE);
        return;
    }
}

static void step(struct fixture *f)
{
    f->now_ns += draw(f, S / 20);
    if (f->taken < UNITS && draw(f, 3)) {
        struct export_unit *unit = &f->units[f->taken++].unit;

        unit->span_count = 1;
        unit->size_bytes = SPAN_BYTES;
        exporter_take(f->exporter, unit, f->now_ns);
    }
    if (draw(f, 40) == 0)
        change(f, draw(f, 2));
    if (draw(f, 10) == 0)
        fake_link_set_state(&f->links[f->link], (enum link_state)draw(f, 3));
    if (draw(f, 2))
        end_one(f, draw(f, 2));
    (void)exporter_run(f->exporter, f->now_ns);
    for (size_t i = 0; i < f->link; i++)
        assert_int_equal(f->links[i].count, f->sent_before[i]);
}

static void finish(struct fixture *f)
{
    change(f, true);
    fake_link_set_state(&f->links[f->link], LINK_UP);
    for (unsigned i = 0; i < 5000 && exporter_stats(f->exporter)->queue_units > 0; i++) {
        f->now_ns += S / 10;
        (void)exporter_run(f->exporter, f->now_ns);
        end_one(f, true);
    }
}

static struct fixture *fixture_new(uint64_t seed)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct exporter_owner owner = {f, on_add, on_encoded, on_settled, NULL, NULL};
    struct exporter_options options;

    assert_non_null(f);
    f->random = seed * 7919 + 1;
    f->now_ns = 100 * S;
    for (size_t i = 0; i < LINKS; i++)
        fake_link_init(&f->links[i], LINK_CONNECTING);
    for (uint32_t i = 0; i < UNITS; i++)
        span_write(f->spans[i], i + 1);
    options = options_of(f);
    assert_int_equal(exporter_new(&options, &f->links[0].link, &owner, &f->exporter), 0);
    return f;
}

static void fixture_free(struct fixture *f)
{
    exporter_free(f->exporter);
    for (size_t i = 0; i < LINKS; i++) {
        fake_link_end_all(&f->links[i], RPC_CANCELLED);
        fake_link_deinit(&f->links[i]);
    }
    free(f);
}

static void test_each_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture *f = fixture_new(seed);

        while (f->taken < UNITS)
            step(f);
        finish(f);
        for (size_t i = 0; i < UNITS; i++)
            if (!f->units[i].settled || f->units[i].accepted != 1)
                fail_msg("seed %u: unit %zu was accepted %u times", (unsigned)seed, i, f->units[i].accepted);
        assert_int_equal(exporter_stats(f->exporter)->sent_spans, UNITS);
        assert_int_equal(exporter_stats(f->exporter)->request_bytes, 0);
        fixture_free(f);
    }
}

/* A request that waits for its retry is compressed anew, as the new options say, and goes at once. */
static void test_compression(void **state)
{
    static const enum export_compression order[] = {COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD, COMPRESS_GZIP, COMPRESS_NONE};
    struct fixture *f = fixture_new(1);
    struct exporter_options options = {.name = "test", .timeout_ns = S, .retry = {.enabled = true, .initial_interval_ns = 100 * S, .max_interval_ns = 100 * S, .multiplier = 2}};

    (void)state;
    f->units[0].unit.span_count = 1;
    f->units[0].unit.size_bytes = SPAN_BYTES;
    exporter_take(f->exporter, &f->units[0].unit, f->now_ns);
    for (size_t i = 0; i < ARRAY_COUNT(order); i++) {
        struct fake_link *fake = &f->links[i + 1];
        struct fake_message *message;

        options.compression = order[i];
        assert_int_equal(exporter_change(f->exporter, &options, &fake->link), 0);
        fake_link_set_state(fake, LINK_UP);
        (void)exporter_run(f->exporter, f->now_ns);
        message = fake_link_pending(fake, 0);
        assert_non_null(message);
        assert_int_equal(message->encoding, order[i]);
        if (i + 1 < ARRAY_COUNT(order)) {
            fake_link_end_code(fake, message, RPC_UNAVAILABLE);
            (void)exporter_run(f->exporter, f->now_ns);
        } else {
            accept(f, message);
            fake_link_end_code(fake, message, RPC_OK);
        }
    }
    assert_true(f->units[0].settled);
    assert_int_equal(exporter_stats(f->exporter)->request_bytes, 0);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_once), cmocka_unit_test(test_compression)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
