/* Each side reads a request for itself: its header table holds the answers of its own predicates. Both see the same spans in
 * the same order, as what is malformed does not depend on what is asked. */
#include "sampler/replay/replay_traces.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "common/otlp/span_view.h"
#include "sampler/buffer/hash_index.h"
#include "sampler/decide/cost.h"
#include "sampler/intake.h"

struct side {
    struct policy_set *set;
    uint64_t maximum_trace_size_bytes;
    struct predicate_scratch *scratch;
    struct header_table *headers;
    struct intake intake;
};

/* Hashes that were seen: open addressing, at most two thirds full, 0 is no hash. */
struct seen {
    uint64_t *slots;
    uint64_t count, slot_count;
};

struct service {
    uint8_t *name;
    size_t len;
};

struct replay_traces {
    struct side sides[REPLAY_SIDES];
    size_t side_count;
    bool with_services;
    struct hash_index index; /* 1 + place in traces, by hash_trace */
    struct replay_trace **traces;
    uint64_t count, capacity;
    struct seen spans, headers;
    struct replay_share *shares;
    uint32_t share_count, share_capacity;
    struct hash_index service_index;
    struct service *services;
    uint32_t service_count, service_capacity;
    uint32_t *header_services; /* of the current request's headers */
    size_t header_service_capacity;
    struct replay_totals totals;
};

/* -- life ---------------------------------------------------------------------------------------- */

/* A command that ends, not a server: without memory it cannot go on. */
static void *grown(void *array, uint64_t *capacity, size_t item_size)
{
    *capacity = u64_max(*capacity * 2, 1024);
    array = reallocarray(array, *capacity, item_size);
    ASSERT(array != NULL);
    return array;
}

struct replay_traces *replay_traces_new(void)
{
    struct replay_traces *traces = calloc(1, sizeof(*traces));

    ASSERT(traces != NULL && hash_index_init(&traces->index) == 0 && hash_index_init(&traces->service_index) == 0);
    return traces;
}

static void side_deinit(struct side *side)
{
    intake_deinit(&side->intake);
    header_table_free(side->headers);
    predicate_scratch_free(side->scratch);
    policy_set_unref(side->set);
}

void replay_traces_free(struct replay_traces *traces)
{
    if (!traces)
        return;
    for (uint64_t i = 0; i < traces->count; i++) {
        for (size_t side = 0; side < traces->side_count; side++)
            cost_free(traces->traces[i]->sides[side].facts.cost);
        free(traces->traces[i]);
    }
    for (size_t i = 0; i < traces->side_count; i++)
        side_deinit(&traces->sides[i]);
    for (uint32_t i = 0; i < traces->service_count; i++)
        free(traces->services[i].name);
    hash_index_deinit(&traces->index);
    hash_index_deinit(&traces->service_index);
    free(traces->header_services);
    free(traces->services);
    free(traces->shares);
    free(traces->spans.slots);
    free(traces->headers.slots);
    free(traces->traces);
    free(traces);
}

void replay_traces_judge_by(struct replay_traces *traces, struct policy_set *set, uint64_t maximum_trace_size_bytes)
{
    struct side *side = &traces->sides[traces->side_count++];

    ASSERT(traces->side_count <= REPLAY_SIDES && traces->count == 0);
    side->set = policy_set_ref(set);
    side->maximum_trace_size_bytes = maximum_trace_size_bytes;
    side->scratch = predicate_scratch_new(policy_set_predicates(set));
    side->headers = header_table_new();
    ASSERT(side->scratch != NULL && side->headers != NULL);
    intake_init(&side->intake);
}

void replay_traces_count_services(struct replay_traces *traces)
{
    traces->with_services = true;
}

/* -- what was there before ------------------------------------------------------------------------ */

static bool seen_put(struct seen *seen, uint64_t hash)
{
    uint64_t mask = seen->slot_count - 1, at = hash_index_mix(hash) & mask;

    while (seen->slots[at] != 0 && seen->slots[at] != hash)
        at = (at + 1) & mask;
    if (seen->slots[at] == hash)
        return false;
    seen->slots[at] = hash;
    seen->count++;
    return true;
}

