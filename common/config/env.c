/* ${env:NAME} in every string of a tree.
 *
 *   ${env:NAME}            the variable's value; unset: nothing, with a warning
 *   ${env:NAME:-default}   the default where it is unset (empty counts as set)
 *   ${NAME}                the same as ${env:NAME}
 *   $$                     one $; it never starts a reference
 *
 * A reference may stand inside another (${env:A_${env:B}}), and values are expanded in their turn. A string that is one
 * reference and nothing else becomes what its value is as YAML: a number, a list, a map. Where text is wanted it stays
 * the value as it is, so a password of digits needs no quotes.
 * Source: the Collector's confmap and its env provider. Differs from the Collector: file:, http: and yaml: are refused.
 */
#include "common/config/node.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/num.h"

/* Enough for any real nesting; a variable that refers to itself ends here. */
#define NESTING_MAX 16u
/* All text that one string may become. */
#define EXPANDED_BYTES_MAX (1u << 20)

struct text {
    char *at;
    size_t len, capacity;
};

struct expansion {
    struct config_context *context;
    const struct config_node *node; /* whose string is expanded, for messages */
    size_t budget;                  /* bytes it may still grow by */
    bool failed;
};

static void text_add(struct expansion *expansion, struct text *text, const char *at, size_t len)
{
    if (expansion->failed)
        return;
    if (len > expansion->budget) {
        expansion->failed = true;
        config_error(expansion->context, expansion->node, "grows past %u bytes when its variables are put in",
            EXPANDED_BYTES_MAX);
        return;
    }
    expansion->budget -= len;
    if (text->len + len + 1 > text->capacity) {
        size_t capacity = (text->len + len + 1) * 2;

        text->at = realloc(text->at, capacity);
        if (!text->at)
            abort();
        text->capacity = capacity;
    }
    memcpy(text->at + text->len, at, len);
    text->len += len;
    text->at[text->len] = '\0';
}

static bool is_name(const char *at, size_t len)
{
    if (len == 0 || (at[0] >= '0' && at[0] <= '9'))
        return false;
    for (size_t i = 0; i < len; i++) {
        bool letter = (at[i] >= 'a' && at[i] <= 'z') || (at[i] >= 'A' && at[i] <= 'Z') || at[i] == '_';

        if (!letter && !(at[i] >= '0' && at[i] <= '9'))
            return false;
    }
    return true;
}

/* The `}` that ends the reference whose `${` is at `at`; NULL: it has no end and is plain text. */
static const char *reference_end(const char *at, const char *end)
{
    unsigned open = 0;

    for (; at < end; at++) {
        if (*at == '$' && at + 1 < end && at[1] == '$') {
            at++;
        } else if (*at == '$' && at + 1 < end && at[1] == '{') {
            open++;
            at++;
        } else if (*at == '}' && --open == 0) {
            return at;
        }
    }
    return NULL;
}

static void expand_text(struct expansion *expansion, const char *at, size_t len, unsigned nesting, struct text *out);

/* What stands between ${ and }. Returns the raw value, not yet expanded itself, or NULL for nothing. */
static const char *reference_value(struct expansion *expansion, const char *at, size_t len, struct text *scratch)
{
    const char *colon, *value;
    const char *fallback = NULL;
    size_t name_len = len;

    if (len >= 4 && memcmp(at, "env:", 4) == 0) {
        at += 4;
        len -= 4;
        name_len = len;
        for (size_t i = 0; i + 1 < len; i++) {
            if (at[i] == ':' && at[i + 1] == '-') {
                name_len = i;
                fallback = at + i + 2;
                break;
            }
        }
    } else if ((colon = memchr(at, ':', len))) {
        size_t scheme_len = (size_t)(colon - at);

        expansion->failed = true;
        if (colon + 1 < at + len && colon[1] == '-')
            config_error(expansion->context, expansion->node, "write ${env:%.*s} for a variable with a default",
                (int)size_min(len, 100), at);
        else
            config_error(expansion->context, expansion->node,
                "${%.*s:…} is not supported: only ${env:NAME} and ${env:NAME:-default} are; $$ is a plain $",
                (int)size_min(scheme_len, 100), at);
        return NULL;
    }
    if (!is_name(at, name_len)) {
        expansion->failed = true;
        config_error(expansion->context, expansion->node,
            "`%.*s` is no name of an environment variable (letters, digits and _); $$ is a plain $",
            (int)size_min(name_len, 100), at);
        return NULL;
    }
    text_add(expansion, scratch, at, name_len);
    if (expansion->failed)
        return NULL;
    value = getenv(scratch->at);
    if (value)
        return value;
    if (!fallback)
        config_warn(expansion->context, expansion->node, "the environment variable %s is not set: taken as empty", scratch->at);
    return fallback;
}

