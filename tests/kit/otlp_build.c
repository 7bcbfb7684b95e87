#include "tests/kit/otlp_build.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/otlp/wire.h"
#include "tests/kit/splitmix.h"

void otlp_build_deinit(struct otlp_build *build)
{
    free(build->bytes);
    *build = (struct otlp_build){0};
}

void otlp_build_reset(struct otlp_build *build)
{
    build->len = 0;
    build->open_count = 0;
}

struct slice otlp_slice(const struct otlp_build *build)
{
    ASSERT(build->open_count == 0);
    return slice_make(build->bytes, build->len);
}

/* Makes room for `len` more bytes and returns where they go. */
static uint8_t *build_room(struct otlp_build *build, size_t len)
{
    if (build->capacity - build->len < len) {
        size_t capacity = build->capacity * 2 + len + 256;
        uint8_t *bytes = realloc(build->bytes, capacity);

        if (!bytes)
            abort();
        build->bytes = bytes;
        build->capacity = capacity;
    }
    return build->bytes + build->len;
}

static void build_varint(struct otlp_build *build, uint64_t value)
{
    uint8_t *at = build_room(build, 10);

    build->len += (size_t)(wire_put_varint(at, value) - at);
}

void otlp_raw(struct otlp_build *build, const void *at, size_t len)
{
    uint8_t *room = build_room(build, len);

    if (len > 0)
        memcpy(room, at, len);
    build->len += len;
}

/* -- wire fields ----------------------------------------------------------------------------------- */

void otlp_begin(struct otlp_build *build, uint32_t field)
{
    ASSERT(build->open_count < OTLP_OPEN_MAX);
    build_varint(build, WIRE_TAG(field, WIRE_BYTES));
    build->open_at[build->open_count++] = build->len;
}

void otlp_end(struct otlp_build *build)
{
    size_t at, len, prefix;

    ASSERT(build->open_count > 0);
    at = build->open_at[--build->open_count];
    len = build->len - at;
    prefix = wire_varint_size(len);
    (void)build_room(build, prefix);
    memmove(build->bytes + at + prefix, build->bytes + at, len);
    (void)wire_put_varint(build->bytes + at, len);
    build->len += prefix;
}

void otlp_varint(struct otlp_build *build, uint32_t field, uint64_t value)
{
    build_varint(build, WIRE_TAG(field, WIRE_VARINT));
    build_varint(build, value);
}

void otlp_fixed64(struct otlp_build *build, uint32_t field, uint64_t value)
{
    build_varint(build, WIRE_TAG(field, WIRE_FIXED64));
    otlp_raw(build, &value, sizeof(value));
}

void otlp_fixed32(struct otlp_build *build, uint32_t field, uint32_t value)
{
    build_varint(build, WIRE_TAG(field, WIRE_FIXED32));
    otlp_raw(build, &value, sizeof(value));
}

void otlp_double(struct otlp_build *build, uint32_t field, double value)
{
    build_varint(build, WIRE_TAG(field, WIRE_FIXED64));
    otlp_raw(build, &value, sizeof(value));
}

void otlp_bytes(struct otlp_build *build, uint32_t field, const void *at, size_t len)
{
    build_varint(build, WIRE_TAG(field, WIRE_BYTES));
    build_varint(build, len);
    otlp_raw(build, at, len);
}

void otlp_text(struct otlp_build *build, uint32_t field, const char *text)
{
    otlp_bytes(build, field, text, strlen(text));
}

/* -- attributes ------------------------------------------------------------------------------------ */

void otlp_value(struct otlp_build *build, uint32_t field, const struct otlp_attribute *attribute)
{
    otlp_begin(build, field);
    switch (attribute->kind) {
    case OTLP_KIND_ABSENT:
    case OTLP_KIND_EMPTY:
        break;
    case OTLP_KIND_TEXT:
        otlp_text(build, 1, attribute->text);
        break;
    case OTLP_KIND_BOOL:
        otlp_varint(build, 2, attribute->integer != 0);
        break;
    case OTLP_KIND_INT:
        otlp_varint(build, 3, (uint64_t)attribute->integer);
        break;
    case OTLP_KIND_DOUBLE:
        otlp_double(build, 4, attribute->number);
        break;
    case OTLP_KIND_ARRAY:
        otlp_begin(build, 5);
        for (size_t i = 0; i < attribute->items_count; i++)
            otlp_value(build, 1, &attribute->items[i]);
        otlp_end(build);
        break;
    case OTLP_KIND_KVLIST:
        otlp_begin(build, 6);
        for (size_t i = 0; i < attribute->items_count; i++)
            otlp_attribute(build, 1, &attribute->items[i]);
        otlp_end(build);
        break;
    case OTLP_KIND_BYTES:
        otlp_bytes(build, 7, attribute->text,
            attribute->text_len > 0 ? attribute->text_len : strlen(attribute->text));
        break;
    }
    otlp_end(build);
}

