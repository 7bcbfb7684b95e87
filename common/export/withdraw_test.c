/* A unit that is withdrawn is given back once, with exactly those exporters named that delivered it, and is in no call that
 * starts later; what is not withdrawn goes its way as if nothing had happened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/export/fan_out.h"
#include "common/export/rpc_code.h"
#include "tests/kit/fake_link.h"

#define S NS_PER_S
#define START (100 * S)
#define EXPORTERS 3
#define UNITS 2000
#define SPAN_BYTES 68
#define SPAN_ID_AT 20
#define LARGE_SPANS 2000u /* of a unit that is worth halving */

enum place { NEW, OUT, BACK, SETTLED };

struct test_unit {
    struct export_unit unit;
    uint32_t number;
    enum place place;
    bool asked;        /* withdrawn, and not back yet */
    uint8_t delivered; /* by whom, as told */
    uint8_t accepted;  /* by whom, as their backends saw */
    enum export_outcome outcome;
};

struct fixture {
    struct fan_out *fan;
    struct fake_link links[EXPORTERS];
    struct exporter *exporters[EXPORTERS];
    struct test_unit units[UNITS];
    uint8_t *spans;
    size_t count, looked_at[EXPORTERS], visited;
    uint64_t now_ns, random;
    uint32_t modulus, rest; /* of the units that are being withdrawn */
    unsigned short_of_memory; /* of 8 adds fail */
    bool halves; /* a request may go on after a part was answered */
};

static uint64_t draw(struct fixture *f)
{
    f->random = f->random * 6364136223846793005ull + 1442695040888963407ull;
    return f->random >> 33;
}

static struct test_unit *test_unit_of(struct export_unit *unit)
{
    return container_of(unit, struct test_unit, unit);
}

/* -- the owner ---------------------------------------------------------------------------------- */

static int on_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct fixture *f = context;
    struct test_unit *test = test_unit_of(unit);
    uint8_t *at = f->spans + (size_t)(test - f->units) * SPAN_BYTES;
    struct span_header header = {0};
    uint32_t number;

    assert_int_equal(test->place, OUT);
    header.resource = header.scope = header_part_of(slice_make("", 0), hash_bytes("", 0));
    number = regroup_header(regroup, &header);
    for (uint32_t i = 0; i < unit->span_count; i++)
        assert_int_equal(regroup_span(regroup, number, rope_of(at, SPAN_BYTES)), 0);
    return draw(f) % 8 < f->short_of_memory ? -ENOMEM : 0;
}

static void on_encoded(void *context, struct export_unit *unit)
{
    (void)context;
    (void)unit;
    fail_msg("its bytes are to stay");
}

static void on_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct fixture *f = context;
    uint8_t all = (uint8_t)((1u << f->count) - 1);

    assert_int_equal(test_unit_of(unit)->place, OUT);
    test_unit_of(unit)->place = SETTLED;
    test_unit_of(unit)->outcome = outcome;
    assert_int_equal(outcome == EXPORTED, test_unit_of(unit)->accepted == all);
}

static void on_withdrawn(void *context, struct export_unit *unit, uint8_t delivered)
{
    struct test_unit *test = test_unit_of(unit);

    (void)context;
    assert_int_equal(test->place, OUT);
    assert_true(test->asked);
    assert_false(list_linked(&unit->node));
    assert_int_equal(delivered, test->accepted);
    test->place = BACK;
    test->asked = false;
    test->delivered = delivered;
}

/* -- backends ----------------------------------------------------------------------------------- */

/* Which units a message holds, each once. */
static size_t units_of(struct fixture *f, const struct fake_message *message, uint32_t *out_numbers)
{
    struct span_walk walk;
    struct span_ref span;
    size_t count = 0;

    span_walk_init(&walk, buffer_slice(message->bytes));
    while (span_walk_next(&walk, &span)) {
        uint32_t number;

        memcpy(&number, span.trace_id.bytes, 4);
        assert_in_range(number, 1, UNITS);
        if (count == 0 || out_numbers[count - 1] != number)
            out_numbers[count++] = number;
    }
    assert_false(walk.bad);
    assert_true(count > 0);
    (void)f;
    return count;
}

