/* A connection out by OTLP/HTTP, on libcurl: a multi handle of its own per link, driven by an HTTP thread's loop.
 *
 *   CONNECTING --answered--> UP --no connection could be made--> DOWN --the probe connects, or a call is answered--> UP
 *                '--no connection could be made------------------^
 *
 * While it is DOWN its owner makes no calls, so the link looks by itself: a probe opens a connection (TLS included) and
 * closes it, after PROBE_FIRST_NS, then ever later up to PROBE_LAST_NS.
 *
 * Threads a call is made by its owner worker, belongs to the loop's thread from one mail to the next, and ends where it began.
 *         The link's part on the loop (struct http_pool) is made before the loop runs, and freed by its last mail.
 *
 *   worker: send ──mail──▶ loop: curl ──mail──▶ worker: done
 *   worker: cancel ─mail─▶ loop: ends it at once, if it runs ─mail─▶ worker: the call can be freed
 */
#include "common/export/link.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/base/num.h"
#include "common/export/http_answer.h"
#include "common/export/rpc_code.h"
#include "common/run/clock.h"
#include "common/run/curl_loop.h"
#include "common/run/http_loop.h"
#include "common/run/worker.h"
#include "common/security/auth.h"
#include "common/security/tls.h"

#define CONNECT_MOST_NS (10 * NS_PER_S) /* of one attempt to connect: then another address may be better */
#define PROBE_FIRST_NS NS_PER_S
#define PROBE_LAST_NS (5 * NS_PER_S)
#define HEADER_LINE_MAX (AUTH_VALUE_MAX + 256u)
#define ANSWER_FIELD_MAX 128u /* of a header of the answer that is looked at */

/* The link on its loop. */
struct http_pool {
    struct mail drop_mail;
    struct http_loop *loop;
    struct curl_loop curl_loop;
    struct list active; /* calls */
    char *url, *user_agent, *proxy_url;
    struct curl_slist *headers; /* static ones and our own */
    struct forward forward;     /* which of the clients' headers are sent on: forward_names */
    char **forward_names;       /* ends with NULL */
    char **names;               /* of the static ones, lower case: metadata does not override them; ends with NULL */
    struct tls *tls;
    struct auth *auth;
};

struct http_link {
    struct link link;
    struct worker *worker;
    struct http_pool *pool;
    unsigned refs; /* the owner's and one a call, on the worker's thread */
    bool freed;
    struct http_call *probe; /* under way or waiting; NULL: none */
    uint64_t probe_wait_ns;
};

struct http_call {
    struct mail mail;        /* to the loop, then back */
    struct mail cancel_mail; /* likewise */
    struct http_link *owner;
    struct http_pool *pool;
    struct link_call *caller; /* NULL: a probe */
    bool done, cancel_posted, cancel_back; /* on the worker */
    /* what is asked for */
    struct buffer *body;
    enum export_compression encoding;
    struct metadata_set *metadata;
    uint64_t ring, deadline_ns, wait_ns;
    /* on the loop */
    struct list node; /* in active */
    bool active;
    CURL *curl;
    struct event *timer; /* a probe's */
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char content_type[ANSWER_FIELD_MAX], retry_after[ANSWER_FIELD_MAX];
    size_t answer_len, answer_capacity;
    uint8_t *answer;
    /* what came of it */
    bool connected; /* whoever it is, someone answered */
    struct link_result result;
    char message[HTTP_MESSAGE_MAX];
};

static void call_free(struct http_call *call)
{
    buffer_unref(call->body);
    metadata_set_unref(call->metadata);
    free(call->answer);
    free(call);
}

/* -- the end of a call, on the loop --------------------------------------------------------------------------- */

static void worker_on_done(struct mail *mail, void *receiver);

