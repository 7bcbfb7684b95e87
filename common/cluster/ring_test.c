/* A ring depends on its members' names alone, spreads slots evenly, and one change of a member moves only that
 * member's slots: to its fallback when it goes, to it alone when it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cluster/ring.h"

#define READY 2u
#define DRAINING 3u
#define NAME_SIZE 128
#ifdef __SANITIZE_THREAD__ /* one thread: there is nothing to find, and what takes seconds takes minutes */
#define THOROUGH 0
#else
#define THOROUGH 1
#endif

struct names { /* a list of members that tests make up */
    size_t count;
    char text[RING_MEMBERS_MAX + 1][NAME_SIZE];
    struct ring_member members[RING_MEMBERS_MAX + 1];
};

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 20;
}

static struct names *names_new(void)
{
    struct names *names = calloc(1, sizeof(*names));

    assert_non_null(names);
    return names;
}

static void names_add(struct names *names, const char *before, size_t number, const char *after)
{
    char *text = names->text[names->count];

    (void)snprintf(text, NAME_SIZE, "%s%zu%s", before, number, after);
    names->members[names->count++] = (struct ring_member){text, READY};
}

static struct names *names_numbered(const char *before, size_t count, const char *after)
{
    struct names *names = names_new();

    for (size_t i = 0; i < count; i++)
        names_add(names, before, i, after);
    return names;
}

/* Names of 1 to 40 random letters; all differ by their number. */
static struct names *names_random(uint64_t *seed, size_t count)
{
    struct names *names = names_new();

    for (size_t i = 0; i < count; i++) {
        char letters[48];
        size_t len = 1 + random_next(seed) % 40;

        for (size_t k = 0; k < len; k++)
            letters[k] = (char)('a' + random_next(seed) % 26);
        letters[len] = 0;
        names_add(names, letters, i, "");
    }
    return names;
}

static struct ring *ring_of(const struct names *names)
{
    struct ring *ring = NULL;

    assert_int_equal(ring_new(names->members, names->count, &ring), 0);
    return ring;
}

static double busiest_over_mean(const struct ring *ring)
{
    uint32_t most = 0, sum = 0;

    for (uint16_t member = 0; member < ring->member_count; member++) {
        uint32_t share = ring_share(ring, member);

        most = share > most ? share : most;
        sum += share;
    }
    assert_int_equal(sum, RING_SLOTS);
    return (double)most * ring->member_count / RING_SLOTS;
}

static void test_bounds(void **state)
{
    struct names *names = names_numbered("m", RING_MEMBERS_MAX + 1, "");
    struct ring *ring = (struct ring *)names; /* outputs only on success */

    (void)state;
    assert_int_equal(ring_new(names->members, 0, &ring), RING_E_NO_MEMBERS);
    assert_int_equal(ring_new(names->members, RING_MEMBERS_MAX + 1, &ring), RING_E_TOO_MANY);
    assert_ptr_equal(ring, names);
    free(names);
    ring_unref(NULL);
}

static void test_alone(void **state)
{
    struct names *names = names_numbered("only-", 1, "");
    struct ring *ring = ring_of(names);

    (void)state;
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        if (ring->owner[slot] != 0 || ring->fallback[slot] != RING_NONE)
            fail_msg("slot %u: owner %u, fallback %u", slot, ring->owner[slot], ring->fallback[slot]);
    }
    assert_int_equal(ring_rank(ring, 5, 0), 0);
    assert_int_equal(ring_rank(ring, 5, 1), RING_NONE);
    ring_unref(ring);
    free(names);
}

static void test_balance_of_numbered_pods(void **state)
{
    static const struct {
        const char *before, *after;
        double most_30, most_100; /* the law for sampler-N; five deviations of fair dice for the others */
    } cases[] = {
        {"sampler-", "", 1.03, 1.06},
        {"tailrace-sampler-", "", 1.05, 1.10},
        {"10.0.0.", ":4317", 1.05, 1.10},
        {"sampler-", ".sampler.observability.svc.cluster.local:4317", 1.05, 1.10},
        {"a", "", 1.05, 1.10},
    };
    static const size_t counts[] = {2, 3, 4, 5, 7, 10, 16, 23, 30};

    (void)state;
    for (size_t i = 0; i < (THOROUGH ? sizeof(cases) / sizeof(cases[0]) : 1); i++) {
        for (size_t k = 0; k <= sizeof(counts) / sizeof(counts[0]); k++) {
            bool large = k == sizeof(counts) / sizeof(counts[0]);
            size_t count = large ? 100 : counts[k];
            struct names *names = names_numbered(cases[i].before, count, cases[i].after);
            struct ring *ring = ring_of(names);
            double balance = busiest_over_mean(ring);

            if (balance > (large ? cases[i].most_100 : cases[i].most_30))
                fail_msg("%zu members %sN%s: %.4f", count, cases[i].before, cases[i].after, balance);
            ring_unref(ring);
            free(names);
        }
    }
}

