/* libevent reads and bounds the requests; here one table says which paths there are, with which
 * method, and who may ask.
 *
 * An open call outlives its connection: libevent does not read from a connection whose request is
 * being answered, notices a client that left only when it writes, and frees the request with the
 * server. So a call is kept on a list until it is answered, and admin_free takes the requests out
 * of those left. */
#include "common/metrics/admin_http.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "common/base/error.h"
#include "common/base/list.h"
#include "common/run/control.h"

#define HEADERS_MAX_BYTES 8192
#define BODY_MAX_BYTES    4096 /* no request here needs a body */
#define SILENCE_S         10
#define TOKEN_MAX_BYTES   4096
#define BACKLOG           64

#define TYPE_TEXT    "text/plain; charset=utf-8"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define TYPE_JSON    "application/json"

/* One address, and what is served at it. */
struct admin_listener {
    struct admin *admin;
    struct evhttp *http;
    bool everything, health, metrics;
    int port;
};

#define LISTENERS_MAX (2 + ADMIN_METRICS_MAX) /* the admin endpoint, the health check, metrics */

struct admin {
    struct admin_routes routes;
    struct admin_listener listeners[LISTENERS_MAX];
    size_t listener_count;
    char *token_file;
    char *health_path, *healthy, *unhealthy;
    struct list calls;
    unsigned call_count;
};

struct admin_call {
    struct list node;    /* in admin->calls */
    struct admin *admin; /* NULL after admin_free */
    struct evhttp_request *request;
};

/* -- answers
 * ---------------------------------------------------------------------------------------- */

static const char *status_phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 422:
        return "Unprocessable Content";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Other";
    }
}

/* The request is libevent's after this. */
static void answer(struct evhttp_request *request, int status, const char *type, struct slice body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct evbuffer *out = evbuffer_new();
    char length[32];

    (void)snprintf(length, sizeof(length), "%zu", body.len);
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(
        headers, "Content-Length", length); /* for HEAD too: libevent leaves it out there */
    evhttp_add_header(headers, "Cache-Control", "no-store");
    if (out && evhttp_request_get_command(request) != EVHTTP_REQ_HEAD)
        (void)evbuffer_add(out, body.at, body.len);
    evhttp_send_reply(request, status, status_phrase(status), out);
    if (out)
        evbuffer_free(out);
}

static void answer_line(struct evhttp_request *request, int status, const char *line)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "%s\n", line);
    answer(request, status, TYPE_TEXT, slice_text(text));
}

/* Takes the text. */
static void answer_text(
    struct evhttp_request *request, int status, const char *type, struct text *text)
{
    if (text->failed)
        answer_line(request, 500, "out of memory");
    else
        answer(request, status, type, slice_make(text->len ? text->at : "", text->len));
    text_deinit(text);
}

/* -- who may ask
 * ------------------------------------------------------------------------------------ */

static bool from_loopback(struct evhttp_request *request)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    if (!connection || getpeername(bufferevent_getfd(evhttp_connection_get_bufferevent(connection)),
                           (struct sockaddr *)&peer, &len) < 0)
        return false;
    if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&peer;

        return (ntohl(in->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    }
    if (peer.ss_family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)&peer)->sin6_addr;

        return IN6_IS_ADDR_LOOPBACK(in6) ||
               (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
    }
    return false;
}

/* The file's bytes without the line end that editors and Secrets add. Empty: nobody gets in. */
static bool token_read(const char *path, char token[TOKEN_MAX_BYTES], size_t *out_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0)
        return false;
    while (len < TOKEN_MAX_BYTES && (n = read(fd, token + len, TOKEN_MAX_BYTES - len)) > 0)
        len += (size_t)n;
    close(fd);
    if (n < 0 || len == TOKEN_MAX_BYTES)
        return false;
    while (len > 0 && isspace((unsigned char)token[len - 1]))
        len--;
    *out_len = len;
    return len > 0;
}

/* Takes as long for a token that is nearly right as for one that is all wrong. */
static bool token_equal(const char *token, size_t token_len, const char *given, size_t given_len)
{
    volatile unsigned char differs = token_len != given_len;

    for (size_t i = 0; i < given_len; i++)
        differs = (unsigned char)(differs | (unsigned char)(given[i] ^ token[i % token_len]));
    return !differs;
}