static void call_finish(struct http_call *call)
{
    ASSERT(call->active);
    call->active = false;
    list_del(&call->node);
    if (call->timer)
        event_free(call->timer);
    if (call->curl) {
        (void)curl_multi_remove_handle(call->pool->curl_loop.multi, call->curl);
        curl_easy_cleanup(call->curl); /* its connection stays with the multi */
    }
    curl_slist_free_all(call->headers);
    call->timer = NULL;
    call->curl = NULL;
    call->headers = NULL;
    call->mail.deliver = worker_on_done;
    worker_post(call->owner->worker, &call->mail);
}

static void call_fail(struct http_call *call, int code, const char *what)
{
    (void)snprintf(call->message, sizeof(call->message), "%s%s%s", what, call->error[0] ? ": " : "", call->error);
    call->result = (struct link_result){.code = code, .message = slice_text(call->message)};
}

/* Without any connection made: such a link is DOWN. */
static bool is_connect_failure(const struct http_call *call, CURLcode result)
{
    curl_off_t connected_us = 0;

    switch ((int)result) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
        return true;
    case CURLE_OPERATION_TIMEDOUT: /* of the connection, or of the answer? */
        (void)curl_easy_getinfo(call->curl, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
        return connected_us == 0;
    default:
        return false;
    }
}

static void call_answered(struct http_call *call)
{
    struct http_answer answer = {
        .content_type = slice_text(call->content_type),
        .retry_after = slice_text(call->retry_after),
        .body = slice_make(call->answer, call->answer_len),
    };
    long status = 0;

    (void)curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
    answer.status = (int)status;
    http_answer_read(&answer, clock_now_unix_ns(), &call->result, call->message);
}

/* Has the backend answered, whatever became of the connection then? Its status decides, not what comes after it: a backend whose
 * answers break off, or are longer than we read, has taken what it says it took, and sending that again would double it each
 * time. A success counts only for a request that went out whole. Statuses below 200 only announce an answer. */
static bool has_answered(const struct http_call *call, CURLcode result)
{
    curl_off_t sent = 0;
    long status = 0;

    if (result == CURLE_OK || !call->caller)
        return result == CURLE_OK;
    (void)curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(call->curl, CURLINFO_SIZE_UPLOAD_T, &sent);
    return status >= 300 || (status >= 200 && sent == (curl_off_t)call->body->len);
}

static void call_ended(struct http_call *call, CURLcode result)
{
    if (has_answered(call, result)) {
        call->connected = true;
        if (call->caller)
            call_answered(call);
    } else if (result == CURLE_OUT_OF_MEMORY) {
        call_fail(call, RPC_UNAVAILABLE, "no memory");
        call->connected = true; /* says nothing of the backend */
    } else {
        call->connected = !is_connect_failure(call, result);
        call_fail(call, result == CURLE_OPERATION_TIMEDOUT ? RPC_DEADLINE_EXCEEDED : RPC_UNAVAILABLE, curl_easy_strerror(result));
    }
    call_finish(call);
}

static void on_curl_ended(void *context, CURL *curl, CURLcode result)
{
    struct http_call *call;

    (void)context;
    (void)curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)(void *)&call);
    call_ended(call, result);
}

/* -- the start of a call, on the loop -------------------------------------------------------------------------------- */

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct http_call *call = context;
    size_t len = size * count, room = HTTP_ANSWER_BODY_MAX - call->answer_len, taken = size_min(len, room);

    if (call->answer_len + taken > call->answer_capacity) {
        size_t capacity = size_min(size_max(call->answer_len + taken, 2 * call->answer_capacity), HTTP_ANSWER_BODY_MAX);
        uint8_t *grown = realloc(call->answer, capacity);

        if (!grown)
            return 0;
        call->answer = grown;
        call->answer_capacity = capacity;
    }
    if (taken > 0)
        memcpy(call->answer + call->answer_len, data, taken);
    call->answer_len += taken;
    return len <= room ? len : 0; /* enough was read: whoever sends more is not listened to */
}

