/* Every message is first gone through once for its framing and its values; the cursors that follow read the same bytes again and
 * skip what they do not ask for. So a message costs two passes, and no reader has to remember an error halfway. */
#include "sampler/handoff/transfer.h"

#include <string.h>

#include "common/base/assert.h"

/* Field numbers: proto/peer.proto. */
enum { PAIR_KEY = 1, PAIR_VALUE = 2 };
enum { SENDER_NAME = 1, SENDER_INCARNATION = 2, SENDER_RING_NO = 3, GIVE_BATCH_NO = 4, GIVE_TRACES = 5, FORWARD_METADATA = 4, FORWARD_SPANS = 5 };
enum { PART_METADATA = 1, PART_SPANS = 2 };
enum {
    TRACE_ID = 1, TRACE_PARTS = 2, TRACE_AGE = 3, TRACE_REMAINING = 4, TRACE_VERDICT = 5, TRACE_POLICY = 6, TRACE_EVIDENCE = 7,
    TRACE_DECIDED_AGE = 8, TRACE_EXPORTED = 9, TRACE_EXPORTED_TO = 10
};
enum { EVIDENCE_BIT = 1, EVIDENCE_SPAN_ID = 2, EVIDENCE_THRESHOLD = 3, EVIDENCE_TOO_LARGE = 4, EVIDENCE_SPAN_COUNT = 5 };
enum { ANSWER_OUTCOME = 1, ANSWER_FINGERPRINT = 2, ANSWER_RETRY = 3 };

#define TAG(field, type) WIRE_TAG(field, WIRE_##type)

/* -- numbers ------------------------------------------------------------------------------------------------------ */

static size_t varint_size(int field, uint64_t value)
{
    return value == 0 ? 0 : wire_varint_size(TAG((uint32_t)field, VARINT)) + wire_varint_size(value);
}

static uint8_t *put_varint(uint8_t *out, int field, uint64_t value)
{
    if (value == 0)
        return out;
    return wire_put_varint(wire_put_varint(out, TAG((uint32_t)field, VARINT)), value);
}

static size_t fixed64_size(int field, uint64_t value)
{
    return value == 0 ? 0 : wire_varint_size(TAG((uint32_t)field, FIXED64)) + sizeof(value);
}

static uint8_t *put_fixed64(uint8_t *out, int field, uint64_t value)
{
    if (value == 0)
        return out;
    out = wire_put_varint(out, TAG((uint32_t)field, FIXED64));
    memcpy(out, &value, sizeof(value)); /* little endian: wire.c */
    return out + sizeof(value);
}

static size_t bytes_size(int field, size_t len)
{
    return wire_bytes_size(TAG((uint32_t)field, BYTES), len);
}

static uint8_t *put_bytes(uint8_t *out, int field, struct slice bytes)
{
    return wire_put_bytes(out, TAG((uint32_t)field, BYTES), bytes.at, bytes.len);
}

static uint8_t *put_bytes_head(uint8_t *out, int field, size_t len)
{
    return wire_put_varint(wire_put_varint(out, TAG((uint32_t)field, BYTES)), len);
}

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* Of the type that the field has, or an error: what comes in another type was not written by us. */
static bool is_field(struct wire *w, uint32_t tag, int field, enum wire_type type)
{
    if (WIRE_FIELD(tag) != (uint32_t)field)
        return false;
    if ((tag & 7) != (uint32_t)type)
        wire_fail(w);
    return !w->bad;
}

/* -- metadata ------------------------------------------------------------------------------------------------------ */

static size_t pair_body_size(const struct metadata_entry *pair)
{
    return bytes_size(PAIR_KEY, pair->key.len) + bytes_size(PAIR_VALUE, pair->value.len);
}

static size_t metadata_size(int field, const struct metadata_set *set)
{
    size_t size = 0;

    for (uint32_t i = 0; set && i < set->count; i++)
        size += bytes_size(field, pair_body_size(&set->entries[i]));
    return size;
}

static uint8_t *metadata_write(uint8_t *out, int field, const struct metadata_set *set)
{
    for (uint32_t i = 0; set && i < set->count; i++) {
        const struct metadata_entry *pair = &set->entries[i];

        out = put_bytes_head(out, field, pair_body_size(pair));
        out = put_bytes(out, PAIR_KEY, pair->key);
        out = put_bytes(out, PAIR_VALUE, pair->value);
    }
    return out;
}

