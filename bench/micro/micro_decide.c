/* What decisions cost: a span's facts with ever more policies, beside the plain view of its bytes, in ns a span; and a
 * decision, in ns a trace.
 *
 * usage: micro_decide [--only NAME] [--spans N] [--repeat N]
 *
 * NAME is view, or policies, regexes, ottl or decide with a number of policies: policies-50 (`works` lists them). regexes-10 is ten
 * policies of which five ask by regex; regexes-1 and regexes-50 ask nothing else, each by a regex of its own over five keys. Texts
 * that come again are answered from memory, as in life; --spans 100000 makes more of them than it holds. With --only and
 * --repeat the work is fixed and nothing is timed: for instruction counts (tests/cost). `view` is span_view_read, which policies cannot go below.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/cleanup.h"
#include "common/config/yaml.h"
#include "common/otlp/span_walk.h"
#include "sampler/decide/policy_set.h"
#include "tests/kit/otlp_build.h"
#include "tests/kit/fifty_policies.h"
#include "tests/kit/ten_policies.h"

#define SPANS_PER_TRACE 15
#define ROUNDS 9 /* the best counts: the machine's other work only ever adds */
#define ROUND_NS 50000000ull

static const char policies_1[] = "policies:\n"
                                 "  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n";

static const char regexes_10[] =
    "policies:\n"
    "  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n"
    "  - {name: slow, type: latency, latency: {threshold_ms: 5000}}\n"
    "  - {name: share, type: probabilistic, probabilistic: {sampling_percentage: 1}}\n"
    "  - {name: writes, type: string_attribute, string_attribute: {key: http.request.method, values: [PUT, DELETE]}}\n"
    "  - {name: pay, type: string_attribute, string_attribute: {key: url.path, values: ['^/pay(/.*)?$'], enabled_regex_matching: true}}\n"
    "  - {name: admin, type: string_attribute, string_attribute: {key: url.path, values: ['^/admin/'], enabled_regex_matching: true}}\n"
    "  - {name: ids, type: string_attribute, string_attribute: {key: http.route, values: ['\\d{12}'], enabled_regex_matching: true}}\n"
    "  - {name: tenants, type: string_attribute, string_attribute: {key: tenant.id, values: [gold, silver, bronze]}}\n"
    "  - {name: services, type: string_attribute, string_attribute: {key: service.name, values: ['^pay-'], enabled_regex_matching: true}}\n"
    "  - {name: hosts, type: string_attribute, string_attribute: {key: server.address, values: ['\\.internal$'], enabled_regex_matching: true}}\n";

static const char ottl_10[] =
    "policies:\n"
    "  - {name: errors, type: ottl_condition, ottl_condition: {span: ['span.status.code == STATUS_CODE_ERROR']}}\n"
    "  - {name: slow, type: ottl_condition, ottl_condition: {span: ['span.end_time - span.start_time > Duration(\"5s\")']}}\n"
    "  - {name: http, type: ottl_condition, ottl_condition: {span: ['span.attributes[\"http.response.status_code\"] >= 500']}}\n"
    "  - {name: writes, type: ottl_condition, ottl_condition: {span: ['span.attributes[\"http.request.method\"] == \"PUT\" or span.attributes[\"http.request.method\"] == \"DELETE\"']}}\n"
    "  - {name: pay, type: ottl_condition, ottl_condition: {span: ['resource.attributes[\"service.name\"] == \"pay\" and IsRootSpan()']}}\n"
    "  - {name: paths, type: ottl_condition, ottl_condition: {span: ['IsMatch(span.attributes[\"url.path\"], \"^/pay(/.*)?$\")']}}\n"
    "  - {name: names, type: ottl_condition, ottl_condition: {span: ['IsMatch(span.name, \"^(POST|PUT) /admin\")']}}\n"
    "  - {name: tenants, type: ottl_condition, ottl_condition: {span: ['span.attributes[\"tenant.id\"] != nil and span.kind == SPAN_KIND_SERVER']}}\n"
    "  - {name: hosts, type: ottl_condition, ottl_condition: {span: ['HasSuffix(String(span.attributes[\"server.address\"]), \".internal\")']}}\n"
    "  - {name: raised, type: ottl_condition, ottl_condition: {spanevent: ['spanevent.name == \"exception\" and spanevent.attributes[\"exception.type\"] == \"Fatal\"']}}\n";

static const char regexes_1[] =
    "policies:\n"
    "  - {name: pay, type: string_attribute, string_attribute: {key: url.path, values: ['^/pay(/.*)?$'], enabled_regex_matching: true}}\n";

