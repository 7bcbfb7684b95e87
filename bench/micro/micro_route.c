/* What the balancer's own work costs: from a request's bytes to one message a member, in ns a span.
 *
 * usage: micro_route [--only plan|route] [--spans N] [--members N] [--repeat N]
 *
 * `plan` is router_plan: the walk, a member for each span, its place in that member's message. `route` is the plan and the
 * writing of every message (regroup_write): all that stands between a receiver and an outbox. With --only and --repeat the
 * work is fixed and nothing is timed: for instruction counts (tests/cost).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "tests/kit/members_up.h"
#include "tests/kit/otlp_build.h"

#define SPANS_PER_TRACE 15
#define ROUNDS 7 /* the best counts: the machine's other work only ever adds */
#define ROUND_NS (NS_PER_S / 10)

struct work {
    struct slice request;
    size_t span_count;
    struct members_up members;
    uint8_t *out;
    size_t out_capacity;
    uint64_t sum; /* of something read, so that no work can be left out */
};

typedef void work_run(struct work *work);

static void run_plan(struct work *work)
{
    struct router *router = &work->members.router;

    ASSERT(router_plan(router, work->request, NULL) == PLAN_OK);
    for (size_t i = 0; i < router->part_count; i++)
        work->sum += router->parts[i].size;
}

static void run_route(struct work *work)
{
    struct router *router = &work->members.router;
    uint8_t *out = work->out;

    ASSERT(router_plan(router, work->request, NULL) == PLAN_OK);
    for (size_t i = 0; i < router->part_count; i++) {
        ASSERT(router->parts[i].size <= work->out_capacity - (size_t)(out - work->out));
        out = regroup_write(router->parts[i].regroup, out);
    }
    work->sum += (uint64_t)(out - work->out) + out[-1];
}

static const struct {
    const char *name;
    work_run *run;
} works[] = {{"plan", run_plan}, {"route", run_route}};

static void work_init(struct work *work, struct otlp_build *build, size_t spans, unsigned members)
{
    const struct router *router = &work->members.router;
    size_t bytes = 0;

    otlp_realistic(build, 1, spans, SPANS_PER_TRACE, 5);
    work->request = otlp_slice(build);
    members_up_init(&work->members, members);
    ASSERT(router_plan(&work->members.router, work->request, NULL) == PLAN_OK);
    for (size_t i = 0; i < router->part_count; i++) {
        work->span_count += router->parts[i].span_count;
        bytes += router->parts[i].size;
    }
    ASSERT(work->span_count == spans);
    work->out_capacity = bytes;
    work->out = malloc(bytes);
    ASSERT(work->out != NULL);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The best round's ns a span. */
static double best_ns(struct work *work, work_run *run)
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
    unsigned long repeat = 0, spans = 240, members = 3;
    bool found = false;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--repeat") == 0) {
            repeat = strtoul(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--spans") == 0) {
            spans = strtoul(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--members") == 0) {
            members = strtoul(argv[i + 1], NULL, 10);
        } else {
            (void)fprintf(stderr, "usage: %s [--only NAME] [--spans N] [--members N] [--repeat N]\n", argv[0]);
            return 2;
        }
    }
    if (spans == 0 || members == 0 || members > MEMBERS_UP_MOST)
        return 2;
    work_init(&work, &build, spans, (unsigned)members);
    if (repeat == 0)
        printf("%zu spans, %zu bytes a span, %zu messages\n", work.span_count, work.request.len / work.span_count,
            work.members.router.part_count);
    for (size_t i = 0; i < ARRAY_COUNT(works); i++) {
        if (only && strcmp(only, works[i].name) != 0)
            continue;
        found = true;
        works[i].run(&work); /* caches and scratch are warm from here */
        for (unsigned long k = 0; k < repeat; k++)
            works[i].run(&work);
        if (repeat == 0)
            printf("%-8s %7.1f ns a span\n", works[i].name, best_ns(&work, works[i].run));
    }
    printf("checksum %" PRIx64 "\n", work.sum);
    members_up_deinit(&work.members);
    free(work.out);
    otlp_build_deinit(&build);
    return found ? 0 : 2;
}
