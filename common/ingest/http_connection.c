/* A connection is moved by one function, connection_run, whatever happened: it takes steps until it has to wait.
 *
 *            .--------------------------- keep-alive ---------------------------.
 *            v                                                                  |
 *   (new) -> HEAD --whole--> BODY --all there--> SERVING --worker's answer--> ANSWERING --close--> LINGERING -> freed
 *             |                |                                                ^
 *             '----------------'------------------- refused -------------------'
 *
 * Input. A read goes to the home's scratch, or, where the body's length is known, straight into the body, which is the buffer that the
 * tier reads: no byte is copied twice. What a turn leaves over (half a head, a pipelined request) is saved with the connection; while
 * a request is served nothing is read, so a client that sends ahead fills its socket, and one scratch of memory of ours at most.
 * What is saved is counted with the bodies; where they leave no room the connection ends.
 *
 * Slow clients. Each state has a deadline, looked at by a sweep. A body without read_timeout must come at BODY_RATE on average.
 *
 * Age. A client that sends all the time hears of the end with an answer ("Connection: close"), for a connection closed in between may
 * meet its next request on the way, and a request without an answer is a failed one. Only one that pauses is closed without a word.
 *
 * Lingering. Closing a socket with unread input resets it, and may destroy the answer on its way: so we say that we are done, and throw
 * away what comes for a moment.
 */
#include "common/ingest/http_connection.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event_struct.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/forward.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/ingest/cors.h"
#include "common/ingest/http_answer.h"
#include "common/ingest/http_stream.h"
#include "common/run/clock.h"
#include "common/run/http_loop.h"
#include "common/security/auth.h"

#define INPUT_BYTES (128 * KIB)              /* a saved head, and as much again from the socket */
#define BODY_FIRST_BYTES (256 * KIB)         /* set aside at once; more as it comes, so that announcing a body costs us nothing */
#define STEPS_A_TURN 64u                     /* of one connection, before others have theirs */
#define HEADER_TIMEOUT_NS (10 * NS_PER_S)    /* where the user has set none */
#define BODY_GRACE_NS (30 * NS_PER_S)        /* a body may be slow for so long … */
#define BODY_RATE (16 * KIB)                 /* … and must then have come at so many bytes a second */
#define WRITE_TIMEOUT_NS (30 * NS_PER_S)
#define IDLE_TIMEOUT_NS (60 * NS_PER_S)
#define PAUSE_NS (1 * NS_PER_S)              /* idle for so long, an aged connection ends without waiting for a request */
#define LINGER_NS (1 * NS_PER_S)             /* until the client closes too */
#define LINGER_UNREAD_NS (5 * NS_PER_S)      /* while it still sends what was refused */
#define CORS_LINES_BYTES 4096

enum connection_state { CONNECTION_HEAD, CONNECTION_BODY, CONNECTION_SERVING, CONNECTION_ANSWERING, CONNECTION_LINGERING };

struct http_connection {
    struct request request;
    struct mail mail; /* to the worker, and back */
    struct list node, again;
    struct http_home *home;
    struct http_stream stream;
    struct event readable, writable;
    bool reading, writing; /* these events are added */
    enum connection_state state;
    uint64_t deadline_ns, close_after_ns, idle_since_ns;
    /* input not used yet: in the home's scratch during a turn, in saved between turns */
    struct slice in;
    uint8_t *saved;
    size_t saved_len;    /* of options.admission too */
    bool in_scratch;
    size_t scanned;
    /* the request being received */
    uint64_t begun_ns;   /* its first byte; 0: none yet */
    enum http_format format;
    enum http_coding coding;
    bool keep_alive, chunked, head_only, old_client, unread;
    uint64_t body_left, body_limit;
    struct http_chunks chunks;
    struct buffer *body;
    uint64_t admitted;   /* of options.admission */
    char *cors_lines;
    /* its answer */
    int status;
    uint64_t retry_ns;
    struct buffer *answer;
    bool in_call, answered; /* the worker's */
    bool dead;           /* the socket is closed; the struct waits for the worker's answer */
    uint8_t *output;     /* what the socket did not take */
    size_t output_len, output_at;
};

enum step { STEP_ON, STEP_WAIT, STEP_SERVE /* to a worker */, STEP_GONE /* freed */ };

static void connection_run(struct http_connection *connection);
static const struct transport transport_http;

static const struct receiver_http_options *options_of(const struct http_connection *connection)
{
    return &connection->home->service->options;
}

/* -- life ------------------------------------------------------------------------------------------------------------------------ */

static void drop_body(struct http_connection *connection)
{
    buffer_unref(steal(&connection->body));
    if (connection->admitted > 0)
        admission_give(options_of(connection)->admission, connection->admitted);
    connection->admitted = 0;
}

static void drop_saved(struct http_connection *connection)
{
    free(steal(&connection->saved));
    if (connection->saved_len > 0)
        admission_give(options_of(connection)->admission, connection->saved_len);
    connection->saved_len = 0;
}

