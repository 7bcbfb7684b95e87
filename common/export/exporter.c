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
 * Units that are withdrawn leave a request between its attempts, unless a part of it was answered: which of its spans that were, nobody
 * can tell from its halves. The rest of the request is written anew when its time comes.
 *
 * A request that the backend calls too large (RESOURCE_EXHAUSTED without RetryInfo; some servers say OUT_OF_RANGE) and that is
 * larger than we meant to send, or that it calls so in words that mean nothing else (HTTP 413), is halved, and the halves go one
 * after the other in its place: one huge trace is not lost to a limit nobody told us of. So is a request of several units whose bytes the backend cannot read (INVALID_ARGUMENT, INTERNAL): one
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
#include "common/base/plant.h"
#include "common/export/cut.h"
#include "common/export/lanes.h"
#include "common/export/rpc_code.h"
#include "common/otlp/rpc_status.h"

#define REQUEST_BYTES_DEFAULT (1 * MIB)
#define REQUEST_BYTES_WANTED (4 * MIB)    /* most that a least size makes: gRPC servers' default limit */
#define SPLIT_BYTES_LEAST (64 * KIB)      /* smaller is not halved */
#define STARVED_WAIT_NS (100 * NS_PER_MS) /* until memory is asked for again */

enum request_state { REQUEST_IDLE, REQUEST_IN_FLIGHT, REQUEST_FAILED, REQUEST_WAITING, REQUEST_STATES };

/* A part of a request that was too large, waiting for the part before it. */
struct request_rest {
    struct list node;
    struct buffer *bytes;
    uint64_t span_count;
};

struct export_request {
    struct list node; /* in its state's list */
    struct link_call call;
    struct link *link; /* of the call that is under way */
    struct exporter *exporter; /* NULL: freed while the call was under way */
    enum request_state state;
    struct list units;
    struct buffer *bytes; /* of the call that is or was under way */
    struct buffer *packed; /* the same compressed, once it was sent */
    uint64_t span_count;  /* in bytes */
    struct list rest;     /* request_rest: what goes after it */
    uint64_t refused_spans;
    bool delivered_some;
    bool leaving; /* some of its units are */
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
    struct compressor *compressor; /* NULL: requests go as they are */
    struct lanes lanes;            /* units that wait */
    uint64_t target_bytes;         /* of one request */
    struct list requests[REQUEST_STATES];
    uint64_t starved_until_ns;
    uint64_t random;
    uint32_t surplus; /* requests more than max_calls, which go when they are idle */
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
    if (request->exporter && request->packed)
        request->exporter->stats.request_bytes -= request->packed->len;
    buffer_unref(request->packed);
    request->packed = NULL;
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

static void unit_leave(struct exporter *exporter, struct export_unit *unit)
{
    struct exporter_stats *stats = &exporter->stats;

    stats->queue_units--;
    stats->queue_spans -= unit->span_count;
    stats->queue_bytes -= unit->size_bytes;
    stats->leaving_units -= unit->leaving;
    unit->leaving = false;
}

static void unit_settle(struct exporter *exporter, struct export_unit *unit, enum export_outcome outcome)
{
    struct exporter_stats *stats = &exporter->stats;

    unit_leave(exporter, unit);
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
    request->leaving = false;
    request_move(request, REQUEST_IDLE);
    units_settle(exporter, &units, outcome);
}

/* -- parts of what was too large ------------------------------------------------------------------ */

static void rest_add(struct export_request *request, struct list *before, struct request_rest *rest)
{
    request->exporter->stats.request_bytes += rest->bytes->len;
    list_add_before(before, &rest->node);
}

static struct request_rest *rest_new(struct buffer *bytes, uint64_t span_count)
{
    struct request_rest *rest = bytes ? malloc(sizeof(*rest)) : NULL;

