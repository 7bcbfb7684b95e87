/* How any bytes are written inside a JSON string, one character a step. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/base/slice.h"

#define JSON_ESCAPE_MAX 8 /* longest step: \u001f, and its terminator */

/* Length of the well-formed UTF-8 character at the start (Unicode table 3-7), or 0. */
static inline size_t utf8_length(struct slice text)
{
    const uint8_t *at = text.at;
    uint8_t low = 0x80, high = 0xbf;
    size_t len;

    if (text.len == 0)
        return 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        len = 2;
    } else if (at[0] >= 0xe0 && at[0] <= 0xef) {
        len = 3;
        if (at[0] == 0xe0)
            low = 0xa0; /* shorter forms exist */
        if (at[0] == 0xed)
            high = 0x9f; /* surrogates */
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        len = 4;
        if (at[0] == 0xf0)
            low = 0x90;
        if (at[0] == 0xf4)
            high = 0x8f; /* beyond U+10FFFF */
    } else {
        return 0;
    }
    if (text.len < len || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return len;
}

/* Takes one character off *text (not empty) and writes what stands for it to out; returns its
 * length. A byte that is no UTF-8 becomes U+FFFD: a reader of JSON may refuse a whole line for it.
 */
static inline size_t json_escape_next(struct slice *text, char out[JSON_ESCAPE_MAX])
{
    size_t len = utf8_length(*text);
    uint8_t byte = text->at[0];

    if (len == 0) {
        *text = slice_make(text->at + 1, text->len - 1);
        memcpy(out, "\xef\xbf\xbd", 3);
        return 3;
    }
    if (len > 1 || (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f)) {
        memcpy(out, text->at, len);
        *text = slice_make(text->at + len, text->len - len);
        return len;
    }
    *text = slice_make(text->at + 1, text->len - 1);
    out[0] = '\\';
    out[1] = byte == '"' || byte == '\\' ? (char)byte
             : byte == '\n'              ? 'n'
             : byte == '\r'              ? 'r'
             : byte == '\t'              ? 't'
                                         : 'u';
    if (out[1] != 'u')
        return 2;
    (void)snprintf(out + 2, JSON_ESCAPE_MAX - 2, "%04x", (unsigned)byte);
    return 6;
}
