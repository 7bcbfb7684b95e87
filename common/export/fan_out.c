/* A job stands for a unit in all exporters but the owner's: it has a unit of its own for each of them, because a unit is in
 * one list at a time. With a single exporter the owner's unit itself goes to it. */
#include "common/export/fan_out.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"

#define SPARE_MOST 4096u /* jobs kept for the next units: some 1 MiB with four exporters */

struct fan_part {
    struct export_unit unit;
    struct fan_job *job;
    bool written; /* its exporter needs the bytes no more */
};

struct fan_job {
    struct list spare;
    struct export_unit *unit; /* the owner's */
    size_t unsettled, unwritten;
    enum export_outcome worst;
    uint8_t delivered; /* by whom */
    bool withdrawn;    /* from one of them at least */
    struct fan_part parts[];
};

struct fan_exit {
    struct fan_out *fan;
    struct exporter *exporter;
};

struct fan_out {
    struct exporter_owner owner;
    size_t count;
    struct list spare;
    size_t spare_count;
    struct fan_out_stats stats;
    struct fan_exit exits[];
};

static struct fan_part *part_of(struct export_unit *unit)
{
    return container_of(unit, struct fan_part, unit);
}

/* -- jobs ------------------------------------------------------------------------------------------ */

static size_t job_size(const struct fan_out *fan)
{
    return sizeof(struct fan_job) + fan->count * sizeof(struct fan_part);
}

static struct fan_job *job_new(struct fan_out *fan, struct export_unit *unit, uint8_t delivered)
{
    struct list *node = list_take_first(&fan->spare);
    struct fan_job *job = node ? container_of(node, struct fan_job, spare) : malloc(job_size(fan));

    ASSERT(job != NULL);
    if (node)
        fan->spare_count--;
    else
        fan->stats.job_bytes += job_size(fan);
    job->unit = unit;
    job->unsettled = job->unwritten = fan->count - (size_t)__builtin_popcount(delivered);
    job->worst = EXPORTED;
    job->delivered = delivered;
    job->withdrawn = false;
    for (size_t i = 0; i < fan->count; i++) {
        job->parts[i] = (struct fan_part){.unit = *unit, .job = job};
        job->parts[i].unit.node = (struct list){NULL, NULL};
    }
    return job;
}

static void job_free(struct fan_out *fan, struct fan_job *job)
{
    if (fan->spare_count < SPARE_MOST) {
        list_add_head(&fan->spare, &job->spare);
        fan->spare_count++;
    } else {
        fan->stats.job_bytes -= job_size(fan);
        free(job);
    }
}

/* -- what exporters ask and tell --------------------------------------------------------------------- */

static void unit_settle(struct fan_out *fan, struct export_unit *unit, enum export_outcome outcome)
{
    fan->stats.units--;
    fan->stats.spans -= unit->span_count;
    fan->owner.settled(fan->owner.context, unit, outcome);
}

static void unit_give_back(struct fan_out *fan, struct export_unit *unit, uint8_t delivered)
{
    fan->stats.units--;
    fan->stats.spans -= unit->span_count;
    fan->owner.withdrawn(fan->owner.context, unit, delivered);
}

/* Each exporter is done with it. */
static void job_end(struct fan_out *fan, struct fan_job *job)
{
    struct export_unit *unit = job->unit;
    enum export_outcome outcome = job->worst;
    uint8_t delivered = job->delivered;
    bool withdrawn = job->withdrawn;

    job_free(fan, job);
    if (withdrawn) {
        unit_give_back(fan, unit, delivered);
        return;
    }
    if (outcome != EXPORTED && delivered)
        fan->stats.partly_spans += unit->span_count;
    unit_settle(fan, unit, outcome);
}

static int on_add(void *context, struct export_unit *unit, struct regroup *regroup)
{
    struct fan_out *fan = ((struct fan_exit *)context)->fan;

    return fan->owner.add(fan->owner.context, fan->count == 1 ? unit : part_of(unit)->job->unit, regroup);
}

static void on_encoded(void *context, struct export_unit *unit)
{
    struct fan_out *fan = ((struct fan_exit *)context)->fan;
    struct fan_part *part;

    if (fan->count == 1) {
        fan->owner.encoded(fan->owner.context, unit);
        return;
    }
    part = part_of(unit);
    part->written = true;
    if (--part->job->unwritten == 0)
        fan->owner.encoded(fan->owner.context, part->job->unit);
}

static enum export_outcome worse(enum export_outcome a, enum export_outcome b)
{
    if (a == EXPORT_STOPPED)
        return b == EXPORTED ? a : b;
    if (b == EXPORT_STOPPED)
        return a == EXPORTED ? b : a;
    return a > b ? a : b;
}

static void on_settled(void *context, struct export_unit *unit, enum export_outcome outcome)
{
    struct fan_exit *exit = context;
    struct fan_out *fan = exit->fan;
    struct fan_part *part;
    struct fan_job *job;

    if (fan->count == 1) {
        unit_settle(fan, unit, outcome);
        return;
    }
    part = part_of(unit);
    job = part->job;
    job->worst = worse(job->worst, outcome);
    if (outcome == EXPORTED)
        job->delivered |= (uint8_t)(1u << (exit - fan->exits));
    job->unsettled--;
    if (!part->written && --job->unwritten == 0 && job->unsettled > 0) /* the last that might have asked for the bytes */
        fan->owner.encoded(fan->owner.context, job->unit);
    if (job->unsettled == 0)
        job_end(fan, job);
    else if (outcome == EXPORTED && fan->owner.partly)
        fan->owner.partly(fan->owner.context, job->unit, (size_t)(exit - fan->exits));
}