    if (!rest)
        buffer_unref(bytes);
    else
        *rest = (struct request_rest){.bytes = bytes, .span_count = span_count};
    return rest;
}

/* In parts of at most so many bytes (and most_spans), which go one after the other in its place; last: the part that takes all
 * that is left. False: it stays as it is, for want of memory. */
static bool request_cut(struct export_request *request, uint64_t most_spans, size_t most_bytes, unsigned last)
{
    struct exporter *exporter = request->exporter;
    struct slice whole = buffer_slice(request->bytes);
    struct buffer *first;
    struct list parts, *node, *after = request->rest.next;
    uint64_t first_count, count;
    struct cut cut;

    list_init(&parts);
    cut_init(&cut, whole);
    first = cut_next(&cut, exporter->regroup, most_spans, most_bytes, &first_count);
    for (unsigned part = 2; first && cut.more; part++) {
        bool all = part == last;
        struct buffer *bytes = cut_next(&cut, exporter->regroup, all ? UINT64_MAX : most_spans, all ? SIZE_MAX : most_bytes, &count);
        struct request_rest *rest = rest_new(bytes, count);

        if (!rest) {
            buffer_unref(steal(&first));
            break;
        }
        list_add_tail(&parts, &rest->node);
    }
    while ((node = list_take_first(&parts))) {
        struct request_rest *rest = container_of(node, struct request_rest, node);

        if (first) {
            rest_add(request, after, rest);
        } else {
            buffer_unref(rest->bytes);
            free(rest);
        }
    }
    if (!first)
        return false;
    bytes_set(request, first);
    request->span_count = first_count;
    return true;
}

/* False: it stays as it is, because it is small, one span, or memory is short. */
static bool request_halve(struct export_request *request)
{
    size_t len = request->bytes->len;

    if (len <= SPLIT_BYTES_LEAST || request->span_count < 2)
        return false;
    return request_cut(request, request->span_count - 1, len / 2, 2);
}

/* What the user allows in one request is kept even where one unit is more. */
static void request_fit(struct export_request *request)
{
    const struct exporter_options *options = &request->exporter->options;
    uint64_t most_bytes = options->most_bytes ? options->most_bytes : SIZE_MAX;
    uint64_t most_spans = options->most_spans ? options->most_spans : UINT64_MAX;

    if (request->span_count > 1 && (request->bytes->len > most_bytes || request->span_count > most_spans))
        (void)request_cut(request, most_spans, most_bytes, 0);
}

/* The next part takes the place of the one that was answered; it is sent in the next run. */
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

/* No more calls for it. Where some parts were delivered, what was not counts as a partial success does. */
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

    if (result->too_large)
        return true;
    switch (result->code) {
    case RPC_RESOURCE_EXHAUSTED: /* or overload: then smaller calls would only be more of them */
        return !result->has_retry && request->bytes->len > request->exporter->target_bytes;
    case RPC_OUT_OF_RANGE:
        return request->bytes->len > request->exporter->target_bytes;
    case RPC_INVALID_ARGUMENT:
    case RPC_INTERNAL:
        return !alone;
    default:
        return false;
    }
}

/* -- withdrawing ----------------------------------------------------------------------------------- */

/* Between two attempts, and no part of it was answered: its units are all still here. */
static bool request_is_whole(const struct export_request *request)
{
    return request->state != REQUEST_IN_FLIGHT && !request->delivered_some && request->refused_spans == 0;
}

static void units_give_back(struct exporter *exporter, struct list *units)
{
    struct list *node;

    while ((node = list_take_first(units))) {
        unit_leave(exporter, unit_of(node));
        exporter->owner.withdrawn(exporter->owner.context, unit_of(node), 0);
    }
}

/* Moves the units that leave from the request to `out`; what is left is written when it is sent. */
static void request_take_leaving(struct export_request *request, struct list *out)
{
    uint64_t span_count = 0;

    LIST_FOR_EACH_SAFE (node, following, &request->units) {
        struct export_unit *unit = unit_of(node);

        if (unit->leaving) {
            list_del(node);
            list_add_tail(out, node);
        } else {
            span_count += unit->span_count;
        }
    }
    request->leaving = false;
    bytes_set(request, NULL);
    rest_free(request);
    request->span_count = span_count;
    if (list_empty(&request->units))
        request_move(request, REQUEST_IDLE);
}

/* Its call failed, and it would be sent again. */
static void request_withdraw(struct export_request *request)
{
    struct exporter *exporter = request->exporter;
    struct list leaving;

    if (LIKELY(!request->leaving) || !request_is_whole(request))
        return;
    list_init(&leaving);
    request_take_leaving(request, &leaving);
    units_give_back(exporter, &leaving);
}

