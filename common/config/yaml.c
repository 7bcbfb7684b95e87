/* libyaml's events into nodes. The events are read by descent, bounded in depth; an alias is a copy of what its anchor
 * names, so that every node has one place in the tree and merging may change it there. Copies count against the same bound
 * as nodes of the text: aliases of aliases run into it long before memory does. */
#include "common/config/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/base/assert.h"
#include "common/config/node.h"

struct anchor {
    const char *name;
    const struct config_node *node; /* NULL: still being read, an alias to it would never end */
};

struct reader {
    struct config_context *context;
    const char *file;
    yaml_parser_t parser;
    struct anchor *anchors;
    size_t anchor_count;
    bool quiet, failed;
};

/* -- what a plain scalar is ------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(text, *words) == 0)
            return true;
    }
    return false;
}

static bool all_digits(const char *at, unsigned base)
{
    bool any = false;

    for (; *at; at++) {
        unsigned digit = 99;

        if (*at == '_')
            continue;
        if (*at >= '0' && *at <= '9')
            digit = (unsigned)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            digit = (unsigned)(*at - 'a') + 10;
        else if (*at >= 'A' && *at <= 'F')
            digit = (unsigned)(*at - 'A') + 10;
        if (digit >= base)
            return false;
        any = true;
    }
    return any;
}

static bool is_integer(const char *text)
{
    if (*text == '-' || *text == '+')
        text++;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return all_digits(text + 2, 16);
    if (text[0] == '0' && (text[1] == 'o' || text[1] == 'O'))
        return all_digits(text + 2, 8);
    if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B'))
        return all_digits(text + 2, 2);
    if (text[0] == '_')
        return false;
    if (text[0] == '0' && text[1]) /* a leading zero means octal; 08 is none, and so a float below */
        return all_digits(text, 8);
    return all_digits(text, 10);
}

static bool is_float(const char *at)
{
    static const char *const special[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
        ".nan", ".NaN", ".NAN", NULL};
    size_t digit_count = 0;

    if (is_one_of(at, special))
        return true;
    if (*at == '-' || *at == '+')
        at++;
    for (; *at >= '0' && *at <= '9'; at++)
        digit_count++;
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++)
            digit_count++;
    }
    if (digit_count == 0)
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '-' || *at == '+')
            at++;
        if (!(*at >= '0' && *at <= '9'))
            return false;
        while (*at >= '0' && *at <= '9')
            at++;
    }
    return *at == '\0';
}

enum config_node_kind yaml_resolve(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};

    if (is_one_of(text, nulls))
        return CONFIG_NODE_NULL;
    if (is_one_of(text, bools))
        return CONFIG_NODE_BOOL;
    if (is_integer(text))
        return CONFIG_NODE_INTEGER;
    if (is_float(text))
        return CONFIG_NODE_FLOAT;
    return CONFIG_NODE_STRING;
}

/* -- building ----------------------------------------------------------------------------------- */

struct config_node *node_new(struct config_context *context, enum config_node_kind kind, const struct config_node *like)
{
    struct config_node *node;

    if (!context_count_node(context))
        return NULL;
    node = config_alloc(context, sizeof(*node));
    node->kind = kind;
    node->context = context;
    node->text = "";
    if (like) {
        node->file = like->file;
        node->line = like->line;
    }
    return node;
}

void node_append(struct config_context *context, struct config_node *parent, const char *key, struct config_node *child)
{
    if (parent->count == parent->capacity) {
        size_t capacity = parent->capacity ? parent->capacity * 2 : 4;
        struct config_node **items = config_alloc(context, capacity * sizeof(struct config_node *));

        if (parent->count)
            memcpy(items, parent->items, parent->count * sizeof(struct config_node *));
        parent->items = items;
        parent->capacity = capacity;
    }
    child->parent = parent;
    child->key = key;
    child->index = parent->count;
    parent->items[parent->count++] = child;
}

void node_replace(struct config_node *old, struct config_node *child)
{
    child->parent = old->parent;
    child->key = old->key;
    child->index = old->index;
    if (old->parent)
        old->parent->items[old->index] = child;
}

