#include "tests/sim/oracle.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "sampler/decide/policy_set.h"
#include "sampler/journal/journal.h"
#include "sampler/sampler_worker.h"
#include "tests/kit/otlp_build.h"
#include "tests/sim/fleet.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"

#define CAUSES_MAX 512u
#define SUSPICIONS_MAX 200u
#define RECORD_LATE_NS (3 * NS_PER_S) /* an `exported` record may be that late: nothing waits for it */
#define VERDICT_LATE_NS (1 * NS_PER_S) /* … and a verdict; but nothing is exported before it is written */
#define VERSION_LATE_NS (1 * NS_PER_S) /* until each worker has gone over to new policies */
#define TERMS_MAX 2000u
#define ALWAYS UINT64_MAX

struct oracle oracle;

struct caused {
    enum cause cause;
    uint64_t from_ns, to_ns;
};
static struct caused caused[CAUSES_MAX];
static unsigned caused_count;

/* What looks broken now: whether a cause explains it is only known later, as some are found by their counters. */
struct suspicion {
    unsigned causes;
    uint64_t from_ns, to_ns;
    char text[200];
};
static struct suspicion suspicions[SUSPICIONS_MAX];
static unsigned suspicion_count;

/* When a node had which policies. */
struct term {
    const struct node *node;
    unsigned version;
    uint64_t from_ns, to_ns;
};
static struct term terms[TERMS_MAX];
static unsigned term_count;

struct export {
    const struct node *by;
    unsigned life, backend;
    uint64_t sent_ns, ended_ns;
    int code; /* -1: under way */
    bool died; /* who sent it died before its outcome was surely written down */
};
static struct export *exports;
static size_t export_count, export_capacity;

static const char *const cause_texts[] = {"away_long", "memory_lost", "cut", "cut_long", "overran", "two_faults", "forgot", "timed_out",
    "nobody_ready", "apart"};

void oracle_begin(void)
{
    memset(&oracle, 0, sizeof(oracle));
    caused_count = suspicion_count = term_count = 0;
    export_count = 0;
}

void oracle_end(void)
{
    sim_free(exports);
    exports = NULL;
    export_count = export_capacity = 0;
}

/* -- causes ---------------------------------------------------------------------------------------------------------------------- */

void oracle_cause(enum cause cause, uint64_t from_ns, uint64_t to_ns)
{
    static_assert(ARRAY_COUNT(cause_texts) == CAUSE_COUNT, "a text a cause");
    for (unsigned i = 0; i < caused_count; i++) { /* one that goes on */
        if (caused[i].cause == cause && caused[i].from_ns <= to_ns && caused[i].to_ns + NS_PER_S >= from_ns) {
            caused[i].from_ns = u64_min(caused[i].from_ns, from_ns);
            caused[i].to_ns = u64_max(caused[i].to_ns, to_ns);
            return;
        }
    }
    story(NULL, "condition broken: %s", cause_texts[cause]);
    ASSERT(caused_count < CAUSES_MAX);
    caused[caused_count++] = (struct caused){cause, from_ns, to_ns};
}

#define BIT(cause) (1u << (cause))
/* What of section 8 must hold for each promise. */
#define BREAKS_ONE_VERDICT                                                                                              \
    (BIT(CAUSE_AWAY_LONG) | BIT(CAUSE_MEMORY_LOST) | BIT(CAUSE_CUT_LONG) | BIT(CAUSE_FORGOT) | BIT(CAUSE_TIMED_OUT) |   \
        BIT(CAUSE_NOBODY_READY) | BIT(CAUSE_APART))
#define BREAKS_SAW_ALL (BREAKS_ONE_VERDICT | BIT(CAUSE_CUT) | BIT(CAUSE_OVERRAN) | BIT(CAUSE_TWO_FAULTS))
#define BREAKS_NO_LOSS (BIT(CAUSE_MEMORY_LOST) | BIT(CAUSE_APART))

static bool explained(unsigned causes, uint64_t from_ns, uint64_t to_ns)
{
    for (unsigned i = 0; i < caused_count; i++) {
        if ((causes & BIT(caused[i].cause)) && caused[i].from_ns <= to_ns && caused[i].to_ns >= from_ns) {
            oracle.explained++;
            return true;
        }
    }
    return false;
}