/* The value of a header line when it has that name. */
static void field_take(const char *line, size_t len, const char *name, char out[ANSWER_FIELD_MAX])
{
    size_t name_len = strlen(name);

    if (len <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
        return;
    line += name_len + 1;
    len -= name_len + 1;
    while (len > 0 && isspace((unsigned char)line[0]))
        line++, len--;
    while (len > 0 && isspace((unsigned char)line[len - 1]))
        len--;
    (void)snprintf(out, ANSWER_FIELD_MAX, "%.*s", (int)size_min(len, ANSWER_FIELD_MAX), line);
}

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    struct http_call *call = context;
    size_t len = size * count;

    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) /* the answer, after one that announced it */
        call->content_type[0] = call->retry_after[0] = '\0';
    field_take(data, len, "content-type", call->content_type);
    field_take(data, len, "retry-after", call->retry_after);
    return len;
}

static bool slist_add(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer)
        *list = longer;
    return longer != NULL;
}

static bool header_add(struct curl_slist **list, struct slice key, struct slice value)
{
    char line[HEADER_LINE_MAX];

    /* An empty value is written with ';', curl's way to say so. */
    (void)snprintf(line, sizeof(line), value.len ? "%.*s: %.*s" : "%.*s;%.*s", (int)size_min(key.len, 255), (const char *)key.at,
        (int)size_min(value.len, AUTH_VALUE_MAX), (const char *)value.at);
    return slist_add(list, line);
}

static bool is_own_name(const struct http_pool *pool, struct slice key)
{
    for (char **name = pool->names; *name; name++) {
        if (slice_equal(slice_text(*name), key))
            return true;
    }
    return false;
}

/* A carried value may not end its line and begin another. */
static bool value_is_clean(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((value.at[i] < 0x20 && value.at[i] != '\t') || value.at[i] == 0x7f)
            return false;
    }
    return true;
}

static bool metadata_add(struct http_call *call)
{
    const struct metadata_set *set = call->metadata;

    for (uint32_t i = 0; set && i < set->count; i++) {
        const struct metadata_entry *entry = &set->entries[i];

        if (!forward_wants(&call->pool->forward, entry->key) || is_own_name(call->pool, entry->key) || !value_is_clean(entry->value))
            continue;
        if (!header_add(&call->headers, entry->key, entry->value))
            return false;
    }
    return true;
}

static bool headers_make(struct http_call *call)
{
    struct http_pool *pool = call->pool;
    char auth[AUTH_VALUE_MAX], ring[17];

    for (struct curl_slist *line = pool->headers; line; line = line->next) {
        if (!slist_add(&call->headers, line->data))
            return false;
    }
    if (call->encoding != COMPRESS_NONE &&
        !header_add(&call->headers, SLICE_LITERAL("Content-Encoding"), slice_text(compression_name(call->encoding))))
        return false;
    if (pool->auth && auth_header(pool->auth, auth, sizeof(auth)) &&
        !header_add(&call->headers, slice_text(auth_header_name(pool->auth)), slice_text(auth)))
        return false;
    if (call->ring) {
        (void)snprintf(ring, sizeof(ring), "%016llx", (unsigned long long)call->ring);
        if (!header_add(&call->headers, SLICE_LITERAL("tailrace-ring"), slice_text(ring)))
            return false;
    }
    return metadata_add(call);
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(curl, option, value) != CURLE_OK)                                     \
            return false;                                                                          \
    } while (0)

/* What every call has, a probe too. */
static bool curl_setup(struct http_call *call, CURL *curl, uint64_t timeout_ns)
{
    struct http_pool *pool = call->pool;

    SET(CURLOPT_PRIVATE, call);
    SET(CURLOPT_ERRORBUFFER, call->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_URL, pool->url);
    SET(CURLOPT_PROXY, pool->proxy_url ? pool->proxy_url : ""); /* "": not even the environment's */
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(u64_min(timeout_ns, CONNECT_MOST_NS) / NS_PER_MS));
    SET(CURLOPT_TIMEOUT_MS, (long)(timeout_ns / NS_PER_MS));
    if (pool->tls)
        tls_curl_setup(pool->tls, curl);
    return true;
}

