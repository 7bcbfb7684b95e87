/* A unit waits as it is; only when a request may start are units written into one. From then on the request owns
 * those bytes until the backend has answered for good: a retry sends the same bytes, and the blocks the units came
 * from are free again.
 *
 * A request:
 *
 *   IDLE --built--> IN_FLIGHT --OK, refused--> IDLE
 *                     ^    '--retryable--> FAILED --gives up--> IDLE
 *                     |                       '--retry.h--> WAITING <--its next half-- IN_FLIGHT
 *                     '------------its time comes--------------'
 *
 * FAILED lasts until the next run, because a link tells the end of a call without a time. While the link is DOWN a
 * request whose time comes goes from FAILED to WAITING again, without a call. max_calls requests exist: those that
 * wait for a retry take up a place, so that a backend that is away costs a bounded number of written requests.
 *
 * A request that the backend calls too large (RESOURCE_EXHAUSTED without RetryInfo; some servers say OUT_OF_RANGE) and that is larger
 * than we meant to send is halved, and the halves go one after the other in its place: one huge trace is not lost to a limit
 * nobody told us of. So is a request of several units whose bytes the backend cannot read (INVALID_ARGUMENT, INTERNAL): one
 * unit's rubbish shall not cost the others. Neither goes below 64 KiB, so a backend that refuses everything costs a bounded
 * number of calls. */
#include "common/export/exporter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/otlp/rpc_status.h"

#define REQUEST_BYTES_DEFAULT (1 * MIB)
#define SPLIT_BYTES_LEAST (64 * KIB)      /* smaller is not halved */
#define STARVED_WAIT_NS (100 * NS_PER_MS) /* until memory is asked for again */

enum request_state { REQUEST_IDLE, REQUEST_IN_FLIGHT, REQUEST_FAILED, REQUEST_WAITING, REQUEST_STATES };

/* Half of a request that was too large, waiting for the half before it. */
struct request_rest {
    struct list node;
    struct buffer *bytes;
    uint64_t span_count;
};

struct export_request {
    struct list node; /* in its state's list */
    struct link_call call;
    struct exporter *exporter; /* NULL: freed while the call was under way */
    enum request_state state;
    struct list units;
    struct buffer *bytes; /* of the call that is or was under way */
    uint64_t span_count;  /* in bytes */
    struct list rest;     /* request_rest: what goes after it */
    uint64_t refused_spans;
    bool delivered_some;
    unsigned calls; /* made for bytes so far */
    struct retry retry;
    uint64_t at_ns;       /* WAITING: of the next attempt */
    uint64_t named_at_ns; /* ... and no sooner than this, by the server's word */
    uint64_t named_ns;    /* FAILED: the delay that the server named; 0: none */
};

struct exporter {
    struct exporter_options options;
    struct exporter_owner owner;
    struct link *link;
    struct regroup *regroup;
    struct list queued; /* units */
    uint64_t queued_bytes, queued_since_ns;
    struct list requests[REQUEST_STATES];
    uint64_t starved_until_ns;
    uint64_t random;
    bool link_was_up, hurry;
    struct exporter_stats stats;
};

static struct export_unit *unit_of(struct list *node)
{
    return container_of(node, struct export_unit, node);
}

static struct export_request *request_of(struct list *node)
{
    return container_of(node, struct export_request, node);
}

static void request_move(struct export_request *request, enum request_state to)
{
    static const bool legal[REQUEST_STATES][REQUEST_STATES] = {
        [REQUEST_IDLE] = {[REQUEST_IN_FLIGHT] = true, [REQUEST_FAILED] = true},
        [REQUEST_IN_FLIGHT] = {[REQUEST_IDLE] = true, [REQUEST_FAILED] = true, [REQUEST_WAITING] = true},
        [REQUEST_FAILED] = {[REQUEST_IDLE] = true, [REQUEST_WAITING] = true},
        [REQUEST_WAITING] = {[REQUEST_IN_FLIGHT] = true, [REQUEST_FAILED] = true, [REQUEST_IDLE] = true},
    };
    struct exporter *exporter = request->exporter;

    ASSERT(legal[request->state][to]);
    exporter->stats.calls_in_flight += to == REQUEST_IN_FLIGHT;
    exporter->stats.calls_in_flight -= request->state == REQUEST_IN_FLIGHT;
    exporter->stats.requests_waiting += to == REQUEST_WAITING;
    exporter->stats.requests_waiting -= request->state == REQUEST_WAITING;
    request->state = to;
    list_del(&request->node);
    list_add_tail(&exporter->requests[to], &request->node);
}

