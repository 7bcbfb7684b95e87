#include "common/export/lanes.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"

#define BUCKETS 256u /* as many tenants are found at once; more make chains */

static void lane_init(struct lane *lane, const struct metadata_set *metadata)
{
    *lane = (struct lane){.metadata = metadata_set_ref(metadata)};
    list_init(&lane->units);
}

int lanes_init(struct lanes *lanes, const struct lane_limits *limits)
{
    *lanes = (struct lanes){.limits = *limits};
    list_init(&lanes->waiting);
    list_init(&lanes->ripe);
    lane_init(&lanes->plain, NULL);
    lanes->last = &lanes->plain;
    lanes->buckets = malloc(BUCKETS * sizeof(lanes->buckets[0]));
    if (!lanes->buckets)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&lanes->buckets[i]);
    return 0;
}

void lanes_deinit(struct lanes *lanes)
{
    if (lanes->buckets)
        ASSERT(lanes_first(lanes) == NULL);
    free(lanes->buckets);
    lanes->buckets = NULL;
}

static struct lane *lane_find(struct lanes *lanes, const struct metadata_set *metadata)
{
    struct list *bucket;
    struct lane *lane;

    if (metadata_set_equal(lanes->last->metadata, metadata))
        return lanes->last;
    if (!metadata)
        return &lanes->plain;
    bucket = &lanes->buckets[metadata->hash % BUCKETS];
    LIST_FOR_EACH (node, bucket) {
        lane = container_of(node, struct lane, bucket);
        if (metadata_set_equal(lane->metadata, metadata))
            return lane;
    }
    lane = malloc(sizeof(*lane));
    ASSERT(lane != NULL);
    lane_init(lane, metadata);
    list_add_tail(bucket, &lane->bucket);
    return lane;
}

static bool lane_is_ripe(const struct lanes *lanes, const struct lane *lane)
{
    return lane->bytes >= lanes->limits.bytes || lane->spans >= lanes->limits.spans;
}

/* Into the list where it belongs. waiting is in order of since_ns, because time only grows. */
static void lane_put(struct lanes *lanes, struct lane *lane)
{
    lane->ripe = lane_is_ripe(lanes, lane);
    list_add_tail(lane->ripe ? &lanes->ripe : &lanes->waiting, &lane->node);
}

void lanes_add(struct lanes *lanes, struct export_unit *unit, uint64_t now_ns)
{
    struct lane *lane = lane_find(lanes, unit->metadata);
    bool was_empty = list_empty(&lane->units);

    lanes->last = lane;
    list_add_tail(&lane->units, &unit->node);
    lane->bytes += unit->size_bytes;
    lane->spans += unit->span_count;
    if (was_empty) {
        lane->since_ns = now_ns;
        lane_put(lanes, lane);
    } else if (!lane->ripe && lane_is_ripe(lanes, lane)) {
        list_del(&lane->node);
        lane_put(lanes, lane);
    }
}

struct lane *lanes_first(const struct lanes *lanes)
{
    struct list *node = list_first(&lanes->ripe);

    if (!node)
        node = list_first(&lanes->waiting);
    return node ? container_of(node, struct lane, node) : NULL;
}

struct export_unit *lane_take(struct lane *lane)
{
    struct list *node = list_take_first(&lane->units);
    struct export_unit *unit = node ? container_of(node, struct export_unit, node) : NULL;

    if (unit) {
        lane->bytes -= unit->size_bytes;
        lane->spans -= unit->span_count;
    }
    return unit;
}

void lane_remove(struct lane *lane, struct export_unit *unit)
{
    list_del(&unit->node);
    lane->bytes -= unit->size_bytes;
    lane->spans -= unit->span_count;
}

static void lane_free(struct lanes *lanes, struct lane *lane)
{
    if (lane == &lanes->plain)
        return;
    if (lanes->last == lane)
        lanes->last = &lanes->plain;
    list_del(&lane->bucket);
    metadata_set_unref(lane->metadata);
    free(lane);
}

void lanes_settle(struct lanes *lanes, struct lane *lane, uint64_t now_ns)
{
    list_del(&lane->node);
    if (list_empty(&lane->units)) {
        lane_free(lanes, lane);
        return;
    }
    lane->since_ns = now_ns;
    lane_put(lanes, lane);
}

void lanes_refile(struct lanes *lanes, struct lane *lane)
{
    struct list *after = lanes->waiting.prev;

    if (!list_empty(&lane->units) && lane->ripe == lane_is_ripe(lanes, lane))
        return;
    list_del(&lane->node);
    if (list_empty(&lane->units)) {
        lane_free(lanes, lane);
        return;
    }
    lane->ripe = false; /* fewer units make none ripe */
    while (after != &lanes->waiting && container_of(after, struct lane, node)->since_ns > lane->since_ns)
        after = after->prev;
    list_add_head(after, &lane->node);
}
