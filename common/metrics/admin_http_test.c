/* The admin endpoint answers each path and method as its header says, keeps strangers out of
 * /traces and /reload, bounds what it reads, and survives clients and answers that go or come at
 * any time. Real sockets on a free loopback port; the loop runs on its own thread, as in the
 * programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/metrics/admin_http.h"
#include "common/run/control.h"

/* -- a program with an admin endpoint
 * ---------------------------------------------------------------- */

struct program {
    struct control control;
    struct admin *admin;
    struct admin_routes routes;
    pthread_t thread;
    int port;
    atomic_bool ready, draining;
    atomic_bool answer_later, answer_early;
    atomic_int reload_result, reloads;
    struct admin_call *waiting[ADMIN_CALLS_MAX];
    atomic_uint waiting_count;
    struct trace_id last_id;
};

static bool on_ready(void *context, const char **out_reason)
{
    struct program *program = context;

    *out_reason = "replaying the journal";
    return program->ready;
}

static bool on_serving(void *context)
{
    struct program *program = context;

    return !program->draining;
}

static void on_metrics(void *context, struct text *out)
{
    (void)context;
    text_append(out, "# HELP a b.\n# TYPE a gauge\na 1\n");
}

static void on_status(void *context, struct text *out)
{
    (void)context;
    text_append(out, "{\"version\":\"x\",\"filler\":\"");
    for (int i = 0; i < 10000; i++) /* more than a socket buffer's first write */
        text_append(out, "0123456789");
    text_append(out, "\"}");
}

static void on_explain(void *context, const struct trace_id *id, struct admin_call *call)
{
    struct program *program = context;

    program->last_id = *id;
    if (program->answer_later)
        program->waiting[program->waiting_count++] = call;
    else
        admin_answer(call, 200, "{\"state\":\"pending\"}");
}

static int on_reload(void *context, struct text *out_message)
{
    struct program *program = context;

    program->reloads++;
    text_append(
        out_message, program->reload_result ? "config.yaml:3: no such key\n" : "reloaded\n");
    return program->reload_result;
}

static void on_stop(void *context, unsigned count)
{
    (void)context;
    (void)count;
}

static void *program_run(void *context)
{
    struct program *program = context;

    control_run(&program->control);
    return NULL;
}

static void program_open(struct program *program, const char *token_file)
{
    struct admin_options options = {.endpoint = "127.0.0.1:0", .token_file = token_file};
    char error[256] = "";

    memset(program, 0, sizeof(*program));
    program->ready = true;
    program->routes = (struct admin_routes){
        .context = program,
        .ready = on_ready,
        .metrics = on_metrics,
        .status = on_status,
        .explain = on_explain,
        .reload = on_reload,
    };
    assert_int_equal(control_init(&program->control, on_stop, NULL, program), 0);
    if (admin_new(
            &program->control, &options, &program->routes, &program->admin, error, sizeof(error)))
        fail_msg("%s", error);
    program->port = admin_port(program->admin);
    assert_in_range(program->port, 1, 65535);
}

static void program_start(struct program *program, const char *token_file)
{
    program_open(program, token_file);
    assert_int_equal(pthread_create(&program->thread, NULL, program_run, program), 0);
}

static void program_close(struct program *program)
{
    admin_free(program->admin);
    control_deinit(&program->control);
}

static void program_stop(struct program *program)
{
    control_break(&program->control);
    pthread_join(program->thread, NULL);
    program_close(program);
}

/* Runs something on the control thread and waits for it. */
struct errand {
    struct mail mail;
    struct program *program;
    void (*run)(struct program *program);
    atomic_bool done;
};

static void errand_deliver(struct mail *mail, void *receiver)
{
    struct errand *errand = container_of(mail, struct errand, mail);

    (void)receiver;
    errand->run(errand->program);
    errand->done = true;
}

