/* Each record begins with what its reader must know to step through the rest. Counts from the disk are never trusted for memory: the
 * readers walk, they do not allocate. */
#include "sampler/journal/journal_record.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

static uint8_t *put_fixed64(uint8_t *out, uint64_t value)
{
    memcpy(out, &value, sizeof(value)); /* little endian, as this machine is: common/otlp/wire.c */
    return out + sizeof(value);
}

static uint8_t *put_slice(uint8_t *out, struct slice bytes)
{
    out = wire_put_varint(out, bytes.len);
    if (bytes.len > 0)
        memcpy(out, bytes.at, bytes.len);
    return out + bytes.len;
}

static size_t slice_size(struct slice bytes)
{
    return wire_varint_size(bytes.len) + bytes.len;
}

static struct buffer *filled(struct buffer *buffer, const uint8_t *end)
{
    buffer->len = (size_t)(end - buffer->bytes);
    ASSERT(buffer->len <= buffer->capacity);
    return buffer;
}

static struct trace_id get_id(struct wire *w)
{
    struct trace_id id = {{0}};

    if (w->end - w->at < (ptrdiff_t)sizeof(id.bytes)) {
        wire_fail(w);
        return id;
    }
    memcpy(id.bytes, w->at, sizeof(id.bytes));
    w->at += sizeof(id.bytes);
    return id;
}

static uint8_t get_byte(struct wire *w)
{
    if (!wire_more(w)) {
        wire_fail(w);
        return 0;
    }
    return *w->at++;
}

/* A varint that must fit; else bad. */
static uint64_t get_up_to(struct wire *w, uint64_t most)
{
    uint64_t value = wire_varint(w);

    if (value > most) {
        wire_fail(w);
        return 0;
    }
    return value;
}

/* After the last of them nothing may follow. */
static bool more(struct wire *w, uint64_t left)
{
    if (w->bad)
        return false;
    if (left == 0 && wire_more(w))
        wire_fail(w);
    return left > 0;
}

/* -- REQUEST, TRACES --------------------------------------------------------------------------------------------------- */

struct buffer *journal_request_head(uint64_t received_unix_ns, const struct metadata_set *metadata)
{
    uint32_t count = metadata ? metadata->count : 0;
    size_t size = 8 + wire_varint_size(count);
    struct buffer *buffer;
    uint8_t *out;

    for (uint32_t i = 0; i < count; i++)
        size += slice_size(metadata->entries[i].key) + slice_size(metadata->entries[i].value);
    buffer = buffer_new(size);
    if (!buffer)
        return NULL;
    out = put_fixed64(buffer->bytes, received_unix_ns);
    out = wire_put_varint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        out = put_slice(out, metadata->entries[i].key);
        out = put_slice(out, metadata->entries[i].value);
    }
    return filled(buffer, out);
}

int journal_request_read(struct slice payload, struct journal_came_in *out_request)
{
    struct metadata_entry entries[METADATA_PAIRS_MAX];
    struct wire w = wire_of(payload);
    uint64_t received_unix_ns = wire_fixed64(&w);
    uint64_t count = get_up_to(&w, METADATA_PAIRS_MAX);
    struct metadata_set *metadata = NULL;
    int r;

    for (uint64_t i = 0; i < count; i++) {
        entries[i].key = wire_bytes(&w);
        entries[i].value = wire_bytes(&w);
    }
    if (w.bad)
        return JOURNAL_RECORD_E_BAD;
    r = count > 0 ? metadata_set_new(entries, (size_t)count, &metadata) : 0;
    if (r)
        return r < 0 ? r : JOURNAL_RECORD_E_BAD;
    *out_request = (struct journal_came_in){
        .received_unix_ns = received_unix_ns, .metadata = metadata, .body = slice_make(w.at, (size_t)(w.end - w.at))};
    return 0;
}

struct buffer *journal_traces_head(uint64_t received_unix_ns)
{
    struct buffer *buffer = buffer_new(8);

    return buffer ? filled(buffer, put_fixed64(buffer->bytes, received_unix_ns)) : NULL;
}

int journal_traces_read(struct slice payload, struct journal_came_in *out_traces)
{
    struct wire w = wire_of(payload);
    uint64_t received_unix_ns = wire_fixed64(&w);

    if (w.bad)
        return JOURNAL_RECORD_E_BAD;
    *out_traces = (struct journal_came_in){.received_unix_ns = received_unix_ns, .body = slice_make(w.at, (size_t)(w.end - w.at))};
    return 0;
}

/* -- VERDICTS ------------------------------------------------------------------------------------------------------------ */

/* What a verdict has beside its ID, in one byte: two bits of decision, then flags for what follows only where it is there. */
enum {
    VERDICT_DECISION = 3,
    VERDICT_TOO_LARGE = 4,
    VERDICT_POLICY = 8,
    VERDICT_SPAN_ID = 16,
    VERDICT_BIT = 32,
    VERDICT_THRESHOLD = 64,
    VERDICT_UNKNOWN = 128,
};
#define VERDICT_SIZE_MAX (16 + 1 + 5 + 8 + 5 + 8 + 3 + 10) /* ID, flags, policy, time, spans, span ID, bit, threshold */