/* Takes the buffer; what was there is let go. The sum of all is what export holds outside the traces' blocks. */
static void bytes_set(struct export_request *request, struct buffer *bytes)
{
    if (request->exporter) {
        request->exporter->stats.request_bytes -= request->bytes ? request->bytes->len : 0;
        request->exporter->stats.request_bytes += bytes ? bytes->len : 0;
    }
    buffer_unref(request->bytes);
    request->bytes = bytes;
}

static void rest_free(struct export_request *request)
{
    struct list *node;

    while ((node = list_take_first(&request->rest))) {
        struct request_rest *rest = container_of(node, struct request_rest, node);

        if (request->exporter)
            request->exporter->stats.request_bytes -= rest->bytes->len;
        buffer_unref(rest->bytes);
        free(rest);
    }
}

static void request_free(struct export_request *request)
{
    rest_free(request);
    bytes_set(request, NULL);
    free(request);
}

/* -- settling ------------------------------------------------------------------------------------- */

static void unit_settle(struct exporter *exporter, struct export_unit *unit, enum export_outcome outcome)
{
    struct exporter_stats *stats = &exporter->stats;

    stats->queue_units--;
    stats->queue_spans -= unit->span_count;
    stats->queue_bytes -= unit->size_bytes;
    switch (outcome) {
    case EXPORTED:
        stats->sent_spans += unit->span_count;
        break;
    case EXPORT_REFUSED:
        stats->refused_spans += unit->span_count;
        stats->failed_spans += unit->span_count;
        break;
    case EXPORT_GAVE_UP:
    case EXPORT_STOPPED:
        stats->failed_spans += unit->span_count;
        break;
    case EXPORT_QUEUE_FULL:
        stats->enqueue_failed_spans += unit->span_count;
        break;
    }
    exporter->owner.settled(exporter->owner.context, unit, outcome);
}

static void units_settle(struct exporter *exporter, struct list *units, enum export_outcome outcome)
{
    struct list *node;

    while ((node = list_take_first(units)))
        unit_settle(exporter, unit_of(node), outcome);
}

/* The request is idle again before its owner hears of it. */
static void request_settle(struct export_request *request, enum export_outcome outcome)
{
    struct exporter *exporter = request->exporter;
    struct list units;

    list_init(&units);
    list_splice_tail(&units, &request->units);
    bytes_set(request, NULL);
    rest_free(request);
    request_move(request, REQUEST_IDLE);
    units_settle(exporter, &units, outcome);
}

/* -- halves of what was too large ----------------------------------------------------------------- */

/* Writes the spans from first on as a request of their own, at most so many, until it has most_bytes or so. */
static struct buffer *request_part(struct exporter *exporter, struct slice request, uint32_t first, uint64_t most_spans,
    size_t most_bytes, uint64_t *out_count)
{
    uint32_t header_index = UINT32_MAX, header = 0;
    struct buffer *part = NULL;
    struct span_walk walk;
    struct span_ref span;

    *out_count = 0;
    regroup_reset(exporter->regroup);
    span_walk_init(&walk, request);
    while (*out_count < most_spans && regroup_size_bound(exporter->regroup) < most_bytes && span_walk_next(&walk, &span)) {
        if (span.index < first)
            continue;
        if (span.header_index != header_index)
            header = regroup_header(exporter->regroup, span.header);
        header_index = span.header_index;
        if (regroup_span(exporter->regroup, header, rope_of(span.bytes.at, span.bytes.len)) < 0)
            goto out;
        (*out_count)++;
    }
    if (*out_count > 0)
        part = buffer_new(regroup_size(exporter->regroup));
    if (part)
        part->len = (size_t)(regroup_write(exporter->regroup, part->bytes) - part->bytes);
out:
    regroup_reset(exporter->regroup);
    return part;
}

