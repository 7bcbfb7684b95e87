/* The caller's text is formatted once, split at key= borders, and written again by one of two
 * encoders, so that what a peer sent can neither end a line nor break a quote in either form. A
 * line is built on the stack: logging allocates nothing and takes no lock. */
#include "common/base/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/json_escape.h"
#include "common/base/slice.h"
#include "common/run/clock.h"

#define LINE_BYTES 4096 /* PIPE_BUF: a pipe takes such a line whole, even from several processes   \
                         */
#define TAIL_BYTES 48   /* kept free for the closing quote, the truncation mark and the line end */

static struct {
    const char *program;
    _Atomic int least; /* enum log_level; it may change while threads log */
    enum log_encoding encoding;
} setup = {"tailrace", LOG_INFO, LOG_CONSOLE};

struct line {
    char bytes[LINE_BYTES];
    size_t len;
    bool full; /* something did not fit: nothing but the tail may follow */
};

struct field {
    struct slice key, value;
    bool quoted; /* by the caller */
};

void log_level_set(enum log_level least)
{
    atomic_store_explicit(&setup.least, (int)least, memory_order_relaxed);
}

void log_setup(const char *program, enum log_level least, enum log_encoding encoding)
{
    setup.program = program;
    log_level_set(least);
    setup.encoding = encoding;
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&setup.least, memory_order_relaxed);
}

/* -- splitting ----------------------------------------------------------------------------------
 */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static bool is_key_byte(uint8_t byte, bool first)
{
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_')
        return true;
    return !first && ((byte >= '0' && byte <= '9') || byte == '.');
}

/* Length of the key when text starts with key=, or 0. */
static size_t key_length(struct slice text)
{
    size_t len = 0;

    while (len < text.len && is_key_byte(text.at[len], len == 0))
        len++;
    return len > 0 && len < text.len && text.at[len] == '=' ? len : 0;
}

static struct slice slice_from(struct slice text, size_t from)
{
    return slice_make(text.at + from, text.len - from);
}

static size_t blanks_at(struct slice text, size_t at)
{
    size_t count = 0;

    while (at + count < text.len && is_blank(text.at[at + count]))
        count++;
    return count;
}

/* Whether nothing, or only another key=, follows the place. */
static bool is_border(struct slice text, size_t at)
{
    size_t blanks = blanks_at(text, at);

    if (at + blanks == text.len)
        return true;
    return blanks > 0 && key_length(slice_from(text, at + blanks)) > 0;
}

static bool field_take(struct slice *text, struct field *out_field)
{
    struct slice rest = slice_from(*text, blanks_at(*text, 0));
    size_t key_len, end;

    if (rest.len == 0)
        return false;
    key_len = key_length(rest);
    if (key_len > 0) {
        out_field->key = slice_make(rest.at, key_len);
        rest = slice_from(rest, key_len + 1);
    } else {
        out_field->key = SLICE_LITERAL("message");
    }

    out_field->quoted = rest.len > 0 && rest.at[0] == '"';
    if (out_field->quoted) {
        /* A quote inside the value is told from the closing one by what follows it. */
        end = 1;
        while (end < rest.len && !(rest.at[end] == '"' && is_border(rest, end + 1)))
            end++;
        out_field->value = slice_make(rest.at + 1, end - 1);
        *text = slice_from(rest, end < rest.len ? end + 1 : end);
        return true;
    }
    end = 0;
    while (end < rest.len && !is_border(rest, end))
        end++;
    out_field->value = slice_make(rest.at, end);
    *text = slice_from(rest, end);
    return true;
}

/* -- writing ------------------------------------------------------------------------------------
 */

static bool line_has_room(struct line *line, size_t len)
{
    if (!line->full && line->len + len > LINE_BYTES - TAIL_BYTES)
        line->full = true;
    return !line->full;
}

static void line_put(struct line *line, const void *at, size_t len)
{
    if (!line_has_room(line, len))
        return;
    memcpy(line->bytes + line->len, at, len);
    line->len += len;
}

static void line_put_text(struct line *line, const char *text)
{
    line_put(line, text, strlen(text));
}

/* What closes the line: TAIL_BYTES are kept for it. */
static void line_put_tail(struct line *line, const char *text)
{
    size_t len = strlen(text);

    memcpy(line->bytes + line->len, text, len);
    line->len += len;
}

static void line_put_escaped(struct line *line, struct slice text)
{
    while (text.len > 0 && !line->full) {
        char step[JSON_ESCAPE_MAX];
        size_t len = json_escape_next(&text, step);

        line_put(line, step, len);
    }
}