/* What belongs to one request and its answer. */
static void forget_request(struct http_connection *connection)
{
    drop_body(connection);
    buffer_unref(steal(&connection->answer));
    metadata_set_unref(connection->request.metadata);
    connection->request.metadata = NULL;
    free(steal(&connection->cors_lines));
    free(steal(&connection->output));
    connection->begun_ns = 0;
    connection->scanned = 0;
    connection->format = HTTP_TEXT;
    connection->unread = connection->head_only = false;
}

static void close_socket(struct http_connection *connection)
{
    if (connection->reading)
        (void)event_del(&connection->readable);
    if (connection->writing)
        (void)event_del(&connection->writable);
    connection->reading = connection->writing = false;
    http_stream_close(&connection->stream);
}

static void connection_free(struct http_connection *connection)
{
    struct http_home *home = connection->home;

    close_socket(connection);
    forget_request(connection);
    drop_saved(connection);
    list_del(&connection->node);
    if (list_linked(&connection->again))
        list_del(&connection->again);
    free(connection);
    home->connection_count--;
    metric_set(home->cell, METRIC_HTTP_CONNECTIONS, home->connection_count);
    if (home->draining && home->connection_count == 0)
        home->on_empty(home);
}

/* Now, or with the worker's answer. */
static void connection_end(struct http_connection *connection)
{
    if (connection->state != CONNECTION_SERVING) {
        connection_free(connection);
        return;
    }
    close_socket(connection);
    connection->dead = true;
}

/* -- answers ---------------------------------------------------------------------------------------------------------------------- */