static struct metadata_entry pair_read(struct wire *outer, struct slice body)
{
    struct wire w = wire_of(body);
    struct metadata_entry pair = {.key = {NULL, 0}};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, PAIR_KEY, WIRE_BYTES))
            pair.key = wire_bytes(&w);
        else if (is_field(&w, tag, PAIR_VALUE, WIRE_BYTES))
            pair.value = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    if (w.bad || pair.key.len == 0)
        wire_fail(outer);
    return pair;
}

/* More than a set may hold was not written by us either. */
struct metadata_sum {
    size_t pairs, bytes;
};

static void metadata_check(struct wire *w, struct metadata_sum *sum)
{
    const struct metadata_entry pair = pair_read(w, wire_bytes(w));

    sum->pairs++;
    sum->bytes += pair.key.len + pair.value.len;
    if (sum->pairs > METADATA_PAIRS_MAX || sum->bytes > METADATA_BYTES_MAX)
        wire_fail(w);
}

static int metadata_of(struct slice body, int field, struct metadata_set **out_set)
{
    struct metadata_entry pairs[METADATA_PAIRS_MAX];
    struct wire w = wire_of(body);
    size_t count = 0;

    *out_set = NULL;
    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (!is_field(&w, tag, field, WIRE_BYTES)) {
            wire_skip(&w, tag);
            continue;
        }
        ASSERT(count < METADATA_PAIRS_MAX); /* metadata_check */
        pairs[count++] = pair_read(&w, wire_bytes(&w));
    }
    return count == 0 ? 0 : metadata_set_new(pairs, count, out_set);
}

int transfer_part_metadata(const struct transfer_part *part, struct metadata_set **out_set)
{
    return metadata_of(part->body, PART_METADATA, out_set);
}

int transfer_forward_metadata(const struct transfer_forward *forward, struct metadata_set **out_set)
{
    return metadata_of(forward->body, FORWARD_METADATA, out_set);
}

/* -- the sender ----------------------------------------------------------------------------------------------------- */

size_t transfer_sender_size(const struct transfer_sender *sender)
{
    return (sender->name.len ? bytes_size(SENDER_NAME, sender->name.len) : 0) + fixed64_size(SENDER_INCARNATION, sender->incarnation) +
        varint_size(SENDER_RING_NO, sender->ring_no) + varint_size(GIVE_BATCH_NO, sender->batch_no);
}

uint8_t *transfer_sender_write(const struct transfer_sender *sender, uint8_t *out)
{
    if (sender->name.len)
        out = put_bytes(out, SENDER_NAME, sender->name);
    out = put_fixed64(out, SENDER_INCARNATION, sender->incarnation);
    out = put_varint(out, SENDER_RING_NO, sender->ring_no);
    return put_varint(out, GIVE_BATCH_NO, sender->batch_no);
}

/* True: the field was one of the sender's first three. */
static bool sender_field(struct wire *w, uint32_t tag, struct transfer_sender *sender)
{
    if (is_field(w, tag, SENDER_NAME, WIRE_BYTES)) {
        sender->name = wire_bytes(w);
    } else if (is_field(w, tag, SENDER_INCARNATION, WIRE_FIXED64)) {
        sender->incarnation = wire_fixed64(w);
    } else if (is_field(w, tag, SENDER_RING_NO, WIRE_VARINT)) {
        uint64_t ring_no = wire_varint(w);

        sender->ring_no = (uint32_t)ring_no;
        if (ring_no > UINT32_MAX)
            wire_fail(w);
    } else {
        return false;
    }
    return true;
}

/* -- a trace -------------------------------------------------------------------------------------------------------- */

static size_t evidence_size(const struct transfer_verdict *verdict)
{
    return varint_size(EVIDENCE_BIT, verdict->evidence_bit == UINT16_MAX ? 0 : verdict->evidence_bit + 1u) +
        fixed64_size(EVIDENCE_SPAN_ID, verdict->evidence_span_id) + fixed64_size(EVIDENCE_THRESHOLD, verdict->threshold) +
        varint_size(EVIDENCE_TOO_LARGE, verdict->too_large) + varint_size(EVIDENCE_SPAN_COUNT, verdict->span_count);
}

