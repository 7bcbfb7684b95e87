/* A resolver cannot be stopped, so the second is freed when the first answers again, and made anew at once: what is wrong with its
 * options shows at the start. It is never freed in a call of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/cluster/resolver.h"
#include "common/run/clock.h"

struct resolver_fallback {
    struct resolver resolver;
    struct resolver_maker make_second;
    struct resolver *first, *second; /* second: made, and started when second_runs */
    bool second_runs;
    bool second_rules;               /* its list is in force */
    bool failing;
    uint64_t failing_since_ns;
    char reason[256];                /* why the first fails */
    struct resolved_address *list;   /* the first's last one; NULL: none yet */
    size_t count;
};

static const struct resolver_events *events_of(const struct resolver_fallback *self)
{
    return &self->resolver.events;
}

/* -- the second ------------------------------------------------------------------------------------------------------- */

static void first_still_fails(struct resolver_fallback *self)
{
    events_of(self)->failed(events_of(self)->context, self->reason);
}

static void second_resolved(void *context, const struct resolved_address *addresses, size_t count)
{
    struct resolver_fallback *self = context;

    self->second_rules = true;
    events_of(self)->resolved(events_of(self)->context, addresses, count);
    first_still_fails(self);
}

static void second_unchanged(void *context)
{
    struct resolver_fallback *self = context;

    events_of(self)->unchanged(events_of(self)->context);
    first_still_fails(self);
}

static void second_failed(void *context, const char *reason)
{
    struct resolver_fallback *self = context;
    char both[600];

    (void)snprintf(both, sizeof(both), "%s; and the fallback: %s", self->reason, reason);
    events_of(self)->failed(events_of(self)->context, both);
}

static int second_new(struct resolver_fallback *self)
{
    const struct resolver_events events = {self, second_resolved, second_failed, second_unchanged};

    return self->make_second.make(self->make_second.context, &events, &self->second);
}

static void second_start(struct resolver_fallback *self)
{
    self->second_runs = true;
    resolver_start(self->second);
}

static void second_end(struct resolver_fallback *self)
{
    if (!self->second_runs)
        return;
    resolver_free(self->second);
    self->second = NULL;
    self->second_runs = self->second_rules = false;
    ASSERT(second_new(self) == 0); /* as it was at the start */
}

/* -- the first ---------------------------------------------------------------------------------------------------------- */

static void first_resolved(void *context, const struct resolved_address *addresses, size_t count)
{
    struct resolver_fallback *self = context;

    free(self->list);
    self->list = calloc(count + 1, sizeof(*self->list));
    ASSERT(self->list != NULL);
    memcpy(self->list, addresses, count * sizeof(*addresses));
    self->count = count;
    self->failing = false;
    second_end(self);
    events_of(self)->resolved(events_of(self)->context, addresses, count);
}

static void first_unchanged(void *context)
{
    struct resolver_fallback *self = context;
    bool ruled = self->second_rules;

    self->failing = false;
    second_end(self);
    if (ruled && self->list)
        events_of(self)->resolved(events_of(self)->context, self->list, self->count);
    else
        events_of(self)->unchanged(events_of(self)->context);
}

static void first_failed(void *context, const char *reason)
{
    struct resolver_fallback *self = context;
    uint64_t now_ns = clock_now_ns();

    if (!self->failing)
        self->failing_since_ns = now_ns;
    self->failing = true;
    (void)snprintf(self->reason, sizeof(self->reason), "%s", reason);
    events_of(self)->failed(events_of(self)->context, reason);
    if (!self->second_runs && (!self->list || now_ns - self->failing_since_ns >= RESOLVER_FALLBACK_AFTER_NS))
        second_start(self);
}

/* -- life ------------------------------------------------------------------------------------------------------------------ */

static struct resolver_fallback *fallback_of(struct resolver *resolver)
{
    return container_of(resolver, struct resolver_fallback, resolver);
}

static void fallback_start(struct resolver *resolver)
{
    resolver_start(fallback_of(resolver)->first);
}

static void fallback_free(struct resolver *resolver)
{
    struct resolver_fallback *self = fallback_of(resolver);

    resolver_free(self->first);
    resolver_free(self->second);
    free(self->list);
    free(self);
}

static const char *fallback_source(const struct resolver *resolver)
{
    const struct resolver_fallback *self = (const struct resolver_fallback *)(const void *)resolver; /* its first field */

    return resolver_source(self->second_rules ? self->second : self->first);
}

static const struct resolver_ops fallback_ops = {"fallback", fallback_start, fallback_free, fallback_source};

int resolver_fallback_new(const struct resolver_maker *first, const struct resolver_maker *second, const struct resolver_events *events,
    struct resolver **out_resolver)
{
    struct resolver_fallback *self = calloc(1, sizeof(*self));
    const struct resolver_events firsts = {self, first_resolved, first_failed, first_unchanged};
    int r;

    if (!self)
        return error_raise(-ENOMEM);
    self->resolver = (struct resolver){&fallback_ops, *events};
    self->make_second = *second;
    r = first->make(first->context, &firsts, &self->first);
    if (r == 0)
        r = second_new(self);
    if (r) {
        fallback_free(&self->resolver);
        return r;
    }
    *out_resolver = &self->resolver;
    return 0;
}
