/* The balancer's links: one for each address in the member book, at the same index. Control thread only.
 *
 *   (none) --listed--> OPEN --no longer--> LEAVING --a while is over and nobody holds it--> CLOSING --closed--> (none)
 *                        ^---listed again-----'                                                '--listed again--> OPEN
 *
 * OPEN     may be named by snapshots; the ring takes its members from here.
 * LEAVING  in no new snapshot. What is queued goes back to be routed anew, calls under way end by themselves. Its counters
 *          stay on /metrics, and an address that is listed again has its connection still.
 * CLOSING  its worker closes it; an address that comes back now gets a new link as soon as the old one is gone.
 * Bound    LINKS_MAX links, those that leave included: addresses beyond are not used until there is room.
 * Source   note 0012.
 */
#pragma once

#include "common/base/num.h"
#include "common/cluster/member.h"
#include "lb/route/member_link.h"
#include "lb/route/router.h"

#define LINKS_MAX 4096u
#define LINK_LINGER_NS (30 * NS_PER_S) /* three times the life of a piece whose client set no deadline */

enum link_life { LINK_LIFE_NONE, LINK_LIFE_OPEN, LINK_LIFE_LEAVING, LINK_LIFE_CLOSING };

struct link_slot {
    struct member_link *link; /* malloc'd; NULL: none */
    enum link_life life;
    bool told;                /* LEAVING: the ring without it is out, and the link knows */
    uint64_t left_ns;         /* when it was told */
};

struct link_table {
    struct member_book *book; /* borrowed */
    void *context;
    /* Makes a link by malloc and member_link_init; the table opens and, when it is closed, frees it. */
    struct member_link *(*make)(void *context, unsigned index, const char *address);
    void (*open)(struct member_link *link); /* member_link_open, but in tests */
    size_t count;                           /* slots that may hold something */
    struct link_slot slots[LINKS_MAX];
};

void link_table_init(struct link_table *table, struct member_book *book, void *context,
    struct member_link *(*make)(void *context, unsigned index, const char *address));
/* After the book took an answer: opens what is new, lets go of what is not listed. Returns how many listed addresses have no
 * link because there is no room. */
size_t link_table_resolved(struct link_table *table);
/* A snapshot was given to the workers: links that leave and are not in it hear of it. */
void link_table_published(struct link_table *table, const struct member_set *set, uint64_t now_ns);
/* Now and then: closes what has left. */
void link_table_tend(struct link_table *table, uint64_t now_ns);
/* The link has closed (member_link_events.closed, brought to this thread): frees it. */
void link_table_closed(struct link_table *table, unsigned index);
/* After the workers were joined: ends and frees all. In two steps, as the workers' queues are drained in between. */
void link_table_close_all(struct link_table *table);
void link_table_deinit(struct link_table *table);

/* The link of an address, for a new snapshot: NULL when it is not open. */
static inline struct member_link *link_table_open(const struct link_table *table, size_t index)
{
    return index < table->count && table->slots[index].life == LINK_LIFE_OPEN ? table->slots[index].link : NULL;
}