static void suspect(unsigned causes, uint64_t from_ns, const char *format, ...) PRINTF_LIKE(3, 4);
static void suspect(unsigned causes, uint64_t from_ns, const char *format, ...)
{
    struct suspicion *suspicion = &suspicions[suspicion_count];
    va_list arguments;

    if (suspicion_count == SUSPICIONS_MAX)
        return; /* the others say it */
    suspicion_count++;
    *suspicion = (struct suspicion){.causes = causes, .from_ns = from_ns, .to_ns = world.now_ns};
    va_start(arguments, format);
    (void)vsnprintf(suspicion->text, sizeof(suspicion->text), format, arguments);
    va_end(arguments);
    story(NULL, "BROKEN, unless it was caused: %s", suspicion->text);
}

static void suspicions_judge(void)
{
    for (unsigned i = 0; i < suspicion_count; i++)
        if (!explained(suspicions[i].causes, suspicions[i].from_ns, suspicions[i].to_ns))
            broken("%s", suspicions[i].text);
}

static uint64_t trace_began_ns(const struct sim_trace *trace)
{
    uint64_t began_ns = ALWAYS;

    for (unsigned i = 0; i < trace->span_count; i++)
        if (trace->spans[i].sent_ns > 0)
            began_ns = u64_min(began_ns, trace->spans[i].sent_ns);
    return began_ns;
}

/* -- what happens to spans ----------------------------------------------------------------------------------------------------------- */

void oracle_sent(struct sim_trace *trace, unsigned span)
{
    if (trace->spans[span].sent_ns == 0) {
        trace->spans[span].sent_ns = world.now_ns;
        oracle.spans_sent++;
    }
}

void oracle_acked(struct sim_trace *trace, unsigned span)
{
    if (trace->spans[span].acked_ns == 0) {
        trace->spans[span].acked_ns = world.now_ns;
        oracle.spans_acked++;
        story("clients", "trace %llu span %u is acknowledged", (unsigned long long)trace->number, span);
    }
}

static struct sim_trace *trace_find(const struct trace_id *id)
{
    for (unsigned i = 0; i < oracle.trace_count; i++)
        if (memcmp(&oracle.traces[i].id, id, sizeof(*id)) == 0)
            return &oracle.traces[i];
    return NULL;
}

uint64_t oracle_export_begins(const struct node *by, unsigned backend, uint64_t sent_ns)
{
    if (export_count == export_capacity) {
        export_capacity = export_capacity ? 2 * export_capacity : 256;
        exports = sim_realloc(exports, export_capacity * sizeof(exports[0]));
    }
    exports[export_count] = (struct export){.by = by, .life = by->lives, .backend = backend, .sent_ns = sent_ns, .code = -1};
    return export_count++;
}

void oracle_export_ended(uint64_t number, int code)
{
    struct export *export = &exports[number];

    if (export->code == -1) {
        export->code = code;
        export->ended_ns = world.now_ns;
    }
}

void oracle_died(const struct node *node)
{
    for (size_t i = 0; i < export_count; i++)
        if (exports[i].by == node && exports[i].life == node->lives &&
            (exports[i].code != 0 || world.now_ns - exports[i].ended_ns < RECORD_LATE_NS))
            exports[i].died = true;
    for (unsigned i = 0; i < oracle.trace_count; i++) {
        struct sim_trace *trace = &oracle.traces[i];

        if (trace->decisions > 0 && strcmp(trace->decided_by, node->name) == 0 && world.now_ns - trace->decided_ns < VERDICT_LATE_NS)
            trace->perhaps_void = true;
    }
}

/* The tenant that a request's header names; 0: none; UINT_MAX: something that no client sent, or that was not to go on. */
static unsigned tenant_of(const struct metadata_set *metadata)
{
    if (!metadata)
        return 0;
    if (metadata->count != 1 || metadata->entries[0].key.len != strlen("x-tenant") || metadata->entries[0].value.len != 1 ||
        memcmp(metadata->entries[0].key.at, "x-tenant", strlen("x-tenant")) != 0)
        return UINT_MAX;
    return (unsigned)(metadata->entries[0].value.at[0] - '0');
}

void oracle_exported(uint64_t number, const struct trace_id *id, const uint8_t span_id[8], const struct metadata_set *metadata)
{
    struct sim_trace *trace = trace_find(id);
    const struct export *export = &exports[number];
    struct sim_span *span;
    unsigned i = 0;

    while (trace && i < trace->span_count) {
        struct otlp_span_id want = otlp_span_id(trace->number * 100 + i + 1);

        if (memcmp(want.bytes, span_id, 8) == 0)
            break;
        i++;
    }
    if (!trace || i == trace->span_count) {
        broken("a span arrived at the backend that nobody ever sent");
        return;
    }
    span = &trace->spans[i];
    story(fleet.backends[export->backend]->name, "gets trace %llu span %u from %s", (unsigned long long)trace->number, i, export->by->name);
    oracle.spans_exported++;
    if (tenant_of(metadata) != span->tenant)
        broken("trace %llu span %u is tenant %u's, and %s exported it as %u's", (unsigned long long)trace->number, i, span->tenant,
            export->by->name, tenant_of(metadata));
    if (span->at[export->backend].exports < SPAN_ARRIVALS_MAX)
        span->at[export->backend].numbers[span->at[export->backend].exports] = number;
    span->at[export->backend].exports++;
}

