#include "common/export/cut.h"

#define TAGS_BYTES 32u /* tags and lengths of a span and of the messages around it, at most */

void cut_init(struct cut *cut, struct slice request)
{
    span_walk_init(&cut->walk, request);
    cut->more = span_walk_next(&cut->walk, &cut->span);
}

struct buffer *cut_next(struct cut *cut, struct regroup *regroup, uint64_t most_spans, size_t most_bytes, uint64_t *out_count)
{
    uint32_t header_index = UINT32_MAX, header = 0;
    struct buffer *part = NULL;

    *out_count = 0;
    regroup_reset(regroup);
    for (; cut->more && *out_count < most_spans; cut->more = span_walk_next(&cut->walk, &cut->span)) {
        const struct span_ref *span = &cut->span;
        bool new_header = span->header_index != header_index;
        size_t bytes = regroup_size_bound(regroup) + span->bytes.len + TAGS_BYTES;

        if (new_header)
            bytes += (size_t)span->header->resource.len + span->header->scope.len;
        if (*out_count > 0 && bytes > most_bytes)
            break;
        if (new_header)
            header = regroup_header(regroup, span->header);
        header_index = span->header_index;
        if (regroup_span(regroup, header, rope_of(span->bytes.at, span->bytes.len)) < 0)
            goto out;
        (*out_count)++;
    }
    if (*out_count > 0)
        part = buffer_new(regroup_size(regroup));
    if (part)
        part->len = (size_t)(regroup_write(regroup, part->bytes) - part->bytes);
out:
    regroup_reset(regroup);
    return part;
}
