/* bench-http: sends OTLP/HTTP requests as fast as they are answered, over connections that stay.
 *
 * A few bodies are encoded (and compressed) once and sent again and again, so that the sender costs little in every
 * format; the far side must be one that remembers nothing, such as a balancer. Each connection has a thread and one
 * request under way. tailrace-load is what speaks gRPC, patches each request and keeps a ledger.
 */
#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zstd.h>

#include "bench/histogram.h"
#include "bench/json_print.h"
#include "bench/options.h"
#include "bench/template.h"
#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "proto/otlp_trace.pb-c.h"

#define ANSWER_BYTES_MAX (64 * KIB)
#define REFUSED_WAIT_US 10000
#define BODY_GZIP_LEVEL 6 /* as the SDKs' */
#define BODY_ZSTD_LEVEL 3

static struct {
    const char *endpoint, *path, *format, *encoding;
    uint64_t connections, bodies, spans_per_request, span_bytes, services;
    double seconds;
    bool tls;
} options = {.path = "/v1/traces", .format = "proto", .encoding = "none", .connections = 16, .bodies = 64,
    .spans_per_request = 68, .span_bytes = 700, .services = 5, .seconds = 5};

static const struct option_def option_table[] = {
    {"endpoint", OPTION_TEXT, &options.endpoint, "host:port to send to"},
    {"path", OPTION_TEXT, &options.path, "of the requests"},
    {"format", OPTION_TEXT, &options.format, "proto or json"},
    {"encoding", OPTION_TEXT, &options.encoding, "none, gzip or zstd"},
    {"tls", OPTION_FLAG, &options.tls, "speak TLS; the server's certificate is not checked"},
    {"connections", OPTION_U64, &options.connections, "TCP connections, each with one request under way"},
    {"bodies", OPTION_U64, &options.bodies, "different requests, sent in turn"},
    {"spans-per-request", OPTION_U64, &options.spans_per_request, "spans of one request"},
    {"span-bytes", OPTION_U64, &options.span_bytes, "mean bytes of a span's protobuf form"},
    {"services", OPTION_U64, &options.services, "services whose requests these are"},
    {"seconds", OPTION_DOUBLE, &options.seconds, "how long"},
    {NULL, OPTION_FLAG, NULL, NULL},
};

struct connection {
    pthread_t thread;
    unsigned number;
    int fd;
    SSL *ssl; /* NULL: plain */
    uint64_t requests, failed;
    struct histogram latency;
};

static struct slice *messages; /* header and body, each ready to be sent */
static uint64_t body_bytes;
static SSL_CTX *ssl_context;
static atomic_bool time_is_up;

/* -- bodies ---------------------------------------------------------------------------------------------- */

static struct buffer *body_as_json(struct slice body)
{
    Otlp__ExportTraceServiceRequest *request = otlp__export_trace_service_request__unpack(NULL, body.len, body.at);
    struct buffer *json;

    ASSERT(request);
    json = json_print(&request->base);
    otlp__export_trace_service_request__free_unpacked(request, NULL);
    return json;
}

static struct buffer *body_compressed(struct slice body)
{
    struct buffer *out = buffer_new(body.len + 64 * KIB);

    ASSERT(out);
    if (strcmp(options.encoding, "gzip") == 0) {
        struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(BODY_GZIP_LEVEL);

        ASSERT(compressor);
        out->len = libdeflate_gzip_compress(compressor, body.at, body.len, out->bytes, out->capacity);
        libdeflate_free_compressor(compressor);
    } else {
        out->len = ZSTD_compress(out->bytes, out->capacity, body.at, body.len, BODY_ZSTD_LEVEL);
        ASSERT(!ZSTD_isError(out->len));
    }
    ASSERT(out->len > 0);
    return out;
}

static struct slice message_of(struct slice body)
{
    bool plain = strcmp(options.encoding, "none") == 0;
    char *message = malloc(body.len + 512);
    int head;

    ASSERT(message);
    head = snprintf(message, 512,
        "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/%s\r\n%s%s%sContent-Length: %zu\r\n\r\n", options.path,
        options.endpoint, strcmp(options.format, "json") == 0 ? "json" : "x-protobuf", plain ? "" : "Content-Encoding: ",
        plain ? "" : options.encoding, plain ? "" : "\r\n", body.len);
    ASSERT(head > 0 && head < 512);
    memcpy(message + head, body.at, body.len);
    return slice_make(message, (size_t)head + body.len);
}