static void on_control(struct program *program, void (*run)(struct program *program))
{
    struct errand errand = {.mail = {.deliver = errand_deliver}, .program = program, .run = run};

    control_post(&program->control, &errand.mail);
    while (!errand.done)
        usleep(100);
}

static void answer_all(struct program *program)
{
    for (unsigned i = 0; i < program->waiting_count; i++)
        admin_answer(program->waiting[i], 200, "{\"late\":true}");
    program->waiting_count = 0;
}

static void await_waiting(struct program *program, unsigned count)
{
    while (program->waiting_count < count)
        usleep(100);
}

/* -- a client
 * ---------------------------------------------------------------------------------------- */

struct reply {
    int status;
    char bytes[120000]; /* head and body */
    size_t len, body_at;
};

static struct reply reply;

static int client_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void client_send(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0)
            return; /* closed by the server already: what it said can still be read */
        text += n;
        len -= (size_t)n;
    }
}

static const char *reply_header(const char *name)
{
    static char line[256];
    const char *at = strcasestr(reply.bytes, name);

    if (!at || at > reply.bytes + reply.body_at)
        return "";
    at += strlen(name);
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\r\n"), at);
    return line;
}

/* Reads one reply; head: of a HEAD request, no body follows. False: closed before a whole one came.
 */
static bool client_receive(int fd, bool head)
{
    size_t want = SIZE_MAX;

    reply.len = reply.body_at = 0;
    reply.status = 0;
    while (reply.len < want) {
        /* Byte by byte in the head, so that the next reply on this connection stays in the socket.
         */
        size_t step = want == SIZE_MAX ? 1 : want - reply.len;
        ssize_t n = recv(fd, reply.bytes + reply.len, step, 0);

        if (n <= 0)
            return false;
        reply.len += (size_t)n;
        assert_true(reply.len < sizeof(reply.bytes));
        reply.bytes[reply.len] = '\0';
        if (want == SIZE_MAX && reply.len >= 4 &&
            memcmp(reply.bytes + reply.len - 4, "\r\n\r\n", 4) == 0) {
            reply.body_at = reply.len;
            reply.status = atoi(reply.bytes + 9);
            want = reply.len + (head ? 0 : strtoul(reply_header("\r\nContent-Length: "), NULL, 10));
        }
    }
    return true;
}

static void ask(int fd, const char *method, const char *path, const char *headers)
{
    char text[20000];

    (void)snprintf(
        text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, path, headers);
    client_send(fd, text);
}

static void ask_once(
    struct program *program, const char *method, const char *path, const char *headers)
{
    int fd = client_connect(program->port);

    ask(fd, method, path, headers);
    if (!client_receive(fd, strcmp(method, "HEAD") == 0))
        fail_msg("%s %s: closed without an answer", method, path);
    close(fd);
}

#define ID "0123456789abcdefABCDEF9876543210"

/* -- tests
 * ------------------------------------------------------------------------------------------- */

struct route_case {
    const char *method, *path, *headers;
    int status;
    const char *type, *body; /* body: what it contains */
};

