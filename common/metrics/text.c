#include "common/metrics/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/json_escape.h"
#include "common/base/num.h"

#define TEXT_FIRST_CAPACITY 4096 /* one page; a page of metrics takes three more steps */

/* Makes room for len more bytes and the final zero. */
static bool text_reserve(struct text *text, size_t len)
{
    size_t need, capacity = size_max(text->capacity, TEXT_FIRST_CAPACITY);
    char *at;

    if (text->failed)
        return false;
    if (!size_add(text->len, len, &need) || !size_add(need, 1, &need)) {
        text->failed = 1;
        return false;
    }
    if (need <= text->capacity)
        return true;
    while (capacity < need)
        if (!size_mul(capacity, 2, &capacity))
            capacity = need;
    at = realloc(text->at, capacity);
    if (!at) {
        text->failed = 1;
        return false;
    }
    text->at = at;
    text->capacity = capacity;
    return true;
}

void text_append(struct text *text, const char *format, ...)
{
    va_list args, again;
    int n;

    if (!text_reserve(text, 0))
        return;
    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(text->at + text->len, text->capacity - text->len, format, args);
    va_end(args);
    if (n < 0) {
        text->failed = 1;
    } else if ((size_t)n < text->capacity - text->len) {
        text->len += (size_t)n;
    } else if (text_reserve(text, (size_t)n)) {
        (void)vsnprintf(text->at + text->len, text->capacity - text->len, format, again);
        text->len += (size_t)n;
    }
    va_end(again);
    if (text->failed)
        text->at[text->len] = '\0';
}

void text_append_slice(struct text *text, struct slice bytes)
{
    if (!text_reserve(text, bytes.len))
        return;
    if (bytes.len > 0)
        memcpy(text->at + text->len, bytes.at, bytes.len);
    text->len += bytes.len;
    text->at[text->len] = '\0';
}

void text_append_json(struct text *text, struct slice value)
{
    text_append_slice(text, SLICE_LITERAL("\""));
    while (value.len > 0 && !text->failed) {
        char step[JSON_ESCAPE_MAX];
        size_t len = json_escape_next(&value, step);

        text_append_slice(text, slice_make(step, len));
    }
    text_append_slice(text, SLICE_LITERAL("\""));
}

void text_clear(struct text *text)
{
    text->len = 0;
    text->failed = 0;
    if (text->at)
        text->at[0] = '\0';
}

void text_deinit(struct text *text)
{
    free(text->at);
    *text = (struct text){0};
}