static void bodies_make(void)
{
    struct model model = {.seed = clock_now_ns(), .spans_per_trace = 15, .services = (uint32_t)options.services, .slow_ms = 1000,
        .base_unix_ns = clock_now_unix_ns(), .step_ns = 12500};
    struct model_trace *traces = calloc(options.spans_per_request + 2, sizeof(*traces));
    uint64_t next = 0;

    messages = calloc(options.bodies, sizeof(*messages));
    ASSERT(messages && traces);
    for (uint64_t i = 0; i < options.bodies; i++) {
        struct template *template = template_new(&model, (uint32_t)(i % options.services), 0, (uint32_t)options.spans_per_request,
            (uint32_t)options.span_bytes);
        struct buffer *json = NULL, *compressed = NULL;
        struct slice body = slice_make(template->bytes, template->len);

        for (uint32_t t = 0; t < template->trace_count; t++)
            traces[t] = model_trace(&model, next++);
        template_fill(template, traces, template->bytes);
        body_bytes += body.len;
        if (strcmp(options.format, "json") == 0)
            body = buffer_slice(json = body_as_json(body));
        if (strcmp(options.encoding, "none") != 0)
            body = buffer_slice(compressed = body_compressed(body));
        messages[i] = message_of(body);
        buffer_unref(json);
        buffer_unref(compressed);
        template_free(template);
    }
    free(traces);
}

/* -- one connection ------------------------------------------------------------------------------------------ */

static bool send_all(struct connection *connection, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t n = connection->ssl ? SSL_write(connection->ssl, bytes.at, (int)bytes.len)
                                    : send(connection->fd, bytes.at, bytes.len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes = slice_make(bytes.at + n, bytes.len - (size_t)n);
    }
    return true;
}

static ssize_t receive_some(struct connection *connection, char *at, size_t room)
{
    return connection->ssl ? SSL_read(connection->ssl, at, (int)room) : recv(connection->fd, at, room, 0);
}

/* Reads one answer whole. Its status, or -1 when the connection is of no more use. */
static int receive_answer(struct connection *connection)
{
    char answer[ANSWER_BYTES_MAX];
    size_t len = 0, want = 0;
    int status = -1;

    for (;;) {
        ssize_t n = receive_some(connection, answer + len, sizeof(answer) - 1 - len);
        char *end, *length;

        if (n <= 0)
            return -1;
        len += (size_t)n;
        answer[len] = '\0';
        if (want == 0) {
            end = strstr(answer, "\r\n\r\n");
            if (!end)
                continue;
            if (sscanf(answer, "HTTP/1.1 %d", &status) != 1)
                return -1;
            length = strcasestr(answer, "\r\nContent-Length:");
            if (!length || length > end)
                return -1;
            want = (size_t)(end - answer) + 4 + strtoul(length + 17, NULL, 10);
        }
        if (len >= want)
            return len == want ? status : -1;
    }
}

static bool connect_to(struct connection *connection)
{
    char host[256];
    char *colon;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int one = 1;

    (void)snprintf(host, sizeof(host), "%s", options.endpoint);
    colon = strrchr(host, ':');
    if (!colon)
        return false;
    *colon = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found))
        return false;
    connection->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, found->ai_addr, found->ai_addrlen)) {
        freeaddrinfo(found);
        return false;
    }
    freeaddrinfo(found);
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (!ssl_context)
        return true;
    connection->ssl = SSL_new(ssl_context);
    return connection->ssl && SSL_set_fd(connection->ssl, connection->fd) == 1 && SSL_connect(connection->ssl) == 1;
}

