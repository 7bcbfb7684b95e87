/* The set says of each hash whether it was added, up to a million of them and for hashes made to collide,
 * and gives all its blocks back. */
#include "sampler/buffer/hash_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/num.h"

static uint64_t spread(uint64_t n)
{
    n = (n + 1) * 0xbf58476d1ce4e5b9ull;
    n ^= n >> 31;
    return n * 0x94d049bb133111ebull;
}

static uint64_t counted(uint64_t n)
{
    return n; /* with zero, which no slot can hold */
}

static uint64_t mixed_top_alike(uint64_t n)
{
    return n * 0xf1de83e19937733dull; /* the inverse of the mixing factor */
}

static void test_set(void **state)
{
    static const struct {
        const char *what;
        uint64_t (*hash)(uint64_t n);
        uint64_t count, bytes_each;
    } cases[] = {
        {"none", spread, 0, 0},          {"one", spread, 1, 600},
        {"a few", spread, 40, 13},       {"some", spread, 3000, 24},
        {"counted", counted, 20000, 40}, {"alike after mixing", mixed_top_alike, 20000, 40},
        {"a million", spread, 1000000, 20},
    };
    struct extent_pool *pool;
    struct extent_store *store;
    (void)state;

    assert_int_equal(extent_pool_new(256 * MIB, &pool), 0);
    assert_int_equal(extent_store_new(pool, &store), 0);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct hash_set *set = hash_set_new(store);

        assert_non_null(set);
        for (uint64_t n = 0; n < cases[c].count; n++) {
            assert_false(hash_set_has(set, cases[c].hash(n)));
            assert_true(hash_set_add(set, cases[c].hash(n)));
        }
        for (uint64_t n = 0; n < cases[c].count; n++) {
            if (!hash_set_has(set, cases[c].hash(n)))
                fail_msg("%s: lost %llu", cases[c].what, (unsigned long long)n);
            assert_false(hash_set_has(set, cases[c].hash(n + cases[c].count)));
        }
        assert_int_equal(hash_set_count(set), cases[c].count);
        if (cases[c].count > 0 && extent_store_used_bytes(store) > cases[c].count * cases[c].bytes_each)
            fail_msg("%s: %llu bytes", cases[c].what,
                (unsigned long long)extent_store_used_bytes(store));
        hash_set_free(set);
        assert_int_equal(extent_store_used_bytes(store), 0);
    }
    hash_set_free(NULL);
    extent_store_free(store);
    extent_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
