/* The ladder: refuses before the limit is reached, decides early before that and until there is room again, and
 * never wedges: an empty node takes requests, with the smallest limit allowed. */
#include "sampler/buffer/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/num.h"

enum { BLOCKS_EACH = 511 };

struct node {
    struct extent_pool *pool;
    struct extent_store *store;
    struct budget budget;
    struct block *blocks;
};

static void node_init(struct node *node, uint64_t limit_bytes, unsigned workers, bool early)
{
    *node = (struct node){0};
    assert_int_equal(extent_pool_new(limit_bytes, &node->pool), 0);
    assert_int_equal(extent_store_new(node->pool, &node->store), 0);
    node->budget.pool = node->pool;
    node->budget.workers = workers;
    node->budget.decide_early_allowed = early;
}

static void node_deinit(struct node *node)
{
    block_free_chain(node->store, node->blocks);
    extent_store_free(node->store);
    extent_pool_free(node->pool);
}

/* Blocks are taken newest first and freed newest first, so whole extents come and go. */
static void use_more(struct node *node)
{
    for (unsigned i = 0; i < BLOCKS_EACH; i++) {
        struct block *block = block_new_class(node->store, BLOCK_CLASS_4096);

        block->next = node->blocks;
        node->blocks = block;
    }
}

static uint64_t in_use(const struct node *node)
{
    return extent_pool_committed_bytes(node->pool) - extent_pool_idle_bytes(node->pool);
}

static void test_ladder(void **state)
{
    static const struct {
        const char *what;
        uint64_t limit_bytes;
        unsigned workers;
        bool early;
        uint64_t reserve_bytes, step_bytes;
    } cases[] = {
        {"large", 512 * MIB, 2, true, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"a quarter is the most kept in reserve", 64 * MIB, 4, true, 16 * MIB, 2 * MIB},
        {"at_limit: refuse", 512 * MIB, 2, false, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t refuse = cases[i].limit_bytes - cases[i].reserve_bytes;
        uint64_t on = refuse - cases[i].step_bytes, off = on - cases[i].step_bytes;
        struct node node;
        bool early = false;

        node_init(&node, cases[i].limit_bytes, cases[i].workers, cases[i].early);
        for (unsigned wave = 0; wave < 2; wave++) {
            while (in_use(&node) + EXTENT_BYTES <= cases[i].limit_bytes) {
                enum rung want = RUNG_NONE;

                use_more(&node);
                if (in_use(&node) > on)
                    want = cases[i].early ? RUNG_DECIDE_EARLY : RUNG_NONE;
                if (in_use(&node) > refuse)
                    want = RUNG_REFUSE;
                if (budget_rung(&node.budget) != want)
                    fail_msg("%s: wrong rung going up at %llu MiB", cases[i].what,
                        (unsigned long long)(in_use(&node) / MIB));
                early = cases[i].early && in_use(&node) > on;
                assert_int_equal(budget_deciding_early(&node.budget), early);
            }
            while (node.blocks) {
                struct block *next = node.blocks->next;
                enum rung want;

                block_free(node.store, node.blocks);
                node.blocks = next;
                early = early && in_use(&node) > off;
                want = in_use(&node) > refuse ? RUNG_REFUSE : early ? RUNG_DECIDE_EARLY : RUNG_NONE;
                if (budget_rung(&node.budget) != want)
                    fail_msg("%s: wrong rung going down at %llu MiB", cases[i].what,
                        (unsigned long long)(in_use(&node) / MIB));
                assert_int_equal(budget_deciding_early(&node.budget), early);
            }
        }
        node_deinit(&node);
    }
}

/* What an empty node cannot give back must be under the point where it stops deciding early. */
static void test_least(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 64; workers *= 2) {
        struct extent_store *stores[64];
        struct node node;

        node_init(&node, budget_least_bytes(workers), workers, true);
        for (unsigned i = 0; i < workers; i++) {
            assert_int_equal(extent_store_new(node.pool, &stores[i]), 0);
            for (unsigned class_index = 0; class_index < BLOCK_CLASSES; class_index++)
                block_free(stores[i], block_new_class(stores[i], class_index));
        }
        node.budget.deciding_early = true;
        assert_int_equal(budget_rung(&node.budget), RUNG_NONE);
        assert_false(budget_deciding_early(&node.budget));
        for (unsigned i = 0; i < workers; i++)
            extent_store_free(stores[i]);
        node_deinit(&node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ladder),
        cmocka_unit_test(test_least),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
