/* What resolvers find: each node has a view of its own of who is there, late, frozen, empty or partial as the scenario says. */
#pragma once

#include "common/cluster/resolver.h"
#include "tests/sim/process.h"

enum resolve_answer { RESOLVE_OK, RESOLVE_FAILED };

/* Now, for that node. out_list: room for NODES_MAX, zero-filled. */
enum resolve_answer resolve_look(const struct node *node, struct resolved_address *out_list, size_t *out_count);
/* Until the next look. */
uint64_t resolve_period_ns(void);