/* False: answered with why not. */
static bool admit(struct admin *admin, struct evhttp_request *request)
{
    const char *given;
    char token[TOKEN_MAX_BYTES];
    size_t len;
    bool same;

    if (!admin->token_file) {
        if (from_loopback(request))
            return true;
        answer_line(
            request, 403, "answered on loopback only, unless tailrace.admin.token_file is set");
        return false;
    }
    if (!token_read(admin->token_file, token, &len)) {
        answer_line(request, 503, "the token file cannot be read, or is empty");
        return false;
    }
    given = evhttp_find_header(evhttp_request_get_input_headers(request), "Authorization");
    if (given && strncasecmp(given, "Bearer ", 7) == 0)
        given += 7 + strspn(given + 7, " ");
    else
        given = NULL;
    same = given && token_equal(token, len, given, strlen(given));
    explicit_bzero(token, sizeof(token));
    if (same)
        return true;
    evhttp_add_header(evhttp_request_get_output_headers(request), "WWW-Authenticate", "Bearer");
    answer_line(request, 401, given ? "wrong token" : "needs Authorization: Bearer and the token");
    return false;
}

/* -- routes
 * ----------------------------------------------------------------------------------------- */

static void route_livez(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    (void)admin;
    (void)rest;
    answer_line(request, 200, "ok");
}

static void route_readyz(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    const char *reason = "not ready";

    (void)rest;
    if (admin->routes.ready(admin->routes.context, &reason))
        answer_line(request, 200, "ok");
    else
        answer_line(request, 503, reason);
}

/* In the Collector's form, which probes and dashboards may read. */
static void answer_health(struct admin *admin, struct evhttp_request *request)
{
    bool serving = !admin->routes.serving || admin->routes.serving(admin->routes.context);
    const char *own = serving ? admin->healthy : admin->unhealthy;

    if (own)
        answer(request, serving ? 200 : 503, TYPE_TEXT, slice_text(own));
    else
        answer(request, serving ? 200 : 503, TYPE_JSON,
            slice_text(serving ? "{\"status\":\"Server available\"}\n"
                               : "{\"status\":\"Server not available\"}\n"));
}

static void route_health(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    (void)rest;
    answer_health(admin, request);
}

static void route_metrics(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    struct text text = {0};

    (void)rest;
    admin->routes.metrics(admin->routes.context, &text);
    answer_text(request, 200, TYPE_METRICS, &text);
}

static void route_status(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    struct text text = {0};

    (void)rest;
    admin->routes.status(admin->routes.context, &text);
    answer_text(request, 200, TYPE_JSON, &text);
}

static void route_reload(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    struct text text = {0};
    int r;

    (void)rest;
    if (!admin->routes.reload) {
        answer_line(request, 501, "the configuration cannot be read again here: start the program again");
        return;
    }
    r = admin->routes.reload(admin->routes.context, &text);
    answer_text(request, r == 0 ? 200 : 400, TYPE_JSON, &text);
}

static void answer_error(struct evhttp_request *request, int status, const char *error)
{
    struct text text = {0};

    text_append(&text, "{\"error\":");
    text_append_json(&text, slice_text(error));
    text_append(&text, "}\n");
    answer_text(request, status, TYPE_JSON, &text);
}

static bool trace_id_parse(const char *text, struct trace_id *out_id)
{
    struct trace_id id = {{0}};

    for (size_t i = 0; i < 2 * sizeof(id.bytes); i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned digit;

        if (!isxdigit(c)) /* also the end of the text */
            return false;
        digit = c <= '9' ? c - (unsigned)'0' : (c | 0x20u) - (unsigned)'a' + 10u;
        id.bytes[i / 2] = (uint8_t)((unsigned)id.bytes[i / 2] << 4 | digit);
    }
    if (text[2 * sizeof(id.bytes)] != '\0')
        return false;
    *out_id = id;
    return true;
}

static void route_traces(struct admin *admin, struct evhttp_request *request, const char *rest)
{
    struct admin_call *call;
    struct trace_id id;

    if (!trace_id_parse(rest, &id)) {
        answer_error(request, 400, "a trace ID is 32 hexadecimal digits");
        return;
    }
    if (admin->call_count >= ADMIN_CALLS_MAX) {
        answer_error(request, 503, "too many questions are open already");
        return;
    }
    call = calloc(1, sizeof(*call));
    if (!call) {
        answer_error(request, 500, "out of memory");
        return;
    }
    call->admin = admin;
    call->request = request;
    list_add_tail(&admin->calls, &call->node);
    admin->call_count++;
    admin->routes.explain(admin->routes.context, &id, call);
}

struct route {
    const char *path; /* with a final slash: the rest of the path is the argument */
    bool post, guarded;
    void (*run)(struct admin *admin, struct evhttp_request *request, const char *rest);
};

static const struct route routes[] = {
    {"/livez", false, false, route_livez},
    {"/readyz", false, false, route_readyz},
    {"/metrics", false, false, route_metrics},
    {"/status", false, false, route_status},
    {"/traces/", false, true, route_traces},
    {"/reload", true, true, route_reload},
};

