/* Blocks never overlap and keep their bytes, in any order of taking and freeing; what is freed comes
 * back to the pool, and what is idle for 10 s to the system. */
#include "common/base/extent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define SECONDS(n) ((n) * NS_PER_S)
#define LIMIT_BYTES (256 * MIB)

struct fixture {
    struct extent_pool *pool;
    struct extent_store *store;
    uint64_t random;
};

static void fixture_init(struct fixture *fixture)
{
    fixture->random = 0x1234567;
    assert_int_equal(extent_pool_new(LIMIT_BYTES, &fixture->pool), 0);
    assert_int_equal(extent_store_new(fixture->pool, &fixture->store), 0);
}

static void fixture_deinit(struct fixture *fixture)
{
    extent_store_free(fixture->store);
    assert_int_equal(
        extent_pool_idle_bytes(fixture->pool), extent_pool_committed_bytes(fixture->pool));
    extent_pool_free(fixture->pool);
}

static uint64_t draw(struct fixture *fixture)
{
    fixture->random ^= fixture->random << 13;
    fixture->random ^= fixture->random >> 7;
    fixture->random ^= fixture->random << 17;
    return fixture->random;
}

/* A block is as large as its class says, and on a cache line's border. */
static void test_classes(void **state)
{
    static const struct {
        unsigned class_index;
        size_t capacity;
    } cases[] = {
        {BLOCK_CLASS_128, 120},   {BLOCK_CLASS_256, 248},   {BLOCK_CLASS_512, 504},   {BLOCK_CLASS_768, 760},
        {BLOCK_CLASS_1024, 1016}, {BLOCK_CLASS_2048, 2040}, {BLOCK_CLASS_4096, 4088},
    };
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct block *block = block_new_class(fixture.store, cases[i].class_index);

        assert_non_null(block);
        assert_null(block->next);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_int_equal(block_class_capacity(cases[i].class_index), cases[i].capacity);
        if (block_capacity(block) != cases[i].capacity)
            fail_msg("expected %zu, got %zu", cases[i].capacity, block_capacity(block));
        assert_int_equal(
            extent_store_used_bytes(fixture.store), block_class_bytes[cases[i].class_index]);
        block_free(fixture.store, block);
    }
    block_free(fixture.store, NULL);
    block_free_chain(fixture.store, NULL);
    assert_int_equal(extent_store_used_bytes(fixture.store), 0);
    fixture_deinit(&fixture);
}

static void paint(struct block *block, uint64_t stamp)
{
    size_t words = block_capacity(block) / sizeof(stamp);

    for (size_t i = 0; i < words; i++) {
        uint64_t word = stamp + i;

        memcpy(block->bytes + i * sizeof(word), &word, sizeof(word));
    }
    block->next = (struct block *)(uintptr_t)(stamp ^ 0xfeed);
}

static void check_paint(const struct block *block, uint64_t stamp)
{
    size_t words = block_capacity(block) / sizeof(stamp);

    for (size_t i = 0; i < words; i++) {
        uint64_t word;

        memcpy(&word, block->bytes + i * sizeof(word), sizeof(word));
        if (word != stamp + i)
            fail_msg("block %p was written over", (const void *)block);
    }
    assert_true(block->next == (struct block *)(uintptr_t)(stamp ^ 0xfeed));
}

/* Against a model that knows what each block holds: takes and frees at random, in waves, so that extents
 * fill, drain and change their class. */
