/* What waits to be batched: a lane of units for each set of metadata, because units of unequal sets never share a request.
 *
 *   (none) --first unit--> WAITING, in order of how long --enough for a request--> RIPE
 *                             '------a request took all----> (none) <-------------'
 *
 * Cost    a unit: a look-up only when its set is another than the last one's; the next lane to serve is the head of a list.
 * Life    a lane holds a reference to its set and lives while it has units; the lane of no metadata is always there.
 */
#pragma once

#include "common/export/exporter.h"

struct lane {
    struct list node;   /* in waiting or ripe, while it has units */
    struct list bucket; /* lanes of like hash */
    const struct metadata_set *metadata;
    struct list units;
    uint64_t bytes, spans;
    uint64_t since_ns;  /* when it began to wait */
    bool ripe;
};

struct lane_limits { /* past any of these a lane is ripe; UINT64_MAX: no such limit */
    uint64_t bytes, spans;
};

struct lanes {
    struct lane_limits limits;
    struct list waiting, ripe;
    struct list *buckets;
    struct lane plain; /* of no metadata */
    struct lane *last; /* where the last unit went */
};

int lanes_init(struct lanes *lanes, const struct lane_limits *limits); /* 0 or -ENOMEM */
/* Must be empty. */
void lanes_deinit(struct lanes *lanes);
void lanes_add(struct lanes *lanes, struct export_unit *unit, uint64_t now_ns);
/* A ripe one, else the one that waits longest; NULL: nothing is there. */
struct lane *lanes_first(const struct lanes *lanes);
/* The first unit of a lane, taken out; NULL: it is empty. */
struct export_unit *lane_take(struct lane *lane);
/* Takes out a unit that stands in the lane; then lanes_refile. */
void lane_remove(struct lane *lane, struct export_unit *unit);
/* After units were removed: what is left goes on waiting since when it did, an empty lane is gone. */
void lanes_refile(struct lanes *lanes, struct lane *lane);
/* After units were taken out: what is left begins to wait anew, an empty lane is gone. */
void lanes_settle(struct lanes *lanes, struct lane *lane, uint64_t now_ns);
