#include "common/ingest/cors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/cleanup.h"
#include "common/ingest/http_parse.h"

#define ORIGIN_BYTES_MAX 1024 /* a host name has 253 at most: bounds the time that patterns take */

static bool same_char(char a, char b)
{
    return strncasecmp(&a, &b, 1) == 0;
}

/* One star is remembered: when what follows it does not match, the star takes a character more. */
bool cors_pattern_matches(const char *pattern, struct slice origin)
{
    const char *star = NULL;
    size_t at = 0, star_at = 0;

    while (at < origin.len) {
        if (*pattern == '*') {
            star = ++pattern;
            star_at = at;
        } else if (*pattern != '\0' && same_char(*pattern, (char)origin.at[at])) {
            pattern++;
            at++;
        } else if (star) {
            pattern = star;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool cors_origin_allowed(const struct cors_config *cors, struct slice origin)
{
    if (origin.len == 0 || origin.len > ORIGIN_BYTES_MAX)
        return false;
    for (size_t i = 0; i < cors->allowed_origins.count; i++) {
        if (cors_pattern_matches(cors->allowed_origins.items[i], origin))
            return true;
    }
    return false;
}

static bool any_origin_allowed(const struct cors_config *cors)
{
    for (size_t i = 0; i < cors->allowed_origins.count; i++) {
        if (strcmp(cors->allowed_origins.items[i], "*") == 0)
            return true;
    }
    return false;
}

static bool header_allowed(const struct cors_config *cors, struct slice name)
{
    static const char *const always[] = {"accept", "accept-language", "content-type", "content-language", "origin"};

    for (size_t i = 0; i < ARRAY_COUNT(always); i++) {
        if (strlen(always[i]) == name.len && strncasecmp(always[i], (const char *)name.at, name.len) == 0)
            return true;
    }
    for (size_t i = 0; i < cors->allowed_headers.count; i++) {
        const char *allowed = cors->allowed_headers.items[i];

        if (strcmp(allowed, "*") == 0 ||
            (strlen(allowed) == name.len && strncasecmp(allowed, (const char *)name.at, name.len) == 0))
            return true;
    }
    return false;
}

bool cors_headers_allowed(const struct cors_config *cors, struct slice names)
{
    size_t begin = 0;

    for (size_t i = 0; i <= names.len; i++) {
        struct slice name;

        if (i < names.len && names.at[i] != ',')
            continue;
        name = slice_make(names.at + begin, i - begin);
        begin = i + 1;
        while (name.len > 0 && (name.at[0] == ' ' || name.at[0] == '\t'))
            name = slice_make(name.at + 1, name.len - 1);
        while (name.len > 0 && (name.at[name.len - 1] == ' ' || name.at[name.len - 1] == '\t'))
            name.len--;
        if (name.len > 0 && !header_allowed(cors, name))
            return false;
    }
    return true;
}

bool cors_is_preflight(const struct cors_config *cors, const struct http_head *head)
{
    return cors->allowed_origins.count > 0 && slice_equal(head->method, SLICE_LITERAL("OPTIONS")) &&
        http_head_find_header(head, "access-control-request-method");
}

/* -- header lines ---------------------------------------------------------------------------------------------------------------- */

struct lines {
    char *out;
    size_t size, len;
};

PRINTF_LIKE(2, 3) static void add_line(struct lines *lines, const char *format, ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(lines->out + lines->len, lines->size - lines->len, format, arguments);
    va_end(arguments);
    if (len > 0 && (size_t)len < lines->size - lines->len)
        lines->len += (size_t)len;
}

static void add_value(struct lines *lines, const char *name, struct slice value)
{
    add_line(lines, "%s: %.*s\r\n", name, (int)value.len, (const char *)value.at);
}

static void add_origin(struct lines *lines, const struct cors_config *cors, struct slice origin)
{
    if (any_origin_allowed(cors))
        add_line(lines, "Access-Control-Allow-Origin: *\r\n");
    else
        add_value(lines, "Access-Control-Allow-Origin", origin);
    add_line(lines, "Access-Control-Allow-Credentials: true\r\n");
}

size_t cors_preflight_headers(const struct cors_config *cors, const struct http_head *head, char *out, size_t size)
{
    struct lines lines = {out, size, 0};
    struct slice origin = http_head_value(head, "origin");
    struct slice method = http_head_value(head, "access-control-request-method");
    struct slice names = http_head_value(head, "access-control-request-headers");

    add_line(&lines, "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n");
    if (!cors_origin_allowed(cors, origin) || !slice_equal(method, SLICE_LITERAL("POST")) || !cors_headers_allowed(cors, names))
        return lines.len;
    add_origin(&lines, cors, origin);
    add_line(&lines, "Access-Control-Allow-Methods: POST\r\n");
    if (names.len > 0)
        add_value(&lines, "Access-Control-Allow-Headers", names);
    if (cors->max_age_s > 0)
        add_line(&lines, "Access-Control-Max-Age: %lld\r\n", (long long)cors->max_age_s);
    return lines.len;
}

size_t cors_headers(const struct cors_config *cors, const struct http_head *head, char *out, size_t size)
{
    struct lines lines = {out, size, 0};
    struct slice origin = http_head_value(head, "origin");

    if (cors->allowed_origins.count == 0)
        return 0;
    add_line(&lines, "Vary: Origin\r\n");
    if (!cors_origin_allowed(cors, origin))
        return lines.len;
    add_origin(&lines, cors, origin);
    for (size_t i = 0; i < cors->exposed_headers.count; i++)
        add_line(&lines, "Access-Control-Expose-Headers: %s\r\n", cors->exposed_headers.items[i]);
    return lines.len;
}