static void test_random(void **state)
{
    enum { BLOCKS = 20000, STEPS = 400000 };
    struct fixture fixture;
    struct {
        struct block *block;
        uint64_t stamp;
        unsigned class_index;
    } *held = calloc(BLOCKS, sizeof(*held));
    size_t count = 0;
    uint64_t used_bytes = 0;
    uint64_t after_wave;
    (void)state;

    fixture_init(&fixture);
    for (uint64_t step = 0; step < STEPS; step++) {
        bool growing = step / 50000 % 2 == 0;
        bool take = draw(&fixture) % 100 < (growing ? 75u : 25u);

        if (take && count < BLOCKS) {
            /* One class is favoured each wave, so that extents move between classes. */
            unsigned favoured = (unsigned)(step / 100000 % BLOCK_CLASSES);
            unsigned class_index =
                draw(&fixture) % 2 ? favoured : (unsigned)(draw(&fixture) % BLOCK_CLASSES);

            held[count].block = block_new_class(fixture.store, class_index);
            assert_non_null(held[count].block);
            held[count].stamp = draw(&fixture);
            held[count].class_index = class_index;
            paint(held[count].block, held[count].stamp);
            used_bytes += block_class_bytes[class_index];
            count++;
        } else if (!take && count > 0) {
            size_t at = draw(&fixture) % count;

            check_paint(held[at].block, held[at].stamp);
            assert_int_equal(
                block_capacity(held[at].block), block_class_capacity(held[at].class_index));
            used_bytes -= block_class_bytes[held[at].class_index];
            block_free(fixture.store, held[at].block);
            held[at] = held[--count];
        }
        assert_int_equal(extent_store_used_bytes(fixture.store), used_bytes);
    }
    while (count > 0) {
        check_paint(held[count - 1].block, held[count - 1].stamp);
        block_free(fixture.store, held[--count].block);
    }
    assert_int_equal(extent_store_used_bytes(fixture.store), 0);

    /* Empty, a store holds one extent a class at most; the rest is idle, and gone after 10 s. */
    after_wave = extent_pool_committed_bytes(fixture.pool) - extent_pool_idle_bytes(fixture.pool);
    assert_true(after_wave <= BLOCK_CLASSES * EXTENT_BYTES);
    assert_true(extent_pool_idle_bytes(fixture.pool) > 0);
    extent_pool_tend(fixture.pool, 0, SECONDS(100));
    extent_pool_tend(fixture.pool, 0, SECONDS(110));
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), 0);
    assert_int_equal(extent_pool_committed_bytes(fixture.pool), after_wave);
    free(held);
    fixture_deinit(&fixture);
}

/* Holes are filled before new extents are taken: churn does not grow memory. */
static void test_churn(void **state)
{
    enum { BLOCKS = 60000 };
    struct fixture fixture;
    struct block **held = calloc(BLOCKS, sizeof(*held));
    uint64_t at_first;
    (void)state;

    fixture_init(&fixture);
    for (size_t i = 0; i < BLOCKS; i++)
        held[i] = block_new_class(fixture.store, BLOCK_CLASS_512);
    at_first = extent_pool_committed_bytes(fixture.pool);
    for (size_t i = 0; i < 10 * BLOCKS; i++) {
        size_t at = draw(&fixture) % BLOCKS;

        block_free(fixture.store, held[at]);
        held[at] = block_new_class(fixture.store, BLOCK_CLASS_512);
    }
    assert_true(extent_pool_committed_bytes(fixture.pool) <= at_first + at_first / 32 + EXTENT_BYTES);

    /* With nine in ten gone at random, what comes next goes into what is there. */
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 10 != 0) {
            block_free(fixture.store, held[i]);
            held[i] = NULL;
        }
    }
    for (size_t i = 0; i < BLOCKS / 2; i++) {
        if (!held[i])
            held[i] = block_new_class(fixture.store, BLOCK_CLASS_512);
    }
    assert_true(extent_pool_committed_bytes(fixture.pool) <= at_first + at_first / 32 + EXTENT_BYTES);
    for (size_t i = 0; i < BLOCKS; i++)
        block_free(fixture.store, held[i]);
    free(held);
    fixture_deinit(&fixture);
}

/* Idle memory: kept 10 s from when it was first seen idle, `ahead` of it always, never past the limit. */
static void test_tend(void **state)
{
    enum { EXTENTS = 6, BLOCKS = EXTENTS * 511 };
    struct fixture fixture;
    struct block *held[BLOCKS];
    struct extent_pool *small;
    uint64_t in_use;
    (void)state;

    fixture_init(&fixture);
    extent_pool_tend(fixture.pool, 3, SECONDS(1));
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), 3 * EXTENT_BYTES);
    assert_int_equal(extent_pool_committed_bytes(fixture.pool), 3 * EXTENT_BYTES);
    extent_pool_tend(fixture.pool, 3, SECONDS(100));
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), 3 * EXTENT_BYTES);

    for (size_t i = 0; i < BLOCKS; i++)
        held[i] = block_new_class(fixture.store, BLOCK_CLASS_4096);
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), 0);
    in_use = extent_pool_committed_bytes(fixture.pool);
    assert_in_range(in_use, EXTENTS * EXTENT_BYTES, (EXTENTS + 1) * EXTENT_BYTES);
    for (size_t i = 0; i < BLOCKS; i++)
        block_free(fixture.store, held[i]);
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), in_use - EXTENT_BYTES);

    extent_pool_tend(fixture.pool, 2, SECONDS(200));
    assert_int_equal(extent_pool_committed_bytes(fixture.pool), in_use);
    extent_pool_tend(fixture.pool, 2, SECONDS(210) - 1);
    assert_int_equal(extent_pool_committed_bytes(fixture.pool), in_use);
    extent_pool_tend(fixture.pool, 2, SECONDS(210));
    assert_int_equal(extent_pool_idle_bytes(fixture.pool), 2 * EXTENT_BYTES);
    assert_int_equal(extent_pool_committed_bytes(fixture.pool), 3 * EXTENT_BYTES);
    fixture_deinit(&fixture);

    assert_int_equal(extent_pool_new(4 * EXTENT_BYTES, &small), 0);
    extent_pool_tend(small, 100, SECONDS(1));
    assert_int_equal(extent_pool_committed_bytes(small), 4 * EXTENT_BYTES);
    assert_int_equal(extent_pool_over(small), 0);
    assert_int_equal(extent_pool_limit_bytes(small), 4 * EXTENT_BYTES);
    extent_pool_free(small);
    extent_pool_free(NULL);
    extent_store_free(NULL);
}

