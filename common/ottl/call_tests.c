/* Converters that answer yes or no. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/ottl/calls.h"
#include "common/ottl/convert.h"

static bool yield_bool(bool value, struct ottl_value *out_value)
{
    *out_value = ottl_bool(value);
    return true;
}

int prepare_is_match(struct ottl_compile *compile, struct ottl_node *node)
{
    return compile_pattern(compile, node, node->children[1]);
}

bool call_is_match(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text = slice_make("", 0), unused;
    bool found = false, matches = false;

    /* The Collector compiles a computed pattern first, so that a bad one is an error also for a nil target. */
    if (node->regex == UINT32_MAX && !run_pattern(run, node, node->children[1], &unused))
        return false;
    if (!arg_text(run, node, 0, &text, &found))
        return false;
    if ((found || node->regex == UINT32_MAX) && !run_match(run, node, node->children[1], text, &matches))
        return false;
    return yield_bool(found && matches, out_value);
}

bool call_is_root_span(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    (void)node;
    return yield_bool(!run->view->has_parent, out_value);
}

/* -- types: a literal of another type is refused at load, as there ---------------------------------------------- */

static bool yield_is(struct ottl_run *run, const struct ottl_node *node, enum ottl_type type, struct ottl_value *out_value)
{
    struct ottl_value value;

    if (!node_value(run, node->children[0], &value))
        return false;
    return yield_bool(value.type == type, out_value);
}

bool call_is_string(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_is(run, node, OTTL_STRING, out_value);
}

bool call_is_int(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_is(run, node, OTTL_INT, out_value);
}

bool call_is_double(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_is(run, node, OTTL_FLOAT, out_value);
}

bool call_is_bool(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_is(run, node, OTTL_BOOL, out_value);
}

bool call_is_map(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    return yield_is(run, node, OTTL_MAP, out_value);
}

bool call_is_list(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_value value;

    if (!arg_value(run, node, 0, &value))
        return false;
    return yield_bool(
        ottl_is_list(&value) || (value.type == OTTL_OPAQUE && value.opaque.count >= 0), out_value);
}

static bool is_zero(struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.at[i])
            return false;
    return true;
}

static bool is_empty(const struct ottl_value *value)
{
    switch ((enum ottl_type)value->type) {
    case OTTL_NIL:
        return true;
    case OTTL_BOOL:
    case OTTL_INT:
    case OTTL_DURATION:
        return value->integer == 0;
    case OTTL_FLOAT:
        return value->number == 0;
    case OTTL_STRING:
    case OTTL_BYTES:
        return value->bytes.len == 0;
    case OTTL_LIST:
    case OTTL_LITERAL_LIST:
    case OTTL_STRINGS:
    case OTTL_MAP:
        return ottl_items_count(value) == 0;
    case OTTL_TRACE_ID:
    case OTTL_SPAN_ID:
        return is_zero(value->bytes);
    case OTTL_OPAQUE:
        return value->opaque.what == 256; /* a zero byte; structures never are */
    case OTTL_TIME:
        break;
    }
    return false;
}

bool call_is_empty(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_value value;

    return arg_value(run, node, 0, &value) && yield_bool(is_empty(&value), out_value);
}

/* -- texts and lists ------------------------------------------------------------------------------------------------ */

bool call_has_prefix(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, prefix;

    if (!arg_string(run, node, 0, &text) || !arg_string(run, node, 1, &prefix))
        return false;
    return yield_bool(
        text.len >= prefix.len && slice_equal(slice_make(text.at, prefix.len), prefix), out_value);
}

bool call_has_suffix(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct slice text, suffix;

    if (!arg_string(run, node, 0, &text) || !arg_string(run, node, 1, &suffix))
        return false;
    return yield_bool(text.len >= suffix.len &&
                          (suffix.len == 0 ||
                              slice_equal(slice_make(text.at + (text.len - suffix.len), suffix.len), suffix)),
        out_value);
}