static void lane_withdraw(struct exporter *exporter, struct lane *lane,
    bool (*matches)(void *context, struct export_unit *unit), void *context, struct list *out)
{
    LIST_FOR_EACH_SAFE (node, following, &lane->units) {
        if (matches(context, unit_of(node))) {
            lane_remove(lane, unit_of(node));
            list_add_tail(out, node);
        }
    }
    lanes_refile(&exporter->lanes, lane);
}

/* Marks the units that match; true: there are some. */
static bool request_mark(struct export_request *request, bool (*matches)(void *context, struct export_unit *unit), void *context)
{
    LIST_FOR_EACH (node, &request->units) {
        struct export_unit *unit = unit_of(node);

        if (!unit->leaving && matches(context, unit)) {
            unit->leaving = request->leaving = true;
            request->exporter->stats.leaving_units++;
        }
    }
    return request->leaving;
}

void exporter_withdraw(struct exporter *exporter, bool (*matches)(void *context, struct export_unit *unit), void *context)
{
    struct list leaving;

    ASSERT(exporter->options.keeps_units);
    list_init(&leaving);
    for (enum request_state state = REQUEST_IN_FLIGHT; state < REQUEST_STATES; state++) {
        LIST_FOR_EACH_SAFE (node, following, &exporter->requests[state]) {
            struct export_request *request = request_of(node);

            if (request_mark(request, matches, context) && request_is_whole(request))
                request_take_leaving(request, &leaving);
        }
    }
    LIST_FOR_EACH_SAFE (node, following, &exporter->lanes.ripe)
        lane_withdraw(exporter, container_of(node, struct lane, node), matches, context, &leaving);
    LIST_FOR_EACH_SAFE (node, following, &exporter->lanes.waiting)
        lane_withdraw(exporter, container_of(node, struct lane, node), matches, context, &leaving);
    units_give_back(exporter, &leaving);
}

void exporter_running(const struct exporter *exporter, void (*visit)(void *context, struct export_unit *unit), void *context)
{
    for (enum request_state state = REQUEST_IN_FLIGHT; state < REQUEST_STATES; state++) {
        LIST_FOR_EACH (node, &exporter->requests[state]) {
            const struct export_request *request = request_of(node);

            if (request_is_whole(request))
                continue;
            LIST_FOR_EACH (unit, &request->units)
                visit(context, unit_of(unit));
        }
    }
}

void exporter_each(const struct exporter *exporter, void (*visit)(void *context, struct export_unit *unit), void *context)
{
    for (enum request_state state = REQUEST_IN_FLIGHT; state < REQUEST_STATES; state++)
        LIST_FOR_EACH (node, &exporter->requests[state])
            LIST_FOR_EACH (unit, &request_of(node)->units)
                visit(context, unit_of(unit));
    LIST_FOR_EACH (node, &exporter->lanes.ripe)
        LIST_FOR_EACH (unit, &container_of(node, struct lane, node)->units)
            visit(context, unit_of(unit));
    LIST_FOR_EACH (node, &exporter->lanes.waiting)
        LIST_FOR_EACH (unit, &container_of(node, struct lane, node)->units)
            visit(context, unit_of(unit));
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
        request_withdraw(request);
        return;
    }
    if (!retry_is_retryable(result->code, result->has_retry) || planted(PLANT_GIVE_UP_AT_ONCE)) {
        request->refused_spans += request->span_count;
        request_answered(request);
        return;
    }
    request->named_ns = result->has_retry ? result->retry_ns : 0;
    request_move(request, REQUEST_FAILED);
    request_withdraw(request);
}

/* -- life ----------------------------------------------------------------------------------------- */

/* What one request aims at: what the user allows at most; or enough for what the user wants at least; or our own. */
static uint64_t target_of(const struct exporter_options *options)
{
    uint64_t bytes = options->max_request_bytes ? options->max_request_bytes : REQUEST_BYTES_DEFAULT;

    if (options->most_bytes > 0)
        return options->most_bytes;
    if (options->least_bytes > 0 || options->least_spans > 0)
        bytes = u64_max(u64_max(bytes, options->least_bytes), REQUEST_BYTES_WANTED);
    return bytes;
}

/* From when on a batch need not wait. */
static struct lane_limits limits_of(const struct exporter *exporter)
{
    const struct exporter_options *options = &exporter->options;
    struct lane_limits limits = {exporter->target_bytes, UINT64_MAX};