static void *connection_run(void *opaque)
{
    struct connection *connection = opaque;
    uint64_t next = connection->number;

    if (!connect_to(connection)) {
        fprintf(stderr, "bench-http: %s: cannot connect\n", options.endpoint);
        connection->failed++;
        return NULL;
    }
    while (!atomic_load_explicit(&time_is_up, memory_order_relaxed)) {
        uint64_t from_ns = clock_now_ns();
        int status = send_all(connection, messages[next++ % options.bodies]) ? receive_answer(connection) : -1;

        if (status == 200) {
            connection->requests++;
            histogram_add(&connection->latency, clock_now_ns() - from_ns);
            continue;
        }
        connection->failed++;
        if (status < 0)
            break;
        (void)usleep(REFUSED_WAIT_US);
    }
    SSL_free(connection->ssl);
    (void)close(connection->fd);
    return NULL;
}

/* -- the run --------------------------------------------------------------------------------------------------- */

static void check_options(void)
{
    const char *wrong = NULL;

    if (!options.endpoint)
        wrong = "--endpoint is missing";
    else if (strcmp(options.format, "proto") != 0 && strcmp(options.format, "json") != 0)
        wrong = "--format: proto or json";
    else if (strcmp(options.encoding, "none") != 0 && strcmp(options.encoding, "gzip") != 0 && strcmp(options.encoding, "zstd") != 0)
        wrong = "--encoding: none, gzip or zstd";
    else if (options.connections == 0 || options.connections > 1024 || options.bodies == 0 || options.bodies > 100000)
        wrong = "--connections: 1 to 1024; --bodies: 1 to 100000";
    else if (options.services == 0 || options.services > 15 || options.spans_per_request == 0 || options.span_bytes < 100)
        wrong = "--services: 1 to 15; --spans-per-request: at least 1; --span-bytes: at least 100";
    if (wrong) {
        fprintf(stderr, "bench-http: %s (try --help)\n", wrong);
        exit(2);
    }
}

static void summary(const struct connection *connections, double seconds)
{
    uint64_t requests = 0, failed = 0, wire_bytes = 0, spans;
    struct histogram *latency = calloc(1, sizeof(*latency));

    ASSERT(latency);
    for (uint64_t i = 0; i < options.connections; i++) {
        requests += connections[i].requests;
        failed += connections[i].failed;
        histogram_merge(latency, &connections[i].latency);
    }
    for (uint64_t i = 0; i < options.bodies; i++)
        wire_bytes += messages[i].len;
    spans = requests * options.spans_per_request;
    printf("{\"spans_acknowledged\": %" PRIu64 ", \"requests\": %" PRIu64 ", \"requests_failed\": %" PRIu64
        ", \"seconds\": %.3f, \"spans_per_second\": %.0f,\n \"bytes_per_span\": %.1f, \"wire_bytes_per_span\": %.1f, "
        "\"ack_ms\": {\"p50\": %.3f, \"p99\": %.3f}}\n", spans, requests, failed, seconds, (double)spans / seconds,
        (double)body_bytes / (double)(options.bodies * options.spans_per_request),
        (double)wire_bytes / (double)(options.bodies * options.spans_per_request),
        (double)histogram_quantile(latency, 0.5) / 1e6, (double)histogram_quantile(latency, 0.99) / 1e6);
    free(latency);
}

int main(int argc, char **argv)
{
    struct connection *connections;
    uint64_t from_ns, failed = 0;

    options_parse(argc, argv, "sends OTLP/HTTP requests as fast as they are answered", option_table, NULL);
    check_options();
    (void)signal(SIGPIPE, SIG_IGN); /* SSL_write has no MSG_NOSIGNAL */
    if (options.tls)
        ssl_context = SSL_CTX_new(TLS_client_method());
    ASSERT(!options.tls || ssl_context);
    bodies_make();
    connections = calloc(options.connections, sizeof(*connections));
    ASSERT(connections);
    from_ns = clock_now_ns();
    for (unsigned i = 0; i < options.connections; i++) {
        connections[i].number = i * 7;
        if (pthread_create(&connections[i].thread, NULL, connection_run, &connections[i]))
            UNREACHABLE("no thread to be had");
    }
    (void)usleep((useconds_t)(options.seconds * 1e6));
    atomic_store(&time_is_up, true);
    for (unsigned i = 0; i < options.connections; i++) {
        (void)pthread_join(connections[i].thread, NULL);
        failed += connections[i].failed;
    }
    summary(connections, (double)(clock_now_ns() - from_ns) / 1e9);
    free(connections);
    return failed > 0;
}