static const struct route_case route_cases[] = {
    {"GET", "/livez", "", 200, "text/plain", "ok"},
    {"HEAD", "/livez", "", 200, "text/plain", ""},
    {"GET", "/livez?verbose=1", "", 200, "text/plain", "ok"},
    {"GET", "/readyz", "", 200, "text/plain", "ok"},
    {"GET", "/metrics", "", 200, "text/plain; version=0.0.4", "# TYPE a gauge\na 1\n"},
    {"HEAD", "/metrics", "", 200, "text/plain; version=0.0.4", ""},
    {"GET", "/status", "", 200, "application/json", "0123456789\"}"},
    {"GET", "/traces/" ID, "", 200, "application/json", "{\"state\":\"pending\"}"},
    {"GET", "/traces/", "", 400, "application/json", "32 hexadecimal digits"},
    {"GET", "/traces/" ID "0", "", 400, "application/json", "32 hexadecimal digits"},
    {"GET", "/traces/0123456789abcdefabcdef987654321", "", 400, "application/json", "32 hex"},
    {"GET", "/traces/0123456789abcdefabcdef987654321g", "", 400, "application/json", "32 hex"},
    {"GET", "/traces/" ID "/x", "", 400, "application/json", "32 hexadecimal digits"},
    {"GET", "/traces", "", 404, "text/plain", "not found"},
    {"GET", "/", "", 404, "text/plain", "/metrics"},
    {"GET", "/livez/", "", 404, "text/plain", "not found"},
    {"GET", "/LIVEZ", "", 404, "text/plain", "not found"},
    {"POST", "/nowhere", "Content-Length: 0\r\n", 404, "text/plain", "not found"},
    {"POST", "/reload", "Content-Length: 0\r\n", 200, "application/json", "reloaded"},
    {"POST", "/reload", "", 200, "application/json", "reloaded"},
    {"GET", "/reload", "", 405, "text/plain", "POST"},
    {"POST", "/livez", "Content-Length: 0\r\n", 405, "text/plain", "GET"},
    {"DELETE", "/traces/" ID, "", 405, "text/plain", "GET"},
    {"PUT", "/metrics", "Content-Length: 0\r\n", 405, "text/plain", "GET"},
    {"OPTIONS", "/metrics", "", 405, "text/plain", "GET"},
    {"PATCH", "/status", "Content-Length: 0\r\n", 405, "text/plain", "GET"},
};

static void check_route(const struct route_case *c)
{
    size_t length = strtoul(reply_header("\r\nContent-Length: "), NULL, 10);

    if (reply.status != c->status ||
        strncmp(reply_header("\r\nContent-Type: "), c->type, strlen(c->type)) ||
        !strstr(reply.bytes + reply.body_at, c->body))
        fail_msg("%s %s: %s", c->method, c->path, reply.bytes);
    if (strcmp(c->method, "HEAD") == 0 && (length == 0 || reply.len != reply.body_at))
        fail_msg("%s %s: length %zu, %s", c->method, c->path, length, reply.bytes);
    if (c->status == 405 &&
        strcmp(reply_header("\r\nAllow: "), strstr(c->body, "POST") ? "POST" : "GET, HEAD"))
        fail_msg("%s %s: Allow is %s", c->method, c->path, reply_header("\r\nAllow: "));
}

/* Each on its own connection, then all on one. */
static void test_routes(void **state)
{
    static struct program program;
    int fd;

    (void)state;
    program_start(&program, NULL);
    for (size_t i = 0; i < ARRAY_COUNT(route_cases); i++) {
        ask_once(&program, route_cases[i].method, route_cases[i].path, route_cases[i].headers);
        check_route(&route_cases[i]);
    }
    fd = client_connect(program.port);
    for (size_t i = 0; i < ARRAY_COUNT(route_cases); i++) {
        ask(fd, route_cases[i].method, route_cases[i].path, route_cases[i].headers);
        if (!client_receive(fd, strcmp(route_cases[i].method, "HEAD") == 0))
            fail_msg(
                "%s %s: the connection was not kept", route_cases[i].method, route_cases[i].path);
        check_route(&route_cases[i]);
    }
    close(fd);
    assert_memory_equal(program.last_id.bytes,
        "\x01\x23\x45\x67\x89\xab\xcd\xef\xab\xcd\xef\x98\x76\x54\x32\x10", 16);

    program.ready = false;
    ask_once(&program, "GET", "/readyz", "");
    assert_int_equal(reply.status, 503);
    assert_string_equal(reply.bytes + reply.body_at, "replaying the journal\n");

    program.reload_result = -1;
    ask_once(&program, "POST", "/reload", "");
    assert_int_equal(reply.status, 400);
    assert_string_equal(reply.bytes + reply.body_at, "config.yaml:3: no such key\n");
    program_stop(&program);
}