    if (options->most_spans > 0)
        limits.spans = options->most_spans;
    if (options->least_spans > 0)
        limits.spans = u64_min(limits.spans, options->least_spans);
    if (options->least_bytes > 0)
        limits.bytes = u64_min(limits.bytes, options->least_bytes);
    return limits;
}

/* Each on its own: a call that ends after us frees its request itself. */
static bool request_new(struct exporter *exporter)
{
    struct export_request *request = calloc(1, sizeof(*request));

    if (!request)
        return false;
    request->exporter = exporter;
    request->call.done = call_done;
    list_init(&request->units);
    list_init(&request->rest);
    list_add_tail(&exporter->requests[REQUEST_IDLE], &request->node);
    return true;
}

int exporter_new(const struct exporter_options *options, struct link *link, const struct exporter_owner *owner,
    struct exporter **out_exporter)
{
    struct exporter *exporter = calloc(1, sizeof(*exporter));
    struct lane_limits limits;

    if (!exporter)
        return error_raise(-ENOMEM);
    exporter->options = *options;
    exporter->owner = *owner;
    exporter->link = link;
    exporter->random = hash_bytes(options->name, strlen(options->name));
    exporter->target_bytes = target_of(options);
    if (exporter->options.max_calls == 0)
        exporter->options.max_calls = 1;
    for (size_t i = 0; i < REQUEST_STATES; i++)
        list_init(&exporter->requests[i]);
    limits = limits_of(exporter);
    if (lanes_init(&exporter->lanes, &limits))
        goto no_memory;

    exporter->regroup = regroup_new();
    if (!exporter->regroup)
        goto no_memory;
    if (options->compression != COMPRESS_NONE) {
        exporter->compressor = compressor_new(options->compression);
        if (!exporter->compressor)
            goto no_memory;
    }
    for (uint32_t i = 0; i < exporter->options.max_calls; i++) {
        if (!request_new(exporter))
            goto no_memory;
    }
    *out_exporter = exporter;
    return 0;

no_memory:
    exporter_free(exporter);
    return error_raise(-ENOMEM);
}

/* -- live reload ---------------------------------------------------------------------------------- */

static void surplus_free(struct exporter *exporter)
{
    struct list *node;

    while (exporter->surplus > 0 && (node = list_take_first(&exporter->requests[REQUEST_IDLE]))) {
        request_free(request_of(node));
        exporter->surplus--;
    }
}

/* False: no memory; what was made stays, as surplus. */
static bool requests_fit(struct exporter *exporter, uint32_t before, uint32_t now)
{
    exporter->surplus += before;
    while (exporter->surplus < now) {
        if (!request_new(exporter)) {
            exporter->surplus -= before;
            return false;
        }
        exporter->surplus++;
    }
    exporter->surplus -= now;
    return true;
}

/* Nothing that was compressed otherwise is sent again. */
static void packed_forget(struct exporter *exporter)
{
    for (enum request_state state = REQUEST_IN_FLIGHT; state < REQUEST_STATES; state++) {
        LIST_FOR_EACH (node, &exporter->requests[state]) {
            struct export_request *request = request_of(node);

            if (request->packed)
                exporter->stats.request_bytes -= request->packed->len;
            buffer_unref(request->packed);
            request->packed = NULL;
        }
    }
}

/* The old link's delays mean nothing on a new one. */
static void link_take(struct exporter *exporter, struct link *link)
{
    if (link == exporter->link)
        return;
    exporter->link = link;
    exporter->link_was_up = false;
    LIST_FOR_EACH (node, &exporter->requests[REQUEST_WAITING]) {
        request_of(node)->at_ns = 0;
        request_of(node)->named_at_ns = 0;
    }
    LIST_FOR_EACH (node, &exporter->requests[REQUEST_FAILED])
        request_of(node)->named_ns = 0;
}

