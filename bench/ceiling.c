/* bench-ceiling: what the transport alone can do. Takes Export calls and answers them, nothing else.
 *
 * Without --forward it is the ceiling of a sampler: receive and answer. With --forward it sends each request on as
 * it is and answers when that was answered: the ceiling of a load balancer that would have nothing to route.
 * Other methods get UNIMPLEMENTED at once, as from any backend that has no peer protocol.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/options.h"
#include "bench/transport.h"
#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/run/clock.h"

#define POSTED_CALLS 128

enum call_state { CALL_WAITING, CALL_FORWARDED, CALL_ANSWERED };

struct call {
    enum call_state state;
    bool unknown_method;
    grpc_call *call, *onward;
    gpr_timespec deadline;
    grpc_metadata_array metadata, initial, trailing;
    grpc_call_details details;
    grpc_byte_buffer *payload, *response;
    grpc_status_code status;
    grpc_slice status_details;
    int cancelled;
};

static struct {
    uint64_t port, connections;
    const char *address, *forward;
    bool public;
} options = {.connections = 2, .address = "127.0.0.1"};

static const struct option_def option_table[] = {
    {"port", OPTION_U64, &options.port, "to listen on; 0: any free one, printed on standard output"},
    {"address", OPTION_TEXT, &options.address, "to listen on"},
    {"forward", OPTION_TEXT, &options.forward, "host:port to send each request on to, unread"},
    {"connections", OPTION_U64, &options.connections, "TCP connections to there"},
    {"public", OPTION_FLAG, &options.public, "listen with the settings of a load balancer, not of a sampler"},
    {NULL, OPTION_FLAG, NULL, NULL},
};

static grpc_completion_queue *queue;
static grpc_server *server;
static void *export_method;
static grpc_channel *channels[64];
static void *channel_methods[64];
static uint64_t requests, bytes;
static volatile sig_atomic_t stop_signals;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stop_signals++;
}

static void call_post(bool unknown_method)
{
    struct call *call = calloc(1, sizeof(*call));
    grpc_call_error error;

    ASSERT(call);
    call->unknown_method = unknown_method;
    grpc_metadata_array_init(&call->metadata);
    if (unknown_method) {
        grpc_call_details_init(&call->details);
        error = grpc_server_request_call(server, &call->call, &call->details, &call->metadata, queue, queue, call);
    } else {
        error = grpc_server_request_registered_call(
            server, export_method, &call->call, &call->deadline, &call->metadata, &call->payload, queue, queue, call);
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

static void call_answer(struct call *call, grpc_status_code code)
{
    grpc_byte_buffer *response = grpc_raw_byte_buffer_create(NULL, 0);
    grpc_op ops[4];
    grpc_call_error error;

    call->state = CALL_ANSWERED;
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[1].data.send_status_from_server.status = code;
    ops[2].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    ops[2].data.recv_close_on_server.cancelled = &call->cancelled;
    ops[3].op = GRPC_OP_SEND_MESSAGE;
    ops[3].data.send_message.send_message = response;
    error = grpc_call_start_batch(call->call, ops, code == GRPC_STATUS_OK ? 4 : 3, call, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(response);
}

static void call_forward(struct call *call)
{
    uint64_t which = requests % options.connections;
    grpc_op ops[6];
    grpc_call_error error;

    call->state = CALL_FORWARDED;
    call->onward = grpc_channel_create_registered_call(channels[which], NULL, GRPC_PROPAGATE_DEFAULTS, queue,
        channel_methods[which], transport_deadline(clock_now_ns() + 10 * NS_PER_S), NULL);
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = call->payload;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->status_details;
    error = grpc_call_start_batch(call->onward, ops, 6, call, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

static void on_forwarded(struct call *call)
{
    grpc_byte_buffer_destroy(call->response);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->status_details);
    grpc_call_unref(call->onward);
    call_answer(call, call->status);
}

static void on_request(struct call *call)
{
    call_post(call->unknown_method);
    if (call->unknown_method) {
        call_answer(call, GRPC_STATUS_UNIMPLEMENTED);
        return;
    }
    requests++;
    bytes += call->payload ? grpc_byte_buffer_length(call->payload) : 0;
    if (options.forward && call->payload)
        call_forward(call);
    else
        call_answer(call, GRPC_STATUS_OK);
}

static void serve(void)
{
    static char shutdown_tag;
    bool stopping = false;

    for (;;) {
        /* Signals only interrupt a wait; this bounds how long one goes unseen. */
        grpc_event event =
            grpc_completion_queue_next(queue, transport_deadline(clock_now_ns() + 100 * NS_PER_MS), NULL);
        struct call *call = event.tag;

        if (stop_signals && !stopping) {
            stopping = true;
            grpc_server_shutdown_and_notify(server, queue, &shutdown_tag);
        }
        if (event.type != GRPC_OP_COMPLETE)
            continue;
        if (event.tag == &shutdown_tag)
            return;
        if (call->state == CALL_FORWARDED)
            on_forwarded(call);
        else if (call->state == CALL_WAITING && event.success)
            on_request(call);
        else
            call_free(call);
    }
}

int main(int argc, char **argv)
{
    grpc_server_credentials *credentials;
    char address[256];
    int port;

    options_parse(argc, argv, "takes and answers OTLP/gRPC exports, nothing else", option_table, NULL);
    if (options.connections == 0 || options.connections > ARRAY_COUNT(channels)) {
        fprintf(stderr, "bench-ceiling: --connections: 1 to %zu\n", ARRAY_COUNT(channels));
        return 2;
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    transport_init();
    for (uint64_t i = 0; options.forward && i < options.connections; i++) {
        grpc_channel_credentials *client = grpc_insecure_credentials_create();

        transport_target(options.forward, address);
        channels[i] = grpc_channel_create(address, client, transport_channel_args());
        channel_methods[i] = grpc_channel_register_call(channels[i], EXPORT_METHOD, NULL, NULL);
        grpc_channel_credentials_release(client);
    }
    queue = grpc_completion_queue_create_for_next(NULL);
    server = grpc_server_create(transport_server_args(!options.public), NULL);
    export_method =
        grpc_server_register_method(server, EXPORT_METHOD, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_register_completion_queue(server, queue, NULL);
    (void)snprintf(address, sizeof(address), "%s:%u", options.address, (unsigned)options.port);
    credentials = grpc_insecure_server_credentials_create();
    port = grpc_server_add_http2_port(server, address, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0) {
        fprintf(stderr, "bench-ceiling: cannot listen on %s\n", address);
        return 2;
    }
    grpc_server_start(server);
    for (unsigned i = 0; i < POSTED_CALLS; i++)
        call_post(false);
    for (unsigned i = 0; i < 8; i++)
        call_post(true);
    printf("%d\n", port);
    (void)fflush(stdout);
    serve();
    fprintf(stderr, "requests=%" PRIu64 " bytes=%" PRIu64 "\n", requests, bytes);
    return 0;
}
