/* What the workers hold adds up: the oldest is the oldest of any, swept is swept everywhere, and a ring that differs is none. */
#include "sampler/handoff/hold_poll.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MEMBERS 3

static struct holds_sum sum_of(const struct holds *holds, size_t count, struct held_for *members)
{
    struct holds_sum sum;

    holds_sum_begin(&sum, members, MEMBERS);
    for (size_t i = 0; i < count; i++)
        holds_sum_add(&sum, &holds[i], i == 0);
    return sum;
}

static void test_sum(void **state)
{
    struct held_for a[MEMBERS] = {{0, 0, 0}, {2, 200, 1}, {0, 0, 0}}, b[MEMBERS] = {{5, 50, 0}, {1, 10, 0}, {0, 0, 2}}, all[MEMBERS];
    struct holds holds[2] = {
        {.ring_no = 7, .swept = true, .open_requests = 1, .traces = 10, .verdicts = 3, .survivors = 4, .oldest_ns = 50, .members = a,
            .member_count = MEMBERS},
        {.ring_no = 7, .swept = true, .open_requests = 2, .traces = 20, .verdicts = 0, .survivors = 1, .oldest_ns = 0, .members = b,
            .member_count = MEMBERS},
    };
    struct holds_sum sum;

    (void)state;
    sum = sum_of(holds, 2, all);
    assert_int_equal(sum.ring_no, 7);
    assert_true(sum.swept);
    assert_int_equal(sum.open_requests, 3);
    assert_int_equal(sum.traces, 30);
    assert_int_equal(sum.verdicts, 3);
    assert_int_equal(sum.survivors, 5);
    assert_int_equal(sum.oldest_ns, 50); /* the second has nothing foreign that is waited for */
    assert_int_equal(sum.foreign_traces, 8);
    assert_int_equal(sum.foreign_bytes, 260);
    assert_int_equal(sum.exports, 3);
    assert_int_equal(all[0].traces, 5);
    assert_int_equal(all[1].traces, 3);
    assert_int_equal(all[1].bytes, 210);
    assert_int_equal(all[2].exports, 2);

    holds[1].oldest_ns = 40;
    holds[0].swept = false; /* one that has not counted all is enough */
    sum = sum_of(holds, 2, all);
    assert_int_equal(sum.oldest_ns, 40);
    assert_false(sum.swept);

    holds[1].ring_no = 8; /* one has another view: the counts by member mean nothing */
    assert_int_equal(sum_of(holds, 2, all).ring_no, 0);
    holds[0].ring_no = 0;
    holds[1].ring_no = 7;
    assert_int_equal(sum_of(holds, 2, all).ring_no, 0);
}

/* Only totals were asked for. */
static void test_totals(void **state)
{
    struct holds holds = {.ring_no = 2, .swept = true, .traces = 6};
    struct holds_sum sum;

    (void)state;
    holds_sum_begin(&sum, NULL, 0);
    holds_sum_add(&sum, &holds, true);
    assert_int_equal(sum.traces, 6);
    assert_int_equal(sum.foreign_traces, 0);
    assert_int_equal(sum.ring_no, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sum), cmocka_unit_test(test_totals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
