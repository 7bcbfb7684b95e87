#include "sampler/replay/replay_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/metrics/text.h"

/* -- rows --------------------------------------------------------------------------------------------- */

struct row {
    struct text text;
    bool json;
    const char *between;
};

/* kind: what the row is about; a trace's row has none. */
static void row_begin(struct row *row, const char *kind)
{
    text_clear(&row->text);
    if (row->json)
        text_append(&row->text, *kind ? "{\"%s\": {" : "{", kind);
    else
        text_append(&row->text, "%s", kind);
    row->between = row->json || !*kind ? "" : " ";
}

static void row_name(struct row *row, const char *name)
{
    text_append(&row->text, row->json ? "%s\"%s\": " : "%s%s=", row->between, name);
    row->between = row->json ? ", " : " ";
}

static bool is_plain(struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] <= ' ' || value.at[i] == '"' || value.at[i] == 0x7f)
            return false;
    return true;
}

static void row_text(struct row *row, const char *name, struct slice value)
{
    row_name(row, name);
    if (row->json || !is_plain(value))
        text_append_json(&row->text, value);
    else if (value.len == 0)
        text_append(&row->text, "-");
    else
        text_append_slice(&row->text, value);
}

static void row_number(struct row *row, const char *name, uint64_t value)
{
    row_name(row, name);
    text_append(&row->text, "%" PRIu64, value);
}

static void row_rate(struct row *row, const char *name, double value)
{
    row_name(row, name);
    text_append(&row->text, "%.3f", value);
}

static void row_end(struct row *row, bool has_kind, FILE *out)
{
    if (row->json)
        text_append(&row->text, has_kind ? "}}" : "}");
    text_append(&row->text, "\n");
    ASSERT(!row->text.failed);
    (void)fwrite(row->text.at, 1, row->text.len, out);
}

/* -- a trace ------------------------------------------------------------------------------------------ */

static bool is_kept(const struct replay_judged *judged)
{
    return judged->decided.decision == DECISION_SAMPLED;
}

static void row_trace_id(struct row *row, const struct trace_id *id)
{
    char hex[2 * sizeof(id->bytes) + 1];

    for (size_t i = 0; i < sizeof(id->bytes); i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id->bytes[i]);
    if (row->json)
        row_text(row, "trace_id", slice_text(hex));
    else
        text_append(&row->text, "%s ", hex);
}

/* The span that gave the credited policy's answer first, where it is still known (facts.h). */
static uint64_t evidence_span(const struct replay_judged *judged)
{
    for (uint16_t i = 0; i < judged->facts.evidence_count; i++)
        if (judged->facts.evidence[i].bit == judged->decided.evidence_bit)
            return judged->facts.evidence[i].span_id;
    return 0;
}

static void evidence_text(const struct policy_set *set, const struct replay_judged *judged, bool with_span, struct text *out)
{
    uint64_t span = evidence_span(judged);

    if (judged->too_large) {
        text_append(out, "the trace is larger than maximum_trace_size_bytes");
        return;
    }
    if (with_span && span != 0) {
        for (size_t i = 0; i < sizeof(span); i++)
            text_append(out, "%02x", ((const uint8_t *)&span)[i]);
        text_append(out, " ");
    }
    policy_set_explain(set, judged->decided.policy, judged->decided.evidence_bit, &judged->facts, out);
}

/* Text: the evidence ends the line and is not quoted, but for what would break it. */
static void row_evidence(struct row *row, const struct policy_set *set, const struct replay_judged *judged)
{
    struct text evidence = {0};
    uint64_t span = evidence_span(judged);

    evidence_text(set, judged, !row->json, &evidence);
    if (row->json) {
        row_text(row, "evidence", slice_make(evidence.at, evidence.len));
        if (span != 0) {
            row_name(row, "evidence_span_id");
            text_append(&row->text, "\"");
            for (size_t i = 0; i < sizeof(span); i++)
                text_append(&row->text, "%02x", ((const uint8_t *)&span)[i]);
            text_append(&row->text, "\"");
        }
    } else {
        for (size_t i = 0; i < evidence.len; i++)
            if ((unsigned char)evidence.at[i] < ' ')
                evidence.at[i] = ' ';
        row_name(row, "evidence");
        text_append(&row->text, "%s", evidence.len > 0 ? evidence.at : "-");
    }
    text_deinit(&evidence);
}

static void row_decision(struct row *row, const char *from, const char *to)
{
    if (!row->json) {
        text_append(&row->text, to ? "%s->%s " : "%s ", from, to);
        return;
    }
    row_text(row, "decision", slice_text(from));
    if (to)
        row_text(row, "other_decision", slice_text(to));
}