static bool curl_setup_post(struct http_call *call, CURL *curl)
{
    SET(CURLOPT_HTTPHEADER, call->headers);
    SET(CURLOPT_USERAGENT, call->pool->user_agent);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body->len);
    SET(CURLOPT_POSTFIELDS, (const char *)call->body->bytes);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, call);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, call);
    return true;
}

static bool curl_setup_probe(CURL *curl)
{
    SET(CURLOPT_CONNECT_ONLY, 1L);
    SET(CURLOPT_FRESH_CONNECT, 1L);
    return true;
}
#undef SET

static bool curl_start(struct http_call *call)
{
    uint64_t timeout_ns = CONNECT_MOST_NS;

    if (call->caller) /* curl takes 0 for no limit; what fits no long is none either */
        timeout_ns = u64_min(u64_max(u64_sub_floor(call->deadline_ns, clock_now_ns()), NS_PER_MS), 86400 * NS_PER_S);
    call->curl = curl_easy_init();
    if (!call->curl || !curl_setup(call, call->curl, timeout_ns))
        return false;
    if (call->caller ? !headers_make(call) || !curl_setup_post(call, call->curl) : !curl_setup_probe(call->curl))
        return false;
    return curl_multi_add_handle(call->pool->curl_loop.multi, call->curl) == CURLM_OK;
}

static void call_start(struct http_call *call)
{
    if (curl_start(call))
        return;
    call_fail(call, RPC_UNAVAILABLE, "no memory");
    call->connected = call->caller != NULL;
    call_finish(call);
}

static void on_probe_time(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    call_start(context);
}

static void loop_on_call(struct mail *mail, void *receiver)
{
    struct http_call *call = container_of(mail, struct http_call, mail);
    struct timeval wait = {(time_t)(call->wait_ns / NS_PER_S), (suseconds_t)(call->wait_ns % NS_PER_S / 1000)};

    (void)receiver;
    call->active = true;
    list_add_tail(&call->pool->active, &call->node);
    if (call->wait_ns == 0) {
        call_start(call);
        return;
    }
    call->timer = evtimer_new(http_loop_base(call->pool->loop), on_probe_time, call);
    ASSERT(call->timer != NULL);
    ASSERT(evtimer_add(call->timer, &wait) == 0);
}

static void worker_on_cancelled(struct mail *mail, void *receiver);

static void loop_on_cancel(struct mail *mail, void *receiver)
{
    struct http_call *call = container_of(mail, struct http_call, cancel_mail);

    (void)receiver;
    if (call->active) {
        call_fail(call, RPC_CANCELLED, "cancelled");
        call->connected = true;
        call_finish(call);
    }
    call->cancel_mail.deliver = worker_on_cancelled;
    worker_post(call->owner->worker, &call->cancel_mail);
}

/* -- the link's part on the loop ------------------------------------------------------------------------------------- */

static void pool_free(struct http_pool *pool)
{
    ASSERT(list_empty(&pool->active));
    curl_loop_deinit(&pool->curl_loop);
    curl_slist_free_all(pool->headers);
    for (char **name = pool->names; name && *name; name++)
        free(*name);
    free(pool->names);
    for (char **name = pool->forward_names; name && *name; name++)
        free(*name);
    free(pool->forward_names);
    free(pool->url);
    free(pool->user_agent);
    free(pool->proxy_url);
    free(pool);
}

static void loop_on_drop(struct mail *mail, void *receiver)
{
    (void)receiver;
    pool_free(container_of(mail, struct http_pool, drop_mail));
}

static char *lower_copy(const char *text)
{
    char *copy = strdup(text);

    for (char *at = copy; at && *at; at++)
        *at = (char)tolower((unsigned char)*at);
    return copy;
}

/* What frames a request is not a client's to say. */
static const char *const framing[] = {"content-type", "content-encoding", "content-length", "transfer-encoding", "host", "connection",
    "expect", "te", "upgrade"};