int exporter_change(struct exporter *exporter, const struct exporter_options *options, struct link *link)
{
    bool keeps_units = exporter->options.keeps_units, repacks = options->compression != exporter->options.compression;
    struct compressor *compressor = exporter->compressor;
    uint32_t max_calls = options->max_calls ? options->max_calls : 1;

    if (repacks && options->compression != COMPRESS_NONE) {
        compressor = compressor_new(options->compression);
        if (!compressor)
            return error_raise(-ENOMEM);
    }
    if (!requests_fit(exporter, exporter->options.max_calls, max_calls)) {
        if (compressor != exporter->compressor)
            compressor_free(compressor);
        return error_raise(-ENOMEM);
    }
    if (repacks) {
        packed_forget(exporter);
        compressor_free(exporter->compressor);
        exporter->compressor = options->compression != COMPRESS_NONE ? compressor : NULL;
    }
    exporter->options = *options;
    exporter->options.keeps_units = keeps_units;
    exporter->options.max_calls = max_calls;
    exporter->target_bytes = target_of(options);
    exporter->lanes.limits = limits_of(exporter);
    link_take(exporter, link);
    return 0;
}

bool exporter_uses(const struct exporter *exporter, const struct link *link)
{
    LIST_FOR_EACH (node, &exporter->requests[REQUEST_IN_FLIGHT]) {
        if (request_of(node)->link == link)
            return true;
    }
    return false;
}

/* -- the end -------------------------------------------------------------------------------------- */

static void lanes_stop(struct exporter *exporter)
{
    struct export_unit *unit;
    struct lane *lane;
    struct list units;

    while ((lane = lanes_first(&exporter->lanes))) {
        list_init(&units);
        while ((unit = lane_take(lane)))
            list_add_tail(&units, &unit->node);
        lanes_settle(&exporter->lanes, lane, 0);
        units_settle(exporter, &units, EXPORT_STOPPED);
    }
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
                link_cancel(request->link, &request->call);
            else
                request_free(request);
        }
    }
    lanes_stop(exporter); /* last: also what came while the others were settled */
    lanes_deinit(&exporter->lanes);
    compressor_free(exporter->compressor);
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
    lanes_add(&exporter->lanes, unit, now_ns);
}

/* -- sending -------------------------------------------------------------------------------------- */

/* May the unit join so many bytes and spans? */
static bool unit_fits(const struct exporter *exporter, const struct export_unit *unit, uint64_t bytes, uint64_t spans)
{
    const struct exporter_options *options = &exporter->options;

    if (options->most_spans > 0 && spans + unit->span_count > options->most_spans)
        return false;
    if (options->most_spans == 0 && options->least_spans > 0 && spans >= options->least_spans)
        return false; /* it has what it waited for */
    return u64_add_cap(bytes, unit->size_bytes) <= exporter->target_bytes;
}

/* Puts the first units, at most `most`, into the regroup, until there are `least` and one more would not fit. Returns how many;
 * *out_short: memory ran out at the next one, of which spans may be in there already. */
static size_t units_add(struct exporter *exporter, const struct list *units, size_t least, size_t most, bool *out_short)
{
    uint64_t spans = 0;
    size_t count = 0;

    regroup_reset(exporter->regroup);
    *out_short = false;
    LIST_FOR_EACH (node, units) {
        struct export_unit *unit = unit_of(node);

        if (count == most || (count >= least && !unit_fits(exporter, unit, regroup_size_bound(exporter->regroup), spans)))
            break;
        if (exporter->owner.add(exporter->owner.context, unit, exporter->regroup) < 0) {
            *out_short = true;
            break;
        }
        spans += unit->span_count;
        count++;
    }
    return count;
}

/* Writes the first units, `least` or more, as one request; *out_count: how many. NULL: no memory. */
static struct buffer *units_write(struct exporter *exporter, const struct list *units, size_t least, size_t *out_count)
{
    struct buffer *bytes = NULL;
    bool short_of_memory;

    *out_count = units_add(exporter, units, least, SIZE_MAX, &short_of_memory);
    if (short_of_memory && *out_count >= least) /* half a unit must not go out: once more, with the whole ones */
        *out_count = units_add(exporter, units, least, *out_count, &short_of_memory);
    if (!short_of_memory)
        bytes = buffer_new(regroup_size(exporter->regroup));
    if (bytes) {
        bytes->len = (size_t)(regroup_write(exporter->regroup, bytes->bytes) - bytes->bytes);
        ASSERT(bytes->len <= bytes->capacity);
    }
    regroup_reset(exporter->regroup);
    return bytes;
}