void replay_report_traces(const struct replay_report *report)
{
    struct row row = {.json = report->json};

    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++) {
        const struct replay_trace *trace = replay_traces_at(report->traces, i);
        const struct replay_judged *judged = &trace->sides[0];

        row_begin(&row, "");
        row_trace_id(&row, &trace->id);
        row_decision(&row, decision_name(judged->decided.decision), NULL);
        row_number(&row, "spans", judged->facts.spans_count);
        row_text(&row, "policy", slice_text(policy_set_name(report->sets[0], judged->decided.policy)));
        row_evidence(&row, report->sets[0], judged);
        row_end(&row, false, report->out);
    }
    text_deinit(&row.text);
}

/* -- totals ------------------------------------------------------------------------------------------- */

struct volume {
    uint64_t traces, spans, bytes;
};

static void volume_add(struct volume *volume, uint64_t spans, uint64_t bytes)
{
    volume->traces++;
    volume->spans += spans;
    volume->bytes += bytes;
}

static void row_volume(struct row *row, const char *const names[3], struct volume volume)
{
    row_number(row, names[0], volume.traces);
    row_number(row, names[1], volume.spans);
    row_number(row, names[2], volume.bytes);
}

static const char *const plain_names[3] = {"traces", "spans", "bytes"};
static const char *const kept_names[3] = {"kept_traces", "kept_spans", "kept_bytes"};
static const char *const other_names[3] = {"other_kept_traces", "other_kept_spans", "other_kept_bytes"};

static struct volume kept_volume(const struct replay_report *report, size_t side)
{
    struct volume volume = {0};

    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++) {
        const struct replay_judged *judged = &replay_traces_at(report->traces, i)->sides[side];

        if (is_kept(judged))
            volume_add(&volume, judged->facts.spans_count, judged->facts.bytes);
    }
    return volume;
}

static void report_totals(const struct replay_report *report, struct row *row)
{
    const struct replay_totals *totals = replay_traces_totals(report->traces);
    uint64_t counts[DECISION_ERROR + 1] = {0}, too_large = 0;

    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++) {
        counts[replay_traces_at(report->traces, i)->sides[0].decided.decision]++;
        too_large += replay_traces_at(report->traces, i)->sides[0].too_large;
    }
    row_begin(row, "summary");
    row_volume(row, plain_names, (struct volume){replay_traces_count(report->traces), totals->spans, totals->bytes});
    row_number(row, "sampled", counts[DECISION_SAMPLED]);
    row_number(row, "not_sampled", counts[DECISION_NOT_SAMPLED]);
    row_number(row, "dropped", counts[DECISION_DROPPED]);
    row_volume(row, kept_names, kept_volume(report, 0));
    row_number(row, "too_large_traces", too_large);
    row_number(row, "duplicate_spans", totals->duplicates);
    row_number(row, "rejected_spans", totals->rejected);
    row_end(row, true, report->out);
}

static void report_policies(const struct replay_report *report, struct row *row)
{
    size_t count = policy_set_count(report->sets[0]);
    struct volume *volumes = calloc(count + 1, sizeof(*volumes));

    ASSERT(volumes != NULL);
    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++) {
        const struct replay_judged *judged = &replay_traces_at(report->traces, i)->sides[0];

        if (judged->decided.policy < count)
            volume_add(&volumes[judged->decided.policy], judged->facts.spans_count, judged->facts.bytes);
    }
    for (uint16_t i = 0; i < count; i++) {
        row_begin(row, "policy");
        row_text(row, "name", slice_text(policy_set_name(report->sets[0], i)));
        row_volume(row, plain_names, volumes[i]);
        row_number(row, "voted_sampled", report->votes[0][i].sampled);
        row_number(row, "voted_dropped", report->votes[0][i].dropped);
        row_number(row, "errors", report->votes[0][i].errors);
        row_end(row, true, report->out);
    }
    free(volumes);
}

struct service_volume {
    uint32_t service;
    struct volume all, kept;
};

static void add_services(const struct replay_report *report, const struct replay_trace *trace, struct service_volume *volumes)
{
    const struct replay_share *share = replay_traces_share(report->traces, trace->share);

    for (; share; share = replay_traces_share(report->traces, share->next)) {
        volume_add(&volumes[share->service].all, share->spans, share->bytes);
        if (is_kept(&trace->sides[0]))
            volume_add(&volumes[share->service].kept, share->spans, share->bytes);
    }
}

static int compare_services(const void *a, const void *b, void *context)
{
    const struct replay_traces *traces = context;
    struct slice left = replay_traces_service(traces, ((const struct service_volume *)a)->service);
    struct slice right = replay_traces_service(traces, ((const struct service_volume *)b)->service);
    int order = memcmp(left.at, right.at, size_min(left.len, right.len));

    return order != 0 ? order : (left.len > right.len) - (left.len < right.len);
}

