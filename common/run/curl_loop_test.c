/* Each transfer's end is told once; an end may remove other transfers, ended or under way, and begin new ones; and a loop that is
 * closed while connections, timers and transfers are there leaves no event behind. */
#include "common/run/curl_loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#define CONNECTIONS_MAX 16u
#define HANDLES_MAX 8u
#define LONG_MS 60000L /* nothing that a test waits for ends by it */

/* -- a server on the same event base: GET /never has no answer, all else has one ------------------------------------- */

struct server {
    struct event_base *base;
    struct event *accepting, *connections[CONNECTIONS_MAX];
    unsigned connection_count, asked;
    uint16_t port;
};

static void server_on_read(evutil_socket_t fd, short what, void *context)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct server *server = context;
    char request[4096];
    ssize_t len = recv(fd, request, sizeof(request) - 1, 0);

    (void)what;
    if (len <= 0)
        return;
    request[len] = '\0';
    server->asked++;
    if (!strstr(request, "/never"))
        assert_int_equal(send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL), sizeof(answer) - 1);
}

static void server_on_connection(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    int connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct event *event = event_new(server->base, connection, EV_READ | EV_PERSIST, server_on_read, server);

    (void)what;
    assert_true(connection >= 0 && server->connection_count < CONNECTIONS_MAX);
    assert_int_equal(event_add(event, NULL), 0);
    server->connections[server->connection_count++] = event;
}

static int listen_somewhere(uint16_t *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, CONNECTIONS_MAX), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *out_port = ntohs(address.sin_port);
    return fd;
}

static void server_init(struct server *server, struct event_base *base)
{
    int fd;

    *server = (struct server){.base = base};
    fd = listen_somewhere(&server->port);
    server->accepting = event_new(base, fd, EV_READ | EV_PERSIST, server_on_connection, server);
    assert_int_equal(event_add(server->accepting, NULL), 0);
}

static void event_end(struct event *event)
{
    evutil_socket_t fd = event_get_fd(event);

    event_free(event);
    close(fd);
}

static void server_deinit(struct server *server)
{
    event_end(server->accepting);
    for (unsigned i = 0; i < server->connection_count; i++)
        event_end(server->connections[i]);
}

/* -- what a test has ---------------------------------------------------------------------------------------------------- */

struct bench {
    struct event_base *base;
    struct server server;
    struct curl_loop loop;
    CURL *handles[HANDLES_MAX]; /* NULL: ended, or removed */
    unsigned handle_count, ended, begin_more;
    CURLcode results[HANDLES_MAX];
    bool remove_all;
};

static void bench_begin(struct bench *bench, const char *path, uint16_t port, long timeout_ms);

static void handle_end(struct bench *bench, unsigned index)
{
    assert_int_equal(curl_multi_remove_handle(bench->loop.multi, bench->handles[index]), CURLM_OK);
    curl_easy_cleanup(bench->handles[index]);
    bench->handles[index] = NULL;
}

static void handles_end(struct bench *bench)
{
    for (unsigned i = 0; i < bench->handle_count; i++) {
        if (bench->handles[i])
            handle_end(bench, i);
    }
}

static void on_ended(void *context, CURL *curl, CURLcode result)
{
    struct bench *bench = context;
    unsigned index = 0;

    while (index < bench->handle_count && bench->handles[index] != curl)
        index++;
    assert_true(index < bench->handle_count); /* ours, and told for the first time */
    bench->results[index] = result;
    bench->ended++;
    handle_end(bench, index);
    if (bench->remove_all)
        handles_end(bench);
    if (bench->begin_more > 0) {
        bench->begin_more--;
        bench_begin(bench, "/", bench->server.port, LONG_MS);
    }
}

static size_t ignore(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

static void bench_begin(struct bench *bench, const char *path, uint16_t port, long timeout_ms)
{
    CURL *curl = curl_easy_init();
    char url[64];

    assert_non_null(curl);
    assert_true(bench->handle_count < HANDLES_MAX);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
    assert_int_equal(curl_easy_setopt(curl, CURLOPT_URL, url), CURLE_OK);
    assert_int_equal(curl_easy_setopt(curl, CURLOPT_PROXY, ""), CURLE_OK);
    assert_int_equal(curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L), CURLE_OK);
    assert_int_equal(curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms), CURLE_OK);
    assert_int_equal(curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore), CURLE_OK);
    bench->handles[bench->handle_count++] = curl;
    assert_int_equal(curl_multi_add_handle(bench->loop.multi, curl), CURLM_OK);
}

