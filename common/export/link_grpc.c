/* A connection out, on gRPC C-core: one channel of its own per link, calls on its owner worker's queue.
 *
 *   CONNECTING --ready--> UP --lost--> CONNECTING --refused or timed out--> DOWN --ready--> UP
 *
 * A lost connection counts as CONNECTING until the first attempt has failed: a peer that only recycled it (GOAWAY) is
 * back within milliseconds. Once DOWN, further attempts do not look like hope. Retries, fallbacks and deadlines are the
 * caller's; the library's own are off.
 *
 * A channel holds the certificates it was made with. When newer ones come into force, a second channel connects beside it and
 * takes over once it is ready: calls under way end on the old one, and certificates that a peer refuses cost nothing but a warning
 * there. A link that is not up changes at once.
 *
 * A link whose calls wait for a connection (wait_for_ready) is never DOWN. Compressed bytes are the caller's, the library is only
 * told what they are: its own gzip is slow.
 */
#include "common/export/link.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <arpa/inet.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/otlp/rpc_status.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"
#include "common/run/worker.h"
#include "common/security/auth.h"
#include "common/security/tls.h"

#define HEADERS_MAX 32 /* static ones */
#define METADATA_MAX (HEADERS_MAX + METADATA_PAIRS_MAX + 3) /* and the ring, the encoding, the credentials */
#define PIECES_ON_STACK 64

struct link_channel {
    struct grpc_link *link;
    grpc_channel *channel;
    void *export_method;
    struct pump_op watch; /* always under way; its end frees a dropped channel */
    grpc_connectivity_state state;
    unsigned tls_generation;
    bool dropped;
};

struct grpc_link {
    struct link link;
    struct worker *worker;
    struct link_channel *current;
    struct link_channel *next; /* connects with newer certificates; NULL: mostly */
    struct link_options options; /* for further channels: address is target */
    char target[300], *authority, *user_agent;
    struct link_call probe; /* asks why a secured connection cannot be made */
    bool probing;
    unsigned refs; /* the owner's, one a watch and one a call */
    bool freed;
    struct list free_calls;
    grpc_metadata headers[HEADERS_MAX];
    size_t header_count;
};

struct grpc_link_call {
    struct list node;
    struct pump_op op;
    struct grpc_link *owner;
    struct link_call *caller;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *response;
    grpc_status_code status;
    grpc_slice details;
};

static void link_unref(struct grpc_link *link)
{
    struct list *node;

    ASSERT(link->refs > 0);
    if (--link->refs > 0)
        return;
    while ((node = list_take_first(&link->free_calls)))
        free(container_of(node, struct grpc_link_call, node));
    for (size_t i = 0; i < link->header_count; i++) {
        grpc_slice_unref(link->headers[i].key);
        grpc_slice_unref(link->headers[i].value);
    }
    free(link->authority);
    free(link->user_agent);
    free(link);
}

/* -- calls --------------------------------------------------------------------------------------------- */

static void buffer_release(void *buffer)
{
    buffer_unref(buffer); /* may run on a thread of the library's */
}

