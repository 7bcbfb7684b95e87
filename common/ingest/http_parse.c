/* A head is read only when it is whole: what came before is only looked at for line ends, each byte once, however slowly they come.
 * Chunks are a small machine that a byte moves on, for lines, and a count, for data. */
#include "common/ingest/http_parse.h"

#include <string.h>
#include <strings.h>

#include "common/base/num.h"

#define CHUNK_LINE_BYTES_MAX 256u     /* size and extensions */
#define TRAILER_BYTES_MAX (8u * 1024) /* of all trailers together */

/* -- characters (RFC 9110 section 5.6.2) ----------------------------------------------------------------------------------------- */

static bool is_token_char(uint8_t c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c > ' ' && c < 0x7f && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_char(text.at[i]))
            return false;
    }
    return text.len > 0;
}

/* Visible characters, bytes of other character sets, blanks and tabs. */
static bool is_value(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((text.at[i] < ' ' && text.at[i] != '\t') || text.at[i] == 0x7f)
            return false;
    }
    return true;
}

static struct slice trim(struct slice text)
{
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
        text = slice_make(text.at + 1, text.len - 1);
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

bool http_same_word(struct slice text, const char *word)
{
    return strlen(word) == text.len && (text.len == 0 || strncasecmp(word, (const char *)text.at, text.len) == 0);
}

/* Takes the text up to a separator (or all of it) off the front. */
static struct slice take_until(struct slice *text, uint8_t separator)
{
    const uint8_t *end = text->len > 0 ? memchr(text->at, separator, text->len) : NULL;
    struct slice front = *text;

    if (!end) {
        *text = slice_make(text->at + text->len, 0);
        return front;
    }
    front.len = (size_t)(end - text->at);
    *text = slice_make(end + 1, text->len - front.len - 1);
    return front;
}

/* -- the head -------------------------------------------------------------------------------------------------------------------- */

int http_head_find(struct slice bytes, size_t *scanned, size_t *out_len)
{
    if (bytes.len == 1 && bytes.at[0] == '\r') /* half of an empty line before the head; whole ones the caller takes off */
        return HTTP_HEAD_E_MORE;
    if (bytes.len > 0 && !is_token_char(bytes.at[0])) /* TLS to a plain port, or rubbish */
        return HTTP_HEAD_E_BAD;
    while (*scanned < bytes.len) {
        const uint8_t *end = memchr(bytes.at + *scanned, '\n', bytes.len - *scanned);
        size_t at;

        if (!end)
            break;
        at = (size_t)(end - bytes.at);
        if (at == 0 || bytes.at[at - 1] != '\r')
            return HTTP_HEAD_E_BAD;
        *scanned = at + 1;
        if (at >= 3 && bytes.at[at - 2] == '\n') {
            *out_len = at + 1;
            return 0;
        }
    }
    *scanned = bytes.len;
    return HTTP_HEAD_E_MORE;
}

static int bad(struct http_head *head, const char *error)
{
    head->error = error;
    return 400;
}

/* The line up to its CRLF, which http_head_find has seen. */
static struct slice take_line(struct slice *bytes)
{
    struct slice line = take_until(bytes, '\n');