/* A block that is asked for is given: over the limit is counted, and not kept idle afterwards. */
static void test_over(void **state)
{
    struct extent_pool *pool;
    struct extent_store *store;
    struct block *first = NULL;
    (void)state;

    assert_int_equal(extent_pool_new(2 * EXTENT_BYTES, &pool), 0);
    assert_int_equal(extent_store_new(pool, &store), 0);
    for (size_t i = 0; i < 4 * 512; i++) {
        struct block *block = block_new_class(store, BLOCK_CLASS_4096);

        assert_non_null(block);
        block->next = first;
        first = block;
    }
    assert_true(extent_pool_committed_bytes(pool) > 2 * EXTENT_BYTES);
    assert_int_equal(
        extent_pool_over(pool), extent_pool_committed_bytes(pool) / EXTENT_BYTES - 2);
    block_free_chain(store, first);
    extent_pool_tend(pool, 1, SECONDS(1));
    assert_int_equal(extent_pool_committed_bytes(pool), 2 * EXTENT_BYTES);
    extent_store_free(store);
    extent_pool_free(pool);
}

/* What is freed later is free at the latest when settled, and all of it. */
static void test_later(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture);
    for (unsigned chain = 0; chain < 200; chain++) {
        struct block *first = NULL;

        for (unsigned i = 0; i < chain % 37; i++) {
            struct block *block = block_new_class(fixture.store, i % BLOCK_CLASSES);

            paint(block, i);
            block->next = first;
            first = block;
        }
        block_free_chain_later(fixture.store, first);
        if (chain % 50 == 49) {
            extent_store_settle(fixture.store);
            assert_int_equal(extent_store_used_bytes(fixture.store), 0);
        } else if (chain % 50 > 20) { /* but few wait */
            assert_true(extent_store_used_bytes(fixture.store) < 20 * 36 * 4096);
        }
    }
    fixture_deinit(&fixture);
}

/* A rope's bytes come out in order, wherever it starts and ends. */
static void test_rope(void **state)
{
    struct fixture fixture;
    uint8_t text[10000], out[10000];
    (void)state;

    fixture_init(&fixture);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)draw(&fixture);
    for (uint32_t len = 0; len < sizeof(text); len += 1 + len / 5) {
        struct rope rope = rope_of(text, len / 3);
        struct block *first = NULL, **link = &first;
        size_t at = len / 3;

        rope.len = len;
        for (unsigned class_index = 0; at < len; class_index = (class_index + 1) % 3) {
            struct block *block = block_new_class(fixture.store, class_index);
            size_t n = size_min(block_capacity(block), len - at);

            memcpy(block->bytes, text + at, n);
            at += n;
            *link = block;
            link = &block->next;
        }
        rope.more = first;
        memset(out, 0xee, sizeof(out));
        rope_copy(&rope, out);
        assert_memory_equal(out, text, len);
        assert_true(len == sizeof(out) || out[len] == 0xee);
        block_free_chain(fixture.store, first);
    }
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes), cmocka_unit_test(test_random), cmocka_unit_test(test_churn),
        cmocka_unit_test(test_tend),    cmocka_unit_test(test_over),   cmocka_unit_test(test_later),
        cmocka_unit_test(test_rope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