static struct slice slice_borrow(const grpc_slice *slice)
{
    return slice_make(GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
}

static const grpc_metadata *metadata_find(const grpc_metadata_array *array, const char *key)
{
    for (size_t i = 0; i < array->count; i++) {
        if (grpc_slice_str_cmp(array->metadata[i].key, key) == 0)
            return &array->metadata[i];
    }
    return NULL;
}

static void call_on_done(struct pump_op *op, bool ok)
{
    struct grpc_link_call *call = container_of(op, struct grpc_link_call, op);
    struct grpc_link *link = call->owner;
    struct link_result result = {.code = (int)call->status, .message = slice_borrow(&call->details)};
    const grpc_metadata *entry;
    grpc_slice response = grpc_empty_slice();

    (void)ok; /* RECV_STATUS_ON_CLIENT always succeeds: the status says it all */
    if (call->trailing.count > 0) {
        entry = metadata_find(&call->trailing, "grpc-status-details-bin");
        if (entry)
            result.has_retry = rpc_status_retry(slice_borrow(&entry->value), &result.retry_ns);
        entry = metadata_find(&call->trailing, "tailrace-rejected-bin");
        if (entry)
            result.rejected = slice_borrow(&entry->value);
        entry = metadata_find(&call->trailing, "tailrace-state");
        result.draining = entry && slice_equal(slice_borrow(&entry->value), SLICE_LITERAL("draining"));
    }
    if (call->response) {
        grpc_byte_buffer_reader reader;

        if (grpc_byte_buffer_length(call->response) > 0 && grpc_byte_buffer_reader_init(&reader, call->response)) {
            response = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
            result.response = slice_borrow(&response);
        }
        grpc_byte_buffer_destroy(call->response);
    }
    call->caller->done(call->caller, &result);

    grpc_slice_unref(response);
    grpc_slice_unref(call->details);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_call_unref(call->call);
    list_add_head(&link->free_calls, &call->node);
    link_unref(link);
}

static grpc_byte_buffer *message_of(const struct link_message *message)
{
    grpc_slice on_stack[PIECES_ON_STACK];
    grpc_slice *slices = on_stack;
    grpc_byte_buffer *out;

    if (message->piece_count > PIECES_ON_STACK) {
        slices = malloc(message->piece_count * sizeof(*slices));
        ASSERT(slices != NULL);
    }
    for (size_t i = 0; i < message->piece_count; i++) {
        struct buffer *piece = message->pieces[i];

        slices[i] = grpc_slice_new_with_user_data(piece->bytes, piece->len, buffer_release, buffer_ref(piece));
    }
    ASSERT(message->encoding != COMPRESS_ZSTD); /* the library knows no such compression */
    if (message->encoding == COMPRESS_GZIP)
        out = grpc_raw_compressed_byte_buffer_create(slices, message->piece_count, GRPC_COMPRESS_GZIP);
    else
        out = grpc_raw_byte_buffer_create(slices, message->piece_count);
    for (size_t i = 0; i < message->piece_count; i++)
        grpc_slice_unref(slices[i]);
    if (slices != on_stack)
        free(slices);
    return out;
}

/* -- metadata of a call ------------------------------------------------------------------------------------ */

struct call_metadata {
    grpc_metadata entries[METADATA_MAX];
    size_t count, borrowed; /* the first ones are the link's */
};

static grpc_slice slice_copied(struct slice bytes)
{
    return grpc_slice_from_copied_buffer((const char *)bytes.at, bytes.len);
}

static void metadata_add(struct call_metadata *metadata, struct slice key, struct slice value)
{
    ASSERT(metadata->count < METADATA_MAX);
    memset(&metadata->entries[metadata->count], 0, sizeof(metadata->entries[0]));
    metadata->entries[metadata->count].key = slice_copied(key);
    metadata->entries[metadata->count++].value = slice_copied(value);
}

/* What a client may not say in our place: the library's own names, and those that this link sends. */
static bool metadata_is_ours(const struct grpc_link *link, struct slice key)
{
    static const char *const names[] = {"content-type", "te", "host", "user-agent", "connection", "tailrace-ring"};

    if (key.len >= 5 && memcmp(key.at, "grpc-", 5) == 0)
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal(key, slice_text(names[i])))
            return true;
    }
    for (size_t i = 0; i < link->header_count; i++) {
        if (slice_equal(key, slice_borrow(&link->headers[i].key)))
            return true;
    }
    return link->options.auth && slice_equal(key, slice_text(auth_header_name(link->options.auth)));
}

