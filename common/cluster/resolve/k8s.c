/* The list and the watches of k8s_watch.h, by libcurl on the control loop: one request at a time, with an easy handle of its own that
 * holds the token and the authorities as they are now. Connections stay with the multi handle, and curl itself opens another one
 * where the authorities are not those of before.
 *
 * A watch's body is cut into lines as it comes. What its lines changed is told once, when a piece of the body has been read.
 *
 * Dead peers  a watch is silent for a minute at a time. The kernel asks after 15 s of silence whether the peer is still there
 *             (keepalive), gives up what is not acknowledged for 30 s, and a server that leaves a watch open past its time is left.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <curl/curl.h>
#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/cluster/resolve/k8s_account.h"
#include "common/cluster/resolve/k8s_slices.h"
#include "common/cluster/resolve/k8s_watch.h"
#include "common/run/clock.h"
#include "common/run/control.h"
#include "common/run/curl_loop.h"
#include "common/security/watched_file.h"

#define BODY_MAX (16u << 20)   /* of a list, of a line: what etcd holds of an object is a tenth of it */
#define REFUSAL_MAX (64u << 10) /* read of an answer that is none */
#define CONNECT_MOST_MS 5000L
#define KEEPALIVE_IDLE_S 15L
#define KEEPALIVE_EVERY_S 5L
#define UNACKNOWLEDGED_MOST_MS 30000

struct resolver_k8s {
    struct resolver resolver;
    struct control *control;
    char service_namespace[64];
    struct k8s_selection want;
    struct k8s_account account;
    struct k8s_slices slices;
    struct k8s_watch watch;
    struct event *due;
    struct curl_loop curl_loop;
    /* the request under way */
    CURL *curl;       /* NULL: none */
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char *body;       /* a list, a refusal, or the line that has no end yet */
    size_t body_len, body_capacity;
    long status;      /* of the answer that is being read; 0: none yet */
    uint64_t retry_after_s;
    struct k8s_status refused;  /* what an event of the watch said against it */
    const char *garbage;        /* why what came is no good */
    /* what was told */
    struct k8s_addresses last;
};

static struct resolver_k8s *k8s_of(struct resolver *resolver)
{
    return container_of(resolver, struct resolver_k8s, resolver);
}

/* -- telling ------------------------------------------------------------------------------------------------------- */

static void tell_failure(struct resolver_k8s *k8s, const char *reason)
{
    k8s->resolver.events.failed(k8s->resolver.events.context, reason);
}

/* What the slices come to now. No address at all is a failure, an address left out is one too. */
static void tell(struct resolver_k8s *k8s)
{
    const struct resolver_events *events = &k8s->resolver.events;
    struct k8s_addresses now;
    bool changed;

    ASSERT(k8s_slices_addresses(&k8s->slices, &now) == 0);
    changed = now.count > 0 && !k8s_addresses_same(&now, &k8s->last);
    if (changed)
        events->resolved(events->context, now.items, now.count);
    else if (now.count > 0)
        events->unchanged(events->context);
    if (now.trouble[0])
        tell_failure(k8s, now.trouble);
    if (changed) {
        k8s_addresses_deinit(&k8s->last);
        k8s->last = now;
    } else {
        k8s_addresses_deinit(&now);
    }
}

/* -- the end of a request --------------------------------------------------------------------------------------------- */

static void schedule(struct resolver_k8s *k8s)
{
    uint64_t wait_ns = u64_sub_floor(k8s->watch.due_ns, clock_now_ns());
    struct timeval wait = {(time_t)(wait_ns / NS_PER_S), (suseconds_t)(wait_ns % NS_PER_S / NS_PER_US)};

    ASSERT(event_add(k8s->due, &wait) == 0);
}

static void request_drop(struct resolver_k8s *k8s)
{
    if (k8s->curl) {
        (void)curl_multi_remove_handle(k8s->curl_loop.multi, k8s->curl);
        curl_easy_cleanup(k8s->curl);
    }
    for (struct curl_slist *line = k8s->headers; line; line = line->next)
        explicit_bzero(line->data, strlen(line->data));
    curl_slist_free_all(k8s->headers);
    free(k8s->body);
    k8s->curl = NULL;
    k8s->headers = NULL;
    k8s->body = NULL;
    k8s->body_len = k8s->body_capacity = 0;
}

/* status 0: not the server's. */
static void request_failed(struct resolver_k8s *k8s, unsigned status, const char *reason)
{
    if (k8s_watch_failed(&k8s->watch, status, k8s->retry_after_s, clock_now_ns()))
        tell_failure(k8s, reason);
}

