/* The inside of a configuration tree: for common/config only, all others use yaml.h. */
#pragma once

#include <stdarg.h>

#include "common/config/config.h"
#include "common/config/yaml.h"

/* Limits of one load. A configuration of thousands of policies stays far below; a bomb of aliases does not. */
#define CONFIG_TEXT_BYTES_MAX (4u << 20)
#define CONFIG_NODES_MAX 100000u
#define CONFIG_DEPTH_MAX 64u
#define CONFIG_ANCHORS_MAX 1000u

struct config_node {
    enum config_node_kind kind;
    unsigned line; /* from 1 */
    const char *file;
    struct config_context *context; /* whose memory it is in */
    struct config_node *parent; /* NULL: the root */
    const char *key;            /* in the parent's map; NULL: an item of a list, or the root */
    size_t index;               /* in the parent's list */
    const char *text;           /* scalars */
    const char *original;       /* one ${env:…} and nothing else: the variable's text, for where text is wanted */
    struct config_node **items; /* lists and maps; a map's keys are in its items */
    size_t count, capacity;
};

/* yaml.c: text to a tree; NULL after an error was reported. quiet: report nothing (a value that may be no YAML). */
struct config_node *yaml_parse(struct config_context *context, const char *file, const char *text, size_t len, bool quiet);
/* A new node, counted against CONFIG_NODES_MAX: NULL (reported once) past it. like: where it stands; may be NULL. */
struct config_node *node_new(struct config_context *context, enum config_node_kind kind, const struct config_node *like);
/* Appends to a list or map; key: NULL for a list. */
void node_append(struct config_context *context, struct config_node *parent, const char *key, struct config_node *child);
/* Puts child where old stands in its parent. */
void node_replace(struct config_node *old, struct config_node *child);
size_t node_find(const struct config_node *map, const char *key); /* index, or SIZE_MAX */
/* What a plain scalar is by its spelling. */
enum config_node_kind yaml_resolve(const char *text);

/* env.c: expands every string below node in place. Errors are reported. Returns the node that stands there now. */
struct config_node *env_expand(struct config_context *context, struct config_node *node);

/* config.c: is the candidate near enough to be what was meant, and nearer than *distance (SIZE_MAX at first)? */
bool name_nearer(const char *name, const char *candidate, size_t *distance);

/* context.c */
bool context_count_node(struct config_context *context);
unsigned context_error_count(const struct config_context *context);
/* A file is about to be read: messages about it come after those about the files before. file: copied. */
void context_file(struct config_context *context, const char *file);
char *context_text(struct config_context *context, const char *text, size_t len);
void config_error_at(struct config_context *context, const char *file, unsigned line, const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* config_print.c: is the value at this node one that is never shown? */
bool node_is_secret(const struct config_node *node);
