/* Borrowed bytes: valid while what they point into is held, never freed through. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *at;
    size_t len;
};

/* The 16 bytes of a trace ID, as on the wire. */
struct trace_id {
    uint8_t bytes[16];
};

#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)("" text), sizeof(text) - 1})

static inline struct slice slice_make(const void *at, size_t len)
{
    return (struct slice){at, len};
}

static inline struct slice slice_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool trace_id_equal(const struct trace_id *a, const struct trace_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static inline bool trace_id_is_zero(const struct trace_id *id)
{
    static const struct trace_id zero = {{0}};

    return trace_id_equal(id, &zero);
}