static void test_reload_not_supported(void **state)
{
    static struct program program;
    struct admin_options options = {.endpoint = "127.0.0.1:0"};
    char error[256];

    (void)state;
    program_open(&program, NULL);
    admin_free(program.admin);
    program.routes.reload = NULL;
    assert_int_equal(admin_new(&program.control, &options, &program.routes, &program.admin, error,
                         sizeof(error)),
        0);
    program.port = admin_port(program.admin);
    assert_int_equal(pthread_create(&program.thread, NULL, program_run, &program), 0);
    ask_once(&program, "POST", "/reload", "");
    assert_int_equal(reply.status, 501);
    program_stop(&program);
}

struct listener_case {
    char at; /* a: admin, h: health check, m: metrics */
    const char *path;
    int status;
    const char *body;
};

static void check_listeners(struct program *program, const struct listener_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct listener_case *c = &cases[i];
        int port = c->at == 'a' ? admin_port(program->admin)
                   : c->at == 'h' ? admin_health_port(program->admin)
                                  : admin_metrics_port(program->admin, 0);

        program->port = port;
        ask_once(program, "GET", c->path, "");
        if (reply.status != c->status || !strstr(reply.bytes + reply.body_at, c->body))
            fail_msg("%c %s: %s", c->at, c->path, reply.bytes);
    }
}

static void listeners_start(struct program *program, const struct admin_options *options)
{
    char error[256] = "";

    program_open(program, NULL);
    admin_free(program->admin);
    program->routes.serving = on_serving;
    if (admin_new(&program->control, options, &program->routes, &program->admin, error, sizeof(error)))
        fail_msg("%s", error);
    assert_int_equal(pthread_create(&program->thread, NULL, program_run, program), 0);
}

/* A health check and metrics at addresses of their own serve that alone; the health check says 200
 * until the process drains, ready or not. */
static void test_listeners(void **state)
{
    static struct program program;
    static const char *const metrics[] = {"127.0.0.1:0"};
    const struct admin_options options = {.endpoint = "127.0.0.1:0",
        .health = {.endpoint = "localhost:0", .path = "/"},
        .metrics_endpoints = metrics,
        .metrics_endpoint_count = 1};
    static const struct listener_case serving[] = {
        {'a', "/readyz", 503, "replaying"},
        {'a', "/", 404, "there are /livez"},
        {'a', "/metrics", 200, "a 1"},
        {'h', "/", 200, "{\"status\":\"Server available\"}"},
        {'h', "/metrics", 404, "the health check alone"},
        {'m', "/metrics", 200, "a 1"},
        {'m', "/status", 404, "there is /metrics"},
        {'m', "/", 404, "there is /metrics"},
    };
    static const struct listener_case draining[] = {{'h', "/", 503, "Server not available"}};

    (void)state;
    listeners_start(&program, &options);
    program.ready = false;
    check_listeners(&program, serving, ARRAY_COUNT(serving));
    program.draining = true;
    check_listeners(&program, draining, ARRAY_COUNT(draining));
    program_stop(&program);
}

/* At the admin endpoint's own address the health check stands beside the rest, with the user's bodies. */
static void test_health_at_the_admin_endpoint(void **state)
{
    static struct program program;
    const struct admin_options options = {.endpoint = "127.0.0.1:0",
        .health = {.endpoint = "127.0.0.1:0", .path = "/healthz", .healthy = "fine", .unhealthy = "bad"}};
    static const struct listener_case serving[] = {
        {'a', "/healthz", 200, "fine"}, {'a', "/livez", 200, "ok"}, {'a', "/", 404, "there are /livez"}};
    static const struct listener_case draining[] = {{'a', "/healthz", 503, "bad"}};

    (void)state;
    listeners_start(&program, &options);
    assert_int_equal(admin_health_port(program.admin), 0);
    check_listeners(&program, serving, ARRAY_COUNT(serving));
    program.draining = true;
    check_listeners(&program, draining, ARRAY_COUNT(draining));
    program_stop(&program);
}

