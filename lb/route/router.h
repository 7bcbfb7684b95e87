/* From a request's bytes to the members that own its spans: walk once, a member a span.
 *
 * Plan    parts, each one message for one member (cut at OUTBOX_PIECE_BYTES_MAX), made of borrowed spans: nothing is
 *         copied until plan_commit of lb/lb.c.
 * Choice  the slot's owner; where it is down or suspect, the fallback, then further ranks. One that drains owns nothing: the next one
 *         is the owner.
 * Owner   one worker; the ring and links come as a snapshot (struct member_set).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cluster/ring.h"
#include "common/otlp/regroup.h"
#include "lb/route/member_link.h"

#define MEMBER_LINKS_MAX 4 /* addresses that answer with one name */

struct member { /* as the ring numbers them */
    struct member_link *links[MEMBER_LINKS_MAX];
    unsigned link_count;
};

struct member_set { /* immutable snapshot */
    atomic_uint refs;
    bool counted;       /* each of its links knows of it (member_set_count) */
    struct ring *ring;
    struct member members[];
};

/* Tells every link that a set names it, until the set's end: once, when the set is filled. */
void member_set_count(struct member_set *set);
struct member_set *member_set_ref(struct member_set *set);
/* Whether one of its members has that link, which is compared only: it may be gone. */
bool member_set_names(const struct member_set *set, const struct member_link *link);
void member_set_unref(struct member_set *set);

struct plan_part {
    struct regroup *regroup;
    struct member_link *link;
    uint32_t span_count;
    uint32_t header_index, header; /* the walk's header and its number in regroup */
    size_t size;                   /* of the message; set by router_plan */
    bool is_fallback;
};

enum plan_result { PLAN_OK, PLAN_MALFORMED, PLAN_NO_MEMBER };

struct router {
    struct member_set *set;
    struct plan_part *parts;
    size_t part_count, part_capacity;
    struct { uint32_t part; uint64_t plan; } *current; /* by link index: part in use in plan number `plan` */
    size_t link_capacity;
    uint64_t plan_number;
    uint32_t *rejected;        /* indices of spans that no member can take */
    size_t rejected_count, rejected_capacity;
    uint32_t fault_counts[4];  /* by enum span_fault */
    uint32_t fallback_count;   /* spans that did not go to their owner */
    uint32_t span_count;       /* good ones, whether or not a member could be found */
};

void router_init(struct router *router);
void router_deinit(struct router *router);
/* Takes the reference. */
void router_adopt(struct router *router, struct member_set *set);

/* Plans a request; what is in the plan is valid until the next call, the spans as long as bytes is.
 * avoid: a link not to use (it has just failed), or NULL; compared, never looked into: it may be gone. */
enum plan_result router_plan(struct router *router, struct slice bytes, const struct member_link *avoid);