static void on_withdrawn(void *context, struct export_unit *unit, uint8_t delivered)
{
    struct fan_out *fan = ((struct fan_exit *)context)->fan;
    struct fan_job *job;

    if (fan->count == 1) {
        unit_give_back(fan, unit, delivered);
        return;
    }
    job = part_of(unit)->job;
    job->withdrawn = true;
    if (--job->unsettled == 0)
        job_end(fan, job);
}

/* -- life ---------------------------------------------------------------------------------------------- */

int fan_out_new(const struct exporter_owner *owner, size_t count, struct fan_out **out_fan)
{
    struct fan_out *fan;

    ASSERT(count > 0);
    ASSERT(count <= FAN_OUT_MAX);
    fan = calloc(1, sizeof(*fan) + count * sizeof(fan->exits[0]));
    if (!fan)
        return error_raise(-ENOMEM);
    fan->owner = *owner;
    fan->count = count;
    list_init(&fan->spare);
    for (size_t i = 0; i < count; i++)
        fan->exits[i].fan = fan;
    *out_fan = fan;
    return 0;
}

void fan_out_free(struct fan_out *fan)
{
    struct list *node;

    if (!fan)
        return;
    ASSERT(fan->stats.units == 0);
    while ((node = list_take_first(&fan->spare)))
        free(container_of(node, struct fan_job, spare));
    free(fan);
}

struct exporter_owner fan_out_owner(struct fan_out *fan, size_t index)
{
    ASSERT(index < fan->count);
    return (struct exporter_owner){&fan->exits[index], on_add, on_encoded, on_settled, on_withdrawn, NULL};
}

void fan_out_set(struct fan_out *fan, size_t index, struct exporter *exporter)
{
    ASSERT(index < fan->count);
    fan->exits[index].exporter = exporter;
}

void fan_out_take(struct fan_out *fan, struct export_unit *unit, uint8_t delivered, uint64_t now_ns)
{
    uint8_t all = (uint8_t)((1u << fan->count) - 1);
    struct fan_job *job;
    size_t count = fan->count;

    fan->stats.units++;
    fan->stats.spans += unit->span_count;
    delivered &= all;
    if (UNLIKELY(delivered == all)) {
        unit_settle(fan, unit, EXPORTED);
        return;
    }
    if (count == 1) {
        exporter_take(fan->exits[0].exporter, unit, now_ns);
        return;
    }
    job = job_new(fan, unit, delivered);
    count = job->unsettled;
    for (size_t i = 0; count > 0; i++) { /* the last one may settle it: then the job is gone, and so is the loop */
        if (delivered >> i & 1)
            continue;
        count--;
        exporter_take(fan->exits[i].exporter, &job->parts[i].unit, now_ns);
    }
}

/* What is asked of a part is meant of its unit. */
struct fan_asking {
    bool (*matches)(void *context, struct export_unit *unit);
    void (*visit)(void *context, struct export_unit *unit);
    void *context;
};

static struct export_unit *whole_of(struct export_unit *unit)
{
    return part_of(unit)->job->unit;
}

static bool part_matches(void *context, struct export_unit *unit)
{
    const struct fan_asking *asking = context;

    return asking->matches(asking->context, whole_of(unit));
}

static void part_visit(void *context, struct export_unit *unit)
{
    const struct fan_asking *asking = context;

    asking->visit(asking->context, whole_of(unit));
}

void fan_out_withdraw(struct fan_out *fan, bool (*matches)(void *context, struct export_unit *unit), void *context)
{
    struct fan_asking asking = {.matches = matches, .context = context};

    if (fan->count == 1) {
        exporter_withdraw(fan->exits[0].exporter, matches, context);
        return;
    }
    for (size_t i = 0; i < fan->count; i++)
        exporter_withdraw(fan->exits[i].exporter, part_matches, &asking);
}

void fan_out_running(const struct fan_out *fan, void (*visit)(void *context, struct export_unit *unit), void *context)
{
    struct fan_asking asking = {.visit = visit, .context = context};

    for (size_t i = 0; i < fan->count; i++) {
        if (fan->count == 1)
            exporter_running(fan->exits[i].exporter, visit, context);
        else
            exporter_running(fan->exits[i].exporter, part_visit, &asking);
    }
}

void fan_out_each(const struct fan_out *fan, void (*visit)(void *context, struct export_unit *unit), void *context)
{
    struct fan_asking asking = {.visit = visit, .context = context};

    for (size_t i = 0; i < fan->count; i++) {
        if (fan->count == 1)
            exporter_each(fan->exits[i].exporter, visit, context);
        else
            exporter_each(fan->exits[i].exporter, part_visit, &asking);
    }
}

const struct fan_out_stats *fan_out_stats(const struct fan_out *fan)
{
    return &fan->stats;
}