/* The client's pairs, but for what the library would abort on. */
static void metadata_carry(const struct grpc_link *link, const struct metadata_set *set, struct call_metadata *metadata)
{
    for (uint32_t i = 0; set && i < set->count; i++) {
        const struct metadata_entry *entry = &set->entries[i];
        grpc_slice key = slice_copied(entry->key), value = slice_copied(entry->value);

        if (forward_wants(&link->options.forward, entry->key) && !metadata_is_ours(link, entry->key) && grpc_header_key_is_legal(key) &&
            (grpc_is_binary_header(key) || grpc_header_nonbin_value_is_legal(value)))
            metadata_add(metadata, entry->key, entry->value);
        grpc_slice_unref(key);
        grpc_slice_unref(value);
    }
}

static void metadata_fill(const struct grpc_link *link, const struct link_message *message, struct call_metadata *metadata)
{
    bool is_export = strcmp(message->method, LINK_EXPORT) == 0;
    char ring[17], auth[AUTH_VALUE_MAX];

    metadata->count = metadata->borrowed = is_export ? link->header_count : 0;
    memcpy(metadata->entries, link->headers, metadata->count * sizeof(link->headers[0]));
    if (message->ring) {
        (void)snprintf(ring, sizeof(ring), "%016llx", (unsigned long long)message->ring);
        metadata_add(metadata, SLICE_LITERAL("tailrace-ring"), slice_make(ring, 16));
    }
    if (message->encoding == COMPRESS_GZIP)
        metadata_add(metadata, slice_text(GRPC_COMPRESSION_REQUEST_ALGORITHM_MD_KEY), SLICE_LITERAL("gzip"));
    if (link->options.auth && auth_header(link->options.auth, auth, sizeof(auth)))
        metadata_add(metadata, slice_text(auth_header_name(link->options.auth)), slice_text(auth));
    if (message->metadata)
        metadata_carry(link, message->metadata, metadata);
}

static void metadata_release(struct call_metadata *metadata)
{
    for (size_t i = metadata->borrowed; i < metadata->count; i++) {
        grpc_slice_unref(metadata->entries[i].key);
        grpc_slice_unref(metadata->entries[i].value);
    }
}

/* -- sending --------------------------------------------------------------------------------------------------- */

static void link_renew(struct grpc_link *link);

static gpr_timespec deadline_of(uint64_t deadline_ns)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);

    if (deadline_ns != UINT64_MAX) {
        deadline.tv_sec = (int64_t)(deadline_ns / NS_PER_S);
        deadline.tv_nsec = (int32_t)(deadline_ns % NS_PER_S);
    }
    return deadline;
}

static struct grpc_link_call *call_new(struct grpc_link *link, const struct link_message *message, struct link_call *caller)
{
    struct list *node = list_take_first(&link->free_calls);
    struct grpc_link_call *call = node ? container_of(node, struct grpc_link_call, node) : malloc(sizeof(*call));
    grpc_completion_queue *queue = pump_queue(link->worker->pump);
    gpr_timespec deadline = deadline_of(message->deadline_ns);
    grpc_slice method;

    ASSERT(call != NULL);
    memset(call, 0, sizeof(*call));
    call->owner = link;
    call->caller = caller;
    call->op.done = call_on_done;
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    caller->transport = call;
    if (strcmp(message->method, LINK_EXPORT) == 0) {
        call->call = grpc_channel_create_registered_call(link->current->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
            link->current->export_method, deadline, NULL);
    } else {
        method = grpc_slice_from_copied_string(message->method); /* borrowed by the call's making */
        call->call = grpc_channel_create_call(
            link->current->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, method, NULL, deadline, NULL);
        grpc_slice_unref(method);
    }
    return call;
}

