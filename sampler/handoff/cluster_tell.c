/* Statuses: told to each peer over its link, and answered when a peer tells. A call that comes in goes to the control thread, which
 * has the only truth there is, and its answer back to the worker where it came in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/run/clock.h"
#include "common/run/control.h"
#include "proto/peer.h"
#include "sampler/handoff/cluster_inside.h"

/* -- told ----------------------------------------------------------------------------------------------------- */

struct tell {
    struct peer_call call;
    struct cluster *cluster;
    size_t target;
};

static const char *refusal_of(int outcome)
{
    switch (outcome) {
    case MEMBERSHIP_E_MALFORMED:
        return "its answer is no status";
    case MEMBERSHIP_E_OTHER_CLUSTER:
        return "it is in another cluster";
    case MEMBERSHIP_E_HASH_VERSION:
        return "it places traces by another hash version";
    case MEMBERSHIP_E_MY_NAME:
        return "another process has this sampler's name; set tailrace.cluster.self on each";
    case MEMBERSHIP_E_FULL:
        return "there is no room for further members";
    default:
        return "refused";
    }
}

/* A peer that is refused says so every second; the log hears of it when it is news. */
static void log_refusal(struct cluster *cluster, const char *address, const char *why)
{
    uint64_t suppressed;

    if (log_limit_pass(&cluster->refusal_log, clock_now_ns(), &suppressed))
        log_event(LOG_ERROR, "peer_refused", "address=%s reason=\"%s\" suppressed=%llu", address, why, (unsigned long long)suppressed);
}

static void tell_done(struct peer_call *call)
{
    struct tell *tell = container_of(call, struct tell, call);
    struct cluster *cluster = tell->cluster;
    uint64_t now_ns = clock_now_ns();
    int r;

    if (cluster->stopped) {
        peer_call_release(call);
        free(tell);
        return;
    }
    if (call->code != RPC_OK) {
        membership_unanswered(cluster->membership, tell->target, call->code == RPC_UNIMPLEMENTED,
            call->code == RPC_UNIMPLEMENTED ? "it is no sampler, or of a release that hands nothing over" : call->text, now_ns);
    } else {
        r = membership_heard(cluster->membership, tell->target, buffer_slice(call->response), now_ns);
        if (r)
            log_refusal(cluster, membership_target(cluster->membership, tell->target).address, refusal_of(r));
    }
    peer_call_release(call);
    free(tell);
    cluster_run(cluster, now_ns);
}

void cluster_tell(struct cluster *cluster, size_t target, struct buffer *status, uint64_t now_ns)
{
    struct cluster_link *to = target < cluster->link_count ? &cluster->links[target] : NULL;
    struct tell *tell;

    if (!to || !to->link || to->closing) {
        membership_unanswered(cluster->membership, target, false, "not connected", now_ns);
        buffer_unref(status);
        return;
    }
    tell = calloc(1, sizeof(*tell));
    ASSERT(tell != NULL);
    tell->cluster = cluster;
    tell->target = target;
    tell->call = (struct peer_call){.method = "/tailrace.v1.Peer/Tell",
        .message = status,
        .deadline_ns = now_ns + (uint64_t)cluster->sampler->config.cluster.peer_timeout_ns,
        .done = tell_done};
    peer_link_call(to->link, &tell->call);
    buffer_unref(status);
}

/* -- asked ----------------------------------------------------------------------------------------------------- */

struct told {
    struct mail mail;
    struct sampler *sampler;
    struct worker *worker; /* where the call is */
    void *call;
    struct buffer *status, *answer;
    int code;
};

static void worker_on_answer(struct mail *mail, void *receiver)
{
    struct told *told = container_of(mail, struct told, mail);

    (void)receiver;
    peer_call_answer(told->call, told->code, told->answer);
    free(told);
}

static void told_answer(struct told *told, int code, struct buffer *answer)
{
    told->code = answer ? RPC_OK : code;
    told->answer = answer;
    buffer_unref(told->status);
    told->mail.deliver = worker_on_answer;
    worker_post(told->worker, &told->mail);
}

/* Who is refused learns whom it has called, and so why. */
static struct buffer *answer_to_refused(struct cluster *cluster)
{
    Tailrace__V1__Status status;
    struct buffer *bytes;
    char cluster_name[132], name[256], advertise[264];

    (void)snprintf(cluster_name, sizeof(cluster_name), "%s", cluster->sampler->config.cluster.name);
    (void)snprintf(name, sizeof(name), "%s", cluster->sampler->name);
    (void)snprintf(advertise, sizeof(advertise), "%s", cluster->advertise);
    tailrace__v1__status__init(&status);
    status.hash_version = RING_HASH_VERSION;
    status.cluster = cluster_name;
    status.name = name;
    status.number = 1;
    status.advertise_addr = advertise;
    status.incarnation = atomic_load_explicit(&cluster->word_incarnation, memory_order_relaxed);
    status.state = (Tailrace__V1__State)membership_state(cluster->membership);
    status.hands_over = 1;
    bytes = buffer_new(tailrace__v1__status__get_packed_size(&status));
    if (bytes)
        bytes->len = tailrace__v1__status__pack(&status, bytes->bytes);
    return bytes;
}

static struct buffer *answer_to(struct cluster *cluster, struct slice status, uint64_t now_ns)
{
    int r = membership_heard(cluster->membership, MEMBERSHIP_CALLED, status, now_ns);
    Tailrace__V1__Status *theirs;
    struct buffer *answer;

    if (r == MEMBERSHIP_E_OTHER_CLUSTER || r == MEMBERSHIP_E_HASH_VERSION || r == MEMBERSHIP_E_MY_NAME) {
        log_refusal(cluster, "(it called)", refusal_of(r));
        return answer_to_refused(cluster);
    }
    if (r)
        return NULL;
    theirs = tailrace__v1__status__unpack(NULL, status.len, status.at);
    if (!theirs)
        return NULL;
    answer = membership_answer(cluster->membership, theirs->name);
    tailrace__v1__status__free_unpacked(theirs, NULL);
    return answer;
}

static void control_on_told(struct mail *mail, void *receiver)
{
    struct told *told = container_of(mail, struct told, mail);
    struct cluster *cluster = told->sampler->cluster;
    uint64_t now_ns = clock_now_ns();

    (void)receiver;
    if (!cluster || cluster->stopped || !cluster->membership) {
        told_answer(told, RPC_UNAVAILABLE, NULL);
        return;
    }
    told_answer(told, RPC_UNAVAILABLE, answer_to(cluster, buffer_slice(told->status), now_ns));
    cluster_run(cluster, now_ns);
}

int cluster_serve_tell(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer)
{
    struct sampler *sampler = tier;
    struct told *told;

    (void)out_answer;
    if (!sampler->config.cluster.on)
        return RPC_UNIMPLEMENTED;
    if (request.len > MEMBERSHIP_STATUS_MAX)
        return RPC_INVALID_ARGUMENT;
    told = calloc(1, sizeof(*told));
    ASSERT(told != NULL);
    told->sampler = sampler;
    told->worker = worker;
    told->call = call;
    told->status = buffer_new(request.len);
    ASSERT(told->status != NULL);
    if (request.len > 0)
        memcpy(told->status->bytes, request.at, request.len);
    told->status->len = request.len;
    told->mail.deliver = control_on_told;
    control_post(&sampler->control, &told->mail);
    return -1;
}
