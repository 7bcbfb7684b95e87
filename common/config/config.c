/* Trees into structs, by tables of keys.
 *
 * A load collects: every message is kept and reading goes on with the next key, so that a user with five mistakes sees five.
 * Coercions are the Collector's (mapstructure without weak typing): a fraction for a whole number is cut off, one value
 * where a list is wanted is a list of one, nothing at all leaves the default; text for a number, and a number for text, are
 * mistakes.
 */
#include "common/config/config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/nearest.h"
#include "common/base/num.h"
#include "common/config/duration.h"
#include "common/config/node.h"

/* -- the nearest known name ------------------------------------------------------------------- */

/* Near enough to be meant: a third of the letters may differ. */
static bool is_near(const char *name, size_t distance)
{
    return distance <= size_max(1, strlen(name) / 3);
}

bool name_nearer(const char *name, const char *candidate, size_t *distance)
{
    size_t its = word_distance(name, candidate, false);

    if (its >= *distance || !is_near(candidate, its))
        return false;
    *distance = its;
    return true;
}

static const char *nearest_key(const struct config_key *keys, const char *name)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;

    for (; keys->name; keys++) {
        if (name_nearer(name, keys->name, &distance))
            best = keys->name;
    }
    return best;
}

static void error_unknown_key(struct config_context *context, const struct config_node *node, const struct config_key *keys)
{
    const char *nearest = nearest_key(keys, node->key);
    char known[512] = "";
    size_t len = 0;

    if (nearest) {
        (void)config_error(context, node, "unknown key; did you mean `%s`?", nearest);
        return;
    }
    for (const struct config_key *key = keys; key->name; key++) {
        int r;

        if (key->type == CONFIG_REFUSED || key->type == CONFIG_IGNORED)
            continue;
        r = snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "", key->name);
        if (r < 0 || (size_t)r >= sizeof(known) - len) {
            (void)snprintf(known + (sizeof(known) - 4), 4, "...");
            break;
        }
        len += (size_t)r;
    }
    if (len)
        (void)config_error(context, node, "unknown key; known here: %s", known);
    else
        (void)config_error(context, node, "unknown key; no key is known here");
}

/* -- scalars ---------------------------------------------------------------------------------------- */

/* What was found instead, for a message: `a text "abc"`. A secret is named by its kind only. */
static const char *found(struct config_context *context, const struct config_node *node, bool secret)
{
    const char *kind = config_node_kind_name(node->kind);
    const char *text = config_node_text(node);
    char *described;

    if (secret || node_is_secret(node) || node->kind == CONFIG_NODE_SEQUENCE || node->kind == CONFIG_NODE_MAP || !*text)
        return kind;
    described = config_alloc(context, strlen(kind) + 64);
    (void)snprintf(described, strlen(kind) + 64, node->kind == CONFIG_NODE_STRING ? "%s \"%.40s%s\"" : "%s (%.40s%s)", kind,
        text, strlen(text) > 40 ? "..." : "");
    return described;
}

static int expected(struct config_context *context, const struct config_node *node, const char *what, bool secret)
{
    return config_error(context, node, "expected %s, found %s", what, found(context, node, secret));
}

/* The digits of an INTEGER node. False: past 64 bits. */
static bool integer_magnitude(const char *text, bool *out_negative, uint64_t *out_magnitude)
{
    char digits[128];
    size_t len = 0;
    int base = 10;
    const char *at = text;
    unsigned long long value;

    *out_negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    if (at[0] == '0' && at[1]) {
        base = 8;
        if (at[1] == 'x' || at[1] == 'X')
            base = 16;
        if (at[1] == 'b' || at[1] == 'B')
            base = 2;
        at += at[1] >= '0' && at[1] <= '9' ? 1 : at[1] == '_' ? 1 : 2;
    }
    while (*at == '0' || *at == '_')
        at++;
    for (; *at; at++) {
        if (*at == '_')
            continue;
        if (len + 1 == sizeof(digits))
            return false;
        digits[len++] = *at;
    }
    digits[len] = '\0';
    if (len == 0) {
        *out_magnitude = 0;
        return true;
    }
    errno = 0;
    value = strtoull(digits, NULL, base);
    *out_magnitude = value;
    return errno == 0;
}

