/* The look-ups of dns_lookup.h, asked through c-ares on the control loop.
 *
 * A look-up has a channel of its own: it reads /etc/resolv.conf as it is now, sends from ports of its own, and leaves nothing
 * behind. c-ares says which sockets to watch and when to look at the clock; its callbacks only write down what came, and
 * what follows from it is done when c-ares has returned.
 *
 * Next look-up  after `interval`, or when the shortest TTL ends if that is sooner (at least a second; TTL 0 says nothing), less
 *               up to a tenth, so that balancers started together do not ask together. Until the first good answer every second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <ares.h>
#include <event2/event.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/base/num.h"
#include "common/cluster/resolve/dns_lookup.h"
#include "common/run/clock.h"
#include "common/run/control.h"

#define TRIES 3                       /* of each server */
#define ATTEMPTS_IN_TIMEOUT 4         /* the first attempt may take a quarter of the timeout, the next twice that */
#define EDNS_BYTES 1232               /* no fragments on any path: DNS flag day 2020. More comes truncated, then over TCP */
#define FIRST_INTERVAL_NS (1 * NS_PER_S)
#define LEAST_INTERVAL_NS (1 * NS_PER_S)
#define CLASS_IN 1
#define DNS_PORT 53
#define SERVER_LEN_MAX 96             /* an IPv6 address with zone, brackets and port */

struct dns_socket {
    struct list node;
    struct resolver_dns *owner;
    ares_socket_t fd;
    struct event *event;
};

struct resolver_dns {
    struct resolver resolver;
    struct control *control;
    struct dns_options options;
    char *servers;                 /* as ares_set_servers_ports_csv takes them; NULL: the system's */
    struct event *tick, *time_up, *retry;
    /* of the look-up under way */
    ares_channel channel;          /* NULL: none is under way */
    struct dns_lookup lookup;
    struct list sockets;
    size_t pending;                /* questions without an answer */
    bool ending;                   /* what comes now comes of our own end */
    uint64_t began_ns;
    /* of those before */
    struct dns_result last;        /* whose list is in force; empty: none yet */
    uint64_t random;
};

static struct resolver_dns *dns_of(struct resolver *resolver)
{
    return container_of(resolver, struct resolver_dns, resolver);
}

static void timer_set(struct event *event, uint64_t after_ns)
{
    const struct timeval after = {
        .tv_sec = (time_t)(after_ns / NS_PER_S),
        .tv_usec = (suseconds_t)(after_ns % NS_PER_S / NS_PER_US),
    };

    ASSERT(event_add(event, &after) == 0);
}

/* -- when to look again ---------------------------------------------------------------------------------------- */

static uint64_t random_next(struct resolver_dns *dns)
{
    dns->random ^= dns->random << 13;
    dns->random ^= dns->random >> 7;
    dns->random ^= dns->random << 17;
    return dns->random;
}

static void schedule(struct resolver_dns *dns, uint32_t ttl_s)
{
    uint64_t wait_ns = dns->options.interval_ns;
    uint64_t took_ns = u64_sub_floor(clock_now_ns(), dns->began_ns);

    if (dns->last.list.count == 0)
        wait_ns = u64_min(wait_ns, FIRST_INTERVAL_NS);
    if (ttl_s != DNS_TTL_NONE && ttl_s > 0)
        wait_ns = u64_min(wait_ns, u64_max(ttl_s * NS_PER_S, LEAST_INTERVAL_NS));
    wait_ns -= wait_ns / 10 * (random_next(dns) % 1024) / 1024;
    /* The pause is for the server's sake: a look-up that took longer than its interval is not followed at once. */
    timer_set(dns->tick, u64_max(u64_sub_floor(wait_ns, took_ns), 100 * NS_PER_MS));
}

/* -- the end of a look-up ---------------------------------------------------------------------------------------- */

