#include "sampler/handoff/carry.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "sampler/handoff/inside.h"
#include "sampler/verdict.h"

#define ROOM_BYTES (1u << 20) /* that a message grows by, at least */

struct gathering { /* the first spans of a trace, as far as a batch goes; one pass for each set of metadata */
    struct regroup *regroup;
    const struct metadata_set *metadata;
    const struct header *last;
    uint32_t number;
    size_t limit;      /* spans */
    size_t seen;
    size_t bytes, most_bytes;
    const bool *wanted; /* a span each; NULL: all */
    const struct metadata_set *sets[METADATA_PAIRS_MAX];
    size_t set_count;
};

/* How many spans go along, and with which sets. */
static int span_measure(void *context, struct header *header, struct rope bytes)
{
    struct gathering *gathering = context;
    size_t i = 0;

    if (gathering->wanted && !gathering->wanted[gathering->seen]) {
        gathering->seen++;
        return 0;
    }
    if (gathering->bytes > 0 && gathering->bytes + bytes.len > gathering->most_bytes)
        return 1;
    while (i < gathering->set_count && !metadata_set_equal(gathering->sets[i], header->metadata))
        i++;
    if (i == gathering->set_count) {
        if (gathering->set_count == sizeof(gathering->sets) / sizeof(gathering->sets[0]))
            return 1;
        gathering->sets[gathering->set_count++] = header->metadata;
    }
    gathering->seen++;
    gathering->bytes += bytes.len;
    return 0;
}

static int span_gather(void *context, struct header *header, struct rope bytes)
{
    struct gathering *gathering = context;

    size_t index = gathering->seen++;

    if (index == gathering->limit)
        return 1;
    if (gathering->wanted && !gathering->wanted[index])
        return 0;
    if (!metadata_set_equal(gathering->metadata, header->metadata))
        return 0;
    if (header != gathering->last) {
        gathering->number = regroup_header(gathering->regroup, &header->view);
        gathering->last = header;
    }
    ASSERT(regroup_span(gathering->regroup, gathering->number, bytes) == 0);
    return 0;
}

/* The OTLP request of one set's spans. */
static struct buffer *part_write(struct gathering *gathering, const struct trace *trace, const struct metadata_set *metadata)
{
    struct buffer *bytes;

    gathering->metadata = metadata;
    gathering->last = NULL;
    gathering->seen = 0;
    regroup_reset(gathering->regroup);
    (void)trace_spans(trace, span_gather, gathering);
    bytes = buffer_new(regroup_size(gathering->regroup));
    ASSERT(bytes != NULL);
    bytes->len = (size_t)(regroup_write(gathering->regroup, bytes->bytes) - bytes->bytes);
    return bytes;
}