/* -- decisions -------------------------------------------------------------------------------------------------------------------- */

#define MARK(mark) (1u << (mark))

/* By version: of which marks one span is enough. */
static const struct {
    unsigned drops, samples;
} rules[] = {
    {MARK(SPAN_DROP), MARK(SPAN_ERROR) | MARK(SPAN_KEEP)},
    {0, MARK(SPAN_KEEP)},
    {MARK(SPAN_KEEP), MARK(SPAN_ERROR) | MARK(SPAN_DROP)},
};
static_assert(ARRAY_COUNT(rules) == POLICY_VERSIONS, "a rule a version");

static unsigned version_of(const struct policy_set *set)
{
    const char *name = policy_set_name(set, 0);
    size_t len = strlen(name);

    return len > 2 && name[len - 2] == '-' ? (unsigned)(name[len - 1] - '0') : 0;
}

void oracle_version(const struct node *node, unsigned version)
{
    for (unsigned i = 0; i < term_count; i++)
        if (terms[i].node == node && terms[i].to_ns == ALWAYS)
            terms[i].to_ns = world.now_ns;
    ASSERT(term_count < TERMS_MAX);
    terms[term_count++] = (struct term){node, version, world.now_ns, ALWAYS};
}

static uint64_t first_acked_ns(const struct sim_trace *trace)
{
    uint64_t first_ns = ALWAYS;

    for (unsigned i = 0; i < trace->span_count; i++)
        if (trace->spans[i].acked_ns > 0)
            first_ns = u64_min(first_ns, trace->spans[i].acked_ns);
    return first_ns;
}

/* A trace is its first span's policies'; those that it meets where it is moved to, or read back. */
static bool version_was_in_force(const struct sim_trace *trace, unsigned version)
{
    uint64_t from_ns = u64_sub_floor(trace_began_ns(trace), VERSION_LATE_NS), until_ns = world.now_ns;

    if (!fleet.options.clustered && !fleet.options.journal)
        until_ns = u64_min(until_ns, u64_add_cap(first_acked_ns(trace), VERSION_LATE_NS));
    for (unsigned i = 0; i < term_count; i++)
        if (terms[i].version == version && terms[i].from_ns <= until_ns && terms[i].to_ns >= from_ns)
            return true;
    return false;
}

/* … with a span of one of those. */
static bool has_mark(const struct sim_trace *trace, unsigned marks, bool acked)
{
    for (unsigned i = 0; i < trace->span_count; i++) {
        const struct sim_span *span = &trace->spans[i];

        if ((MARK(span->mark) & marks) && (acked ? span->acked_ns > 0 : span->sent_ns > 0))
            return true;
    }
    return false;
}

/* What a single node that has all that was acknowledged, and perhaps what was on its way, could say by those policies. */
static bool verdict_is_right(const struct sim_trace *trace, enum decision decision, unsigned version)
{
    const unsigned drops = rules[version].drops, samples = rules[version].samples;

    switch (decision) {
    case DECISION_DROPPED:
        return has_mark(trace, drops, false);
    case DECISION_SAMPLED:
        return !has_mark(trace, drops, true) && has_mark(trace, samples, false);
    case DECISION_NOT_SAMPLED:
        return !has_mark(trace, drops, true) && !has_mark(trace, samples, true);
    case DECISION_PENDING:
    case DECISION_ERROR:
        break;
    }
    return false;
}

static unsigned acked_count(const struct sim_trace *trace)
{
    unsigned count = 0;

    for (unsigned i = 0; i < trace->span_count; i++)
        count += trace->spans[i].acked_ns > 0;
    return count;
}