static void grpc_link_send(struct link *base, const struct link_message *message, struct link_call *caller)
{
    struct grpc_link *link = container_of(base, struct grpc_link, link);
    struct call_metadata metadata;
    struct grpc_link_call *call;
    grpc_byte_buffer *bytes;
    grpc_op ops[6];
    grpc_call_error r;

    link_renew(link);
    call = call_new(link, message, caller);
    metadata_fill(link, message, &metadata);
    bytes = message_of(message);
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (link->options.wait_for_ready)
        ops[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY | GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    ops[0].data.send_initial_metadata.metadata = metadata.entries;
    ops[0].data.send_initial_metadata.count = metadata.count;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = bytes;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->details;
    link->refs++;
    r = grpc_call_start_batch(call->call, ops, 6, &call->op, NULL);
    ASSERT(r == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(bytes);
    metadata_release(&metadata);
}

static void grpc_link_cancel(struct link *base, struct link_call *caller)
{
    (void)base;
    (void)grpc_call_cancel(((struct grpc_link_call *)caller->transport)->call, NULL);
}

/* -- the connection ------------------------------------------------------------------------------------ */

static void channel_watch(struct link_channel *channel)
{
    channel->link->refs++;
    grpc_channel_watch_connectivity_state(channel->channel, channel->state, gpr_inf_future(GPR_CLOCK_MONOTONIC),
        pump_queue(channel->link->worker->pump), &channel->watch);
}

static enum link_state link_state_of(const struct grpc_link *link, grpc_connectivity_state state)
{
    switch (state) {
    case GRPC_CHANNEL_READY:
        return LINK_UP;
    case GRPC_CHANNEL_IDLE:
    case GRPC_CHANNEL_CONNECTING:
        return link->link.state == LINK_DOWN ? LINK_DOWN : LINK_CONNECTING;
    case GRPC_CHANNEL_TRANSIENT_FAILURE:
    case GRPC_CHANNEL_SHUTDOWN:
        break;
    }
    return link->options.wait_for_ready ? LINK_CONNECTING : LINK_DOWN;
}

/* Ends the watch, which frees it; calls under way end by themselves. Accepts NULL. */
static void channel_drop(struct link_channel *channel)
{
    if (!channel)
        return;
    channel->dropped = true;
    grpc_channel_destroy(channel->channel);
}

/* The library tells why it cannot connect to calls only. Here is the connection's boundary: logged once each time it goes down. */
static void probe_done(struct link_call *probe, const struct link_result *result)
{
    struct grpc_link *link = container_of(probe, struct grpc_link, probe);
    char reason[300];

    link->probing = false;
    if (result->code != GRPC_STATUS_UNAVAILABLE || link->freed)
        return;
    (void)snprintf(reason, sizeof(reason), "%.*s", (int)size_min(result->message.len, sizeof(reason) - 1),
        (const char *)result->message.at);
    log_event(LOG_WARN, "tls_connection_failed", "address=%s reason=\"%s\" remedy=\"%s\"", link->target, reason, tls_remedy(reason));
}

static void link_probe(struct grpc_link *link)
{
    const struct link_message nothing = {.method = LINK_EXPORT, .deadline_ns = clock_now_ns() + NS_PER_S};

    if (link->probing)
        return;
    link->probing = true;
    link->probe.done = probe_done;
    grpc_link_send(&link->link, &nothing, &link->probe);
}

static void link_on_current(struct grpc_link *link)
{
    enum link_state state = link_state_of(link, link->current->state);

    if (state == link->link.state)
        return;
    link->link.state = state;
    if (link->link.on_state)
        link->link.on_state(&link->link, link->link.context, state);
}

static void link_take_next(struct grpc_link *link)
{
    channel_drop(link->current);
    link->current = link->next;
    link->next = NULL;
}

static void channel_on_watch(struct pump_op *op, bool ok)
{
    struct link_channel *channel = container_of(op, struct link_channel, watch);
    struct grpc_link *link = channel->link;

    (void)ok;
    if (channel->dropped) {
        free(channel);
        link_unref(link);
        return;
    }
    link->worker->now_ns = clock_now_ns(); /* who is told wants to know when: the turn's time may be of before a sleep */
    channel->state = grpc_channel_check_connectivity_state(channel->channel, 1);
    channel_watch(channel);
    if (channel == link->next && channel->state == GRPC_CHANNEL_READY)
        link_take_next(link);
    if (channel == link->current) {
        bool was_down = link->link.state == LINK_DOWN;

        link_on_current(link); /* may free the link; our reference keeps its memory */
        if (!link->freed)
            link_renew(link);
        if (!link->freed && link->options.tls && link->link.state == LINK_DOWN && !was_down)
            link_probe(link);
    }
    link_unref(link);
}

static void grpc_link_free(struct link *base)
{
    struct grpc_link *link = container_of(base, struct grpc_link, link);

    ASSERT(!link->freed);
    link->freed = true;
    channel_drop(link->current);
    channel_drop(link->next);
    link_unref(link);
}

static const struct link_ops grpc_link_ops = {
    .send = grpc_link_send,
    .cancel = grpc_link_cancel,
    .free = grpc_link_free,
};

/* Numeric addresses go to the library as such: its own DNS has a 30 s floor and hides identity. */
static void link_target(const char *address, char *out, size_t size)
{
    const char *colon = strrchr(address, ':');
    char host[256];
    struct in_addr v4;

    if (address[0] == '[') {
        (void)snprintf(out, size, "ipv6:%s", address);
        return;
    }
    (void)snprintf(host, sizeof(host), "%.*s", colon ? (int)(colon - address) : (int)strlen(address), address);
    (void)snprintf(out, size, "%s%s", inet_pton(AF_INET, host, &v4) == 1 ? "ipv4:" : "dns:///", address);
}

static void header_add(struct grpc_link *link, const char *key, const char *value)
{
    char lower[256];
    size_t i;

    ASSERT(link->header_count < HEADERS_MAX);
    for (i = 0; key[i] && i + 1 < sizeof(lower); i++)
        lower[i] = (char)tolower((unsigned char)key[i]);
    lower[i] = '\0';
    link->headers[link->header_count].key = grpc_slice_from_copied_string(lower);
    link->headers[link->header_count++].value = grpc_slice_from_copied_string(value);
}

struct channel_args {
    grpc_arg args[20];
    size_t count;
};

static void arg_number(struct channel_args *args, const char *key, int value)
{
    ASSERT(args->count < ARRAY_COUNT(args->args));
    args->args[args->count++] = (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static void arg_text(struct channel_args *args, const char *key, const char *value)
{
    ASSERT(args->count < ARRAY_COUNT(args->args));
    if (value)
        args->args[args->count++] =
            (grpc_arg){.type = GRPC_ARG_STRING, .key = (char *)(uintptr_t)key, .value.string = (char *)(uintptr_t)value};
}

static int ms_of(int64_t ns)
{
    int64_t ms = ns / (int64_t)NS_PER_MS;

    return ms < 1 ? 1 : ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static void channel_args_keepalive(const struct link_options *options, struct channel_args *out)
{
    if (options->internal) {
        arg_number(out, "grpc.keepalive_time_ms", 10000);
        arg_number(out, "grpc.keepalive_timeout_ms", 3000);
        arg_number(out, "grpc.keepalive_permit_without_calls", 1);
        arg_number(out, "grpc.http2.max_pings_without_data", 0);
    } else if (options->keepalive_time_ns > 0) {
        arg_number(out, "grpc.keepalive_time_ms", ms_of(options->keepalive_time_ns));
        if (options->keepalive_timeout_ns > 0)
            arg_number(out, "grpc.keepalive_timeout_ms", ms_of(options->keepalive_timeout_ns));
        arg_number(out, "grpc.keepalive_permit_without_calls", options->keepalive_permit_without_stream);
        arg_number(out, "grpc.http2.max_pings_without_data", 0);
    }
}

static void channel_args_fill(const struct grpc_link *link, struct channel_args *out)
{
    const struct link_options *options = &link->options;

    arg_number(out, "grpc.enable_retries", 0);            /* our own router decides; 15 % of a client's CPU */
    arg_number(out, "grpc.use_local_subchannel_pool", 1); /* a link is a TCP connection of its own */
    arg_number(out, "grpc.initial_reconnect_backoff_ms", 100);
    arg_number(out, "grpc.min_reconnect_backoff_ms", 1000); /* also the limit of one attempt */
    arg_number(out, "grpc.max_reconnect_backoff_ms", options->internal ? 2000 : 5000);
    arg_number(out, "grpc.client_idle_timeout_ms", INT32_MAX);
    arg_number(out, "grpc.max_receive_message_length", 4 * 1024 * 1024);
    arg_number(out, "grpc.max_metadata_size", 16 * 1024);
    arg_number(out, "grpc.http2.max_frame_size", 1024 * 1024);
    arg_number(out, "grpc.enable_http_proxy", 0); /* spans go where the configuration says, whatever the environment holds */
    if (options->internal)
        arg_number(out, "grpc.http2.bdp_probe", 0);
    channel_args_keepalive(options, out);
    arg_text(out, "grpc.primary_user_agent", link->user_agent);
    arg_text(out, "grpc.default_authority", link->authority);
    if (options->tls)
        arg_text(out, GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, tls_grpc_target_name(options->tls));
}

static struct link_channel *channel_open(struct grpc_link *link)
{
    struct link_channel *channel = calloc(1, sizeof(*channel));
    struct tls *tls = link->options.tls;
    grpc_channel_credentials *credentials;
    struct channel_args args = {.count = 0};

    ASSERT(channel != NULL);
    channel->link = link;
    channel->watch.done = channel_on_watch;
    channel->tls_generation = tls ? tls_generation(tls) : 0;
    channel_args_fill(link, &args);
    credentials = tls ? tls_grpc_channel_credentials(tls) : grpc_insecure_credentials_create();
    channel->channel = grpc_channel_create(link->target, credentials, &(grpc_channel_args){args.count, args.args});
    grpc_channel_credentials_release(credentials);
    channel->export_method = grpc_channel_register_call(channel->channel, LINK_EXPORT, NULL, NULL);
    channel->state = grpc_channel_check_connectivity_state(channel->channel, 1);
    channel_watch(channel);
    return channel;
}

/* When newer certificates are in force than those that the newest channel has. */
static void link_renew(struct grpc_link *link)
{
    const struct link_channel *newest = link->next ? link->next : link->current;

    if (!link->options.tls || newest->tls_generation == tls_generation(link->options.tls))
        return;
    channel_drop(link->next);
    link->next = channel_open(link);
    if (link->link.state != LINK_UP)
        link_take_next(link);
}

/* Copies what further channels are made of; the strings that options lend are not looked at again. */
static bool link_strings(struct grpc_link *link, const struct link_options *options)
{
    static const char *const ours[] = {"tailrace-sampler/" TAILRACE_VERSION, "tailrace-lb/" TAILRACE_VERSION};

    link_target(options->address, link->target, sizeof(link->target));
    link->authority = options->authority ? strdup(options->authority) : NULL;
    link->user_agent = strdup(options->user_agent ? options->user_agent : ours[options->internal]);
    link->options = *options;
    link->options.address = link->options.authority = link->options.user_agent = NULL;
    link->options.headers = NULL;
    return link->user_agent && (link->authority || !options->authority);
}

int link_grpc_new(struct worker *worker, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link)
{
    struct grpc_link *link = calloc(1, sizeof(*link));

    if (!link)
        return error_raise(-ENOMEM);
    link->worker = worker;
    link->refs = 1;
    link->link.ops = &grpc_link_ops;
    link->link.state = LINK_CONNECTING;
    link->link.on_state = on_state;
    link->link.context = context;
    list_init(&link->free_calls);
    for (const struct metadata_pair *pair = options->headers; pair && pair->key; pair++)
        header_add(link, pair->key, pair->value);
    if (!link_strings(link, options)) {
        link_unref(link);
        return error_raise(-ENOMEM);
    }
    link->current = channel_open(link);
    *out_link = &link->link;
    return 0;
}
