/* A configuration file as a tree of nodes that know where they stand.
 *
 * Kinds    a plain `5` is an INTEGER, a quoted "5" a STRING; `~`, null and nothing at all are NULL
 * Refused  a key twice in one map, several documents, unknown tags, aliases that grow without bound
 * Life     nodes belong to the config_context they were loaded with
 * Missing  every reader takes a NULL node: it is of kind NULL, empty, and at line 0
 * Source   YAML 1.2 core schema as the Collector's parser applies it (true/false only, 0x 0o 0b, .inf .nan, `<<` merges)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config_node;

enum config_node_kind {
    CONFIG_NODE_NULL,
    CONFIG_NODE_BOOL,
    CONFIG_NODE_INTEGER,
    CONFIG_NODE_FLOAT,
    CONFIG_NODE_STRING,
    CONFIG_NODE_SEQUENCE,
    CONFIG_NODE_MAP,
};

enum config_node_kind config_node_kind(const struct config_node *node);
const char *config_node_kind_name(enum config_node_kind kind); /* "a number", "a list" …, for messages */

/* Where it stands. A map's value is at the line of its key. path: "processors.tail_sampling.policies[0].name". */
const char *config_node_file(const struct config_node *node);
unsigned config_node_line(const struct config_node *node);
const char *config_node_path(const struct config_node *node);
const char *config_node_name(const struct config_node *node); /* the key it stands under; "" for an item of a list and the root */

/* A scalar as it was written, quotes and escapes undone; "" for null, a list and a map. Never NULL, no NUL inside. */
const char *config_node_text(const struct config_node *node);

/* Items of a list, entries of a map, in order; 0 for anything else. */
size_t config_node_count(const struct config_node *node);
/* The index-th item of a list or value of a map; NULL past the end. */
const struct config_node *config_node_at(const struct config_node *node, size_t index);
/* The index-th key of a map; NULL past the end. */
const char *config_node_key(const struct config_node *map, size_t index);
/* The value of a key; NULL when it is absent (or this is no map). A key that is there without a value yields a node of kind NULL. */
const struct config_node *config_node_get(const struct config_node *map, const char *key);
