/* A growing text, for pages. After a failed growth it stays as it is and `failed` is set: the
 * caller looks once, at the end. */
#pragma once

#include <stddef.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

struct text {
    char *at; /* always ends with a zero byte; NULL while nothing was added */
    size_t len, capacity;
    int failed;
};

void text_append(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
void text_append_slice(struct text *text, struct slice bytes);
/* The bytes as a JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void text_append_json(struct text *text, struct slice value);
/* Forgets the content and `failed`, keeps the memory. */
void text_clear(struct text *text);
void text_deinit(struct text *text);
