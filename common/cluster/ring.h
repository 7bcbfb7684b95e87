/* From a trace ID to the member that owns it.
 *
 * Shape   2^18 slots; a trace's slot is the top 18 bits of XXH3-64 of its 16 ID bytes. Each slot ranks the members
 *         by rendezvous hashing, XXH3-64(member name, seed = slot): the highest owns it, the next is its fallback.
 * Law     one change among N members moves 1/N of the slots, only to or from that member; order of names does not matter.
 * Balance busiest over mean: at most 1.03 up to 30 members, 1.06 at 100, for sampler-0, sampler-1, ... A slot is a
 *         throw of dice, so one list of 30 arbitrary names in ten lies between 1.03 and 1.04.
 * Life    immutable, built off the data path, published as a snapshot; counted, since several snapshots may share one.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/slice.h"

#ifndef RING_SLOT_BITS /* the simulator has fewer, so that thousands of rings are made in no time */
#define RING_SLOT_BITS 18
#endif
#define RING_SLOTS (1u << RING_SLOT_BITS)
#define RING_HASH_VERSION 1u
#define RING_MEMBERS_MAX 4096u
#define RING_E_NO_MEMBERS 1
#define RING_E_TOO_MANY 2
#define RING_NONE 0xffffu

struct ring_member {
    const char *name;
    unsigned state; /* as in peer.proto; part of the fingerprint */
};

struct ring {
    atomic_uint refs;
    uint64_t fingerprint; /* of hash version, names and states, sorted by name; never 0 */
    uint32_t member_count;
    char **names;          /* sorted */
    uint16_t owner[RING_SLOTS], fallback[RING_SLOTS]; /* member index; fallback RING_NONE when alone */
};

/* Names must differ; they are copied. Member indices are those after sorting by name. One reference. 0, RING_E_NO_MEMBERS,
 * RING_E_TOO_MANY or -ENOMEM. */
int ring_new(const struct ring_member *members, size_t count, struct ring **out_ring);
struct ring *ring_ref(struct ring *ring);
/* Any thread; accepts NULL. */
void ring_unref(struct ring *ring);
/* A ring's fingerprint without the ring. The members are sorted by name. */
uint64_t ring_fingerprint(const struct ring_member *members, size_t count);

static inline uint32_t ring_slot(const struct trace_id *id)
{
    return (uint32_t)(hash_trace(id) >> (64 - RING_SLOT_BITS));
}

/* The member at `rank` (0: owner) of a slot, computed: for ranks past the fallback. RING_NONE past the last. */
uint16_t ring_rank(const struct ring *ring, uint32_t slot, unsigned rank);
/* Slots owned by a member. */
uint32_t ring_share(const struct ring *ring, uint16_t member);
