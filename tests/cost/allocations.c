/* Once warm, no step of a span's way allocates: not per span, not per request. What a growing table and the index of a
 * large trace need is a small share of a span.
 *
 * malloc, calloc, realloc and the aligned ones are counted in this program by standing before the C library's. Extents are
 * no part of it: they are mapped, 2 MiB at a time, and bounded by the budget.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/config/yaml.h"
#include "common/otlp/regroup.h"
#include "common/otlp/span_view.h"
#include "sampler/buffer/trace_table.h"
#include "sampler/intake.h"
#include "tests/kit/members_up.h"
#include "tests/kit/otlp_build.h"
#include "tests/kit/ten_policies.h"

#define SPANS 3000u
#define SPANS_PER_TRACE 15u
#define SPANS_PER_LARGE_TRACE 150u
#define SERVICES 40u
#define ROUNDS 10u
#define MEMBERS 3u
#define COPIES 20u /* of the request, under trace IDs of their own, that the store takes in at once: 4000 traces */
#define STORE_BYTES (512 * MIB)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *at, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static size_t allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    allocations++;
    return __libc_realloc(at, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out_memory, size_t alignment, size_t size)
{
    allocations++;
    *out_memory = __libc_memalign(alignment, size);
    return *out_memory ? 0 : 12 /* ENOMEM */;
}

struct work {
    struct slice request;
    size_t spans, attributes; /* seen so far */
    uint8_t *out;
    size_t out_capacity, out_size;
    /* as a balancer has them */
    struct regroup *regroup;
    struct members_up members;
    /* as a sampler's worker has them */
    struct policy_set *set;
    struct predicate_scratch *scratch;
    struct header_table *headers;
    struct intake intake;
    struct intake stored; /* the request read once: what the table is filled with */
    struct extent_pool *pool;
    struct extent_store *store;
    struct trace_table *table;
    uint64_t traces; /* made so far: no trace ID comes twice */
};

static void count_attribute(void *context, struct slice key, struct slice value)
{
    struct work *work = context;

    (void)key;
    work->attributes += value_read(value).type != VALUE_EMPTY;
}

static void work_walk(struct work *work)
{
    struct span_walk walk;
    struct span_ref span;

    span_walk_init(&walk, work->request);
    while (span_walk_next(&walk, &span))
        work->spans += span.fault == SPAN_OK;
    ASSERT(!walk.bad);
}

static void work_view(struct work *work)
{
    uint32_t header_index = 0;
    struct span_view view;
    struct span_walk walk;
    struct span_ref span;

    span_walk_init(&walk, work->request);
    while (span_walk_next(&walk, &span)) {
        if (span.header_index != header_index) {
            ASSERT(resource_visit(span.header->resource.fragments[0], count_attribute, work));
            ASSERT(scope_visit(span.header->scope.fragments[0], count_attribute, work));
        }
        header_index = span.header_index;
        ASSERT(span_view_read(span.bytes, count_attribute, work, &view));
        work->spans++;
    }
}

static void work_regroup(struct work *work)
{
    uint32_t header_index = 0, number = 0;
    struct span_walk walk;
    struct span_ref span;

    regroup_reset(work->regroup);
    span_walk_init(&walk, work->request);
    while (span_walk_next(&walk, &span)) {
        if (span.header_index != header_index)
            number = regroup_header(work->regroup, span.header);
        header_index = span.header_index;
        ASSERT(regroup_span(work->regroup, number, rope_of(span.bytes.at, span.bytes.len)) == 0);
        work->spans++;
    }
    work->out_size = regroup_size(work->regroup);
    ASSERT(work->out_size <= work->out_capacity);
    ASSERT(regroup_write(work->regroup, work->out) == work->out + work->out_size);
}

static void work_route(struct work *work)
{
    struct router *router = &work->members.router;
    uint8_t *out = work->out;

    ASSERT(router_plan(router, work->request, NULL) == PLAN_OK);
    ASSERT(router->part_count >= MEMBERS);
    for (size_t i = 0; i < router->part_count; i++) {
        ASSERT(router->parts[i].size <= work->out_capacity - (size_t)(out - work->out));
        out = regroup_write(router->parts[i].regroup, out);
        work->spans += router->parts[i].span_count;
    }
    work->out_size = (size_t)(out - work->out);
}

static void work_facts(struct work *work)
{
    ASSERT(intake_read(&work->intake, work->request, NULL, work->set, work->scratch, work->headers));
    work->spans += work->intake.span_count;
    intake_release(&work->intake, work->headers);
}

/* -- into the store ------------------------------------------------------------------------------------------------- */

