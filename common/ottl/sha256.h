/* SHA-256 (FIPS 180-4), for OTTL's function of that name: a few texts now and then, so no library is asked. */
#pragma once

#include <stdint.h>

#include "common/base/slice.h"

void sha256(struct slice text, uint8_t out_digest[32]);
