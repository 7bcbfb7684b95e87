/* What the files of membership share. Nobody else includes this.
 *
 *   membership.c          life, the turn, rings and views
 *   membership_words.c    what peers say and what their silence means: R2, R3
 *   membership_targets.c  addresses: whom to call and when
 *   membership_status.c   statuses and ring records as bytes
 *   membership_settle.c   in step, claims and clearings: C1 to C4
 *   membership_explain.c  answers to people
 */
#pragma once

#include "proto/peer.h"
#include "sampler/handoff/membership.h"

#define NO_TARGET SIZE_MAX
#define NEVER UINT64_MAX
#define REFUSALS_MAX 16

/* What a ring counts a member as; MEMBER_UNKNOWN: it is not in it. */
struct counted {
    enum member_state state; /* ready or draining */
    uint64_t incarnation;
};

struct peer {
    char *name, *software;
    uint64_t incarnation, number; /* of its latest word; number 0: only others passed it on, or the record holds it */
    enum member_state word;
    bool vouched;                 /* it, or a peer that heard it, said so in this life of mine; false: the record alone */
    size_t home;                  /* the target it says it is reached at */
    uint64_t journal_id;

    struct counted counted;       /* by what I know now */
    struct counted in_ring;       /* by the newest ring */
    struct counted in_adopted;    /* by the adopted one */

    bool gone;                    /* left or dropped, as of gone_incarnation */
    bool gone_left;
    uint64_t gone_incarnation, gone_ns;

    bool reachable;
    size_t reached_at;            /* the target; NO_TARGET when not reachable */
    uint64_t silent_since_ns;     /* when not reachable */
    uint64_t heard_ns;            /* 0: never */

    uint64_t fingerprint;         /* as its latest status says, all of this */
    uint32_t ring_no, claim_no;
    uint32_t heard_ring_no;       /* of this incarnation of mine */
    uint64_t room_bytes, holds_traces, holds_bytes;

    uint32_t cleared_no;          /* the claim of mine that it cleared */
    bool progressed;              /* it has cleared something since my claim was opened */
    uint64_t told;                /* what my latest status to it said, as a hash */
    uint32_t clear_told_no;       /* the claim of its that my latest status to it cleared; 0: none */
    uint64_t state_heard;         /* membership.state_number of the latest status that it answered */

    struct membership_held held;  /* by the latest poll, under the view held_view */
    uint64_t held_view;
    uint64_t view_since;          /* the first of the views that all show it reachable in the newest ring; 0: the last does not */
    size_t view_index;            /* in the newest view; SIZE_MAX: not in it */
    size_t view_target;
    uint64_t view_room_bytes;
};

struct target {
    char *address;              /* NULL: a free index */
    bool listed, is_self, no_peer, up, wanted;
    bool in_flight;             /* a Tell is under way */
    bool spoken;                /* somebody of this protocol has answered here, or has called and said that this is its address */
    uint64_t listed_ns;         /* since when */
    uint64_t answered_ns, answered_incarnation; /* 0: not since the link was up */
    uint64_t due_ns, not_before_ns;
    uint64_t sent_state;        /* state_number of the Tell under way */
    struct peer *peer;          /* who answered last, or is said to be here */
    char trouble[160];
};

struct membership {
    char *cluster, *name, *advertise, *software;
    struct membership_options options; /* its texts are the ones above */
    struct ring_cache own_rings, *rings;
    uint64_t started_ns, now_ns;       /* now_ns: of the latest call */
    bool record_bad, resolved;         /* resolved: the resolver has answered once */

    enum member_state state;           /* mine */
    bool left_clean, drain_when_ready;
    enum member_state ring_state, adopted_state; /* mine in the newest ring and in the adopted one */
    uint64_t state_number;             /* changes of what statuses say I am */
    uint64_t number;                   /* statuses made */

    struct peer **peers;               /* sorted by name */
    size_t peer_count, peer_capacity;
    struct target *targets;
    size_t target_count, target_capacity;
    uint32_t *by_address;              /* indices of targets, sorted by address */
    size_t by_address_count;

    uint32_t ring_no, adopted_no;      /* the newest; the adopted: equal, or the newest waits for adoption */
    uint64_t ring_ns;                  /* when the newest was computed */
    uint64_t fingerprint, adopted_fingerprint;
    struct ring *ring;                 /* of the newest: NULL when nobody may own */
    struct slot_set *owned, *settled;  /* of the newest */
    size_t owned_count, settled_count;
    bool ring_gained;                  /* the newest gave me slots that I did not own */
    bool stood_still;                  /* the next ring begins with nothing settled */
    bool waking;                       /* until that one is adopted */
    bool record_due;

