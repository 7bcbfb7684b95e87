/* Once warm, walk, view and regroup allocate nothing: not per span, not per request.
 *
 * malloc, calloc, realloc and the aligned ones are counted in this program by standing before the C library's.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/regroup.h"
#include "common/otlp/span_view.h"
#include "tests/kit/otlp_build.h"

#define SPANS 3000
#define SERVICES 40

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
    struct regroup *regroup;
    uint8_t *out;
    size_t out_capacity, out_size;
    size_t spans, attributes;
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

static const struct {
    const char *name;
    void (*run)(struct work *work);
} works[] = {{"walk", work_walk}, {"view", work_view}, {"regroup", work_regroup}};

int main(void)
{
    struct otlp_build build = {0};
    struct work work = {0};
    int failed = 0;

    /* The counter counts: else all below would pass for nothing. */
    free(malloc(1));
    ASSERT(allocations > 0);

    otlp_realistic(&build, 1, SPANS, 15, SERVICES);
    work.request = otlp_slice(&build);
    work.regroup = regroup_new();
    work.out_capacity = work.request.len + 1024;
    work.out = malloc(work.out_capacity);
    ASSERT(work.regroup && work.out);
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        size_t before, rounds = 10;

        works[i].run(&work); /* warm-up: the scratch grows */
        work.spans = 0;
        before = allocations;
        for (size_t round = 0; round < rounds; round++)
            works[i].run(&work);
        before = allocations - before;
        ASSERT(work.spans == rounds * SPANS);
        printf("%s: %zu allocations for %zu spans\n", works[i].name, before, work.spans);
        failed |= before > 0;
    }
    ASSERT(work.attributes > SPANS && work.out_size > SPANS);
    regroup_free(work.regroup);
    free(work.out);
    otlp_build_deinit(&build);
    return failed;
}
