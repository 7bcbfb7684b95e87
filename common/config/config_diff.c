/* Both trees are walked together, key by key; a key that stands in one of them only is walked beside nothing. */
#include "common/config/config_diff.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"

#define PATH_BYTES_MAX 1024u
#define PART_BYTES_MAX 256u

static bool is_map(const struct config_node *node)
{
    return config_node_kind(node) == CONFIG_NODE_MAP;
}

static bool lists_equal(const struct config_node *a, const struct config_node *b)
{
    if (config_node_count(a) != config_node_count(b))
        return false;
    for (size_t i = 0; i < config_node_count(a); i++)
        if (!config_node_equal(config_node_at(a, i), config_node_at(b, i)))
            return false;
    return true;
}

static bool maps_equal(const struct config_node *a, const struct config_node *b)
{
    if (config_node_count(a) != config_node_count(b))
        return false;
    for (size_t i = 0; i < config_node_count(a); i++) {
        const struct config_node *other = config_node_get(b, config_node_key(a, i));

        if (!other || !config_node_equal(config_node_at(a, i), other))
            return false;
    }
    return true;
}

bool config_node_equal(const struct config_node *a, const struct config_node *b)
{
    if (config_node_kind(a) != config_node_kind(b))
        return false;
    switch (config_node_kind(a)) {
    case CONFIG_NODE_MAP:
        return maps_equal(a, b);
    case CONFIG_NODE_SEQUENCE:
        return lists_equal(a, b);
    case CONFIG_NODE_NULL:
    case CONFIG_NODE_BOOL:
    case CONFIG_NODE_INTEGER:
    case CONFIG_NODE_FLOAT:
    case CONFIG_NODE_STRING:
        return strcmp(config_node_text(a), config_node_text(b)) == 0;
    }
    return false;
}

/* -- the walk -------------------------------------------------------------------------------------- */

struct diff {
    void (*visit)(void *context, const char *path);
    void *context;
    size_t found;
};

static void found(struct diff *diff, const char *path)
{
    diff->found++;
    diff->visit(diff->context, path);
}

static void diff_nodes(struct diff *diff, const char *path, const struct config_node *before, const struct config_node *after);

static void diff_key(struct diff *diff, const char *path, const char *key, const struct config_node *before, const struct config_node *after)
{
    char below[PATH_BYTES_MAX];

    (void)snprintf(below, sizeof(below), "%s%s%s", path, *path ? "." : "", key);
    diff_nodes(diff, below, config_node_get(before, key), config_node_get(after, key));
}

static void diff_maps(struct diff *diff, const char *path, const struct config_node *before, const struct config_node *after)
{
    for (size_t i = 0; i < config_node_count(before) && is_map(before); i++)
        diff_key(diff, path, config_node_key(before, i), before, after);
    for (size_t i = 0; i < config_node_count(after) && is_map(after); i++) {
        const char *key = config_node_key(after, i);

        if (!is_map(before) || !config_node_get(before, key))
            diff_key(diff, path, key, before, after);
    }
}

/* A section that is there without a key may mean something: `http:` turns a protocol on. */
static void diff_nodes(struct diff *diff, const char *path, const struct config_node *before, const struct config_node *after)
{
    enum config_node_kind a = config_node_kind(before), b = config_node_kind(after);
    bool maps = (is_map(before) && (is_map(after) || b == CONFIG_NODE_NULL)) || (is_map(after) && a == CONFIG_NODE_NULL);
    size_t before_count = diff->found;

    if (!maps) {
        if (!config_node_equal(before, after) || !before != !after)
            found(diff, path);
        return;
    }
    diff_maps(diff, path, before, after);
    if (diff->found == before_count && a != b)
        found(diff, path);
}

void config_diff(const struct config_node *before, const struct config_node *after,
    void (*visit)(void *context, const char *path), void *context)
{
    struct diff diff = {.visit = visit, .context = context};

    diff_nodes(&diff, "", before, after);
}

/* -- patterns ---------------------------------------------------------------------------------------- */

/* The first part of *at, which moves behind it. False: there is none, or it is too long. */
static bool part_take(const char **at, char part[PART_BYTES_MAX])
{
    size_t len = strcspn(*at, ".");

    if (len == 0 || len >= PART_BYTES_MAX)
        return false;
    memcpy(part, *at, len);
    part[len] = '\0';
    *at += len;
    *at += **at == '.';
    return true;
}

static bool matches(const char *pattern, const char *path)
{
    char wanted[PART_BYTES_MAX], part[PART_BYTES_MAX];

    while (*pattern) {
        if (!part_take(&pattern, wanted) || !part_take(&path, part) || fnmatch(wanted, part, 0) != 0)
            return false;
    }
    return true;
}

bool config_path_matches(const char *const *patterns, const char *path)
{
    for (size_t i = 0; patterns[i]; i++)
        if (matches(patterns[i], path))
            return true;
    return false;
}
