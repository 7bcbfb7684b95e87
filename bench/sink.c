/* tailrace-sink: an OTLP/gRPC backend that remembers which spans arrived, misbehaves on demand, and judges.
 *
 * A span counts as arrived when the call that brought it was answered OK and not cancelled before: what a sender
 * could not know delivered it may send again without being blamed. Recording happens after the answer. What stays
 * open is an answer that passes the sender's own deadline on the way: keep slow= well away from it.
 *
 * One thread, one completion queue. --compare is the judge (judge.h): no server then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grpc/support/alloc.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/arrivals.h"
#include "bench/judge.h"
#include "bench/options.h"
#include "bench/transport.h"
#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "common/otlp/span_walk.h"
#include "common/run/clock.h"

#define POSTED_CALLS 128
#define FDS_MOST 4096
#define DOOM_NS NS_PER_S /* an answer on loopback is read before, also by a sender that was not scheduled for a while */

enum call_state { CALL_WAITING, CALL_SLOW, CALL_ANSWERED, CALL_HUNG };

/*   WAITING --a request came--> ANSWERED ------------------------> recorded, freed
 *      |                           ^
 *      |--slow------> SLOW --its time came
 *      '--hang------> HUNG --the client gave up------------------> freed, not recorded
 */
struct call {
    enum call_state state;
    bool unknown_method;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_call_details details;
    grpc_byte_buffer *payload;
    int cancelled;
    int refused_code; /* 0: answered OK */
    uint32_t node;
    uint64_t answer_at_ns;
    struct call *next; /* in the queue of slow ones, oldest first */
};

struct injection {
    double refuse_percent;
    int refuse_code;
    uint64_t refuse_retry_ns;
    uint64_t slow_ns;
    double hang_percent;
    uint64_t close_every;
};

struct options {
    uint64_t port;
    struct option_list inject, rest, compare;
    double inject_from, inject_to;
    double lose, repeat, misname, alter;
    const char *report, *arrivals, *status, *rule, *decisions, *address;
    uint64_t examples;
};

static struct options options = {.rule = "all", .examples = 5, .address = "127.0.0.1"};

static const struct option_def option_table[] = {
    {"port", OPTION_U64, &options.port, "to listen on; 0: any free one, printed on standard output"},
    {"address", OPTION_TEXT, &options.address, "to listen on"},
    {"report", OPTION_TEXT, &options.report, "file for the JSON report at the end"},
    {"arrivals", OPTION_TEXT, &options.arrivals, "file for all arrivals at the end: what --compare reads"},
    {"status", OPTION_TEXT, &options.status, "file rewritten each second: JSON of what arrived so far"},
    {"inject", OPTION_LIST, &options.inject,
        "faults: refuse=PERCENT:CODE[:RETRY_MS], slow=MS, hang=PERCENT, close=EVERY_N_CALLS"},
    {"inject-from", OPTION_DOUBLE, &options.inject_from, "faults begin so many seconds after the first request"},
    {"inject-to", OPTION_DOUBLE, &options.inject_to, "and end then; 0: never"},
    {"lose", OPTION_DOUBLE, &options.lose, "lie: percent of spans acknowledged and forgotten"},
    {"double", OPTION_DOUBLE, &options.repeat, "lie: percent of spans recorded twice"},
    {"misname", OPTION_DOUBLE, &options.misname, "lie: percent of calls recorded under another node's name"},
    {"alter", OPTION_DOUBLE, &options.alter, "lie: percent of spans recorded as if their bytes had changed"},
    {"compare", OPTION_LIST, &options.compare, "judge: ledgers; the words that follow are files of arrivals"},
    {"rule", OPTION_TEXT, &options.rule,
        "which traces are kept: all, none, or parts joined by |: errors, latency>MS, tenant=tenant-07, percent=N[:SALT]"},
    {"decisions", OPTION_TEXT, &options.decisions, "file of lines `<hex trace ID> sampled|not`, instead of --rule"},
    {"examples", OPTION_U64, &options.examples, "trace IDs shown for each kind of fault"},
    {NULL, OPTION_FLAG, NULL, NULL},
};

