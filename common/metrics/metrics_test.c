/* A page of metrics parses by the rules of the text format, one HELP and TYPE a name with all its
 * label sets under it; a program shows its own metrics and no others; sums take in every thread's
 * cells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics/metrics.h"

/* -- a strict reader of text format 0.0.4
 * ----------------------------------------------------------- */

struct sample {
    char name[128], labels[1024]; /* labels: as read, values still escaped */
    long long value;
    int is_counter;
};

struct page {
    struct sample samples[512];
    size_t count;
    char families[256][128];
    size_t family_count;
    char error[256];
};

static const char *take_name(const char *at, bool label, char *out, size_t size)
{
    size_t len = 0;

    while (isalpha((unsigned char)at[len]) || at[len] == '_' || (!label && at[len] == ':') ||
           (len > 0 && isdigit((unsigned char)at[len])))
        len++;
    if (len == 0 || len >= size)
        return NULL;
    memcpy(out, at, len);
    out[len] = '\0';
    return at + len;
}

static const char *take_literal(const char *at, const char *want)
{
    return strncmp(at, want, strlen(want)) == 0 ? at + strlen(want) : NULL;
}

/* {name="value",...}: values escape backslash, quote and line end, nothing else. */
static const char *take_labels(const char *at, char *out, size_t size)
{
    const char *from = at + 1;
    char name[128], seen[16][128];
    size_t seen_count = 0;

    do {
        at = take_name(at + 1, true, name, sizeof(name));
        if (!at || strncmp(name, "__", 2) == 0 || seen_count == ARRAY_COUNT(seen))
            return NULL;
        for (size_t i = 0; i < seen_count; i++)
            if (strcmp(seen[i], name) == 0)
                return NULL;
        strcpy(seen[seen_count++], name);
        at = take_literal(at, "=\"");
        if (!at)
            return NULL;
        while (*at != '"') {
            if (*at == '\0' || *at == '\n')
                return NULL;
            if (*at == '\\' && !strchr("\\\"n", *++at))
                return NULL;
            at++;
        }
        at++;
    } while (*at == ',');
    if (*at != '}' || (size_t)(at - from) >= size)
        return NULL;
    memcpy(out, from, (size_t)(at - from));
    out[at - from] = '\0';
    return at + 1;
}

static const char *parse_family(const char *at, struct page *page)
{
    char name[128], again[128];
    size_t first = page->count;
    int is_counter;

    if (!(at = take_literal(at, "# HELP ")) || !(at = take_name(at, false, name, sizeof(name))) ||
        !(at = take_literal(at, " ")))
        return NULL;
    if (*at == '\n')
        return NULL; /* an empty help helps nobody */
    for (; *at != '\n'; at++)
        if (*at == '\0' || (*at == '\\' && !strchr("\\n", *++at)))
            return NULL;
    if (!(at = take_literal(at, "\n# TYPE ")) ||
        !(at = take_name(at, false, again, sizeof(again))) || strcmp(name, again) != 0)
        return NULL;
    is_counter = take_literal(at, " counter\n") != NULL;
    at = take_literal(at, is_counter ? " counter\n" : " gauge\n");
    if (!at)
        return NULL;
    for (size_t i = 0; i < page->family_count; i++)
        if (strcmp(page->families[i], name) == 0)
            return NULL; /* a name comes once */
    strcpy(page->families[page->family_count++], name);

    while (*at && *at != '#') {
        struct sample *sample = &page->samples[page->count++];
        char *end;

        *sample = (struct sample){.is_counter = is_counter};
        if (!(at = take_name(at, false, sample->name, sizeof(sample->name))) ||
            strcmp(sample->name, name) != 0)
            return NULL;
        if (*at == '{' && !(at = take_labels(at, sample->labels, sizeof(sample->labels))))
            return NULL;
        if (!(at = take_literal(at, " ")) || isspace((unsigned char)*at))
            return NULL;
        sample->value = strtoll(at, &end, 10);
        if (end == at || *end != '\n' || (is_counter && *at == '-'))
            return NULL;
        at = end + 1;
        for (size_t i = first; i + 1 < page->count; i++)
            if (strcmp(page->samples[i].labels, sample->labels) == 0)
                return NULL; /* a label set comes once */
    }
    return page->count > first ? at : NULL;
}

static bool page_parse(const char *text, struct page *page)
{
    const char *at = text;

    page->count = page->family_count = 0;
    while (*at) {
        const char *next = parse_family(at, page);

        if (!next) {
            (void)snprintf(page->error, sizeof(page->error), "%.200s", at);
            return false;
        }
        at = next;
    }
    return true;
}

