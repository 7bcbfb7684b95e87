/* What the bytes cost: walk, view and regroup over one realistic request, in ns a span.
 *
 * usage: micro_otlp [--only walk|view|visit|regroup|copy|gzip|zstd] [--spans N] [--repeat N]
 *
 * With --only and --repeat the work is fixed and nothing is timed: for instruction counts (tests/cost).
 * `copy` is a memcpy of each span's bytes, what regroup cannot be cheaper than.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/export/compress.h"
#include "common/otlp/regroup.h"
#include "common/otlp/span_view.h"
#include "common/otlp/span_walk.h"
#include "tests/kit/otlp_build.h"

#define SPANS_PER_TRACE 15
#define ROUNDS 7 /* the best counts: the machine's other work only ever adds */
#define ROUND_NS 100000000ull

struct work {
    struct slice request;
    struct slice *spans;
    uint32_t *header_of; /* walk's header_index of each span */
    size_t span_count, span_bytes;
    struct span_header headers[64]; /* by header_index */
    struct regroup *regroup;
    struct compressor *compressors[COMPRESS_ZSTD + 1];
    size_t packed_bytes[COMPRESS_ZSTD + 1];
    uint8_t *out;
    uint64_t sum; /* of something read, so that no work can be left out */
};

typedef void work_run(struct work *work);

static void run_walk(struct work *work)
{
    struct span_walk walk;
    struct span_ref span;

    span_walk_init(&walk, work->request);
    while (span_walk_next(&walk, &span))
        work->sum += span.trace_id.bytes[15] + span.bytes.len;
}

static void run_view(struct work *work)
{
    struct span_view view;

    for (size_t i = 0; i < work->span_count; i++)
        if (span_view_read(work->spans[i], NULL, NULL, &view))
            work->sum += view.end_unix_ns - view.start_unix_ns;
}

static void count_keys(void *context, struct slice key, struct slice value)
{
    uint64_t *sum = context;

    *sum += key.len + value.len;
}

static void run_visit(struct work *work)
{
    struct span_view view;

    for (size_t i = 0; i < work->span_count; i++)
        if (span_view_read(work->spans[i], count_keys, &work->sum, &view))
            work->sum += view.end_unix_ns - view.start_unix_ns;
}

static void run_regroup(struct work *work)
{
    uint32_t header_index = 0, number = 0;

    regroup_reset(work->regroup);
    for (size_t i = 0; i < work->span_count; i++) {
        if (work->header_of[i] != header_index) {
            header_index = work->header_of[i];
            number = regroup_header(work->regroup, &work->headers[header_index]);
        }
        if (regroup_span(work->regroup, number, rope_of(work->spans[i].at, work->spans[i].len)) < 0)
            abort();
    }
    if (regroup_size(work->regroup) > regroup_size_bound(work->regroup))
        abort();
    work->sum += (uint64_t)(regroup_write(work->regroup, work->out) - work->out);
}

static void run_copy(struct work *work)
{
    uint8_t *out = work->out;

    for (size_t i = 0; i < work->span_count; i++) {
        memcpy(out, work->spans[i].at, work->spans[i].len);
        out += work->spans[i].len;
    }
    work->sum += out[-1];
}

static void run_compress(struct work *work, enum export_compression compression)
{
    struct buffer *packed = compressor_run(work->compressors[compression], work->request);

    if (!packed)
        abort();
    work->packed_bytes[compression] = packed->len;
    work->sum += packed->len;
    buffer_unref(packed);
}

static void run_gzip(struct work *work)
{
    run_compress(work, COMPRESS_GZIP);
}

static void run_zstd(struct work *work)
{
    run_compress(work, COMPRESS_ZSTD);
}

static const struct {
    const char *name;
    work_run *run;
} works[] = {
    {"walk", run_walk}, {"view", run_view}, {"visit", run_visit}, {"regroup", run_regroup}, {"copy", run_copy},
    {"gzip", run_gzip}, {"zstd", run_zstd}};

static void *must_alloc(size_t size)
{
    void *memory = calloc(1, size);

    if (!memory)
        abort();
    return memory;
}

static void work_init(struct work *work, struct otlp_build *build, size_t spans)
{
    struct span_walk walk;
    struct span_ref span;

    otlp_realistic(build, 1, spans, SPANS_PER_TRACE, 5);
    work->request = otlp_slice(build);
    work->spans = must_alloc(spans * sizeof(*work->spans));
    work->header_of = must_alloc(spans * sizeof(*work->header_of));
    work->out = must_alloc(work->request.len + 64);
    work->regroup = regroup_new();
    work->compressors[COMPRESS_GZIP] = compressor_new(COMPRESS_GZIP);
    work->compressors[COMPRESS_ZSTD] = compressor_new(COMPRESS_ZSTD);
    if (!work->regroup || !work->compressors[COMPRESS_GZIP] || !work->compressors[COMPRESS_ZSTD])
        abort();
    span_walk_init(&walk, work->request);
    while (span_walk_next(&walk, &span)) {
        work->spans[work->span_count] = span.bytes;
        work->header_of[work->span_count++] = span.header_index;
        work->headers[span.header_index] = *span.header;
        work->span_bytes += span.bytes.len;
    }
    if (walk.bad || work->span_count != spans)
        abort();
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* The best round's ns a span. */
static double work_time(struct work *work, work_run *run)
{
    double best = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t start = now_ns(), elapsed, count = 0;
        double ns;

        do {
            for (unsigned i = 0; i < 16; i++, count++)
                run(work);
            elapsed = now_ns() - start;
        } while (elapsed < ROUND_NS);
        ns = (double)elapsed / (double)count / (double)work->span_count;
        if (round == 0 || ns < best)
            best = ns;
    }
    return best;
}

int main(int argc, char **argv)
{
    struct otlp_build build = {0};
    struct work work = {0};
    const char *only = NULL;
    unsigned long repeat = 0, spans = 240;
    bool found = false;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--repeat") == 0) {
            repeat = strtoul(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--spans") == 0) {
            spans = strtoul(argv[i + 1], NULL, 10);
        } else {
            (void)fprintf(stderr, "usage: %s [--only NAME] [--spans N] [--repeat N]\n", argv[0]);
            return 2;
        }
    }
    if (spans == 0)
        return 2;
    work_init(&work, &build, spans);
    if (repeat == 0)
        printf("%zu spans, %zu bytes a span\n", work.span_count, work.span_bytes / work.span_count);
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        if (only && strcmp(only, works[i].name) != 0)
            continue;
        found = true;
        for (unsigned long k = 0; k < repeat; k++)
            works[i].run(&work);
        if (repeat == 0)
            printf("%-8s %7.1f ns a span\n", works[i].name, work_time(&work, works[i].run));
    }
    for (unsigned i = COMPRESS_GZIP; i <= COMPRESS_ZSTD; i++) {
        if (work.packed_bytes[i] > 0 && repeat == 0)
            printf("%-8s %7.1f of the bytes in a hundred\n", compression_name(i), 100.0 * (double)work.packed_bytes[i] / (double)work.request.len);
        compressor_free(work.compressors[i]);
    }
    printf("checksum %" PRIx64 "\n", work.sum);
    regroup_free(work.regroup);
    free(work.spans);
    free(work.header_of);
    free(work.out);
    otlp_build_deinit(&build);
    return found ? 0 : 2;
}
