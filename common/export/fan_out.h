/* One unit for several exporters: each gets it, each settles it in its own time, and its owner hears of it once.
 *
 * Bytes   the unit's span bytes stay where they are until every exporter has written or settled it: a backend that is away
 *         costs them once, however many exporters wait. Beside them a job of a few dozen bytes a unit and exporter; with one
 *         exporter none.
 * Outcome EXPORTED when every exporter delivered it; otherwise the worst of their outcomes, as enum export_outcome is
 *         ordered but for EXPORT_STOPPED, which counts only where nothing else went wrong.
 * Partly  the owner is told when one has delivered it and others are not done, if it asks: it may write that down.
 * Back    a unit that is withdrawn leaves when each exporter has settled it or given it back, with a bit for each that delivered it. Such a unit
 *         may be taken again, here or at another node, for the others only.
 * Owner   one worker.
 */
#pragma once

#include "common/export/exporter.h"

#define FAN_OUT_MAX 8u /* exporters of one pipeline: a bit each in a byte */

struct fan_out;
struct fan_out_stats {
    uint64_t units, spans; /* gauges: not settled by every exporter yet */
    uint64_t job_bytes;    /* gauge: of jobs, spare ones included */
    uint64_t partly_spans; /* running sum: settled otherwise than EXPORTED, though an exporter delivered them */
};

/* owner: of all units; its functions are called as an exporter's owner's are. 0 or -ENOMEM. */
int fan_out_new(const struct exporter_owner *owner, size_t count, struct fan_out **out_fan);
/* After its exporters. Accepts NULL. */
void fan_out_free(struct fan_out *fan);
/* What the exporter of that index must be given as its owner; afterwards fan_out_set. */
struct exporter_owner fan_out_owner(struct fan_out *fan, size_t index);
void fan_out_set(struct fan_out *fan, size_t index, struct exporter *exporter);
/* To all of them but those of the bits of `delivered`, which have it; it may be settled inside. */
void fan_out_take(struct fan_out *fan, struct export_unit *unit, uint8_t delivered, uint64_t now_ns);
/* As exporter_withdraw, of them all. A unit that one refused counts as not delivered by it. */
void fan_out_withdraw(struct fan_out *fan, bool (*matches)(void *context, struct export_unit *unit), void *context);
/* Visits the units that some exporter cannot give back now, once for each of these. */
void fan_out_running(const struct fan_out *fan, void (*visit)(void *context, struct export_unit *unit), void *context);
/* Visits every unit that is not settled by all, once for each exporter that has it. */
void fan_out_each(const struct fan_out *fan, void (*visit)(void *context, struct export_unit *unit), void *context);
const struct fan_out_stats *fan_out_stats(const struct fan_out *fan);
