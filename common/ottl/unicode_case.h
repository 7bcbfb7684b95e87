/* Letters in the other case, one character for one: Unicode 15's simple mappings, as Go's strings.ToLower and ToUpper use.
 * A table of our own, because the C library's follows the locale of whoever starts the program. */
#pragma once

#include <stdint.h>

uint32_t unicode_lower(uint32_t rune);
uint32_t unicode_upper(uint32_t rune);