    line.len--;
    return line;
}

/* origin-form or absolute-form (RFC 9112 section 3.2), or `*`. */
static int parse_target(struct slice target, struct http_head *head)
{
    if (target.len > 7 && strncasecmp((const char *)target.at, "http://", 7) == 0)
        target = slice_make(target.at + 7, target.len - 7);
    else if (target.len > 8 && strncasecmp((const char *)target.at, "https://", 8) == 0)
        target = slice_make(target.at + 8, target.len - 8);
    else if (target.at[0] != '/' && target.at[0] != '*')
        return bad(head, "the request target is no path");
    if (target.at[0] != '/' && target.at[0] != '*') {
        const uint8_t *path = memchr(target.at, '/', target.len);

        if (!path)
            return bad(head, "the request target has no path");
        target = slice_make(path, target.len - (size_t)(path - target.at));
    }
    head->path = take_until(&target, '?');
    return 0;
}

static int parse_request_line(struct slice line, struct http_head *head)
{
    struct slice target;

    head->method = take_until(&line, ' ');
    target = take_until(&line, ' ');
    if (!is_token(head->method) || target.len == 0 || !is_value(target) || memchr(target.at, '\t', target.len))
        return bad(head, "the request line is not METHOD TARGET VERSION");
    if (line.len != 8 || memcmp(line.at, "HTTP/", 5) != 0)
        return bad(head, "the request line does not end with HTTP/1.1 or HTTP/1.0");
    if (memcmp(line.at, "HTTP/1.1", 8) != 0 && memcmp(line.at, "HTTP/1.0", 8) != 0) {
        head->error = "HTTP/1.1 and HTTP/1.0 are spoken here; gRPC has a port of its own";
        return 505;
    }
    head->minor = line.at[7] == '1';
    head->keep_alive = head->minor == 1;
    return parse_target(target, head);
}

static int parse_length(struct slice value, struct http_head *head)
{
    uint64_t length = 0;

    if (head->has_length)
        return bad(head, "there are several Content-Length headers");
    if (value.len == 0 || value.len > 18)
        return bad(head, "Content-Length is no number");
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return bad(head, "Content-Length is no number");
        length = 10 * length + (value.at[i] - (unsigned)'0');
    }
    head->content_length = length;
    head->has_length = true;
    return 0;
}

static int parse_coding(struct slice value, struct http_head *head)
{
    if (head->minor == 0)
        return bad(head, "HTTP/1.0 has no Transfer-Encoding");
    if (head->chunked)
        return bad(head, "there are several Transfer-Encoding headers");
    if (!http_same_word(value, "chunked")) {
        head->error = "the only Transfer-Encoding understood is chunked";
        return 501;
    }
    head->chunked = true;
    return 0;
}

static void parse_connection(struct slice value, struct http_head *head)
{
    while (value.len > 0) {
        struct slice word = trim(take_until(&value, ','));

        if (http_same_word(word, "close"))
            head->keep_alive = false;
        else if (head->minor == 0 && http_same_word(word, "keep-alive"))
            head->keep_alive = true;
    }
}

/* What says where the body ends, and what becomes of the connection. */
static int parse_known_header(const struct http_header *header, unsigned *hosts, struct http_head *head)
{
    switch (header->name.len) {
    case 4:
        *hosts += http_same_word(header->name, "host");
        return 0;
    case 6:
        if (http_same_word(header->name, "expect")) {
            if (!http_same_word(header->value, "100-continue"))
                return bad(head, "the only expectation understood is 100-continue");
            head->expect_continue = head->minor == 1;
        }
        return 0;
    case 10:
        if (http_same_word(header->name, "connection"))
            parse_connection(header->value, head);
        return 0;
    case 14:
        return http_same_word(header->name, "content-length") ? parse_length(header->value, head) : 0;
    case 17:
        return http_same_word(header->name, "transfer-encoding") ? parse_coding(header->value, head) : 0;
    default:
        return 0;
    }
}

static int parse_header(struct slice line, struct http_header *out, struct http_head *head)
{
    if (!memchr(line.at, ':', line.len))
        return bad(head, "a header line has no colon");
    out->name = take_until(&line, ':');
    out->value = trim(line);
    if (!is_token(out->name)) /* a folded line begins with a blank: no token either */
        return bad(head, "the name of a header has characters that are not allowed there");
    if (!is_value(out->value))
        return bad(head, "the value of a header has control characters");
    return 0;
}

int http_head_parse(struct slice bytes, struct http_head *out)
{
    unsigned hosts = 0;
    struct slice line;
    int status;

    memset(out, 0, offsetof(struct http_head, headers));
    out->error = NULL;
    status = parse_request_line(take_line(&bytes), out);
    for (line = take_line(&bytes); status == 0 && line.len > 0; line = take_line(&bytes)) {
        struct http_header *header = &out->headers[out->header_count];

        if (out->header_count == HTTP_HEADERS_MAX) {
            out->error = "there are too many headers";
            return 431;
        }
        status = parse_header(line, header, out);
        if (status == 0)
            status = parse_known_header(header, &hosts, out);
        out->header_count++;
    }
    if (status)
        return status;
    if (hosts > 1 || (hosts == 0 && out->minor == 1))
        return bad(out, "a request has one Host header");
    if (out->chunked && out->has_length)
        return bad(out, "Content-Length and Transfer-Encoding exclude each other");
    return 0;
}