static const struct route *route_find(const char *path, const char **out_rest)
{
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        size_t len = strlen(routes[i].path);
        bool prefix = routes[i].path[len - 1] == '/';

        if (prefix ? strncmp(path, routes[i].path, len) == 0 : strcmp(path, routes[i].path) == 0) {
            *out_rest = path + len;
            return &routes[i];
        }
    }
    return NULL;
}

/* The health check's path is the user's choice, and wins at an address that serves it. */
static const struct route *route_at(
    const struct admin_listener *listener, const char *path, const char **out_rest)
{
    static const struct route health = {.path = "the health check", .run = route_health};
    const struct route *found;

    *out_rest = "";
    if (listener->health && strcmp(path, listener->admin->health_path) == 0)
        return &health;
    found = route_find(path, out_rest);
    if (found && (listener->everything || (listener->metrics && found->run == route_metrics)))
        return found;
    return NULL;
}

static void answer_not_found(
    const struct admin_listener *listener, struct evhttp_request *request)
{
    if (listener->everything)
        answer_line(request, 404,
            "not found; there are /livez /readyz /metrics /status /traces/{trace ID} and POST "
            "/reload");
    else if (listener->metrics)
        answer_line(request, 404, "not found; there is /metrics");
    else
        answer_line(request, 404, "not found; there is the health check alone");
}

static void admin_on_request(struct evhttp_request *request, void *argument)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *rest = NULL;
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    const struct admin_listener *listener = argument;
    const struct route *route = path ? route_at(listener, path, &rest) : NULL;

    if (!route) {
        answer_not_found(listener, request);
        return;
    }
    if (route->post ? method != EVHTTP_REQ_POST
                    : method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        evhttp_add_header(evhttp_request_get_output_headers(request), "Allow",
            route->post ? "POST" : "GET, HEAD");
        answer_line(
            request, 405, route->post ? "this path takes POST" : "this path takes GET and HEAD");
        return;
    }
    if (route->guarded && !admit(listener->admin, request))
        return;
    route->run(listener->admin, request, rest);
}

void admin_answer(struct admin_call *call, int status, const char *json)
{
    if (call->admin) {
        list_del(&call->node);
        call->admin->call_count--;
        answer(call->request, status, TYPE_JSON, slice_text(json));
    }
    free(call);
}

/* -- life
 * ------------------------------------------------------------------------------------------- */

/* Takes host:port or [address]:port apart; *out_host points into text. */
static bool endpoint_split(char *text, char **out_host, char **out_port)
{
    char *colon = strrchr(text, ':');

    if (!colon || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 ||
        atoi(colon + 1) > 65535) /* getaddrinfo would take it modulo 2^16 */
        return false;
    *colon = '\0';
    *out_port = colon + 1;
    if (text[0] == '[') {
        if (colon < text + 3 || colon[-1] != ']')
            return false;
        colon[-1] = '\0';
        text++;
    } else if (strchr(text, ':')) {
        return false;
    }
    *out_host = text;
    return true;
}

static int listen_on(const struct addrinfo *info, int *out_fd)
{
    static const int yes = 1, no = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (info->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)); /* [::] takes IPv4 too */
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    *out_fd = fd;
    return 0;
}

static int bind_endpoint(
    const char *host, const char *port, int *out_fd, char *out_error, size_t error_size)
{
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int r;

    r = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (r == EAI_MEMORY)
        return error_raise(-ENOMEM);
    if (r != 0) {
        (void)snprintf(out_error, error_size, "%s", gai_strerror(r));
        return error_raise(-EADDRNOTAVAIL);
    }
    r = -EADDRNOTAVAIL;
    for (const struct addrinfo *info = found; info && r < 0; info = info->ai_next)
        r = listen_on(info, out_fd);
    freeaddrinfo(found);
    /* A kernel without IPv6 still serves "every address". */
    if (r == -EAFNOSUPPORT && strcmp(host, "::") == 0)
        return bind_endpoint("0.0.0.0", port, out_fd, out_error, error_size);
    if (r < 0) {
        (void)snprintf(out_error, error_size, "%s", strerror(-r));
        return error_raise(r);
    }
    return 0;
}

static int port_of(int fd)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);

    if (getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return 0;
    return ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                           : ((struct sockaddr_in *)&own)->sin_port);
}

static struct evhttp *server_new(struct control *control, struct admin_listener *listener)
{
    struct evhttp *http = evhttp_new(control->base);

    if (!http)
        return NULL;
    evhttp_set_max_headers_size(http, HEADERS_MAX_BYTES);
    evhttp_set_max_body_size(http, BODY_MAX_BYTES);
    evhttp_set_timeout(http, SILENCE_S);
    /* All that libevent knows, so that a wrong one gets 405 and what is allowed. */
    evhttp_set_allowed_methods(http,
        EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
            EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_gencb(http, admin_on_request, listener);
    return http;
}

static int listener_bind(
    struct admin_listener *listener, const char *endpoint, char *out_error, size_t error_size)
{
    char *text = strdup(endpoint), *host = NULL, *port = NULL;
    char why[256] = "";
    int fd = -1, r;

