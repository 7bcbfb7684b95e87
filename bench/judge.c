#include "bench/judge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/num.h"

/* -- the rule ---------------------------------------------------------------------------------------- */

static bool part_parse(struct rule *rule, char *part)
{
    char *end;

    if (strcmp(part, "errors") == 0) {
        rule->errors = true;
        return true;
    }
    if (strncmp(part, "latency>", 8) == 0) {
        rule->latency_set = true;
        rule->latency_ms = strtoll(part + 8, &end, 10);
        return end != part + 8 && *end == '\0';
    }
    if (strncmp(part, "tenant=tenant-", 14) == 0) {
        unsigned long tenant = strtoul(part + 14, &end, 10);

        if (end == part + 14 || *end || tenant >= MODEL_TENANTS || rule->tenant_count == RULE_TENANTS_MOST)
            return false;
        rule->tenants[rule->tenant_count++] = (uint32_t)tenant;
        return true;
    }
    if (strncmp(part, "percent=", 8) == 0) {
        double percent = strtod(part + 8, &end);
        const char *salt = "default-hash-seed"; /* the Collector's, when hash_salt is empty */
        /* The product rounded to 64 significant bits is what x87's format computes (tail_sampling `probabilistic`). */
        long double limit = (long double)UINT64_MAX * (long double)(percent / 100);

        if (end == part + 8 || (*end != '\0' && *end != ':') || percent < 0)
            return false;
        if (*end == ':')
            salt = end + 1;
        if (snprintf(rule->salt, sizeof(rule->salt), "%s", salt) >= (int)sizeof(rule->salt))
            return false;
        rule->percent_set = true;
        rule->percent_limit = percent >= 100 ? UINT64_MAX : (uint64_t)limit;
        return true;
    }
    return false;
}

bool rule_parse(struct rule *rule, const char *text)
{
    char copy[512], *save = NULL;
    unsigned parts = 0;

    *rule = (struct rule){0};
    rule->all = strcmp(text, "all") == 0;
    if (rule->all || strcmp(text, "none") == 0)
        return true;
    if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
        return false;
    for (char *part = strtok_r(copy, "|", &save); part; part = strtok_r(NULL, "|", &save), parts++) {
        if (!part_parse(rule, part))
            return false;
    }
    return parts > 0;
}

bool rule_keeps(const struct rule *rule, const struct model_trace *trace)
{
    if (rule->all || (rule->errors && trace->error_span != UINT32_MAX))
        return true;
    if (rule->latency_set && (int64_t)(trace->duration_ns / NS_PER_MS) > rule->latency_ms)
        return true;
    for (uint32_t i = 0; i < rule->tenant_count; i++) {
        if (rule->tenants[i] == trace->tenant)
            return true;
    }
    if (rule->percent_set) {
        uint64_t hash = hash_fnv1a(FNV1A_64_START, rule->salt, strlen(rule->salt));

        return hash_fnv1a(hash, trace->id.bytes, 16) <= rule->percent_limit;
    }
    return false;
}

/* -- a file of decisions ------------------------------------------------------------------------------ */

static int compare_lines(const void *a, const void *b)
{
    return memcmp(((const struct decision_line *)a)->id.bytes, ((const struct decision_line *)b)->id.bytes, 16);
}

static bool line_parse(const char *text, struct decision_line *line)
{
    char word[16];

    for (unsigned i = 0; i < 16; i++) {
        unsigned byte;

        if (sscanf(text + (size_t)i * 2, "%2x", &byte) != 1)
            return false;
        line->id.bytes[i] = (uint8_t)byte;
    }
    if (sscanf(text + 32, " %15s", word) != 1)
        return false;
    line->sampled = strcmp(word, "sampled") == 0;
    return line->sampled || strcmp(word, "not") == 0;
}

int decision_file_read(struct decision_file *file, const char *path)
{
    char text[256];
    uint64_t capacity = 0;
    FILE *in = fopen(path, "r");

    *file = (struct decision_file){0};
    if (!in)
        return -errno;
    while (fgets(text, sizeof(text), in)) {
        if (text[0] == '\n' || text[0] == '#')
            continue;
        if (file->count == capacity) {
            capacity = capacity * 2 + 1024;
            file->lines = realloc(file->lines, capacity * sizeof(*file->lines));
            ASSERT(file->lines);
        }
        if (strlen(text) < 36 || !line_parse(text, &file->lines[file->count])) {
            fclose(in);
            return -EINVAL;
        }
        file->count++;
    }
    fclose(in);
    if (file->count)
        qsort(file->lines, file->count, sizeof(*file->lines), compare_lines);
    return 0;
}

/* -- one trace ---------------------------------------------------------------------------------------- */

struct ends { /* what both ends of the wire say of one trace */
    uint64_t acknowledged, unknown, arrived, missing, invented, doubled, content, nodes;
    bool content_open;
};

