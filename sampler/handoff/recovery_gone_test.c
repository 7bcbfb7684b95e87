/* The last sequence at which a span, or a verdict, went away is found again, whatever else went and in whatever order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/handoff/recovery_gone.h"

static struct trace_id id_of(uint32_t n)
{
    return (struct trace_id){{(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), 1}};
}

static void the_highest_sequence_stays(void **state)
{
    struct gone_table table = {0};
    const struct trace_id id = id_of(1), other = id_of(2);

    (void)state;
    assert_int_equal(gone_sequence(&table, gone_span(&id, 7)), 0);
    gone_add(&table, gone_span(&id, 7), 20);
    gone_add(&table, gone_span(&id, 7), 10);
    assert_int_equal(gone_sequence(&table, gone_span(&id, 7)), 20);
    gone_add(&table, gone_span(&id, 7), 30);
    assert_int_equal(gone_sequence(&table, gone_span(&id, 7)), 30);
    assert_int_equal(gone_sequence(&table, gone_span(&other, 7)), 0);
    assert_int_equal(gone_sequence(&table, gone_verdict(&id)), 0);
    gone_add(&table, gone_verdict(&id), 5);
    assert_int_equal(gone_sequence(&table, gone_verdict(&id)), 5);
    gone_deinit(&table);
}

static void many_are_found_while_it_grows(void **state)
{
    struct gone_table table = {0};

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        const struct trace_id id = id_of(i / 10);

        gone_add(&table, gone_span(&id, i), i + 1);
    }
    for (uint32_t i = 0; i < 20000; i++) {
        const struct trace_id id = id_of(i / 10);

        assert_int_equal(gone_sequence(&table, gone_span(&id, i)), i + 1);
        assert_int_equal(gone_sequence(&table, gone_span(&id, i + 20000)), 0);
    }
    assert_true(4 * table.count <= 3 * table.capacity);
    gone_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_sequence_stays),
        cmocka_unit_test(many_are_found_while_it_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
