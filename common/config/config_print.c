/* The merged tree as YAML that can be read in again: what was put in for variables stays put in, $ is doubled so that nothing
 * is expanded twice, and whatever has the name of a secret is not shown. */
#include "common/config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/config/node.h"

#define HIDDEN "[REDACTED]"

struct writer {
    char *at;
    size_t len, capacity;
};

static void put(struct writer *writer, const char *at, size_t len)
{
    if (writer->len + len + 1 > writer->capacity) {
        writer->capacity = (writer->len + len + 1) * 2;
        writer->at = realloc(writer->at, writer->capacity);
        if (!writer->at)
            abort();
    }
    memcpy(writer->at + writer->len, at, len);
    writer->len += len;
    writer->at[writer->len] = '\0';
}

static void put_text(struct writer *writer, const char *text)
{
    put(writer, text, strlen(text));
}

/* -- secrets ------------------------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Where a secret is, or how often it is looked at, not what it is. */
static bool name_is_place(const char *name)
{
    return strcmp(name, "file") == 0 || strcmp(name, "filename") == 0 || ends_with(name, "_file");
}

static bool name_is_secret(const char *name)
{
    static const char *const words[] = {
        "password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "authorization", "credential", "_pem", NULL};

    if (name_is_place(name))
        return false;
    for (size_t i = 0; words[i]; i++) {
        if (strcasestr(name, words[i]))
            return true;
    }
    return false;
}

/* Maps of headers, whose values are secret; lists of their names are not called so in the Collector's files. */
static bool name_is_headers(const char *name)
{
    return strcmp(name, "headers") == 0 || strcmp(name, "response_headers") == 0;
}

/* An extension that is called after what it does, such as bearertokenauth, is no secret in whole. */
static bool is_component(const struct config_node *node)
{
    return node->parent && node->parent->key && !node->parent->parent->parent && strcmp(node->parent->key, "extensions") == 0;
}

/* Of headers as a list of {key, value} only the values are secret. */
static bool is_header_key(const struct config_node *node)
{
    static const char *const words[] = {"key", "name", "action", "from_context"};
    const struct config_node *item = node->parent, *list = item ? item->parent : NULL;

    if (!node->key || !list || item->key || list->kind != CONFIG_NODE_SEQUENCE)
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strcmp(node->key, words[i]) == 0)
            return list->key && name_is_headers(list->key);
    }
    return false;
}

bool node_is_secret(const struct config_node *node)
{
    if (is_header_key(node))
        return false;
    if (node->key && name_is_place(node->key))
        return false;
    for (; node->parent; node = node->parent) {
        if (node->key && !is_component(node) && (name_is_secret(node->key) || name_is_headers(node->key)))
            return true;
    }
    return false;
}

/* -- writing -------------------------------------------------------------------------------------- */

/* One character past ASCII; returns its length, 0 for bytes that are no UTF-8. */
static size_t decode(const char *text, unsigned *out_code)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t len = at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : at[0] >= 0xe0 && at[0] < 0xf0 ? 3 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : 0;
    unsigned code = len == 4 ? at[0] & 0x07u : len == 3 ? at[0] & 0x0fu : at[0] & 0x1fu;

    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0u) != 0x80u)
            return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    *out_code = code;
    return len;
}

/* Past ASCII, YAML takes some characters for line ends and some not at all: those are escaped. */
static size_t put_wide(struct writer *writer, const char *text)
{
    unsigned code = 0;
    size_t len = decode(text, &code);
    char escaped[16];

    if (len == 0) {
        put_text(writer, "\\uFFFD"); /* a variable's value need not be UTF-8; shown, not restored */
        return 1;
    }
    if (code < 0xa0 || code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff ||
        (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) {
        (void)snprintf(escaped, sizeof(escaped), "\\u%04X", code > 0xffff || (code >= 0xd800 && code < 0xe000) ? 0xfffdu : code);
        put_text(writer, escaped);
    } else {
        put(writer, text, len);
    }
    return len;
}

static void put_quoted(struct writer *writer, const char *text, bool double_dollars)
{
    put_text(writer, "\"");
    while (*text) {
        unsigned char c = (unsigned char)*text;
        char escaped[8];

        if (c >= 0x80) {
            text += put_wide(writer, text);
            continue;
        }
        if (c == '"' || c == '\\') {
            escaped[0] = '\\';
            put(writer, escaped, 1);
            put(writer, text, 1);
        } else if (c == '$' && double_dollars) {
            put_text(writer, "$$");
        } else if (c < 0x20 || c == 0x7f) {
            (void)snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned)c);
            put_text(writer, escaped);
        } else {
            put(writer, text, 1);
        }
        text++;
    }
    put_text(writer, "\"");
}

