/* Whatever several exporters make of a unit: its owner hears once that its bytes are free, when nobody needs them any more, and
 * once how it ended; by then each exporter has settled it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/export/fan_out.h"
#include "common/export/rpc_code.h"
#include "tests/kit/fake_link.h"

#define S NS_PER_S
#define START (100 * S)
#define EXPORTERS 3

static const uint8_t span_bytes[] = {0x0a, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8};

struct test_unit {
    struct export_unit unit;
    unsigned encoded, settled, partly; /* partly: exporters that delivered it before others were done, a bit each */
    enum export_outcome outcome;
};

struct fixture {
    struct fan_out *fan;
    struct fake_link links[EXPORTERS];
    struct exporter *exporters[EXPORTERS];
    size_t count, units_settled;
    uint64_t now_ns;
};

static struct test_unit *test_unit_of(struct export_unit *unit)
{
    return container_of(unit, struct test_unit, unit);
}

static int on_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct span_header header = {0};
    uint32_t number;

    (void)context;
    assert_int_equal(test_unit_of(unit)->encoded, 0); /* or the bytes would be gone */
    header.resource = header.scope = header_part_of(slice_make("", 0), hash_bytes("", 0));
    number = regroup_header(regroup, &header);
    return regroup_span(regroup, number, rope_of(span_bytes, sizeof(span_bytes)));
}

static void on_encoded(void *context, struct export_unit *unit)
{
    (void)context;
    assert_int_equal(test_unit_of(unit)->settled, 0);
    test_unit_of(unit)->encoded++;
}

static void on_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct fixture *f = context;

    test_unit_of(unit)->settled++;
    test_unit_of(unit)->outcome = outcome;
    f->units_settled++;
}

/* Only while some exporter is not done, and once for each that is. */
static void on_partly(void *context, struct export_unit *unit, size_t exporter)
{
    (void)context;
    assert_int_equal(test_unit_of(unit)->settled, 0);
    assert_int_equal(test_unit_of(unit)->partly & (1u << exporter), 0);
    test_unit_of(unit)->partly |= 1u << exporter;
}

static void open_fixture(struct fixture *f, size_t count, uint64_t queue_units)
{
    const struct exporter_owner owner = {f, on_add, on_encoded, on_settled, NULL, on_partly};

    memset(f, 0, sizeof(*f));
    f->count = count;
    f->now_ns = START;
    assert_int_equal(fan_out_new(&owner, count, &f->fan), 0);
    for (size_t i = 0; i < count; i++) {
        const struct exporter_owner mine = fan_out_owner(f->fan, i);
        struct exporter_options options = {.name = "x", .retry = retry_defaults(), .max_calls = 100,
            .queue_requests = i == count - 1 ? queue_units : 0};

        fake_link_init(&f->links[i], LINK_UP);
        assert_int_equal(exporter_new(&options, &f->links[i].link, &mine, &f->exporters[i]), 0);
        fan_out_set(f->fan, i, f->exporters[i]);
    }
}

static void run(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++)
        (void)exporter_run(f->exporters[i], f->now_ns);
}

static void take(struct fixture *f, struct test_unit *unit)
{
    *unit = (struct test_unit){.unit = {.span_count = 1, .size_bytes = 100}};
    fan_out_take(f->fan, &unit->unit, 0, f->now_ns);
}

static void end(struct fixture *f, size_t exporter, int code)
{
    fake_link_end_code(&f->links[exporter], fake_link_pending(&f->links[exporter], 0), code);
}

static void close_fixture(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++)
        exporter_free(f->exporters[i]);
    assert_int_equal(fan_out_stats(f->fan)->units, 0);
    assert_int_equal(fan_out_stats(f->fan)->spans, 0);
    for (size_t i = 0; i < f->count; i++) {
        fake_link_end_all(&f->links[i], RPC_CANCELLED);
        fake_link_deinit(&f->links[i]);
    }
    fan_out_free(f->fan);
}

/* -- outcomes -------------------------------------------------------------------------------------- */