void otlp_attribute(struct otlp_build *build, uint32_t field, const struct otlp_attribute *attribute)
{
    otlp_begin(build, field);
    otlp_text(build, 1, attribute->key);
    if (attribute->kind != OTLP_KIND_ABSENT)
        otlp_value(build, 2, attribute);
    otlp_end(build);
}

static void build_attributes(
    struct otlp_build *build, uint32_t field, const struct otlp_attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        otlp_attribute(build, field, &attributes[i]);
}

/* -- the levels of a request ----------------------------------------------------------------------- */

void otlp_resource_spans(struct otlp_build *build)
{
    otlp_begin(build, 1);
}

void otlp_resource(struct otlp_build *build, size_t count, const struct otlp_attribute *attributes)
{
    otlp_begin(build, 1);
    build_attributes(build, 1, attributes, count);
    otlp_end(build);
}

void otlp_scope_spans(struct otlp_build *build)
{
    otlp_begin(build, 2);
}

void otlp_scope(struct otlp_build *build, const char *name, const char *version)
{
    otlp_begin(build, 1);
    if (name)
        otlp_text(build, 1, name);
    if (version)
        otlp_text(build, 2, version);
    otlp_end(build);
}

void otlp_schema_url(struct otlp_build *build, const char *url)
{
    otlp_text(build, 3, url);
}

static void build_event(struct otlp_build *build, const struct otlp_event *event)
{
    otlp_begin(build, 11);
    otlp_fixed64(build, 1, event->time_unix_ns);
    if (event->name)
        otlp_text(build, 2, event->name);
    build_attributes(build, 3, event->attributes, event->attributes_count);
    otlp_end(build);
}

static void build_link(struct otlp_build *build, const struct otlp_link *link)
{
    otlp_begin(build, 13);
    otlp_bytes(build, 1, link->trace_id.bytes, sizeof(link->trace_id.bytes));
    otlp_bytes(build, 2, link->span_id.bytes, sizeof(link->span_id.bytes));
    if (link->trace_state)
        otlp_text(build, 3, link->trace_state);
    build_attributes(build, 4, link->attributes, link->attributes_count);
    if (link->flags)
        otlp_fixed32(build, 6, link->flags);
    otlp_end(build);
}

static void build_count(struct otlp_build *build, uint32_t field, uint32_t count)
{
    if (count > 0)
        otlp_varint(build, field, count);
}

static void build_span_id(struct otlp_build *build, uint32_t field, const struct otlp_span_id *id)
{
    static const struct otlp_span_id zero = {{0}};

    if (memcmp(id, &zero, sizeof(zero)) != 0)
        otlp_bytes(build, field, id->bytes, sizeof(id->bytes));
}

void otlp_span_fields(struct otlp_build *build, const struct otlp_span *span)
{
    if (!trace_id_is_zero(&span->trace_id))
        otlp_bytes(build, 1, span->trace_id.bytes, sizeof(span->trace_id.bytes));
    build_span_id(build, 2, &span->span_id);
    if (span->trace_state)
        otlp_text(build, 3, span->trace_state);
    build_span_id(build, 4, &span->parent_span_id);
    if (span->name)
        otlp_text(build, 5, span->name);
    build_count(build, 6, span->kind);
    if (span->start_unix_ns > 0)
        otlp_fixed64(build, 7, span->start_unix_ns);
    if (span->end_unix_ns > 0)
        otlp_fixed64(build, 8, span->end_unix_ns);
    build_attributes(build, 9, span->attributes, span->attributes_count);
    build_count(build, 10, span->dropped_attributes);
    for (size_t i = 0; i < span->events_count; i++)
        build_event(build, &span->events[i]);
    build_count(build, 12, span->dropped_events);
    for (size_t i = 0; i < span->links_count; i++)
        build_link(build, &span->links[i]);
    build_count(build, 14, span->dropped_links);
    if (span->status > 0 || span->status_message) {
        otlp_begin(build, 15);
        if (span->status_message)
            otlp_text(build, 2, span->status_message);
        build_count(build, 3, span->status);
        otlp_end(build);
    }
    if (span->flags > 0)
        otlp_fixed32(build, 16, span->flags);
    otlp_raw(build, span->unknown.at, span->unknown.len);
}