size_t node_find(const struct config_node *map, const char *key)
{
    if (!map || map->kind != CONFIG_NODE_MAP)
        return SIZE_MAX;
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->items[i]->key, key) == 0)
            return i;
    }
    return SIZE_MAX;
}

static struct config_node *node_copy(struct config_context *context, const struct config_node *node)
{
    struct config_node *copy = node_new(context, node->kind, node);

    if (!copy)
        return NULL;
    copy->text = node->text;
    for (size_t i = 0; i < node->count; i++) {
        struct config_node *child = node_copy(context, node->items[i]);

        if (!child)
            return NULL;
        node_append(context, copy, node->items[i]->key, child);
    }
    return copy;
}

/* -- reading ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void reader_fail(
    struct reader *reader, yaml_mark_t mark, const char *format, ...)
{
    char message[512];
    va_list arguments;

    if (reader->failed)
        return;
    reader->failed = true;
    if (reader->quiet)
        return;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    config_error_at(reader->context, reader->file, (unsigned)mark.line + 1, "", "%s", message);
}

static bool next_event(struct reader *reader, yaml_event_t *out_event)
{
    const yaml_parser_t *parser = &reader->parser;

    if (yaml_parser_parse(&reader->parser, out_event))
        return true;
    memset(out_event, 0, sizeof(*out_event));
    if (parser->error == YAML_READER_ERROR) {
        yaml_mark_t mark = parser->mark;

        reader_fail(reader, mark, "not readable as YAML: %s", parser->problem);
    } else if (parser->error == YAML_MEMORY_ERROR) {
        abort(); /* as config_alloc: no configuration is read with memory out */
    } else {
        reader_fail(reader, parser->problem_mark, "not valid YAML: %s%s%s", parser->problem ? parser->problem : "error",
            parser->context ? " " : "", parser->context ? parser->context : "");
    }
    return false;
}

static bool has_nul(const yaml_event_t *event)
{
    return memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL;
}

/* The kind an explicit tag asks for. False: a tag nobody here knows. */
static bool tag_kind(const char *tag, enum config_node_kind plain_kind, enum config_node_kind *out_kind)
{
    static const struct {
        const char *tag;
        enum config_node_kind kind;
    } tags[] = {
        {"!", CONFIG_NODE_STRING},
        {YAML_STR_TAG, CONFIG_NODE_STRING},
        {YAML_NULL_TAG, CONFIG_NODE_NULL},
        {YAML_BOOL_TAG, CONFIG_NODE_BOOL},
        {YAML_INT_TAG, CONFIG_NODE_INTEGER},
        {YAML_FLOAT_TAG, CONFIG_NODE_FLOAT},
    };

    for (size_t i = 0; i < ARRAY_COUNT(tags); i++) {
        if (strcmp(tags[i].tag, tag) == 0) {
            bool fits = tags[i].kind == CONFIG_NODE_STRING || tags[i].kind == plain_kind ||
                        (tags[i].kind == CONFIG_NODE_FLOAT && plain_kind == CONFIG_NODE_INTEGER);

            *out_kind = tags[i].kind;
            return fits;
        }
    }
    return false;
}

static struct config_node *read_node(struct reader *reader, yaml_event_t *event, unsigned depth);

static struct config_node *read_scalar(struct reader *reader, const yaml_event_t *event)
{
    struct config_node *node = node_new(reader->context, CONFIG_NODE_STRING, NULL);
    const char *tag = (const char *)event->data.scalar.tag;

    if (!node) {
        reader->failed = true;
        return NULL;
    }
    if (has_nul(event)) {
        reader_fail(reader, event->start_mark, "a text with a NUL character in it");
        return NULL;
    }
    node->text = context_text(reader->context, (const char *)event->data.scalar.value, event->data.scalar.length);
    if (tag) {
        if (!tag_kind(tag, yaml_resolve(node->text), &node->kind)) {
            reader_fail(reader, event->start_mark, "the tag %.100s is not known, or does not fit its value", tag);
            return NULL;
        }
    } else if (event->data.scalar.plain_implicit) {
        node->kind = yaml_resolve(node->text);
    }
    if (node->kind == CONFIG_NODE_NULL)
        node->text = "";
    return node;
}