/* What a look-up found, to whom it concerns. The list in force is the last one that held something. */
static void report(struct resolver_dns *dns, struct dns_result *result)
{
    const struct resolver_events *events = &dns->resolver.events;
    bool changed = result->confirmed && !dns_list_same(&result->list, &dns->last.list);

    if (result->confirmed) {
        dns_list_deinit(&dns->last.list);
        dns->last = *result;
    } else {
        dns_list_deinit(&result->list);
    }
    if (changed)
        events->resolved(events->context, dns->last.list.items, dns->last.list.count);
    else if (!result->failed)
        events->unchanged(events->context);
    if (result->failed)
        events->failed(events->context, result->reason);
}

static void channel_close(struct resolver_dns *dns)
{
    if (!dns->channel)
        return;
    dns->ending = true;
    ares_destroy(dns->channel); /* ends what is pending, and has its sockets closed */
    dns->ending = false;
    dns->channel = NULL;
    ASSERT(list_empty(&dns->sockets));
    (void)event_del(dns->time_up);
    (void)event_del(dns->retry);
}

static void lookup_end(struct resolver_dns *dns)
{
    struct dns_result result;

    channel_close(dns);
    dns_lookup_finish(&dns->lookup, dns->last.list.count > 0 ? &dns->last : NULL, &result);
    dns_lookup_deinit(&dns->lookup);
    report(dns, &result);
    schedule(dns, result.failed ? DNS_TTL_NONE : result.list.ttl_s);
}

/* A look-up that never came to questions. */
static void lookup_fail(struct resolver_dns *dns, const char *reason)
{
    const struct resolver_events *events = &dns->resolver.events;

    channel_close(dns);
    events->failed(events->context, reason);
    schedule(dns, DNS_TTL_NONE);
}

/* -- c-ares and the loop ---------------------------------------------------------------------------------------- */

struct asked { /* a question with c-ares */
    struct resolver_dns *dns;
    struct dns_question *question;
};

static enum dns_outcome outcome_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return DNS_ANSWERED;
    case ARES_ENOTFOUND:
        return DNS_NO_NAME;
    case ARES_ENODATA:
        return DNS_NO_DATA;
    default:
        return DNS_FAILED;
    }
}

static const char *failure_text(int status)
{
    switch (status) {
    case ARES_ECONNREFUSED: /* what c-ares calls it when all servers were tried, whatever each of them did */
        return "each server failed, refused, or is away";
    case ARES_ETIMEOUT:
        return "no answer in time";
    default:
        return ares_strerror(status);
    }
}

static void on_answer(void *argument, int status, int timeouts, unsigned char *bytes, int len)
{
    struct asked *asked = argument;
    struct resolver_dns *dns = asked->dns;
    enum dns_outcome outcome = outcome_of(status);

    (void)timeouts;
    if (!dns->ending) { /* else it is left unanswered: time is up, or the resolver goes */
        dns_lookup_answer(&dns->lookup, asked->question, outcome, slice_make(bytes, bytes && len > 0 ? (size_t)len : 0),
            failure_text(status));
        dns->pending--;
    }
    free(asked);
}

/* Asks what there is to ask, until an answer has to be waited for; ends the look-up when there is nothing more. */
static void lookup_go_on(struct resolver_dns *dns)
{
    struct timeval most = {.tv_sec = 1}, wait;

    while (dns->pending == 0) {
        struct dns_question *question = dns_lookup_next(&dns->lookup);

        if (!question && !dns_lookup_more(&dns->lookup)) {
            lookup_end(dns);
            return;
        }
        for (; question; question = dns_lookup_next(&dns->lookup)) {
            struct asked *asked = malloc(sizeof(*asked));

            ASSERT(asked != NULL);
            *asked = (struct asked){dns, question};
            dns->pending++;
            ares_query(dns->channel, question->name, CLASS_IN, (int)question->type, on_answer, asked);
        }
    }
    (void)event_add(dns->retry, ares_timeout(dns->channel, &most, &wait));
}

static void on_socket(evutil_socket_t fd, short what, void *argument)
{
    struct resolver_dns *dns = ((struct dns_socket *)argument)->owner; /* the socket may be closed in what follows */

    ares_process_fd(
        dns->channel, what & EV_READ ? fd : ARES_SOCKET_BAD, what & EV_WRITE ? fd : ARES_SOCKET_BAD);
    lookup_go_on(dns);
}

