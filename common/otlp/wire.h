/* The protobuf wire format, read in place with a sticky error.
 *
 * After `bad`, every read yields zero and stays at the end: parse first, look once.
 * Source: protobuf encoding specification.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

/* For the rare ways out of a hot function: kept out of line, they cost it no registers. */
#define RARE_PATH __attribute__((noinline, cold))

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_GROUP = 3, WIRE_GROUP_END = 4, WIRE_FIXED32 = 5 };

struct wire {
    const uint8_t *at, *end;
    bool bad;
};

static inline struct wire wire_of(struct slice bytes)
{
    /* Nothing may be added to a null pointer, not even zero. */
    return (struct wire){bytes.at, bytes.len > 0 ? bytes.at + bytes.len : bytes.at, false};
}

static inline bool wire_more(const struct wire *w)
{
    return w->at < w->end;
}

static inline void wire_fail(struct wire *w)
{
    w->at = w->end;
    w->bad = true;
}

/* The varint's tail: two bytes and more, or an error. Up to ten bytes; bits past 64 are an error. */
uint64_t wire_varint_long(struct wire *w);

/* Lengths of one and two bytes, nearly all there are, are read in line. */
HOT_INLINE uint64_t wire_varint(struct wire *w)
{
    const uint8_t *at = w->at;

    if (LIKELY(at < w->end && at[0] < 0x80)) {
        w->at = at + 1;
        return at[0];
    }
    if (LIKELY(w->end - at >= 2 && at[1] < 0x80)) {
        w->at = at + 2;
        return (uint64_t)(at[0] & 0x7f) | (uint64_t)at[1] << 7;
    }
    return wire_varint_long(w);
}

HOT_INLINE struct slice wire_bytes(struct wire *w)
{
    uint64_t len = wire_varint(w);
    struct slice bytes = {w->at, 0};

    if (UNLIKELY(len > (size_t)(w->end - w->at))) {
        wire_fail(w);
        return bytes;
    }
    bytes.len = (size_t)len;
    w->at += len;
    return bytes;
}

HOT_INLINE uint64_t wire_fixed64(struct wire *w)
{
    uint64_t value;

    if (UNLIKELY(w->end - w->at < 8)) {
        wire_fail(w);
        return 0;
    }
    memcpy(&value, w->at, 8); /* little endian, as this machine is: see wire.c */
    w->at += 8;
    return value;
}

HOT_INLINE uint32_t wire_fixed32(struct wire *w)
{
    uint32_t value;

    if (UNLIKELY(w->end - w->at < 4)) {
        wire_fail(w);
        return 0;
    }
    memcpy(&value, w->at, 4);
    w->at += 4;
    return value;
}

/* A field's tag: field number << 3 | wire type. Field 0 and numbers over 2^29-1 are errors. Yields 0 on error. */
HOT_INLINE uint32_t wire_tag(struct wire *w)
{
    uint64_t tag = wire_varint(w);

    if (UNLIKELY(tag < 8 || tag > UINT32_MAX)) {
        wire_fail(w);
        return 0;
    }
    return (uint32_t)tag;
}

/* Steps over the value of a field. Groups are an error: proto3 has none, and nesting could be endless. */
HOT_INLINE void wire_skip(struct wire *w, uint32_t tag)
{
    switch (tag & 7) {
    case WIRE_VARINT:
        (void)wire_varint(w);
        break;
    case WIRE_FIXED64:
        (void)wire_fixed64(w);
        break;
    case WIRE_BYTES:
        (void)wire_bytes(w);
        break;
    case WIRE_FIXED32:
        (void)wire_fixed32(w);
        break;
    default:
        wire_fail(w);
    }
}

#define WIRE_TAG(field, type) ((uint32_t)((field) << 3 | (type)))
#define WIRE_FIELD(tag) ((tag) >> 3)

/* -- writing: sizes first, then one pass ---------------------------------------------------- */

/* Seven bits a byte: 9/64 of the highest bit's number, rounded up, without a division. */
HOT_INLINE size_t wire_varint_size(uint64_t value)
{
    unsigned high = 63u - (unsigned)__builtin_clzll(value | 1);

    return (high * 9 + 73) / 64;
}

HOT_INLINE uint8_t *wire_put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

static inline uint8_t *wire_put_bytes(uint8_t *out, uint32_t tag, const void *at, size_t len)
{
    out = wire_put_varint(out, tag);
    out = wire_put_varint(out, len);
    if (len == 0)
        return out; /* `at` may be null then */
    memcpy(out, at, len);
    return out + len;
}

/* Bytes that a length-delimited field takes. */
static inline size_t wire_bytes_size(uint32_t tag, size_t len)
{
    return wire_varint_size(tag) + wire_varint_size(len) + len;
}