static void anchor_begin(struct reader *reader, const yaml_event_t *event, const yaml_char_t *name)
{
    if (!name)
        return;
    if (reader->anchor_count == CONFIG_ANCHORS_MAX) {
        reader_fail(reader, event->start_mark, "more than %u anchors", CONFIG_ANCHORS_MAX);
        return;
    }
    if (!reader->anchors)
        reader->anchors = config_alloc(reader->context, CONFIG_ANCHORS_MAX * sizeof(struct anchor));
    reader->anchors[reader->anchor_count++] = (struct anchor){
        .name = context_text(reader->context, (const char *)name, strlen((const char *)name)),
    };
}

static struct config_node *read_alias(struct reader *reader, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;

    for (size_t i = reader->anchor_count; i-- > 0;) { /* the last of a name counts */
        const struct anchor *anchor = &reader->anchors[i];
        struct config_node *copy;

        if (strcmp(anchor->name, name) != 0)
            continue;
        if (!anchor->node) {
            reader_fail(reader, event->start_mark, "the alias *%.100s stands inside what it names", name);
            return NULL;
        }
        copy = node_copy(reader->context, anchor->node);
        if (!copy)
            reader->failed = true;
        return copy;
    }
    reader_fail(reader, event->start_mark, "the alias *%.100s names no anchor", name);
    return NULL;
}

static struct config_node *read_sequence(struct reader *reader, unsigned depth)
{
    struct config_node *list = node_new(reader->context, CONFIG_NODE_SEQUENCE, NULL);
    yaml_event_t event;

    if (!list) {
        reader->failed = true;
        return NULL;
    }
    while (next_event(reader, &event)) {
        struct config_node *item;

        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return list;
        }
        item = read_node(reader, &event, depth + 1);
        yaml_event_delete(&event);
        if (!item)
            return NULL;
        node_append(reader->context, list, NULL, item);
    }
    return NULL;
}

static int compare_keys(const void *a, const void *b)
{
    const struct config_node *const *left = a, *const *right = b;
    int order = strcmp((*left)->key, (*right)->key);

    if (order)
        return order;
    return (*left)->index < (*right)->index ? -1 : (*left)->index > (*right)->index;
}

/* Sorted aside, so that a map of many keys costs no square of them. */
static bool check_duplicates(struct reader *reader, const struct config_node *map)
{
    struct config_node **sorted;

    if (map->count < 2)
        return true;
    sorted = config_alloc(reader->context, map->count * sizeof(struct config_node *));
    memcpy(sorted, map->items, map->count * sizeof(struct config_node *));
    qsort(sorted, map->count, sizeof(struct config_node *), compare_keys);
    for (size_t i = 1; i < map->count; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0) {
            yaml_mark_t mark = {.line = sorted[i]->line - 1};

            reader_fail(reader, mark, "the key `%.100s` is here twice; it is also on line %u", sorted[i]->key,
                sorted[i - 1]->line);
            return false;
        }
    }
    return true;
}

/* `<<: *base` or `<<: [*a, *b]`: keys that the map does not have itself; of several bases the first one's. */
static bool apply_merge(
    struct reader *reader, struct config_node *map, struct config_node *value, yaml_mark_t mark)
{
    if (value->kind == CONFIG_NODE_SEQUENCE) {
        for (size_t i = 0; i < value->count; i++) {
            if (value->items[i]->kind != CONFIG_NODE_MAP) {
                reader_fail(reader, mark, "`<<` takes maps");
                return false;
            }
            if (!apply_merge(reader, map, value->items[i], mark))
                return false;
        }
        return true;
    }
    if (value->kind != CONFIG_NODE_MAP) {
        reader_fail(reader, mark, "`<<` takes a map or a list of maps");
        return false;
    }
    for (size_t i = 0; i < value->count; i++) {
        if (node_find(map, value->items[i]->key) == SIZE_MAX)
            node_append(reader->context, map, value->items[i]->key, value->items[i]);
    }
    return true;
}