static void on_retry(evutil_socket_t fd, short what, void *argument)
{
    struct resolver_dns *dns = argument;

    (void)fd;
    (void)what;
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    lookup_go_on(dns);
}

static void on_time_up(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    lookup_end(argument);
}

static struct dns_socket *socket_find(struct resolver_dns *dns, ares_socket_t fd)
{
    LIST_FOR_EACH (node, &dns->sockets) {
        struct dns_socket *at = container_of(node, struct dns_socket, node);

        if (at->fd == fd)
            return at;
    }
    return NULL;
}

/* c-ares wants this socket watched for that; for nothing: it is about to be closed. */
static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
    struct resolver_dns *dns = context;
    struct dns_socket *at = socket_find(dns, fd);
    short what = (short)(EV_PERSIST | (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));

    if (at) {
        event_free(at->event);
    } else {
        if (!readable && !writable)
            return;
        at = calloc(1, sizeof(*at));
        ASSERT(at != NULL);
        at->owner = dns;
        at->fd = fd;
        list_add_tail(&dns->sockets, &at->node);
    }
    if (!readable && !writable) {
        list_del(&at->node);
        free(at);
        return;
    }
    at->event = event_new(dns->control->base, fd, what, on_socket, at);
    ASSERT(at->event != NULL && event_add(at->event, NULL) == 0);
}

/* -- the beginning of a look-up ------------------------------------------------------------------------------------ */

static int channel_open(struct resolver_dns *dns)
{
    struct ares_options options = {
        .flags = ARES_FLAG_EDNS,
        .timeout = (int)u64_max(dns->options.timeout_ns / NS_PER_MS / ATTEMPTS_IN_TIMEOUT, 1),
        .tries = TRIES,
        .ednspsz = EDNS_BYTES,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = dns,
    };
    int r = ares_init_options(&dns->channel, &options,
        ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB);

    if (r != ARES_SUCCESS)
        dns->channel = NULL;
    if (r == ARES_SUCCESS && dns->servers)
        r = ares_set_servers_ports_csv(dns->channel, dns->servers);
    return r;
}

/* The name as /etc/hosts has it, which comes before any server. */
static void hosts_read(struct resolver_dns *dns, struct dns_list *list)
{
    static const int families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
        struct hostent *host = NULL;

        if (ares_gethostbyname_file(dns->channel, dns->options.hostname, families[i], &host) != ARES_SUCCESS)
            continue;
        for (char **at = host->h_addr_list; *at; at++) {
            char ip[INET6_ADDRSTRLEN];

            if (inet_ntop(families[i], *at, ip, sizeof(ip)))
                dns_list_add(list, ip, dns->options.port, "");
        }
        ares_free_hostent(host);
    }
}

/* An address is its own answer; a name in /etc/hosts needs no server. False: it takes a look-up. */
static bool answered_here(struct resolver_dns *dns)
{
    struct dns_result result = {.list = dns_list_empty(), .confirmed = true};
    uint8_t address[16];

    if (inet_pton(AF_INET, dns->options.hostname, address) == 1 || inet_pton(AF_INET6, dns->options.hostname, address) == 1)
        dns_list_add(&result.list, dns->options.hostname, dns->options.port, "");
    else if (!dns_is_service(dns->options.hostname))
        hosts_read(dns, &result.list);
    dns_list_settle(&result.list);
    if (result.list.count == 0) {
        dns_list_deinit(&result.list);
        return false;
    }
    channel_close(dns);
    report(dns, &result);
    schedule(dns, DNS_TTL_NONE);
    return true;
}

static void lookup_begin(struct resolver_dns *dns)
{
    struct ares_options system;
    int mask, r;

    dns->began_ns = clock_now_ns();
    r = channel_open(dns);
    if (r == ARES_SUCCESS && answered_here(dns))
        return;
    if (r == ARES_SUCCESS)
        r = ares_save_options(dns->channel, &system, &mask);
    if (r != ARES_SUCCESS) {
        lookup_fail(dns, ares_strerror(r));
        return;
    }
    dns_lookup_init(&dns->lookup, dns->options.hostname, dns->options.port, (const char *const *)system.domains,
        system.ndomains > 0 ? (size_t)system.ndomains : 0, system.ndots, dns->last.sure ? dns->last.chosen : "");
    ares_destroy_options(&system);
    dns->pending = 0;
    timer_set(dns->time_up, dns->options.timeout_ns);
    lookup_go_on(dns);
}

