/* Whatever the bytes: readers stay inside them and end; and what was read as a Give, written again, reads the same. */
#include "sampler/handoff/transfer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PARTS_MAX 64u
#define HASHES_MAX 1024u

static void inside(struct slice part, struct slice message)
{
    if (part.len > 0 && (part.at < message.at || part.at + part.len > message.at + message.len))
        abort();
}

struct copy { /* of a trace's many */
    struct transfer_part parts[PARTS_MAX];
    struct metadata_set *sets[PARTS_MAX];
    uint64_t hashes[HASHES_MAX];
};

/* False: more of something than is compared here. */
static bool copy_trace(struct slice message, const struct transfer_trace *trace, struct copy *copy, struct transfer_trace *out_copy)
{
    struct transfer_hashes hashes = transfer_hashes(trace);
    struct wire parts = wire_of(trace->body), delivered = wire_of(trace->body);
    struct slice exporter;
    size_t hash_count = 0;
    uint64_t hash;

    *out_copy = *trace;
    out_copy->parts = copy->parts;
    out_copy->hashes = copy->hashes;
    while (out_copy->part_count < PARTS_MAX && transfer_part_next(&parts, &copy->parts[out_copy->part_count])) {
        struct transfer_part *part = &copy->parts[out_copy->part_count];

        inside(part->spans, message);
        if (transfer_part_metadata(part, &copy->sets[out_copy->part_count]) != 0)
            abort();
        part->metadata = copy->sets[out_copy->part_count++];
    }
    while (transfer_hash_next(&hashes, &hash)) {
        if (hash_count < HASHES_MAX)
            copy->hashes[hash_count] = hash;
        hash_count++;
    }
    if (hash_count != trace->hash_count)
        abort();
    while (transfer_delivered_next(&delivered, &exporter))
        inside(exporter, message);
    return hash_count <= HASHES_MAX && !wire_more(&parts);
}

static void written_again(const struct transfer_trace *wrote)
{
    size_t size = transfer_trace_size(wrote), count;
    uint8_t *bytes = malloc(size);
    struct transfer_sender sender;
    struct transfer_trace read;
    struct transfer_part part;
    struct wire w, parts;

    if (!bytes || transfer_trace_write(wrote, bytes) != bytes + size || !transfer_give_read(slice_make(bytes, size), &sender, &count) || count != 1)
        abort();
    w = wire_of(slice_make(bytes, size));
    if (!transfer_trace_next(&w, &read) || read.field.len != size || !trace_id_equal(&read.id, &wrote->id))
        abort();
    if (read.age_ms != wrote->age_ms || read.remaining_ms != wrote->remaining_ms || read.hash_count != wrote->hash_count)
        abort();
    if (read.verdict.decision != wrote->verdict.decision)
        abort();
    if (read.verdict.decision != DECISION_PENDING &&
        (read.verdict.threshold != wrote->verdict.threshold || read.verdict.evidence_bit != wrote->verdict.evidence_bit ||
            read.verdict.age_ms != wrote->verdict.age_ms || !slice_equal(read.verdict.policy, wrote->verdict.policy)))
        abort();
    parts = wire_of(read.body);
    for (size_t i = 0; i < wrote->part_count; i++)
        if (!transfer_part_next(&parts, &part) || !slice_equal(part.spans, wrote->parts[i].spans))
            abort();
    free(bytes);
}

static void give(struct slice message)
{
    struct wire w = wire_of(message);
    struct transfer_sender sender;
    struct transfer_trace trace, wrote;
    size_t count, seen = 0;

    if (!transfer_give_read(message, &sender, &count))
        return;
    inside(sender.name, message);
    while (transfer_trace_next(&w, &trace)) {
        static struct copy copy;

        seen++;
        inside(trace.field, message);
        if (copy_trace(message, &trace, &copy, &wrote))
            written_again(&wrote);
        for (size_t i = 0; i < wrote.part_count; i++)
            metadata_set_unref(copy.sets[i]);
    }
    if (seen != count)
        abort();
}

static void forward(struct slice message)
{
    struct transfer_forward read;
    struct metadata_set *set;

    if (!transfer_forward_read(message, &read))
        return;
    inside(read.spans, message);
    inside(read.sender.name, message);
    if (transfer_forward_metadata(&read, &set) != 0)
        abort();
    metadata_set_unref(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice message = slice_make(data, size);
    struct transfer_answer answer;

    give(message);
    forward(message);
    if (transfer_give_answer_read(message, &answer))
        inside(answer.outcomes, message);
    (void)transfer_forward_answer_read(message, &answer);
    return 0;
}