const struct http_header *http_head_find_header(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (http_same_word(head->headers[i].name, name))
            return &head->headers[i];
    }
    return NULL;
}

struct slice http_head_value(const struct http_head *head, const char *name)
{
    const struct http_header *header = http_head_find_header(head, name);

    return header ? header->value : (struct slice){NULL, 0};
}

/* -- chunks (RFC 9112 section 7.1) ------------------------------------------------------------------------------------------------- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* A byte of a chunk's line after its first digit. False: it does not belong there. */
static bool size_byte(struct http_chunks *chunks, uint8_t c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        chunks->state = CHUNK_SIZE;
        chunks->left = chunks->left << 4 | (unsigned)digit;
        return chunks->left < (uint64_t)1 << 56;
    }
    if (chunks->state == CHUNK_SIZE_FIRST)
        return false;
    if (c == '\r')
        chunks->state = CHUNK_SIZE_LF;
    else if (c == ';' || c == ' ' || c == '\t')
        chunks->state = CHUNK_EXTENSION;
    else
        return false;
    return true;
}

/* Moves on by a byte that is no data. False: it does not belong there. */
static bool chunk_byte(struct http_chunks *chunks, uint8_t c)
{
    switch (chunks->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return ++chunks->line_bytes <= CHUNK_LINE_BYTES_MAX && size_byte(chunks, c);
    case CHUNK_EXTENSION:
        if (c == '\r')
            chunks->state = CHUNK_SIZE_LF;
        return ++chunks->line_bytes <= CHUNK_LINE_BYTES_MAX && (c >= ' ' || c == '\t' || c == '\r');
    case CHUNK_SIZE_LF:
        chunks->state = chunks->left > 0 ? CHUNK_DATA : CHUNK_TRAILER_FIRST;
        chunks->line_bytes = 0;
        return c == '\n';
    case CHUNK_DATA_CR:
        chunks->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        chunks->state = CHUNK_SIZE_FIRST;
        return c == '\n';
    case CHUNK_TRAILER_FIRST:
        chunks->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER;
        return ++chunks->line_bytes <= TRAILER_BYTES_MAX && (c == '\r' || is_token_char(c));
    case CHUNK_TRAILER:
        if (c == '\r')
            chunks->state = CHUNK_TRAILER_LF;
        return ++chunks->line_bytes <= TRAILER_BYTES_MAX && (c >= ' ' || c == '\t' || c == '\r');
    case CHUNK_TRAILER_LF:
        chunks->state = CHUNK_TRAILER_FIRST;
        return c == '\n';
    case CHUNK_END_LF:
        chunks->state = CHUNK_OVER;
        return c == '\n';
    case CHUNK_DATA:
    case CHUNK_OVER:
        break;
    }
    return false;
}

enum http_chunk http_chunks_read(struct http_chunks *chunks, struct slice bytes, size_t *out_taken, struct slice *out_data)
{
    size_t at = 0;

    *out_data = (struct slice){NULL, 0};
    while (at < bytes.len && chunks->state != CHUNK_OVER && chunks->state != CHUNK_DATA) {
        if (!chunk_byte(chunks, bytes.at[at++])) {
            *out_taken = at;
            return HTTP_CHUNK_BAD;
        }
    }
    if (chunks->state == CHUNK_DATA && at < bytes.len) {
        *out_data = slice_make(bytes.at + at, (size_t)u64_min(bytes.len - at, chunks->left));
        chunks->left -= out_data->len;
        if (chunks->left == 0)
            chunks->state = CHUNK_DATA_CR;
        *out_taken = at + out_data->len;
        return HTTP_CHUNK_DATA;
    }
    *out_taken = at;
    return chunks->state == CHUNK_OVER ? HTTP_CHUNK_END : HTTP_CHUNK_MORE;
}