static void on_tick(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    lookup_begin(argument);
}

/* -- life -------------------------------------------------------------------------------------------------------- */

static void dns_start(struct resolver *resolver)
{
    lookup_begin(dns_of(resolver));
}

static void dns_free(struct resolver *resolver)
{
    struct resolver_dns *dns = dns_of(resolver);

    if (dns->time_up && dns->retry)
        channel_close(dns);
    dns_lookup_deinit(&dns->lookup);
    dns_list_deinit(&dns->last.list);
    if (dns->tick)
        event_free(dns->tick);
    if (dns->time_up)
        event_free(dns->time_up);
    if (dns->retry)
        event_free(dns->retry);
    free(dns->servers);
    free(dns);
    ares_library_cleanup();
}

static const struct resolver_ops dns_ops = {"dns", dns_start, dns_free, NULL};

/* Whether it is an IP address, whose last part is a port when `address` was made by resolver_address. */
static bool numeric(const char *address)
{
    const char *colon = strrchr(address, ':');
    char host[64], ip[16];

    if (address[0] == '[')
        return true; /* resolver_address has read it */
    if (!colon || (size_t)(colon - address) >= sizeof(host))
        return false;
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    return inet_pton(AF_INET, host, ip) == 1;
}

/* One list with commas, as c-ares reads it. Each must be an address: c-ares would pass over what it cannot read. */
static int servers_join(const struct dns_options *options, char **out_servers)
{
    size_t size = options->server_count * SERVER_LEN_MAX + 1, len = 0;
    char *text = calloc(1, size);

    if (!text)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < options->server_count; i++) {
        char address[SERVER_LEN_MAX - 1];

        if (!resolver_address(options->servers[i], DNS_PORT, address, sizeof(address)) || !numeric(address)) {
            free(text);
            return RESOLVER_E_BAD_ADDRESS;
        }
        len += (size_t)snprintf(text + len, size - len, "%s%s", i ? "," : "", address);
    }
    *out_servers = text;
    return 0;
}

/* A name, or an address alone. */
static bool hostname_ok(const char *hostname)
{
    char address[264];
    uint8_t ip[16];

    if (inet_pton(AF_INET6, hostname, ip) == 1)
        return true;
    return !strpbrk(hostname, ":/[]") && resolver_address(hostname, RESOLVER_DEFAULT_PORT, address, sizeof(address));
}

int resolver_dns_new(struct control *control, const struct dns_options *options, const struct resolver_events *events,
    struct resolver **out_resolver)
{
    struct resolver_dns *dns = calloc(1, sizeof(*dns));
    int r;

    if (!dns)
        return error_raise(-ENOMEM);
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        free(dns);
        return error_raise(-ENOMEM);
    }
    dns->resolver = (struct resolver){&dns_ops, *events};
    dns->control = control;
    dns->options = *options;
    dns->options.port = options->port ? options->port : RESOLVER_DEFAULT_PORT;
    dns->last.list = dns_list_empty();
    list_init(&dns->sockets);
    dns->tick = evtimer_new(control->base, on_tick, dns);
    dns->time_up = evtimer_new(control->base, on_time_up, dns);
    dns->retry = evtimer_new(control->base, on_retry, dns);
    r = dns->tick && dns->time_up && dns->retry ? 0 : error_raise(-ENOMEM);
    if (getrandom(&dns->random, sizeof(dns->random), GRND_NONBLOCK) < 0 || dns->random == 0)
        dns->random = clock_now_ns() | 1; /* only jitter comes of it */
    if (r == 0 && !hostname_ok(options->hostname))
        r = RESOLVER_E_BAD_ADDRESS;
    if (r == 0 && options->server_count > 0)
        r = servers_join(options, &dns->servers);
    if (r) {
        dns_free(&dns->resolver);
        return r < 0 ? error_pass(r) : r;
    }
    *out_resolver = &dns->resolver;
    return 0;
}