/* The request's spans, so many times over, each time in new traces of spans_per_trace; then all are let go of. */
static void insert(struct work *work, struct trace_table *table, size_t spans_per_trace, size_t copies)
{
    const struct intake *stored = &work->stored;
    struct trace *trace;

    for (size_t copy = 0; copy < copies; copy++) {
        for (size_t i = 0; i < stored->span_count; i++) {
            const struct intake_span *span = &stored->spans[i];
            struct trace_id id = otlp_trace_id(work->traces + i / spans_per_trace);
            uint64_t id_hash = hash_trace(&id);

            trace = trace_table_find(table, &id, id_hash);
            if (!trace)
                trace = trace_table_add(table, &id, id_hash, work->set, 0, 10 * NS_PER_S);
            ASSERT(trace != NULL);
            ASSERT(trace_add_span(table, trace, span->bytes, span->span_hash, stored->headers[span->header].header,
                       (struct journal_pos){0, 0}) ==
                   TRACE_SPAN_ADDED);
            work->spans++;
        }
        work->traces += stored->span_count / spans_per_trace;
    }
    ASSERT(trace_table_count(table) == copies * stored->span_count / spans_per_trace);
    ASSERT(extent_store_used_bytes(work->store) > copies * work->request.len / 2); /* they are in there */
    while ((trace = trace_table_oldest(table)))
        trace_free(table, trace);
    ASSERT(trace_table_due(table, 0) == NULL); /* settles what was put off */
}

/* The table has held twice as many traces: no part of it is too small, however these IDs fall. */
static void warm_insert(struct work *work)
{
    insert(work, work->table, SPANS_PER_TRACE, 2 * COPIES);
}

static void work_insert(struct work *work)
{
    insert(work, work->table, SPANS_PER_TRACE, COPIES);
}

/* A trace of more than 32 spans has an index of their hashes: itself and its directory. */
static void work_insert_large(struct work *work)
{
    insert(work, work->table, SPANS_PER_LARGE_TRACE, COPIES);
}

/* From an empty table. */
static void work_insert_growing(struct work *work)
{
    struct trace_table *table;

    ASSERT(trace_table_new(work->store, work->headers, 0, &table) == 0);
    insert(work, table, SPANS_PER_TRACE, COPIES);
    trace_table_free(table);
}

static const struct {
    const char *name;
    void (*warm)(struct work *work); /* the scratch grows */
    void (*run)(struct work *work);
    size_t limit; /* allocations in 1000 spans */
} works[] = {
    {"walk", work_walk, work_walk, 0},
    {"view", work_view, work_view, 0},
    {"regroup", work_regroup, work_regroup, 0},
    {"route", work_route, work_route, 0},
    {"facts", work_facts, work_facts, 0},
    {"insert", warm_insert, work_insert, 0},
    {"insert, growing", work_insert_growing, work_insert_growing, 1},
    {"insert, large traces", work_insert_large, work_insert_large, 2 * 1000 / SPANS_PER_LARGE_TRACE + 1},
};

static void work_init(struct work *work, struct otlp_build *build)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "ten policies", TEN_POLICIES, strlen(TEN_POLICIES));

    otlp_realistic(build, 1, SPANS, SPANS_PER_TRACE, SERVICES);
    work->request = otlp_slice(build);
    work->regroup = regroup_new();
    work->out_capacity = work->request.len + MEMBERS * SERVICES * 1024;
    work->out = malloc(work->out_capacity);
    ASSERT(work->regroup && work->out);
    members_up_init(&work->members, MEMBERS);

    ASSERT(root != NULL);
    ASSERT(policy_set_new(context, config_node_get(root, "policies"), false, 1, &work->set) == 0);
    ASSERT(policy_set_count(work->set) == 10);
    config_context_free(context);
    work->scratch = predicate_scratch_new(policy_set_predicates(work->set));
    work->headers = header_table_new();
    ASSERT(work->scratch && work->headers);
    intake_init(&work->intake);
    intake_init(&work->stored);
    ASSERT(intake_read(&work->stored, work->request, NULL, work->set, work->scratch, work->headers));
    ASSERT(work->stored.span_count == SPANS);
    ASSERT(extent_pool_new(STORE_BYTES, &work->pool) == 0);
    ASSERT(extent_store_new(work->pool, &work->store) == 0);
    ASSERT(trace_table_new(work->store, work->headers, 0, &work->table) == 0);
}

static void work_deinit(struct work *work)
{
    trace_table_free(work->table);
    ASSERT(extent_store_used_bytes(work->store) == 0);
    extent_store_free(work->store);
    extent_pool_free(work->pool);
    intake_release(&work->stored, work->headers);
    intake_deinit(&work->stored);
    intake_deinit(&work->intake);
    header_table_free(work->headers);
    predicate_scratch_free(work->scratch);
    policy_set_unref(work->set);
    members_up_deinit(&work->members);
    regroup_free(work->regroup);
    free(work->out);
}

int main(void)
{
    struct otlp_build build = {0};
    struct work work = {0};
    int failed = 0;

    /* The counter counts: else all below would pass for nothing. */
    free(malloc(1));
    ASSERT(allocations > 0);

    work_init(&work, &build);
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        size_t before, count;

        works[i].warm(&work);
        work.spans = 0;
        before = allocations;
        for (size_t round = 0; round < ROUNDS; round++)
            works[i].run(&work);
        count = allocations - before;
        ASSERT(work.spans > 0 && work.spans % (ROUNDS * SPANS) == 0);
        printf("%s: %zu allocations for %zu spans, at most %zu in 1000\n", works[i].name, count, work.spans, works[i].limit);
        failed |= count * 1000 > works[i].limit * work.spans;
    }
    ASSERT(work.attributes > SPANS && work.out_size > SPANS);
    work_deinit(&work);
    otlp_build_deinit(&build);
    return failed;
}