static const char *garbage_text(int r)
{
    return r == K8S_E_TOO_MANY ? "more EndpointSlices or endpoints than we hold" : "an answer that no API server gives";
}

static void list_ended(struct resolver_k8s *k8s)
{
    char version[K8S_VERSION_SIZE];
    int r = k8s_slices_list(&k8s->slices, slice_make(k8s->body, k8s->body_len), version);

    ASSERT(r >= 0);
    if (r) {
        request_failed(k8s, 0, garbage_text(r));
        return;
    }
    k8s_watch_listed(&k8s->watch, version, clock_now_ns());
    tell(k8s);
}

/* HTTP's own, or the event's, which comes with HTTP 200. */
static void refused(struct resolver_k8s *k8s, unsigned status)
{
    struct k8s_status said = k8s->refused;
    char reason[512];

    if (said.code == 0 && said.message[0] == '\0')
        (void)k8s_status_read(slice_make(k8s->body, k8s->body_len), &said);
    if (said.retry_after_s > k8s->retry_after_s)
        k8s->retry_after_s = said.retry_after_s;
    (void)snprintf(reason, sizeof(reason), "the API server refused to %s EndpointSlices of service %s/%s: %u%s%s%s%s",
        k8s->watch.step == K8S_LIST ? "list" : "watch", k8s->want.service_namespace, k8s->want.service, status, said.reason[0] ? " " : "",
        said.reason, said.message[0] ? ": " : "", said.message);
    request_failed(k8s, status, reason);
}

static void broke_off(struct resolver_k8s *k8s, CURLcode result)
{
    bool stranger = result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CONNECT_ERROR;
    char reason[K8S_SERVER_SIZE + CURL_ERROR_SIZE + 80];

    (void)snprintf(reason, sizeof(reason), "the API server %s: %s%s", k8s->account.server,
        stranger ? "is its certificate signed by an authority of ca_file? " : "", k8s->error[0] ? k8s->error : curl_easy_strerror(result));
    request_failed(k8s, 0, reason);
}

static void request_judge(struct resolver_k8s *k8s, CURLcode result)
{
    if (k8s->garbage) {
        k8s->watch.step = K8S_LIST; /* what we hold may not be what the server means: from the beginning */
        request_failed(k8s, 0, k8s->garbage);
    } else if (k8s->refused.code) {
        refused(k8s, k8s->refused.code);
    } else if (k8s->status >= 400 || (k8s->status != 200 && result == CURLE_OK)) {
        refused(k8s, (unsigned)k8s->status);
    } else if (result != CURLE_OK) {
        broke_off(k8s, result);
    } else if (k8s->watch.step == K8S_LIST) {
        list_ended(k8s);
    } else if (k8s_watch_ended(&k8s->watch, clock_now_ns())) {
        tell_failure(k8s, "the API server ends each watch at once");
    }
}

static void request_ended(void *context, CURL *curl, CURLcode result)
{
    struct resolver_k8s *k8s = context;

    ASSERT(curl == k8s->curl);
    request_judge(k8s, result);
    request_drop(k8s);
    schedule(k8s);
}

/* -- the body as it comes ----------------------------------------------------------------------------------------------- */

static bool body_add(struct resolver_k8s *k8s, const char *data, size_t len)
{
    if (len > BODY_MAX - k8s->body_len)
        return false;
    if (k8s->body_len + len > k8s->body_capacity) {
        size_t capacity = size_min(size_max(2 * k8s->body_capacity, size_max(k8s->body_len + len, 4096)), BODY_MAX);
        char *grown = realloc(k8s->body, capacity);

        if (!grown)
            return false;
        k8s->body = grown;
        k8s->body_capacity = capacity;
    }
    if (len > 0)
        memcpy(k8s->body + k8s->body_len, data, len);
    k8s->body_len += len;
    return true;
}

/* False: there is no use in reading on. */
static bool line_read(struct resolver_k8s *k8s, bool *news)
{
    struct k8s_event event;
    int r;

    if (k8s->body_len == 0)
        return true;
    r = k8s_slices_event(&k8s->slices, slice_make(k8s->body, k8s->body_len), &event);
    k8s->body_len = 0;
    ASSERT(r >= 0);
    if (r) {
        k8s->garbage = garbage_text(r);
        return false;
    }
    if (event.kind == K8S_EVENT_ERROR) {
        k8s->refused = event.status;
        if (k8s->refused.code == 0)
            k8s->refused.code = 500;
        return false;
    }
    k8s_watch_moved(&k8s->watch, event.version);
    *news |= event.kind == K8S_EVENT_SLICE || event.kind == K8S_EVENT_BOOKMARK;
    return true;
}