struct sink {
    grpc_completion_queue *queue;
    grpc_server *server;
    void *export_method;
    struct arrivals arrivals;
    struct injection injection;
    int port;
    uint64_t started_ns, first_request_ns;
    uint64_t random;
    uint64_t requests, bytes, refused, hung, slowed, closed_connections, unknown_methods;
    uint64_t unconfirmed_requests; /* answered OK, but the call was cancelled before */
    struct call *slow_first, **slow_end;
    int doomed_fd; /* 0: none */
    uint16_t doomed_port;
    uint64_t doomed_until_ns;
    uint8_t *scratch;
    size_t scratch_size;
};

static struct sink sink;
static volatile sig_atomic_t stop_signals, show_signals;

static void on_signal(int signal_number)
{
    if (signal_number == SIGUSR1)
        show_signals++;
    else
        stop_signals++;
}

static bool draw_percent(double percent)
{
    uint64_t x = sink.random += 0x9e3779b97f4a7c15ull;

    if (percent <= 0)
        return false;
    return (double)(model_mix(x) >> 11) / 9007199254740992.0 * 100 < percent;
}

/* -- recording ------------------------------------------------------------------------------------------- */

/* The span ID of a Span message that the walk has found well-formed; false: none. */
static bool span_id_of(struct slice span, uint8_t out_id[8])
{
    struct wire w = wire_of(span);
    bool found = false;

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag != WIRE_TAG(2, WIRE_BYTES)) {
            wire_skip(&w, tag);
            continue;
        }
        struct slice id = wire_bytes(&w);

        found = id.len == 8;
        if (found)
            memcpy(out_id, id.at, 8);
        if (found && id.at - span.at < 40) /* where every writer puts it; elsewhere the last one counts */
            break;
    }
    return found;
}

static void record_span(const struct span_ref *span, uint32_t node)
{
    uint8_t id[8] = {0};
    uint64_t content = hash_bytes(span->bytes.at, span->bytes.len);
    int index;

    if (span->fault != SPAN_OK || !span_id_of(span->bytes, id)) {
        sink.arrivals.invalid_spans++;
        return;
    }
    index = model_span_index(&span->trace_id, id);
    if (draw_percent(options.lose))
        return;
    if (draw_percent(options.alter))
        content++;
    arrivals_add(&sink.arrivals, &span->trace_id, index, node, content);
    if (draw_percent(options.repeat))
        arrivals_add(&sink.arrivals, &span->trace_id, index, node, content);
}

static void record(struct call *call)
{
    struct message message = message_open(call->payload, &sink.scratch, &sink.scratch_size);
    uint32_t node = call->node;
    struct span_walk walk;
    struct span_ref span;

    if (draw_percent(options.misname))
        node = arrivals_node(&sink.arrivals, SLICE_LITERAL("misnamed"));
    span_walk_init(&walk, message.bytes);
    while (span_walk_next(&walk, &span))
        record_span(&span, node);
    sink.arrivals.malformed_requests += walk.bad;
    message_close(&message);
}

/* -- pages ------------------------------------------------------------------------------------------------ */

static void report_write(FILE *out)
{
    const struct arrivals *a = &sink.arrivals;
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    fprintf(out, "{\"port\": %d, \"seconds\": %.3f, \"requests\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"spans\": %" PRIu64
        ", \"traces\": %" PRIu64 ",\n", sink.port, (double)(clock_now_ns() - sink.started_ns) / 1e9, sink.requests,
        sink.bytes, a->spans, a->traces);
    fprintf(out, " \"doubled_spans\": %" PRIu64 ", \"traces_of_several_nodes\": %" PRIu64 ", \"foreign_spans\": %" PRIu64
        ", \"malformed_requests\": %" PRIu64 ", \"invalid_spans\": %" PRIu64 ",\n", a->repeats, a->traces_of_two_nodes,
        a->strangers, a->malformed_requests, a->invalid_spans);
    fprintf(out, " \"refused\": %" PRIu64 ", \"slowed\": %" PRIu64 ", \"hung\": %" PRIu64 ", \"closed_connections\": %" PRIu64
        ", \"unconfirmed_requests\": %" PRIu64 ", \"unknown_methods\": %" PRIu64 ",\n", sink.refused, sink.slowed, sink.hung,
        sink.closed_connections, sink.unconfirmed_requests, sink.unknown_methods);
    fprintf(out, " \"nodes\": [");
    for (uint32_t i = 1; i < a->node_count; i++) {
        fputs(i > 1 ? ", \"" : "\"", out);
        for (const char *at = a->nodes[i]; *at; at++)
            fputc(*at < ' ' || *at == '"' || *at == '\\' ? '?' : *at, out);
        fputc('"', out);
    }
    fprintf(out, "], \"cpu_seconds\": %.3f}\n",
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
            (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}

/* Replaced whole, so that a reader never sees half of it. */
static bool report_file(const char *path)
{
    char temporary[4096];
    FILE *out;

    if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary))
        return false;
    out = fopen(temporary, "w");
    if (!out)
        return false;
    report_write(out);
    return fclose(out) == 0 && rename(temporary, path) == 0;
}

