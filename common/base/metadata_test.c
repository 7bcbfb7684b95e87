/* Sets are equal when they hold the same pairs, whatever the order of their keys and the case these were sent in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/metadata.h"

#define PAIR(key_, value_) {SLICE_LITERAL(key_), SLICE_LITERAL(value_)}

static struct metadata_set *set_of(const struct metadata_entry *entries, size_t count)
{
    struct metadata_set *set;

    assert_int_equal(metadata_set_new(entries, count, &set), 0);
    return set;
}

static void equal_sets(void **state)
{
    const struct metadata_entry one[] = {PAIR("X-Scope-OrgID", "a"), PAIR("team", "t")};
    const struct metadata_entry two[] = {PAIR("Team", "t"), PAIR("x-scope-orgid", "a")};
    const struct metadata_entry other[] = {PAIR("team", "t"), PAIR("x-scope-orgid", "A")};
    const struct metadata_entry shifted[] = {PAIR("team", "tx"), PAIR("-scope-orgid", "a")};
    struct metadata_set *a = set_of(one, 2), *b = set_of(two, 2), *c = set_of(other, 2), *d = set_of(shifted, 2);
    struct metadata_set *e = set_of(one, 1);

    (void)state;
    assert_true(metadata_set_equal(a, b));
    assert_true(a->hash == b->hash);
    assert_true(slice_equal(a->entries[1].key, SLICE_LITERAL("x-scope-orgid")));
    assert_false(metadata_set_equal(a, c));
    assert_false(metadata_set_equal(a, d));
    assert_false(metadata_set_equal(a, e));
    assert_false(metadata_set_equal(a, NULL));
    assert_true(metadata_set_equal(NULL, NULL));
    metadata_set_unref(a);
    metadata_set_unref(b);
    metadata_set_unref(c);
    metadata_set_unref(d);
    metadata_set_unref(e);
}

static void values_of_a_key_keep_their_order(void **state)
{
    const struct metadata_entry one[] = {PAIR("k", "2"), PAIR("a", ""), PAIR("K", "1")};
    const struct metadata_entry two[] = {PAIR("k", "1"), PAIR("k", "2"), PAIR("a", "")};
    struct metadata_set *a = set_of(one, 3), *b = set_of(two, 3);

    (void)state;
    assert_true(slice_equal(a->entries[1].value, SLICE_LITERAL("2")));
    assert_true(slice_equal(a->entries[2].value, SLICE_LITERAL("1")));
    assert_false(metadata_set_equal(a, b));
    metadata_set_unref(a);
    metadata_set_unref(b);
}

static void bounds(void **state)
{
    static uint8_t big[METADATA_BYTES_MAX];
    const struct metadata_entry large = {SLICE_LITERAL("k"), {big, sizeof(big)}};
    struct metadata_entry many[METADATA_PAIRS_MAX + 1];
    struct metadata_set *set = (void *)1;

    (void)state;
    for (size_t i = 0; i < METADATA_PAIRS_MAX + 1; i++)
        many[i] = (struct metadata_entry)PAIR("k", "v");
    assert_int_equal(metadata_set_new(&large, 1, &set), METADATA_E_TOO_LARGE);
    assert_int_equal(metadata_set_new(many, METADATA_PAIRS_MAX + 1, &set), METADATA_E_TOO_LARGE);
    assert_int_equal(metadata_set_new(NULL, 0, &set), 0);
    assert_null(set);
    set = set_of(many, METADATA_PAIRS_MAX);
    assert_ptr_equal(metadata_set_ref(set), set);
    metadata_set_unref(set);
    metadata_set_unref(set);
    assert_null(metadata_set_ref(NULL));
    metadata_set_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sets),
        cmocka_unit_test(values_of_a_key_keep_their_order),
        cmocka_unit_test(bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
