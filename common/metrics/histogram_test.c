/* What is noted is counted in the buckets of its size, in Prometheus' text. */
#include "common/metrics/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/base/num.h"

#define MS NS_PER_MS

/* Each time is in the first bucket whose bound it does not exceed and in all above it, and in sum and count. */
static void test_buckets(void **state)
{
    static const struct {
        uint64_t took_ns;
        const char *want; /* counts up to each bound, then of all */
        const char *sum;
    } cases[] = { /* each adds to those before */
        {0, "1 1 1 1 1 1 1 1 1 1 1", "0.000000"},
        {5 * MS, "2 2 2 2 2 2 2 2 2 2 2", "5.000000"},
        {5 * MS + 1, "2 3 3 3 3 3 3 3 3 3 3", "10.000001"},
        {50 * MS, "2 3 3 4 4 4 4 4 4 4 4", "60.000001"},
        {5000 * MS, "2 3 3 4 4 4 4 4 4 5 5", "5060.000001"},
        {5000 * MS + 1, "2 3 3 4 4 4 4 4 4 5 6", "10060.000002"},
    };
    static const char *const les[] = {"5", "10", "20", "50", "100", "200", "500", "1000", "2000", "5000", "+Inf"};
    struct histogram histogram = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct text got = {0}, want = {0};
        const char *at = cases[i].want;
        char *end;

        histogram_note(&histogram, cases[i].took_ns);
        histogram_write(&histogram, &got, "took", "endpoint", "a\"b");
        for (size_t k = 0; k < ARRAY_COUNT(les); k++, at = end)
            text_append(&want, "took_bucket{endpoint=\"a\\\"b\",le=\"%s\"} %ld\n", les[k], strtol(at, &end, 10));
        text_append(&want, "took_sum{endpoint=\"a\\\"b\"} %s\ntook_count{endpoint=\"a\\\"b\"} %zu\n", cases[i].sum, i + 1);
        if (strcmp(got.at, want.at) != 0)
            fail_msg("after %llu ns:\n%swanted:\n%s", (unsigned long long)cases[i].took_ns, got.at, want.at);
        text_deinit(&got);
        text_deinit(&want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
