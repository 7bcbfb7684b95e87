/* Text to tree. Source: OTTL grammar; one `not` a factor, named arguments anywhere (the compiler judges their order).
 *
 * Bound   OTTL_SOURCE_MAX bytes, OTTL_DEPTH_MAX brackets inside brackets; time grows with length times depth at most.
 */
#pragma once

#include "common/ottl/ast.h"

#define OTTL_SOURCE_MAX (64 << 10)
#define OTTL_DEPTH_MAX 100

/* Parses a whole condition. 0; OTTL_E_FAULT; or -ENOMEM. Tree and texts live as long as the arena and the source. */
int ottl_parse_condition(struct arena *arena, struct slice source, struct ast **out_condition, struct ottl_fault *out_fault);
