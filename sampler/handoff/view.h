/* What one sampler knows of its ring, as its workers see it: who is there, who owns a slot, which of my own are settled.
 *
 * Life    immutable once published, counted. A new one is made whenever something here changes; those of one ring share the
 *         ring and, unless slots were settled in between, the sets of slots.
 * Order   number counts views, ring_no rings (handoff section 2). Workers get views in the order of number.
 * Cost    each question is one load; making a view of a known ring copies the members.
 * None    a sampler without a cluster has no view (NULL): it owns everything. That is for the caller to ask, once a request.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cluster/ring.h"

struct peer_link;

/* As in peer.proto. */
enum member_state {
    MEMBER_UNKNOWN = 0,
    MEMBER_JOINING = 1,
    MEMBER_READY = 2,
    MEMBER_DRAINING = 3,
    MEMBER_LEFT = 4,
};

#define VIEW_NOBODY 0xffffu /* no member is ready or draining: the owner of every slot of one that joins alone */
#define SLOT_WORDS ((RING_SLOTS + 63) / 64)

struct slot_set {
    atomic_uint refs;
    uint64_t words[SLOT_WORDS];
};

struct view_member {
    char *name;
    enum member_state state;  /* what the ring counts it as: ready or draining; self may also be joining */
    uint64_t incarnation;
    bool reachable;           /* never self */
    uint64_t room_bytes;      /* as it last said */
    size_t target;            /* whom to call: index of membership's targets; SIZE_MAX: nobody */
    struct peer_link *link;   /* filled in by cluster.c before it publishes, with a reference of the view; NULL: none, or self */
};

struct view {
    atomic_uint refs;
    uint64_t number;
    uint32_t ring_no;
    uint64_t fingerprint;     /* F: of the members' names and states */
    bool in_step;             /* always false in the first view of a ring */
    bool all_reachable;       /* no member is silent: records need not be kept longer (D4) */
    size_t self;
    size_t member_count;
    struct view_member *members; /* sorted by name */
    struct ring *ring;           /* of those that may own; NULL: nobody may. Its indices are not those of members */
    uint16_t *members_of_ring;   /* ring index -> members index */
    struct slot_set *owned, *settled; /* settled is part of owned */
};

struct view *view_ref(struct view *view);
/* Any thread; accepts NULL. Gives back the links too. */
void view_unref(struct view *view);

/* All zero, one reference; NULL: no memory. */
struct slot_set *slot_set_new(void);
struct slot_set *slot_set_ref(struct slot_set *set);
void slot_set_unref(struct slot_set *set); /* accepts NULL */
size_t slot_set_count(const struct slot_set *set);

static inline bool slot_set_has(const struct slot_set *set, uint32_t slot)
{
    return (set->words[slot / 64] >> (slot % 64)) & 1;
}

static inline void slot_set_add(struct slot_set *set, uint32_t slot)
{
    set->words[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static inline bool view_owns(const struct view *view, uint32_t slot)
{
    return slot_set_has(view->owned, slot);
}

static inline bool view_settled(const struct view *view, uint32_t slot)
{
    return slot_set_has(view->settled, slot);
}

/* Index into members, or VIEW_NOBODY. */
static inline size_t view_owner(const struct view *view, uint32_t slot)
{
    return view->ring ? view->members_of_ring[view->ring->owner[slot]] : VIEW_NOBODY;
}

/* The index of a member's name, or VIEW_NOBODY. */
size_t view_find(const struct view *view, const char *name);