/* A move never restarts a clock: counted from when a node surely had the first span. */
static void lateness_look(const struct sim_trace *trace)
{
    uint64_t first_ns = first_acked_ns(trace), late_ns;

    if (first_ns == ALWAYS)
        return;
    late_ns = u64_sub_floor(world.now_ns, first_ns + oracle.decision_wait_ns);
    oracle.latest_ns = u64_max(oracle.latest_ns, late_ns);
    if (oracle.late_most_ns > 0 && late_ns > oracle.late_most_ns)
        suspect(BREAKS_SAW_ALL, trace_began_ns(trace), "trace %llu was decided by %s %llu ms too late", (unsigned long long)trace->number,
            process_now->node->name, (unsigned long long)(late_ns / NS_PER_MS));
}

static void first_decision(struct sim_trace *trace, enum decision decision, unsigned seen, unsigned version)
{
    uint64_t began_ns = trace_began_ns(trace);

    lateness_look(trace);

    trace->first_decision = (int)decision;
    if (!version_was_in_force(trace, version))
        broken("trace %llu was decided by %s by policies %u, which were not in force", (unsigned long long)trace->number,
            process_now->node->name, version);
    if (seen < acked_count(trace)) {
        suspect(BREAKS_SAW_ALL, began_ns, "trace %llu was decided by %s on %u spans, but %u were acknowledged",
            (unsigned long long)trace->number, process_now->node->name, seen, acked_count(trace));
        return;
    }
    if (!verdict_is_right(trace, decision, version)) /* as many spans, but not all of those that were acknowledged */
        suspect(BREAKS_SAW_ALL, began_ns, "trace %llu: %s decided %s, a single node would not by policies %u",
            (unsigned long long)trace->number, process_now->node->name, decision_name(decision), version);
}

static bool was_exported(const struct sim_trace *trace)
{
    for (unsigned i = 0; i < trace->span_count; i++)
        for (unsigned k = 0; k < oracle.backend_count; k++)
            if (trace->spans[i].at[k].exports > 0)
                return true;
    return false;
}

static void on_decided(const struct trace_id *id, enum decision decision, unsigned seen, unsigned version)
{
    struct sim_trace *trace = trace_find(id);

    ASSERT(trace != NULL);
    story(process_now->node->name, "decides trace %llu on %u spans by policies %u: %s", (unsigned long long)trace->number, seen, version,
        decision == DECISION_SAMPLED ? "sampled" : decision == DECISION_DROPPED ? "dropped" : "not sampled");
    world_fold(&trace->number, sizeof(trace->number));
    oracle.decided++;
    oracle.sampled += decision == DECISION_SAMPLED;
    if (trace->perhaps_void && !was_exported(trace) && !explained(BREAKS_ONE_VERDICT, trace_began_ns(trace), world.now_ns))
        trace->decisions = 0; /* nobody ever heard of it: or nobody had a reason to decide again */
    trace->perhaps_void = false;
    if (trace->decisions++ == 0) {
        first_decision(trace, decision, seen, version);
    } else {
        if ((int)decision != trace->first_decision)
            trace->judged_apart = true;
        if (world.now_ns - trace->decided_ns < oracle.verdict_keep_ns)
            suspect(BREAKS_ONE_VERDICT, trace_began_ns(trace), "trace %llu was decided twice: by %s, and %llu ms later by %s",
                (unsigned long long)trace->number, trace->decided_by,
                (unsigned long long)((world.now_ns - trace->decided_ns) / NS_PER_MS), process_now->node->name);
    }
    trace->decided_ns = world.now_ns;
    (void)snprintf(trace->decided_by, sizeof(trace->decided_by), "%s", process_now->node->name);
}

struct decided __real_policy_set_decide_counted(const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes);
struct decided __wrap_policy_set_decide_counted(const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes);

/* Each decision of the samplers passes here: linked with --wrap. */
struct decided __wrap_policy_set_decide_counted(const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes)
{
    struct decided decided = __real_policy_set_decide_counted(set, input, votes);

    on_decided(input->trace_id, decided.decision, input->facts->spans_count, version_of(set));
    return decided;
}

/* -- the books ------------------------------------------------------------------------------------------------------------------- */

static void story_journal(const struct node *node)
{
    struct journal_stats stats;

    if (!node->process->sampler->journal)
        return;
    journal_stats(node->process->sampler->journal, &stats);
    story(node->name, "journal: %llu records, %llu segments cleaned, %llu recycled, %llu bytes copied, %llu spilled reads, %llu live bytes",
        (unsigned long long)stats.records_written, (unsigned long long)stats.cleaned_segments, (unsigned long long)stats.recycled_segments,
        (unsigned long long)stats.copied_bytes, (unsigned long long)stats.reads, (unsigned long long)stats.live_bytes);
}

