/* A window over what was read and not yet used: records are cut off its front, and it grows to the largest of them. The
 * form is guessed from the first megabyte; each guess can be told from the others by bytes that the others cannot have:
 *
 *   JSON       '{', then '}' or a quote with a printable character behind it. A message's length or tag may look like a
 *              brace, but a tag of ours, a control character, follows soon.
 *   delimited  a length, then that many bytes that are nothing but fields 1; and so on, as far as can be seen
 *   protobuf   a field 1
 */
#include "sampler/replay/replay_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/ingest/inflate.h"
#include "common/otlp/otlp_json.h"
#include "common/otlp/span_walk.h"
#include "common/otlp/wire.h"

#define READ_BYTES (1 * MIB)
#define RESOURCE_SPANS_TAG WIRE_TAG(1, WIRE_BYTES)

enum form { FORM_JSON_LINES, FORM_JSON_DOCUMENTS, FORM_DELIMITED, FORM_PROTOBUF, FORM_NONE };

struct replay_source {
    char *name;
    int fd;
    uint8_t *window;
    size_t start, end, capacity; /* what is not used yet: window[start, end) */
    bool at_end;                 /* nothing more to read behind it */
    enum form form;
    uint64_t bytes;
    uint64_t record; /* number of the last one: a line, or a request */
    uint64_t lines;  /* that are used, in JSON */
    struct otlp_json *json;
    struct buffer *request; /* the last JSON record's protobuf form */
    char error[512];
};

static int source_fail(struct replay_source *source, const char *reason)
{
    (void)snprintf(source->error, sizeof(source->error), "%s: %s", source->name, reason);
    return REPLAY_E_FAILED;
}

const char *replay_source_blame(struct replay_source *source, const char *reason)
{
    (void)snprintf(source->error, sizeof(source->error), "%s: %s %llu: %s", source->name,
        source->form == FORM_JSON_LINES || source->form == FORM_JSON_DOCUMENTS ? "line" : "request",
        (unsigned long long)source->record, reason);
    return source->error;
}

const char *replay_source_error(const struct replay_source *source)
{
    return source->error;
}

uint64_t replay_source_bytes(const struct replay_source *source)
{
    return source->bytes;
}

/* -- the window --------------------------------------------------------------------------------- */

static inline size_t window_len(const struct replay_source *source)
{
    return source->end - source->start;
}

static inline const uint8_t *window_at(const struct replay_source *source)
{
    return source->window + source->start;
}

static void window_make_room(struct replay_source *source, size_t more)
{
    if (source->capacity - source->end >= more)
        return;
    if (window_len(source) > 0 && source->start > 0)
        memmove(source->window, window_at(source), window_len(source));
    source->end -= source->start;
    source->start = 0;
    if (source->capacity - source->end >= more)
        return;
    source->capacity = size_max(source->capacity * 2, source->end + more);
    source->window = realloc(source->window, source->capacity);
    ASSERT(source->window != NULL); /* a command that ends, not a server: without memory it cannot go on */
}

/* Reads some more. 0, also at the end (then at_end is set); or REPLAY_E_FAILED. */
static int window_read(struct replay_source *source)
{
    ssize_t got;

    window_make_room(source, READ_BYTES);
    do {
        got = read(source->fd, source->window + source->end, source->capacity - source->end);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return source_fail(source, strerror(errno));
    source->at_end = got == 0;
    source->end += (size_t)got;
    source->bytes += (uint64_t)got;
    return 0;
}

/* Until len bytes are there, or the end. */
static int window_fill(struct replay_source *source, size_t len)
{
    while (window_len(source) < len && !source->at_end)
        if (window_read(source))
            return REPLAY_E_FAILED;
    return 0;
}

static struct slice window_take(struct replay_source *source, size_t len)
{
    struct slice taken = slice_make(window_at(source), len);

    source->start += len;
    return taken;
}

/* -- which form --------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_blanks(struct slice text, size_t at)
{
    while (at < text.len && is_blank(text.at[at]))
        at++;
    return at;
}

static bool looks_like_json(struct slice head)
{
    size_t at = head.len >= 3 && memcmp(head.at, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    at = skip_blanks(head, at);
    if (at == head.len)
        return true; /* blank lines alone: no request */
    if (head.at[at] != '{')
        return false;
    at = skip_blanks(head, at + 1);
    if (at + 1 >= head.len)
        return at == head.len || head.at[at] == '}' || head.at[at] == '"';
    return head.at[at] == '}' || (head.at[at] == '"' && head.at[at + 1] >= ' ');
}