void otlp_span(struct otlp_build *build, const struct otlp_span *span)
{
    otlp_begin(build, 2);
    otlp_span_fields(build, span);
    otlp_end(build);
}

void otlp_request_of(struct otlp_build *build, const char *service, const struct otlp_span *span)
{
    otlp_resource_spans(build);
    otlp_resource(build, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", service)});
    otlp_scope_spans(build);
    otlp_scope(build, "test", NULL);
    otlp_span(build, span);
    otlp_end(build);
    otlp_end(build);
}

/* -- realistic requests ---------------------------------------------------------------------------- */

/* Any number gives a well mixed one. */
static uint64_t mix(uint64_t x)
{
    return splitmix64(&x);
}

struct trace_id otlp_trace_id(uint64_t number)
{
    uint64_t words[2] = {mix(number), mix(~number) | 1};
    struct trace_id id;

    memcpy(id.bytes, words, sizeof(id.bytes));
    return id;
}

struct otlp_span_id otlp_span_id(uint64_t number)
{
    uint64_t word = mix(number ^ 0x5ba9) | 1;
    struct otlp_span_id id;

    memcpy(id.bytes, &word, sizeof(id.bytes));
    return id;
}

/* One span of a shop's traffic: an HTTP server span or a database call, as the semantic conventions name things. */
static void realistic_span(struct otlp_build *build, uint64_t seed, uint64_t number, size_t spans_per_trace)
{
    static const char *const routes[] = {
        "/api/cart/{id}", "/api/checkout", "/api/products/{product_id}/reviews", "/healthz"};
    uint64_t dice = mix(seed ^ mix(number));
    uint64_t trace = mix(seed) + number / spans_per_trace;
    uint64_t start = 1700000000000000000ull + number * 1000003;
    const char *route = routes[dice % 4];
    bool failed = dice % 50 == 0;
    char url[96], address[32], query[192];
    struct otlp_attribute server[] = {
        OTLP_TEXT("http.request.method", dice & 16 ? "GET" : "POST"),
        OTLP_TEXT("url.scheme", "https"),
        OTLP_TEXT("url.path", url),
        OTLP_TEXT("http.route", route),
        OTLP_INT("http.response.status_code", failed ? 503 : 200),
        OTLP_TEXT("server.address", "shop.internal.example.com"),
        OTLP_INT("server.port", 8443),
        OTLP_TEXT("client.address", address),
        OTLP_TEXT("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        OTLP_TEXT("network.protocol.version", "1.1"),
        OTLP_INT("http.response.body.size", (int64_t)(dice >> 40) % 90000),
        OTLP_BOOL("app.cache_hit", (int64_t)(dice >> 7) & 1),
        OTLP_DOUBLE("app.load", (double)(dice % 1000) / 10.0),
        OTLP_TEXT("http.request.header.x_request_id", "5f0c9a4e-8d5b-4a3c-9a53-1f1c7e0b6d21"),
    };
    struct otlp_attribute client[] = {
        OTLP_TEXT("db.system", "postgresql"),
        OTLP_TEXT("db.namespace", "shop"),
        OTLP_TEXT("db.operation.name", "SELECT"),
        OTLP_TEXT("db.collection.name", "order_items"),
        OTLP_TEXT("db.query.text", query),
        OTLP_TEXT("server.address", "orders-primary.db.svc.cluster.local"),
        OTLP_INT("server.port", 5432),
        OTLP_TEXT("network.peer.address", address),
        OTLP_TEXT("thread.name", "pool-3-thread-12"),
        OTLP_INT("thread.id", 40 + (int64_t)(dice % 100)),
        OTLP_INT("db.response.returned_rows", (int64_t)(dice >> 20) % 500),
        OTLP_TEXT("code.function.name", "com.example.shop.orders.OrderItemRepository.findByOrderIdAndTenant"),
        OTLP_TEXT("code.file.path", "com/example/shop/orders/OrderItemRepository.java"),
    };
    struct otlp_attribute exception[] = {
        OTLP_TEXT("exception.type", "java.net.SocketTimeoutException"),
        OTLP_TEXT("exception.message", "Read timed out"),
    };
    struct otlp_event event = {start + 1000, "exception", exception, ARRAY_COUNT(exception)};
    struct otlp_link link = {.trace_id = otlp_trace_id(dice), .span_id = otlp_span_id(dice)};
    struct otlp_span span = {
        .trace_id = otlp_trace_id(trace),
        .span_id = otlp_span_id(seed ^ number),
        .start_unix_ns = start,
        .end_unix_ns = start + dice % 400000000,
        .flags = 0x101,
        .status = failed ? 2 : 0,
        .status_message = failed ? "upstream timed out" : NULL,
        .events = &event,
        .events_count = failed || dice % 8 == 1,
        .links = &link,
        .links_count = dice % 16 == 3,
    };

    (void)snprintf(url, sizeof(url), "/api/products/%u/reviews/%llu", (unsigned)(dice % 90000),
        (unsigned long long)(dice >> 32));
    (void)snprintf(address, sizeof(address), "10.%u.%u.%u", (unsigned)(dice >> 8) % 256,
        (unsigned)(dice >> 16) % 256, (unsigned)(dice >> 24) % 256);
    (void)snprintf(query, sizeof(query),
        "SELECT id, sku, quantity, unit_price, discount, updated_at FROM order_items "
        "WHERE order_id = $1 AND tenant = $2 ORDER BY id LIMIT %u",
        (unsigned)(dice % 1000));
    if (number % spans_per_trace > 0)
        span.parent_span_id = otlp_span_id(seed ^ (number - 1));
    if (dice % 3 != 0) {
        span.name = route;
        span.kind = 2;
        span.attributes = server;
        span.attributes_count = ARRAY_COUNT(server);
    } else {
        span.name = "SELECT shop.order_items";
        span.kind = 3;
        span.attributes = client;
        span.attributes_count = ARRAY_COUNT(client);
    }
    otlp_span(build, &span);
}

void otlp_realistic(struct otlp_build *build, uint64_t seed, size_t spans, size_t spans_per_trace, size_t services)
{
    static const char *const scopes[] = {
        "io.opentelemetry.tomcat-10.0", "io.opentelemetry.jdbc"};

    for (size_t service = 0; service < services; service++) {
        size_t first = spans * service / services, last = spans * (service + 1) / services;
        size_t middle = first + (last - first) / 2;
        char name[32], host[48];

        (void)snprintf(name, sizeof(name), "shop-%zu", service);
        (void)snprintf(host, sizeof(host), "shop-%zu-6d5f7c9b8-%04x", service,
            (unsigned)(mix(seed + service) & 0xffff));
        otlp_resource_spans(build);
        otlp_resource(build, 6,
            (struct otlp_attribute[]){OTLP_TEXT("service.name", name), OTLP_TEXT("host.name", host),
                OTLP_TEXT("telemetry.sdk.name", "opentelemetry"),
                OTLP_TEXT("telemetry.sdk.language", "java"),
                OTLP_TEXT("deployment.environment", "production"),
                OTLP_INT("process.pid", 4711)});
        for (size_t half = 0; half < 2; half++) {
            size_t from = half == 0 ? first : middle, to = half == 0 ? middle : last;

            otlp_scope_spans(build);
            otlp_scope(build, scopes[half], "2.9.0-alpha");
            for (size_t number = from; number < to; number++)
                realistic_span(build, seed, number, spans_per_trace);
            otlp_schema_url(build, "https://opentelemetry.io/schemas/1.24.0");
            otlp_end(build);
        }
        otlp_schema_url(build, "https://opentelemetry.io/schemas/1.24.0");
        otlp_end(build);
    }
}