/* False: it stays as it is, because it is small, one span, or memory is short. */
static bool request_halve(struct export_request *request)
{
    struct slice whole = buffer_slice(request->bytes);
    struct request_rest *rest = NULL;
    struct buffer *half;
    uint64_t count;

    if (whole.len <= SPLIT_BYTES_LEAST || request->span_count < 2)
        return false;
    half = request_part(request->exporter, whole, 0, request->span_count - 1, whole.len / 2, &count);
    if (half)
        rest = calloc(1, sizeof(*rest));
    if (rest)
        rest->bytes = request_part(request->exporter, whole, (uint32_t)count, UINT64_MAX, SIZE_MAX, &rest->span_count);
    if (!rest || !rest->bytes) {
        free(rest);
        buffer_unref(half);
        return false;
    }
    bytes_set(request, half);
    request->span_count = count;
    request->exporter->stats.request_bytes += rest->bytes->len;
    list_add_head(&request->rest, &rest->node);
    return true;
}

/* The next half takes the place of the one that was answered; it is sent in the next run. */
static bool request_next(struct export_request *request)
{
    struct list *node = list_take_first(&request->rest);
    struct request_rest *rest = node ? container_of(node, struct request_rest, node) : NULL;

    if (!rest)
        return false;
    request->exporter->stats.request_bytes -= rest->bytes->len;
    bytes_set(request, rest->bytes);
    request->span_count = rest->span_count;
    free(rest);
    return true;
}

static void request_again(struct export_request *request)
{
    request->retry = (struct retry){0};
    request->calls = 0;
    request->at_ns = request->named_at_ns = 0;
    request_move(request, REQUEST_WAITING);
}

/* No more calls for it. Where some halves were delivered, what was not counts as a partial success does. */
static void request_end(struct export_request *request, enum export_outcome otherwise)
{
    if (request->delivered_some)
        request->exporter->stats.rejected_spans += request->refused_spans;
    request_settle(request, request->delivered_some ? EXPORTED : otherwise);
}

/* The bytes under way were answered for good. */
static void request_answered(struct export_request *request)
{
    if (request_next(request))
        request_again(request);
    else
        request_end(request, EXPORT_REFUSED);
}

static void request_give_up(struct export_request *request)
{
    do
        request->refused_spans += request->span_count;
    while (request_next(request));
    request_end(request, EXPORT_GAVE_UP);
}

/* May halves fare better? */
static bool halving_helps(const struct export_request *request, const struct link_result *result)
{
    bool alone = list_first(&request->units) && list_first(&request->units)->next == &request->units;

    switch (result->code) {
    case RPC_RESOURCE_EXHAUSTED: /* or overload: then smaller calls would only be more of them */
        return !result->has_retry && request->bytes->len > request->exporter->options.max_request_bytes;
    case RPC_OUT_OF_RANGE:
        return request->bytes->len > request->exporter->options.max_request_bytes;
    case RPC_INVALID_ARGUMENT:
    case RPC_INTERNAL:
        return !alone;
    default:
        return false;
    }
}

/* -- answers -------------------------------------------------------------------------------------- */

/* Text from outside goes to logs and /status: cut, and without control characters. */
static void error_note(struct exporter *exporter, const char *what, uint64_t number, struct slice message)
{
    char *text = exporter->stats.last_error;
    size_t size = sizeof(exporter->stats.last_error);
    int len = snprintf(text, size, "%s %llu", what, (unsigned long long)number);
    size_t at = len > 0 ? size_min((size_t)len, size - 1) : 0;

    if (message.len > 0 && at + 2 < size) {
        text[at++] = ':';
        text[at++] = ' ';
    }
    for (size_t i = 0; i < message.len && at + 1 < size; i++)
        text[at++] = message.at[i] < 0x20 || message.at[i] == 0x7f ? '?' : (char)message.at[i];
    text[at] = 0;
}