/* Expands the reference at..end, whose braces are included, and adds its value to out as text. */
static void expand_reference(struct expansion *expansion, const char *at, const char *end, unsigned nesting, struct text *out)
{
    struct text inside = {0}, name = {0};
    const char *value;

    at += 2;
    end -= 1;
    if (memchr(at, '$', (size_t)(end - at)))
        expand_text(expansion, at, (size_t)(end - at), nesting + 1, &inside);
    else
        text_add(expansion, &inside, at, (size_t)(end - at));
    if (!expansion->failed) {
        value = reference_value(expansion, inside.at ? inside.at : "", inside.len, &name);
        if (value && !expansion->failed)
            expand_text(expansion, value, strlen(value), nesting + 1, out);
    }
    free(inside.at);
    free(name.at);
}

static void expand_text(struct expansion *expansion, const char *at, size_t len, unsigned nesting, struct text *out)
{
    const char *end = at + len;

    if (nesting > NESTING_MAX && !expansion->failed) {
        expansion->failed = true;
        config_error(expansion->context, expansion->node, "environment variables refer to each other more than %u deep",
            NESTING_MAX);
    }
    while (at < end && !expansion->failed) {
        const char *dollar = memchr(at, '$', (size_t)(end - at));
        const char *close;

        if (!dollar)
            dollar = end;
        text_add(expansion, out, at, (size_t)(dollar - at));
        if (dollar == end)
            return;
        at = dollar;
        if (at + 1 < end && at[1] == '$') {
            text_add(expansion, out, "$", 1);
            at += 2;
        } else if (at + 1 < end && at[1] == '{' && (close = reference_end(at, end))) {
            expand_reference(expansion, at, close + 1, nesting, out);
            at = close + 1;
        } else {
            text_add(expansion, out, "$", 1);
            at++;
        }
    }
}

/* True when the whole of text is one reference. */
static bool is_one_reference(const char *text, size_t len)
{
    return len > 3 && text[0] == '$' && text[1] == '{' && reference_end(text, text + len) == text + len - 1;
}

/* A file's line for all that came out of a variable. */
static void place(struct config_node *node, const struct config_node *like)
{
    node->file = like->file;
    node->line = like->line;
    for (size_t i = 0; i < node->count; i++)
        place(node->items[i], like);
}

static struct config_node *expand_string(struct config_context *context, struct config_node *node)
{
    struct expansion expansion = {.context = context, .node = node, .budget = EXPANDED_BYTES_MAX};
    bool whole = is_one_reference(node->text, strlen(node->text));
    struct config_node *value = NULL;
    struct text out = {0};
    char *text;

    expand_text(&expansion, node->text, strlen(node->text), 0, &out);
    if (expansion.failed) {
        free(out.at);
        return node;
    }
    text = context_text(context, out.at ? out.at : "", out.len);
    free(out.at);
    if (!whole) {
        node->text = text;
        return node;
    }
    /* Text that is no YAML is a string; a certificate's key, say. */
    value = yaml_parse(context, node->file, text, strlen(text), true);
    if (!value)
        value = node_new(context, CONFIG_NODE_STRING, node);
    if (!value)
        return node;
    place(value, node);
    node_replace(node, value);
    if (value->kind == CONFIG_NODE_STRING)
        value->text = text;
    if (*text)
        value->original = text;
    return value;
}

struct config_node *env_expand(struct config_context *context, struct config_node *node)
{
    if (node->kind == CONFIG_NODE_STRING && strchr(node->text, '$'))
        return expand_string(context, node);
    for (size_t i = 0; i < node->count; i++)
        (void)env_expand(context, node->items[i]);
    return node;
}