static uint8_t *evidence_write(const struct transfer_verdict *verdict, uint8_t *out)
{
    out = put_varint(out, EVIDENCE_BIT, verdict->evidence_bit == UINT16_MAX ? 0 : verdict->evidence_bit + 1u);
    out = put_fixed64(out, EVIDENCE_SPAN_ID, verdict->evidence_span_id);
    out = put_fixed64(out, EVIDENCE_THRESHOLD, verdict->threshold);
    out = put_varint(out, EVIDENCE_TOO_LARGE, verdict->too_large);
    return put_varint(out, EVIDENCE_SPAN_COUNT, verdict->span_count);
}

static uint64_t verdict_number(enum decision decision)
{
    switch (decision) {
    case DECISION_PENDING:
        return 0;
    case DECISION_SAMPLED:
        return 1;
    case DECISION_NOT_SAMPLED:
        return 2;
    case DECISION_DROPPED:
        return 3;
    case DECISION_ERROR:
        break;
    }
    UNREACHABLE("no trace is settled by an error");
}

static size_t verdict_size(const struct transfer_verdict *verdict)
{
    if (verdict->decision == DECISION_PENDING)
        return 0;
    return varint_size(TRACE_VERDICT, verdict_number(verdict->decision)) +
        (verdict->policy.len ? bytes_size(TRACE_POLICY, verdict->policy.len) : 0) + bytes_size(TRACE_EVIDENCE, evidence_size(verdict)) +
        varint_size(TRACE_DECIDED_AGE, verdict->age_ms);
}

static uint8_t *verdict_write(const struct transfer_verdict *verdict, uint8_t *out)
{
    if (verdict->decision == DECISION_PENDING)
        return out;
    out = put_varint(out, TRACE_VERDICT, verdict_number(verdict->decision));
    if (verdict->policy.len)
        out = put_bytes(out, TRACE_POLICY, verdict->policy);
    out = put_bytes_head(out, TRACE_EVIDENCE, evidence_size(verdict));
    out = evidence_write(verdict, out);
    return put_varint(out, TRACE_DECIDED_AGE, verdict->age_ms);
}

static size_t part_body_size(const struct transfer_part *part)
{
    return metadata_size(PART_METADATA, part->metadata) + bytes_size(PART_SPANS, part->spans.len);
}

static size_t trace_body_size(const struct transfer_trace *trace)
{
    size_t size = bytes_size(TRACE_ID, sizeof(trace->id.bytes)) + varint_size(TRACE_AGE, trace->age_ms) +
        varint_size(TRACE_REMAINING, zigzag(trace->remaining_ms)) + verdict_size(&trace->verdict);

    for (size_t i = 0; i < trace->part_count; i++)
        size += bytes_size(TRACE_PARTS, part_body_size(&trace->parts[i]));
    if (trace->hash_count > 0)
        size += bytes_size(TRACE_EXPORTED, trace->hash_count * sizeof(uint64_t));
    for (size_t i = 0; i < trace->delivered_count; i++)
        size += bytes_size(TRACE_EXPORTED_TO, strlen(trace->delivered[i]));
    return size;
}

size_t transfer_trace_size(const struct transfer_trace *trace)
{
    return bytes_size(GIVE_TRACES, trace_body_size(trace));
}

uint8_t *transfer_trace_write(const struct transfer_trace *trace, uint8_t *out)
{
    out = put_bytes_head(out, GIVE_TRACES, trace_body_size(trace));
    out = put_bytes(out, TRACE_ID, slice_make(trace->id.bytes, sizeof(trace->id.bytes)));
    for (size_t i = 0; i < trace->part_count; i++) {
        const struct transfer_part *part = &trace->parts[i];

        out = put_bytes_head(out, TRACE_PARTS, part_body_size(part));
        out = metadata_write(out, PART_METADATA, part->metadata);
        out = put_bytes(out, PART_SPANS, part->spans);
    }
    out = put_varint(out, TRACE_AGE, trace->age_ms);
    out = put_varint(out, TRACE_REMAINING, zigzag(trace->remaining_ms));
    out = verdict_write(&trace->verdict, out);
    if (trace->hash_count > 0)
        out = put_bytes(out, TRACE_EXPORTED, slice_make(trace->hashes, trace->hash_count * sizeof(uint64_t)));
    for (size_t i = 0; i < trace->delivered_count; i++)
        out = put_bytes(out, TRACE_EXPORTED_TO, slice_text(trace->delivered[i]));
    return out;
}