static struct ends ends_of(const struct ledger *ledger, const struct arrivals *arrivals, const struct trace_id *id,
    uint64_t number, uint64_t *matched_groups)
{
    struct ends ends = {0};

    for (uint32_t group = 0; group < ledger->words; group++) {
        const struct arrival *arrival = arrivals_find(arrivals, id, group);
        uint64_t acknowledged = ledger->acknowledged[number * ledger->words + group];
        uint64_t unknown = ledger->unknown[number * ledger->words + group];
        uint64_t arrived = arrival ? arrival->arrived : 0;

        ends.acknowledged += (uint64_t)__builtin_popcountll(acknowledged);
        ends.unknown += (uint64_t)__builtin_popcountll(unknown);
        ends.arrived += (uint64_t)__builtin_popcountll(arrived);
        ends.missing += (uint64_t)__builtin_popcountll(acknowledged & ~arrived);
        ends.invented += (uint64_t)__builtin_popcountll(arrived & ~acknowledged & ~unknown);
        if (arrival) {
            ends.doubled += arrival->repeats;
            ends.content += arrival->content;
            ends.content_open |= arrival->content_open != 0;
            ends.nodes |= arrival->nodes;
            ends.invented += arrival->strangers;
            ++*matched_groups;
        }
    }
    return ends;
}

enum expectation { EXPECT_NOTHING, EXPECT_KEPT, EXPECT_DROPPED };

static enum expectation expectation_of(const struct rule *rule, const struct decision_file *file,
    const struct model_trace *trace, bool whole_acknowledged)
{
    struct decision_line key = {.id = trace->id};
    const struct decision_line *line = NULL;

    if (file && file->count)
        line = bsearch(&key, file->lines, file->count, sizeof(key), compare_lines);
    if (line)
        return line->sampled ? EXPECT_KEPT : EXPECT_DROPPED;
    if (file)
        return EXPECT_NOTHING;
    if (rule->all)
        return EXPECT_KEPT;
    /* Which spans the node had when it decided is unknown, and so is what it should have decided. */
    if (!whole_acknowledged)
        return EXPECT_NOTHING;
    return rule_keeps(rule, trace) ? EXPECT_KEPT : EXPECT_DROPPED;
}

static void show(const char *fault, uint64_t count, unsigned examples, const struct model_trace *trace,
    uint64_t number, const struct ends *ends)
{
    if (count >= examples)
        return;
    fprintf(stderr, "%s trace=", fault);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "%02x", trace->id.bytes[i]);
    fprintf(stderr, " number=%llu acknowledged=%llu unknown=%llu arrived=%llu missing=%llu doubled=%llu nodes=%d\n",
        (unsigned long long)number, (unsigned long long)ends->acknowledged, (unsigned long long)ends->unknown,
        (unsigned long long)ends->arrived, (unsigned long long)ends->missing, (unsigned long long)ends->doubled,
        __builtin_popcountll(ends->nodes));
}

static void judge_trace(const struct model_trace *trace, uint64_t number, const struct ends *ends,
    enum expectation expectation, bool altered, unsigned examples, struct judgement *j)
{
    bool two_nodes = (ends->nodes & (ends->nodes - 1)) != 0;

    if (ends->arrived == 0) {
        if (expectation == EXPECT_KEPT) {
            show("wrongly_dropped", j->wrongly_dropped, examples, trace, number, ends);
            j->wrongly_dropped++;
            j->lost += ends->missing;
        } else if (expectation == EXPECT_DROPPED) {
            j->rightly_dropped++;
        } else {
            j->absent_unjudged++;
        }
        return;
    }
    if (expectation == EXPECT_DROPPED) {
        show("wrongly_kept", j->wrongly_kept, examples, trace, number, ends);
        j->wrongly_kept++;
    }
    if (ends->missing) {
        show("partial", j->partial, examples, trace, number, ends);
        j->partial++;
        j->lost += ends->missing;
    }
    if (two_nodes) {
        show("split", j->split_by_node, examples, trace, number, ends);
        j->split_by_node++;
    }
    j->split += ends->missing || two_nodes;
    j->whole += !ends->missing && !two_nodes;
    if (altered) {
        show("altered", j->altered, examples, trace, number, ends);
        j->altered++;
    }
    if (ends->doubled)
        show("doubled", j->doubled, examples, trace, number, ends);
    j->doubled += ends->doubled;
}

void judge(const struct ledger *ledger, const struct arrivals *arrivals, const struct rule *rule,
    const struct decision_file *file, unsigned examples, struct judgement *j)
{
    for (uint64_t number = 0; number < ledger->trace_count; number++) {
        struct model_trace trace = model_trace(&ledger->model, number);
        struct ends ends = ends_of(ledger, arrivals, &trace.id, number, &j->matched_groups);
        bool whole = ends.acknowledged == ledger->model.spans_per_trace;
        enum expectation expectation = expectation_of(rule, file, &trace, whole);
        bool altered = ends.arrived == ledger->model.spans_per_trace && !ends.content_open &&
                       ends.content != ledger->content[number];

        j->acknowledged_spans += ends.acknowledged;
        j->unknown_spans += ends.unknown;
        j->arrived_spans += ends.arrived;
        j->unknown += ends.unknown > 0;
        if (ends.invented) {
            show("invented", j->invented, examples, &trace, number, &ends);
            j->invented += ends.invented;
        }
        if (ends.acknowledged == 0) { /* whatever arrived was not promised; twice is still twice */
            j->doubled += ends.doubled;
            continue;
        }
        j->traces++;
        j->unjudged += expectation == EXPECT_NOTHING;
        judge_trace(&trace, number, &ends, expectation, altered, examples, j);
    }
}

bool judgement_good(const struct judgement *j, const struct arrivals *arrivals)
{
    return j->traces > 0 && j->split + j->lost + j->doubled + j->wrongly_kept + j->wrongly_dropped + j->altered +
        j->invented + arrivals->malformed_requests + arrivals->invalid_spans == 0;
}
