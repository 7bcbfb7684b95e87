/* Files and --set, in order, into one tree; variables are put in last, so that a file that was laid over by another is not
 * asked for its variables. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/config.h"
#include "common/config/node.h"

/* Puts over on top of base: maps are merged key by key, anything else takes the place of what was there. */
static struct config_node *merge(struct config_context *context, struct config_node *base, struct config_node *over)
{
    if (!base || base->kind != CONFIG_NODE_MAP || over->kind != CONFIG_NODE_MAP) {
        if (base)
            node_replace(base, over);
        return over;
    }
    for (size_t i = 0; i < over->count; i++) {
        struct config_node *value = over->items[i];
        size_t index = node_find(base, value->key);

        if (index == SIZE_MAX)
            node_append(context, base, value->key, value);
        else
            (void)merge(context, base->items[index], value);
    }
    return base;
}

/* A root that is a map, or NULL: an empty file counts as an empty map. */
static struct config_node *root_map(struct config_context *context, struct config_node *root)
{
    if (root->kind == CONFIG_NODE_NULL)
        return node_new(context, CONFIG_NODE_MAP, root);
    if (root->kind == CONFIG_NODE_MAP)
        return root;
    (void)config_error(context, root, "expected a map with receivers, exporters and service, found %s", config_node_kind_name(root->kind));
    return NULL;
}

static struct config_node *load_file(struct config_context *context, const char *path)
{
    FILE *file;
    char *text;
    size_t len;
    struct config_node *root = NULL;
    bool failed;

    if (strncmp(path, "file:", 5) == 0) /* as the Collector's --config takes it */
        path += 5;
    context_file(context, path);
    file = fopen(path, "rbe");
    if (!file) {
        config_error_at(context, path, 0, "", "cannot be opened: %s", strerror(errno));
        return NULL;
    }
    text = malloc(CONFIG_TEXT_BYTES_MAX + 1);
    if (!text)
        abort();
    errno = 0;
    len = fread(text, 1, CONFIG_TEXT_BYTES_MAX + 1, file); /* one more than allowed, which yaml_parse refuses */
    failed = ferror(file) != 0;
    if (failed)
        config_error_at(context, path, 0, "", "cannot be read: %s", strerror(errno));
    else
        root = yaml_parse(context, context_text(context, path, strlen(path)), text, len, false);
    (void)fclose(file);
    free(text);
    return root ? root_map(context, root) : NULL;
}

/* The tree that "a.b.c=VALUE" or "a::b::c=VALUE" stands for. A key with `::` between its parts may have dots inside them. */
static struct config_node *load_set(struct config_context *context, const char *set, size_t number)
{
    const char *equals = strchr(set, '=');
    char *name = config_alloc(context, 40);
    struct config_node *root = NULL, *at = NULL, *value;
    const char *part = set;
    const char *separator;

    (void)snprintf(name, 40, "--set number %zu", number);
    context_file(context, name);
    if (!equals || equals == set) {
        config_error_at(context, name, 0, "", "expected KEY=VALUE, such as processors.tail_sampling.decision_wait=10s");
        return NULL;
    }
    separator = memmem(set, (size_t)(equals - set), "::", 2) ? "::" : ".";
    value = yaml_parse(context, name, equals + 1, strlen(equals + 1), false);
    if (value && value->kind == CONFIG_NODE_NULL && equals[1] == '\0')
        config_warn(context, value, "%.*s has no value, so its default counts; for an empty text write %.*s='\"\"'", (int)(equals - set), set,
            (int)(equals - set), set);
    root = node_new(context, CONFIG_NODE_MAP, value);
    if (!value || !root)
        return NULL;
    at = root;
    for (;;) {
        const char *end = memmem(part, (size_t)(equals - part), separator, strlen(separator));
        size_t len = (size_t)((end ? end : equals) - part);
        struct config_node *child = end ? node_new(context, CONFIG_NODE_MAP, value) : value;

        if (len == 0) {
            config_error_at(context, name, 0, "", "a part of the key `%.*s` is empty", (int)size_min((size_t)(equals - set), 200),
                set);
            return NULL;
        }
        if (!child)
            return NULL;
        node_append(context, at, context_text(context, part, len), child);
        if (!end)
            return root;
        at = child;
        part = end + strlen(separator);
    }
}

const struct config_node *config_load(struct config_context *context, const struct config_command_line *line)
{
    struct config_node *root = NULL;
    unsigned errors_before = context_error_count(context);

    config_gates_set(context, line->feature_gates);
    if (line->file_count == 0) {
        config_error_at(context, "", 0, "", "no configuration: give --config FILE");
        return NULL;
    }
    for (size_t i = 0; i < line->file_count; i++) {
        struct config_node *over = load_file(context, line->files[i]);

        if (over)
            root = merge(context, root, over);
    }
    for (size_t i = 0; i < line->set_count; i++) {
        struct config_node *over = load_set(context, line->sets[i], i + 1);

        if (over)
            root = merge(context, root, over);
    }
    if (root && context_error_count(context) == errors_before)
        root = env_expand(context, root);
    return context_error_count(context) == errors_before ? root : NULL;
}

const struct config_node *config_load_text(struct config_context *context, const char *name, const char *text, size_t len)
{
    unsigned errors_before = context_error_count(context);
    struct config_node *root;

    context_file(context, name);
    root = yaml_parse(context, context_text(context, name, strlen(name)), text, len, false);

    if (root)
        root = root_map(context, root);
    if (root && context_error_count(context) == errors_before)
        root = env_expand(context, root);
    return context_error_count(context) == errors_before ? root : NULL;
}
