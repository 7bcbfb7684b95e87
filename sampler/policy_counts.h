/* How one worker's policies voted, by name over all generations: a policy that a reload leaves, changes or brings back counts on.
 *
 * Set in force  its votes are counted by index, plainly. Of an older set, whose last traces are being decided, they are counted
 *               aside and added by number. Of one that is past knowing (settings.h) they are not counted.
 * Owner         the worker; policy_counts_shown from any thread.
 */
#pragma once

#include <stdatomic.h>

#include "sampler/settings.h"

struct policy_sum {
    struct policy_votes votes;
    uint64_t credited;
};

struct policy_shown { /* by number, as at the last turn's end */
    struct policy_shown *older; /* smaller ones, which somebody may be reading */
    size_t capacity;
    struct policy_count {
        _Atomic uint64_t sampled, not_sampled, dropped, errors, credited;
    } each[];
};

struct policy_counts {
    const struct sampler_settings *settings; /* the worker's */
    struct policy_votes *votes, *older_votes; /* of the set in force, by index; of an older one, for one decision */
    uint64_t *credits;
    size_t capacity, older_capacity;
    struct policy_sum *sums; /* by number, but for what is in votes and credits */
    size_t sum_capacity;
    _Atomic(struct policy_shown *) shown;
    bool *in_force; /* by number: it is one of the set's */
    size_t in_force_capacity;
    bool changed, older_changed;
};

/* 0 or -ENOMEM. settings: borrowed until the next policy_counts_adopt. */
int policy_counts_init(struct policy_counts *counts, const struct sampler_settings *settings);
void policy_counts_deinit(struct policy_counts *counts);
void policy_counts_adopt(struct policy_counts *counts, const struct sampler_settings *settings);
/* Where a decision by the set counts its votes; then policy_counts_voted. */
struct policy_votes *policy_counts_votes(struct policy_counts *counts, const struct policy_set *set);
void policy_counts_voted(struct policy_counts *counts, const struct policy_set *set);
/* The trace was kept, or dropped, for its sake. */
void policy_counts_credit(struct policy_counts *counts, const struct policy_set *set, uint16_t policy);
/* Once a turn. */
void policy_counts_publish(struct policy_counts *counts);
/* number: as in policy_numbers. */
struct policy_sum policy_counts_shown(struct policy_counts *counts, uint32_t number);
