#include "sampler/intake.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"

#define SCRATCH_KEEP_BYTES (4 * MIB) /* some 25,000 spans: far more than a usual request */

void intake_init(struct intake *intake)
{
    memset(intake, 0, sizeof(*intake));
}

void intake_deinit(struct intake *intake)
{
    free(intake->spans);
    free(intake->headers);
    free(intake->rejected);
    memset(intake, 0, sizeof(*intake));
}

/* The scratch grows to the largest request seen; a worker without that memory cannot go on. */
static void *grow(void *array, size_t *capacity, size_t item_size)
{
    *capacity = size_max(*capacity * 2, 64);
    array = realloc(array, *capacity * item_size);
    ASSERT(array != NULL);
    return array;
}

static void intake_reject(struct intake *intake, uint32_t index, enum span_fault fault)
{
    if (intake->rejected_count == intake->rejected_capacity)
        intake->rejected = grow(intake->rejected, &intake->rejected_capacity, sizeof(intake->rejected[0]));
    intake->rejected[intake->rejected_count++] = index;
    intake->fault_counts[fault]++;
}

/* Interns the header and answers its predicates, unless that was done before. */
static void intake_header(struct intake *intake, const struct span_header *view, const struct policy_set *set,
    struct predicate_scratch *scratch, struct header_table *headers)
{
    struct intake_header *entry;
    struct header *header;

    if (intake->header_count == intake->header_capacity)
        intake->headers = grow(intake->headers, &intake->header_capacity, sizeof(intake->headers[0]));
    entry = &intake->headers[intake->header_count++];
    header = header_table_get(headers, view, intake->metadata);
    ASSERT(header != NULL);
    entry->view = *view;
    entry->header = header;
    entry->malformed = false;
    if (LIKELY(header->hits_generation == policy_set_generation(set)))
        return;
    if (predicates_header(policy_set_predicates(set), scratch, view, &header->hits))
        header->hits_generation = policy_set_generation(set);
    else
        entry->malformed = true; /* never marked as answered: each request of its kind comes by here */
}

bool intake_read(struct intake *intake, struct slice request, const struct metadata_set *metadata, const struct policy_set *set, struct predicate_scratch *scratch,
    struct header_table *headers)
{
    const struct predicates *predicates = policy_set_predicates(set);
    uint32_t header_index = UINT32_MAX;
    struct span_walk walk;
    struct span_ref ref;

    intake->span_count = intake->header_count = intake->rejected_count = 0;
    intake->metadata = metadata;
    memset(intake->fault_counts, 0, sizeof(intake->fault_counts));
    span_walk_init(&walk, request);
    while (span_walk_next(&walk, &ref)) {
        struct intake_span *span;
        struct span_view view;

        if (UNLIKELY(ref.fault != SPAN_OK)) {
            intake_reject(intake, ref.index, ref.fault);
            continue;
        }
        if (ref.header_index != header_index) {
            intake_header(intake, ref.header, set, scratch, headers);
            header_index = ref.header_index;
        }
        if (intake->span_count == intake->span_capacity)
            intake->spans = grow(intake->spans, &intake->span_capacity, sizeof(intake->spans[0]));
        span = &intake->spans[intake->span_count];
        if (UNLIKELY(intake->headers[intake->header_count - 1].malformed ||
                !predicates_span(predicates, scratch, ref.header, ref.bytes, &view, &span->facts))) {
            intake_reject(intake, ref.index, SPAN_MALFORMED);
            continue;
        }
        span->facts.generation = (uint32_t)policy_set_generation(set);
        span->bytes = ref.bytes;
        span->id = ref.trace_id;
        span->id_hash = hash_trace(&ref.trace_id);
        span->span_hash = hash_bytes(ref.bytes.at, ref.bytes.len);
        span->header = (uint32_t)intake->header_count - 1;
        intake->span_count++;
    }
    return !walk.bad;
}

void intake_release(struct intake *intake, struct header_table *headers)
{
    for (size_t i = 0; i < intake->header_count; i++)
        header_unref(headers, intake->headers[i].header, 1);
    intake->header_count = intake->span_count = 0;
    /* One huge request must not cost its scratch for ever. */
    if (intake->span_capacity * sizeof(intake->spans[0]) > SCRATCH_KEEP_BYTES) {
        free(intake->spans);
        intake->spans = NULL;
        intake->span_capacity = 0;
    }
    if (intake->header_capacity * sizeof(intake->headers[0]) > SCRATCH_KEEP_BYTES) {
        free(intake->headers);
        intake->headers = NULL;
        intake->header_capacity = 0;
    }
}