bool call_contains_value(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    struct ottl_room room = {.arena = &run->arena};
    struct ottl_value list, wanted;
    struct ottl_items items;
    struct ottl_item item;

    if (!arg_value(run, node, 0, &list) || !arg_value(run, node, 1, &wanted))
        return false;
    ottl_items_start(&items, &list);
    while (ottl_items_next(&items, &item)) {
        struct ottl_value value = ottl_item_value(&item);

        if (value.type == OTTL_LITERAL_LIST)
            value.type = OTTL_LIST; /* as an attribute would hold it */
        if (ottl_compare(&value, &wanted, OTTL_EQ, &room))
            return yield_bool(true, out_value);
        if (room.full)
            return run_fault_bound(run, node);
    }
    return yield_bool(false, out_value);
}

/* -- networks ------------------------------------------------------------------------------------------------------- */

struct network {
    uint8_t bytes[16]; /* an IPv4 address is ::ffff:a.b.c.d */
    unsigned bits;     /* of the 128 */
    bool is_v4;
};

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Go's net.ParseIP: dotted decimal without leading zeros, or IPv6 without zone. */
static bool parse_ip(struct slice text, uint8_t out[16], bool *out_written_v4)
{
    char copy[64];
    bool colon = text.len > 0 && memchr(text.at, ':', text.len);

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.at, 0, text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = 0;
    *out_written_v4 = !colon;
    if (colon)
        return inet_pton(AF_INET6, copy, out) == 1;
    memcpy(out, v4_prefix, sizeof(v4_prefix));
    return inet_pton(AF_INET, copy, out + sizeof(v4_prefix)) == 1;
}

/* Go's net.ParseCIDR. */
static bool parse_network(struct slice text, struct network *out)
{
    const uint8_t *slash = text.len > 0 ? memchr(text.at, '/', text.len) : NULL;
    size_t at = slash ? (size_t)(slash - text.at) : 0;
    unsigned bits = 0;

    if (!slash || at + 1 == text.len || text.len - at > 4 || !parse_ip(slice_make(text.at, at), out->bytes, &out->is_v4))
        return false;
    for (size_t i = at + 1; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        bits = bits * 10 + (unsigned)(text.at[i] - '0');
    }
    if (bits > (out->is_v4 ? 32 : 128))
        return false;
    out->bits = bits + (out->is_v4 ? 96 : 0);
    out->is_v4 |= bits >= 96 && memcmp(out->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
    return true;
}

/* Go compares IPv4 with IPv4 and IPv6 with IPv6, where ::ffff:a.b.c.d counts as IPv4 whether
 * it is an address or, with its whole prefix, a network. */
static bool network_contains(const struct network *network, const uint8_t ip[16])
{
    const bool ip_v4 = memcmp(ip, v4_prefix, sizeof(v4_prefix)) == 0;

    if (ip_v4 != network->is_v4)
        return false;
    for (unsigned i = 0; i < network->bits; i++)
        if (((ip[i / 8] ^ network->bytes[i / 8]) >> (7 - i % 8)) & 1)
            return false;
    return true;
}

/* Literal networks are checked at load when all are literals, as there. */
int prepare_is_in_cidr(struct ottl_compile *compile, struct ottl_node *node)
{
    const struct ottl_node *list = node->children[1];
    struct network network;

    for (size_t i = 0; i < list->child_count; i++) {
        const struct ottl_node *item = list->children[i];

        if (!item->is_literal)
            return 0;
        if (!parse_network(item->value.bytes, &network))
            return compile_fault(compile, item->at, "invalid CIDR address: %.*s", (int)item->value.bytes.len,
                (const char *)item->value.bytes.at);
    }
    return 0;
}

bool call_is_in_cidr(struct ottl_run *run, const struct ottl_node *node, struct ottl_value *out_value)
{
    const struct ottl_node *list = node->children[1];
    struct network network;
    uint8_t ip[16];
    struct slice text;
    bool unused;

    if (!arg_string(run, node, 0, &text))
        return false;
    if (!parse_ip(text, ip, &unused))
        return yield_bool(false, out_value);
    for (size_t i = 0; i < list->child_count; i++) {
        struct ottl_value value;

        if (!node_value(run, list->children[i], &value))
            return false;
        if (value.type != OTTL_STRING)
            return run_fault_type(run, node, "string as a network", &value);
        if (!parse_network(value.bytes, &network))
            return run_fault(run, node, "invalid CIDR address");
        if (network_contains(&network, ip))
            return yield_bool(true, out_value);
    }
    return yield_bool(false, out_value);
}