/* Lists of arbitrary names scatter as fair dice would: the busiest of 30 shares of mean 8738 and deviation 92 is
 * below 1.03 nine times in ten and never at 1.05, five deviations out. */
static void test_balance_of_random_names(void **state)
{
    uint64_t seed = 2024;
    unsigned over = 0;

    (void)state;
    for (unsigned round = 0; round < (THOROUGH ? 40 : 2); round++) {
        struct names *names = names_random(&seed, 30);
        struct ring *ring = ring_of(names);
        double balance = busiest_over_mean(ring);

        over += balance > 1.03;
        if (balance > 1.05)
            fail_msg("round %u: %.4f", round, balance);
        ring_unref(ring);
        free(names);
    }
    assert_in_range(over, 0, 10);
}

static void test_order_of_names_does_not_matter(void **state)
{
    uint64_t seed = 7;
    struct names *names = names_random(&seed, 12);
    struct ring *ring = ring_of(names);

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        struct ring *shuffled;

        for (size_t i = names->count - 1; i > 0; i--) {
            size_t k = random_next(&seed) % (i + 1);
            struct ring_member member = names->members[i];

            names->members[i] = names->members[k];
            names->members[k] = member;
        }
        shuffled = ring_of(names);
        assert_true(shuffled->fingerprint == ring->fingerprint);
        assert_memory_equal(shuffled->owner, ring->owner, sizeof(ring->owner));
        assert_memory_equal(shuffled->fallback, ring->fallback, sizeof(ring->fallback));
        for (uint32_t i = 0; i < ring->member_count; i++) {
            assert_string_equal(shuffled->names[i], ring->names[i]);
            if (i > 0)
                assert_true(strcmp(ring->names[i - 1], ring->names[i]) < 0);
        }
        ring_unref(shuffled);
    }
    ring_unref(ring);
    free(names);
}

/* with: the ring of all names; without: of all but `name`. Looked at in this direction the change is a member that
 * goes, in the other one that comes. */
static void check_movement(const struct ring *with, const struct ring *without, const char *name)
{
    uint32_t moved = 0, fallbacks_moved = 0;
    double fair = (double)RING_SLOTS / with->member_count;

    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        const char *before = with->names[with->owner[slot]], *after = without->names[without->owner[slot]];
        const char *fallback = with->names[with->fallback[slot]];

        if (strcmp(before, name) == 0) {
            moved++;
            if (strcmp(after, fallback) != 0)
                fail_msg("slot %u went to %s and not to its fallback %s", slot, after, fallback);
        } else if (strcmp(before, after) != 0) {
            fail_msg("slot %u moved from %s to %s, neither is %s", slot, before, after, name);
        } else if (strcmp(fallback, name) == 0) {
            fallbacks_moved++;
        } else if (strcmp(fallback, without->names[without->fallback[slot]]) != 0) {
            fail_msg("slot %u: a fallback moved that is not %s", slot, name);
        }
    }
    /* A share has the deviation sqrt(fair): within five of them of 1/N. */
    if ((moved - fair) * (moved - fair) > 25 * fair)
        fail_msg("%u slots moved with %s, a fair share is %.0f", moved, name, fair);
    if ((fallbacks_moved - fair) * (fallbacks_moved - fair) > 25 * fair)
        fail_msg("%u fallbacks moved with %s, a fair share is %.0f", fallbacks_moved, name, fair);
}

static void test_one_change_moves_only_its_own_slots(void **state)
{
    static const size_t counts[] = {3, 4, 10, 30};
    uint64_t seed = 99;

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(counts) / sizeof(counts[0]); i++) {
        size_t count = counts[i / 2];
        struct names *names = i % 2 ? names_random(&seed, count) : names_numbered("sampler-", count, "");
        struct ring *with = ring_of(names), *without;
        size_t gone = random_next(&seed) % count;
        const char *name = names->members[gone].name;

        names->members[gone] = names->members[--names->count];
        without = ring_of(names);
        check_movement(with, without, name);
        ring_unref(with);
        ring_unref(without);
        free(names);
    }
}