static void end_with(struct fixture *f, size_t exporter, struct fake_message *message, const struct link_result *result)
{
    uint32_t *numbers = calloc(UNITS, sizeof(*numbers));
    size_t count = units_of(f, message, numbers);

    for (size_t i = 0; i < count && result->code == RPC_OK; i++) {
        struct test_unit *test = &f->units[numbers[i] - 1];

        if (!f->halves && test->accepted >> exporter & 1)
            fail_msg("unit %u was delivered twice", test->number);
        test->accepted |= (uint8_t)(1u << exporter);
    }
    free(numbers);
    fake_link_end(&f->links[exporter], message, result);
}

static void end(struct fixture *f, size_t exporter, int code)
{
    const struct link_result result = {.code = code};

    end_with(f, exporter, fake_link_pending(&f->links[exporter], 0), &result);
}

/* Calls that started since the last look hold nothing that is to leave. */
static void check_new_calls(struct fixture *f)
{
    uint32_t *numbers = calloc(UNITS, sizeof(*numbers));

    for (size_t e = 0; e < f->count; e++) {
        for (; f->looked_at[e] < f->links[e].count; f->looked_at[e]++) {
            size_t count = units_of(f, f->links[e].messages[f->looked_at[e]], numbers);

            for (size_t i = 0; i < count; i++) {
                assert_int_equal(f->units[numbers[i] - 1].place, OUT);
                assert_true(f->halves || !f->units[numbers[i] - 1].asked);
            }
        }
    }
    free(numbers);
}

static void run(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++)
        (void)exporter_run(f->exporters[i], f->now_ns);
    check_new_calls(f);
}

/* -- the test's own ----------------------------------------------------------------------------- */

static bool matches(void *context, struct export_unit *unit)
{
    const struct fixture *f = context;
    struct test_unit *test = test_unit_of(unit);

    assert_int_equal(test->place, OUT);
    if (test->number % f->modulus != f->rest)
        return false;
    test->asked = true;
    return true;
}

static void withdraw(struct fixture *f, uint32_t modulus, uint32_t rest)
{
    f->modulus = modulus;
    f->rest = rest;
    fan_out_withdraw(f->fan, matches, f);
}

static void on_visit(void *context, struct export_unit *unit)
{
    assert_int_equal(test_unit_of(unit)->place, OUT);
    ((struct fixture *)context)->visited++;
}

static size_t running(struct fixture *f)
{
    f->visited = 0;
    fan_out_running(f->fan, on_visit, f);
    return f->visited;
}

static void take(struct fixture *f, struct test_unit *test)
{
    test->place = OUT;
    fan_out_take(f->fan, &test->unit, test->delivered, f->now_ns);
}

static struct exporter_options options_of(void)
{
    return (struct exporter_options){.name = "x", .retry = {.enabled = true, .initial_interval_ns = 4 * S, .multiplier = 2, .max_interval_ns = 30 * S},
        .max_calls = 2, .max_request_bytes = 1000, .keeps_units = true};
}

static void open_fixture(struct fixture *f, size_t count, const struct exporter_options *options)
{
    const struct exporter_owner owner = {f, on_add, on_encoded, on_settled, on_withdrawn, NULL};

    memset(f, 0, sizeof(*f));
    f->count = count;
    f->now_ns = START;
    f->random = 5;
    f->spans = calloc(UNITS, SPAN_BYTES);
    assert_non_null(f->spans);
    for (uint32_t i = 0; i < UNITS; i++) {
        uint8_t *at = f->spans + (size_t)i * SPAN_BYTES;
        uint32_t number = i + 1;

        f->units[i] = (struct test_unit){.number = number, .unit = {.span_count = 1, .size_bytes = SPAN_BYTES + 2}};
        at[0] = 0x0a, at[1] = 16;
        memcpy(at + 2, &number, 4);
        at[18] = 0x12, at[19] = 8, at[SPAN_ID_AT] = 1;
        at[28] = 0x2a, at[29] = SPAN_BYTES - 30;
    }
    assert_int_equal(fan_out_new(&owner, count, &f->fan), 0);
    for (size_t i = 0; i < count; i++) {
        const struct exporter_owner mine = fan_out_owner(f->fan, i);

        fake_link_init(&f->links[i], LINK_UP);
        assert_int_equal(exporter_new(options, &f->links[i].link, &mine, &f->exporters[i]), 0);
        fan_out_set(f->fan, i, f->exporters[i]);
    }
}

static void check_gauges(const struct fixture *f)
{
    uint64_t out = 0, asked = 0;

    for (size_t i = 0; i < UNITS; i++) {
        out += f->units[i].place == OUT;
        asked += f->units[i].place == OUT && f->units[i].asked;
    }
    assert_int_equal(fan_out_stats(f->fan)->units, out);
    if (f->count == 1) {
        assert_int_equal(exporter_stats(f->exporters[0])->queue_units, out);
        assert_int_equal(exporter_stats(f->exporters[0])->leaving_units, asked);
    }
}

