#include "common/ingest/http_body.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/ingest/http_parse.h"
#include "common/ingest/inflate.h"
#include "common/otlp/otlp_json.h"

struct http_body_reader { /* made when first needed: few clients send zstd or JSON */
    struct inflate_zstd *zstd;
    struct otlp_json *json;
};

bool http_coding_of(struct slice value, enum http_coding *out_coding)
{
    static const struct {
        const char *name;
        enum http_coding coding;
    } codings[] = {
        {"", HTTP_IDENTITY}, {"identity", HTTP_IDENTITY}, {"gzip", HTTP_GZIP}, {"x-gzip", HTTP_GZIP}, {"zstd", HTTP_ZSTD},
        {"deflate", HTTP_ZLIB}, {"zlib", HTTP_ZLIB},
    };

    for (size_t i = 0; i < ARRAY_COUNT(codings); i++) {
        if (http_same_word(value, codings[i].name)) {
            *out_coding = codings[i].coding;
            return true;
        }
    }
    return false;
}

struct http_body_reader *http_body_reader_new(void)
{
    return calloc(1, sizeof(struct http_body_reader));
}

void http_body_reader_free(struct http_body_reader *reader)
{
    if (!reader)
        return;
    inflate_zstd_free(reader->zstd);
    otlp_json_free(reader->json);
    free(reader);
}

static struct buffer *refused(struct http_body_error *out, enum refusal refusal, const char *message)
{
    out->refusal = refusal;
    (void)snprintf(out->message, sizeof(out->message), "%s", message);
    return NULL;
}

static struct buffer *no_memory(struct http_body_error *out)
{
    return refused(out, REFUSED_MEMORY, refusal_status(REFUSED_MEMORY).message);
}

static struct buffer *inflated(
    struct http_body_reader *reader, struct slice body, enum http_coding coding, size_t max_bytes, struct http_body_error *out_error)
{
    struct buffer *out = NULL;
    int r;

    if (coding == HTTP_ZSTD && !reader->zstd)
        reader->zstd = inflate_zstd_new();
    if (coding == HTTP_ZSTD && !reader->zstd)
        return no_memory(out_error);
    if (coding == HTTP_ZSTD)
        r = inflate_zstd(reader->zstd, body, max_bytes, &out);
    else
        r = coding == HTTP_GZIP ? inflate_gzip(body, max_bytes, &out) : inflate_zlib(body, max_bytes, &out);
    if (r == 0)
        return out;
    if (r == INFLATE_E_TOO_LARGE)
        return refused(out_error, REFUSED_TOO_LARGE, "the body inflates to more than max_request_body_size, or needs a window over 8 MiB");
    return r < 0 ? no_memory(out_error) : refused(out_error, REFUSED_ENCODING, "the body cannot be inflated: it is not of its Content-Encoding, or cut short");
}

static struct buffer *from_json(struct http_body_reader *reader, struct slice body, size_t max_bytes, struct http_body_error *out_error)
{
    struct buffer *out = NULL;
    int r;

    if (!reader->json)
        reader->json = otlp_json_new();
    if (!reader->json)
        return no_memory(out_error);
    out_error->message[0] = '\0';
    r = otlp_json_read(reader->json, body, max_bytes, &out, out_error->message, sizeof(out_error->message));
    if (r == 0)
        return out;
    if (r < 0)
        return no_memory(out_error);
    if (r == OTLP_JSON_E_TOO_LARGE)
        return refused(out_error, REFUSED_TOO_LARGE, "the request is larger than max_request_body_size");
    out_error->refusal = REFUSED_MALFORMED;
    return NULL;
}

struct buffer *http_body_read(struct http_body_reader *reader, struct buffer *body, enum http_coding coding, bool json, size_t max_bytes,
    struct http_body_error *out_error)
{
    if (coding != HTTP_IDENTITY) {
        struct buffer *out = inflated(reader, buffer_slice(body), coding, max_bytes, out_error);

        buffer_unref(body);
        body = out;
    }
    if (body && json) {
        struct buffer *out = from_json(reader, buffer_slice(body), max_bytes, out_error);

        buffer_unref(body);
        body = out;
    }
    return body;
}
