#include "tests/kit/members_up.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"

void members_up_init(struct members_up *members, unsigned count)
{
    const struct member_link_events events = {0};
    const struct outbox_owner owner = {0};
    struct ring_member named[MEMBERS_UP_MOST];
    char names[MEMBERS_UP_MOST][32];
    struct member_set *set;

    ASSERT(count > 0 && count <= MEMBERS_UP_MOST);
    set = calloc(1, sizeof(*set) + count * sizeof(set->members[0]));
    ASSERT(set != NULL);
    atomic_init(&set->refs, 1);
    members->count = count;
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "sampler-%u", i);
        named[i] = (struct ring_member){names[i], 2};
        member_link_init(&members->links[i], i, names[i], NULL, &events, &owner, MIB, NS_PER_S);
        atomic_store(&members->links[i].condition, MEMBER_UP);
        /* Their names sort as their numbers do: member i of the ring is sampler-i. */
        set->members[i] = (struct member){.links = {&members->links[i]}, .link_count = 1};
    }
    ASSERT(ring_new(named, count, &set->ring) == 0);
    router_init(&members->router);
    router_adopt(&members->router, set);
}

void members_up_deinit(struct members_up *members)
{
    router_deinit(&members->router);
    for (unsigned i = 0; i < members->count; i++)
        member_link_deinit(&members->links[i]);
}
