#include "bench/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/wire.h"

/* -- a growing text of bytes; messages are built inside out, so that lengths are known -------------- */

struct text_bytes {
    uint8_t *at;
    size_t len, capacity;
};

static void put(struct text_bytes *out, const void *bytes, size_t len)
{
    if (out->len + len > out->capacity) {
        out->capacity = (out->len + len) * 2 + 256;
        out->at = realloc(out->at, out->capacity);
        ASSERT(out->at);
    }
    memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

static void put_varint(struct text_bytes *out, uint64_t value)
{
    uint8_t bytes[10];

    put(out, bytes, (size_t)(wire_put_varint(bytes, value) - bytes));
}

static void put_tag(struct text_bytes *out, uint32_t field, uint32_t type)
{
    put_varint(out, field << 3 | type);
}

static void put_field(struct text_bytes *out, uint32_t field, const void *bytes, size_t len)
{
    put_tag(out, field, WIRE_BYTES);
    put_varint(out, len);
    put(out, bytes, len);
}

static void put_fixed64(struct text_bytes *out, uint32_t field, uint64_t value)
{
    put_tag(out, field, WIRE_FIXED64);
    put(out, &value, 8);
}

static void put_number(struct text_bytes *out, uint32_t field, uint64_t value)
{
    put_tag(out, field, WIRE_VARINT);
    put_varint(out, value);
}

/* KeyValue in `field`; value: an encoded AnyValue. Returns where the value begins in out. */
static size_t put_attribute(struct text_bytes *out, uint32_t field, const char *key, const void *value, size_t len)
{
    size_t key_len = strlen(key);

    put_tag(out, field, WIRE_BYTES);
    put_varint(out, wire_bytes_size(WIRE_TAG(1, WIRE_BYTES), key_len) + wire_bytes_size(WIRE_TAG(2, WIRE_BYTES), len));
    put_field(out, 1, key, key_len);
    put_field(out, 2, value, len);
    return out->len - len;
}

/* A text attribute; returns where the text's first byte is. */
static size_t put_text(struct text_bytes *out, uint32_t field, const char *key, const char *text, size_t text_len)
{
    struct text_bytes value = {0};
    size_t at;

    put_field(&value, 1, text, text_len);
    at = put_attribute(out, field, key, value.at, value.len) + value.len - text_len;
    free(value.at);
    return at;
}

static size_t put_words(struct text_bytes *out, uint32_t field, const char *key, const char *text)
{
    return put_text(out, field, key, text, strlen(text));
}

static size_t put_int(struct text_bytes *out, uint32_t field, const char *key, uint64_t number)
{
    struct text_bytes value = {0};
    size_t at;

    put_number(&value, 3, number);
    at = put_attribute(out, field, key, value.at, value.len) + 1;
    free(value.at);
    return at;
}

static void put_bool(struct text_bytes *out, uint32_t field, const char *key, bool truth)
{
    uint8_t value[2] = {WIRE_TAG(2, WIRE_VARINT), truth};

    (void)put_attribute(out, field, key, value, sizeof(value));
}

static void put_double(struct text_bytes *out, uint32_t field, const char *key, double number)
{
    struct text_bytes value = {0};

    put_tag(&value, 4, WIRE_FIXED64);
    put(&value, &number, 8);
    (void)put_attribute(out, field, key, value.at, value.len);
    free(value.at);
}

/* -- the vocabulary ---------------------------------------------------------------------------------- */

static const char *const services[] = {"frontend", "checkout", "cart", "payment", "shipping", "catalog", "currency",
    "email", "recommendation", "inventory", "pricing", "search", "accounts", "ledger", "quote", "fraud"};
static const char *const routes[] = {"/api/cart", "/api/cart/{user}", "/api/checkout", "/api/products/{id}",
    "/api/products", "/api/orders/{order}/items", "/api/orders/{order}", "/api/quotes", "/api/users/{user}/addresses",
    "/api/search", "/api/recommendations/{user}", "/healthz"};
static const char *const methods[] = {"GET", "GET", "POST", "GET", "PUT", "DELETE"};
static const char *const tables[] = {"orders", "order_items", "products", "carts", "users", "addresses", "payments"};
static const char *const databases[] = {"postgresql", "mysql", "redis"};
static const char *const agents[] = {
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36",
    "okhttp/4.12.0", "Go-http-client/2.0", "python-requests/2.32.3",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"};
static const char filler[] =
    "SELECT o.id, o.created_at, o.status, o.currency, i.product_id, i.quantity, i.unit_price, p.name, p.category, "
    "a.street, a.city, a.postal_code, a.country FROM orders o JOIN order_items i ON i.order_id = o.id JOIN products p "
    "ON p.id = i.product_id LEFT JOIN addresses a ON a.id = o.shipping_address_id WHERE o.user_id = $1 AND o.status "
    "IN ($2, $3, $4) AND o.created_at >= $5 AND o.created_at < $6 AND p.category = ANY($7) ORDER BY o.created_at DESC, "
    "i.line_number ASC LIMIT $8 OFFSET $9 FOR UPDATE OF o SKIP LOCKED /* route='checkout',action='reserve' */ ";

#define PICK(array, number) ((array)[(number) % ARRAY_COUNT(array)])

enum span_flavor { FLAVOR_SERVER, FLAVOR_DB, FLAVOR_INTERNAL };

static enum span_flavor flavor_of(const struct model *model, uint32_t index)
{
    uint32_t within = index - model_service_first(model, model_span_service(model, index));

    if (within == 0)
        return FLAVOR_SERVER;
    return within % 3 == 2 ? FLAVOR_INTERNAL : FLAVOR_DB;
}

/* -- one span ---------------------------------------------------------------------------------------- */

static void put_text_filler(struct text_bytes *out, const char *key, size_t target_len)
{
    struct text_bytes text = {0};

    while (text.len < target_len)
        put(&text, filler, text.len + sizeof(filler) - 1 > target_len ? target_len - text.len : sizeof(filler) - 1);
    (void)put_text(out, 9, key, (const char *)text.at, text.len);
    free(text.at);
}

static void put_event(struct text_bytes *out, uint64_t draw)
{
    struct text_bytes event = {0};

    put_fixed64(&event, 1, 1700000000000000000ull + (draw >> 8));
    put_field(&event, 2, "cache.lookup", 12);
    put_bool(&event, 3, "cache.hit", draw & 1);
    put_int(&event, 3, "cache.entry_bytes", draw % 16384);
    put_field(out, 11, event.at, event.len);
    free(event.at);
}
/* Appends one Span's content; offsets in the patch are relative to that content. draw: what varies its text. */
static void put_span(struct text_bytes *out, const struct model *model, uint32_t index, uint64_t draw,
    uint32_t target_bytes, struct patch *out_patch)
{
    static const uint8_t zeros[16];
    enum span_flavor flavor = flavor_of(model, index);
    const char *route = PICK(routes, draw), *method = PICK(methods, draw >> 8), *table = PICK(tables, draw >> 16);
    const char *agent = PICK(agents, draw >> 24), *filler_key = "db.query.text";
    size_t begin = out->len, tail_bytes = 9, overhead;
    char name[128], path[128];

    out_patch->index = index;
    out_patch->parent = model_span_parent(model, index);
    out_patch->http_at = out_patch->tenant_at = 0;
    put_field(out, 1, zeros, 16);
    out_patch->ids_at = (uint32_t)(out->len - begin - 16);
    put_field(out, 2, zeros, 8);
    if (index != 0)
        put_field(out, 4, zeros, 8);
    switch (flavor) {
    case FLAVOR_SERVER:
        (void)snprintf(name, sizeof(name), "%s %s", method, route);
        break;
    case FLAVOR_DB:
        (void)snprintf(name, sizeof(name), "SELECT shop.%s", table);
        break;
    case FLAVOR_INTERNAL:
        (void)snprintf(name, sizeof(name), "%s.validate", table);
        break;
    }
    put_field(out, 5, name, strlen(name));
    put_number(out, 6, flavor == FLAVOR_SERVER ? 2 : flavor == FLAVOR_DB ? 3 : 1);
    put_fixed64(out, 7, 1);
    out_patch->times_at = (uint32_t)(out->len - begin - 8);
    put_fixed64(out, 8, 2);

    switch (flavor) {
    case FLAVOR_SERVER:
        (void)put_words(out, 9, "http.request.method", method);
        (void)put_words(out, 9, "http.route", route);
        (void)snprintf(path, sizeof(path), "%s?page=%u&size=50", route, (unsigned)(draw >> 32) % 1000);
        (void)put_words(out, 9, "url.path", path);
        out_patch->http_at = (uint32_t)(put_int(out, 9, "http.response.status_code", 200) - begin);
        out_patch->tenant_at = (uint32_t)(put_words(out, 9, "tenant", "tenant-00") - begin + strlen("tenant-"));
        (void)put_words(out, 9, "network.protocol.version", "1.1");
        (void)put_words(out, 9, "server.address", "shop.example.com");
        (void)put_words(out, 9, "user_agent.original", agent);
        put_bool(out, 9, "http.retried", draw >> 40 & 1);
        filler_key = "http.request.header.cookie";
        break;
    case FLAVOR_DB:
        (void)put_words(out, 9, "db.system", PICK(databases, draw >> 32));
        (void)put_words(out, 9, "db.namespace", "shop");
        (void)put_words(out, 9, "db.operation.name", "SELECT");
        (void)put_words(out, 9, "db.collection.name", table);
        (void)put_words(out, 9, "server.address", "db-primary.shop.svc.cluster.local");
        (void)put_int(out, 9, "server.port", 5432);
        (void)put_int(out, 9, "db.response.returned_rows", (draw >> 40) % 500);
        break;
    case FLAVOR_INTERNAL:
        (void)put_words(out, 9, "code.function.name", "com.example.shop.Validator.validate");
        (void)put_words(out, 9, "code.file.path", "src/main/java/com/example/shop/Validator.java");
        (void)put_int(out, 9, "code.line.number", 40 + (draw >> 40) % 900);
        (void)put_int(out, 9, "thread.id", (draw >> 48) % 64);
        put_double(out, 9, "validator.score", (double)(draw >> 54) / 1024.0);
        filler_key = "validator.input";
        break;
    }
    overhead = out->len - begin + tail_bytes + strlen(filler_key) + 12;
    if (draw >> 60 < 4)
        tail_bytes += 60, overhead += 60; /* an event comes after the attributes */
    if (overhead + 8 < target_bytes)
        put_text_filler(out, filler_key, target_bytes - overhead);
    if (draw >> 60 < 4)
        put_event(out, draw);

    put_tag(out, 15, WIRE_BYTES);
    put_varint(out, 2);
    put_number(out, 3, 0);
    out_patch->status_at = (uint32_t)(out->len - begin - 1);
    put_tag(out, 16, WIRE_FIXED32);
    put(out, "\x01\x01\x00\x00", 4); /* sampled; the parent is known to be local */
    out_patch->span_len = (uint32_t)(out->len - begin);
}

/* -- one request ------------------------------------------------------------------------------------- */

uint32_t lane_spans(const struct model *model, uint32_t lane)
{
    return model_service_first(model, lane + 1) - model_service_first(model, lane);
}

static void put_resource(struct text_bytes *out, uint32_t lane, uint32_t phase)
{
    struct text_bytes resource = {0};
    char text[96];

    (void)put_words(&resource, 1, "service.name", PICK(services, lane));
    (void)put_words(&resource, 1, "service.namespace", "shop");
    (void)snprintf(text, sizeof(text), "1.%u.7", lane);
    (void)put_words(&resource, 1, "service.version", text);
    (void)snprintf(text, sizeof(text), "%s-7d9f6c5b8-%05u", PICK(services, lane), phase);
    (void)put_words(&resource, 1, "service.instance.id", text);
    (void)put_words(&resource, 1, "k8s.pod.name", text);
    (void)put_words(&resource, 1, "k8s.namespace.name", "shop");
    (void)put_words(&resource, 1, "deployment.environment.name", "production");
    (void)put_words(&resource, 1, "telemetry.sdk.name", "opentelemetry");
    (void)put_words(&resource, 1, "telemetry.sdk.language", lane % 2 ? "java" : "go");
    (void)put_words(&resource, 1, "telemetry.sdk.version", "1.33.0");
    (void)put_words(&resource, 1, "host.arch", "amd64");
    put_field(out, 1, resource.at, resource.len);
    free(resource.at);
}

struct cell { /* one span of a request before it is encoded */
    uint32_t index, trace_delta;
};

/* Appends a ScopeSpans of the cells that belong in it; the spans' patches get offsets in out. */
static void put_scope(struct text_bytes *out, const struct model *model, const struct template *template,
    const struct cell *cells, bool http, uint32_t span_bytes, uint32_t *patch_count)
{
    struct text_bytes body = {0}, scope = {0}, span = {0};
    uint32_t first_patch = *patch_count;

    put_field(&scope, 1, http ? "io.example.instrumentation.http" : "io.example.instrumentation.db", http ? 31 : 29);
    put_field(&scope, 2, "2.11.0", 6);
    put_field(&body, 1, scope.at, scope.len);
    for (uint32_t i = 0; i < template->span_count; i++) {
        uint64_t draw = model_mix(((uint64_t)template->lane << 40 | (uint64_t)template->phase << 32 | i) + 1);
        struct patch *patch;
        uint32_t third = span_bytes / 3;

        if ((flavor_of(model, cells[i].index) == FLAVOR_SERVER) != http)
            continue;
        patch = &template->patches[(*patch_count)++];
        span.len = 0;
        put_span(&span, model, cells[i].index, draw, span_bytes - third + (uint32_t)(draw >> 20) % (2 * third + 1), patch);
        patch->trace_delta = cells[i].trace_delta;
        put_field(&body, 2, span.at, span.len);
        patch->span_at = (uint32_t)(body.len - span.len);
    }
    put_field(&body, 3, "https://opentelemetry.io/schemas/1.27.0", 39);
    if (*patch_count > first_patch) {
        size_t base;

        put_field(out, 2, body.at, body.len);
        base = out->len - body.len;
        for (uint32_t i = first_patch; i < *patch_count; i++)
            template->patches[i].span_at += (uint32_t)base;
    }
    free(body.at);
    free(scope.at);
    free(span.at);
}

struct template *template_new(const struct model *model, uint32_t lane, uint32_t phase, uint32_t span_count,
    uint32_t span_bytes)
{
    struct template *template = calloc(1, sizeof(*template));
    struct cell *cells = calloc(span_count, sizeof(*cells));
    struct text_bytes body = {0}, request = {0};
    uint32_t per_trace = lane_spans(model, lane), patch_count = 0;
    size_t base;

    ASSERT(template && cells);
    template->lane = lane;
    template->phase = phase;
    template->span_count = span_count;
    template->patches = calloc(span_count, sizeof(*template->patches));
    ASSERT(template->patches);
    for (uint32_t i = 0; i < span_count; i++) {
        cells[i].index = model_service_first(model, lane) + (phase + i) % per_trace;
        cells[i].trace_delta = (phase + i) / per_trace;
    }
    template->trace_count = cells[span_count - 1].trace_delta + 1;
    put_resource(&body, lane, phase);
    put_scope(&body, model, template, cells, true, span_bytes, &patch_count);
    put_scope(&body, model, template, cells, false, span_bytes, &patch_count);
    ASSERT(patch_count == span_count);
    put_field(&request, 1, body.at, body.len);
    base = request.len - body.len;
    for (uint32_t i = 0; i < span_count; i++) {
        struct patch *patch = &template->patches[i];

        patch->span_at += (uint32_t)base;
        patch->ids_at += patch->span_at;
        patch->times_at += patch->span_at;
        patch->status_at += patch->span_at;
        patch->http_at += patch->http_at ? patch->span_at : 0;
        patch->tenant_at += patch->tenant_at ? patch->span_at : 0;
    }
    template->bytes = request.at;
    template->len = request.len;
    free(body.at);
    free(cells);
    return template;
}

void template_free(struct template *template)
{
    if (!template)
        return;
    free(template->bytes);
    free(template->patches);
    free(template);
}

void template_fill(const struct template *template, const struct model_trace *traces, uint8_t *bytes)
{
    for (uint32_t i = 0; i < template->span_count; i++) {
        const struct patch *patch = &template->patches[i];
        const struct model_trace *trace = &traces[patch->trace_delta];
        uint64_t id = model_span_id(trace->span_prefix, patch->index);
        uint64_t start = trace->start_unix_ns, end = start + trace->duration_ns;
        bool failed = trace->error_span == patch->index;

        memcpy(bytes + patch->ids_at, trace->id.bytes, 16);
        memcpy(bytes + patch->ids_at + 18, &id, 8);
        if (patch->parent != UINT32_MAX) {
            uint64_t parent = model_span_id(trace->span_prefix, patch->parent);
            /* Inside the root: child i starts i/4096 of the duration later and ends i/2048 earlier. */
            uint64_t step = trace->duration_ns >> 12;

            memcpy(bytes + patch->ids_at + 28, &parent, 8);
            start += step * patch->index;
            end -= step * patch->index * 2;
        }
        memcpy(bytes + patch->times_at, &start, 8);
        memcpy(bytes + patch->times_at + 9, &end, 8);
        bytes[patch->status_at] = failed ? 2 : 0;
        if (patch->http_at) { /* varints of two bytes: 500 and 200 */
            bytes[patch->http_at] = failed ? 0xf4 : 0xc8;
            bytes[patch->http_at + 1] = failed ? 0x03 : 0x01;
        }
        if (patch->tenant_at) {
            bytes[patch->tenant_at] = (uint8_t)('0' + trace->tenant / 10);
            bytes[patch->tenant_at + 1] = (uint8_t)('0' + trace->tenant % 10);
        }
    }
}
