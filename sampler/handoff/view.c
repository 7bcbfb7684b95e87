#include "sampler/handoff/view.h"

#include <stdlib.h>
#include <string.h>

#include "sampler/handoff/peer_link.h"

struct view *view_ref(struct view *view)
{
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    return view;
}

void view_unref(struct view *view)
{
    if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < view->member_count; i++) {
        peer_link_unref(view->members[i].link);
        free(view->members[i].name);
    }
    free(view->members);
    free(view->members_of_ring);
    ring_unref(view->ring);
    slot_set_unref(view->owned);
    slot_set_unref(view->settled);
    free(view);
}

struct slot_set *slot_set_new(void)
{
    struct slot_set *set = calloc(1, sizeof(*set));

    if (set)
        atomic_init(&set->refs, 1);
    return set;
}

struct slot_set *slot_set_ref(struct slot_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void slot_set_unref(struct slot_set *set)
{
    if (set && atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1)
        free(set);
}

size_t slot_set_count(const struct slot_set *set)
{
    size_t count = 0;

    for (size_t i = 0; i < SLOT_WORDS; i++)
        count += (size_t)__builtin_popcountll(set->words[i]);
    return count;
}

size_t view_find(const struct view *view, const char *name)
{
    size_t from = 0, to = view->member_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = strcmp(view->members[middle].name, name);

        if (order == 0)
            return middle;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return VIEW_NOBODY;
}
