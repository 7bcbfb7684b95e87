/* A slip is one edit, be it a swap; of the known words the nearest is meant, and none where all are far. */
#include "common/base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *a, *b;
    size_t distance, any_case;
} distances[] = {
    {"", "", 0, 0},
    {"", "abc", 3, 3},
    {"latency", "latency", 0, 0},
    {"latncy", "latency", 1, 1},
    {"latenccy", "latency", 1, 1},
    {"latancy", "latency", 1, 1},
    {"latecny", "latency", 1, 1},
    {"altecny", "latency", 2, 2},
    {"ca", "abc", 3, 3}, /* between two that were swapped nothing is put in */
    {"Latency", "latency", 1, 0},
    {"LATECNY", "latency", 7, 1},
    {"kitten", "sitting", 3, 3},
};

static void test_distances(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
        const char *a = distances[i].a, *b = distances[i].b;

        if (word_distance(a, b, false) != distances[i].distance || word_distance(b, a, false) != distances[i].distance)
            fail_msg("%s, %s: %zu, expected %zu", a, b, word_distance(a, b, false), distances[i].distance);
        if (word_distance(a, b, true) != distances[i].any_case)
            fail_msg("%s, %s in any case: %zu, expected %zu", a, b, word_distance(a, b, true), distances[i].any_case);
    }
}

static void test_too_long(void **state)
{
    char word[66];

    (void)state;
    memset(word, 'a', sizeof(word));
    word[65] = '\0';
    assert_true(word_distance(word, "a", false) == SIZE_MAX && word_distance("a", word, false) == SIZE_MAX);
    word[64] = '\0';
    assert_int_equal(word_distance(word, word, false), 0);
    assert_int_equal(word_distance("a", word, false), 63);
}

static const struct {
    const char *word, *found;
} searches[] = {
    {"latnecy", "latency"},
    {"stauts", "status"},
    {"state", "status"},
    {"probabilistics", "probabilistic"},
    {"and", "and"},
    {"adn", "and"},
    {"xyzzy", NULL},
    {"something_else", NULL},
};

static void test_searches(void **state)
{
    static const char *const known[] = {"latency", "status", "probabilistic", "and"};

    (void)state;
    for (size_t i = 0; i < sizeof(searches) / sizeof(searches[0]); i++) {
        struct nearest nearest = nearest_start(searches[i].word, false);

        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
            nearest_offer(&nearest, known[k]);
        if (nearest.found != searches[i].found && (!nearest.found || !searches[i].found || strcmp(nearest.found, searches[i].found) != 0))
            fail_msg("%s: %s, expected %s", searches[i].word, nearest.found ? nearest.found : "none",
                searches[i].found ? searches[i].found : "none");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distances),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_searches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