static uint32_t read_u32(struct wire *w)
{
    uint64_t value = wire_varint(w);

    if (value > UINT32_MAX) {
        wire_fail(w);
        return 0;
    }
    return (uint32_t)value;
}

static void evidence_read(struct wire *outer, struct slice body, struct transfer_verdict *verdict)
{
    struct wire w = wire_of(body);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, EVIDENCE_BIT, WIRE_VARINT)) {
            uint32_t bit = read_u32(&w);

            if (bit > UINT16_MAX)
                wire_fail(&w);
            verdict->evidence_bit = (uint16_t)(bit - 1u); /* 0: none, UINT16_MAX */
        } else if (is_field(&w, tag, EVIDENCE_SPAN_ID, WIRE_FIXED64)) {
            verdict->evidence_span_id = wire_fixed64(&w);
        } else if (is_field(&w, tag, EVIDENCE_THRESHOLD, WIRE_FIXED64)) {
            verdict->threshold = wire_fixed64(&w);
        } else if (is_field(&w, tag, EVIDENCE_TOO_LARGE, WIRE_VARINT)) {
            verdict->too_large = wire_varint(&w) != 0;
        } else if (is_field(&w, tag, EVIDENCE_SPAN_COUNT, WIRE_VARINT)) {
            verdict->span_count = read_u32(&w);
        } else {
            wire_skip(&w, tag);
        }
    }
    if (w.bad)
        wire_fail(outer);
}

static enum decision verdict_read(struct wire *w)
{
    static const enum decision decisions[] = {DECISION_PENDING, DECISION_SAMPLED, DECISION_NOT_SAMPLED, DECISION_DROPPED};
    uint64_t number = wire_varint(w);

    if (number < sizeof(decisions) / sizeof(decisions[0]))
        return decisions[number];
    wire_fail(w);
    return DECISION_PENDING;
}

static bool part_read(struct slice body, struct transfer_part *out_part)
{
    struct wire w = wire_of(body);
    struct metadata_sum sum = {0, 0};

    *out_part = (struct transfer_part){.body = body};
    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, PART_METADATA, WIRE_BYTES))
            metadata_check(&w, &sum);
        else if (is_field(&w, tag, PART_SPANS, WIRE_BYTES))
            out_part->spans = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    return !w.bad;
}

/* One field of a trace whose number says what it is; scalars are taken, the rest only checked. */
static void trace_field(struct wire *w, uint32_t tag, struct transfer_trace *trace, bool *has_id)
{
    struct transfer_verdict *verdict = &trace->verdict;
    struct transfer_part part;

    if (is_field(w, tag, TRACE_ID, WIRE_BYTES)) {
        struct slice id = wire_bytes(w);

        *has_id = id.len == sizeof(trace->id.bytes);
        if (*has_id)
            memcpy(trace->id.bytes, id.at, id.len);
    } else if (is_field(w, tag, TRACE_PARTS, WIRE_BYTES)) {
        if (!part_read(wire_bytes(w), &part))
            wire_fail(w);
    } else if (is_field(w, tag, TRACE_AGE, WIRE_VARINT)) {
        trace->age_ms = wire_varint(w);
    } else if (is_field(w, tag, TRACE_REMAINING, WIRE_VARINT)) {
        trace->remaining_ms = unzigzag(wire_varint(w));
    } else if (is_field(w, tag, TRACE_VERDICT, WIRE_VARINT)) {
        verdict->decision = verdict_read(w);
    } else if (is_field(w, tag, TRACE_POLICY, WIRE_BYTES)) {
        verdict->policy = wire_bytes(w);
    } else if (is_field(w, tag, TRACE_EVIDENCE, WIRE_BYTES)) {
        evidence_read(w, wire_bytes(w), verdict);
    } else if (is_field(w, tag, TRACE_DECIDED_AGE, WIRE_VARINT)) {
        verdict->age_ms = wire_varint(w);
    } else if (is_field(w, tag, TRACE_EXPORTED, WIRE_BYTES)) {
        struct slice hashes = wire_bytes(w);

        trace->hash_count += hashes.len / sizeof(uint64_t);
        if (hashes.len % sizeof(uint64_t) != 0)
            wire_fail(w);
    } else {
        wire_skip(w, tag);
    }
}

