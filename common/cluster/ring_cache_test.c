/* Asked twice for the same names, a ring is made once and is the ring that ring_new makes; only so many are kept, and one
 * that was given out lives on when the cache has forgotten it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/cluster/ring_cache.h"

static struct ring *get(struct ring_cache *cache, const char *const *names, size_t count)
{
    struct ring *ring = NULL;

    assert_int_equal(ring_cache_get(cache, names, count, &ring), 0);
    assert_int_equal(ring->member_count, count);
    return ring;
}

static void the_same_names_make_one_ring(void **state)
{
    static const char *const ab[] = {"a", "b"}, *const abc[] = {"a", "b", "c"}, *const abd[] = {"a", "b", "d"};
    struct ring_member members[] = {{"b", 3}, {"a", 2}};
    struct ring_cache cache;
    struct ring *first, *second, *third, *again, *made;

    (void)state;
    ring_cache_init(&cache, RING_CACHE_ENTRIES);
    first = get(&cache, ab, 2);
    second = get(&cache, abc, 3);
    third = get(&cache, abd, 3);
    again = get(&cache, ab, 2);
    assert_ptr_equal(first, again);
    assert_ptr_not_equal(second, third);
    assert_int_equal(cache.misses, 3);
    assert_int_equal(cache.hits, 1);
    assert_int_equal(ring_new(members, 2, &made), 0);
    assert_memory_equal(made->owner, first->owner, sizeof(made->owner));
    ring_unref(made);
    ring_unref(first);
    ring_unref(again);
    ring_cache_deinit(&cache);
    assert_string_equal(second->names[2], "c"); /* ours still */
    ring_unref(second);
    ring_unref(third);
}

static void the_one_asked_for_longest_ago_goes(void **state)
{
    char text[RING_CACHE_ENTRIES + 1][8];
    const char *names[RING_CACHE_ENTRIES + 1];
    struct ring_cache cache;

    (void)state;
    ring_cache_init(&cache, RING_CACHE_ENTRIES);
    for (size_t i = 0; i <= RING_CACHE_ENTRIES; i++) {
        (void)snprintf(text[i], sizeof(text[i]), "m%zu", i);
        names[i] = text[i];
    }
    for (size_t i = 0; i < RING_CACHE_ENTRIES; i++)
        ring_unref(get(&cache, &names[i], 1));
    ring_unref(get(&cache, &names[0], 1)); /* asked for anew, so the next to go is the second */
    ring_unref(get(&cache, &names[RING_CACHE_ENTRIES], 1));
    assert_int_equal(cache.misses, RING_CACHE_ENTRIES + 1);
    ring_unref(get(&cache, &names[0], 1));
    assert_int_equal(cache.misses, RING_CACHE_ENTRIES + 1);
    ring_unref(get(&cache, &names[1], 1));
    assert_int_equal(cache.misses, RING_CACHE_ENTRIES + 2);
    ring_cache_deinit(&cache);
}

static void nobody_makes_no_ring(void **state)
{
    struct ring_cache cache;
    struct ring *ring = NULL;

    (void)state;
    ring_cache_init(&cache, RING_CACHE_ENTRIES);
    assert_int_equal(ring_cache_get(&cache, NULL, 0, &ring), RING_E_NO_MEMBERS);
    assert_null(ring);
    assert_null(cache.rings[0]);
    ring_cache_deinit(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_names_make_one_ring),
        cmocka_unit_test(the_one_asked_for_longest_ago_goes),
        cmocka_unit_test(nobody_makes_no_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