static bool lines_read(struct resolver_k8s *k8s, const char *data, size_t len)
{
    bool news = false, good = true;

    while (len > 0 && good) {
        const char *end = memchr(data, '\n', len);
        size_t part = end ? (size_t)(end - data) : len;

        good = body_add(k8s, data, part);
        if (!good)
            k8s->garbage = "an event longer than 16 MiB";
        if (good && end)
            good = line_read(k8s, &news);
        part += end ? 1 : 0;
        data += part;
        len -= part;
    }
    if (news)
        tell(k8s);
    return good;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct resolver_k8s *k8s = context;
    size_t len = size * count;

    if (k8s->status != 200) {
        len = size_min(len, REFUSAL_MAX - size_min(REFUSAL_MAX, k8s->body_len));
        return body_add(k8s, data, len) ? len : 0;
    }
    if (k8s->watch.step == K8S_WATCH)
        return lines_read(k8s, data, len) ? len : 0;
    if (body_add(k8s, data, len))
        return len;
    k8s->garbage = "a list longer than 16 MiB";
    return 0;
}

/* -- the head of the answer ------------------------------------------------------------------------------------------------- */

static void status_line(struct resolver_k8s *k8s)
{
    k8s->retry_after_s = 0;
    (void)curl_easy_getinfo(k8s->curl, CURLINFO_RESPONSE_CODE, &k8s->status);
}

/* The head is whole. A watch that was accepted is a good answer, though a quiet service says nothing more for long. */
static void head_read(struct resolver_k8s *k8s)
{
    if (k8s->status != 200 || k8s->watch.step != K8S_WATCH || k8s->watch.opened)
        return;
    k8s_watch_opened(&k8s->watch);
    tell(k8s);
}

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    static const char name[] = "retry-after:";
    struct resolver_k8s *k8s = context;
    size_t len = size * count;
    char value[16];

    if (len > 5 && memcmp(data, "HTTP/", 5) == 0)
        status_line(k8s);
    if (len > sizeof(name) && strncasecmp(data, name, sizeof(name) - 1) == 0) { /* a date there is nobody's custom here */
        (void)snprintf(value, sizeof(value), "%.*s", (int)size_min(len - sizeof(name) + 1, sizeof(value) - 1), data + sizeof(name) - 1);
        k8s->retry_after_s = strchr(value, '-') ? 0 : strtoul(value, NULL, 10);
    }
    if (len <= 2)
        head_read(k8s);
    return len;
}

/* -- the beginning of a request -------------------------------------------------------------------------------------------------- */

static int on_new_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    int most_ms = UNACKNOWLEDGED_MOST_MS;

    (void)context;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &most_ms, sizeof(most_ms));
    return CURL_SOCKOPT_OK;
}

static bool header_add(struct resolver_k8s *k8s, const char *line)
{
    struct curl_slist *longer = curl_slist_append(k8s->headers, line);

    if (longer)
        k8s->headers = longer;
    return longer != NULL;
}

/* True: done, or reason says why not. */
static bool token_add(struct resolver_k8s *k8s, char *reason, size_t size)
{
    char *token, *line;
    size_t len;
    bool good;

    if (!k8s->account.tls)
        return true; /* in plain text it would be everybody's */
    if (k8s_account_token(&k8s->account, &token, reason, size))
        return true;
    len = strlen(token) + sizeof("Authorization: Bearer ");
    line = malloc(len);
    if (line)
        (void)snprintf(line, len, "Authorization: Bearer %s", token);
    good = line && header_add(k8s, line);
    secret_free(line);
    secret_free(token);
    return good;
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (curl_easy_setopt(k8s->curl, option, value) != CURLE_OK)                                \
            return false;                                                                          \
    } while (0)

static bool authorities_set(struct resolver_k8s *k8s, char *reason, size_t size)
{
    struct curl_blob blob = {.flags = CURL_BLOB_COPY};
    char *pem;
    bool good;

    if (!k8s->account.tls || reason[0])
        return true;
    if (k8s_account_authorities(&k8s->account, &pem, &blob.len, reason, size))
        return true;
    SET(CURLOPT_CAINFO, NULL); /* these alone, none that the system trusts */
    SET(CURLOPT_CAPATH, NULL);
    blob.data = pem;
    good = curl_easy_setopt(k8s->curl, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK;
    secret_free(pem);
    return good;
}

static bool options_set(struct resolver_k8s *k8s, const char *path, uint64_t timeout_ns)
{
    char url[K8S_SERVER_SIZE + K8S_PATH_SIZE];

    (void)snprintf(url, sizeof(url), "%s%s", k8s->account.server, path);
    SET(CURLOPT_URL, url);
    SET(CURLOPT_ERRORBUFFER, k8s->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* not even the environment's: it is meant for the world outside */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MOST_MS);
    SET(CURLOPT_TIMEOUT_MS, (long)(timeout_ns / NS_PER_MS));
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_EVERY_S);
    SET(CURLOPT_SOCKOPTFUNCTION, on_new_socket);
    SET(CURLOPT_USERAGENT, "tailrace/" TAILRACE_VERSION);
    SET(CURLOPT_HTTPHEADER, k8s->headers);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, k8s);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, k8s);
    return true;
}
#undef SET