#define FRAMING_COUNT (sizeof(framing) / sizeof(framing[0]))

/* The lines that every request has. A header of the user's own takes the place of ours. */
static bool pool_headers(struct http_pool *pool, const struct link_options *options)
{
    size_t count = 0, at = 0;

    for (const struct metadata_pair *pair = options->headers; pair && pair->key; pair++)
        count++;
    pool->names = calloc(count + FRAMING_COUNT + 2, sizeof(*pool->names));
    if (!pool->names || !slist_add(&pool->headers, "Expect:") || !slist_add(&pool->headers, "Content-Type: application/x-protobuf"))
        return false;
    for (const struct metadata_pair *pair = options->headers; pair && pair->key; pair++) {
        if (!header_add(&pool->headers, slice_text(pair->key), slice_text(pair->value)))
            return false;
        pool->names[at++] = lower_copy(pair->key);
    }
    for (size_t i = 0; i < FRAMING_COUNT; i++)
        pool->names[at++] = strdup(framing[i]);
    if (pool->auth)
        pool->names[at++] = strdup(auth_header_name(pool->auth));
    for (size_t i = 0; i < at; i++) {
        if (!pool->names[i])
            return false;
    }
    return true;
}

/* A copy: the pool is gone some time after its link, when the loop comes to it. */
static bool pool_forward(struct http_pool *pool, const struct forward *forward)
{
    pool->forward_names = calloc(forward->count + 1, sizeof(*pool->forward_names));
    for (size_t i = 0; pool->forward_names && i < forward->count; i++) {
        pool->forward_names[i] = strdup(forward->names[i]);
        if (!pool->forward_names[i])
            return false;
    }
    pool->forward = (struct forward){(const char *const *)pool->forward_names, forward->count};
    return pool->forward_names != NULL;
}

static bool pool_fill(struct http_pool *pool, const struct link_options *options)
{
    pool->tls = options->tls;
    pool->auth = options->auth;
    pool->url = strdup(options->address);
    pool->user_agent = strdup(options->user_agent ? options->user_agent : "tailrace-sampler/" TAILRACE_VERSION);
    pool->proxy_url = options->proxy_url ? strdup(options->proxy_url) : NULL;
    if (!pool->url || !pool->user_agent || (options->proxy_url && !pool->proxy_url))
        return false;
    return curl_loop_init(&pool->curl_loop, http_loop_base(pool->loop), on_curl_ended, pool) && pool_headers(pool, options) &&
           pool_forward(pool, &options->forward);
}

static struct http_pool *pool_new(struct http_loop *loop, const struct link_options *options)
{
    struct http_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return NULL;
    pool->loop = loop;
    list_init(&pool->active);
    if (pool_fill(pool, options))
        return pool;
    pool_free(pool);
    return NULL;
}

/* -- on the worker -------------------------------------------------------------------------------------------------- */

static void link_unref(struct http_link *link)
{
    ASSERT(link->refs > 0);
    if (--link->refs > 0)
        return;
    link->pool->drop_mail.deliver = loop_on_drop;
    http_loop_post(link->pool->loop, &link->pool->drop_mail);
    free(link);
}

static struct http_call *call_new(struct http_link *link, struct link_call *caller)
{
    struct http_call *call = calloc(1, sizeof(*call));

    ASSERT(call != NULL);
    call->owner = link;
    call->pool = link->pool;
    call->caller = caller;
    call->mail.deliver = loop_on_call;
    link->refs++;
    return call;
}

static void probe_send(struct http_link *link)
{
    struct http_call *probe = call_new(link, NULL);

    probe->wait_ns = link->probe_wait_ns;
    link->probe_wait_ns = u64_min(2 * link->probe_wait_ns, PROBE_LAST_NS);
    link->probe = probe;
    http_loop_post(link->pool->loop, &probe->mail);
}