/* Nothing but fields 1. */
static bool is_request(struct slice bytes)
{
    struct wire w = wire_of(bytes);

    while (wire_more(&w)) {
        if (wire_tag(&w) != RESOURCE_SPANS_TAG)
            return false;
        (void)wire_bytes(&w);
    }
    return !w.bad;
}

static bool looks_delimited(struct slice head, bool whole)
{
    struct wire w = wire_of(head);

    while (wire_more(&w)) {
        uint64_t len = wire_varint(&w);
        size_t left = (size_t)(w.end - w.at);

        if (w.bad)
            return !whole; /* a length cut by the end of what was looked at */
        if (len > REQUEST_BYTES_MAX)
            return false;
        if (len > left)
            return !whole && (left == 0 || w.at[0] == RESOURCE_SPANS_TAG);
        if (!is_request(slice_make(w.at, (size_t)len)))
            return false;
        w.at += len;
    }
    return true;
}

/* Whether the first line holds a document that ends in it. */
static bool first_line_is_whole(struct slice text)
{
    bool in_string = false;
    int64_t depth = 0;

    for (size_t i = skip_blanks(text, 0); i < text.len && text.at[i] != '\n'; i++) {
        uint8_t c = text.at[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
    }
    return depth <= 0 && !in_string;
}

/* A line may be longer than what was looked at. */
static int read_first_line(struct replay_source *source)
{
    for (;;) {
        struct slice all = slice_make(window_at(source), window_len(source));
        size_t from = skip_blanks(all, 0);

        if (memchr(all.at + from, '\n', all.len - from) || source->at_end)
            return 0;
        if (window_read(source))
            return REPLAY_E_FAILED;
    }
}

static int find_form(struct replay_source *source)
{
    struct slice head = slice_make(window_at(source), window_len(source));

    if (head.len == 0) {
        source->form = FORM_NONE;
    } else if (looks_like_json(head)) {
        if (read_first_line(source))
            return REPLAY_E_FAILED;
        source->form = first_line_is_whole(slice_make(window_at(source), window_len(source))) ? FORM_JSON_LINES : FORM_JSON_DOCUMENTS;
    } else if (looks_delimited(head, source->at_end)) {
        source->form = FORM_DELIMITED;
    } else if (head.at[0] == RESOURCE_SPANS_TAG) {
        source->form = FORM_PROTOBUF;
    } else if (head.len >= 4 && memcmp(head.at, "\x28\xb5\x2f\xfd", 4) == 0) {
        return source_fail(source, "is compressed with zstd: unpack it first, zstd -dc FILE | tailrace-sampler --replay - …");
    } else {
        return source_fail(source, "holds no traces: neither OTLP/JSON nor protobuf requests");
    }
    return 0;
}

/* -- opening ------------------------------------------------------------------------------------ */

/* The window's content, all of it, inflated. */
static int inflate_window(struct replay_source *source)
{
    struct buffer *plain = NULL;
    int r;

    if (window_fill(source, SIZE_MAX))
        return REPLAY_E_FAILED;
    r = inflate_gzip(slice_make(window_at(source), window_len(source)), SIZE_MAX / 4, &plain);
    if (r)
        return source_fail(source, r < 0 ? "does not fit into memory when unpacked" : "is no whole gzip file");
    source->start = source->end = 0;
    window_make_room(source, plain->len);
    memcpy(source->window, plain->bytes, plain->len);
    source->end = plain->len;
    buffer_unref(plain);
    return 0;
}

int replay_source_open(const char *path, struct replay_source **out_source)
{
    struct replay_source *source = calloc(1, sizeof(*source));
    bool is_standard = strcmp(path, "-") == 0;

    ASSERT(source != NULL);
    *out_source = source;
    source->name = strdup(is_standard ? "standard input" : path);
    source->json = otlp_json_new();
    ASSERT(source->name != NULL && source->json != NULL);
    source->fd = is_standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (source->fd < 0)
        return source_fail(source, strerror(errno));
    if (window_fill(source, READ_BYTES))
        return REPLAY_E_FAILED;
    if (window_len(source) >= 2 && memcmp(window_at(source), "\x1f\x8b", 2) == 0 && inflate_window(source))
        return REPLAY_E_FAILED;
    return find_form(source);
}

void replay_source_close(struct replay_source *source)
{
    if (!source)
        return;
    if (source->fd > STDIN_FILENO)
        (void)close(source->fd);
    buffer_unref(source->request);
    otlp_json_free(source->json);
    free(source->window);
    free(source->name);
    free(source);
}

/* -- records ------------------------------------------------------------------------------------ */

/* Cut off one line, without its end. */
static int next_line(struct replay_source *source, struct slice *out_text)
{
    size_t searched = 0;

    for (;;) {
        const uint8_t *end = searched < window_len(source)
                                 ? memchr(window_at(source) + searched, '\n', window_len(source) - searched)
                                 : NULL;

        if (end) {
            *out_text = window_take(source, (size_t)(end - window_at(source)) + 1);
            return 0;
        }
        searched = window_len(source);
        if (source->at_end) {
            *out_text = window_take(source, searched);
            return searched > 0 ? 0 : REPLAY_E_END;
        }
        if (window_read(source))
            return REPLAY_E_FAILED;
    }
}

/* Cut off one document: up to the bracket that closes the first one, or all there is. */
static int next_document(struct replay_source *source, struct slice *out_text)
{
    bool in_string = false, escaped = false;
    int64_t depth = 0;

    for (size_t at = 0;; at++) {
        uint8_t c;

        if (at == window_len(source)) {
            if (!source->at_end) {
                if (window_read(source))
                    return REPLAY_E_FAILED;
                at--;
                continue;
            }
            *out_text = window_take(source, at);
            return at > 0 ? 0 : REPLAY_E_END;
        }
        c = window_at(source)[at];
        if (escaped) {
            escaped = false;
        } else if (in_string) {
            escaped = c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth <= 0) {
            *out_text = window_take(source, at + 1);
            return 0;
        }
    }
}

static uint64_t count_lines(struct slice text)
{
    uint64_t lines = 0;

    for (const uint8_t *at = text.at, *end = text.at + text.len; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        lines++;
    return lines;
}

/* The reader counts lines from the text it was given. */
static int json_malformed(struct replay_source *source, uint64_t lines_before, const char *reason)
{
    unsigned long long line = 1;
    int used = 0;

    if (sscanf(reason, "line %llu%n", &line, &used) != 1)
        used = 0;
    (void)snprintf(source->error, sizeof(source->error), "%s: line %llu%s%s", source->name, (unsigned long long)lines_before + line,
        used > 0 ? "" : ": ", reason + used);
    return REPLAY_E_MALFORMED;
}

static int next_json(struct replay_source *source, struct slice *out_request)
{
    char reason[256] = "";
    uint64_t before;
    struct slice text;
    int r;

    do {
        r = source->form == FORM_JSON_LINES ? next_line(source, &text) : next_document(source, &text);
        if (r)
            return r;
        before = source->lines;
        source->lines += count_lines(text);
    } while (skip_blanks(text, 0) == text.len);
    source->record = before + count_lines(slice_make(text.at, skip_blanks(text, 0))) + 1;
    buffer_unref(source->request);
    source->request = NULL;
    r = otlp_json_read(source->json, text, REQUEST_BYTES_MAX, &source->request, reason, sizeof(reason));
    if (r < 0)
        return source_fail(source, "out of memory");
    if (r)
        return json_malformed(source, before, r == OTLP_JSON_E_TOO_LARGE ? "too large" : reason);
    *out_request = buffer_slice(source->request);
    return 0;
}

static int next_delimited(struct replay_source *source, struct slice *out_request)
{
    struct wire w;
    uint64_t len;

    if (window_fill(source, 10))
        return REPLAY_E_FAILED;
    if (window_len(source) == 0)
        return REPLAY_E_END;
    source->record++;
    w = wire_of(slice_make(window_at(source), window_len(source)));
    len = wire_varint(&w);
    if (w.bad || len > REQUEST_BYTES_MAX) {
        (void)replay_source_blame(source, "its length cannot be read");
        return REPLAY_E_FAILED;
    }
    source->start += (size_t)(w.at - window_at(source));
    if (window_fill(source, (size_t)len))
        return REPLAY_E_FAILED;
    if (window_len(source) < len) {
        (void)replay_source_blame(source, "the file ends inside it");
        return REPLAY_E_FAILED;
    }
    *out_request = window_take(source, (size_t)len);
    return 0;
}

static int next_protobuf(struct replay_source *source, struct slice *out_request)
{
    if (window_fill(source, SIZE_MAX))
        return REPLAY_E_FAILED;
    if (window_len(source) == 0)
        return REPLAY_E_END;
    source->record++;
    *out_request = window_take(source, window_len(source));
    return 0;
}

int replay_source_next(struct replay_source *source, struct slice *out_request)
{
    switch (source->form) {
    case FORM_JSON_LINES:
    case FORM_JSON_DOCUMENTS:
        return next_json(source, out_request);
    case FORM_DELIMITED:
        return next_delimited(source, out_request);
    case FORM_PROTOBUF:
        return next_protobuf(source, out_request);
    case FORM_NONE:
        break;
    }
    return REPLAY_E_END;
}