static void request_begin(struct resolver_k8s *k8s)
{
    char path[K8S_PATH_SIZE], reason[512] = "";
    uint64_t timeout_ns = k8s_watch_begin(&k8s->watch, k8s->want.service, k8s->want.service_namespace, clock_now_ns(), path, sizeof(path));
    bool good;

    k8s->error[0] = '\0';
    k8s->status = 0;
    k8s->retry_after_s = 0;
    k8s->refused = (struct k8s_status){0};
    k8s->garbage = NULL;
    k8s->curl = curl_easy_init();
    good = k8s->curl && header_add(k8s, "Accept: application/json") && token_add(k8s, reason, sizeof(reason)) &&
           authorities_set(k8s, reason, sizeof(reason)) && options_set(k8s, path, timeout_ns);
    if (good && !reason[0] && curl_multi_add_handle(k8s->curl_loop.multi, k8s->curl) == CURLM_OK)
        return;
    if (!reason[0])
        (void)snprintf(reason, sizeof(reason), "no memory for a request to the API server");
    request_failed(k8s, 0, reason);
    if (k8s->curl)
        curl_easy_cleanup(k8s->curl);
    k8s->curl = NULL;
    request_drop(k8s);
    schedule(k8s);
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    request_begin(context);
}

/* -- life -------------------------------------------------------------------------------------------------------------------- */

static void k8s_start(struct resolver *resolver)
{
    request_begin(k8s_of(resolver));
}

static void k8s_free(struct resolver *resolver)
{
    struct resolver_k8s *k8s = k8s_of(resolver);

    request_drop(k8s);
    curl_loop_deinit(&k8s->curl_loop);
    if (k8s->due)
        event_free(k8s->due);
    k8s_slices_deinit(&k8s->slices);
    k8s_addresses_deinit(&k8s->last);
    free(k8s);
}

static const struct resolver_ops k8s_ops = {"k8s", k8s_start, k8s_free, NULL};

static int k8s_fill(struct resolver_k8s *k8s, const struct k8s_options *options)
{
    uint64_t seed;

    if (options->service_namespace)
        (void)snprintf(k8s->service_namespace, sizeof(k8s->service_namespace), "%s", options->service_namespace);
    else
        k8s_account_namespace(k8s->service_namespace, sizeof(k8s->service_namespace));
    k8s->want = (struct k8s_selection){options->service, k8s->service_namespace, options->ports, options->port_count,
        options->return_hostnames};
    k8s_slices_init(&k8s->slices, &k8s->want);
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0 || seed == 0)
        seed = clock_now_ns() | 1; /* only jitter comes of it */
    k8s_watch_init(&k8s->watch, options->timeout_ns, seed, clock_now_ns());
    k8s->due = evtimer_new(k8s->control->base, on_due, k8s);
    if (!k8s->due || !curl_loop_init(&k8s->curl_loop, k8s->control->base, request_ended, k8s))
        return error_raise(-ENOMEM);
    return 0;
}

int resolver_k8s_new(struct control *control, const struct k8s_options *options, const struct resolver_events *events,
    struct resolver **out_resolver, char *out_error, size_t error_size)
{
    struct resolver_k8s *k8s = calloc(1, sizeof(*k8s));
    int r;

    if (!k8s)
        return error_raise(-ENOMEM);
    k8s->resolver = (struct resolver){&k8s_ops, *events};
    k8s->control = control;
    list_init(&k8s->slices.slices);
    if (k8s_account_init(&k8s->account, options->api_server, options->token_file, options->ca_file, out_error, error_size)) {
        k8s_free(&k8s->resolver);
        return RESOLVER_E_NO_SERVER;
    }
    r = k8s_fill(k8s, options);
    if (r) {
        k8s_free(&k8s->resolver);
        return error_pass(r);
    }
    *out_resolver = &k8s->resolver;
    return 0;
}
