#include "sampler/policy_counts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"

static void votes_add(struct policy_votes *to, const struct policy_votes *from)
{
    to->sampled += from->sampled;
    to->not_sampled += from->not_sampled;
    to->dropped += from->dropped;
    to->errors += from->errors;
}

/* Grows by doubling, zero-filled. */
static void *grow(void *array, size_t *capacity, size_t least, size_t item_size)
{
    size_t now = size_max(size_max(least, 2 * *capacity), 8);

    if (least <= *capacity && array)
        return array;
    array = realloc(array, now * item_size);
    ASSERT(array != NULL);
    memset((char *)array + *capacity * item_size, 0, (now - *capacity) * item_size);
    *capacity = now;
    return array;
}

/* Who reads may still have the smaller one in hand: it stays, and all of them together are no larger than the largest. */
static void shown_grow(struct policy_counts *counts, size_t least)
{
    struct policy_shown *before = atomic_load_explicit(&counts->shown, memory_order_relaxed), *shown;
    size_t capacity = before ? before->capacity : 0;

    if (before && least <= capacity)
        return;
    capacity = size_max(size_max(least, 2 * capacity), 8);
    shown = calloc(1, sizeof(*shown) + capacity * sizeof(shown->each[0]));
    ASSERT(shown != NULL);
    shown->capacity = capacity;
    shown->older = before;
    atomic_store_explicit(&counts->shown, shown, memory_order_release);
}

static void set_size(struct policy_counts *counts, const struct sampler_settings *settings)
{
    size_t count = policy_set_count(settings->set), credit_capacity = counts->capacity;

    counts->votes = grow(counts->votes, &counts->capacity, count, sizeof(counts->votes[0]));
    counts->credits = grow(counts->credits, &credit_capacity, count, sizeof(counts->credits[0]));
    counts->sums = grow(counts->sums, &counts->sum_capacity, settings->policy_names, sizeof(counts->sums[0]));
    shown_grow(counts, settings->policy_names);
    counts->in_force = grow(counts->in_force, &counts->in_force_capacity, settings->policy_names, sizeof(counts->in_force[0]));
    memset(counts->in_force, 0, counts->in_force_capacity * sizeof(counts->in_force[0]));
    for (size_t i = 0; i < settings->policies->count; i++)
        counts->in_force[settings->policies->each[i].number] = true;
    counts->settings = settings;
    counts->changed = counts->older_changed = true;
}

int policy_counts_init(struct policy_counts *counts, const struct sampler_settings *settings)
{
    memset(counts, 0, sizeof(*counts));
    atomic_init(&counts->shown, NULL);
    set_size(counts, settings);
    policy_counts_publish(counts);
    return 0;
}

void policy_counts_deinit(struct policy_counts *counts)
{
    struct policy_shown *shown = atomic_load(&counts->shown), *older;

    for (; shown; shown = older) {
        older = shown->older;
        free(shown);
    }
    free(counts->votes);
    free(counts->older_votes);
    free(counts->credits);
    free(counts->sums);
    free(counts->in_force);
    memset(counts, 0, sizeof(*counts));
}

void policy_counts_adopt(struct policy_counts *counts, const struct sampler_settings *settings)
{
    const struct policy_numbers *before = counts->settings->policies;

    for (size_t i = 0; i < before->count; i++) {
        struct policy_sum *sum = &counts->sums[before->each[i].number];

        votes_add(&sum->votes, &counts->votes[i]);
        sum->credited += counts->credits[i];
        counts->votes[i] = (struct policy_votes){0};
        counts->credits[i] = 0;
    }
    set_size(counts, settings);
    policy_counts_publish(counts);
}

struct policy_votes *policy_counts_votes(struct policy_counts *counts, const struct policy_set *set)
{
    size_t count = policy_set_count(set);

    counts->changed = true;
    if (LIKELY(set == counts->settings->set))
        return counts->votes;
    counts->older_votes = grow(counts->older_votes, &counts->older_capacity, count, sizeof(counts->older_votes[0]));
    memset(counts->older_votes, 0, count * sizeof(counts->older_votes[0]));
    return counts->older_votes;
}

void policy_counts_voted(struct policy_counts *counts, const struct policy_set *set)
{
    const struct policy_numbers *numbers;

    if (LIKELY(set == counts->settings->set))
        return;
    counts->older_changed = true;
    numbers = settings_policies(counts->settings, policy_set_generation(set));
    for (size_t i = 0; numbers && i < numbers->count; i++)
        votes_add(&counts->sums[numbers->each[i].number].votes, &counts->older_votes[i]);
}

void policy_counts_credit(struct policy_counts *counts, const struct policy_set *set, uint16_t policy)
{
    const struct policy_numbers *numbers;

    counts->changed = true;
    if (policy == UINT16_MAX)
        return;
    if (LIKELY(set == counts->settings->set)) {
        counts->credits[policy]++;
        return;
    }
    counts->older_changed = true;
    numbers = settings_policies(counts->settings, policy_set_generation(set));
    if (numbers)
        counts->sums[numbers->each[policy].number].credited++;
}

static void count_show(struct policy_count *out, const struct policy_sum *sum)
{
    atomic_store_explicit(&out->sampled, sum->votes.sampled, memory_order_relaxed);
    atomic_store_explicit(&out->not_sampled, sum->votes.not_sampled, memory_order_relaxed);
    atomic_store_explicit(&out->dropped, sum->votes.dropped, memory_order_relaxed);
    atomic_store_explicit(&out->errors, sum->votes.errors, memory_order_relaxed);
    atomic_store_explicit(&out->credited, sum->credited, memory_order_relaxed);
}

void policy_counts_publish(struct policy_counts *counts)
{
    struct policy_shown *shown = atomic_load_explicit(&counts->shown, memory_order_relaxed);
    const struct policy_numbers *numbers = counts->settings->policies;

    if (!counts->changed)
        return;
    counts->changed = false;
    for (size_t i = 0; i < numbers->count; i++) {
        struct policy_sum sum = counts->sums[numbers->each[i].number];

        votes_add(&sum.votes, &counts->votes[i]);
        sum.credited += counts->credits[i];
        count_show(&shown->each[numbers->each[i].number], &sum);
    }
    /* What is not in force any more still counts for its last traces, and is copied into a table that grew. */
    for (uint32_t number = 0; counts->older_changed && number < counts->settings->policy_names; number++) {
        if (!counts->in_force[number])
            count_show(&shown->each[number], &counts->sums[number]);
    }
    counts->older_changed = false;
}

static uint64_t seen(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

struct policy_sum policy_counts_shown(struct policy_counts *counts, uint32_t number)
{
    struct policy_shown *shown = atomic_load_explicit(&counts->shown, memory_order_acquire);
    const struct policy_count *count;

    if (!shown || number >= shown->capacity)
        return (struct policy_sum){.credited = 0};
    count = &shown->each[number];
    return (struct policy_sum){{seen(&count->sampled), seen(&count->not_sampled), seen(&count->dropped), seen(&count->errors)},
        seen(&count->credited)};
}
