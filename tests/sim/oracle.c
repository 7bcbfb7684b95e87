#include "tests/sim/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "sampler/decide/policy_set.h"
#include "sampler/journal/journal.h"
#include "sampler/sampler_worker.h"
#include "tests/kit/otlp_build.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"

#define CAUSES_MAX 512u
#define SUSPICIONS_MAX 200u
#define RECORD_LATE_NS (3 * NS_PER_S) /* an `exported` record may be that late: nothing waits for it */
#define VERDICT_LATE_NS (1 * NS_PER_S) /* … and a verdict; but nothing is exported before it is written */
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

struct export {
    const struct node *by;
    unsigned life;
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
    caused_count = suspicion_count = 0;
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

uint64_t oracle_export_begins(const struct node *by, uint64_t sent_ns)
{
    if (export_count == export_capacity) {
        export_capacity = export_capacity ? 2 * export_capacity : 256;
        exports = sim_realloc(exports, export_capacity * sizeof(exports[0]));
    }
    exports[export_count] = (struct export){.by = by, .life = by->lives, .sent_ns = sent_ns, .code = -1};
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

void oracle_exported(uint64_t number, const struct trace_id *id, const uint8_t span_id[8])
{
    struct sim_trace *trace = trace_find(id);
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
    story("backend", "gets trace %llu span %u from %s", (unsigned long long)trace->number, i, exports[number].by->name);
    oracle.spans_exported++;
    if (trace->spans[i].exports < SPAN_ARRIVALS_MAX)
        trace->spans[i].arrivals[trace->spans[i].exports] = number;
    trace->spans[i].exports++;
}

/* -- decisions -------------------------------------------------------------------------------------------------------------------- */

static bool has_mark(const struct sim_trace *trace, enum span_mark mark, bool acked)
{
    for (unsigned i = 0; i < trace->span_count; i++) {
        const struct sim_span *span = &trace->spans[i];

        if (span->mark == mark && (acked ? span->acked_ns > 0 : span->sent_ns > 0))
            return true;
    }
    return false;
}

/* What a single node that has all that was acknowledged, and perhaps what was on its way, could say. */
static bool verdict_is_right(const struct sim_trace *trace, enum decision decision)
{
    switch (decision) {
    case DECISION_DROPPED:
        return has_mark(trace, SPAN_DROP, false);
    case DECISION_SAMPLED:
        return !has_mark(trace, SPAN_DROP, true) && (has_mark(trace, SPAN_ERROR, false) || has_mark(trace, SPAN_KEEP, false));
    case DECISION_NOT_SAMPLED:
        return !has_mark(trace, SPAN_DROP, true) && !has_mark(trace, SPAN_ERROR, true) && !has_mark(trace, SPAN_KEEP, true);
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
    uint64_t first_ns = ALWAYS, late_ns;

    for (unsigned i = 0; i < trace->span_count; i++)
        if (trace->spans[i].acked_ns > 0)
            first_ns = u64_min(first_ns, trace->spans[i].acked_ns);
    if (first_ns == ALWAYS)
        return;
    late_ns = u64_sub_floor(world.now_ns, first_ns + oracle.decision_wait_ns);
    oracle.latest_ns = u64_max(oracle.latest_ns, late_ns);
    if (oracle.late_most_ns > 0 && late_ns > oracle.late_most_ns)
        suspect(BREAKS_SAW_ALL, trace_began_ns(trace), "trace %llu was decided by %s %llu ms too late", (unsigned long long)trace->number,
            process_now->node->name, (unsigned long long)(late_ns / NS_PER_MS));
}

static void first_decision(struct sim_trace *trace, enum decision decision, unsigned seen)
{
    uint64_t began_ns = trace_began_ns(trace);

    lateness_look(trace);

    trace->first_decision = (int)decision;
    if (seen < acked_count(trace)) {
        suspect(BREAKS_SAW_ALL, began_ns, "trace %llu was decided by %s on %u spans, but %u were acknowledged",
            (unsigned long long)trace->number, process_now->node->name, seen, acked_count(trace));
        return;
    }
    if (!verdict_is_right(trace, decision)) /* as many spans, but not all of those that were acknowledged */
        suspect(BREAKS_SAW_ALL, began_ns, "trace %llu: %s decided %s, a single node would not", (unsigned long long)trace->number,
            process_now->node->name, decision_name(decision));
}

static bool was_exported(const struct sim_trace *trace)
{
    for (unsigned i = 0; i < trace->span_count; i++)
        if (trace->spans[i].exports > 0)
            return true;
    return false;
}

static void on_decided(const struct trace_id *id, enum decision decision, unsigned seen)
{
    struct sim_trace *trace = trace_find(id);

    ASSERT(trace != NULL);
    story(process_now->node->name, "decides trace %llu on %u spans: %s", (unsigned long long)trace->number, seen,
        decision == DECISION_SAMPLED ? "sampled" : decision == DECISION_DROPPED ? "dropped" : "not sampled");
    world_fold(&trace->number, sizeof(trace->number));
    oracle.decided++;
    oracle.sampled += decision == DECISION_SAMPLED;
    if (trace->perhaps_void && !was_exported(trace) && !explained(BREAKS_ONE_VERDICT, trace_began_ns(trace), world.now_ns))
        trace->decisions = 0; /* nobody ever heard of it: or nobody had a reason to decide again */
    trace->perhaps_void = false;
    if (trace->decisions++ == 0) {
        first_decision(trace, decision, seen);
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

    on_decided(input->trace_id, decided.decision, input->facts->spans_count);
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

static void judge_arrivals(const struct sim_trace *trace, unsigned i)
{
    const struct sim_span *span = &trace->spans[i];
    unsigned count = span->exports < SPAN_ARRIVALS_MAX ? span->exports : SPAN_ARRIVALS_MAX;

    for (unsigned a = 0; a < count; a++) {
        for (unsigned b = 0; b < count; b++) {
            const struct export *one = &exports[span->arrivals[a]], *other = &exports[span->arrivals[b]];

            if (a == b || !needless(one, other) || trace->judged_apart ||
                explained(BREAKS_ONE_VERDICT, trace_began_ns(trace), world.now_ns))
                continue;
            broken("trace %llu span %u was exported by %s, and again by %s", (unsigned long long)trace->number, i, one->by->name,
                other->by->name);
            return;
        }
    }
}

static void judge_span(const struct sim_trace *trace, unsigned i)
{
    const struct sim_span *span = &trace->spans[i];
    bool sampled = trace->first_decision == DECISION_SAMPLED;
    uint64_t began_ns = trace_began_ns(trace);

    if (span->acked_ns > 0 && sampled && span->exports == 0 && !trace->judged_apart &&
        !explained(BREAKS_NO_LOSS, began_ns, world.now_ns))
        broken("trace %llu span %u was acknowledged, its trace sampled, and it never arrived", (unsigned long long)trace->number, i);
    if (span->exports > 0 && !sampled && !trace->judged_apart)
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
    for (unsigned i = 0; i < trace->span_count; i++)
        judge_span(trace, i);
    for (unsigned i = 0; i < trace->span_count; i++)
        judge_arrivals(trace, i);
}

void oracle_judge(void)
{
    suspicions_judge();
    for (unsigned i = 0; i < oracle.trace_count; i++)
        judge_trace(&oracle.traces[i]);
    if (oracle.spans_acked == 0)
        broken("not one span was acknowledged: the run tests nothing");
}
