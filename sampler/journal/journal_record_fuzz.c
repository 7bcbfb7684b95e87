/* Any bytes as a record of each kind: read to the end without reading past it; and what was read, written anew, reads as the same. */
#include "sampler/journal/journal_record.h"

#include <stdlib.h>

#define MANY 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void try_came_in(struct slice payload)
{
    struct journal_came_in request, again;
    struct buffer *head;

    if (journal_request_read(payload, &request))
        return;
    head = journal_request_head(request.received_unix_ns, request.metadata);
    must(head && journal_request_read(buffer_slice(head), &again) == 0);
    must(again.received_unix_ns == request.received_unix_ns && metadata_set_equal(again.metadata, request.metadata) && again.body.len == 0);
    must(request.body.len <= payload.len);
    metadata_set_unref(request.metadata);
    metadata_set_unref(again.metadata);
    buffer_unref(head);
    must(journal_traces_read(payload, &request) == 0 && request.body.len + 8 == payload.len);
}

static bool verdict_equal(const struct journal_verdict *a, const struct journal_verdict *b)
{
    return trace_id_equal(&a->id, &b->id) && a->decision == b->decision && a->too_large == b->too_large &&
           slice_equal(a->policy, b->policy) && a->decided_unix_ns == b->decided_unix_ns && a->span_count == b->span_count &&
           a->evidence_span_id == b->evidence_span_id && a->evidence_bit == b->evidence_bit && a->threshold == b->threshold;
}

static void try_verdicts(struct slice payload)
{
    static struct journal_verdict verdicts[MANY];
    struct journal_verdicts reader;
    struct journal_verdict verdict;
    struct buffer *again;
    size_t count = 0;

    journal_verdicts_begin(&reader, payload);
    while (count < MANY && journal_verdicts_next(&reader, &verdicts[count]))
        count++;
    again = journal_verdicts_encode(verdicts, count);
    must(again != NULL);
    journal_verdicts_begin(&reader, buffer_slice(again));
    for (size_t i = 0; i < count; i++)
        must(journal_verdicts_next(&reader, &verdict) && verdict_equal(&verdict, &verdicts[i]));
    must(!journal_verdicts_next(&reader, &verdict) && !reader.wire.bad);
    buffer_unref(again);
}

static void try_spans(struct slice payload)
{
    static struct journal_spans spans[MANY];
    struct journal_spans_reader reader;
    struct journal_spans one;
    struct buffer *again;
    size_t count = 0;

    journal_spans_begin(&reader, payload);
    while (count < MANY && journal_spans_next(&reader, &spans[count]))
        count++;
    again = journal_spans_encode(spans, count);
    must(again != NULL);
    journal_spans_begin(&reader, buffer_slice(again));
    for (size_t i = 0; i < count; i++) {
        must(journal_spans_next(&reader, &one) && trace_id_equal(&one.id, &spans[i].id));
        must(one.also_verdict == spans[i].also_verdict && one.before == spans[i].before && slice_equal(one.exporter, spans[i].exporter) &&
             slice_equal(one.hashes, spans[i].hashes));
    }
    must(!journal_spans_next(&reader, &one) && !reader.wire.bad);
    buffer_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice payload = slice_make(data, size);

    try_came_in(payload);
    try_verdicts(payload);
    try_spans(payload);
    return 0;
}