static struct config_node *read_map(struct reader *reader, unsigned depth)
{
    struct config_node *map = node_new(reader->context, CONFIG_NODE_MAP, NULL);
    struct config_node *merge = NULL;
    yaml_mark_t merge_mark = {0};
    yaml_event_t event;

    if (!map) {
        reader->failed = true;
        return NULL;
    }
    while (next_event(reader, &event)) {
        struct config_node *value;
        const char *key;
        yaml_mark_t mark = event.start_mark;
        bool is_merge;

        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            if (!check_duplicates(reader, map) || (merge && !apply_merge(reader, map, merge, merge_mark)))
                return NULL;
            return map;
        }
        if (event.type != YAML_SCALAR_EVENT || has_nul(&event)) {
            reader_fail(reader, mark, "a key must be a plain word or text");
            yaml_event_delete(&event);
            return NULL;
        }
        key = context_text(reader->context, (const char *)event.data.scalar.value, event.data.scalar.length);
        is_merge = event.data.scalar.plain_implicit && strcmp(key, "<<") == 0;
        yaml_event_delete(&event);

        if (!next_event(reader, &event))
            return NULL;
        value = read_node(reader, &event, depth + 1);
        yaml_event_delete(&event);
        if (!value)
            return NULL;
        value->line = (unsigned)mark.line + 1; /* a block stands where its key is */
        if (is_merge && merge) {
            reader_fail(reader, mark, "the key `<<` is here twice");
            return NULL;
        }
        if (is_merge) {
            merge = value;
            merge_mark = mark;
        } else {
            node_append(reader->context, map, key, value);
        }
    }
    return NULL;
}

static bool collection_tag_known(const yaml_char_t *tag, const char *expected)
{
    return !tag || strcmp((const char *)tag, "!") == 0 || strcmp((const char *)tag, expected) == 0;
}

/* The node that starts with event. NULL: failed, and said why. The event stays the caller's. */
static struct config_node *read_node(struct reader *reader, yaml_event_t *event, unsigned depth)
{
    struct config_node *node = NULL;
    size_t anchor_index = reader->anchor_count;
    const yaml_char_t *anchor = NULL, *tag = NULL;

    if (depth > CONFIG_DEPTH_MAX) {
        reader_fail(reader, event->start_mark, "nested deeper than %u levels", CONFIG_DEPTH_MAX);
        return NULL;
    }
    if (event->type == YAML_ALIAS_EVENT) {
        node = read_alias(reader, event);
    } else if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        anchor_begin(reader, event, anchor);
        node = reader->failed ? NULL : read_scalar(reader, event);
    } else if (event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT) {
        bool is_map = event->type == YAML_MAPPING_START_EVENT;

        anchor = is_map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
        tag = is_map ? event->data.mapping_start.tag : event->data.sequence_start.tag;
        if (!collection_tag_known(tag, is_map ? YAML_MAP_TAG : YAML_SEQ_TAG))
            reader_fail(reader, event->start_mark, "the tag %.100s is not known", (const char *)tag);
        anchor_begin(reader, event, anchor);
        if (!reader->failed)
            node = is_map ? read_map(reader, depth) : read_sequence(reader, depth);
    } else {
        reader_fail(reader, event->start_mark, "not valid YAML: something is missing here");
    }
    if (!node)
        return NULL;

    node->file = reader->file;
    node->line = (unsigned)event->start_mark.line + 1;
    if (anchor)
        reader->anchors[anchor_index].node = node;
    return node;
}

/* Reads the stream's one document; an empty stream is a null. */
static struct config_node *read_document(struct reader *reader)
{
    struct config_node *root = NULL;
    yaml_event_t event;