static bool trace_read(struct slice body, struct transfer_trace *out_trace)
{
    struct wire w = wire_of(body);
    bool has_id = false;

    *out_trace = (struct transfer_trace){.verdict = {.evidence_bit = UINT16_MAX}, .body = body};
    while (wire_more(&w))
        trace_field(&w, wire_tag(&w), out_trace, &has_id);
    return !w.bad && has_id && !trace_id_is_zero(&out_trace->id);
}

/* -- a Give --------------------------------------------------------------------------------------------------------- */

bool transfer_give_read(struct slice message, struct transfer_sender *out_sender, size_t *out_traces)
{
    struct wire w = wire_of(message);
    struct transfer_sender sender = {.name = {NULL, 0}};
    struct transfer_trace trace;
    size_t traces = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, GIVE_TRACES, WIRE_BYTES)) {
            traces++;
            if (!trace_read(wire_bytes(&w), &trace))
                wire_fail(&w);
        } else if (is_field(&w, tag, GIVE_BATCH_NO, WIRE_VARINT)) {
            sender.batch_no = wire_varint(&w);
        } else if (!sender_field(&w, tag, &sender)) {
            wire_skip(&w, tag);
        }
    }
    if (w.bad)
        return false;
    *out_sender = sender;
    *out_traces = traces;
    return true;
}

/* The next field of that number; false at the end. */
static bool next_bytes(struct wire *w, int field, struct slice *out_bytes, const uint8_t **out_begin)
{
    while (wire_more(w)) {
        const uint8_t *begin = w->at;
        uint32_t tag = wire_tag(w);

        if (is_field(w, tag, field, WIRE_BYTES)) {
            *out_bytes = wire_bytes(w);
            *out_begin = begin;
            return !w->bad;
        }
        wire_skip(w, tag);
    }
    return false;
}

bool transfer_trace_next(struct wire *give, struct transfer_trace *out_trace)
{
    const uint8_t *begin;
    struct slice body;

    if (!next_bytes(give, GIVE_TRACES, &body, &begin) || !trace_read(body, out_trace))
        return false;
    out_trace->field = slice_make(begin, (size_t)(give->at - begin));
    return true;
}

bool transfer_part_next(struct wire *trace, struct transfer_part *out_part)
{
    const uint8_t *begin;
    struct slice body;

    return next_bytes(trace, TRACE_PARTS, &body, &begin) && part_read(body, out_part);
}

bool transfer_delivered_next(struct wire *trace, struct slice *out_exporter)
{
    const uint8_t *begin;

    return next_bytes(trace, TRACE_EXPORTED_TO, out_exporter, &begin);
}

struct transfer_hashes transfer_hashes(const struct transfer_trace *trace)
{
    return (struct transfer_hashes){wire_of(trace->body), {NULL, NULL, false}};
}

bool transfer_hash_next(struct transfer_hashes *hashes, uint64_t *out_hash)
{
    const uint8_t *begin;
    struct slice packed;

    while (!wire_more(&hashes->packed)) {
        if (!next_bytes(&hashes->trace, TRACE_EXPORTED, &packed, &begin))
            return false;
        hashes->packed = wire_of(packed);
    }
    *out_hash = wire_fixed64(&hashes->packed);
    return true;
}

/* -- answers ---------------------------------------------------------------------------------------------------------- */

static size_t answer_rest_size(const struct transfer_answer *answer)
{
    return fixed64_size(ANSWER_FINGERPRINT, answer->fingerprint) + varint_size(ANSWER_RETRY, answer->retry_ms);
}

static uint8_t *answer_rest_write(const struct transfer_answer *answer, uint8_t *out)
{
    out = put_fixed64(out, ANSWER_FINGERPRINT, answer->fingerprint);
    return put_varint(out, ANSWER_RETRY, answer->retry_ms);
}

struct buffer *transfer_give_answer(const struct transfer_answer *answer)
{
    struct buffer *buffer = buffer_new(bytes_size(ANSWER_OUTCOME, answer->outcomes.len) + answer_rest_size(answer));