static void report_services(const struct replay_report *report, struct row *row)
{
    uint32_t count = replay_traces_service_count(report->traces);
    struct service_volume *volumes = calloc(count + 1, sizeof(*volumes));
    union {
        const struct replay_traces *borrowed;
        void *context;
    } traces = {report->traces};

    ASSERT(volumes != NULL);
    for (uint32_t i = 0; i < count; i++)
        volumes[i].service = i;
    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++)
        add_services(report, replay_traces_at(report->traces, i), volumes);
    qsort_r(volumes, count, sizeof(*volumes), compare_services, traces.context);
    for (uint32_t i = 0; i < count; i++) {
        row_begin(row, "service");
        row_text(row, "name", replay_traces_service(report->traces, volumes[i].service));
        row_volume(row, plain_names, volumes[i].all);
        row_volume(row, kept_names, volumes[i].kept);
        row_end(row, true, report->out);
    }
    free(volumes);
}

/* From the earliest start to the latest end that the spans say. */
static void report_forecast(const struct replay_report *report, struct row *row)
{
    const struct replay_totals *totals = replay_traces_totals(report->traces);
    double seconds = (double)u64_sub_floor(totals->last_unix_ns, totals->first_unix_ns) / (double)NS_PER_S;
    struct volume kept = kept_volume(report, 0);
    double a_second = seconds > 0 ? 1 / seconds : 0;

    row_begin(row, "forecast");
    row_rate(row, "seconds", totals->first_unix_ns > 0 ? seconds : 0);
    if (totals->first_unix_ns > 0 && seconds > 0) {
        row_rate(row, "spans_per_s", (double)totals->spans * a_second);
        row_rate(row, "bytes_per_s", (double)totals->bytes * a_second);
        row_rate(row, "kept_spans_per_s", (double)kept.spans * a_second);
        row_rate(row, "kept_bytes_per_s", (double)kept.bytes * a_second);
    }
    row_end(row, true, report->out);
}

void replay_report_summary(const struct replay_report *report)
{
    struct row row = {.json = report->json};

    report_totals(report, &row);
    report_policies(report, &row);
    report_services(report, &row);
    report_forecast(report, &row);
    text_deinit(&row.text);
}

/* -- two policy sets ---------------------------------------------------------------------------------- */

static void report_changed(const struct replay_report *report, struct row *row, const struct replay_trace *trace)
{
    const struct replay_judged *from = &trace->sides[0], *to = &trace->sides[1];
    const char *from_policy = policy_set_name(report->sets[0], from->decided.policy);
    const char *to_policy = policy_set_name(report->sets[1], to->decided.policy);

    row_begin(row, "");
    row_trace_id(row, &trace->id);
    row_decision(row, decision_name(from->decided.decision), decision_name(to->decided.decision));
    row_number(row, "spans", from->facts.spans_count);
    row_text(row, "policy", slice_text(from_policy));
    row_text(row, "other_policy", slice_text(to_policy));
    row_evidence(row, report->sets[is_kept(to)], &trace->sides[is_kept(to)]);
    row_end(row, false, report->out);
}

void replay_report_diff(const struct replay_report *report, bool with_traces)
{
    struct row row = {.json = report->json};
    uint64_t kept_now = 0, kept_no_longer = 0, not_kept_otherwise = 0, credited_otherwise = 0;

    for (uint64_t i = 0; i < replay_traces_count(report->traces); i++) {
        const struct replay_trace *trace = replay_traces_at(report->traces, i);
        const struct replay_judged *from = &trace->sides[0], *to = &trace->sides[1];
        bool same_decision = from->decided.decision == to->decided.decision;

        if (same_decision && strcmp(policy_set_name(report->sets[0], from->decided.policy),
                                 policy_set_name(report->sets[1], to->decided.policy)) == 0)
            continue;
        kept_now += !is_kept(from) && is_kept(to);
        kept_no_longer += is_kept(from) && !is_kept(to);
        not_kept_otherwise += !same_decision && !is_kept(from) && !is_kept(to);
        credited_otherwise += same_decision;
        if (with_traces)
            report_changed(report, &row, trace);
    }
    row_begin(&row, "diff");
    row_number(&row, "traces", replay_traces_count(report->traces));
    row_number(&row, "now_kept", kept_now);
    row_number(&row, "no_longer_kept", kept_no_longer);
    row_number(&row, "otherwise_not_kept", not_kept_otherwise);
    row_number(&row, "otherwise_credited", credited_otherwise);
    row_volume(&row, kept_names, kept_volume(report, 0));
    row_volume(&row, other_names, kept_volume(report, 1));
    row_end(&row, true, report->out);
    text_deinit(&row.text);
}