struct name_table {
    const struct slice **names; /* of the verdicts that named them first */
    uint32_t *index_of;         /* of each verdict */
    uint32_t count;
    size_t bytes;
};

/* Policies are few, and a verdict often has the one of the verdict before. */
static uint32_t name_index(struct name_table *table, const struct slice *name, uint32_t guess)
{
    if (guess < table->count && slice_equal(*table->names[guess], *name))
        return guess;
    for (uint32_t i = 0; i < table->count; i++)
        if (slice_equal(*table->names[i], *name))
            return i;
    ASSERT(table->count < JOURNAL_POLICIES_MAX);
    table->names[table->count] = name;
    table->bytes += slice_size(*name);
    return table->count++;
}

static void names_collect(struct name_table *table, const struct journal_verdict *verdicts, size_t count)
{
    uint32_t guess = 0;

    for (size_t i = 0; i < count; i++)
        if (verdicts[i].policy.len > 0)
            guess = table->index_of[i] = name_index(table, &verdicts[i].policy, guess);
}

static uint8_t verdict_flags(const struct journal_verdict *verdict)
{
    unsigned flags = (unsigned)verdict->decision;

    ASSERT(verdict->decision >= DECISION_SAMPLED && verdict->decision <= DECISION_DROPPED);
    flags |= verdict->too_large ? VERDICT_TOO_LARGE : 0;
    flags |= verdict->policy.len > 0 ? VERDICT_POLICY : 0;
    flags |= verdict->evidence_span_id ? VERDICT_SPAN_ID : 0;
    flags |= verdict->evidence_bit != UINT16_MAX ? VERDICT_BIT : 0;
    flags |= verdict->threshold ? VERDICT_THRESHOLD : 0;
    return (uint8_t)flags;
}

static uint8_t *put_verdict(uint8_t *out, const struct journal_verdict *verdict, uint32_t name)
{
    uint8_t flags = verdict_flags(verdict);

    memcpy(out, verdict->id.bytes, sizeof(verdict->id.bytes));
    out += sizeof(verdict->id.bytes);
    *out++ = flags;
    out = put_fixed64(out, verdict->decided_unix_ns);
    out = wire_put_varint(out, verdict->span_count);
    if (flags & VERDICT_POLICY)
        out = wire_put_varint(out, name);
    if (flags & VERDICT_SPAN_ID)
        out = put_fixed64(out, verdict->evidence_span_id);
    if (flags & VERDICT_BIT)
        out = wire_put_varint(out, verdict->evidence_bit);
    if (flags & VERDICT_THRESHOLD)
        out = wire_put_varint(out, verdict->threshold);
    return out;
}

static struct buffer *verdicts_put(const struct journal_verdict *verdicts, size_t count, const struct name_table *table)
{
    struct buffer *buffer = buffer_new(5 + table->bytes + 5 + 10 + count * VERDICT_SIZE_MAX);
    uint8_t *out;

    if (!buffer)
        return NULL;
    out = wire_put_varint(buffer->bytes, table->count);
    out = wire_put_varint(out, table->bytes);
    for (uint32_t i = 0; i < table->count; i++)
        out = put_slice(out, *table->names[i]);
    out = wire_put_varint(out, count);
    for (size_t i = 0; i < count; i++)
        out = put_verdict(out, &verdicts[i], table->index_of[i]);
    return filled(buffer, out);
}

struct buffer *journal_verdicts_encode(const struct journal_verdict *verdicts, size_t count)
{
    struct name_table table = {0};
    struct buffer *buffer = NULL;

    table.index_of = calloc(count + 1, sizeof(table.index_of[0]));
    table.names = calloc(size_min(count, JOURNAL_POLICIES_MAX) + 1, sizeof(struct slice *));
    if (table.index_of && table.names) {
        names_collect(&table, verdicts, count);
        buffer = verdicts_put(verdicts, count, &table);
    }
    free(table.index_of);
    free(table.names);
    return buffer;
}

void journal_verdicts_begin(struct journal_verdicts *reader, struct slice payload)
{
    *reader = (struct journal_verdicts){.wire = wire_of(payload)};
    reader->name_count = (uint32_t)get_up_to(&reader->wire, JOURNAL_POLICIES_MAX);
    reader->names = wire_bytes(&reader->wire);
    reader->left = wire_varint(&reader->wire);
    reader->next_name = wire_of(reader->names);
    reader->last_index = UINT32_MAX;
}