static void close_fixture(struct fixture *f)
{
    check_gauges(f);
    for (size_t i = 0; i < f->count; i++)
        exporter_free(f->exporters[i]);
    for (size_t i = 0; i < UNITS; i++)
        assert_int_not_equal(f->units[i].place, OUT);
    assert_int_equal(fan_out_stats(f->fan)->units, 0);
    for (size_t i = 0; i < f->count; i++) {
        fake_link_end_all(&f->links[i], RPC_CANCELLED);
        fake_link_deinit(&f->links[i]);
    }
    fan_out_free(f->fan);
    free(f->spans);
}

/* -- one exporter ---------------------------------------------------------------------------------- */

/* The queue is left at once; those that stay go out in their order. */
static void test_queued(void **state)
{
    struct exporter_options options = options_of();
    uint32_t numbers[UNITS];
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    open_fixture(f, 1, &options);
    fake_link_set_state(&f->links[0], LINK_DOWN);
    for (size_t i = 0; i < 10; i++)
        take(f, &f->units[i]);
    withdraw(f, 2, 0);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(f->units[i].place, i % 2 ? BACK : OUT);
    assert_int_equal(running(f), 0);
    fake_link_set_state(&f->links[0], LINK_UP);
    run(f);
    assert_int_equal(units_of(f, fake_link_pending(&f->links[0], 0), numbers), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(numbers[i], 2 * i + 1);
    assert_int_equal(running(f), 5);
    end(f, 0, RPC_OK);
    withdraw(f, 1, 0);
    close_fixture(f);
    free(f);
}

/* Sets of metadata have a queue each: all are looked through, and what is left of a full one still waits for its time. */
static void test_queues_of_sets(void **state)
{
    const struct metadata_entry entries[2] = {{SLICE_LITERAL("x"), SLICE_LITERAL("a")}, {SLICE_LITERAL("x"), SLICE_LITERAL("b")}};
    struct exporter_options options = options_of();
    struct metadata_set *sets[3] = {NULL, NULL, NULL};
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    assert_int_equal(metadata_set_new(&entries[0], 1, &sets[1]), 0);
    assert_int_equal(metadata_set_new(&entries[1], 1, &sets[2]), 0);
    options.least_spans = 20;
    options.flush_timeout_ns = 10 * S;
    options.max_calls = 10;
    open_fixture(f, 1, &options);
    for (size_t i = 0; i < 90; i++) {
        f->units[i].unit.metadata = sets[i % 3];
        take(f, &f->units[i]);
        f->now_ns += S / 100;
    }
    withdraw(f, 2, 0); /* 15 are left of 30: none has enough to go now */
    withdraw(f, 9, 1); /* … and nobody of one set but for ten */
    run(f);
    assert_int_equal(f->links[0].count, 0);
    f->now_ns = START + 10 * S;
    run(f);
    f->now_ns += S;
    run(f);
    assert_int_equal(f->links[0].count, 3);
    while (f->links[0].pending)
        end(f, 0, RPC_OK);
    for (size_t i = 0; i < 90; i++)
        assert_int_equal(f->units[i].place, (i + 1) % 2 == 0 || (i + 1) % 9 == 1 ? BACK : SETTLED);
    close_fixture(f);
    metadata_set_unref(sets[1]);
    metadata_set_unref(sets[2]);
    free(f);
}

/* A request that waits for a retry goes on without them, at its own time, as the same attempt. */
static void test_waiting_for_a_retry(void **state)
{
    struct exporter_options options = options_of();
    uint32_t numbers[UNITS];
    struct fixture *f = malloc(sizeof(*f));
    uint64_t next_ns;
    (void)state;

    open_fixture(f, 1, &options);
    for (size_t i = 0; i < 6; i++)
        take(f, &f->units[i]);
    run(f);
    end(f, 0, RPC_UNAVAILABLE);
    withdraw(f, 6, 0); /* failed, before the next run */
    next_ns = exporter_run(f->exporters[0], f->now_ns);
    assert_true(next_ns > f->now_ns);
    withdraw(f, 2, 1);
    assert_int_equal(exporter_run(f->exporters[0], f->now_ns), next_ns);
    assert_int_equal(exporter_stats(f->exporters[0])->requests_waiting, 1);
    f->now_ns = next_ns;
    run(f);
    assert_int_equal(exporter_stats(f->exporters[0])->retries, 1);
    assert_int_equal(units_of(f, fake_link_pending(&f->links[0], 0), numbers), 2);
    assert_int_equal(numbers[0], 2);
    assert_int_equal(numbers[1], 4);
    end(f, 0, RPC_UNAVAILABLE);
    (void)exporter_run(f->exporters[0], f->now_ns);
    withdraw(f, 1, 0); /* nothing is left of it */
    assert_int_equal(exporter_stats(f->exporters[0])->requests_waiting, 0);
    assert_int_equal(exporter_stats(f->exporters[0])->request_bytes, 0);
    assert_int_equal(exporter_run(f->exporters[0], f->now_ns), UINT64_MAX);
    close_fixture(f);
    free(f);
}

/* In a running call they wait for its end: delivered they are settled, failed they come back and are not sent again. */
static void test_running(void **state)
{
    static const struct {
        int code;
        enum place of_asked, of_others;
    } cases[] = {
        {RPC_OK, SETTLED, SETTLED},
        {RPC_INVALID_ARGUMENT, BACK, OUT}, /* two are halved, for the sake of the other */
        {RPC_UNAUTHENTICATED, SETTLED, SETTLED},
        {RPC_UNAVAILABLE, BACK, OUT},
        {RPC_DEADLINE_EXCEEDED, BACK, OUT},
    };
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct exporter_options options = options_of();

        options.max_request_bytes = 1 * MIB;
        open_fixture(f, 1, &options);
        for (size_t i = 0; i < 2; i++) {
            f->units[i].unit.span_count = LARGE_SPANS / 2;
            f->units[i].unit.size_bytes = LARGE_SPANS / 2 * (SPAN_BYTES + 2);
            take(f, &f->units[i]);
        }
        run(f);
        assert_int_equal(f->links[0].pending, 1);
        withdraw(f, 2, 1);
        assert_int_equal(f->units[0].place, OUT);
        assert_int_equal(exporter_stats(f->exporters[0])->leaving_units, 1);
        assert_int_equal(running(f), 2);
        end(f, 0, cases[c].code);
        if (f->units[0].place != cases[c].of_asked || f->units[1].place != cases[c].of_others)
            fail_msg("code %d: places %d, %d", cases[c].code, (int)f->units[0].place, (int)f->units[1].place);
        assert_int_equal(exporter_stats(f->exporters[0])->leaving_units, 0);
        f->now_ns += 100 * S;
        run(f);
        withdraw(f, 1, 0);
        while (f->links[0].pending)
            end(f, 0, RPC_OK);
        close_fixture(f);
    }
    free(f);
}