/* -- faults ----------------------------------------------------------------------------------------------- */

static bool inject_parse(struct injection *injection, char *text)
{
    char *value = strchr(text, '='), *end;

    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(text, "refuse") == 0) {
        injection->refuse_percent = strtod(value, &end);
        if (end == value || *end != ':')
            return false;
        injection->refuse_code = (int)strtol(end + 1, &end, 10);
        if (*end == ':')
            injection->refuse_retry_ns = strtoull(end + 1, &end, 10) * NS_PER_MS;
        return *end == '\0' && injection->refuse_code > 0 && injection->refuse_code <= 16;
    }
    if (strcmp(text, "slow") == 0)
        injection->slow_ns = strtoull(value, &end, 10) * NS_PER_MS;
    else if (strcmp(text, "hang") == 0)
        injection->hang_percent = strtod(value, &end);
    else if (strcmp(text, "close") == 0)
        injection->close_every = strtoull(value, &end, 10);
    else
        return false;
    return end != value && *end == '\0';
}

static bool injecting(uint64_t now_ns)
{
    double seconds = (double)(now_ns - sink.first_request_ns) / 1e9;

    return seconds >= options.inject_from && (options.inject_to <= 0 || seconds < options.inject_to);
}

/* Cutting a connection so that the judge stays exact: an answer that was sent and is cut off before the client
 * has read it would be blamed as a double when the client sends again. So a connection is first doomed: its calls
 * are left without an answer; a little later, when earlier answers have long been read, it is shut.
 * Core has no way to cut one connection, the kernel has: our accepted sockets are those bound to our port. */
static int port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return -1;
}