static double float_value(const char *text)
{
    char copy[128];
    size_t len = 0;

    for (; *text && len + 1 < sizeof(copy); text++) {
        if (*text != '_')
            copy[len++] = *text;
    }
    copy[len] = '\0';
    if (strcasecmp(copy, ".nan") == 0)
        return (double)NAN;
    if (strcasecmp(copy, ".inf") == 0 || strcasecmp(copy, "+.inf") == 0)
        return (double)INFINITY;
    if (strcasecmp(copy, "-.inf") == 0)
        return -(double)INFINITY;
    return strtod(copy, NULL);
}

int config_read_int(struct config_context *context, const struct config_node *node, int64_t *out_value)
{
    if (node->kind == CONFIG_NODE_INTEGER) {
        uint64_t magnitude;
        bool negative;

        if (!integer_magnitude(node->text, &negative, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
            return config_error(context, node, "%.40s does not fit in 64 bits", node->text);
        *out_value = (int64_t)(negative ? 0 - magnitude : magnitude);
        return 0;
    }
    if (node->kind == CONFIG_NODE_FLOAT) {
        double value = float_value(node->text);

        if (!(value >= -0x1p63 && value < 0x1p63))
            return config_error(context, node, "%.40s does not fit in 64 bits", node->text);
        *out_value = (int64_t)value;
        return 0;
    }
    return expected(context, node, "a whole number", false);
}

static int read_uint(struct config_context *context, const struct config_node *node, uint64_t *out_value)
{
    if (node->kind == CONFIG_NODE_INTEGER) {
        uint64_t magnitude;
        bool negative;

        if (!integer_magnitude(node->text, &negative, &magnitude))
            return config_error(context, node, "%.40s does not fit in 64 bits", node->text);
        if (negative && magnitude > 0)
            return config_error(context, node, "expected a number of zero or more, found %.40s", node->text);
        *out_value = magnitude;
        return 0;
    }
    if (node->kind == CONFIG_NODE_FLOAT) {
        double value = float_value(node->text);

        if (value < 0)
            return config_error(context, node, "expected a number of zero or more, found %.40s", node->text);
        if (!(value < 0x1p64))
            return config_error(context, node, "%.40s does not fit in 64 bits", node->text);
        *out_value = (uint64_t)value;
        return 0;
    }
    return expected(context, node, "a whole number", false);
}

static int read_double(struct config_context *context, const struct config_node *node, double *out_value)
{
    if (node->kind == CONFIG_NODE_INTEGER) {
        uint64_t magnitude;
        bool negative;

        if (integer_magnitude(node->text, &negative, &magnitude))
            *out_value = negative ? -(double)magnitude : (double)magnitude;
        else
            *out_value = float_value(node->text);
        return 0;
    }
    if (node->kind == CONFIG_NODE_FLOAT) {
        *out_value = float_value(node->text);
        return 0;
    }
    return expected(context, node, "a number", false);
}

static int read_bool(struct config_context *context, const struct config_node *node, bool *out_value)
{
    if (node->kind != CONFIG_NODE_BOOL)
        return expected(context, node, "true or false", false);
    *out_value = node->text[0] == 't' || node->text[0] == 'T';
    return 0;
}

int config_read_text(struct config_context *context, const struct config_node *node, bool secret, char **out_value)
{
    const char *text = node->original ? node->original : node->text;

    if (!node->original && node->kind != CONFIG_NODE_STRING) {
        if (node->kind == CONFIG_NODE_INTEGER || node->kind == CONFIG_NODE_FLOAT || node->kind == CONFIG_NODE_BOOL)
            return config_error(context, node, "expected a text, found %s; put it in quotes", found(context, node, secret));
        return expected(context, node, "a text", secret);
    }
    *out_value = context_text(context, text, strlen(text));
    return 0;
}

static int read_duration(struct config_context *context, const struct config_node *node, int64_t *out_ns)
{
    int r;

    if (node->kind == CONFIG_NODE_INTEGER || node->kind == CONFIG_NODE_FLOAT) {
        r = config_read_int(context, node, out_ns);
        /* Below a millisecond nobody waits on purpose; 10 where 10s was meant is a common slip. */
        if (r == 0 && *out_ns != 0 && *out_ns < (int64_t)NS_PER_MS && *out_ns > -(int64_t)NS_PER_MS)
            config_warn(context, node, "a number without unit is nanoseconds; did you mean %" PRId64 "s?", *out_ns);
        return r;
    }
    if (node->kind != CONFIG_NODE_STRING)
        return expected(context, node, "a duration such as 10s or 1m30s", false);
    r = duration_parse(node->text, strlen(node->text), out_ns);
    switch (r) {
    case 0:
        return 0;
    case DURATION_E_RANGE:
        return config_error(context, node, "the duration \"%.40s\" is longer than 292 years", node->text);
    case DURATION_E_NO_UNIT:
        return config_error(context, node, "the duration \"%.40s\" lacks a unit: one of h, m, s, ms, us, ns", node->text);
    default:
        return expected(context, node, "a duration such as 10s or 1m30s", false);
    }
}

static int read_span(struct config_context *context, const struct config_node *node, int64_t *out_ns)
{
    int64_t ns = 0;
    int r = read_duration(context, node, &ns);

    if (r)
        return r;
    if (ns < 0)
        return config_error(context, node, "expected a duration of zero or more, found %.40s", node->text);
    *out_ns = ns;
    return 0;
}

static int read_mib(struct config_context *context, const struct config_node *node, uint64_t *out_bytes)
{
    uint64_t mib = 0;
    int r = read_uint(context, node, &mib);

    if (r)
        return r;
    if (mib > UINT64_MAX / MIB)
        return config_error(context, node, "%.40s MiB does not fit in 64 bits of bytes", node->text);
    *out_bytes = mib * MIB;
    return 0;
}

static int read_strings(
    struct config_context *context, const struct config_node *node, bool secret, struct config_strings *out_strings)
{
    struct config_strings strings = {0};
    int result = 0;

    if (node->kind != CONFIG_NODE_SEQUENCE) {
        strings.items = config_alloc(context, sizeof(char *));
        strings.count = 1;
        result = config_read_text(context, node, secret, &strings.items[0]);
        if (result == 0)
            *out_strings = strings;
        return result;
    }
    strings.items = config_alloc(context, size_max(node->count, 1) * sizeof(char *));
    for (size_t i = 0; i < node->count; i++) {
        char *item = config_alloc(context, 1); /* an item that is null is an empty text, as in the Collector */

        if (node->items[i]->kind != CONFIG_NODE_NULL && config_read_text(context, node->items[i], secret, &item))
            result = CONFIG_E_INVALID;
        strings.items[strings.count++] = item;
    }
    if (result == 0)
        *out_strings = strings;
    return result;
}

/* The place of text in "a|b|c"; -1: not there. */
static int choice_find(const char *choices, const char *text)
{
    size_t len = strlen(text);

    for (int index = 0;; index++) {
        const char *bar = strchr(choices, '|');
        size_t choice_len = bar ? (size_t)(bar - choices) : strlen(choices);

        if (choice_len == len && memcmp(choices, text, len) == 0)
            return index;
        if (!bar)
            return -1;
        choices = bar + 1;
    }
}

static int read_choice(
    struct config_context *context, const struct config_node *node, const struct config_key *key, int *out_choice)
{
    char *text = NULL;
    int choice;

    if (config_read_text(context, node, false, &text))
        return CONFIG_E_INVALID;
    choice = choice_find(key->choices, text);
    if (choice < 0) {
        char *list = context_text(context, key->choices, strlen(key->choices));

        for (char *at = list; *at; at++) {
            if (*at == '|')
                *at = ' ';
        }
        return config_error(context, node, "expected one of: %s; found \"%.40s\"", list, text);
    }
    *out_choice = choice;
    return 0;
}

/* -- by table ----------------------------------------------------------------------------------- */

static bool means_the_same_as_absent(const struct config_key *key, const struct config_node *node)
{
    return key->choices && node->kind != CONFIG_NODE_SEQUENCE && node->kind != CONFIG_NODE_MAP &&
           choice_find(key->choices, config_node_text(node)) >= 0;
}

static void set_flag(const struct config_key *key, void *base)
{
    if (key->set_offset != SIZE_MAX)
        memcpy((char *)base + key->set_offset, &(bool){true}, sizeof(bool));
}

static int read_key(struct config_context *context, const struct config_node *node, const struct config_key *key, void *base)
{
    void *field = (char *)base + key->offset;
    char *text = NULL;
    int r = 0;

    switch (key->type) {
    case CONFIG_REFUSED:
        if (node->kind == CONFIG_NODE_NULL || means_the_same_as_absent(key, node))
            return 0;
        return config_error(context, node, "not supported: %s", key->help);
    case CONFIG_IGNORED:
        if (node->kind != CONFIG_NODE_NULL && !means_the_same_as_absent(key, node))
            config_warn(context, node, "accepted without effect: %s", key->help);
        return 0;
    case CONFIG_MAP:
        set_flag(key, base);
        return config_read(context, node, key->nested, field);
    case CONFIG_CUSTOM:
        set_flag(key, base);
        return key->custom(context, node, field);
    case CONFIG_NODE:
    case CONFIG_BOOL:
    case CONFIG_INT:
    case CONFIG_UINT:
    case CONFIG_DOUBLE:
    case CONFIG_STRING:
    case CONFIG_DURATION:
    case CONFIG_SPAN:
    case CONFIG_MIB:
    case CONFIG_STRINGS:
    case CONFIG_CHOICE:
        break;
    }
    if (node->kind == CONFIG_NODE_NULL && !node->original)
        return 0;

    switch (key->type) {
    case CONFIG_NODE:
        memcpy(field, &node, sizeof(node));
        break;
    case CONFIG_BOOL:
        r = read_bool(context, node, field);
        break;
    case CONFIG_INT:
        r = config_read_int(context, node, field);
        break;
    case CONFIG_UINT:
        r = read_uint(context, node, field);
        break;
    case CONFIG_DOUBLE:
        r = read_double(context, node, field);
        break;
    case CONFIG_STRING:
        r = config_read_text(context, node, key->secret, &text);
        if (r == 0)
            memcpy(field, &text, sizeof(text)); /* the field may be a const char *, another type by the letter */
        break;
    case CONFIG_DURATION:
        r = read_duration(context, node, field);
        break;
    case CONFIG_SPAN:
        r = read_span(context, node, field);
        break;
    case CONFIG_MIB:
        r = read_mib(context, node, field);
        break;
    case CONFIG_STRINGS:
        r = read_strings(context, node, key->secret, field);
        break;
    case CONFIG_CHOICE:
        r = read_choice(context, node, key, field);
        break;
    case CONFIG_MAP:
    case CONFIG_CUSTOM:
    case CONFIG_REFUSED:
    case CONFIG_IGNORED:
        UNREACHABLE("a type handled above");
    }
    if (r == 0)
        set_flag(key, base);
    return r;
}

int config_read(
    struct config_context *context, const struct config_node *node, const struct config_key *keys, void *out_struct)
{
    int result = 0;

    if (!node || node->kind == CONFIG_NODE_NULL)
        return 0;
    if (node->kind != CONFIG_NODE_MAP)
        return expected(context, node, "a map of keys", false);
    for (size_t i = 0; i < node->count; i++) {
        const struct config_node *value = node->items[i];
        const struct config_key *key = keys;

        while (key->name && strcmp(key->name, value->key) != 0)
            key++;
        if (!key->name) {
            error_unknown_key(context, value, keys);
            result = CONFIG_E_INVALID;
        } else if (read_key(context, value, key, out_struct)) {
            result = CONFIG_E_INVALID;
        }
    }
    return result;
}