/* A string, whose closing quote is written even when the string was cut. */
static void line_put_quoted(struct line *line, struct slice text)
{
    line_put(line, "\"", 1);
    if (line->full)
        return;
    line_put_escaped(line, text);
    line_put_tail(line, "\"");
}

/* A JSON number: an optional sign, digits without a leading zero, an optional fraction. */
static bool is_number(struct slice text)
{
    size_t at = 0, digits = 0, fraction = 0;

    if (at < text.len && text.at[at] == '-')
        at++;
    while (at + digits < text.len && isdigit(text.at[at + digits]))
        digits++;
    if (digits == 0 || (digits > 1 && text.at[at] == '0'))
        return false;
    at += digits;
    if (at == text.len)
        return true;
    if (text.at[at++] != '.')
        return false;
    while (at + fraction < text.len && isdigit(text.at[at + fraction]))
        fraction++;
    return fraction > 0 && at + fraction == text.len;
}

static bool is_boolean(struct slice text)
{
    return slice_equal(text, SLICE_LITERAL("true")) || slice_equal(text, SLICE_LITERAL("false"));
}

static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= ' ' || text.at[i] >= 0x7f || text.at[i] == '"' || text.at[i] == '\\')
            return false;
    return text.len > 0;
}

static void line_put_field(struct line *line, const struct field *field)
{
    bool json = setup.encoding == LOG_JSON;
    bool bare = !field->quoted && (json ? is_number(field->value) || is_boolean(field->value) : is_plain(field->value));

    /* A key goes with at least its quotes, a bare value whole: a cut line stays well-formed. */
    if (!line_has_room(line, field->key.len + 6 + (bare ? field->value.len : 0)))
        return;
    line_put_text(line, json ? ",\"" : " ");
    line_put(line, field->key.at, field->key.len);
    line_put_text(line, json ? "\":" : "=");
    if (bare)
        line_put(line, field->value.at, field->value.len);
    else
        line_put_quoted(line, field->value);
}

static void line_put_head(struct line *line, enum log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    static const char *const capitals[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    uint64_t unix_ns = clock_now_unix_ns();
    time_t seconds = (time_t)(unix_ns / 1000000000u);
    unsigned ms = (unsigned)(unix_ns / 1000000u % 1000u);
    char stamp[64];
    size_t len;
    struct tm utc;

    (void)gmtime_r(&seconds, &utc);
    len = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(stamp + len, sizeof(stamp) - len, ".%03uZ", ms);

    if (setup.encoding == LOG_JSON) {
        line_put_text(line, "{\"time\":\"");
        line_put_text(line, stamp);
        line_put_text(line, "\",\"level\":\"");
        line_put_text(line, names[level]);
        line_put_text(line, "\",\"program\":");
        line_put_quoted(line, slice_text(setup.program));
        line_put_text(line, ",\"event\":");
        line_put_quoted(line, slice_text(event));
        return;
    }
    line_put_text(line, stamp);
    line_put_text(line, " ");
    line_put_text(line, capitals[level]);
    line_put_text(line, " ");
    line_put_text(line, setup.program);
    line_put_text(line, " ");
    line_put_text(line, event);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    char text[LINE_BYTES];
    struct line line;
    struct field field;
    struct slice rest;
    bool cut = false;
    va_list args;
    int n;

    if (!log_enabled(level))
        return;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0)
        n = snprintf(text, sizeof(text), "log_error=format");
    if ((size_t)n >= sizeof(text)) {
        n = (int)sizeof(text) - 1;
        cut = true;
    }

    line.len = 0;
    line.full = false;
    line_put_head(&line, level, event);
    rest = slice_make(text, (size_t)n);
    while (!line.full && field_take(&rest, &field))
        line_put_field(&line, &field);
    if (line.full || cut)
        line_put_tail(
            &line, setup.encoding == LOG_JSON ? ",\"truncated\":true" : " truncated=true");
    line_put_tail(&line, setup.encoding == LOG_JSON ? "}\n" : "\n");

    /* One try: when nobody reads standard error there is nobody to tell. */
    while (write(STDERR_FILENO, line.bytes, line.len) < 0 && errno == EINTR)
        ;
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *out_suppressed)
{
    if (limit->last_ns != 0 && now_ns - limit->last_ns < LOG_LIMIT_PERIOD_NS) {
        limit->suppressed_count++;
        return false;
    }
    *out_suppressed = limit->suppressed_count;
    limit->suppressed_count = 0;
    limit->last_ns = now_ns;
    return true;
}
