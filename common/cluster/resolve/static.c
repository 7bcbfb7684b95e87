/* A list that the configuration holds. What can be wrong with it is wrong at creation, so start cannot fail. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/cluster/resolver.h"

struct resolver_static {
    struct resolver resolver;
    size_t count;
    struct resolved_address addresses[];
};

static void static_start(struct resolver *resolver)
{
    const struct resolver_static *self = container_of(resolver, struct resolver_static, resolver);

    resolver->events.resolved(resolver->events.context, self->addresses, self->count);
}

static void static_free(struct resolver *resolver)
{
    free(container_of(resolver, struct resolver_static, resolver));
}

static const struct resolver_ops static_ops = {"static", static_start, static_free, NULL};

static int by_address(const void *a, const void *b)
{
    const struct resolved_address *left = a, *right = b;

    return strcmp(left->address, right->address);
}

int resolver_static_new(
    const char *const *hostnames, size_t count, const struct resolver_events *events, struct resolver **out_resolver)
{
    struct resolver_static *self;
    size_t kept = 0;

    if (count == 0)
        return RESOLVER_E_NO_ADDRESS;
    self = calloc(1, sizeof(*self) + count * sizeof(self->addresses[0]));
    if (!self)
        return error_raise(-ENOMEM);
    self->resolver = (struct resolver){&static_ops, *events};

    for (size_t i = 0; i < count; i++) {
        struct resolved_address *address = &self->addresses[i];

        address->ready = true;
        if (!resolver_address(hostnames[i], RESOLVER_DEFAULT_PORT, address->address, sizeof(address->address))) {
            free(self);
            return RESOLVER_E_BAD_ADDRESS;
        }
    }
    qsort(self->addresses, count, sizeof(self->addresses[0]), by_address);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(self->addresses[kept - 1].address, self->addresses[i].address) != 0)
            self->addresses[kept++] = self->addresses[i];
    }
    self->count = kept;
    *out_resolver = &self->resolver;
    return 0;
}