static void test_outcomes(void **state)
{
    static const struct {
        size_t count;
        int codes[EXPORTERS];
        enum export_outcome outcome;
        uint64_t partly;
    } cases[] = {
        {1, {RPC_OK}, EXPORTED, 0},
        {1, {RPC_INVALID_ARGUMENT}, EXPORT_REFUSED, 0},
        {2, {RPC_OK, RPC_OK}, EXPORTED, 0},
        {2, {RPC_OK, RPC_INVALID_ARGUMENT}, EXPORT_REFUSED, 1},
        {2, {RPC_INVALID_ARGUMENT, RPC_OK}, EXPORT_REFUSED, 1},
        {2, {RPC_INVALID_ARGUMENT, RPC_INVALID_ARGUMENT}, EXPORT_REFUSED, 0},
        {3, {RPC_OK, RPC_OK, RPC_UNAUTHENTICATED}, EXPORT_REFUSED, 1},
        {3, {RPC_OK, RPC_OK, RPC_OK}, EXPORTED, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct test_unit unit;
        struct fixture f;

        open_fixture(&f, cases[i].count, 0);
        take(&f, &unit);
        assert_int_equal(unit.encoded, 0);
        run(&f);
        assert_int_equal(unit.encoded, 1); /* all have written it */
        for (size_t k = 0; k < cases[i].count; k++) {
            assert_int_equal(unit.settled, 0);
            assert_int_equal(fan_out_stats(f.fan)->spans, 1);
            end(&f, k, cases[i].codes[k]);
        }
        assert_int_equal(unit.settled, 1);
        for (size_t k = 0; k < cases[i].count; k++) /* the last one's is the end, and no part of it */
            assert_int_equal(unit.partly >> k & 1, cases[i].codes[k] == RPC_OK && k + 1 < cases[i].count);
        if (unit.outcome != cases[i].outcome || fan_out_stats(f.fan)->partly_spans != cases[i].partly)
            fail_msg("case %zu: outcome %d", i, (int)unit.outcome);
        close_fixture(&f);
    }
}

/* One that is away holds the bytes, once, and the others go on. */
static void test_one_is_away(void **state)
{
    struct test_unit units[50];
    struct fixture f;

    (void)state;
    open_fixture(&f, 3, 0);
    fake_link_set_state(&f.links[1], LINK_DOWN);
    take(&f, &units[0]);
    run(&f); /* one request finds out that it is away: its bytes are written, and no further ones */
    for (size_t i = 1; i < 50; i++) {
        take(&f, &units[i]);
        f.now_ns += S;
        run(&f);
    }
    while (f.links[0].pending > 0)
        end(&f, 0, RPC_OK);
    while (f.links[2].pending > 0)
        end(&f, 2, RPC_OK);
    assert_int_equal(exporter_stats(f.exporters[0])->sent_spans, 50);
    assert_int_equal(exporter_stats(f.exporters[2])->sent_spans, 50);
    assert_int_equal(fan_out_stats(f.fan)->spans, 50);
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(units[i].encoded, i == 0);
        assert_int_equal(units[i].settled, 0);
    }
    fake_link_set_state(&f.links[1], LINK_UP);
    while (f.units_settled < 50) {
        f.now_ns += S;
        run(&f);
        while (f.links[1].pending > 0)
            end(&f, 1, RPC_OK);
    }
    for (size_t i = 0; i < 50; i++) {
        assert_int_equal(units[i].encoded, 1);
        assert_int_equal(units[i].settled, 1);
        assert_int_equal(units[i].outcome, EXPORTED);
    }
    close_fixture(&f);
}

/* A full queue settles a part inside take, also when it is the last. */
static void test_a_full_queue(void **state)
{
    struct test_unit units[3];
    struct fixture f;

    (void)state;
    open_fixture(&f, 2, 1);
    for (size_t i = 0; i < 3; i++)
        take(&f, &units[i]);
    run(&f);
    end(&f, 0, RPC_OK);
    assert_int_equal(units[0].settled, 0);
    for (size_t i = 1; i < 3; i++) {
        assert_int_equal(units[i].settled, 1);
        assert_int_equal(units[i].outcome, EXPORT_QUEUE_FULL);
    }
    end(&f, 1, RPC_OK);
    assert_int_equal(units[0].outcome, EXPORTED);
    assert_int_equal(fan_out_stats(f.fan)->partly_spans, 2);
    close_fixture(&f);
    open_fixture(&f, 1, 1);
    take(&f, &units[0]);
    take(&f, &units[1]);
    assert_int_equal(units[1].settled, 1);
    assert_int_equal(units[1].outcome, EXPORT_QUEUE_FULL);
    close_fixture(&f);
    assert_int_equal(units[0].outcome, EXPORT_STOPPED);
}

/* The end: what nobody refused was stopped; what one refused was refused. */
static void test_the_end(void **state)
{
    struct test_unit units[3];
    struct fixture f;

    (void)state;
    open_fixture(&f, 2, 0);
    for (size_t i = 0; i < 3; i++) {
        take(&f, &units[i]);
        f.now_ns += S;
        run(&f);
    }
    end(&f, 0, RPC_INVALID_ARGUMENT); /* the first */
    end(&f, 0, RPC_OK);               /* the second */
    close_fixture(&f);
    assert_int_equal(units[0].outcome, EXPORT_REFUSED);
    assert_int_equal(units[1].outcome, EXPORT_STOPPED);
    assert_int_equal(units[2].outcome, EXPORT_STOPPED);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(units[i].settled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_one_is_away),
        cmocka_unit_test(test_a_full_queue),
        cmocka_unit_test(test_the_end),
    };

    return cmocka_run_group_tests_name("fan_out", tests, NULL, NULL);
}