static void link_move(struct http_link *link, enum link_state state)
{
    if (link->freed || link->link.state == state)
        return;
    link->worker->now_ns = clock_now_ns(); /* who is told wants to know when */
    link->link.state = state;
    if (state == LINK_DOWN && !link->probe) {
        link->probe_wait_ns = PROBE_FIRST_NS;
        probe_send(link);
    }
    if (link->link.on_state)
        link->link.on_state(&link->link, link->link.context, state);
}

static void call_release(struct http_call *call)
{
    struct http_link *link = call->owner;

    if (!call->done || call->cancel_posted != call->cancel_back)
        return;
    call_free(call);
    link_unref(link);
}

static void probe_done(struct http_link *link, const struct http_call *probe)
{
    link->probe = NULL;
    if (link->freed)
        return;
    if (probe->connected)
        link_move(link, LINK_UP);
    else if (link->link.state == LINK_DOWN)
        probe_send(link);
}

static void worker_on_done(struct mail *mail, void *receiver)
{
    struct http_call *call = container_of(mail, struct http_call, mail);
    struct http_link *link = call->owner;

    (void)receiver;
    call->done = true;
    if (!call->caller) {
        probe_done(link, call);
    } else {
        if (!call->cancel_posted)
            link_move(link, call->connected ? LINK_UP : LINK_DOWN);
        call->caller->done(call->caller, &call->result);
    }
    call_release(call);
}

static void worker_on_cancelled(struct mail *mail, void *receiver)
{
    struct http_call *call = container_of(mail, struct http_call, cancel_mail);

    (void)receiver;
    call->cancel_back = true;
    call_release(call);
}

static void call_cancel(struct http_call *call)
{
    if (call->done || call->cancel_posted)
        return;
    call->cancel_posted = true;
    call->cancel_mail.deliver = loop_on_cancel;
    http_loop_post(call->pool->loop, &call->cancel_mail);
}

/* One piece as it is, several joined: what a request is made of, the body of a POST is one run of bytes. */
static struct buffer *body_of(const struct link_message *message)
{
    struct buffer *body;
    size_t len = 0;

    if (message->piece_count == 1)
        return buffer_ref(message->pieces[0]);
    for (size_t i = 0; i < message->piece_count; i++)
        len += message->pieces[i]->len;
    body = buffer_new(len);
    ASSERT(body != NULL);
    for (size_t i = 0; i < message->piece_count; i++) {
        memcpy(body->bytes + body->len, message->pieces[i]->bytes, message->pieces[i]->len);
        body->len += message->pieces[i]->len;
    }
    return body;
}

static void http_link_send(struct link *base, const struct link_message *message, struct link_call *caller)
{
    struct http_link *link = container_of(base, struct http_link, link);
    struct http_call *call = call_new(link, caller);

    call->body = body_of(message);
    call->encoding = message->encoding;
    call->metadata = metadata_set_ref(message->metadata);
    call->ring = message->ring;
    call->deadline_ns = message->deadline_ns;
    caller->transport = call;
    http_loop_post(link->pool->loop, &call->mail);
}

static void http_link_cancel(struct link *base, struct link_call *caller)
{
    (void)base;
    call_cancel(caller->transport);
}

static void http_link_free(struct link *base)
{
    struct http_link *link = container_of(base, struct http_link, link);

    ASSERT(!link->freed);
    link->freed = true;
    if (link->probe)
        call_cancel(link->probe);
    link_unref(link);
}

static const struct link_ops http_link_ops = {http_link_send, http_link_cancel, http_link_free};

int link_http_new(struct worker *worker, struct http_loop *loop, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link)
{
    struct http_link *link = calloc(1, sizeof(*link));

    if (!link)
        return error_raise(-ENOMEM);
    link->pool = pool_new(loop, options);
    if (!link->pool) {
        free(link);
        return error_raise(-ENOMEM);
    }
    link->worker = worker;
    link->refs = 1;
    link->link = (struct link){.ops = &http_link_ops, .state = LINK_CONNECTING, .on_state = on_state, .context = context};
    *out_link = &link->link;
    return 0;
}