/* What is too long, cut or no HTTP is refused, and the next client is served. */
static void test_bounds(void **state)
{
    static struct program program;
    static char big[40000], text[50000];
    int fd;

    (void)state;
    program_start(&program, NULL);
    memset(big, 'x', sizeof(big) - 1);

    fd = client_connect(program.port);
    (void)snprintf(text, sizeof(text), "GET /livez HTTP/1.1\r\nX: %s\r\n\r\n", big);
    client_send(fd, text);
    if (client_receive(fd, false))
        assert_in_range(reply.status, 400, 499);
    close(fd);

    fd = client_connect(program.port);
    (void)snprintf(text, sizeof(text), "GET /%s HTTP/1.1\r\n\r\n", big);
    client_send(fd, text);
    if (client_receive(fd, false))
        assert_in_range(reply.status, 400, 499);
    close(fd);

    fd = client_connect(program.port);
    (void)snprintf(
        text, sizeof(text), "POST /reload HTTP/1.1\r\nContent-Length: 39999\r\n\r\n%s", big);
    client_send(fd, text);
    if (client_receive(fd, false))
        assert_in_range(reply.status, 400, 499);
    close(fd);

    fd = client_connect(program.port);
    (void)snprintf(text, sizeof(text),
        "POST /reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9c3f\r\n%s", big);
    client_send(fd, text);
    if (client_receive(fd, false))
        assert_in_range(reply.status, 400, 499);
    close(fd);
    assert_int_equal(program.reloads, 0);

    fd = client_connect(program.port);
    client_send(fd, "\x16\x03\x01\x02\x02\x01\xfc\r\n\r\n"); /* somebody speaks TLS */
    if (client_receive(fd, false))
        assert_in_range(reply.status, 400, 599);
    close(fd);

    fd = client_connect(program.port);
    client_send(fd, "GET /liv");
    close(fd);

    ask_once(&program, "GET", "/livez", "");
    assert_int_equal(reply.status, 200);
    program_stop(&program);
}