static const char ottl_1[] =
    "policies:\n"
    "  - {name: http, type: ottl_condition, ottl_condition: {span: ['span.attributes[\"http.response.status_code\"] >= 500']}}\n";

static char regexes_50[16384], ottl_50[32768], policies_50[16384]; /* made at the start */

/* What a policy asks: the same words each time, about another number. */
struct asks {
    const char *key, *before, *after;
};

/* Fifty regexes, no two alike, over keys that spans of otlp_realistic carry. */
static void regexes_50_text(char *out, size_t size)
{
    static const struct asks asks[] = {
        {"url.path", "^/r", "/[a-z]+(/.*)?$"},
        {"http.route", "(?i)item-?", "\\d{3}"},
        {"service.name", "^(pay|cart|shop)", "-"},
        {"server.address", "\\.zone", "\\.internal$"},
        {"http.request.method", "^x", "[A-Z]{3,}$"},
    };
    size_t len = (size_t)snprintf(out, size, "policies:\n");

    for (unsigned i = 0; i < 50 && len < size; i++) {
        const struct asks *ask = &asks[i % ARRAY_COUNT(asks)];

        len += (size_t)snprintf(out + len, size - len,
            "  - {name: r%u, type: string_attribute, string_attribute: {key: %s, values: ['%s%u%s'], enabled_regex_matching: true}}\n",
            i, ask->key, ask->before, i, ask->after);
    }
}

/* Fifty conditions in ten shapes, no two alike. */
static void ottl_50_text(char *out, size_t size)
{
    static const struct asks asks[] = {
        {NULL, "span.attributes[\"http.response.status_code\"] >= ", ""},
        {NULL, "span.end_time - span.start_time > Duration(\"", "s\")"},
        {NULL, "span.attributes[\"http.request.method\"] == \"M", "\""},
        {NULL, "resource.attributes[\"service.name\"] == \"pay", "\" and IsRootSpan()"},
        {NULL, "IsMatch(span.attributes[\"url.path\"], \"^/pay", "(/.*)?$\")"},
        {NULL, "IsMatch(span.name, \"^(POST|PUT) /admin", "\")"},
        {NULL, "span.attributes[\"tenant.id\"] == ", " and span.kind == SPAN_KIND_SERVER"},
        {NULL, "HasSuffix(String(span.attributes[\"server.address\"]), \".zone", "\")"},
        {NULL, "span.attributes[\"http.route\"] == \"/r", "\" or span.status.code == STATUS_CODE_ERROR"},
        {NULL, "Len(span.attributes[\"url.path\"]) > ", "00"},
    };
    size_t len = (size_t)snprintf(out, size, "policies:\n");

    for (unsigned i = 0; i < 50 && len < size; i++) {
        const struct asks *ask = &asks[i % ARRAY_COUNT(asks)];

        len += (size_t)snprintf(out + len, size - len,
            "  - {name: o%u, type: ottl_condition, ottl_condition: {span: ['%s%u%s']}}\n", i, ask->before, 500 + i, ask->after);
    }
}

struct work {
    struct slice *spans;
    struct hits *header_hits; /* of each span's header, for the set at hand */
    struct span_header *headers;
    uint32_t *header_of;
    size_t span_count, header_count;
    struct policy_set *set;
    struct predicate_scratch *scratch;
    uint64_t sum; /* of something read, so that no work can be left out */
};

typedef void work_run(struct work *work);

static void run_view(struct work *work)
{
    struct span_view view;

    for (size_t i = 0; i < work->span_count; i++)
        if (span_view_read(work->spans[i], NULL, NULL, &view))
            work->sum += view.end_unix_ns - view.start_unix_ns;
}

static void run_facts(struct work *work)
{
    const struct predicates *predicates = policy_set_predicates(work->set);
    struct facts facts = {0};

    for (size_t i = 0; i < work->span_count; i++) {
        struct span_facts span;
        struct span_view view;

        if (i % SPANS_PER_TRACE == 0) {
            work->sum += facts.max_end_unix_ns + facts.hits.words[0];
            facts = (struct facts){0};
        }
        if (predicates_span(predicates, work->scratch, &work->headers[work->header_of[i]], work->spans[i], &view, &span))
            facts_fold(&facts, &span, &work->header_hits[work->header_of[i]], (uint32_t)work->spans[i].len);
    }
    work->sum += facts.spans_count;
}

/* A decision for each span's ID over the facts of one trace: ns a trace. */
static void run_decide(struct work *work)
{
    struct facts facts = {.min_start_unix_ns = 1, .max_end_unix_ns = 2, .spans_count = SPANS_PER_TRACE};

    for (size_t i = 0; i < work->span_count; i++) {
        struct trace_id id = otlp_trace_id(i);

        work->sum += policy_set_decide(work->set, &(struct verdict_input){.trace_id = &id, .facts = &facts}).decision;
    }
}