static const struct sample *page_find(const struct page *page, const char *name, const char *labels)
{
    for (size_t i = 0; i < page->count; i++)
        if (strcmp(page->samples[i].name, name) == 0 &&
            strcmp(page->samples[i].labels, labels) == 0)
            return &page->samples[i];
    return NULL;
}

/* -- tests
 * ------------------------------------------------------------------------------------------ */

static struct page page;

/* Whatever lines are added to metrics.def, they keep its rules. */
static void test_definitions(void **state)
{
    (void)state;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_info *info = &metric_infos[i];
        size_t len = strlen(info->name);
        bool total = len > 6 && strcmp(info->name + len - 6, "_total") == 0;
        bool ours = strncmp(info->name, "tailrace_", 9) == 0;

        if (!ours && strncmp(info->name, "otelcol_", 8) != 0)
            fail_msg("%s: starts with neither tailrace_ nor otelcol_", info->name);
        if (total != (info->kind == METRIC_KIND_COUNTER))
            fail_msg("%s: a counter ends with _total, others do not", info->name);
        if (info->tiers == 0 || (info->tiers > (METRICS_LB | METRICS_SAMPLER) && info->tiers != METRICS_SAMPLER_NAMED &&
            info->tiers != METRICS_LB_NAMED))
            fail_msg("%s: no program shows it", info->name);
        len = strlen(info->help);
        if (len == 0 || info->help[len - 1] != '.' || strchr(info->help, '|'))
            fail_msg("%s: help is a sentence that fits a table", info->name);
        for (size_t j = 0; j < i; j++) {
            const struct metric_info *other = &metric_infos[j];

            if (strcmp(info->name, other->name) != 0)
                continue;
            if (strcmp(metric_infos[i - 1].name, info->name) != 0)
                fail_msg("%s: lines of one name stand together in metrics.def", info->name);
            if (strcmp(info->labels, other->labels) == 0)
                fail_msg("%s{%s}: is there twice", info->name, info->labels);
            if (info->kind != other->kind || strcmp(info->help, other->help) != 0)
                fail_msg("%s: lines of one name have one kind and one help", info->name);
            if (!info->labels[0] || !other->labels[0])
                fail_msg("%s: a name has labels in all its lines or in none", info->name);
        }
    }
}

static void test_page_of_each_program(void **state)
{
    static const enum metrics_tier tiers[] = {METRICS_LB, METRICS_SAMPLER};
    struct metrics metrics;

    (void)state;
    assert_int_equal(metrics_init(&metrics, 3), 0);
    assert_int_equal(metrics.cell_count, 4);
    for (size_t id = 0; id < METRIC_COUNT; id++)
        for (unsigned cell = 0; cell < 4; cell++)
            metric_add(&metrics.cells[cell], (enum metric_id)id, 1000 * id + cell);

    for (size_t t = 0; t < ARRAY_COUNT(tiers); t++) {
        struct text text = {0};
        size_t shown = 0;

        metrics_write(&metrics, tiers[t], &text);
        assert_false(text.failed);
        if (!page_parse(text.at, &page))
            fail_msg("page of tier %d is broken at: %s", (int)tiers[t], page.error);
        for (size_t id = 0; id < METRIC_COUNT; id++) {
            const struct metric_info *info = &metric_infos[id];
            const struct sample *sample = page_find(&page, info->name, info->labels);
            bool wanted = (info->tiers & tiers[t]) != 0;

            if (wanted != (sample != NULL))
                fail_msg("%s{%s}: shown %d, tiers %u", info->name, info->labels, sample != NULL,
                    info->tiers);
            if (!sample)
                continue;
            shown++;
            assert_int_equal(sample->value, 4000 * (long long)id + 6);
            assert_int_equal(sample->is_counter, info->kind == METRIC_KIND_COUNTER);
        }
        assert_int_equal(shown, page.count);
        text_deinit(&text);
    }
    metrics_deinit(&metrics);
    metrics_deinit(&metrics);
}