static void test_ranks_agree_with_the_tables(void **state)
{
    static const size_t counts[] = {2, 3, 9};
    uint64_t seed = 5;

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct names *names = names_random(&seed, counts[i]);
        struct ring *ring = ring_of(names);

        for (uint32_t slot = 0; slot < RING_SLOTS; slot += 61) {
            uint64_t seen = 0;

            assert_int_not_equal(ring->owner[slot], ring->fallback[slot]);
            assert_int_equal(ring_rank(ring, slot, 0), ring->owner[slot]);
            assert_int_equal(ring_rank(ring, slot, 1), ring->fallback[slot]);
            for (unsigned rank = 0; rank < counts[i]; rank++) /* every member has exactly one rank */
                seen |= 1ull << ring_rank(ring, slot, rank);
            assert_int_equal(seen, (1ull << counts[i]) - 1);
            assert_int_equal(ring_rank(ring, slot, (unsigned)counts[i]), RING_NONE);
        }
        ring_unref(ring);
        free(names);
    }
}

static uint64_t fingerprint(const struct ring_member *members, size_t count)
{
    struct ring *ring = NULL;
    uint64_t print;

    assert_int_equal(ring_new(members, count, &ring), 0);
    print = ring->fingerprint;
    ring_unref(ring);
    return print;
}

static void test_fingerprint_tells_lists_apart(void **state)
{
    static const struct {
        const char *what;
        struct ring_member members[3];
        size_t count;
    } cases[] = {
        {"the first", {{"a", READY}, {"b", READY}, {"c", READY}}, 3},
        {"one less", {{"a", READY}, {"b", READY}}, 2},
        {"another name", {{"a", READY}, {"b", READY}, {"d", READY}}, 3},
        {"another state", {{"a", READY}, {"b", DRAINING}, {"c", READY}}, 3},
        {"another one's state", {{"a", DRAINING}, {"b", READY}, {"c", READY}}, 3},
        {"letters cut elsewhere", {{"ab", READY}, {"c", READY}}, 2},
        {"letters cut elsewhere again", {{"a", READY}, {"bc", READY}}, 2},
    };
    uint64_t prints[sizeof(cases) / sizeof(cases[0])];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        prints[i] = fingerprint(cases[i].members, cases[i].count);
        assert_true(prints[i] != 0);
        for (size_t k = 0; k < i; k++) {
            if (prints[i] == prints[k])
                fail_msg("%s = %s", cases[i].what, cases[k].what);
        }
    }
}

/* What this hash gives today. When this test fails, traces would be split while old and new nodes run side by side:
 * raise RING_HASH_VERSION, by which nodes refuse each other, and only then change these numbers. */
static void test_golden_values(void **state)
{
    static const struct {
        uint32_t slot;
        uint16_t owner, fallback, third;
    } slots[] = {
        {0, 1, 2, 0},
        {1, 0, 2, 1},
        {2, 2, 1, 0},
        {3, 0, 2, 1},
        {1000, 0, 2, 1},
        {77777, 0, 1, 2},
        {131072, 2, 1, 0},
        {200000, 1, 2, 0},
        {262143, 2, 1, 0},
    };
    static const struct {
        struct trace_id id;
        uint32_t slot;
    } traces[] = {
        {{{0}}, 213657},
        {{{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}}, 39882},
        {{{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}}, 116904},
    };
    struct names *names = names_numbered("sampler-", 3, "");
    struct ring *ring = ring_of(names);

    (void)state;
    assert_int_equal(RING_HASH_VERSION, 1);
    assert_int_equal(RING_SLOTS, 262144);
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        uint32_t slot = slots[i].slot;

        if (ring->owner[slot] != slots[i].owner || ring->fallback[slot] != slots[i].fallback ||
            ring_rank(ring, slot, 2) != slots[i].third)
            fail_msg("slot %u: %u %u %u", slot, ring->owner[slot], ring->fallback[slot], ring_rank(ring, slot, 2));
    }
    for (size_t i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
        if (ring_slot(&traces[i].id) != traces[i].slot)
            fail_msg("trace %zu: slot %u", i, ring_slot(&traces[i].id));
    }
    if (hash_bytes(ring->owner, sizeof(ring->owner)) != 0x6ceeb4ce55a2be93ull)
        fail_msg("table of owners: 0x%016llx", (unsigned long long)hash_bytes(ring->owner, sizeof(ring->owner)));
    if (ring->fingerprint != 0xc8219f517a64c2e5ull)
        fail_msg("fingerprint: 0x%016llx", (unsigned long long)ring->fingerprint);
    ring_unref(ring);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_balance_of_numbered_pods),
        cmocka_unit_test(test_balance_of_random_names),
        cmocka_unit_test(test_order_of_names_does_not_matter),
        cmocka_unit_test(test_one_change_moves_only_its_own_slots),
        cmocka_unit_test(test_ranks_agree_with_the_tables),
        cmocka_unit_test(test_fingerprint_tells_lists_apart),
        cmocka_unit_test(test_golden_values),
    };

    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