    for (;;) {
        yaml_event_type_t type;

        if (!next_event(reader, &event))
            return NULL;
        type = event.type;
        if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            return root ? root : node_new(reader->context, CONFIG_NODE_NULL, NULL);
        }
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            root = read_node(reader, &event, 0);
        } else if (type == YAML_DOCUMENT_START_EVENT && root) {
            reader_fail(reader, event.start_mark,
                "a second document starts here; give each its own file and --config, or remove the `---`");
        }
        yaml_event_delete(&event);
        if (reader->failed)
            return NULL;
    }
}

struct config_node *yaml_parse(struct config_context *context, const char *file, const char *text, size_t len, bool quiet)
{
    struct reader reader = {.context = context, .file = file, .quiet = quiet};
    struct config_node *root;

    if (len > CONFIG_TEXT_BYTES_MAX) {
        if (!quiet)
            config_error_at(context, file, 0, "", "larger than %u bytes", CONFIG_TEXT_BYTES_MAX);
        return NULL;
    }
    if (!yaml_parser_initialize(&reader.parser))
        abort();
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, len);
    root = read_document(&reader);
    yaml_parser_delete(&reader.parser);
    if (!root)
        return NULL;
    if (!root->file) { /* nothing in it */
        root->file = file;
        root->line = 1;
    }
    return root;
}

/* -- what others read ----------------------------------------------------------------------------- */

enum config_node_kind config_node_kind(const struct config_node *node)
{
    return node ? node->kind : CONFIG_NODE_NULL;
}

const char *config_node_kind_name(enum config_node_kind kind)
{
    switch (kind) {
    case CONFIG_NODE_NULL:
        return "nothing";
    case CONFIG_NODE_BOOL:
        return "true or false";
    case CONFIG_NODE_INTEGER:
        return "a whole number";
    case CONFIG_NODE_FLOAT:
        return "a number";
    case CONFIG_NODE_STRING:
        return "a text";
    case CONFIG_NODE_SEQUENCE:
        return "a list";
    case CONFIG_NODE_MAP:
        return "a map";
    }
    UNREACHABLE("a kind of node");
    return "";
}

const char *config_node_file(const struct config_node *node)
{
    return node && node->file ? node->file : "";
}

unsigned config_node_line(const struct config_node *node)
{
    return node ? node->line : 0;
}

const char *config_node_name(const struct config_node *node)
{
    return node && node->key ? node->key : "";
}

const char *config_node_text(const struct config_node *node)
{
    if (!node || node->kind == CONFIG_NODE_NULL || node->kind == CONFIG_NODE_SEQUENCE || node->kind == CONFIG_NODE_MAP)
        return "";
    return node->original ? node->original : node->text;
}

/* The names from the root, put together from the end. */
const char *config_node_path(const struct config_node *node)
{
    size_t len = 0, at;
    char *path;

    if (!node)
        return "";
    for (const struct config_node *n = node; n->parent; n = n->parent)
        len += n->key ? strlen(n->key) + 1 : 24;
    path = config_alloc(node->context, len + 1);
    at = len;
    for (const struct config_node *n = node; n->parent; n = n->parent) {
        if (n->key) {
            size_t key_len = strlen(n->key);

            at -= key_len;
            memcpy(path + at, n->key, key_len);
            if (n->parent->parent)
                path[--at] = '.';
        } else {
            char index[24];
            size_t index_len = (size_t)snprintf(index, sizeof(index), "[%zu]", n->index);

            at -= index_len;
            memcpy(path + at, index, index_len);
        }
    }
    return path + at;
}

size_t config_node_count(const struct config_node *node)
{
    return node ? node->count : 0;
}

const struct config_node *config_node_at(const struct config_node *node, size_t index)
{
    return node && index < node->count ? node->items[index] : NULL;
}

const char *config_node_key(const struct config_node *map, size_t index)
{
    if (!map || map->kind != CONFIG_NODE_MAP || index >= map->count)
        return NULL;
    return map->items[index]->key;
}

const struct config_node *config_node_get(const struct config_node *map, const char *key)
{
    size_t index = node_find(map, key);

    return index == SIZE_MAX ? NULL : map->items[index];
}