/* Once a half was delivered nobody can tell which spans those were: it stays until the rest is answered. */
static void test_halved(void **state)
{
    struct exporter_options options = options_of();
    const struct link_result too_large = {.code = RPC_RESOURCE_EXHAUSTED, .too_large = true};
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    options.max_request_bytes = 1 * MIB;
    open_fixture(f, 1, &options);
    f->halves = true;
    f->units[0].unit.span_count = LARGE_SPANS;
    f->units[0].unit.size_bytes = LARGE_SPANS * (SPAN_BYTES + 2);
    take(f, &f->units[0]);
    run(f);
    end_with(f, 0, fake_link_pending(&f->links[0], 0), &too_large);
    run(f);
    end(f, 0, RPC_OK);
    withdraw(f, 1, 0);
    assert_int_equal(f->units[0].place, OUT);
    assert_int_equal(running(f), 1);
    run(f);
    end(f, 0, RPC_UNAVAILABLE);
    assert_int_equal(f->units[0].place, OUT);
    (void)exporter_run(f->exporters[0], f->now_ns);
    f->now_ns += 100 * S;
    run(f);
    end(f, 0, RPC_OK);
    assert_int_equal(f->units[0].place, SETTLED);
    close_fixture(f);
    free(f);
}

/* -- several exporters ----------------------------------------------------------------------------- */