/* A word that YAML takes for nothing but a text, also when it stands as a key. */
static bool is_plain_word(const char *text)
{
    bool digit = *text >= '0' && *text <= '9';

    if (!digit && !((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z')))
        return false;
    if (digit && strpbrk(text, "-_")) /* a date, to some readers */
        return false;
    if (yaml_resolve(text) != CONFIG_NODE_STRING)
        return false;
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")] == '\0';
}

static void put_string(struct writer *writer, const char *text, bool double_dollars)
{
    if (is_plain_word(text))
        put_text(writer, text);
    else
        put_quoted(writer, text, double_dollars);
}

/* A text, without the name and password that a URL may hold. */
static void put_shown(struct writer *writer, const char *text)
{
    const char *host = strstr(text, "://"), *at;
    char *shown;

    if (!host) {
        put_string(writer, text, true);
        return;
    }
    host += 3;
    at = memrchr(host, '@', strcspn(host, "/?#"));
    if (!at) {
        put_string(writer, text, true);
        return;
    }
    if (asprintf(&shown, "%.*s" HIDDEN "%s", (int)(host - text), text, at) < 0)
        abort();
    put_string(writer, shown, true);
    free(shown);
}

static void put_indent(struct writer *writer, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        put_text(writer, "  ");
}

/* In whole, whatever is below: a list of secrets shows not even how many. */
static bool is_hidden(const struct config_node *node)
{
    return node->kind != CONFIG_NODE_NULL && node->kind != CONFIG_NODE_MAP && node->kind != CONFIG_NODE_SEQUENCE &&
           node_is_secret(node);
}

static void put_value(struct writer *writer, const struct config_node *node, unsigned depth);

/* inline_first: the first entry stands on the line that was begun, behind a list's dash. */
static void put_entries(struct writer *writer, const struct config_node *map, unsigned depth, bool inline_first)
{
    for (size_t i = 0; i < map->count; i++) {
        if (i > 0 || !inline_first)
            put_indent(writer, depth);
        put_string(writer, map->items[i]->key, false); /* keys are not expanded */
        put_text(writer, ":");
        put_value(writer, map->items[i], depth + 1);
    }
}

/* Writes what follows "key:" or "-", with the line's end. */
static void put_value(struct writer *writer, const struct config_node *node, unsigned depth)
{
    if (is_hidden(node)) {
        put_text(writer, " \"" HIDDEN "\"\n");
        return;
    }
    switch (node->kind) {
    case CONFIG_NODE_NULL:
        put_text(writer, " null\n");
        return;
    case CONFIG_NODE_BOOL:
    case CONFIG_NODE_INTEGER:
    case CONFIG_NODE_FLOAT:
        put_text(writer, " ");
        if (yaml_resolve(node->text) != node->kind)
            put_text(writer, "!!float "); /* a whole number that was tagged so */
        put_text(writer, node->text);
        put_text(writer, "\n");
        return;
    case CONFIG_NODE_STRING:
        put_text(writer, " ");
        put_shown(writer, config_node_text(node));
        put_text(writer, "\n");
        return;
    case CONFIG_NODE_SEQUENCE:
        put_text(writer, node->count ? "\n" : " []\n");
        for (size_t i = 0; i < node->count; i++) {
            put_indent(writer, depth);
            put_text(writer, "-");
            if (node->items[i]->kind == CONFIG_NODE_MAP && node->items[i]->count > 0) {
                put_text(writer, " ");
                put_entries(writer, node->items[i], depth + 1, true);
            } else {
                put_value(writer, node->items[i], depth + 1);
            }
        }
        return;
    case CONFIG_NODE_MAP:
        put_text(writer, node->count ? "\n" : " {}\n");
        put_entries(writer, node, depth, false);
        return;
    }
}

char *config_print(const struct config_node *root)
{
    struct writer writer = {0};

    put_text(&writer, "");
    if (!root || root->count == 0) {
        put_text(&writer, "{}\n");
        return writer.at;
    }
    put_entries(&writer, root, 0, false);
    return writer.at;
}