static int hash_compare(const void *a, const void *b)
{
    uint64_t left, right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

static uint64_t *hash_scratch(struct travel *travel, size_t count)
{
    if (count > travel->hash_capacity) {
        travel->hash_capacity = size_max(count, 2 * travel->hash_capacity);
        travel->hashes = realloc(travel->hashes, travel->hash_capacity * sizeof(travel->hashes[0]));
        ASSERT(travel->hashes != NULL);
    }
    return travel->hashes;
}

/* Of all its spans that are in the table, sorted, behind the first `from` of the scratch. */
static size_t held_hashes(struct worker_handoff *handoff, const struct trace_id *id, uint64_t id_hash, size_t from)
{
    struct trace *traces[TRACES_OF_ID_MOST];
    size_t count = trace_table_find_all(handoff->home->traces, id, id_hash, traces), held = 0;
    uint64_t *hashes;

    for (size_t i = 0; i < count; i++)
        held += trace_info(traces[i]).span_count;
    hashes = hash_scratch(&handoff->travel, from + held) + from;
    held = 0;
    for (size_t i = 0; i < count; i++) {
        trace_hashes(traces[i], hashes + held);
        held += trace_info(traces[i]).span_count;
    }
    if (held > 1)
        qsort(hashes, held, sizeof(hashes[0]), hash_compare);
    return held;
}

/* Keeps those of `count` hashes that are not among the sorted ones. Returns how many. */
static size_t hashes_without(uint64_t *hashes, size_t count, const uint64_t *sorted, size_t sorted_count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        if (sorted_count == 0 || !bsearch(&hashes[i], sorted, sorted_count, sizeof(hashes[0]), hash_compare))
            hashes[kept++] = hashes[i];
    return kept;
}

/* Hashes of spans that were exported: those known of the trace but for those that are held, in this part of it or beside. Only where
 * none of it is on its way to a backend. In scratch. */
static size_t exported_hashes(struct worker_handoff *handoff, const struct trace_id *id, uint64_t id_hash)
{
    size_t known = decision_cache_hashes(handoff->home->cache, id, id_hash, NULL, 0);
    size_t held = held_hashes(handoff, id, id_hash, known);
    uint64_t *hashes = handoff->travel.hashes;

    (void)decision_cache_hashes(handoff->home->cache, id, id_hash, hashes, known);
    return hashes_without(hashes, known, hashes + known, held);
}

void carry_unlearn(struct worker_handoff *handoff, const struct trace_id *id, uint64_t *hashes, size_t count)
{
    struct decision_cache *cache = handoff->home->cache;
    uint64_t id_hash = hash_trace(id), now_ns = handoff->home->worker.now_ns;
    size_t known = decision_cache_hashes(cache, id, id_hash, NULL, 0);
    uint64_t *left = hash_scratch(&handoff->travel, known);
    struct decision_record record;

    if (known == 0 || count == 0 || !decision_cache_find(cache, id, id_hash, false, now_ns, &record))
        return;
    (void)decision_cache_hashes(cache, id, id_hash, left, known);
    qsort(hashes, count, sizeof(hashes[0]), hash_compare);
    known = hashes_without(left, known, hashes, count);
    (void)decision_cache_remove(cache, id, id_hash);
    decision_cache_put(cache, id, id_hash, &record, left, known, now_ns);
}

static struct transfer_verdict verdict_of(const struct sampler_worker *home, const struct decision_record *record, uint64_t now_ns)
{
    const char *policy = record_policy_name(home, record);

    return (struct transfer_verdict){.decision = record->decision,
        .too_large = record->too_large,
        .policy = policy ? slice_text(policy) : (struct slice){NULL, 0},
        .span_count = record->span_count,
        .evidence_span_id = record->evidence_span_id,
        .evidence_bit = UINT16_MAX, /* a number of this node's policy set: the other may have another */
        .threshold = record->threshold,
        .age_ms = u64_sub_floor(now_ns, record->decided_ns) / NS_PER_MS};
}

/* Of a trace that waits for its backend and whose record was evicted meanwhile: it stays sampled all the same. */
static struct transfer_verdict verdict_forgotten(const struct trace *trace, uint64_t now_ns)
{
    return (struct transfer_verdict){.decision = DECISION_SAMPLED,
        .evidence_bit = UINT16_MAX,
        .age_ms = u64_sub_floor(now_ns, trace_info(trace).first_ns) / NS_PER_MS};
}

static void message_add(struct buffer **at, const struct transfer_trace *trace)
{
    struct buffer *message = *at;
    size_t size = transfer_trace_size(trace);

    if (message->len + size > message->capacity) {
        message = buffer_grow(message, message->len + size_max(size, ROOM_BYTES));
        ASSERT(message != NULL);
        *at = message;
    }
    message->len = (size_t)(transfer_trace_write(trace, message->bytes + message->len) - message->bytes);
}

static int64_t remaining_ms(const struct trace_info *info, uint64_t now_ns)
{
    if (info->deadline_ns >= now_ns)
        return (int64_t)((info->deadline_ns - now_ns) / NS_PER_MS);
    return -(int64_t)((now_ns - info->deadline_ns) / NS_PER_MS);
}

static size_t delivered_names(const struct sampler_worker *home, uint8_t delivered, const char *out_names[8])
{
    size_t count = 0;

    for (size_t i = 0; i < 8; i++) {
        const char *name = delivered & (1u << i) ? worker_backends_name(home->backends, i) : NULL;

        if (name)
            out_names[count++] = name;
    }
    return count;
}

static void trace_fill(const struct worker_handoff *handoff, const struct trace *trace, struct gathering *gathering, struct transfer_part *parts,
    struct buffer **buffers, struct transfer_trace *out)
{
    const struct trace_info info = trace_info(trace);
    uint64_t now_ns = handoff->home->worker.now_ns;

    (void)trace_spans(trace, span_measure, gathering);
    gathering->limit = gathering->seen;
    for (size_t i = 0; i < gathering->set_count; i++) {
        buffers[i] = part_write(gathering, trace, gathering->sets[i]);
        parts[i] = (struct transfer_part){.spans = buffer_slice(buffers[i]), .metadata = gathering->sets[i]};
    }
    out->parts = parts;
    out->part_count = gathering->set_count;
    out->age_ms = u64_sub_floor(now_ns, info.first_ns) / NS_PER_MS;
    out->remaining_ms = info.state == TRACE_PENDING ? remaining_ms(&info, now_ns) : 0;
}

bool carry_trace(struct worker_handoff *handoff, const struct trace_id *id, const struct trace *trace, const bool *wanted, size_t most_bytes,
    struct buffer **message, struct carried *out_carried)
{
    struct sampler_worker *home = handoff->home;
    uint64_t id_hash = hash_trace(id), now_ns = home->worker.now_ns;
    struct transfer_trace out = {.id = *id, .verdict = {.evidence_bit = UINT16_MAX}};
    struct transfer_part parts[METADATA_PAIRS_MAX];
    struct buffer *buffers[METADATA_PAIRS_MAX];
    struct gathering gathering = {.regroup = handoff->regroup, .most_bytes = most_bytes, .wanted = wanted};
    const char *delivered[8];
    struct decision_record record;
    bool decided = decision_cache_find(home->cache, id, id_hash, false, now_ns, &record);

    if (!trace && !decided)
        return false;
    *out_carried = (struct carried){.decided_ns = decided ? record.decided_ns : 0};
    if (decided) {
        out.verdict = verdict_of(home, &record, now_ns);
        out.age_ms = out.verdict.age_ms;
    } else if (trace_is_sampled(trace)) {
        out.verdict = verdict_forgotten(trace, now_ns);
    }
    if (trace) {
        trace_fill(handoff, trace, &gathering, parts, buffers, &out);
        out.delivered = delivered;
        out.delivered_count = delivered_names(home, trace_info(trace).delivered, delivered);
        out_carried->span_count = gathering.limit;
    }
    if (decided && record.decision == DECISION_SAMPLED && !wanted) {
        out.hash_count = exported_hashes(handoff, id, id_hash);
        out.hashes = handoff->travel.hashes;
    }
    message_add(message, &out);
    for (size_t i = 0; i < gathering.set_count; i++)
        buffer_unref(buffers[i]);
    return true;
}