/* One backend is dead: units come back without having been delivered there, and go only there when they are taken again. */
static void test_one_is_dead(void **state)
{
    struct exporter_options options = options_of();
    struct fixture *f = malloc(sizeof(*f));
    uint32_t numbers[UNITS];
    (void)state;

    open_fixture(f, 3, &options);
    fake_link_set_state(&f->links[1], LINK_DOWN);
    for (size_t i = 0; i < 40; i++)
        take(f, &f->units[i]);
    run(f);
    while (f->links[0].pending) {
        end(f, 0, RPC_OK);
        run(f);
    }
    withdraw(f, 2, 0); /* the third exporter has some of them in running calls */
    while (f->links[2].pending) {
        end(f, 2, RPC_OK);
        run(f);
    }
    for (size_t i = 0; i < 40; i += 2) {
        assert_int_equal(f->units[i].place, OUT);
        assert_int_equal(f->units[i + 1].place, BACK);
        assert_int_equal(f->units[i + 1].delivered & 3, 1); /* and the third's, where it was faster */
    }
    for (size_t i = 1; i < 40; i += 2)
        take(f, &f->units[i]);
    fake_link_set_state(&f->links[1], LINK_UP);
    for (unsigned turn = 0; turn < 60; turn++) {
        f->now_ns += 10 * S;
        run(f);
        for (size_t e = 0; e < 3; e++) {
            while (f->links[e].pending)
                end(f, e, RPC_OK);
        }
    }
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(f->units[i].place, SETTLED);
        assert_int_equal(f->units[i].outcome, EXPORTED);
    }
    assert_int_equal(fan_out_stats(f->fan)->partly_spans, 0);
    assert_true(units_of(f, f->links[1].messages[0], numbers) > 0);
    close_fixture(f);
    free(f);
}

/* Taken for nobody, it is settled: all have it. */
static void test_all_have_it(void **state)
{
    struct exporter_options options = options_of();
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    for (size_t count = 1; count <= 3; count++) {
        open_fixture(f, count, &options);
        f->units[0].delivered = 0xff;
        f->units[0].accepted = (uint8_t)((1u << count) - 1);
        take(f, &f->units[0]);
        assert_int_equal(f->units[0].place, SETTLED);
        close_fixture(f);
    }
    free(f);
}

/* Whatever happens in whatever order. on_withdrawn, on_settled and end_with have the properties. */
static void random_run(struct fixture *f, size_t count, const struct exporter_options *options, uint64_t seed)
{
    static const int codes[] = {RPC_OK, RPC_OK, RPC_OK, RPC_UNAVAILABLE, RPC_UNAVAILABLE, RPC_DEADLINE_EXCEEDED, RPC_RESOURCE_EXHAUSTED};
    unsigned back = 0;

    open_fixture(f, count, options);
    f->random = seed;
    f->short_of_memory = (unsigned)(seed % 3);
    for (unsigned step = 0; step < 6000; step++) {
        uint64_t dice = draw(f) % 100;
        size_t e = draw(f) % count;
        struct test_unit *test = &f->units[draw(f) % UNITS];

        if (dice < 40) {
            if (test->place == NEW || test->place == BACK)
                take(f, test);
        } else if (dice < 60) {
            f->now_ns += draw(f) % (2 * S);
            run(f);
        } else if (dice < 85) {
            struct fake_message *message = f->links[e].pending ? fake_link_pending(&f->links[e], draw(f) % f->links[e].pending) : NULL;
            const struct link_result result = {.code = codes[draw(f) % (sizeof(codes) / sizeof(codes[0]))]};

            if (message)
                end_with(f, e, message, &result);
        } else if (dice < 95) {
            withdraw(f, 1 + (uint32_t)draw(f) % 4, 0);
        } else {
            fake_link_set_state(&f->links[e], (enum link_state)(draw(f) % 3));
        }
        if (step % 100 == 0)
            check_gauges(f);
    }
    withdraw(f, 1, 0);
    for (size_t e = 0; e < count; e++) {
        while (f->links[e].pending)
            end(f, e, RPC_UNAVAILABLE);
    }
    for (size_t i = 0; i < UNITS; i++) {
        back += f->units[i].place == BACK;
        assert_int_not_equal(f->units[i].place, OUT);
    }
    assert_true(back > 100);
    assert_int_equal(running(f), 0);
    close_fixture(f);
}

static void test_random(void **state)
{
    struct fixture *f = malloc(sizeof(*f));
    (void)state;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct exporter_options options = options_of();

        options.max_calls = 1 + (uint32_t)(seed % 3);
        random_run(f, 1 + seed % 3, &options, seed * 7919);
    }
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queued),
        cmocka_unit_test(test_queues_of_sets),
        cmocka_unit_test(test_waiting_for_a_retry),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_halved),
        cmocka_unit_test(test_one_is_dead),
        cmocka_unit_test(test_all_have_it),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests_name("withdraw", tests, NULL, NULL);
}
