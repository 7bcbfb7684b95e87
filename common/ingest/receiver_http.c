/* The first loop accepts, and deals connections out to all of them in turn; from then on a connection lives on its loop
 * (http_connection.c). Few threads, so that one listening socket is enough: a port that is taken twice shall fail. */
#include "common/ingest/receiver_http.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/ingest/http_connection.h"
#include "common/ingest/http_listen.h"
#include "common/metrics/text.h"
#include "common/run/http_loop.h"

#define ACCEPTS_A_TURN 64
#define SWEEP_MS 250
#define ACCEPT_PAUSE_MS 100 /* without file descriptors: connections wait in the kernel */

/* A receiver's share on one loop, and the mail that moves it there. */
struct http_share {
    struct http_home home;
    struct receiver_http *receiver;
    struct event *sweep;
    struct mail start_mail, drain_mail, cancel_mail;
};

struct receiver_http {
    struct http_service service;
    struct http_loop *const *loops;
    int fds[HTTP_LISTEN_MAX];
    struct event *accepts[HTTP_LISTEN_MAX];
    struct event *accept_again;
    size_t fd_count;
    int port;
    unsigned next_share;
    atomic_uint open; /* shares that have connections, or may get some */
    void (*on_done)(void *context);
    void *done_context;
    unsigned share_count;
    struct http_share shares[];
};

/* -- accepting: the first loop --------------------------------------------------------------------------------------------------- */

struct socket_mail {
    struct mail mail;
    struct http_home *home;
    int fd;
};

static void share_on_socket(struct mail *mail, void *receiver)
{
    struct socket_mail *news = container_of(mail, struct socket_mail, mail);

    (void)receiver;
    http_home_adopt(news->home, news->fd);
    free(news);
}

static void deal_out(struct receiver_http *receiver, int fd)
{
    struct http_share *share = &receiver->shares[receiver->next_share++ % receiver->share_count];
    struct socket_mail *news;

    if (share == &receiver->shares[0]) {
        http_home_adopt(&share->home, fd);
        return;
    }
    news = calloc(1, sizeof(*news));
    if (!news) {
        close(fd);
        return;
    }
    news->mail.deliver = share_on_socket;
    news->home = &share->home;
    news->fd = fd;
    http_loop_post(share->home.loop, &news->mail);
}

static void pause_accepting(struct receiver_http *receiver)
{
    const struct timeval pause = {0, ACCEPT_PAUSE_MS * 1000};

    for (size_t i = 0; i < receiver->fd_count; i++)
        (void)event_del(receiver->accepts[i]);
    (void)event_add(receiver->accept_again, &pause);
}

static void on_accept_again(evutil_socket_t fd, short what, void *argument)
{
    struct receiver_http *receiver = argument;

    (void)fd;
    (void)what;
    for (size_t i = 0; i < receiver->fd_count; i++)
        (void)event_add(receiver->accepts[i], NULL);
}