static void seen_grow(struct seen *seen)
{
    struct seen larger = {.slot_count = u64_max(seen->slot_count * 2, 4096)};

    larger.slots = calloc(larger.slot_count, sizeof(uint64_t));
    ASSERT(larger.slots != NULL);
    for (uint64_t i = 0; i < seen->slot_count; i++)
        if (seen->slots[i] != 0)
            seen_put(&larger, seen->slots[i]);
    free(seen->slots);
    *seen = larger;
}

/* True: for the first time. */
static bool seen_first(struct seen *seen, uint64_t hash)
{
    if (seen->count + 1 > seen->slot_count / 3 * 2)
        seen_grow(seen);
    return seen_put(seen, hash != 0 ? hash : 1);
}

/* -- services -------------------------------------------------------------------------------------- */

static void visit_service_name(void *context, struct slice key, struct slice value)
{
    struct slice *name = context;

    if (name->at == NULL && slice_equal(key, SLICE_LITERAL("service.name")))
        *name = value_read(value).type == VALUE_STRING ? value_read(value).bytes : slice_make("", 0);
}

static uint32_t service_number(struct replay_traces *traces, struct slice name)
{
    uint64_t hash = hash_bytes(name.at, name.len), value, capacity = traces->service_capacity;
    struct hash_probe probe = hash_index_probe(&traces->service_index, hash);
    struct service *service;

    while ((value = hash_probe_next(&probe)) != 0)
        if (slice_equal(slice_make(traces->services[value - 1].name, traces->services[value - 1].len), name))
            return (uint32_t)value - 1;
    if (traces->service_count == capacity)
        traces->services = grown(traces->services, &capacity, sizeof(*traces->services));
    traces->service_capacity = (uint32_t)capacity;
    service = &traces->services[traces->service_count++];
    *service = (struct service){malloc(name.len + 1), name.len};
    ASSERT(service->name != NULL && hash_index_add(&traces->service_index, hash, traces->service_count));
    if (name.len > 0)
        memcpy(service->name, name.at, name.len);
    return traces->service_count - 1;
}

static void find_services(struct replay_traces *traces, const struct intake *intake)
{
    if (intake->header_count > traces->header_service_capacity) {
        traces->header_service_capacity = intake->header_count * 2;
        traces->header_services = reallocarray(traces->header_services, traces->header_service_capacity, sizeof(uint32_t));
        ASSERT(traces->header_services != NULL);
    }
    for (size_t i = 0; i < intake->header_count; i++) {
        const struct header_part *resource = &intake->headers[i].header->view.resource;
        struct slice name = {NULL, 0};

        if (resource->len > 0)
            (void)resource_visit(resource->fragments[0], visit_service_name, &name);
        traces->header_services[i] = service_number(traces, name.at ? name : slice_make("", 0));
    }
}

static void add_share(struct replay_traces *traces, struct replay_trace *trace, uint32_t service, uint64_t bytes)
{
    uint64_t capacity = traces->share_capacity;
    struct replay_share *share;

    for (uint32_t number = trace->share; number != 0; number = traces->shares[number - 1].next) {
        if (traces->shares[number - 1].service == service) {
            traces->shares[number - 1].spans++;
            traces->shares[number - 1].bytes += bytes;
            return;
        }
    }
    if (traces->share_count == capacity)
        traces->shares = grown(traces->shares, &capacity, sizeof(*traces->shares));
    traces->share_capacity = (uint32_t)capacity;
    share = &traces->shares[traces->share_count++];
    *share = (struct replay_share){.service = service, .next = trace->share, .spans = 1, .bytes = bytes};
    trace->share = traces->share_count;
}

/* -- spans ------------------------------------------------------------------------------------------ */

static struct replay_trace *trace_get(struct replay_traces *traces, const struct trace_id *id, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&traces->index, id_hash);
    struct replay_trace *trace;
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0)
        if (trace_id_equal(&traces->traces[value - 1]->id, id))
            return traces->traces[value - 1];
    if (traces->count == traces->capacity)
        traces->traces = grown(traces->traces, &traces->capacity, sizeof(*traces->traces));
    trace = calloc(1, sizeof(*trace) + traces->side_count * sizeof(trace->sides[0]));
    ASSERT(trace != NULL);
    trace->id = *id;
    traces->traces[traces->count++] = trace;
    ASSERT(hash_index_add(&traces->index, id_hash, traces->count));
    return trace;
}

