/* UTF-8 as Go reads it: a byte that starts no valid sequence is one U+FFFD. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUNE_ERROR 0xfffdu
#define RUNE_BYTES_MAX 4

/* False: the byte goes on with a character, if one began before it. */
static inline bool utf8_begins(uint8_t byte)
{
    return (byte & 0xc0) != 0x80;
}

/* Reads one character of at least one byte; *out_len: bytes it takes, 1 when it is none (then RUNE_ERROR). */
static inline uint32_t utf8_read(const uint8_t *at, size_t len, size_t *out_len)
{
    uint8_t low = 0x80, high = 0xbf;
    uint32_t rune;
    size_t need;

    *out_len = 1;
    if (at[0] < 0x80)
        return at[0];
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return RUNE_ERROR;
    need = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (len < need)
        return RUNE_ERROR;
    if (at[0] == 0xe0)
        low = 0xa0; /* shorter forms exist */
    else if (at[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f; /* past U+10FFFF */
    if (at[1] < low || at[1] > high)
        return RUNE_ERROR;
    rune = at[0] & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if (utf8_begins(at[i]))
            return RUNE_ERROR;
        rune = rune << 6 | (at[i] & 0x3fu);
    }
    *out_len = need;
    return rune;
}

/* Writes a character, which is U+FFFD when there is no such one. out: room for RUNE_BYTES_MAX. */
static inline size_t utf8_write(uint8_t *out, uint32_t rune)
{
    if (rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000))
        rune = RUNE_ERROR;
    if (rune < 0x80) {
        out[0] = (uint8_t)rune;
        return 1;
    }
    if (rune < 0x800) {
        out[0] = (uint8_t)(0xc0 | rune >> 6);
        out[1] = (uint8_t)(0x80 | (rune & 0x3f));
        return 2;
    }
    if (rune < 0x10000) {
        out[0] = (uint8_t)(0xe0 | rune >> 12);
        out[1] = (uint8_t)(0x80 | (rune >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (rune & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | rune >> 18);
    out[1] = (uint8_t)(0x80 | (rune >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (rune >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (rune & 0x3f));
    return 4;
}