/* Verdicts of one policy often stand together, and a table's names in the order in which they are first used. */
static struct slice name_at(struct journal_verdicts *reader, uint32_t index)
{
    if (index >= reader->name_count) {
        wire_fail(&reader->wire);
        return (struct slice){NULL, 0};
    }
    if (index == reader->last_index)
        return reader->last_name;
    if (reader->last_index == UINT32_MAX || index < reader->last_index) {
        reader->next_name = wire_of(reader->names);
        reader->last_index = UINT32_MAX;
    }
    while (reader->last_index != index) {
        reader->last_name = wire_bytes(&reader->next_name);
        reader->last_index++; /* UINT32_MAX: to the first */
    }
    if (reader->next_name.bad)
        wire_fail(&reader->wire);
    return reader->last_name;
}

bool journal_verdicts_next(struct journal_verdicts *reader, struct journal_verdict *out_verdict)
{
    struct wire *w = &reader->wire;
    struct journal_verdict verdict = {.evidence_bit = UINT16_MAX};
    uint8_t flags;

    if (!more(w, reader->left))
        return false;
    reader->left--;
    verdict.id = get_id(w);
    flags = get_byte(w);
    verdict.decision = (enum decision)(flags & VERDICT_DECISION);
    verdict.too_large = (flags & VERDICT_TOO_LARGE) != 0;
    verdict.decided_unix_ns = wire_fixed64(w);
    verdict.span_count = (uint32_t)get_up_to(w, UINT32_MAX);
    if (flags & VERDICT_POLICY)
        verdict.policy = name_at(reader, (uint32_t)get_up_to(w, UINT32_MAX));
    if (flags & VERDICT_SPAN_ID)
        verdict.evidence_span_id = wire_fixed64(w);
    if (flags & VERDICT_BIT)
        verdict.evidence_bit = (uint16_t)get_up_to(w, UINT16_MAX);
    if (flags & VERDICT_THRESHOLD)
        verdict.threshold = wire_varint(w);
    if ((flags & VERDICT_UNKNOWN) || verdict.decision == DECISION_PENDING)
        wire_fail(w);
    if (w->bad)
        return false;
    *out_verdict = verdict;
    return true;
}

/* -- EXPORTED, GIVEN: ID, flags, before?, exporter?, how many hashes, hashes ------------------------------------------------------------------------------------------------------- */

enum {
    SPANS_ALSO_VERDICT = 1,
    SPANS_BEFORE = 2,
    SPANS_EXPORTER = 4,
    SPANS_UNKNOWN = 248,
};
#define SPANS_SIZE_MAX (16 + 1 + 10 + 10 + 10) /* all but the name and the hashes */

struct buffer *journal_spans_encode(const struct journal_spans *spans, size_t count)
{
    size_t size = wire_varint_size(count);
    struct buffer *buffer;
    uint8_t *out;

    for (size_t i = 0; i < count; i++)
        size += SPANS_SIZE_MAX + spans[i].exporter.len + spans[i].hashes.len;
    buffer = buffer_new(size);
    if (!buffer)
        return NULL;
    out = wire_put_varint(buffer->bytes, count);
    for (size_t i = 0; i < count; i++) {
        ASSERT(spans[i].hashes.len % sizeof(uint64_t) == 0);
        memcpy(out, spans[i].id.bytes, sizeof(spans[i].id.bytes));
        out += sizeof(spans[i].id.bytes);
        *out++ = (uint8_t)((spans[i].also_verdict ? SPANS_ALSO_VERDICT : 0) | (spans[i].before ? SPANS_BEFORE : 0) |
                           (spans[i].exporter.len ? SPANS_EXPORTER : 0));
        if (spans[i].before)
            out = wire_put_varint(out, spans[i].before);
        if (spans[i].exporter.len)
            out = put_slice(out, spans[i].exporter);
        out = wire_put_varint(out, journal_hash_count(&spans[i]));
        if (spans[i].hashes.len > 0)
            memcpy(out, spans[i].hashes.at, spans[i].hashes.len);
        out += spans[i].hashes.len;
    }
    return filled(buffer, out);
}

void journal_spans_begin(struct journal_spans_reader *reader, struct slice payload)
{
    *reader = (struct journal_spans_reader){.wire = wire_of(payload)};
    reader->left = wire_varint(&reader->wire);
}

bool journal_spans_next(struct journal_spans_reader *reader, struct journal_spans *out_spans)
{
    struct wire *w = &reader->wire;
    struct journal_spans spans = {0};
    uint64_t count;
    uint8_t flags;

    if (!more(w, reader->left))
        return false;
    reader->left--;
    spans.id = get_id(w);
    flags = get_byte(w);
    spans.also_verdict = (flags & SPANS_ALSO_VERDICT) != 0;
    if (flags & SPANS_BEFORE)
        spans.before = wire_varint(w);
    if (flags & SPANS_EXPORTER)
        spans.exporter = wire_bytes(w);
    count = wire_varint(w);
    if ((flags & SPANS_UNKNOWN) || count > (uint64_t)(w->end - w->at) / sizeof(uint64_t))
        wire_fail(w);
    if (w->bad)
        return false;
    spans.hashes = slice_make(w->at, (size_t)count * sizeof(uint64_t));
    w->at += spans.hashes.len;
    *out_spans = spans;
    return true;
}