    bool in_step, serving;
    bool claim_open;
    uint32_t claim_no;
    uint64_t progress_ns;

    uint64_t view_number;              /* of the newest one taken */
    bool view_due, view_in_step;
    bool poll_under_way, poll_soon;
    uint64_t poll_ns;                  /* when the latest began */
    bool swept;                        /* by the latest one answered */
    uint64_t room_bytes;

    char *refusals[REFUSALS_MAX];      /* newest first */
    struct membership_counters counters;
};

static inline bool counted_equal(struct counted a, struct counted b)
{
    return a.state == b.state && a.incarnation == b.incarnation;
}

static inline bool counts(struct counted counted)
{
    return counted.state != MEMBER_UNKNOWN;
}

static inline uint64_t after_ns(uint64_t when_ns, uint64_t wait_ns)
{
    return when_ns > UINT64_MAX - wait_ns ? UINT64_MAX : when_ns + wait_ns;
}

/* -- membership.c -- */
bool membership_dirty(const struct membership *membership); /* the newest ring is not what I know */
static inline bool membership_is_adopted(const struct membership *membership)
{
    return membership->adopted_no == membership->ring_no;
}

/* -- membership_words.c -- */
struct peer *peer_find(const struct membership *membership, const char *name);
/* NULL: no memory, or no place (counted). */
struct peer *peer_get(struct membership *membership, const char *name);
void peer_free(struct peer *peer);
/* A later word: state and incarnation of the peer change. */
void peer_take_word(struct membership *membership, struct peer *peer, uint64_t incarnation, enum member_state word, bool left_clean);
/* Words of others, passed on by a peer. */
void peers_take_list(struct membership *membership, Tailrace__V1__Member *const *members, size_t count, bool gone);
/* Reachability, silence, drops, and who is forgotten. */
void peers_tend(struct membership *membership);
uint64_t peers_next_ns(const struct membership *membership);

/* -- membership_targets.c -- */
size_t target_find(const struct membership *membership, const char *address);
/* NO_TARGET: no memory, no place (counted), or not an address. */
size_t target_get(struct membership *membership, const char *address);
void target_answered(struct membership *membership, size_t index, struct peer *peer);
/* Somebody called and named this address as its own. */
void target_spoken(struct membership *membership, size_t index);
void peer_set_home(struct membership *membership, struct peer *peer, const char *address);
/* Who is wanted, and free indices. */
void targets_tend(struct membership *membership);
/* Nobody may come whom I do not know: all addresses were heard of, all members are reachable. */
bool targets_all_met(const struct membership *membership);
/* Somebody listed has not spoken, and is younger than handoff_timeout; *out_until_ns: the latest time at which that ends. */
const struct target *targets_expected(const struct membership *membership, uint64_t *out_until_ns);
/* It is known who is expected: the resolver has answered, or has not for handoff_timeout from my start. */
bool targets_listed(const struct membership *membership);
/* A resolver that never changes lists me alone. */
bool targets_alone(const struct membership *membership);
uint64_t targets_next_ns(const struct membership *membership);

/* -- membership_status.c -- */
/* peer: NULL for who is not known yet. */
struct buffer *status_pack(struct membership *membership, struct peer *peer);
/* What a status to this peer would say, but for what changes all the time. */
uint64_t status_hash(const struct membership *membership, const struct peer *peer);
struct buffer *record_pack(const struct membership *membership);
/* Members of a record into the ring, silent. False: unreadable. */
bool record_read(struct membership *membership, struct slice record);
void refusal_add(struct membership *membership, const char *text);

/* -- membership_settle.c -- */
bool settle_judge_in_step(const struct membership *membership);
/* C1, at the adoption of a ring; gained: it gave me slots that were not mine before. */
void settle_claim(struct membership *membership, bool gained);
/* Its status cleared `claim_no` under ring F. */
void settle_cleared(struct membership *membership, struct peer *peer, uint32_t claim_no, uint64_t fingerprint);
void settle_progress(struct membership *membership);
/* C2: may a status to this peer clear its open claim. */
bool settle_may_clear(const struct membership *membership, const struct peer *peer);
/* C3, C4. */
void settle_tend(struct membership *membership);
uint64_t settle_next_ns(const struct membership *membership);
/* A claim of another is open that only a poll can answer. */
bool settle_asks_poll(const struct membership *membership);