static void node_books(struct node *node, bool quiet)
{
    struct sampler *sampler = node->process->sampler;
    uint64_t sum[BOOK_COUNT] = {0}, books[BOOK_COUNT], in, out = 0;

    for (unsigned i = 0; i < sampler->worker_count; i++) {
        sampler_books_read(&sampler->workers[i], books);
        for (int k = 0; k < BOOK_COUNT; k++)
            sum[k] += books[k];
    }
    in = sum[BOOK_RECEIVED] + sum[BOOK_RECOVERED] + sum[BOOK_TAKEN_OVER];
    for (int k = BOOK_EXPORTED; k < BOOK_COUNT; k++)
        out += sum[k];
    world_fold(sum, sizeof(sum));
    if (in != out)
        broken("%s: the books do not balance: received %llu + recovered %llu + taken over %llu, but %llu accounted for (held %llu)", node->name,
            (unsigned long long)sum[BOOK_RECEIVED], (unsigned long long)sum[BOOK_RECOVERED], (unsigned long long)sum[BOOK_TAKEN_OVER],
            (unsigned long long)out, (unsigned long long)sum[BOOK_HELD]);
    if (quiet)
        story_journal(node);
    if (quiet && sum[BOOK_HELD] > 0)
        broken("%s still holds %llu spans when all is over", node->name, (unsigned long long)sum[BOOK_HELD]);
}

void oracle_books(bool quiet)
{
    for (unsigned i = 0; i < net.node_count; i++)
        if (net.nodes[i]->kind == NODE_SAMPLER && net.nodes[i]->process)
            node_books(net.nodes[i], quiet);
}

/* -- the end ------------------------------------------------------------------------------------------------------------------------ */

/* Who sent the second could know that the first had arrived. */
static bool needless(const struct export *a, const struct export *b)
{
    if (a->code != 0 || a->died)
        return false;
    return (b->code == 0 && !b->died) || b->sent_ns > a->ended_ns;
}

static void judge_arrivals(const struct sim_trace *trace, unsigned i, unsigned backend)
{
    const uint64_t *numbers = trace->spans[i].at[backend].numbers;
    unsigned arrived = trace->spans[i].at[backend].exports, count = arrived < SPAN_ARRIVALS_MAX ? arrived : SPAN_ARRIVALS_MAX;

    for (unsigned a = 0; a < count; a++) {
        for (unsigned b = 0; b < count; b++) {
            const struct export *one = &exports[numbers[a]], *other = &exports[numbers[b]];

            if (a == b || !needless(one, other) || trace->judged_apart ||
                explained(BREAKS_ONE_VERDICT, trace_began_ns(trace), world.now_ns))
                continue;
            broken("trace %llu span %u was exported by %s, and again by %s, to %s", (unsigned long long)trace->number, i, one->by->name,
                other->by->name, fleet.backends[backend]->name);
            return;
        }
    }
}

static void judge_span(const struct sim_trace *trace, unsigned i, unsigned backend)
{
    const struct sim_span *span = &trace->spans[i];
    bool sampled = trace->first_decision == DECISION_SAMPLED, arrived = span->at[backend].exports > 0;
    uint64_t began_ns = trace_began_ns(trace);

    if (span->acked_ns > 0 && sampled && !arrived && !trace->judged_apart &&
        !explained(BREAKS_NO_LOSS, began_ns, world.now_ns))
        broken("trace %llu span %u was acknowledged, its trace sampled, and it never arrived at %s",
            (unsigned long long)trace->number, i, fleet.backends[backend]->name);
    if (arrived && !sampled && !trace->judged_apart)
        broken("trace %llu span %u was exported against the verdict", (unsigned long long)trace->number, i);
}

static void judge_trace(const struct sim_trace *trace)
{
    unsigned acked = acked_count(trace);

    if (trace->decisions == 0) {
        if (acked > 0 && !explained(BREAKS_NO_LOSS, trace_began_ns(trace), world.now_ns))
            broken("trace %llu was never decided, and %u of its spans were acknowledged", (unsigned long long)trace->number, acked);
        return;
    }
    for (unsigned backend = 0; backend < oracle.backend_count; backend++) {
        for (unsigned i = 0; i < trace->span_count; i++)
            judge_span(trace, i, backend);
        for (unsigned i = 0; i < trace->span_count; i++)
            judge_arrivals(trace, i, backend);
    }
}

void oracle_judge(void)
{
    suspicions_judge();
    for (unsigned i = 0; i < oracle.trace_count; i++)
        judge_trace(&oracle.traces[i]);
    if (oracle.spans_acked == 0)
        broken("not one span was acknowledged: the run tests nothing");
}