static void bench_init(struct bench *bench)
{
    *bench = (struct bench){.base = event_base_new()};
    assert_non_null(bench->base);
    server_init(&bench->server, bench->base);
    assert_true(curl_loop_init(&bench->loop, bench->base, on_ended, bench));
}

/* Turns until so many have ended, and so many were asked of the server. */
static void bench_run(struct bench *bench, unsigned ended, unsigned asked)
{
    while (bench->ended < ended || bench->server.asked < asked)
        assert_true(event_base_loop(bench->base, EVLOOP_ONCE) >= 0);
}

static void bench_deinit(struct bench *bench)
{
    handles_end(bench);
    curl_loop_deinit(&bench->loop);
    server_deinit(&bench->server);
    assert_int_equal(event_base_get_num_events(bench->base, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE), 0);
    event_base_free(bench->base);
}

/* -- the cases ------------------------------------------------------------------------------------------------------------ */

static void each_end_is_told_once(void **state)
{
    struct bench bench;
    uint16_t nobody;
    int closed = listen_somewhere(&nobody);

    (void)state;
    close(closed);
    bench_init(&bench);
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_begin(&bench, "/", nobody, LONG_MS);
    bench_begin(&bench, "/never", bench.server.port, 50); /* the timer ends it */
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_run(&bench, 4, 0);
    assert_int_equal(bench.results[0], CURLE_OK);
    assert_int_equal(bench.results[1], CURLE_COULDNT_CONNECT);
    assert_int_equal(bench.results[2], CURLE_OPERATION_TIMEDOUT);
    assert_int_equal(bench.results[3], CURLE_OK);
    assert_int_equal(bench.ended, 4);
    bench_deinit(&bench);
}

/* No connection: curl's first timer ends it. */
static void bench_begin_nonsense(struct bench *bench)
{
    bench_begin(bench, "nonsense", bench->server.port, LONG_MS);
}

static void all_ends_of_one_turn_are_told(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench);
    for (unsigned i = 0; i < 4; i++)
        bench_begin_nonsense(&bench);
    while (bench.ended == 0)
        assert_true(event_base_loop(bench.base, EVLOOP_ONCE) >= 0);
    assert_int_equal(bench.ended, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(bench.results[i], CURLE_URL_MALFORMAT);
    bench_deinit(&bench);
}

/* Those that have ended as well, in the same turn, are not told of any more: their handles are gone. */
static void an_end_removes_others(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench);
    bench.remove_all = true;
    for (unsigned i = 0; i < 4; i++)
        bench_begin_nonsense(&bench);
    bench_begin(&bench, "/never", bench.server.port, LONG_MS);
    bench_run(&bench, 1, 0);
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_run(&bench, 2, 1);
    assert_int_equal(bench.ended, 2);
    assert_int_equal(bench.results[5], CURLE_OK);
    bench_deinit(&bench);
}

static void an_end_begins_the_next(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench);
    bench.begin_more = 4;
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_run(&bench, 5, 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(bench.results[i], CURLE_OK);
    assert_int_equal(bench.server.connection_count, 1); /* it was kept for the next */
    bench_deinit(&bench);
}

/* One that waits for its answer, one that has not begun, a connection that is kept: bench_deinit counts what is left of them. */
static void closed_with_all_under_way(void **state)
{
    struct bench bench;

    (void)state;
    bench_init(&bench);
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_run(&bench, 1, 1);
    bench_begin(&bench, "/never", bench.server.port, LONG_MS);
    bench_begin(&bench, "/never", bench.server.port, LONG_MS);
    bench_run(&bench, 1, 3);
    bench_begin(&bench, "/", bench.server.port, LONG_MS);
    bench_deinit(&bench);
    assert_int_equal(bench.ended, 1);
}

static void nothing_is_closed_as_well(void **state)
{
    struct curl_loop loop = {0};

    (void)state;
    curl_loop_deinit(&loop);
    assert_null(loop.multi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_end_is_told_once),
        cmocka_unit_test(all_ends_of_one_turn_are_told),
        cmocka_unit_test(an_end_removes_others),
        cmocka_unit_test(an_end_begins_the_next),
        cmocka_unit_test(closed_with_all_under_way),
        cmocka_unit_test(nothing_is_closed_as_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