static void on_accept(evutil_socket_t fd, short what, void *argument)
{
    struct receiver_http *receiver = argument;

    (void)what;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (accepted >= 0) {
            deal_out(receiver, accepted);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            pause_accepting(receiver);
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void stop_accepting(struct receiver_http *receiver)
{
    for (size_t i = 0; i < receiver->fd_count; i++) {
        if (receiver->accepts[i])
            event_free(receiver->accepts[i]);
        receiver->accepts[i] = NULL;
        close(receiver->fds[i]);
    }
    receiver->fd_count = 0;
    if (receiver->accept_again)
        event_free(receiver->accept_again);
    receiver->accept_again = NULL;
}

/* -- shares, each on its loop ------------------------------------------------------------------------------------------------------ */

static void receiver_release(struct receiver_http *receiver)
{
    if (atomic_fetch_sub(&receiver->open, 1) == 1)
        receiver->on_done(receiver->done_context);
}

static void share_on_empty(struct http_home *home)
{
    struct http_share *share = container_of(home, struct http_share, home);

    (void)event_del(share->sweep);
    receiver_release(share->receiver);
}

static void on_sweep(evutil_socket_t fd, short what, void *argument)
{
    struct http_share *share = argument;

    (void)fd;
    (void)what;
    http_home_sweep(&share->home);
}

static void share_on_start(struct mail *mail, void *loop)
{
    struct http_share *share = container_of(mail, struct http_share, start_mail);
    struct receiver_http *receiver = share->receiver;
    const struct timeval period = {0, SWEEP_MS * 1000};

    (void)loop;
    (void)event_add(share->sweep, &period);
    if (share == &receiver->shares[0])
        on_accept_again(-1, 0, receiver);
}

static void share_on_drain(struct mail *mail, void *loop)
{
    struct http_share *share = container_of(mail, struct http_share, drain_mail);

    (void)loop;
    if (share == &share->receiver->shares[0])
        stop_accepting(share->receiver);
    http_home_drain(&share->home);
}

static void share_on_cancel(struct mail *mail, void *loop)
{
    struct http_share *share = container_of(mail, struct http_share, cancel_mail);

    (void)loop;
    http_home_cancel(&share->home);
}

/* -- life -------------------------------------------------------------------------------------------------------------------------- */

static char *header_lines_new(char *const *pairs)
{
    struct text text = {0};

    text_append(&text, "%s", "");
    for (; pairs && pairs[0] && pairs[1]; pairs += 2)
        text_append(&text, "%s: %s\r\n", pairs[0], pairs[1]);
    if (text.failed) {
        text_deinit(&text);
        return NULL;
    }
    return text.at;
}

static int receiver_listen(struct receiver_http *receiver, char *out_error, size_t error_size)
{
    struct event_base *base = http_loop_base(receiver->loops[0]);
    int r = http_listen(receiver->service.options.endpoint, receiver->fds, &receiver->fd_count, &receiver->port, out_error, error_size);

    if (r)
        return error_pass(r);
    receiver->accept_again = event_new(base, -1, 0, on_accept_again, receiver);
    if (!receiver->accept_again)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < receiver->fd_count; i++) {
        receiver->accepts[i] = event_new(base, receiver->fds[i], EV_READ | EV_PERSIST, on_accept, receiver);
        if (!receiver->accepts[i])
            return error_raise(-ENOMEM);
    }
    return 0;
}

static int share_init(struct receiver_http *receiver, unsigned index, struct metrics_cell *cell)
{
    struct http_share *share = &receiver->shares[index];
    int r;

    share->receiver = receiver;
    share->start_mail.deliver = share_on_start;
    share->drain_mail.deliver = share_on_drain;
    share->cancel_mail.deliver = share_on_cancel;
    r = http_home_init(&share->home, &receiver->service, receiver->loops[index], cell);
    if (r)
        return error_pass(r);
    share->home.on_empty = share_on_empty;
    share->sweep = event_new(http_loop_base(receiver->loops[index]), -1, EV_PERSIST, on_sweep, share);
    return share->sweep ? 0 : error_raise(-ENOMEM);
}

int receiver_http_new(const struct receiver_http_options *options, const struct receiver_http_threads *threads,
    const struct tier_entry *entry, struct receiver_http **out_receiver, char *out_error, size_t error_size)
{
    struct receiver_http *receiver = calloc(1, sizeof(*receiver) + threads->loop_count * sizeof(receiver->shares[0]));
    int r = 0;

    if (!receiver)
        return error_raise(-ENOMEM);
    receiver->service.options = *options;
    receiver->service.entry = *entry;
    receiver->service.worker_count = threads->worker_count;
    receiver->service.header_lines = header_lines_new(options->response_headers);
    receiver->service.workers = calloc(threads->worker_count, sizeof(receiver->service.workers[0]));
    receiver->loops = threads->loops;
    if (!receiver->service.header_lines || !receiver->service.workers)
        r = error_raise(-ENOMEM);
    for (unsigned i = 0; r == 0 && i < threads->worker_count; i++)
        receiver->service.workers[i] = threads->workers[i];
    for (unsigned i = 0; r == 0 && i < threads->loop_count; i++) {
        receiver->share_count = i + 1;
        r = share_init(receiver, i, &threads->cells[i]);
    }
    if (r == 0)
        r = receiver_listen(receiver, out_error, error_size);
    if (r) {
        receiver_http_free(receiver);
        return error_pass(r);
    }
    *out_receiver = receiver;
    return 0;
}

int receiver_http_port(const struct receiver_http *receiver)
{
    return receiver->port;
}

void receiver_http_start(struct receiver_http *receiver)
{
    for (unsigned i = 0; i < receiver->share_count; i++)
        http_loop_post(receiver->loops[i], &receiver->shares[i].start_mail);
}

void receiver_http_draining(struct receiver_http *receiver)
{
    atomic_store(&receiver->service.draining, true);
}

void receiver_http_shutdown(struct receiver_http *receiver, void (*on_done)(void *context), void *context)
{
    receiver->on_done = on_done;
    receiver->done_context = context;
    atomic_store(&receiver->open, receiver->share_count);
    for (unsigned i = 0; i < receiver->share_count; i++)
        http_loop_post(receiver->loops[i], &receiver->shares[i].drain_mail);
}

void receiver_http_cancel_all(struct receiver_http *receiver)
{
    for (unsigned i = 0; i < receiver->share_count; i++)
        http_loop_post(receiver->loops[i], &receiver->shares[i].cancel_mail);
}

void receiver_http_free(struct receiver_http *receiver)
{
    if (!receiver)
        return;
    stop_accepting(receiver);
    for (unsigned i = 0; i < receiver->share_count; i++) {
        http_home_deinit(&receiver->shares[i].home);
        if (receiver->shares[i].sweep)
            event_free(receiver->shares[i].sweep);
    }
    free(receiver->service.workers);
    free(receiver->service.header_lines);
    free(receiver);
}
