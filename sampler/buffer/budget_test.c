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

/* What is due, going up and down twice, against the marks of budget.h. */
struct marks {
    uint64_t full, refuse, on, off, spill_off;
    bool early, spill;
    bool deciding, spilling; /* so far */
};

static void check_rung(struct node *node, struct marks *marks, const char *what)
{
    uint64_t now = in_use(node);
    enum rung want;

    marks->deciding = marks->early && (now > marks->on || (marks->deciding && now > marks->off));
    marks->spilling = marks->spill && (now > marks->off || (marks->spilling && now > marks->spill_off));
    if (now > marks->refuse)
        want = RUNG_REFUSE;
    else if (marks->deciding)
        want = RUNG_DECIDE_EARLY;
    else
        want = marks->spilling ? RUNG_SPILL : RUNG_NONE;
    if (budget_rung(&node->budget) != want)
        fail_msg("%s: wrong rung at %llu MiB", what, (unsigned long long)(now / MIB));
    assert_int_equal(budget_deciding_early(&node->budget), marks->deciding);
    assert_int_equal(budget_spilling(&node->budget), marks->spilling);
    assert_int_equal(budget_handoff_room(&node->budget), u64_sub_floor(marks->full, now));
}

static void test_ladder(void **state)
{
    static const struct {
        const char *what;
        uint64_t limit_bytes;
        unsigned workers;
        bool early, spill, handoff;
        uint64_t reserve_bytes, step_bytes;
    } cases[] = {
        {"large", 512 * MIB, 2, true, false, false, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"a quarter is the most kept in reserve", 64 * MIB, 4, true, false, false, 16 * MIB, 2 * MIB},
        {"at_limit: refuse", 512 * MIB, 2, false, false, false, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"a journal", 512 * MIB, 2, true, true, false, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"at_limit: spill", 512 * MIB, 2, false, true, false, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"a cluster", 512 * MIB, 2, true, false, true, 2 * BLOCK_CLASSES * EXTENT_BYTES, 16 * MIB},
        {"all of it", 640 * MIB, 1, true, true, true, 1 * BLOCK_CLASSES * EXTENT_BYTES, 20 * MIB},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct marks marks = {.full = cases[i].limit_bytes - cases[i].reserve_bytes, .early = cases[i].early, .spill = cases[i].spill};
        struct node node;

        marks.refuse = marks.full - (cases[i].handoff ? cases[i].limit_bytes / 10 : 0);
        marks.on = marks.refuse - cases[i].step_bytes;
        marks.off = marks.on - cases[i].step_bytes;
        marks.spill_off = marks.off - cases[i].step_bytes;
        node_init(&node, cases[i].limit_bytes, cases[i].workers, cases[i].early);
        node.budget.spill_allowed = cases[i].spill;
        node.budget.handoff = cases[i].handoff;
        for (unsigned wave = 0; wave < 2; wave++) {
            while (in_use(&node) + EXTENT_BYTES <= cases[i].limit_bytes) {
                use_more(&node);
                check_rung(&node, &marks, cases[i].what);
            }
            while (node.blocks) {
                struct block *next = node.blocks->next;

                block_free(node.store, node.blocks);
                node.blocks = next;
                check_rung(&node, &marks, cases[i].what);
            }
        }
        node_deinit(&node);
    }
}

/* A full disk counts as memory does: first the oldest are decided, then clients and other nodes are refused. */
static void test_disk(void **state)
{
    static const struct {
        uint64_t room; /* of 320 */
        bool early;    /* allowed */
        enum rung want;
        bool handoff;
    } cases[] = {
        {320, true, RUNG_NONE, true}, {30, true, RUNG_NONE, true}, {29, true, RUNG_DECIDE_EARLY, true}, {39, true, RUNG_DECIDE_EARLY, true},
        {40, true, RUNG_NONE, true}, {20, true, RUNG_DECIDE_EARLY, true}, {9, true, RUNG_REFUSE, false}, {10, true, RUNG_DECIDE_EARLY, true},
        {29, false, RUNG_NONE, true}, {9, false, RUNG_REFUSE, false}, {40, false, RUNG_NONE, true},
    };
    struct node node;
    (void)state;

    node_init(&node, 512 * MIB, 1, true);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (node.budget.decide_early_allowed != cases[i].early) {
            node.budget.decide_early_allowed = cases[i].early;
            node.budget.deciding_early = false;
        }
        budget_disk(&node.budget, cases[i].room, 320);
        if (budget_rung(&node.budget) != cases[i].want)
            fail_msg("case %zu: wrong rung", i);
        assert_int_equal(budget_handoff_room(&node.budget) > 0, cases[i].handoff);
    }
    node_deinit(&node);
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
        node.budget.spill_allowed = node.budget.handoff = true;
        node.budget.deciding_early = node.budget.spilling = true;
        assert_int_equal(budget_rung(&node.budget), RUNG_NONE);
        assert_false(budget_deciding_early(&node.budget) || budget_spilling(&node.budget));
        for (unsigned i = 0; i < workers; i++)
            extent_store_free(stores[i]);
        node_deinit(&node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ladder),
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_least),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