static void count_span(struct replay_traces *traces, const struct intake_span *span)
{
    struct replay_totals *totals = &traces->totals;

    totals->spans++;
    totals->bytes += span->bytes.len;
    if (span->facts.start_unix_ns > 0 && (totals->first_unix_ns == 0 || span->facts.start_unix_ns < totals->first_unix_ns))
        totals->first_unix_ns = span->facts.start_unix_ns;
    totals->last_unix_ns = u64_max(totals->last_unix_ns, span->facts.end_unix_ns);
}

static bool asks_size(const struct replay_traces *traces)
{
    return traces->sides[0].maximum_trace_size_bytes > 0 || traces->sides[1].maximum_trace_size_bytes > 0;
}

/* The index-th span of the request that all sides have read. */
static void take_span(struct replay_traces *traces, size_t index)
{
    const struct intake *first = &traces->sides[0].intake;
    const struct intake_span *span = &first->spans[index];
    const struct header *header = first->headers[span->header].header;
    struct replay_trace *trace;

    if (!seen_first(&traces->spans, span->span_hash)) {
        traces->totals.duplicates++;
        return;
    }
    trace = trace_get(traces, &span->id, span->id_hash);
    count_span(traces, span);
    if (asks_size(traces) && seen_first(&traces->headers, span->id_hash ^ hash_index_mix(header->view.hash)))
        trace->header_bytes += header->bytes_len;
    if (traces->with_services)
        add_share(traces, trace, traces->header_services[span->header], span->bytes.len);
    for (size_t i = 0; i < traces->side_count; i++) {
        const struct intake *intake = &traces->sides[i].intake;
        struct facts *facts = &trace->sides[i].facts;

        header = intake->headers[intake->spans[index].header].header;
        facts_fold(facts, &intake->spans[index].facts, &header->hits, (uint32_t)span->bytes.len);
        if (policy_set_needs(traces->sides[i].set)->cost)
            cost_add(&facts->cost, &header->view, span->bytes);
    }
}

bool replay_traces_add(struct replay_traces *traces, struct slice request)
{
    const struct intake *first = &traces->sides[0].intake;
    bool good = true;

    for (size_t i = 0; i < traces->side_count; i++) {
        struct side *side = &traces->sides[i];

        good = intake_read(&side->intake, request, NULL, side->set, side->scratch, side->headers) && good;
    }
    if (good) {
        if (traces->with_services)
            find_services(traces, first);
        for (size_t i = 0; i < first->span_count; i++)
            take_span(traces, i);
        traces->totals.rejected += first->rejected_count;
    }
    for (size_t i = 0; i < traces->side_count; i++)
        intake_release(&traces->sides[i].intake, traces->sides[i].headers);
    return good;
}

/* -- deciding --------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    const struct replay_trace *const *left = a, *const *right = b;

    return memcmp((*left)->id.bytes, (*right)->id.bytes, sizeof((*left)->id.bytes));
}

static int compare_starts(const void *a, const void *b)
{
    const struct replay_trace *const *left = a, *const *right = b;
    uint64_t first = (*left)->sides[0].facts.min_start_unix_ns, second = (*right)->sides[0].facts.min_start_unix_ns;

    return first != second ? (first < second ? -1 : 1) : compare_ids(a, b);
}

static const struct decided decided_too_large = {.decision = DECISION_NOT_SAMPLED, .policy = UINT16_MAX, .evidence_bit = UINT32_MAX};

static bool is_too_large(const struct side *side, const struct replay_trace *trace, const struct replay_judged *judged)
{
    return side->maximum_trace_size_bytes > 0 && judged->facts.bytes + trace->header_bytes > side->maximum_trace_size_bytes;
}

/* A trace without a start stands first, at the time of the earliest that has one. */
static uint64_t moment_ns(const struct replay_traces *traces, const struct replay_trace *trace)
{
    return u64_max(trace->sides[0].facts.min_start_unix_ns, traces->totals.first_unix_ns);
}

static struct verdict_input input_at(const struct replay_trace *trace, const struct replay_judged *judged, uint64_t now_ns)
{
    return (struct verdict_input){.trace_id = &trace->id, .facts = &judged->facts, .now_ns = now_ns, .now_unix_ns = now_ns};
}