/* Writes as many of the lane's units as fit into the request. False: no memory, all units stay as they are. */
static bool request_build(struct exporter *exporter, struct export_request *request, struct lane *lane, uint64_t now_ns)
{
    size_t count;
    struct buffer *bytes = units_write(exporter, &lane->units, 1, &count);

    if (!bytes) {
        exporter->stats.starved++;
        exporter->starved_until_ns = u64_add_cap(now_ns, STARVED_WAIT_NS);
        return false;
    }
    bytes_set(request, bytes);
    request->retry = (struct retry){0};
    request->calls = 0;
    request->span_count = 0;
    request->refused_spans = 0;
    request->delivered_some = false;
    request->named_at_ns = 0;
    while (count-- > 0) {
        struct export_unit *unit = lane_take(lane);

        request->span_count += unit->span_count;
        list_add_tail(&request->units, &unit->node);
        if (!exporter->options.keeps_units)
            exporter->owner.encoded(exporter->owner.context, unit);
    }
    lanes_settle(&exporter->lanes, lane, now_ns); /* what is left begins to wait anew: the batch it missed was full */
    request_fit(request);
    return true;
}

/* A request that units were withdrawn from, written again. False: no memory. */
static bool request_rewrite(struct export_request *request)
{
    size_t count;
    struct buffer *bytes = units_write(request->exporter, &request->units, SIZE_MAX, &count);

    if (!bytes)
        return false;
    bytes_set(request, bytes);
    request_fit(request);
    return true;
}

/* Compressed once, however often it is sent. Without memory for it the request goes as it is. */
static void request_pack(struct export_request *request)
{
    struct exporter *exporter = request->exporter;

    if (!exporter->compressor || request->packed)
        return;
    request->packed = compressor_run(exporter->compressor, buffer_slice(request->bytes));
    if (!request->packed)
        return;
    exporter->stats.request_bytes += request->packed->len;
    exporter->stats.plain_bytes += request->bytes->len;
    exporter->stats.packed_bytes += request->packed->len;
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
        .metadata = unit_of(list_first(&request->units))->metadata,
    };

    if (exporter->link->state != LINK_DOWN && UNLIKELY(!request->bytes) && !request_rewrite(request))
        exporter->stats.starved++;
    if (exporter->link->state == LINK_DOWN || UNLIKELY(!request->bytes)) {
        request->named_ns = 0;
        request_move(request, REQUEST_FAILED);
        return;
    }
    request_pack(request);
    if (request->packed) {
        message.pieces = &request->packed;
        message.encoding = exporter->options.compression;
    }
    exporter->stats.calls++;
    exporter->stats.retries += request->calls++ > 0;
    retry_begin(&request->retry, now_ns);
    request_move(request, REQUEST_IN_FLIGHT);
    request->link = exporter->link;
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
    return lanes_first(&exporter->lanes) && !list_empty(&exporter->requests[REQUEST_IDLE]) &&
           (exporter->link->state != LINK_DOWN || all_idle(exporter));
}

/* How long a batch that is not full waits: not at all while nothing is under way, unless the user wants a least size. */
static uint64_t wait_ns(const struct exporter *exporter)
{
    bool wants_least = exporter->options.least_bytes > 0 || exporter->options.least_spans > 0;

    if (exporter->hurry || (!wants_least && all_idle(exporter)))
        return 0;
    return exporter->options.flush_timeout_ns;
}

static bool flush_due(const struct exporter *exporter, uint64_t now_ns)
{
    const struct lane *lane = lanes_first(&exporter->lanes);

    if (!can_build(exporter) || now_ns < exporter->starved_until_ns)
        return false;
    return lane->ripe || u64_sub_floor(now_ns, lane->since_ns) >= wait_ns(exporter);
}

uint64_t exporter_run(struct exporter *exporter, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;

    surplus_free(exporter);
    failed_run(exporter, now_ns);
    waiting_run(exporter, now_ns);
    while (flush_due(exporter, now_ns)) {
        struct export_request *request = request_of(list_first(&exporter->requests[REQUEST_IDLE]));

        if (request_build(exporter, request, lanes_first(&exporter->lanes), now_ns))
            request_send(request, now_ns);
    }
    failed_run(exporter, now_ns); /* what found the link down */

    if (can_build(exporter)) {
        const struct lane *lane = lanes_first(&exporter->lanes);

        next_ns = u64_add_cap(lane->since_ns, lane->ripe ? 0 : wait_ns(exporter));
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
