/* The long varint: out of line, so that the short one stays small where it is inlined. */
#include "common/otlp/wire.h"

#include <assert.h>

/* Fixed fields are loaded as they lie. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire format is little endian");

#define CONTINUED 0x8080808080808080ull

/* Joins the seven-bit groups of up to eight bytes: pairs, then quads, then all. */
static uint64_t groups_join(uint64_t word)
{
    word &= ~CONTINUED;
    word = (word & 0x007f007f007f007full) | (word & 0x7f007f007f007f00ull) >> 1;
    word = (word & 0x00003fff00003fffull) | (word & 0x3fff00003fff0000ull) >> 2;
    return (word & 0x0fffffffull) | (word & 0x0fffffff00000000ull) >> 4;
}

uint64_t wire_varint_long(struct wire *w)
{
    uint64_t value = 0, word, stops;

    if (w->end - w->at >= 8) {
        memcpy(&word, w->at, 8);
        stops = ~word & CONTINUED; /* the high bit of each byte that ends a varint */
        if (stops != 0) {
            w->at += __builtin_ctzll(stops) / 8 + 1;
            return groups_join(word & (stops ^ (stops - 1)));
        }
    }
    for (unsigned shift = 0; w->at < w->end; shift += 7) {
        uint8_t byte = *w->at++;

        if (shift == 63 && byte > 1)
            break; /* bits past 64, or an eleventh byte */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    wire_fail(w);
    return 0;
}
