/* The paths of the span and spanevent contexts. Source: reference OTTL paths; contexts `span`, `spanevent`, `resource`,
 * `scope` (also `instrumentation_scope`). */
#pragma once

#include "common/ottl/ast.h"
#include "common/ottl/program.h"

enum path_context { PATH_SPAN, PATH_EVENT, PATH_RESOURCE, PATH_SCOPE };

/* What a path without keys, or with one kind of them, means. */
enum path_kind {
    PATH_PLAIN,      /* eval yields it; no keys */
    PATH_ATTRIBUTES, /* a map, or the value under its keys */
    PATH_STATE,      /* span.trace_state: whole, or of one key */
};

struct path_leaf {
    enum path_context context;
    const char *name;   /* dotted, without the context */
    enum path_kind kind;
    node_eval *eval;
    enum ottl_part part; /* of attributes */
};

/* NULL: no such path. name: of `count` fields joined by dots. */
const struct path_leaf *path_find(enum path_context context, const char *name);
/* The known name that is nearest; NULL: none is near. */
const char *path_nearest(enum path_context context, const char *name);

node_eval path_state_key;