static void call_done(struct link_call *call, const struct link_result *result)
{
    struct export_request *request = container_of(call, struct export_request, call);
    struct exporter *exporter = request->exporter;
    struct slice message;
    uint64_t rejected;

    if (!exporter) {
        request_free(request);
        return;
    }
    if (result->code == RPC_OK) {
        /* An answer we cannot read is still an OK, as it is to the Collector. */
        if (partial_success_read(result->response, &rejected, &message) && rejected > 0) {
            rejected = u64_min(rejected, request->span_count);
            exporter->stats.rejected_spans += rejected;
            error_note(exporter, "partial_success, rejected spans", rejected, message);
        }
        request->delivered_some = true;
        request_answered(request);
        return;
    }

    exporter->stats.failed_calls++;
    error_note(exporter, "status", (uint64_t)(unsigned)result->code, result->message);
    if (halving_helps(request, result) && request_halve(request)) {
        request_again(request);
        return;
    }
    if (!retry_is_retryable(result->code, result->has_retry)) {
        request->refused_spans += request->span_count;
        request_answered(request);
        return;
    }
    request->named_ns = result->has_retry ? result->retry_ns : 0;
    request_move(request, REQUEST_FAILED);
}

/* -- life ----------------------------------------------------------------------------------------- */

int exporter_new(const struct exporter_options *options, struct link *link, const struct exporter_owner *owner,
    struct exporter **out_exporter)
{
    struct exporter *exporter = calloc(1, sizeof(*exporter));

    if (!exporter)
        return error_raise(-ENOMEM);
    exporter->options = *options;
    exporter->owner = *owner;
    exporter->link = link;
    exporter->random = hash_bytes(options->name, strlen(options->name));
    if (exporter->options.max_request_bytes == 0)
        exporter->options.max_request_bytes = REQUEST_BYTES_DEFAULT;
    if (exporter->options.max_calls == 0)
        exporter->options.max_calls = 1;
    list_init(&exporter->queued);
    for (size_t i = 0; i < REQUEST_STATES; i++)
        list_init(&exporter->requests[i]);

    exporter->regroup = regroup_new();
    if (!exporter->regroup)
        goto no_memory;
    for (uint32_t i = 0; i < exporter->options.max_calls; i++) {
        /* Each on its own: a call that ends after us frees its request itself. */
        struct export_request *request = calloc(1, sizeof(*request));

        if (!request)
            goto no_memory;
        request->exporter = exporter;
        request->call.done = call_done;
        list_init(&request->units);
        list_init(&request->rest);
        list_add_tail(&exporter->requests[REQUEST_IDLE], &request->node);
    }
    *out_exporter = exporter;
    return 0;

no_memory:
    exporter_free(exporter);
    return error_raise(-ENOMEM);
}

void exporter_free(struct exporter *exporter)
{
    struct list *node;

    if (!exporter)
        return;
    for (size_t state = 0; state < REQUEST_STATES; state++) {
        while ((node = list_take_first(&exporter->requests[state]))) {
            struct export_request *request = request_of(node);

            units_settle(exporter, &request->units, EXPORT_STOPPED);
            request->exporter = NULL;
            if (state == REQUEST_IN_FLIGHT)
                link_cancel(exporter->link, &request->call);
            else
                request_free(request);
        }
    }
    units_settle(exporter, &exporter->queued, EXPORT_STOPPED); /* last: also what came while the others were settled */
    regroup_free(exporter->regroup);
    free(exporter);
}

/* -- waiting -------------------------------------------------------------------------------------- */

