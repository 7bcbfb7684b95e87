/* Bytes that are taken are bounded, but for one who holds them alone: a request within the receive limit is never refused by an idle
 * node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/ingest/admission.h"

static void test_takes(void **state)
{
    static const struct {
        const char *what;
        uint64_t others, held, more;
        bool taken;
    } cases[] = {
        {"first", 0, 0, 50, true},
        {"first, however large", 0, 0, 500, true},
        {"up to the bound", 60, 0, 40, true},
        {"over the bound", 60, 0, 41, false},
        {"alone, and grows", 0, 60, 500, true},
        {"not alone, and grows up to the bound", 10, 60, 30, true},
        {"not alone, and grows over the bound", 10, 60, 31, false},
        {"not alone, beside one over the bound", 500, 60, 1, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct admission admission = {.bytes = cases[i].others + cases[i].held, .limit_bytes = 100};
        bool taken = admission_grow(&admission, cases[i].held, cases[i].more);
        uint64_t want = cases[i].others + cases[i].held + (cases[i].taken ? cases[i].more : 0);

        if (taken != cases[i].taken || admission.bytes != want)
            fail_msg("%s", cases[i].what);
        admission_give(&admission, want);
        assert_int_equal(admission.bytes, 0);
    }
}

static void test_take_holds_nothing_before(void **state)
{
    struct admission admission = {.limit_bytes = 100};

    (void)state;
    assert_true(admission_take(&admission, 60));
    assert_false(admission_take(&admission, 41));
    assert_true(admission_take(&admission, 40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes),
        cmocka_unit_test(test_take_holds_nothing_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