/* Requests that come while one is being answered wait for their turn and keep their order. */
static void test_pipelined_behind_a_late_answer(void **state)
{
    static struct program program;
    int fd;

    (void)state;
    program_start(&program, NULL);
    program.answer_later = true;
    fd = client_connect(program.port);
    client_send(fd,
        "GET /traces/" ID " HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    await_waiting(&program, 1);
    client_send(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    on_control(&program, answer_all);
    assert_true(client_receive(fd, false));
    assert_string_equal(reply.bytes + reply.body_at, "{\"late\":true}");
    for (int i = 0; i < 2; i++) {
        assert_true(client_receive(fd, false));
        assert_string_equal(reply.bytes + reply.body_at, "ok\n");
    }
    close(fd);
    program_stop(&program);
}

static void nothing(struct program *program)
{
    (void)program;
}

static void reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

/* A client that left, politely or not, before its answer: the answer is thrown away. */
static void test_client_gone_before_answer(void **state)
{
    static struct program program;

    (void)state;
    program_start(&program, NULL);
    program.answer_later = true;
    for (unsigned i = 0; i < 20; i++) {
        int fd = client_connect(program.port);

        ask(fd, "GET", "/traces/" ID, "");
        await_waiting(&program, i + 1);
        if (i % 2)
            close(fd);
        else
            reset(fd);
    }
    for (int i = 0; i < 5; i++)
        on_control(&program, nothing); /* turns in which the loop may see them go */
    on_control(&program, answer_all);
    program.answer_later = false;
    ask_once(&program, "GET", "/traces/" ID, "");
    assert_int_equal(reply.status, 200);
    program_stop(&program);
}

static void free_admin(struct program *program)
{
    admin_free(program->admin);
    program->admin = NULL;
}

/* Answers that come after the endpoint has gone reach nobody and harm nothing. */
static void test_answer_after_free(void **state)
{
    static struct program program;
    int stays, leaves, resets;

    (void)state;
    program_start(&program, NULL);
    program.answer_later = true;
    stays = client_connect(program.port);
    ask(stays, "GET", "/traces/" ID, "");
    leaves = client_connect(program.port);
    ask(leaves, "GET", "/traces/" ID, "");
    resets = client_connect(program.port);
    ask(resets, "GET", "/traces/" ID, "");
    await_waiting(&program, 3);
    close(leaves);
    reset(resets);
    on_control(&program, nothing);
    on_control(&program, free_admin);
    assert_false(client_receive(stays, false));
    on_control(&program, answer_all);
    close(stays);
    program_stop(&program);
}

/* Late answers are bounded: one question too many is refused, and room comes back with the answers.
 */
static void test_too_many_questions(void **state)
{
    static struct program program;
    int fds[ADMIN_CALLS_MAX];

    (void)state;
    program_start(&program, NULL);
    program.answer_later = true;
    for (unsigned i = 0; i < ADMIN_CALLS_MAX; i++) {
        fds[i] = client_connect(program.port);
        ask(fds[i], "GET", "/traces/" ID, "");
        await_waiting(&program, i + 1);
    }
    ask_once(&program, "GET", "/traces/" ID, "");
    assert_int_equal(reply.status, 503);
    on_control(&program, answer_all);
    for (unsigned i = 0; i < ADMIN_CALLS_MAX; i++) {
        assert_true(client_receive(fds[i], false));
        assert_int_equal(reply.status, 200);
        close(fds[i]);
    }
    program.answer_later = false;
    ask_once(&program, "GET", "/traces/" ID, "");
    assert_int_equal(reply.status, 200);
    program_stop(&program);
}

/* -- access
 * ------------------------------------------------------------------------------------------ */

static void write_token(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_token(void **state)
{
    static const struct {
        const char *file, *headers;
        int status;
    } cases[] = {
        {"secret", "Authorization: Bearer secret\r\n", 200},
        {"secret\n", "Authorization: Bearer secret\r\n", 200},
        {"secret\r\n\r\n", "authorization: bearer   secret\r\n", 200},
        {"secret", "", 401},
        {"secret", "Authorization: Bearer \r\n", 401},
        {"secret", "Authorization: Bearer\r\n", 401},
        {"secret", "Authorization: secret\r\n", 401},
        {"secret", "Authorization: Basic secret\r\n", 401},
        {"secret", "Authorization: Bearer Secret\r\n", 401},
        {"secret", "Authorization: Bearer secre\r\n", 401},
        {"secret", "Authorization: Bearer secretsecret\r\n", 401},
        {"secret", "Authorization: Bearer secret\r\nAuthorization: Bearer other\r\n", 200},
        {"changed", "Authorization: Bearer secret\r\n", 401},
        {"changed", "Authorization: Bearer changed\r\n", 200},
        {"", "Authorization: Bearer \r\n", 503},
        {"\n", "Authorization: Bearer \r\n", 503},
        {NULL, "Authorization: Bearer secret\r\n", 503},
    };
    static struct program program;
    char path[] = "/tmp/admin_test.XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    program_start(&program, path);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (cases[i].file)
            write_token(path, cases[i].file);
        else
            (void)unlink(path);
        ask_once(&program, "GET", "/traces/" ID, cases[i].headers);
        if (reply.status != cases[i].status)
            fail_msg("case %zu: /traces is %d: %s", i, reply.status, reply.bytes);
        if (reply.status == 401)
            assert_string_equal(reply_header("\r\nWWW-Authenticate: "), "Bearer");
        ask_once(&program, "POST", "/reload", cases[i].headers);
        if (reply.status != cases[i].status)
            fail_msg("case %zu: /reload is %d", i, reply.status);
        /* The open paths stay open, and a wrong method needs no token to be told so. */
        ask_once(&program, "GET", "/livez", "");
        assert_int_equal(reply.status, 200);
    }
    program_stop(&program);
}

/* An address of this machine that is not loopback, 0 when it has none. */
static uint32_t own_address(void)
{
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(9)}, own;
    socklen_t len = sizeof(own);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint32_t address = 0;

    /* Connecting a datagram socket sends nothing: it only asks the routing table. 192.0.2.1: RFC
     * 5737. */
    far.sin_addr.s_addr = htonl(0xc0000201);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&far, sizeof(far)) == 0 &&
        getsockname(fd, (struct sockaddr *)&own, &len) == 0)
        address = own.sin_addr.s_addr;
    close(fd);
    return (ntohl(address) >> 24) == IN_LOOPBACKNET ? 0 : address;
}