    if (buffer)
        buffer->len = (size_t)(answer_rest_write(answer, put_bytes(buffer->bytes, ANSWER_OUTCOME, answer->outcomes)) - buffer->bytes);
    return buffer;
}

struct buffer *transfer_forward_answer(const struct transfer_answer *answer)
{
    struct buffer *buffer = buffer_new(varint_size(ANSWER_OUTCOME, (uint64_t)answer->outcome) + answer_rest_size(answer));

    if (buffer)
        buffer->len = (size_t)(
            answer_rest_write(answer, put_varint(buffer->bytes, ANSWER_OUTCOME, (uint64_t)answer->outcome)) - buffer->bytes);
    return buffer;
}

static bool is_outcome(uint64_t number)
{
    return number >= TRANSFER_ACCEPTED && number <= TRANSFER_BUSY;
}

static void answer_field(struct wire *w, uint32_t tag, struct transfer_answer *answer)
{
    if (is_field(w, tag, ANSWER_FINGERPRINT, WIRE_FIXED64))
        answer->fingerprint = wire_fixed64(w);
    else if (is_field(w, tag, ANSWER_RETRY, WIRE_VARINT))
        answer->retry_ms = wire_varint(w);
    else
        wire_skip(w, tag);
}

bool transfer_give_answer_read(struct slice message, struct transfer_answer *out_answer)
{
    struct wire w = wire_of(message);
    struct transfer_answer answer = {.outcomes = {NULL, 0}};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, ANSWER_OUTCOME, WIRE_BYTES)) {
            answer.outcomes = wire_bytes(&w);
            for (size_t i = 0; i < answer.outcomes.len; i++)
                if (!is_outcome(answer.outcomes.at[i]))
                    return false;
        } else {
            answer_field(&w, tag, &answer);
        }
    }
    if (w.bad)
        return false;
    *out_answer = answer;
    return true;
}

bool transfer_forward_answer_read(struct slice message, struct transfer_answer *out_answer)
{
    struct wire w = wire_of(message);
    struct transfer_answer answer = {.outcomes = {NULL, 0}};
    uint64_t outcome = 0;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, ANSWER_OUTCOME, WIRE_VARINT))
            outcome = wire_varint(&w);
        else
            answer_field(&w, tag, &answer);
    }
    if (w.bad || !is_outcome(outcome))
        return false;
    answer.outcome = (enum transfer_outcome)outcome;
    *out_answer = answer;
    return true;
}

/* -- a Forward ----------------------------------------------------------------------------------------------------------- */

size_t transfer_forward_head_size(const struct transfer_forward *forward)
{
    return (forward->sender.name.len ? bytes_size(SENDER_NAME, forward->sender.name.len) : 0) +
        fixed64_size(SENDER_INCARNATION, forward->sender.incarnation) + varint_size(SENDER_RING_NO, forward->sender.ring_no) +
        metadata_size(FORWARD_METADATA, forward->metadata) + bytes_size(FORWARD_SPANS, forward->spans.len) - forward->spans.len;
}

uint8_t *transfer_forward_head_write(const struct transfer_forward *forward, uint8_t *out)
{
    if (forward->sender.name.len)
        out = put_bytes(out, SENDER_NAME, forward->sender.name);
    out = put_fixed64(out, SENDER_INCARNATION, forward->sender.incarnation);
    out = put_varint(out, SENDER_RING_NO, forward->sender.ring_no);
    out = metadata_write(out, FORWARD_METADATA, forward->metadata);
    return put_bytes_head(out, FORWARD_SPANS, forward->spans.len);
}

bool transfer_forward_read(struct slice message, struct transfer_forward *out_forward)
{
    struct wire w = wire_of(message);
    struct transfer_forward forward = {.body = message};
    struct metadata_sum sum = {0, 0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (is_field(&w, tag, FORWARD_METADATA, WIRE_BYTES))
            metadata_check(&w, &sum);
        else if (is_field(&w, tag, FORWARD_SPANS, WIRE_BYTES))
            forward.spans = wire_bytes(&w);
        else if (!sender_field(&w, tag, &forward.sender))
            wire_skip(&w, tag);
    }
    if (w.bad)
        return false;
    *out_forward = forward;
    return true;
}