static const char *date_of(struct http_home *home)
{
    struct tm parts;
    time_t now;

    if (home->now_ns >= home->date_until_ns) {
        now = (time_t)(clock_now_unix_ns() / NS_PER_S);
        (void)gmtime_r(&now, &parts);
        (void)strftime(home->date, sizeof(home->date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        home->date_until_ns = home->now_ns + NS_PER_S / 2;
    }
    return home->date;
}

static void compose(struct http_connection *connection)
{
    struct http_home *home = connection->home;
    const struct receiver_http_options *options = options_of(connection);
    struct text *out = &home->output;
    struct slice body = connection->answer ? buffer_slice(connection->answer) : (struct slice){NULL, 0};
    uint64_t retry_s = http_retry_after_s(connection->status, connection->retry_ns);

    text_clear(out);
    text_append(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", connection->status, http_reason(connection->status), date_of(home));
    if (connection->status != 204)
        text_append(out, "Content-Type: %s\r\nContent-Length: %zu\r\n", http_content_type(connection->format), body.len);
    if (retry_s > 0)
        text_append(out, "Retry-After: %" PRIu64 "\r\n", retry_s);
    if (connection->status == 401 && options->challenge)
        text_append(out, "WWW-Authenticate: %s\r\n", options->challenge);
    if (connection->status == 405)
        text_append(out, "Allow: POST%s\r\n", options->cors && options->cors->allowed_origins.count > 0 ? ", OPTIONS" : "");
    if (!connection->keep_alive)
        text_append(out, "Connection: close\r\n");
    else if (connection->old_client)
        text_append(out, "Connection: keep-alive\r\n");
    if (UNLIKELY(atomic_load_explicit(&home->service->draining, memory_order_relaxed)))
        text_append(out, "tailrace-state: draining\r\n");
    text_append(out, "%s%s\r\n", home->service->header_lines, connection->cors_lines ? connection->cors_lines : "");
    if (!connection->head_only)
        text_append_slice(out, body);
}

static uint64_t or_own(uint64_t asked_ns, uint64_t own_ns)
{
    return asked_ns > 0 ? asked_ns : own_ns;
}

/* The answer is complete but for its bytes on the wire. */
static enum step begin_answer(struct http_connection *connection)
{
    struct http_home *home = connection->home;

    connection->state = CONNECTION_ANSWERING;
    connection->keep_alive = connection->keep_alive && !connection->unread && !home->draining && home->now_ns < connection->close_after_ns;
    connection->deadline_ns = home->now_ns + or_own(options_of(connection)->write_timeout_ns, WRITE_TIMEOUT_NS);
    compose(connection);
    if (home->output.failed) {
        connection_free(connection);
        return STEP_GONE;
    }
    connection->output_len = home->output.len;
    connection->output_at = 0;
    return STEP_ON;
}

/* Input that belongs to the refused request and is here already is passed over; otherwise the connection cannot go on after it. */
static void pass_over_body(struct http_connection *connection)
{
    if (!connection->chunked && connection->body_left <= connection->in.len) {
        connection->in = slice_make(connection->in.at + connection->body_left, connection->in.len - (size_t)connection->body_left);
        connection->body_left = 0;
    } else {
        connection->unread = true;
    }
}

#define UNCOUNTED REFUSAL_COUNT

/* Answers here and now, with a status of HTTP's. refusal: the counter. */
static enum step refuse(struct http_connection *connection, int status, enum refusal refusal, const struct answer_status *why)
{
    if (refusal != UNCOUNTED)
        metric_add(connection->home->cell, refusal_metric(refusal), 1);
    pass_over_body(connection);
    drop_body(connection);
    connection->status = status;
    connection->retry_ns = why->retry_ns;
    connection->answer = http_refusal_body(connection->format, why);
    return begin_answer(connection);
}

static enum step refuse_text(struct http_connection *connection, int status, enum refusal refusal, const char *message)
{
    const struct answer_status why = {RPC_INVALID_ARGUMENT, 0, message};

    connection->format = HTTP_TEXT;
    return refuse(connection, status, refusal, &why);
}

/* As a tier would have refused it. */
static enum step refuse_as(struct http_connection *connection, enum refusal refusal, const char *message)
{
    struct answer_status why = refusal_status(refusal);

    if (message)
        why.message = message;
    return refuse(connection, http_status_of(&why), refusal, &why);
}

/* Where the end of this request is cannot be known: the connection ends with the answer. */
static enum step refuse_broken(struct http_connection *connection, int status, enum refusal refusal, const char *message)
{
    const struct answer_status why = {RPC_INVALID_ARGUMENT, 0, message};

    connection->unread = true;
    return refuse(connection, status, refusal, &why);
}

/* The first request, or the next one: within timeout_ns. */
static void await_request(struct http_connection *connection, uint64_t timeout_ns)
{
    connection->state = CONNECTION_HEAD;
    connection->idle_since_ns = connection->home->now_ns;
    connection->deadline_ns = connection->home->now_ns + timeout_ns;
}

static enum step answered(struct http_connection *connection)
{
    bool keep_alive = connection->keep_alive, unread = connection->unread;

    forget_request(connection);
    if (keep_alive) {
        await_request(connection, or_own(options_of(connection)->idle_timeout_ns, IDLE_TIMEOUT_NS));
        return STEP_ON;
    }
    http_stream_finish(&connection->stream);
    connection->state = CONNECTION_LINGERING;
    connection->deadline_ns = connection->home->now_ns + (unread ? LINGER_UNREAD_NS : LINGER_NS);
    connection->in.len = 0;
    return STEP_ON;
}

static enum step step_answer(struct http_connection *connection)
{
    struct http_home *home = connection->home;

    while (connection->output_at < connection->output_len) {
        const uint8_t *from = connection->output ? connection->output : (const uint8_t *)home->output.at;
        ssize_t n = http_stream_write(&connection->stream,
            slice_make(from + connection->output_at, connection->output_len - connection->output_at));

        if (n > 0) {
            connection->output_at += (size_t)n;
            continue;
        }
        if (n != -EAGAIN) {
            connection_free(connection);
            return STEP_GONE;
        }
        if (!connection->output) { /* the scratch is others' when they have their turn */
            connection->output = malloc(connection->output_len);
            if (!connection->output) {
                connection_free(connection);
                return STEP_GONE;
            }
            memcpy(connection->output, from, connection->output_len);
        }
        return STEP_WAIT;
    }
    return answered(connection);
}

/* -- the worker's part ---------------------------------------------------------------------------------------------------------------- */

static void connection_on_answer(struct mail *mail, void *receiver)
{
    struct http_connection *connection = container_of(mail, struct http_connection, mail);

    (void)receiver;
    connection->home->now_ns = clock_now_ns();
    if (connection->dead) {
        connection_free(connection);
        return;
    }
    if (begin_answer(connection) == STEP_ON)
        connection_run(connection);
}

/* On the worker. Inside on_request the answer waits for its return: until then the tier may look at the request. */
static void answer_home(struct http_connection *connection)
{
    metric_add(connection->request.worker->metrics, METRIC_REQUESTS_IN_FLIGHT, (uint64_t)0 - 1);
    connection->answered = true;
    if (connection->in_call)
        return;
    connection->mail.deliver = connection_on_answer;
    http_loop_post(connection->home->loop, &connection->mail);
}

static void http_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer)
{
    struct http_connection *connection = container_of(request, struct http_connection, request);

    (void)rejected;
    (void)send_trailer; /* balancers call over gRPC */
    ASSERT(!connection->answered);
    connection->status = 200;
    if (rejected_count > 0 || connection->format != HTTP_PROTOBUF)
        connection->answer = http_success_body(connection->format, rejected_count, message);
    answer_home(connection);
}

static void http_refuse(struct request *request, struct answer_status status)
{
    struct http_connection *connection = container_of(request, struct http_connection, request);

    ASSERT(!connection->answered);
    connection->status = http_status_of(&status);
    connection->retry_ns = status.retry_ns;
    connection->answer = http_refusal_body(connection->format, &status);
    answer_home(connection);
}

static const struct transport transport_http = {
    .settle = http_settle,
    .refuse = http_refuse,
    .accepted_spans = METRIC_ACCEPTED_SPANS_HTTP,
    .refused_spans = METRIC_REFUSED_SPANS_HTTP,
};

static void worker_on_request(struct mail *mail, void *receiver)
{
    struct http_connection *connection = container_of(mail, struct http_connection, mail);
    struct worker *worker = receiver;
    const struct tier_entry *entry = &connection->home->service->entry;

    metric_add(worker->metrics, METRIC_REQUESTS_IN_FLIGHT, 1);
    connection->request.worker = worker;
    connection->request.received_ns = worker->now_ns;
    connection->in_call = true;
    entry->on_request(entry->tier, &connection->request);
    connection->in_call = false;
    connection->request.bytes = (struct slice){NULL, 0};
    connection->request.body = NULL;
    drop_body(connection); /* goes now, although the answer may be far away; a tier that holds it counts it */
    if (connection->answered) {
        connection->mail.deliver = connection_on_answer;
        http_loop_post(connection->home->loop, &connection->mail);
    }
}

static enum step hand_over(struct http_connection *connection)
{
    struct http_home *home = connection->home;
    struct request *request = &connection->request;

    connection->state = CONNECTION_SERVING;
    connection->answered = false;
    connection->retry_ns = 0;
    connection->deadline_ns = UINT64_MAX;
    request->transport = &transport_http;
    request->body = connection->body;
    request->bytes = buffer_slice(connection->body);
    request->deadline_ns = UINT64_MAX;
    metric_add(home->cell, METRIC_REQUEST_BYTES, request->bytes.len);
    connection->mail.deliver = worker_on_request;
    return STEP_SERVE;
}

/* -- bodies --------------------------------------------------------------------------------------------------------------------------- */

/* Counts the body's memory as `bytes`. False: the node has no room for it. */
static bool admit(struct http_connection *connection, uint64_t bytes)
{
    struct admission *admission = options_of(connection)->admission;

    if (bytes > connection->admitted &&
        !admission_grow(admission, connection->admitted + connection->saved_len, bytes - connection->admitted))
        return false;
    if (bytes < connection->admitted)
        admission_give(admission, connection->admitted - bytes);
    connection->admitted = bytes;
    return true;
}

/* Room for at least one byte more of a body that may have body_limit bytes. */
static bool body_room(struct http_connection *connection)
{
    size_t capacity = connection->body ? connection->body->capacity : 0, limit = (size_t)connection->body_limit;
    struct buffer *grown;

    if (connection->body && connection->body->len < capacity)
        return true;
    capacity = size_min(limit, capacity ? 2 * capacity : connection->chunked ? 16 * KIB : BODY_FIRST_BYTES);
    if (!admit(connection, capacity))
        return false;
    grown = connection->body ? buffer_grow(connection->body, capacity) : buffer_new(capacity);
    if (grown)
        connection->body = grown;
    return grown != NULL;
}

static void body_deadline(struct http_connection *connection)
{
    uint64_t came = connection->body ? connection->body->len : 0;

    if (options_of(connection)->read_timeout_ns == 0)
        connection->deadline_ns = connection->begun_ns + BODY_GRACE_NS + came * NS_PER_S / BODY_RATE;
}

static enum step body_whole(struct http_connection *connection)
{
    struct http_body_error error;
    struct buffer *body = steal(&connection->body);

    connection->chunked = false;
    if (!body)
        body = buffer_new(0);
    if (body && (connection->coding != HTTP_IDENTITY || connection->format == HTTP_JSON)) {
        body = http_body_read(connection->home->reader, body, connection->coding, connection->format == HTTP_JSON,
            (size_t)options_of(connection)->max_request_body_bytes, &error);
        if (!body)
            return refuse_as(connection, error.refusal, error.message);
    }
    connection->body = body;
    if (!body || !admit(connection, body->capacity))
        return refuse_as(connection, REFUSED_MEMORY, NULL);
    return hand_over(connection);
}

/* Bytes of a body that lie in the scratch. UNCOUNTED: taken; else why not. */
static enum refusal body_append(struct http_connection *connection, struct slice bytes)
{
    while (bytes.len > 0) {
        size_t n;

        if (connection->body && connection->body->len == connection->body_limit)
            return REFUSED_TOO_LARGE;
        if (!body_room(connection))
            return REFUSED_MEMORY;
        n = size_min(bytes.len, connection->body->capacity - connection->body->len);
        memcpy(connection->body->bytes + connection->body->len, bytes.at, n);
        connection->body->len += n;
        bytes = slice_make(bytes.at + n, bytes.len - n);
    }
    return UNCOUNTED;
}

#define TOO_LARGE "the body is larger than max_request_body_size"

static enum step fill(struct http_connection *connection);

static enum step step_chunks(struct http_connection *connection)
{
    for (;;) {
        struct slice data;
        size_t taken = 0;
        enum refusal why;
        enum http_chunk what = http_chunks_read(&connection->chunks, connection->in, &taken, &data);

        connection->in = slice_make(connection->in.at + taken, connection->in.len - taken);
        switch (what) {
        case HTTP_CHUNK_DATA:
            why = body_append(connection, data);
            if (why != UNCOUNTED)
                return refuse_as(connection, why, why == REFUSED_TOO_LARGE ? TOO_LARGE : NULL);
            break;
        case HTTP_CHUNK_END:
            return body_whole(connection);
        case HTTP_CHUNK_BAD:
            return refuse_broken(connection, 400, REFUSED_MALFORMED, "the body is not in chunks as HTTP defines them");
        case HTTP_CHUNK_MORE:
            body_deadline(connection);
            return fill(connection);
        }
    }
}

static enum step input_ended(struct http_connection *connection);

static enum step step_body(struct http_connection *connection)
{
    ssize_t n;

    if (connection->chunked)
        return step_chunks(connection);
    if (connection->in.len > 0 && connection->body_left > 0) {
        size_t here = (size_t)u64_min(connection->in.len, connection->body_left);

        if (body_append(connection, slice_make(connection->in.at, here)) != UNCOUNTED)
            return refuse_as(connection, REFUSED_MEMORY, NULL);
        connection->in = slice_make(connection->in.at + here, connection->in.len - here);
        connection->body_left -= here;
    }
    if (connection->body_left == 0)
        return body_whole(connection);
    if (!body_room(connection))
        return refuse_as(connection, REFUSED_MEMORY, NULL);
    n = http_stream_read(&connection->stream, connection->body->bytes + connection->body->len,
        connection->body->capacity - connection->body->len);
    if (n <= 0) {
        if (n == 0)
            return input_ended(connection);
        if (n == -EAGAIN)
            return STEP_WAIT;
        connection_free(connection);
        return STEP_GONE;
    }
    connection->body->len += (size_t)n;
    connection->body_left -= (size_t)n;
    body_deadline(connection);
    return STEP_ON;
}

/* -- heads ----------------------------------------------------------------------------------------------------------------------------- */

/* Media types in any case, parameters ignored. */
static enum http_format format_of(struct slice type)
{
    static const char protobuf[] = "application/x-protobuf", json[] = "application/json";
    size_t len = 0;

    while (len < type.len && type.at[len] != ';')
        len++;
    while (len > 0 && (type.at[len - 1] == ' ' || type.at[len - 1] == '\t'))
        len--;
    if (len == sizeof(protobuf) - 1 && strncasecmp((const char *)type.at, protobuf, len) == 0)
        return HTTP_PROTOBUF;
    if (len == sizeof(json) - 1 && strncasecmp((const char *)type.at, json, len) == 0)
        return HTTP_JSON;
    return HTTP_TEXT;
}

static void note_cors(struct http_connection *connection, bool preflight)
{
    const struct cors_config *cors = options_of(connection)->cors;
    const struct http_head *head = &connection->home->head;
    char *lines;
    size_t len;

    if (!cors || cors->allowed_origins.count == 0)
        return;
    lines = malloc(CORS_LINES_BYTES + 1);
    if (!lines)
        return; /* the browser will not let its page read the answer */
    len = preflight ? cors_preflight_headers(cors, head, lines, CORS_LINES_BYTES) : cors_headers(cors, head, lines, CORS_LINES_BYTES);
    lines[len] = '\0';
    connection->cors_lines = lines;
}

/* 0, METADATA_E_TOO_LARGE or -ENOMEM. */
static int note_metadata(struct http_connection *connection)
{
    const struct forward *forward = options_of(connection)->forward;
    const struct http_head *head = &connection->home->head;
    struct metadata_entry entries[METADATA_PAIRS_MAX + 1];
    struct metadata_set *set = NULL;
    size_t count = 0;
    int r;

    for (size_t i = 0; forward && i < head->header_count && count <= METADATA_PAIRS_MAX; i++) {
        if (forward_wants(forward, head->headers[i].name))
            entries[count++] = (struct metadata_entry){head->headers[i].name, head->headers[i].value};
    }
    r = count > 0 ? metadata_set_new(entries, count, &set) : 0;
    connection->request.metadata = set;
    return r;
}

static enum step begin_body(struct http_connection *connection)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const struct receiver_http_options *options = options_of(connection);

    connection->state = CONNECTION_BODY;
    connection->body_limit = connection->chunked ? options->max_request_body_bytes : connection->body_left;
    connection->chunks = (struct http_chunks){.state = CHUNK_SIZE_FIRST};
    connection->deadline_ns = connection->begun_ns + options->read_timeout_ns;
    body_deadline(connection);
    if (connection->home->head.expect_continue && connection->in.len == 0 && (connection->chunked || connection->body_left > 0) &&
        http_stream_write(&connection->stream, slice_make(go_on, sizeof(go_on) - 1)) != (ssize_t)sizeof(go_on) - 1) {
        connection_free(connection); /* nothing else waits to be sent: a socket that does not take this is broken */
        return STEP_GONE;
    }
    return STEP_ON;
}

/* Several values of the header are no credential. */
static bool authenticated(const struct http_connection *connection)
{
    struct auth *auth = options_of(connection)->auth;
    const struct http_head *head = &connection->home->head;
    struct slice value = {NULL, 0};
    unsigned found = 0;

    if (!auth)
        return true;
    for (size_t i = 0; i < head->header_count; i++) {
        if (http_same_word(head->headers[i].name, auth_header_name(auth))) {
            value = head->headers[i].value;
            found++;
        }
    }
    return found == 1 && auth_check(auth, value);
}

/* Everything that can be said before the body is there: who, where, how, what, how much. */
static enum step judge_head(struct http_connection *connection)
{
    const struct receiver_http_options *options = options_of(connection);
    const struct http_head *head = &connection->home->head;

    if (!authenticated(connection))
        return refuse_as(connection, REFUSED_UNAUTHENTICATED, NULL);
    if (!slice_equal(head->path, slice_text(options->traces_url_path))) {
        metric_add(connection->home->cell, METRIC_UNKNOWN_METHOD, 1);
        return refuse_text(connection, 404, UNCOUNTED, "404 not found: traces have a path of their own here (traces_url_path)");
    }
    if (!slice_equal(head->method, SLICE_LITERAL("POST"))) {
        metric_add(connection->home->cell, METRIC_UNKNOWN_METHOD, 1);
        return refuse_text(connection, 405, UNCOUNTED, "405 method not allowed, supported: [POST]");
    }
    metric_add(connection->home->cell, METRIC_REQUESTS, 1);
    if (connection->format == HTTP_TEXT)
        return refuse_text(connection, 415, REFUSED_CONTENT_TYPE,
            "415 unsupported media type, supported: [application/json, application/x-protobuf]");
    if (!http_coding_of(http_head_value(head, "content-encoding"), &connection->coding))
        return refuse_as(connection, REFUSED_ENCODING, "unknown Content-Encoding: identity, gzip, zstd, deflate and zlib are known");
    if (connection->body_left > options->max_request_body_bytes)
        return refuse_as(connection, REFUSED_TOO_LARGE, TOO_LARGE);
    switch (note_metadata(connection)) {
    case 0:
        return begin_body(connection);
    case METADATA_E_TOO_LARGE:
        return refuse_broken(connection, 431, REFUSED_TOO_LARGE, "the forwarded headers are larger than 8 KiB, or more than 32");
    default:
        return refuse_as(connection, REFUSED_MEMORY, NULL);
    }
}

static enum step take_head(struct http_connection *connection, size_t len)
{
    struct http_head *head = &connection->home->head;
    const struct receiver_http_options *options = options_of(connection);
    int status = http_head_parse(slice_make(connection->in.at, len), head);

    connection->in = slice_make(connection->in.at + len, connection->in.len - len);
    if (status)
        return refuse_broken(connection, status, status == 431 ? REFUSED_TOO_LARGE : REFUSED_MALFORMED, head->error);
    connection->keep_alive = head->keep_alive && options->keep_alives_enabled;
    connection->old_client = head->minor == 0;
    connection->head_only = slice_equal(head->method, SLICE_LITERAL("HEAD"));
    connection->chunked = head->chunked;
    connection->body_left = head->content_length;
    if (options->cors && cors_is_preflight(options->cors, head)) {
        note_cors(connection, true);
        pass_over_body(connection);
        connection->status = 204;
        return begin_answer(connection);
    }
    note_cors(connection, false);
    connection->format = format_of(http_head_value(head, "content-type"));
    return judge_head(connection);
}

static enum step step_head(struct http_connection *connection)
{
    struct http_home *home = connection->home;
    const struct receiver_http_options *options = options_of(connection);
    size_t len = 0;

    while (connection->scanned == 0 && connection->in.len >= 2 && memcmp(connection->in.at, "\r\n", 2) == 0)
        connection->in = slice_make(connection->in.at + 2, connection->in.len - 2);
    if (connection->in.len == 0)
        return fill(connection);
    if (connection->begun_ns == 0) {
        uint64_t read_ns = options->read_timeout_ns > 0 ? options->read_timeout_ns : UINT64_MAX;

        connection->begun_ns = home->now_ns;
        connection->keep_alive = connection->chunked = false;
        connection->body_left = 0;
        connection->deadline_ns = home->now_ns + u64_min(or_own(options->read_header_timeout_ns, HEADER_TIMEOUT_NS), read_ns);
    }
    switch (http_head_find(connection->in, &connection->scanned, &len)) {
    case 0:
        if (len <= HTTP_HEAD_BYTES_MAX)
            return take_head(connection, len);
        break;
    case HTTP_HEAD_E_BAD:
        return refuse_broken(connection, 400, REFUSED_MALFORMED, "this is no HTTP/1.1 request: a line did not end with CRLF, or TLS came to a plain port");
    default:
        if (connection->in.len < HTTP_HEAD_BYTES_MAX)
            return fill(connection);
        break;
    }
    return refuse_broken(connection, 431, REFUSED_TOO_LARGE, "the headers are larger than 64 KiB");
}

/* -- input --------------------------------------------------------------------------------------------------------------------------------- */

static enum step input_ended(struct http_connection *connection)
{
    if (connection->state == CONNECTION_HEAD && connection->in.len == 0) {
        connection_free(connection);
        return STEP_GONE;
    }
    /* Perhaps only its sending half is closed. */
    return refuse_broken(connection, 400, REFUSED_MALFORMED, "the request ended early");
}

/* Reads behind what is there. */
static enum step fill(struct http_connection *connection)
{
    struct http_home *home = connection->home;
    ssize_t n;

    ASSERT(connection->in.len < INPUT_BYTES);
    if (connection->in.len > 0 && connection->in.at != home->input)
        memmove(home->input, connection->in.at, connection->in.len);
    connection->in.at = home->input;
    connection->in_scratch = true;
    n = http_stream_read(&connection->stream, home->input + connection->in.len, INPUT_BYTES - connection->in.len);
    if (n > 0) {
        connection->in.len += (size_t)n;
        return STEP_ON;
    }
    if (n == 0)
        return input_ended(connection);
    if (n == -EAGAIN)
        return STEP_WAIT;
    connection_free(connection);
    return STEP_GONE;
}

static enum step step_linger(struct http_connection *connection)
{
    ssize_t n = http_stream_discard(&connection->stream, connection->home->input, INPUT_BYTES);

    if (n > 0)
        return STEP_ON;
    if (n == -EAGAIN)
        return STEP_WAIT;
    connection_free(connection);
    return STEP_GONE;
}

/* Between turns the scratch is others'. False: there is no room for what lies there. */
static bool save_input(struct http_connection *connection)
{
    const uint8_t *from = connection->in.at;
    size_t len = connection->in.len;
    uint8_t *saved;

    if (len > 0 && !connection->in_scratch) /* nothing was read since */
        return true;
    connection->in_scratch = false;
    drop_saved(connection);
    connection->in.at = NULL;
    if (len == 0)
        return true;
    if (!admission_grow(options_of(connection)->admission, connection->admitted, len))
        return false;
    connection->saved_len = len;
    saved = malloc(len);
    if (!saved)
        return false;
    memcpy(saved, from, len);
    connection->saved = saved;
    connection->in.at = saved;
    return true;
}

/* -- turns ---------------------------------------------------------------------------------------------------------------------------------- */

static void watch(struct event *event, bool *added, bool wanted)
{
    if (wanted == *added)
        return;
    *added = wanted;
    if (wanted)
        (void)event_add(event, NULL);
    else
        (void)event_del(event);
}

static void watch_socket(struct http_connection *connection)
{
    bool output = connection->state == CONNECTION_ANSWERING;
    const struct http_stream *stream = &connection->stream;

    /* While a request is served the socket stays watched, until something comes: for most clients nothing does. */
    if (connection->state == CONNECTION_SERVING)
        return;
    watch(&connection->readable, &connection->reading, output ? stream->wants_read : !stream->wants_write);
    watch(&connection->writable, &connection->writing, stream->wants_write);
}

static enum step connection_step(struct http_connection *connection)
{
    switch (connection->state) {
    case CONNECTION_HEAD:
        return step_head(connection);
    case CONNECTION_BODY:
        return step_body(connection);
    case CONNECTION_SERVING:
        return STEP_WAIT;
    case CONNECTION_ANSWERING:
        return step_answer(connection);
    case CONNECTION_LINGERING:
        return step_linger(connection);
    }
    return STEP_WAIT;
}

static void connection_run(struct http_connection *connection)
{
    struct http_home *home = connection->home;
    enum step step = STEP_ON;

    for (unsigned steps = 0; step == STEP_ON && (steps < STEPS_A_TURN || connection->state == CONNECTION_ANSWERING); steps++)
        step = connection_step(connection);
    if (step == STEP_GONE)
        return;
    if (!save_input(connection)) {
        metric_add(home->cell, refusal_metric(REFUSED_MEMORY), 1);
        connection_free(connection);
        return;
    }
    if (step == STEP_ON && !list_linked(&connection->again)) {
        const struct timeval now = {0, 0};

        list_add_tail(&home->again, &connection->again);
        (void)event_add(home->again_timer, &now);
    }
    watch_socket(connection);
    if (step == STEP_SERVE) /* last: the worker may be faster than we are */
        worker_post(home->service->workers[home->next_worker++ % home->service->worker_count], &connection->mail);
}

static void connection_on_socket(evutil_socket_t fd, short what, void *argument)
{
    struct http_connection *connection = argument;

    (void)fd;
    connection->home->now_ns = clock_now_ns();
    if (connection->state == CONNECTION_SERVING) { /* more input, or the client has gone: seen after the answer */
        watch(what & EV_READ ? &connection->readable : &connection->writable,
            what & EV_READ ? &connection->reading : &connection->writing, false);
        return;
    }
    connection_run(connection);
}

static void home_on_again(evutil_socket_t fd, short what, void *argument)
{
    struct http_home *home = argument;
    struct list batch, *node;

    (void)fd;
    (void)what;
    list_init(&batch);
    list_splice_tail(&batch, &home->again);
    home->now_ns = clock_now_ns();
    while ((node = list_take_first(&batch)))
        connection_run(container_of(node, struct http_connection, again));
}

/* -- the home --------------------------------------------------------------------------------------------------------------------------------- */

int http_home_init(struct http_home *home, const struct http_service *service, struct http_loop *loop, struct metrics_cell *cell)
{
    home->service = service;
    home->loop = loop;
    home->cell = cell;
    home->jitter = clock_now_ns() | 1;
    list_init(&home->connections);
    list_init(&home->again);
    home->input = malloc(INPUT_BYTES);
    home->reader = http_body_reader_new();
    home->again_timer = event_new(http_loop_base(loop), -1, 0, home_on_again, home);
    return home->input && home->reader && home->again_timer ? 0 : error_raise(-ENOMEM);
}

void http_home_deinit(struct http_home *home)
{
    home->draining = false; /* nobody waits any more */
    LIST_FOR_EACH_SAFE(node, following, &home->connections) {
        connection_free(container_of(node, struct http_connection, node));
    }
    if (home->again_timer)
        event_free(home->again_timer);
    http_body_reader_free(home->reader);
    text_deinit(&home->output);
    free(home->input);
}

/* Up to a tenth more or less, so that clients which came together do not leave together. */
static uint64_t age_of(struct http_home *home)
{
    uint64_t age_ns = home->service->options.max_connection_age_ns;

    if (age_ns == 0)
        return UINT64_MAX;
    home->jitter ^= home->jitter << 13;
    home->jitter ^= home->jitter >> 7;
    home->jitter ^= home->jitter << 17;
    return age_ns - age_ns / 10 + home->jitter % (age_ns / 5 + 1);
}

void http_home_adopt(struct http_home *home, int fd)
{
    const struct receiver_http_options *options = &home->service->options;
    struct http_connection *connection = home->draining ? NULL : calloc(1, sizeof(*connection));
    struct event_base *base = http_loop_base(home->loop);
    const int one = 1;

    if (!connection) {
        close(fd);
        return;
    }
    if (http_stream_init(&connection->stream, fd, options->tls)) {
        free(connection);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    home->now_ns = clock_now_ns();
    connection->home = home;
    connection->close_after_ns = u64_add_cap(home->now_ns, age_of(home));
    (void)event_assign(&connection->readable, base, fd, EV_READ | EV_PERSIST, connection_on_socket, connection);
    (void)event_assign(&connection->writable, base, fd, EV_WRITE | EV_PERSIST, connection_on_socket, connection);
    list_add_tail(&home->connections, &connection->node);
    home->connection_count++;
    metric_set(home->cell, METRIC_HTTP_CONNECTIONS, home->connection_count);
    await_request(connection, or_own(options->read_header_timeout_ns, HEADER_TIMEOUT_NS));
    connection_run(connection);
}

static bool is_idle(const struct http_connection *connection)
{
    return connection->state == CONNECTION_HEAD && connection->in.len == 0;
}

static bool has_come_more(const struct http_connection *connection)
{
    char byte;

    return recv(connection->stream.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0 || http_stream_has_part(&connection->stream);
}

/* A request that has come already is still served, though it lies in the socket, or TLS has a part of its first record: its answer says
 * that the connection ends, where it does. It has as long as any head; bytes that never become one (records of TLS without content)
 * do not keep the connection. */
static void close_idle(struct http_connection *connection)
{
    uint64_t now_ns = connection->home->now_ns;

    if (now_ns >= connection->deadline_ns + PAUSE_NS || !has_come_more(connection)) {
        connection_free(connection);
        return;
    }
    connection->deadline_ns =
        u64_min(connection->deadline_ns, now_ns + or_own(options_of(connection)->read_header_timeout_ns, HEADER_TIMEOUT_NS));
}

static void connection_on_deadline(struct http_connection *connection)
{
    if (is_idle(connection)) {
        close_idle(connection);
        return;
    }
    if (connection->state != CONNECTION_HEAD && connection->state != CONNECTION_BODY) {
        connection_free(connection);
        return;
    }
    if (refuse_broken(connection, 408, REFUSED_TIMEOUT, "the request did not arrive in time") == STEP_ON)
        connection_run(connection);
}

static bool has_aged(const struct http_connection *connection, uint64_t now_ns)
{
    return now_ns >= connection->close_after_ns && now_ns >= connection->idle_since_ns + PAUSE_NS;
}

void http_home_sweep(struct http_home *home)
{
    home->now_ns = clock_now_ns();
    LIST_FOR_EACH_SAFE(node, following, &home->connections) {
        struct http_connection *connection = container_of(node, struct http_connection, node);

        if (home->now_ns >= connection->deadline_ns)
            connection_on_deadline(connection);
        else if (is_idle(connection) && (home->draining || has_aged(connection, home->now_ns)))
            close_idle(connection);
    }
}

void http_home_drain(struct http_home *home)
{
    if (home->draining)
        return;
    home->now_ns = clock_now_ns();
    LIST_FOR_EACH_SAFE(node, following, &home->connections) {
        struct http_connection *connection = container_of(node, struct http_connection, node);

        if (is_idle(connection))
            close_idle(connection);
    }
    home->draining = true;
    if (home->connection_count == 0)
        home->on_empty(home);
}

void http_home_cancel(struct http_home *home)
{
    LIST_FOR_EACH_SAFE(node, following, &home->connections) {
        connection_end(container_of(node, struct http_connection, node));
    }
}
