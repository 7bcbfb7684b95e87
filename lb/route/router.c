#include "lb/route/router.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/otlp/span_walk.h"

#define LEVEL_BYTES_MAX 6u /* a tag and a length around a span or a part of its header */

static void set_count(const struct member_set *set, int by)
{
    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        for (unsigned k = 0; k < set->members[i].link_count; k++)
            atomic_fetch_add_explicit(&set->members[i].links[k]->sets, by, memory_order_acq_rel);
    }
}

void member_set_count(struct member_set *set)
{
    set->counted = true;
    set_count(set, 1);
}

bool member_set_names(const struct member_set *set, const struct member_link *link)
{
    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        for (unsigned k = 0; k < set->members[i].link_count; k++) {
            if (set->members[i].links[k] == link)
                return true;
        }
    }
    return false;
}

struct member_set *member_set_ref(struct member_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void member_set_unref(struct member_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (set->counted)
        set_count(set, -1);
    ring_unref(set->ring);
    free(set);
}

void router_init(struct router *router)
{
    memset(router, 0, sizeof(*router));
}

void router_deinit(struct router *router)
{
    for (size_t i = 0; i < router->part_capacity; i++)
        regroup_free(router->parts[i].regroup);
    free(router->parts);
    free(router->current);
    free(router->rejected);
    member_set_unref(router->set);
    memset(router, 0, sizeof(*router));
}

/* Tables of a worker grow to what its largest request needs; a worker without that memory cannot go on. */
static void *grow(void *array, size_t *capacity, size_t least, size_t item_size)
{
    size_t before = *capacity;

    *capacity = size_max(least, size_max(before * 2, 16));
    array = realloc(array, *capacity * item_size);
    ASSERT(array != NULL);
    memset((char *)array + before * item_size, 0, (*capacity - before) * item_size);
    return array;
}

void router_adopt(struct router *router, struct member_set *set)
{
    size_t links = 0;

    for (uint32_t i = 0; i < set->ring->member_count; i++) {
        for (unsigned k = 0; k < set->members[i].link_count; k++)
            links = size_max(links, (size_t)set->members[i].links[k]->index + 1);
    }
    if (links > router->link_capacity)
        router->current = grow(router->current, &router->link_capacity, links, sizeof(router->current[0]));
    member_set_unref(router->set);
    router->set = set;
}

/* The member's link to use, or NULL when none of its addresses can take spans now. One that drains only if there is no other. */
static struct member_link *member_usable(const struct member *member, const struct member_link *avoid)
{
    struct member_link *draining = NULL;

    for (unsigned i = 0; i < member->link_count; i++) {
        if (member->links[i] == avoid || member_link_condition(member->links[i]) != MEMBER_UP)
            continue;
        if (LIKELY(!member_link_draining(member->links[i])))
            return member->links[i];
        draining = draining ? draining : member->links[i];
    }
    return draining;
}

/* owner: its usable link, which drains; NULL: it has none. A fallback is who gets spans in the place of an owner that is away; the
 * first after those that drain is the owner. */
static struct member_link *slot_link_next(const struct router *router, uint32_t slot, const struct member_link *avoid,
    struct member_link *owner, bool *out_fallback)
{
    const struct ring *ring = router->set->ring;
    struct member_link *link = owner;
    bool away = !owner;

    for (unsigned rank = 1; rank < ring->member_count; rank++) {
        uint16_t member = rank == 1 ? ring->fallback[slot] : ring_rank(ring, slot, rank);
        struct member_link *next = member_usable(&router->set->members[member], avoid);

        if (next && atomic_load_explicit(&next->steady, memory_order_relaxed)) {
            *out_fallback = away;
            return next;
        }
        away = away || !next;
        link = link ? link : next; /* draining or joining: it would have to keep what it is about to give away */
    }
    *out_fallback = link != owner;
    return link;
}

static struct member_link *slot_link(const struct router *router, uint32_t slot, const struct member_link *avoid,
    bool *out_fallback)
{
    struct member_link *link = member_usable(&router->set->members[router->set->ring->owner[slot]], avoid);

    *out_fallback = false;
    if (LIKELY(link && !member_link_draining(link)))
        return link;
    return slot_link_next(router, slot, avoid, link, out_fallback);
}

static struct plan_part *part_new(struct router *router, struct member_link *link)
{
    struct plan_part *part;

    if (router->part_count == router->part_capacity)
        router->parts = grow(router->parts, &router->part_capacity, router->part_count + 1, sizeof(router->parts[0]));
    part = &router->parts[router->part_count];
    if (!part->regroup) {
        part->regroup = regroup_new();
        ASSERT(part->regroup != NULL);
    }
    regroup_reset(part->regroup);
    part->link = link;
    part->span_count = 0;
    part->header_index = UINT32_MAX;
    part->is_fallback = false;
    router->current[link->index].part = (uint32_t)router->part_count++;
    router->current[link->index].plan = router->plan_number;
    return part;
}

/* Whether the span, with its header where the part may not have that yet, could make the message too large. */
static bool part_is_full(const struct plan_part *part, const struct span_ref *span)
{
    size_t more = span->bytes.len + LEVEL_BYTES_MAX;

    if (part->header_index != span->header_index)
        more += span->header->resource.len + span->header->scope.len + 2 * LEVEL_BYTES_MAX;
    return part->span_count > 0 && regroup_size_bound(part->regroup) + more > OUTBOX_PIECE_BYTES_MAX;
}

static void plan_reject(struct router *router, const struct span_ref *span)
{
    if (router->rejected_count == router->rejected_capacity)
        router->rejected = grow(router->rejected, &router->rejected_capacity, router->rejected_count + 1, sizeof(uint32_t));
    router->rejected[router->rejected_count++] = span->index;
    router->fault_counts[span->fault]++;
}

enum plan_result router_plan(struct router *router, struct slice bytes, const struct member_link *avoid)
{
    struct span_walk walk;
    struct span_ref span;
    bool unreachable = false;

    router->plan_number++;
    router->part_count = 0;
    router->rejected_count = 0;
    router->fallback_count = 0;
    router->span_count = 0;
    memset(router->fault_counts, 0, sizeof(router->fault_counts));
    span_walk_init(&walk, bytes);
    while (span_walk_next(&walk, &span)) {
        struct member_link *link;
        struct plan_part *part;
        bool fallback;

        if (UNLIKELY(span.fault != SPAN_OK)) {
            plan_reject(router, &span);
            continue;
        }
        router->span_count++;
        link = router->set ? slot_link(router, ring_slot(&span.trace_id), avoid, &fallback) : NULL;
        if (UNLIKELY(!link)) {
            unreachable = true; /* the walk goes on: a malformed request is final, whoever is away */
            continue;
        }
        if (router->current[link->index].plan == router->plan_number)
            part = &router->parts[router->current[link->index].part];
        else
            part = part_new(router, link);
        if (UNLIKELY(part_is_full(part, &span)))
            part = part_new(router, link);
        if (part->header_index != span.header_index) {
            part->header = regroup_header(part->regroup, span.header);
            part->header_index = span.header_index;
        }
        ASSERT(regroup_span(part->regroup, part->header, rope_of(span.bytes.at, span.bytes.len)) == 0);
        part->span_count++;
        if (UNLIKELY(fallback)) {
            part->is_fallback = true;
            router->fallback_count++;
        }
    }
    if (walk.bad)
        return PLAN_MALFORMED;
    if (unreachable)
        return PLAN_NO_MEMBER;
    for (size_t i = 0; i < router->part_count; i++)
        router->parts[i].size = regroup_size(router->parts[i].regroup);
    return PLAN_OK;
}