static void decide_each(struct replay_traces *traces, size_t side, struct policy_votes *votes)
{
    for (uint64_t i = 0; i < traces->count; i++) {
        const struct replay_trace *trace = traces->traces[i];
        struct replay_judged *judged = &traces->traces[i]->sides[side];
        const struct verdict_input input = input_at(trace, judged, moment_ns(traces, trace));

        judged->too_large = is_too_large(&traces->sides[side], trace, judged);
        judged->decided = judged->too_large ? decided_too_large : policy_set_decide_counted(traces->sides[side].set, &input, votes);
    }
}

/* Traces that are weighed against each other: those of one second, at its end, as the sampler's tick does it. */
struct weighing {
    struct verdict_input *inputs;
    struct decided *decided;
    struct replay_judged **judged;
    size_t count;
};

static void weighing_init(struct weighing *weighing, uint64_t capacity)
{
    weighing->inputs = calloc(capacity, sizeof(*weighing->inputs));
    weighing->decided = calloc(capacity, sizeof(*weighing->decided));
    weighing->judged = calloc(capacity, sizeof(*weighing->judged));
    weighing->count = 0;
    ASSERT(weighing->inputs != NULL && weighing->decided != NULL && weighing->judged != NULL);
}

static void weighing_deinit(struct weighing *weighing)
{
    free(weighing->inputs);
    free(weighing->decided);
    free(weighing->judged);
}

static void weighing_decide(struct weighing *weighing, const struct policy_set *set, struct policy_votes *votes)
{
    ASSERT(policy_set_decide_batch(set, weighing->inputs, weighing->count, votes, weighing->decided) == 0);
    for (size_t i = 0; i < weighing->count; i++)
        weighing->judged[i]->decided = weighing->decided[i];
    weighing->count = 0;
}

static void decide_batches(struct replay_traces *traces, size_t side, struct policy_votes *votes)
{
    const struct side *by = &traces->sides[side];
    uint64_t tick_ns = u64_add_cap(traces->totals.first_unix_ns, BATCH_TICK_NS);
    struct weighing weighing;

    weighing_init(&weighing, traces->count + 1);
    for (uint64_t i = 0; i < traces->count; i++) {
        struct replay_trace *trace = traces->traces[i];
        struct replay_judged *judged = &trace->sides[side];
        uint64_t at_ns = moment_ns(traces, trace);

        if (at_ns >= tick_ns) {
            weighing_decide(&weighing, by->set, votes);
            tick_ns = u64_add_cap(tick_ns, ((at_ns - tick_ns) / BATCH_TICK_NS + 1) * BATCH_TICK_NS);
        }
        judged->too_large = is_too_large(by, trace, judged);
        judged->decided = decided_too_large;
        if (judged->too_large)
            continue;
        weighing.judged[weighing.count] = judged;
        weighing.inputs[weighing.count++] = input_at(trace, judged, tick_ns);
    }
    weighing_decide(&weighing, by->set, votes);
    weighing_deinit(&weighing);
}

void replay_traces_decide(struct replay_traces *traces, size_t side, struct policy_votes *votes)
{
    if (traces->count > 0)
        qsort(traces->traces, traces->count, sizeof(traces->traces[0]), compare_starts);
    if (policy_set_needs(traces->sides[side].set)->batch)
        decide_batches(traces, side, votes);
    else
        decide_each(traces, side, votes);
}

/* -- looking ---------------------------------------------------------------------------------------- */

/* The index finds no more afterwards: nothing is added any more. */
void replay_traces_sort(struct replay_traces *traces)
{
    if (traces->count > 0)
        qsort(traces->traces, traces->count, sizeof(traces->traces[0]), compare_ids);
}

uint64_t replay_traces_count(const struct replay_traces *traces)
{
    return traces->count;
}

const struct replay_trace *replay_traces_at(const struct replay_traces *traces, uint64_t index)
{
    return traces->traces[index];
}

const struct replay_totals *replay_traces_totals(const struct replay_traces *traces)
{
    return &traces->totals;
}

const struct replay_share *replay_traces_share(const struct replay_traces *traces, uint32_t number)
{
    return number > 0 ? &traces->shares[number - 1] : NULL;
}

uint32_t replay_traces_service_count(const struct replay_traces *traces)
{
    return traces->service_count;
}

struct slice replay_traces_service(const struct replay_traces *traces, uint32_t service)
{
    return slice_make(traces->services[service].name, traces->services[service].len);
}