/* A gauge moved up by one thread and down by another shows the difference, below zero too. */
static void test_gauge_across_cells(void **state)
{
    struct metrics metrics;
    struct text text = {0};

    (void)state;
    assert_int_equal(metrics_init(&metrics, 1), 0);
    metric_add(&metrics.cells[0], METRIC_REQUESTS_IN_FLIGHT, 5);
    metric_add(&metrics.cells[1], METRIC_REQUESTS_IN_FLIGHT, (uint64_t)0 - 7);
    metric_set(&metrics.cells[0], METRIC_STORE_LIMIT_BYTES, 100);
    metric_set(&metrics.cells[0], METRIC_STORE_LIMIT_BYTES, 30);
    assert_true(metrics_sum(&metrics, METRIC_REQUESTS_IN_FLIGHT) == (uint64_t)0 - 2);
    metrics_write(&metrics, METRICS_SAMPLER, &text);
    assert_true(page_parse(text.at, &page));
    assert_int_equal(page_find(&page, "tailrace_requests_in_flight", "")->value, -2);
    assert_int_equal(page_find(&page, "tailrace_store_limit_bytes", "")->value, 30);
    text_deinit(&text);
    metrics_deinit(&metrics);
}

static void test_escapes(void **state)
{
    static const struct {
        const char *value, *written;
    } cases[] = {
        {"plain", "policy=\"plain\""},
        {"", "policy=\"\""},
        {"a\"b\\c\nd", "policy=\"a\\\"b\\\\c\\nd\""},
        {"{x=\"y\"} 1\n# TYPE", "policy=\"{x=\\\"y\\\"} 1\\n# TYPE\""},
        {"\xc3\xa9\xff", "policy=\"\xc3\xa9\xef\xbf\xbd\""},
    };
    struct text text = {0};

    (void)state;
    metrics_write_head(&text, "some_total", METRIC_KIND_COUNTER, "A \"help\" with \\ and\nan end.");
    assert_string_equal(text.at,
        "# HELP some_total A \"help\" with \\\\ and\\nan end.\n# TYPE some_total counter\n");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        metrics_write_labeled(
            &text, "some_total", METRIC_KIND_COUNTER, "policy", cases[i].value, i);
    if (!page_parse(text.at, &page))
        fail_msg("broken at: %s", page.error);
    assert_int_equal(page.count, ARRAY_COUNT(cases));
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct sample *sample = page_find(&page, "some_total", cases[i].written);

        if (!sample || sample->value != (long long)i)
            fail_msg("case %zu: not there in: %s", i, text.at);
    }
    text_deinit(&text);
}

/* The reader above would notice: pages that break a rule are refused. */
static void test_reader_is_strict(void **state)
{
    static const char *const broken[] = {
        "a_total 1\n",
        "# HELP a x\n# TYPE a counter\n",
        "# HELP a x\n# TYPE b counter\nb 1\n",
        "# HELP a x\n# TYPE a counter\na 1",
        "# HELP a x\n# TYPE a counter\na 1\na 1\n",
        "# HELP a x\n# TYPE a counter\na{b=\"c\"} 1\na{b=\"c\"} 2\n",
        "# HELP a x\n# TYPE a counter\na -1\n",
        "# HELP a x\n# TYPE a counter\na{b=\"c\",b=\"d\"} 1\n",
        "# HELP a x\n# TYPE a counter\na{b=\"c\\t\"} 1\n",
        "# HELP a x\n# TYPE a counter\na{b=\"c} 1\n",
        "# HELP a x\n# TYPE a counter\na{} 1\n",
        "# HELP a x\n# TYPE a counter\na{0b=\"c\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\nb 1\n# HELP a x\n# TYPE a "
        "gauge\na 2\n",
        "# HELP a x\n# TYPE a gauge\na  1\n",
        "# HELP a x\\y\n# TYPE a gauge\na 1\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(broken); i++)
        if (page_parse(broken[i], &page))
            fail_msg("taken: %s", broken[i]);
    assert_true(page_parse("# HELP a x\n# TYPE a gauge\na{b=\"c\\\"\\\\\\n\",d=\"\"} -1\n", &page));
}

#define ADDS 20000

static void *add_many(void *cell)
{
    for (int i = 0; i < ADDS; i++)
        metric_add(cell, METRIC_REQUESTS, 3);
    return NULL;
}

/* Writers do not lock and readers read meanwhile: nothing is lost, and a sum never goes back. */
static void test_threads(void **state)
{
    struct metrics metrics;
    pthread_t threads[3];
    uint64_t last = 0;

    (void)state;
    assert_int_equal(metrics_init(&metrics, 2), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &metrics.cells[i]), 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t sum = metrics_sum(&metrics, METRIC_REQUESTS);

        assert_true(sum >= last && sum % 3 == 0);
        last = sum;
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metrics_sum(&metrics, METRIC_REQUESTS), 3 * 3 * ADDS);
    metrics_deinit(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_page_of_each_program),
        cmocka_unit_test(test_gauge_across_cells),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_reader_is_strict),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