static bool queue_has_room(const struct exporter *exporter, const struct export_unit *unit)
{
    const struct exporter_options *options = &exporter->options;
    const struct exporter_stats *stats = &exporter->stats;

    if (options->queue_bytes > 0 && unit->size_bytes > u64_sub_floor(options->queue_bytes, stats->queue_bytes))
        return false;
    if (options->queue_spans > 0 && unit->span_count > u64_sub_floor(options->queue_spans, stats->queue_spans))
        return false;
    return options->queue_requests == 0 || stats->queue_units < options->queue_requests;
}

void exporter_take(struct exporter *exporter, struct export_unit *unit, uint64_t now_ns)
{
    bool room = queue_has_room(exporter, unit);

    exporter->stats.queue_units++;
    exporter->stats.queue_spans += unit->span_count;
    exporter->stats.queue_bytes += unit->size_bytes;
    if (!room) {
        unit_settle(exporter, unit, EXPORT_QUEUE_FULL);
        return;
    }
    if (list_empty(&exporter->queued))
        exporter->queued_since_ns = now_ns;
    list_add_tail(&exporter->queued, &unit->node);
    exporter->queued_bytes += unit->size_bytes;
}

/* -- sending -------------------------------------------------------------------------------------- */

/* Puts the first units, at most `most`, into the regroup, until one more would pass max_request_bytes. Returns how
 * many; *out_short: memory ran out at the next one, of which spans may be in there already. */
static size_t units_add(struct exporter *exporter, size_t most, bool *out_short)
{
    uint64_t target_bytes = exporter->options.max_request_bytes;
    size_t count = 0;

    regroup_reset(exporter->regroup);
    *out_short = false;
    LIST_FOR_EACH (node, &exporter->queued) {
        struct export_unit *unit = unit_of(node);
        uint64_t bytes = regroup_size_bound(exporter->regroup);

        if (count == most || (count > 0 && u64_add_cap(bytes, unit->size_bytes) > target_bytes))
            break;
        if (exporter->owner.add(exporter->owner.context, unit, exporter->regroup) < 0) {
            *out_short = true;
            break;
        }
        count++;
    }
    return count;
}

/* Writes as many queued units as fit into the request. False: no memory, all units stay as they are. */
static bool request_build(struct exporter *exporter, struct export_request *request, uint64_t now_ns)
{
    bool short_of_memory;
    size_t count = units_add(exporter, SIZE_MAX, &short_of_memory);
    size_t size = 0;

    if (short_of_memory && count > 0) /* half a unit must not go out: once more, with the whole ones */
        count = units_add(exporter, count, &short_of_memory);
    if (!short_of_memory) {
        size = regroup_size(exporter->regroup);
        request->bytes = buffer_new(size);
    }
    if (!request->bytes) {
        regroup_reset(exporter->regroup);
        exporter->stats.starved++;
        exporter->starved_until_ns = u64_add_cap(now_ns, STARVED_WAIT_NS);
        return false;
    }
    request->bytes->len = (size_t)(regroup_write(exporter->regroup, request->bytes->bytes) - request->bytes->bytes);
    ASSERT(request->bytes->len == size);
    exporter->stats.request_bytes += size;
    regroup_reset(exporter->regroup);

    request->retry = (struct retry){0};
    request->calls = 0;
    request->span_count = 0;
    request->refused_spans = 0;
    request->delivered_some = false;
    request->named_at_ns = 0;
    while (count-- > 0) {
        struct export_unit *unit = unit_of(list_take_first(&exporter->queued));

        exporter->queued_bytes -= unit->size_bytes;
        request->span_count += unit->span_count;
        list_add_tail(&request->units, &unit->node);
        exporter->owner.encoded(exporter->owner.context, unit);
    }
    exporter->queued_since_ns = now_ns; /* what is left begins to wait anew: the batch it missed was full */
    return true;
}

