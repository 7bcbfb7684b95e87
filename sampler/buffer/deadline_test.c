/* A deadline is taken once, never early and at most one tick late, whatever comes and goes around it. */
#include "sampler/buffer/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/num.h"

#define TICK DEADLINE_TICK_NS
#define HORIZON (DEADLINE_SLOTS * TICK)

static void test_cases(void **state)
{
    static const struct {
        const char *what;
        uint64_t start_ns, at_ns, early_ns, late_ns; /* not taken at early_ns, taken at late_ns */
    } cases[] = {
        {"soon", 0, 1, 0, TICK},
        {"on a tick", 0, 5 * TICK, 5 * TICK - 1, 6 * TICK},
        {"just before a tick ends", 0, 6 * TICK - 1, 6 * TICK - 2, 7 * TICK},
        {"passed already", 100 * TICK, 3, 100 * TICK, 101 * TICK},
        {"last slot", 7, HORIZON - 1, HORIZON - TICK - 1, HORIZON + TICK},
        {"past the horizon", 7, HORIZON + 5 * TICK, HORIZON + 5 * TICK - 1, HORIZON + 6 * TICK},
        {"far past the horizon", 7, 9 * HORIZON + 3, 9 * HORIZON + 2, 9 * HORIZON + TICK},
        {"late start", 12345 * TICK + 5, 12345 * TICK + 3 * TICK, 12348 * TICK - 1, 12349 * TICK},
    };
    struct deadlines *wheel = malloc(sizeof(*wheel));
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct deadline one = {0};

        deadlines_init(wheel, cases[i].start_ns);
        assert_int_equal(deadlines_next_ns(wheel), UINT64_MAX);
        deadline_add(wheel, &one, cases[i].at_ns);
        if (deadlines_take_due(wheel, cases[i].early_ns))
            fail_msg("%s: taken early", cases[i].what);
        if (deadlines_next_ns(wheel) > u64_max(cases[i].at_ns, cases[i].early_ns) + TICK)
            fail_msg("%s: next comes late", cases[i].what);
        if (deadlines_take_due(wheel, cases[i].late_ns) != &one)
            fail_msg("%s: not taken", cases[i].what);
        assert_null(deadlines_take_due(wheel, cases[i].late_ns + 20 * HORIZON));
        assert_int_equal(wheel->count, 0);
        deadline_remove(wheel, &one); /* of one that is not there: nothing */
        assert_int_equal(wheel->count, 0);
    }
    free(wheel);
}

/* Against a plain array: adds, removes, moves and time steps from nothing to several rounds. Waking only
 * when next_ns says so is enough. */
static void test_random(void **state)
{
    enum { ENTRIES = 3000, STEPS = 300000 };
    struct deadlines *wheel = malloc(sizeof(*wheel));
    struct deadline *entries = calloc(ENTRIES, sizeof(*entries));
    uint64_t *added_ns = calloc(ENTRIES, sizeof(*added_ns));
    uint64_t now_ns = 77 * NS_PER_S;
    uint64_t random = 42;
    uint64_t count = 0;
    (void)state;

    deadlines_init(wheel, now_ns);
    for (unsigned step = 0; step < STEPS; step++) {
        struct deadline *entry;
        uint64_t dice;

        random = random * 6364136223846793005ull + 1442695040888963407ull;
        dice = random >> 33;
        entry = &entries[dice % ENTRIES];
        if (step % 3 != 0) {
            uint64_t ahead = dice % 7 == 0 ? dice * 1000 : dice % (20 * NS_PER_S);

            if (list_linked(&entry->node)) {
                deadline_remove(wheel, entry);
                count--;
            }
            if (dice % 5 != 0) {
                deadline_add(wheel, entry, dice % 11 == 0 ? now_ns - ahead % NS_PER_S : now_ns + ahead);
                added_ns[entry - entries] = now_ns;
                count++;
            }
        } else {
            uint64_t next_ns = deadlines_next_ns(wheel);

            now_ns += step % 3000 == 0 ? dice % (3 * HORIZON) : dice % (TICK / 2);
            while ((entry = deadlines_take_due(wheel, now_ns))) {
                assert_true(now_ns >= next_ns);
                assert_true(entry->at_ns <= now_ns);
                assert_false(list_linked(&entry->node));
                count--;
            }
            if (step % 99 == 0) {
                for (size_t i = 0; i < ENTRIES; i++) {
                    uint64_t due_ns = u64_max(entries[i].at_ns, added_ns[i]);

                    if (list_linked(&entries[i].node) && due_ns + TICK <= now_ns)
                        fail_msg("step %u: entry %zu is late", step, i);
                }
            }
        }
        assert_int_equal(wheel->count, count);
    }
    free(added_ns);
    free(entries);
    free(wheel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