/* Without a token file only loopback may ask, in each form a loopback peer has. */
static void test_loopback_only(void **state)
{
    static struct program program;
    static const char *const endpoints[] = {"0.0.0.0:0", "[::]:0", ":0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        struct admin_options options = {.endpoint = endpoints[i]};
        uint32_t address = own_address();
        char error[256] = "";

        program_open(&program, NULL);
        admin_free(program.admin);
        if (admin_new(
                &program.control, &options, &program.routes, &program.admin, error, sizeof(error)))
            fail_msg("%s: %s", endpoints[i], error);
        program.port = admin_port(program.admin);
        assert_int_equal(pthread_create(&program.thread, NULL, program_run, &program), 0);

        ask_once(&program, "GET", "/traces/" ID, "");
        if (reply.status != 200)
            fail_msg("%s: loopback got %d", endpoints[i], reply.status);
        if (address) {
            struct sockaddr_in to = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)program.port)};
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

            to.sin_addr.s_addr = address;
            assert_true(fd >= 0);
            assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
            ask(fd, "GET", "/traces/" ID, "");
            assert_true(client_receive(fd, false));
            if (reply.status != 403)
                fail_msg("%s: a stranger got %d", endpoints[i], reply.status);
            ask(fd, "POST", "/reload", "");
            assert_true(client_receive(fd, false));
            assert_int_equal(reply.status, 403);
            ask(fd, "GET", "/metrics", "");
            assert_true(client_receive(fd, false));
            assert_int_equal(reply.status, 200);
            close(fd);
            assert_int_equal(program.reloads, 0);
        }
        program_stop(&program);
    }
}

static void test_cannot_listen(void **state)
{
    static struct program program;
    char taken[64], error[256];
    const char *const endpoints[] = {taken, "127.0.0.1", "127.0.0.1:", "::1:80", "[::1:80", "[]:80",
        "127.0.0.1:http", "127.0.0.1:99999999", "no.such.host.invalid:80", ""};

    (void)state;
    program_open(&program, NULL);
    (void)snprintf(taken, sizeof(taken), "127.0.0.1:%d", program.port);
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        struct admin_options options = {.endpoint = endpoints[i]};
        struct admin *admin = NULL;

        error[0] = '\0';
        if (admin_new(&program.control, &options, &program.routes, &admin, error, sizeof(error)) >=
            0)
            fail_msg("%s was taken", endpoints[i]);
        assert_null(admin);
        if (strncmp(error, "cannot listen on ", 17) != 0 || !strstr(error, endpoints[i]) ||
            strstr(error, "Success") || strlen(error) < 17 + strlen(endpoints[i]) + 5)
            fail_msg("%s: the message is: %s", endpoints[i], error);
    }
    program_close(&program);
    admin_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_reload_not_supported),
        cmocka_unit_test(test_listeners),
        cmocka_unit_test(test_health_at_the_admin_endpoint),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pipelined_behind_a_late_answer),
        cmocka_unit_test(test_client_gone_before_answer),
        cmocka_unit_test(test_answer_after_free),
        cmocka_unit_test(test_too_many_questions),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_loopback_only),
        cmocka_unit_test(test_cannot_listen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