    if (!text)
        return error_raise(-ENOMEM);
    if (!endpoint_split(text, &host, &port)) {
        (void)snprintf(why, sizeof(why), "expected host:port");
        r = error_raise(-EINVAL);
    } else {
        r = bind_endpoint(host, port, &fd, why, sizeof(why));
    }
    free(text);
    if (r < 0) {
        (void)snprintf(out_error, error_size, "cannot listen on %s: %s", endpoint, why);
        return error_pass(r);
    }
    listener->port = port_of(fd);
    if (evhttp_accept_socket(listener->http, fd) < 0) {
        close(fd);
        return error_raise(-ENOMEM);
    }
    return 0;
}

/* what: its flags. Listeners stand still in the array: libevent holds on to them. */
static int admin_listen(struct admin *admin, struct control *control, const char *endpoint,
    struct admin_listener what, char *out_error, size_t error_size)
{
    struct admin_listener *listener = &admin->listeners[admin->listener_count];

    *listener = what;
    listener->admin = admin;
    listener->http = server_new(control, listener);
    if (!listener->http)
        return error_raise(-ENOMEM);
    admin->listener_count++;
    return listener_bind(listener, endpoint, out_error, error_size);
}

static int admin_listen_all(struct admin *admin, struct control *control,
    const struct admin_options *options, char *out_error, size_t error_size)
{
    const char *health = options->health.endpoint;
    bool own = options->endpoint != NULL;
    bool shared = own && health && strcmp(health, options->endpoint) == 0;
    int r = 0;

    if (own)
        r = admin_listen(admin, control, options->endpoint,
            (struct admin_listener){.everything = true, .health = shared}, out_error, error_size);
    if (r == 0 && health && !shared)
        r = admin_listen(admin, control, health, (struct admin_listener){.health = true}, out_error,
            error_size);
    for (size_t i = 0; r == 0 && i < options->metrics_endpoint_count && i < ADMIN_METRICS_MAX; i++)
        r = admin_listen(admin, control, options->metrics_endpoints[i],
            (struct admin_listener){.metrics = true}, out_error, error_size);
    return r < 0 ? error_pass(r) : 0;
}

/* NULL stays NULL. False: no memory. */
static bool copy_text(const char *text, char **out_copy)
{
    *out_copy = text ? strdup(text) : NULL;
    return !text || *out_copy;
}

int admin_new(struct control *control, const struct admin_options *options,
    const struct admin_routes *admin_routes, struct admin **out_admin, char *out_error,
    size_t error_size)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    int r = -ENOMEM;

    (void)snprintf(out_error, error_size, "out of memory");
    if (!admin)
        return error_raise(-ENOMEM);
    admin->routes = *admin_routes;
    list_init(&admin->calls);
    if (!copy_text(options->token_file, &admin->token_file) ||
        !copy_text(options->health.path ? options->health.path : "/", &admin->health_path) ||
        !copy_text(options->health.healthy, &admin->healthy) ||
        !copy_text(options->health.unhealthy, &admin->unhealthy))
        goto fail;
    r = admin_listen_all(admin, control, options, out_error, error_size);
    if (r < 0)
        goto fail;
    *out_admin = admin;
    return 0;
fail:
    admin_free(admin);
    return error_pass(r);
}

int admin_port(const struct admin *admin)
{
    for (size_t i = 0; i < admin->listener_count; i++)
        if (admin->listeners[i].everything)
            return admin->listeners[i].port;
    return 0;
}

int admin_health_port(const struct admin *admin)
{
    for (size_t i = 0; i < admin->listener_count; i++)
        if (admin->listeners[i].health && !admin->listeners[i].everything)
            return admin->listeners[i].port;
    return 0;
}

int admin_metrics_port(const struct admin *admin, size_t index)
{
    for (size_t i = 0; i < admin->listener_count; i++)
        if (admin->listeners[i].metrics && index-- == 0)
            return admin->listeners[i].port;
    return 0;
}

void admin_free(struct admin *admin)
{
    struct list *node;

    if (!admin)
        return;
    while ((node = list_take_first(&admin->calls))) {
        struct admin_call *call = container_of(node, struct admin_call, node);

        /* A request still on its connection goes with it, below. */
        if (!evhttp_request_get_connection(call->request))
            evhttp_request_free(call->request);
        call->request = NULL;
        call->admin = NULL;
    }
    for (size_t i = 0; i < admin->listener_count; i++)
        evhttp_free(admin->listeners[i].http);
    free(admin->token_file);
    free(admin->health_path);
    free(admin->healthy);
    free(admin->unhealthy);
    free(admin);
}