static bool peer_port_of(int fd, uint16_t *out_port)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 || port_of(&address) != sink.port)
        return false;
    size = sizeof(address);
    if (getpeername(fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    *out_port = (uint16_t)port_of(&address);
    return true;
}

static void doom_a_connection(uint64_t now_ns)
{
    static int next_fd;

    for (int i = 0; i < FDS_MOST && !sink.doomed_fd; i++) {
        int fd = (next_fd + i) % FDS_MOST;

        if (peer_port_of(fd, &sink.doomed_port)) {
            sink.doomed_fd = fd;
            sink.doomed_until_ns = now_ns + DOOM_NS;
            next_fd = fd + 1;
        }
    }
}

static void close_the_doomed(uint64_t now_ns)
{
    uint16_t port;

    if (!sink.doomed_fd || now_ns < sink.doomed_until_ns)
        return;
    if (peer_port_of(sink.doomed_fd, &port) && port == sink.doomed_port) {
        (void)shutdown(sink.doomed_fd, SHUT_RDWR);
        sink.closed_connections++;
    }
    sink.doomed_fd = 0;
}

/* The port at the other end of a call's connection. */
static uint16_t call_peer_port(grpc_call *call)
{
    char *peer = grpc_call_get_peer(call), *colon = strrchr(peer, ':');
    uint16_t port = colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;

    gpr_free(peer);
    return port;
}

static bool call_is_doomed(grpc_call *call)
{
    return sink.doomed_fd && call_peer_port(call) == sink.doomed_port;
}

/* -- calls ------------------------------------------------------------------------------------------------ */

static void call_post(bool unknown_method)
{
    struct call *call = calloc(1, sizeof(*call));
    grpc_call_error error;

    ASSERT(call);
    call->unknown_method = unknown_method;
    grpc_metadata_array_init(&call->metadata);
    if (unknown_method) {
        grpc_call_details_init(&call->details);
        error = grpc_server_request_call(
            sink.server, &call->call, &call->details, &call->metadata, sink.queue, sink.queue, call);
    } else {
        error = grpc_server_request_registered_call(sink.server, sink.export_method, &call->call, &call->deadline,
            &call->metadata, &call->payload, sink.queue, sink.queue, call);
    }
    ASSERT(error == GRPC_CALL_OK);
}

static void call_free(struct call *call)
{
    if (call->call)
        grpc_call_unref(call->call);
    if (call->unknown_method)
        grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_byte_buffer_destroy(call->payload);
    free(call);
}

static void call_answer(struct call *call, int code, uint64_t retry_ns, const char *message)
{
    grpc_op ops[4];
    grpc_metadata details = {.key = grpc_slice_from_static_string("grpc-status-details-bin"), .value = grpc_empty_slice()};
    grpc_slice text = grpc_slice_from_static_string(message);
    grpc_byte_buffer *response = NULL;
    unsigned count = 0;
    grpc_call_error error;

    call->state = CALL_ANSWERED;
    call->refused_code = code;
    memset(ops, 0, sizeof(ops));
    ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (code == 0) {
        response = grpc_raw_byte_buffer_create(NULL, 0);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = response;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = (grpc_status_code)code;
    if (code != 0)
        ops[count].data.send_status_from_server.status_details = &text;
    if (retry_ns) {
        details.value = retry_info_write(code, message, retry_ns);
        ops[count].data.send_status_from_server.trailing_metadata = &details;
        ops[count].data.send_status_from_server.trailing_metadata_count = 1;
    }
    count++;
    ops[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    ops[count++].data.recv_close_on_server.cancelled = &call->cancelled;
    error = grpc_call_start_batch(call->call, ops, count, call, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(response);
    if (retry_ns)
        grpc_slice_unref(details.value);
}

static void call_hang(struct call *call)
{
    grpc_op op;
    grpc_call_error error;

    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->state = CALL_HUNG;
    error = grpc_call_start_batch(call->call, &op, 1, call, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

static void on_request(struct call *call)
{
    const struct injection *injection = &sink.injection;
    uint64_t now_ns = clock_now_ns();

    call_post(call->unknown_method);
    if (call->unknown_method) {
        sink.unknown_methods++;
        call_answer(call, GRPC_STATUS_UNIMPLEMENTED, 0, "only trace export is served");
        return;
    }
    sink.requests++;
    if (!sink.first_request_ns)
        sink.first_request_ns = now_ns;
    if (call->payload)
        sink.bytes += grpc_byte_buffer_length(call->payload);
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *item = &call->metadata.metadata[i];

        if (grpc_slice_str_cmp(item->key, "tailrace-node") == 0)
            call->node = arrivals_node(&sink.arrivals,
                slice_make(GRPC_SLICE_START_PTR(item->value), GRPC_SLICE_LENGTH(item->value)));
    }
    if (injecting(now_ns)) {
        if (injection->close_every && sink.requests % injection->close_every == 0)
            doom_a_connection(now_ns);
        if (call_is_doomed(call->call)) {
            call_hang(call);
            return;
        }
        if (draw_percent(injection->hang_percent)) {
            sink.hung++;
            call_hang(call);
            return;
        }
        if (draw_percent(injection->refuse_percent)) {
            sink.refused++;
            call_answer(call, injection->refuse_code, injection->refuse_retry_ns, "refused on purpose");
            return;
        }
        if (injection->slow_ns) { /* one delay for all: first in, first out */
            sink.slowed++;
            call->state = CALL_SLOW;
            call->answer_at_ns = now_ns + injection->slow_ns;
            *sink.slow_end = call;
            sink.slow_end = &call->next;
            return;
        }
    }
    call_answer(call, 0, 0, "");
}

static void on_end(struct call *call, bool sent)
{
    if (call->state == CALL_ANSWERED && !call->unknown_method && call->refused_code == 0) {
        if (sent && !call->cancelled)
            record(call);
        else
            sink.unconfirmed_requests++;
    }
    call_free(call);
}

static void answer_slow_ones(uint64_t now_ns)
{
    while (sink.slow_first && sink.slow_first->answer_at_ns <= now_ns) {
        struct call *call = sink.slow_first;

        sink.slow_first = call->next;
        if (!sink.slow_first)
            sink.slow_end = &sink.slow_first;
        if (call_is_doomed(call->call))
            call_hang(call);
        else
            call_answer(call, 0, 0, "");
    }
}

/* -- life ------------------------------------------------------------------------------------------------- */

static bool sink_listen(void)
{
    char address[256];
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();

    sink.queue = grpc_completion_queue_create_for_next(NULL);
    sink.server = grpc_server_create(transport_backend_args(), NULL);
    sink.export_method = grpc_server_register_method(
        sink.server, EXPORT_METHOD, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_register_completion_queue(sink.server, sink.queue, NULL);
    (void)snprintf(address, sizeof(address), "%s:%u", options.address, (unsigned)options.port);
    sink.port = grpc_server_add_http2_port(sink.server, address, credentials);
    grpc_server_credentials_release(credentials);
    if (sink.port == 0) {
        fprintf(stderr, "tailrace-sink: cannot listen on %s\n", address);
        return false;
    }
    grpc_server_start(sink.server);
    for (unsigned i = 0; i < POSTED_CALLS; i++)
        call_post(false);
    for (unsigned i = 0; i < 8; i++)
        call_post(true);
    return true;
}

static void serve(void)
{
    static char shutdown_tag;
    uint64_t tick_ns = sink.started_ns + NS_PER_S;
    bool stopping = false;

    for (;;) {
        uint64_t now_ns = clock_now_ns();
        /* Signals only interrupt a wait; this bounds how long one goes unseen. */
        uint64_t until_ns = u64_min(now_ns + 100 * NS_PER_MS, tick_ns);
        grpc_event event;

        if (sink.slow_first)
            until_ns = u64_min(until_ns, sink.slow_first->answer_at_ns);
        if (sink.doomed_fd)
            until_ns = u64_min(until_ns, sink.doomed_until_ns);
        event = grpc_completion_queue_next(sink.queue, transport_deadline(until_ns), NULL);
        if (event.type == GRPC_OP_COMPLETE) {
            struct call *call = event.tag;

            if (event.tag == &shutdown_tag)
                return;
            if (call->state != CALL_WAITING)
                on_end(call, event.success != 0);
            else if (event.success)
                on_request(call);
            else
                call_free(call);
        }
        now_ns = event.type == GRPC_OP_COMPLETE && !sink.slow_first ? now_ns : clock_now_ns();
        answer_slow_ones(now_ns);
        close_the_doomed(now_ns);
        if (stop_signals && !stopping) {
            stopping = true;
            grpc_server_shutdown_and_notify(sink.server, sink.queue, &shutdown_tag);
            sink.doomed_fd = 0;
            answer_slow_ones(UINT64_MAX);
            grpc_server_cancel_all_calls(sink.server);
        }
        if (show_signals) {
            show_signals = 0;
            report_write(stderr);
        }
        if (now_ns >= tick_ns) {
            tick_ns = now_ns + NS_PER_S;
            if (options.status && !report_file(options.status))
                fprintf(stderr, "tailrace-sink: cannot write %s\n", options.status);
        }
    }
}

static int serve_main(void)
{
    int r = 0;

    for (unsigned i = 0; i < options.inject.count; i++) {
        if (!inject_parse(&sink.injection, options.inject.items[i])) {
            fprintf(stderr, "tailrace-sink: --inject %s: not understood (try --help)\n", options.inject.items[i]);
            return 2;
        }
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGUSR1, on_signal);
    transport_init();
    arrivals_init(&sink.arrivals);
    sink.slow_end = &sink.slow_first;
    sink.started_ns = clock_now_ns();
    if (!sink_listen())
        return 2;
    if (options.status)
        (void)report_file(options.status);
    printf("%d\n", sink.port); /* whoever started us may go on now */
    (void)fflush(stdout);
    serve();
    if (options.arrivals) {
        r = arrivals_write(&sink.arrivals, options.arrivals);
        if (r)
            fprintf(stderr, "tailrace-sink: %s: %s\n", options.arrivals, strerror(-r));
    }
    if (options.status)
        (void)report_file(options.status);
    if (options.report && !report_file(options.report))
        r = -EIO;
    return r ? 2 : sink.arrivals.malformed_requests || sink.arrivals.invalid_spans ? 1 : 0;
}

/* -- the judge -------------------------------------------------------------------------------------------- */

static int compare_main(void)
{
    static struct judgement j;
    struct decision_file file = {0};
    struct arrivals arrivals;
    struct rule rule;
    bool good;
    int r;

    if (!rule_parse(&rule, options.rule)) {
        fprintf(stderr, "tailrace-sink: --rule %s: not understood (try --help)\n", options.rule);
        return 2;
    }
    r = options.decisions ? decision_file_read(&file, options.decisions) : 0;
    if (r) {
        fprintf(stderr, "tailrace-sink: %s: %s\n", options.decisions, strerror(-r));
        return 2;
    }
    arrivals_init(&arrivals);
    if (options.rest.count == 0) {
        fprintf(stderr, "tailrace-sink: --compare LEDGER ARRIVALS...: no file of arrivals\n");
        return 2;
    }
    for (unsigned i = 0; i < options.rest.count; i++) {
        r = arrivals_read(&arrivals, options.rest.items[i]);
        if (r) {
            fprintf(stderr, "tailrace-sink: %s: %s\n", options.rest.items[i], strerror(-r));
            return 2;
        }
    }
    for (unsigned i = 0; i < options.compare.count; i++) {
        struct ledger ledger;

        r = ledger_read(&ledger, options.compare.items[i]);
        if (r) {
            fprintf(stderr, "tailrace-sink: %s: %s\n", options.compare.items[i], strerror(-r));
            return 2;
        }
        judge(&ledger, &arrivals, &rule, options.decisions ? &file : NULL, (unsigned)options.examples, &j);
        ledger_deinit(&ledger);
    }
    good = judgement_good(&j, &arrivals);
    printf("{\"good\": %s, \"traces\": %" PRIu64 ", \"whole\": %" PRIu64 ", \"split\": %" PRIu64 ", \"partial\": %" PRIu64
        ", \"split_by_node\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"doubled\": %" PRIu64 ",\n", good ? "true" : "false",
        j.traces, j.whole, j.split, j.partial, j.split_by_node, j.lost, j.doubled);
    printf(" \"wrongly_kept\": %" PRIu64 ", \"wrongly_dropped\": %" PRIu64 ", \"rightly_dropped\": %" PRIu64
        ", \"altered\": %" PRIu64 ", \"invented\": %" PRIu64 ",\n", j.wrongly_kept, j.wrongly_dropped, j.rightly_dropped,
        j.altered, j.invented);
    printf(" \"unknown\": %" PRIu64 ", \"unjudged\": %" PRIu64 ", \"absent_unjudged\": %" PRIu64 ", \"foreign_groups\": %" PRIu64
        ",\n \"acknowledged_spans\": %" PRIu64 ", \"unknown_spans\": %" PRIu64 ", \"arrived_spans\": %" PRIu64
        ", \"malformed_requests\": %" PRIu64 ", \"invalid_spans\": %" PRIu64 "}\n", j.unknown, j.unjudged,
        j.absent_unjudged, arrivals.used_count - j.matched_groups, j.acknowledged_spans, j.unknown_spans,
        j.arrived_spans, arrivals.malformed_requests, arrivals.invalid_spans);
    arrivals_deinit(&arrivals);
    free(file.lines);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    options_parse(argc, argv, "an OTLP/gRPC backend that remembers which spans arrived, and judges", option_table,
        &options.rest);
    if (options.compare.count)
        return compare_main();
    if (options.rest.count) {
        fprintf(stderr, "tailrace-sink: %s: an unexpected word (try --help)\n", options.rest.items[0]);
        return 2;
    }
    return serve_main();
}