static const struct {
    const char *name, *policies;
    work_run *run;
} works[] = {
    {"view", "policies: []\n", run_view},
    {"policies-0", "policies: []\n", run_facts},
    {"policies-1", policies_1, run_facts},
    {"policies-10", TEN_POLICIES, run_facts},
    {"policies-50", policies_50, run_facts},
    {"regexes-1", regexes_1, run_facts},
    {"regexes-10", regexes_10, run_facts},
    {"regexes-50", regexes_50, run_facts},
    {"ottl-1", ottl_1, run_facts},
    {"ottl-10", ottl_10, run_facts},
    {"ottl-50", ottl_50, run_facts},
    {"decide-1", policies_1, run_decide},
    {"decide-10", TEN_POLICIES, run_decide},
    {"decide-50", policies_50, run_decide},
};

static void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (!memory)
        abort();
    return memory;
}

static void work_init(struct work *work, struct otlp_build *build, size_t spans)
{
    struct span_walk walk;
    struct span_ref span;

    otlp_realistic(build, 1, spans, SPANS_PER_TRACE, 5);
    work->spans = must_alloc(spans, sizeof(*work->spans));
    work->header_of = must_alloc(spans, sizeof(*work->header_of));
    work->headers = must_alloc(spans + 1, sizeof(*work->headers));
    work->header_hits = must_alloc(spans + 1, sizeof(*work->header_hits));
    span_walk_init(&walk, otlp_slice(build));
    while (span_walk_next(&walk, &span)) {
        if (span.fault != SPAN_OK)
            abort();
        work->headers[span.header_index] = *span.header;
        work->header_of[work->span_count] = span.header_index;
        work->spans[work->span_count++] = span.bytes;
        work->header_count = span.header_index;
    }
    if (walk.bad || work->span_count != spans)
        abort();
}

static void work_use(struct work *work, const char *policies)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "micro_decide", policies, strlen(policies));

    predicate_scratch_free(work->scratch);
    policy_set_unref(work->set);
    if (!root || policy_set_new(context, config_node_get(root, "policies"), false, 1, &work->set) != 0) {
        fprintf(stderr, "%s\n", config_errors(context));
        exit(1);
    }
    config_context_free(context);
    work->scratch = predicate_scratch_new(policy_set_predicates(work->set));
    if (!work->scratch)
        abort();
    for (size_t i = 1; i <= work->header_count; i++)
        if (!predicates_header(policy_set_predicates(work->set), work->scratch, &work->headers[i], &work->header_hits[i]))
            abort();
}

static void work_deinit(struct work *work)
{
    predicate_scratch_free(work->scratch);
    policy_set_unref(work->set);
    free(work->spans);
    free(work->header_of);
    free(work->headers);
    free(work->header_hits);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double best_ns(struct work *work, work_run *run)
{
    double best = 1e300;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t start = now_ns(), end, runs = 0;

        do {
            run(work);
            runs++;
            end = now_ns();
        } while (end - start < ROUND_NS);
        if ((double)(end - start) / (double)runs < best)
            best = (double)(end - start) / (double)runs;
    }
    return best / (double)work->span_count;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    size_t spans = 300;
    unsigned long repeat = 0;
    struct otlp_build build = {0};
    struct work work = {0};
    double view = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
        else if (strcmp(argv[i], "--spans") == 0)
            spans = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--repeat") == 0)
            repeat = strtoul(argv[i + 1], NULL, 10);
        else
            return 2;
    }
    fifty_policies_text(policies_50, sizeof(policies_50));
    regexes_50_text(regexes_50, sizeof(regexes_50));
    ottl_50_text(ottl_50, sizeof(ottl_50));
    work_init(&work, &build, spans);
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        if (only && strcmp(only, works[i].name) != 0)
            continue;
        work_use(&work, works[i].policies);
        works[i].run(&work); /* caches are warm from here */
        if (repeat > 0) {
            for (unsigned long n = 0; n < repeat; n++)
                works[i].run(&work);
            printf("%s: %lu times %zu spans\n", works[i].name, repeat, work.span_count);
        } else {
            double ns = best_ns(&work, works[i].run);

            if (i == 0)
                view = ns;
            printf("%-12s %7.1f ns a %s", works[i].name, ns, works[i].run == run_decide ? "trace" : "span");
            if (works[i].run == run_facts && view > 0)
                printf("  (%+.1f over view)", ns - view);
            printf("\n");
        }
    }
    printf("checksum %" PRIx64 "\n", work.sum);
    work_deinit(&work);
    otlp_build_deinit(&build);
    return 0;
}
