/* The index holds exactly what was added and not removed, with any hashes: spread, alike at either end,
 * or all the same; and its memory stays in proportion. */
#include "sampler/buffer/hash_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ENTRIES = 30000 };

static uint64_t spread(uint64_t n)
{
    n = (n + 1) * 0xbf58476d1ce4e5b9ull;
    n ^= n >> 31;
    return n * 0x94d049bb133111ebull;
}

static uint64_t low_bits_alike(uint64_t n)
{
    return spread(n) << 6 | 5;
}

static uint64_t top_bits_alike(uint64_t n)
{
    return spread(n) >> 20 | 0xabcull << 52;
}

static uint64_t counted(uint64_t n)
{
    return n;
}

static uint64_t few(uint64_t n)
{
    return spread(n % 3000);
}

static uint64_t mixed_top_alike(uint64_t n)
{
    /* The inverse of the mixing factor: after mixing these are small numbers, in one leaf of the directory. */
    return (n << 16) * 0xf1de83e19937733dull;
}

static bool has(const struct hash_index *index, uint64_t hash, uint64_t value)
{
    struct hash_probe probe = hash_index_probe(index, hash);
    uint64_t found;

    while ((found = hash_probe_next(&probe)) != 0) {
        if (found == value)
            return true;
    }
    return false;
}

static bool take(struct hash_index *index, uint64_t hash, uint64_t value)
{
    struct hash_probe probe = hash_index_probe(index, hash);
    uint64_t found;

    while ((found = hash_probe_next(&probe)) != 0) {
        if (found == value) {
            hash_index_remove(index, &probe);
            return true;
        }
    }
    return false;
}

static void test_random(void **state)
{
    static const struct {
        const char *what;
        uint64_t (*hash)(uint64_t n);
        uint64_t bytes_each; /* most, when full */
    } cases[] = {
        {"spread", spread, 48},         {"low bits alike", low_bits_alike, 48},
        {"top bits alike", top_bits_alike, 48}, {"counted", counted, 64},
        {"few", few, 100},              {"alike after mixing", mixed_top_alike, 100},
    };
    (void)state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct hash_index index;
        bool *there = calloc(ENTRIES, sizeof(*there));
        uint64_t random = 9, count = 0;

        assert_int_equal(hash_index_init(&index), 0);
        for (unsigned step = 0; step < 8 * ENTRIES; step++) {
            bool growing = step / ENTRIES % 3 != 2;
            uint64_t n;

            random = random * 6364136223846793005ull + 1442695040888963407ull;
            n = (random >> 33) % ENTRIES;
            assert_int_equal(has(&index, cases[c].hash(n), n + 1), there[n]);
            if (there[n] && (!growing || random >> 62 == 0)) {
                assert_true(take(&index, cases[c].hash(n), n + 1));
                there[n] = false;
                count--;
            } else if (!there[n] && growing) {
                assert_true(hash_index_add(&index, cases[c].hash(n), n + 1));
                there[n] = true;
                count++;
            }
            assert_int_equal(index.count, count);
            if (step % (ENTRIES / 4) == 0 && !hash_index_sound(&index))
                fail_msg("%s: unsound at step %u", cases[c].what, step);
        }
        for (uint64_t n = 0; n < ENTRIES; n++) {
            if (has(&index, cases[c].hash(n), n + 1) != there[n])
                fail_msg("%s: entry %llu", cases[c].what, (unsigned long long)n);
            if (!there[n])
                assert_true(hash_index_add(&index, cases[c].hash(n), n + 1));
        }
        if (index.bytes > cases[c].bytes_each * ENTRIES)
            fail_msg("%s: %llu bytes", cases[c].what, (unsigned long long)index.bytes);
        for (uint64_t n = 0; n < ENTRIES; n++)
            assert_true(take(&index, cases[c].hash(n), n + 1));
        assert_int_equal(index.count, 0);
        assert_true(hash_index_sound(&index));
        hash_index_deinit(&index);
        hash_index_deinit(&index);
        free(there);
    }
}

/* Many things under one hash: all of them are found, each once. */
static void test_one_hash(void **state)
{
    enum { SAME = 3000 };
    struct hash_index index;
    struct hash_probe probe;
    uint64_t sum = 0, value;
    (void)state;

    assert_int_equal(hash_index_init(&index), 0);
    for (uint64_t n = 1; n <= SAME; n++)
        assert_true(hash_index_add(&index, 7, n));
    assert_true(index.bytes < 200 * SAME);
    probe = hash_index_probe(&index, 7);
    while ((value = hash_probe_next(&probe)) != 0)
        sum += value;
    assert_int_equal(sum, SAME * (SAME + 1) / 2);
    probe = hash_index_probe(&index, 8);
    assert_int_equal(hash_probe_next(&probe), 0);
    for (uint64_t n = 1; n <= SAME; n += 2)
        assert_true(take(&index, 7, n));
    for (uint64_t n = 1; n <= SAME; n++)
        assert_int_equal(has(&index, 7, n), n % 2 == 0);
    assert_true(hash_index_sound(&index));
    hash_index_deinit(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_one_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
