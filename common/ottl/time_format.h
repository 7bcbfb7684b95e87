/* Times by a strptime format, as the Collector's Time reads them: English names, UTC unless the text has an offset, blanks
 * before numbers allowed, a fraction of a second taken also where the format has none.
 * Differs from the Collector: a format without a year (it would take the present one), and the directives that
 * docs/ottl.md does not list, are refused. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define TIME_FORMAT_ITEMS 64

struct time_format {
    uint8_t items[TIME_FORMAT_ITEMS]; /* a directive's letter, or a byte of text */
    bool is_text[TIME_FORMAT_ITEMS];
    uint32_t count;
};

/* NULL, or what is wrong with the format. */
const char *time_format_read(struct time_format *format, struct slice text);
/* False: the text is no such time. */
bool time_format_parse(
    const struct time_format *format, struct slice text, int64_t *out_unix_s, uint32_t *out_ns, int32_t *out_zone_s);
