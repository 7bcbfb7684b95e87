/* One routine writes, or with out NULL only counts: sizes and bytes cannot disagree. */
#include "common/otlp/patch.h"

#include "common/otlp/wire.h"

enum {
    SCOPE_SPANS_SCOPE = 1,
    SCOPE_ATTRIBUTES = 3,
    SPAN_TRACE_STATE = 3,
    SPAN_ATTRIBUTES = 9,
    KEY_VALUE_KEY = 1,
    KEY_VALUE_VALUE = 2,
    ANY_VALUE_STRING = 1,
    ANY_VALUE_BOOL = 2,
};

struct patch_out {
    uint8_t *at; /* NULL: counting */
    size_t len;
};

static void put_raw(struct patch_out *out, const uint8_t *at, size_t len)
{
    if (out->at && len > 0)
        memcpy(out->at + out->len, at, len);
    out->len += len;
}

static void put_varint(struct patch_out *out, uint64_t value)
{
    uint8_t bytes[10];

    put_raw(out, bytes, (size_t)(wire_put_varint(bytes, value) - bytes));
}

static void put_bytes_head(struct patch_out *out, uint32_t field, size_t len)
{
    put_varint(out, WIRE_TAG(field, WIRE_BYTES));
    put_varint(out, len);
}

static void put_bytes(struct patch_out *out, uint32_t field, struct slice bytes)
{
    put_bytes_head(out, field, bytes.len);
    put_raw(out, bytes.at, bytes.len);
}

static void put_value(struct patch_out *out, const struct patch_attribute *attribute)
{
    if (attribute->is_bool) {
        put_varint(out, WIRE_TAG(ANY_VALUE_BOOL, WIRE_VARINT));
        put_varint(out, attribute->truth);
    } else {
        put_bytes(out, ANY_VALUE_STRING, attribute->text);
    }
}

static void put_attribute(struct patch_out *out, uint32_t field, const struct patch_attribute *attribute)
{
    struct patch_out value = {NULL, 0}, pair = {NULL, 0};

    put_value(&value, attribute);
    put_bytes(&pair, KEY_VALUE_KEY, attribute->key);
    put_bytes_head(&pair, KEY_VALUE_VALUE, value.len);
    put_bytes_head(out, field, pair.len + value.len);
    put_bytes(out, KEY_VALUE_KEY, attribute->key);
    put_bytes_head(out, KEY_VALUE_VALUE, value.len);
    put_value(out, attribute);
}

static void put_attributes(struct patch_out *out, uint32_t field, const struct patch_attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_attribute(out, field, &attributes[i]);
}

static bool is_replaced(struct slice pair, const struct patch_attribute *attributes, size_t count)
{
    struct wire w = wire_of(pair);
    struct slice key = {NULL, 0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(KEY_VALUE_KEY, WIRE_BYTES))
            key = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    for (size_t i = 0; i < count; i++)
        if (slice_equal(key, attributes[i].key))
            return true;
    return false;
}

/* Copies a message's fields but the attributes that are replaced and the field `without` (0: none). False: malformed. */
static bool put_rest(struct patch_out *out, struct slice message, uint32_t attributes_field, const struct patch_attribute *attributes,
    size_t count, uint32_t without)
{
    struct wire w = wire_of(message);

    while (wire_more(&w)) {
        const uint8_t *from = w.at;
        uint32_t tag = wire_tag(&w);
        bool leave_out = without != 0 && WIRE_FIELD(tag) == without;

        if (tag == WIRE_TAG(attributes_field, WIRE_BYTES))
            leave_out = is_replaced(wire_bytes(&w), attributes, count);
        else
            wire_skip(&w, tag);
        if (!leave_out && !w.bad)
            put_raw(out, from, (size_t)(w.at - from));
    }
    return !w.bad;
}

/* The scope's content: all its pieces, one after the other, and the attributes. */
static bool put_scope_content(struct patch_out *out, struct slice fields, const struct patch_attribute *attributes, size_t count)
{
    struct wire w = wire_of(fields);

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag != WIRE_TAG(SCOPE_SPANS_SCOPE, WIRE_BYTES))
            wire_skip(&w, tag);
        else if (!put_rest(out, wire_bytes(&w), SCOPE_ATTRIBUTES, attributes, count, 0))
            return false;
    }
    put_attributes(out, SCOPE_ATTRIBUTES, attributes, count);
    return !w.bad;
}

size_t patch_scope(struct slice fields, const struct patch_attribute *attributes, size_t count, uint8_t *out)
{
    struct patch_out content = {NULL, 0}, patched = {out, 0};
    struct wire w = wire_of(fields);

    if (!put_scope_content(&content, fields, attributes, count))
        return 0;
    put_bytes_head(&patched, SCOPE_SPANS_SCOPE, content.len);
    (void)put_scope_content(&patched, fields, attributes, count);
    while (wire_more(&w)) {
        const uint8_t *from = w.at;
        uint32_t tag = wire_tag(&w);

        wire_skip(&w, tag);
        if (tag != WIRE_TAG(SCOPE_SPANS_SCOPE, WIRE_BYTES))
            put_raw(&patched, from, (size_t)(w.at - from));
    }
    return patched.len;
}

size_t patch_span(struct slice span, const struct patch_attribute *attributes, size_t count, const struct slice *tracestate,
    uint8_t *out)
{
    struct patch_out patched = {out, 0};

    if (!put_rest(&patched, span, SPAN_ATTRIBUTES, attributes, count, tracestate ? SPAN_TRACE_STATE : 0))
        return 0;
    if (tracestate && tracestate->len > 0)
        put_bytes(&patched, SPAN_TRACE_STATE, *tracestate);
    put_attributes(&patched, SPAN_ATTRIBUTES, attributes, count);
    return patched.len;
}
