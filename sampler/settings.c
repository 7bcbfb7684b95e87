#include "sampler/settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"

/* -- names ------------------------------------------------------------------------------------------ */

static uint32_t roll_number(struct policy_roll *roll, const char *name)
{
    for (uint32_t i = 0; i < roll->count; i++)
        if (strcmp(roll->names[i], name) == 0)
            return i;
    roll->names = realloc(roll->names, (roll->count + 1) * sizeof(roll->names[0]));
    ASSERT(roll->names != NULL);
    roll->names[roll->count] = strdup(name);
    ASSERT(roll->names[roll->count] != NULL);
    return roll->count++;
}

void policy_roll_deinit(struct policy_roll *roll)
{
    for (uint32_t i = 0; i < roll->count; i++)
        free(roll->names[i]);
    free(roll->names);
}

static struct policy_numbers *numbers_new(const struct policy_set *set, struct policy_roll *roll)
{
    size_t count = policy_set_count(set);
    struct policy_numbers *numbers = calloc(1, sizeof(*numbers) + count * sizeof(numbers->each[0]));

    ASSERT(numbers != NULL);
    atomic_init(&numbers->refs, 1);
    numbers->generation = policy_set_generation(set);
    numbers->count = count;
    for (size_t i = 0; i < count; i++) {
        numbers->each[i].number = roll_number(roll, policy_set_name(set, (uint16_t)i));
        numbers->each[i].name = roll->names[numbers->each[i].number];
    }
    return numbers;
}

static struct policy_numbers *numbers_ref(struct policy_numbers *numbers)
{
    if (numbers)
        atomic_fetch_add_explicit(&numbers->refs, 1, memory_order_relaxed);
    return numbers;
}

static void numbers_unref(struct policy_numbers *numbers)
{
    if (numbers && atomic_fetch_sub_explicit(&numbers->refs, 1, memory_order_acq_rel) == 1)
        free(numbers);
}

/* -- life -------------------------------------------------------------------------------------------- */

/* Those of before, one place further, unless the set is the same. */
static void settings_policies_take(struct sampler_settings *settings, const struct sampler_settings *before, struct policy_roll *roll)
{
    bool same = before && before->set == settings->set;

    settings->policies = same ? numbers_ref(before->policies) : numbers_new(settings->set, roll);
    settings->policy_names = roll->count;
    if (!before)
        return;
    for (size_t i = 0; i < PAST_POLICIES; i++)
        settings->past[i] = numbers_ref(same ? before->past[i] : i == 0 ? before->policies : before->past[i - 1]);
}

struct sampler_settings *sampler_settings_new(const struct sampler_config *config, struct config_context *context, struct policy_set *set,
    const struct sampler_settings *before, struct policy_roll *roll)
{
    struct sampler_settings *settings = calloc(1, sizeof(*settings));

    ASSERT(settings != NULL);
    atomic_init(&settings->refs, 1);
    settings->generation = before ? before->generation + 1 : 1;
    settings->config = *config;
    settings->context = context;
    settings->set = policy_set_ref(set);
    /* A rate is spent by decisions that wait: with one in the set the others wait too, or it would be spent otherwise. */
    settings->decides_early = config->tail_sampling.span_ingest || (config->tailrace.early_keep && !policy_set_needs(set)->state);
    settings_policies_take(settings, before, roll);
    return settings;
}

struct sampler_settings *sampler_settings_ref(struct sampler_settings *settings)
{
    atomic_fetch_add_explicit(&settings->refs, 1, memory_order_relaxed);
    return settings;
}

void sampler_settings_unref(struct sampler_settings *settings)
{
    while (settings && atomic_fetch_sub_explicit(&settings->refs, 1, memory_order_acq_rel) == 1) {
        struct sampler_settings *lender = settings->lender;

        numbers_unref(settings->policies);
        for (size_t i = 0; i < PAST_POLICIES; i++)
            numbers_unref(settings->past[i]);
        policy_set_unref(settings->set);
        config_context_free(settings->context);
        free(settings);
        settings = lender;
    }
}

const struct policy_numbers *settings_policies(const struct sampler_settings *settings, uint64_t set_generation)
{
    if (settings->policies->generation == set_generation)
        return settings->policies;
    for (size_t i = 0; i < PAST_POLICIES && settings->past[i]; i++)
        if (settings->past[i]->generation == set_generation)
            return settings->past[i];
    return NULL;
}

const char *settings_policy_name(const struct sampler_settings *settings, uint64_t set_generation, uint16_t policy)
{
    const struct policy_numbers *numbers = settings_policies(settings, set_generation);

    return numbers && policy < numbers->count ? numbers->each[policy].name : NULL;
}