static void request_send(struct export_request *request, uint64_t now_ns)
{
    struct exporter *exporter = request->exporter;
    uint64_t timeout_ns = exporter->options.timeout_ns;
    struct link_message message = {
        .method = LINK_EXPORT,
        .pieces = &request->bytes,
        .piece_count = 1,
        .deadline_ns = timeout_ns ? u64_add_cap(now_ns, timeout_ns) : UINT64_MAX,
    };

    if (exporter->link->state == LINK_DOWN) {
        request->named_ns = 0;
        request_move(request, REQUEST_FAILED);
        return;
    }
    exporter->stats.calls++;
    exporter->stats.retries += request->calls++ > 0;
    retry_begin(&request->retry, now_ns);
    request_move(request, REQUEST_IN_FLIGHT);
    link_send(exporter->link, &message, &request->call);
}

/* What failed since the last run: gives up, or gets the time of its next attempt. */
static void failed_run(struct exporter *exporter, uint64_t now_ns)
{
    struct list *node;

    while ((node = list_first(&exporter->requests[REQUEST_FAILED]))) {
        struct export_request *request = request_of(node);

        exporter->random = hash_seeded(&exporter->random, sizeof(exporter->random), now_ns);
        if (!retry_next(&request->retry, &exporter->options.retry, now_ns, request->named_ns, exporter->random,
                &request->at_ns)) {
            request_give_up(request);
            continue;
        }
        request->named_at_ns = u64_add_cap(now_ns, request->named_ns);
        request_move(request, REQUEST_WAITING);
    }
}

static void waiting_run(struct exporter *exporter, uint64_t now_ns)
{
    bool up = exporter->link->state == LINK_UP;
    bool came_up = up && !exporter->link_was_up;

    exporter->link_was_up = up;
    LIST_FOR_EACH_SAFE (node, following, &exporter->requests[REQUEST_WAITING]) {
        struct export_request *request = request_of(node);

        if (came_up)
            request->at_ns = u64_min(request->at_ns, u64_max(request->named_at_ns, now_ns));
        if (request->at_ns <= now_ns)
            request_send(request, now_ns);
    }
}

static bool all_idle(const struct exporter *exporter)
{
    return list_empty(&exporter->requests[REQUEST_IN_FLIGHT]) && list_empty(&exporter->requests[REQUEST_WAITING]) &&
           list_empty(&exporter->requests[REQUEST_FAILED]);
}

/* Could a request be built at all? While the backend is away one request finds out; the rest stays where it is counted and
 * needs no second copy. */
static bool can_build(const struct exporter *exporter)
{
    return !list_empty(&exporter->queued) && !list_empty(&exporter->requests[REQUEST_IDLE]) &&
           (exporter->link->state != LINK_DOWN || all_idle(exporter));
}

static bool flush_due(const struct exporter *exporter, uint64_t now_ns)
{
    if (!can_build(exporter) || now_ns < exporter->starved_until_ns)
        return false;
    return exporter->hurry || exporter->queued_bytes >= exporter->options.max_request_bytes || all_idle(exporter) ||
           u64_sub_floor(now_ns, exporter->queued_since_ns) >= exporter->options.flush_timeout_ns;
}

uint64_t exporter_run(struct exporter *exporter, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    failed_run(exporter, now_ns);
    waiting_run(exporter, now_ns);
    while (flush_due(exporter, now_ns)) {
        struct export_request *request = request_of(list_first(&exporter->requests[REQUEST_IDLE]));

        if (request_build(exporter, request, now_ns))
            request_send(request, now_ns);
    }
    failed_run(exporter, now_ns); /* what found the link down */

    if (can_build(exporter)) {
        next_ns = exporter->queued_since_ns;
        if (!exporter->hurry && !all_idle(exporter))
            next_ns = u64_add_cap(next_ns, exporter->options.flush_timeout_ns);
        next_ns = u64_max(u64_max(next_ns, exporter->starved_until_ns), now_ns);
    }
    LIST_FOR_EACH (node, &exporter->requests[REQUEST_WAITING])
        next_ns = u64_min(next_ns, request_of(node)->at_ns);
    return next_ns;
}

void exporter_hurry(struct exporter *exporter)
{
    exporter->hurry = true;
}

const struct exporter_stats *exporter_stats(const struct exporter *exporter)
{
    return &exporter->stats;
}
