/* A worker's run: what is known of header and span, and for how long. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/ottl/run.h"
#include "common/run/clock.h"

void pattern_cached_deinit(struct pattern_cached *cached)
{
    free(cached->text);
    regex_set_free(cached->set);
    regex_groups_free(cached->groups);
    *cached = (struct pattern_cached){0};
}

CLEANUP_DEFINE(struct ottl_run, ottl_run_free);

struct ottl_run *ottl_run_new(const struct ottl_program *program, uint64_t (*unix_ns)(void))
{
    CLEANUP(ottl_run_free) struct ottl_run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->program = program;
    run->pattern_count = program->pattern_count;
    run->unix_ns = unix_ns ? unix_ns : clock_now_unix_ns;
    run->resource = run->scope = slice_make("", 0);
    arena_init(&run->arena, OTTL_EVALUATION_BYTES);
    run->memos = calloc(program->memo_count + 1, sizeof(*run->memos));
    run->sets = calloc(program->pattern_count + 1, sizeof(struct regex_set *));
    run->groups = calloc(program->pattern_count + 1, sizeof(struct regex_groups *));
    run->answers = calloc(program->pattern_count > 0 ? ANSWER_SLOTS : 1, sizeof(*run->answers));
    if (!run->memos || !run->sets || !run->groups || !run->answers)
        return NULL;
    return steal(&run);
}

void ottl_run_free(struct ottl_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; run->sets && i < run->pattern_count; i++)
        regex_set_free(run->sets[i]);
    for (uint32_t i = 0; run->groups && i < run->pattern_count; i++)
        regex_groups_free(run->groups[i]);
    for (size_t i = 0; i < PATTERNS_CACHED; i++)
        pattern_cached_deinit(&run->patterns[i]);
    arena_deinit(&run->arena);
    free(run->memos);
    free(run->sets);
    free(run->groups);
    free(run->answers);
    free(run->header_bytes);
    free(run);
}

/* -- what is asked about ------------------------------------------------------------------------------------- */

/* A part's fields in one piece: where they lie, or copied. */
static struct slice part_fields(struct ottl_run *run, const struct header_part *part, size_t at)
{
    if (part->len == 0)
        return slice_make("", 0);
    if (part->fragment_count == 1)
        return part->fragments[0];
    (void)header_part_write(part, run->header_bytes + at);
    return slice_make(run->header_bytes + at, part->len);
}

/* The same header is the same bytes at the same place: a hash alone could be made to lie by whoever sends headers. */
static bool header_is_known(const struct ottl_run *run, const struct span_header *header)
{
    return run->has_header && run->header_hash == header->hash &&
           run->header_bodies[0].at == header->resource.body.at &&
           run->header_bodies[0].len == header->resource.body.len &&
           run->header_bodies[1].at == header->scope.body.at &&
           run->header_bodies[1].len == header->scope.body.len &&
           run->header_firsts[0] == header->resource.fragments[0].at &&
           run->header_firsts[1] == header->scope.fragments[0].at;
}

void ottl_run_header(struct ottl_run *run, const struct span_header *header)
{
    static const struct span_header none;
    size_t bytes;

    if (!header)
        header = &none;
    if (header_is_known(run, header))
        return;
    bytes = (size_t)header->resource.len + header->scope.len;
    if (bytes > run->header_capacity) {
        free(run->header_bytes);
        run->header_bytes = malloc(bytes);
        ASSERT(run->header_bytes);
        run->header_capacity = bytes;
    }
    run->resource = part_fields(run, &header->resource, 0);
    run->scope = part_fields(run, &header->scope, header->resource.len);
    run->has_header = true;
    run->header_hash = header->hash;
    run->header_bodies[0] = header->resource.body;
    run->header_bodies[1] = header->scope.body;
    run->header_firsts[0] = header->resource.fragments[0].at;
    run->header_firsts[1] = header->scope.fragments[0].at;
    run->resource_known = run->scope_known = false;
    memset(run->memos, 0, run->program->memo_count);
}

void ottl_run_span(struct ottl_run *run, struct slice span, const struct span_view *view, const struct slice *attributes)
{
    run->span = span;
    run->view = view;
    run->span_values = attributes;
}

static enum ottl_result run_condition(struct ottl_run *run, uint32_t condition)
{
    struct ottl_value value;

    arena_reset(&run->arena);
    run->fault.kind = FAULT_NONE;
    if (!node_value(run, run->program->conditions[condition].root, &value))
        return OTTL_ERROR;
    return value.integer ? OTTL_TRUE : OTTL_FALSE;
}

enum ottl_result ottl_run_condition(struct ottl_run *run, uint32_t condition)
{
    ASSERT(condition < run->program->count);
    ASSERT(run->program->conditions[condition].context == OTTL_CONTEXT_SPAN);
    return run_condition(run, condition);
}

enum ottl_result ottl_run_event_condition(struct ottl_run *run, struct slice event, uint32_t condition)
{
    ASSERT(condition < run->program->count);
    ASSERT(run->program->conditions[condition].context == OTTL_CONTEXT_SPAN_EVENT);
    run->event = event;
    return run_condition(run, condition);
}

void ottl_events_start(struct ottl_events *events, struct slice span)
{
    events->wire = wire_of(span);
}

bool ottl_events_next(struct ottl_events *events, struct slice *out_event)
{
    while (wire_more(&events->wire)) {
        uint32_t tag = wire_tag(&events->wire);

        if (tag == WIRE_TAG(11, WIRE_BYTES)) {
            *out_event = wire_bytes(&events->wire);
            return true;
        }
        wire_skip(&events->wire, tag);
    }
    return false;
}
