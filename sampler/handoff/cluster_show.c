/* What an operator sees of the cluster from one of its nodes: does everybody agree, who is missing, what is on its way. */
#include <string.h>

#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/handoff/cluster_inside.h"

static const char *yes_no(bool value)
{
    return value ? "true" : "false";
}

static const char *state_text(enum member_state state)
{
    switch (state) {
    case MEMBER_UNKNOWN:
        break;
    case MEMBER_JOINING:
        return "joining";
    case MEMBER_READY:
        return "ready";
    case MEMBER_DRAINING:
        return "draining";
    case MEMBER_LEFT:
        return "left";
    }
    return "unknown";
}

static void append_text(struct text *out, const char *key, const char *value)
{
    text_append(out, "\"%s\": ", key);
    text_append_json(out, slice_text(value ? value : ""));
}

/* What all reachable members of my ring say of theirs. */
static bool all_agree(const struct cluster *cluster, uint64_t now_ns)
{
    for (size_t i = 0; i < membership_peer_count(cluster->membership); i++) {
        const struct membership_peer peer = membership_peer(cluster->membership, i, now_ns);

        if (peer.reachable && peer.counted_as != MEMBER_UNKNOWN && !peer.agrees)
            return false;
    }
    return true;
}

/* -- readiness (R1) --------------------------------------------------------------------------------------------- */

bool cluster_is_ready(struct cluster *cluster, const char **out_reason)
{
    if (!cluster->membership || membership_state(cluster->membership) == MEMBER_JOINING) {
        *out_reason = "the journal is being read";
        return false;
    }
    if (!membership_serving(cluster->membership)) {
        *out_reason = membership_why_not_in_step(cluster->membership, cluster->reason, sizeof(cluster->reason));
        return false;
    }
    return true;
}

struct cluster_word cluster_word(const struct cluster *cluster)
{
    return (struct cluster_word){
        .state = atomic_load_explicit(&cluster->word_state, memory_order_relaxed),
        .fingerprint = atomic_load_explicit(&cluster->sampler->ring_fingerprint, memory_order_relaxed),
        .incarnation = atomic_load_explicit(&cluster->word_incarnation, memory_order_relaxed),
    };
}

/* -- /traces/{id} ------------------------------------------------------------------------------------------------- */

struct peer_link *cluster_owner(struct cluster *cluster, const struct trace_id *id, const char **out_name)
{
    const struct view *view = cluster->view;
    size_t owner = view ? view_owner(view, ring_slot(id)) : VIEW_NOBODY;

    *out_name = NULL;
    if (owner == VIEW_NOBODY || owner == view->self)
        return NULL;
    *out_name = view->members[owner].name;
    if (!view->members[owner].reachable || !view->members[owner].link)
        return NULL;
    return peer_link_ref(view->members[owner].link);
}

/* -- /status ------------------------------------------------------------------------------------------------------ */

static void status_ring(const struct cluster *cluster, struct text *out, uint64_t now_ns)
{
    char why[256];
    const struct view *view = cluster->view;
    size_t owned = view ? slot_set_count(view->owned) : 0, settled = view ? slot_set_count(view->settled) : 0;

    text_append(out, "\"ring\": {\"ring_no\": %u, \"fingerprint\": \"%016llx\", \"members\": %zu, \"slots_owned\": %zu, "
        "\"slots_settled\": %zu, \"agreed\": %s},\n",
        membership_ring_no(cluster->membership), (unsigned long long)membership_fingerprint(cluster->membership),
        view ? view->member_count : 0, owned, settled, yes_no(all_agree(cluster, now_ns)));
    text_append(out, "    \"in_step\": %s, ", yes_no(membership_in_step(cluster->membership)));
    append_text(out, "why_not_in_step", membership_why_not_in_step(cluster->membership, why, sizeof(why)));
    text_append(out, ",\n    \"settled\": %s, ", yes_no(membership_settled(cluster->membership)));
    append_text(out, "why_not_settled", membership_why_not_settled(cluster->membership, why, sizeof(why)));
}

static void status_held(const struct cluster *cluster, struct text *out, uint64_t now_ns)
{
    const struct holds_sum *held = &cluster->held;

    text_append(out, "    \"foreign\": {\"traces\": %llu, \"bytes\": %llu, \"exports_in_flight\": %llu, \"oldest_age_ns\": %llu, ",
        (unsigned long long)held->foreign_traces, (unsigned long long)held->foreign_bytes, (unsigned long long)held->exports,
        (unsigned long long)(held->oldest_ns ? u64_sub_floor(now_ns, held->oldest_ns) : 0));
    if (cluster->held_ns > 0)
        text_append(out, "\"asked_ago_ns\": %llu}", (unsigned long long)u64_sub_floor(now_ns, cluster->held_ns));
    else
        text_append(out, "\"asked_ago_ns\": null}");
}

static void status_resolver(const struct cluster *cluster, struct text *out, uint64_t now_ns)
{
    text_append(out, "    \"resolver\": {\"type\": \"%s\", \"failing\": %s, ", cluster->sampler->config.cluster.resolver.name,
        yes_no(cluster->resolve_failing));
    append_text(out, "last_failure", cluster->resolve_failure);
    if (cluster->resolved_ns > 0)
        text_append(out, ", \"last_good_age_ns\": %llu}", (unsigned long long)u64_sub_floor(now_ns, cluster->resolved_ns));
    else
        text_append(out, ", \"last_good_age_ns\": null}");
}

static void status_peer(const struct membership_peer *peer, struct text *out)
{
    text_append(out, "{");
    append_text(out, "name", peer->name);
    text_append(out, ", ");
    append_text(out, "address", peer->address);
    text_append(out, ", ");
    append_text(out, "software", peer->software);
    text_append(out, ",\n       \"state\": \"%s\", \"in_ring\": %s, \"counted_as\": \"%s\", \"gone\": %s, \"reachable\": %s, \"silent_ns\": %llu, "
        "\"incarnation\": %llu,\n",
        state_text(peer->state), yes_no(peer->counted_as != MEMBER_UNKNOWN), state_text(peer->counted_as), yes_no(peer->gone),
        yes_no(peer->reachable), (unsigned long long)peer->silent_ns, (unsigned long long)peer->incarnation);
    text_append(out, "       \"fingerprint\": \"%016llx\", \"agrees\": %s, \"heard_my_ring\": %s, \"cleared_my_claim\": %s, "
        "\"claim_open\": %s, \"cleared_by_me\": %s,\n",
        (unsigned long long)peer->fingerprint, yes_no(peer->agrees), yes_no(peer->heard_my_ring), yes_no(peer->cleared_my_claim),
        yes_no(peer->claim_no != 0), yes_no(peer->cleared_by_me));
    text_append(out, "       \"held_here\": {\"traces\": %llu, \"bytes\": %llu}, \"holds_of_mine\": {\"traces\": %llu, \"bytes\": %llu}, "
        "\"room_bytes\": %llu}",
        (unsigned long long)peer->held_traces, (unsigned long long)peer->held_bytes, (unsigned long long)peer->holds_traces,
        (unsigned long long)peer->holds_bytes, (unsigned long long)peer->room_bytes);
}

static void status_peers(const struct cluster *cluster, struct text *out, uint64_t now_ns)
{
    const char *refusal;

    text_append(out, "    \"peers\": [");
    for (size_t i = 0; i < membership_peer_count(cluster->membership); i++) {
        const struct membership_peer peer = membership_peer(cluster->membership, i, now_ns);

        text_append(out, "%s\n      ", i ? "," : "");
        status_peer(&peer, out);
    }
    text_append(out, "],\n    \"refused\": [");
    for (size_t i = 0; (refusal = membership_refusal(cluster->membership, i)); i++) {
        text_append(out, "%s", i ? ", " : "");
        text_append_json(out, slice_text(refusal));
    }
    text_append(out, "],\n    \"addresses\": [");
    for (size_t i = 0, shown = 0; i < membership_target_count(cluster->membership); i++) {
        const struct membership_target target = membership_target(cluster->membership, i);

        if (target.address[0] == '\0')
            continue;
        text_append(out, "%s\n      {", shown++ ? "," : "");
        append_text(out, "address", target.address);
        text_append(out, ", ");
        append_text(out, "peer", target.is_self ? cluster->sampler->name : target.peer);
        text_append(out, ", \"self\": %s, \"listed\": %s, \"connected\": %s, ", yes_no(target.is_self), yes_no(target.listed),
            yes_no(i < cluster->link_count && cluster->links[i].up));
        append_text(out, "trouble", target.trouble);
        text_append(out, "}");
    }
    text_append(out, "]");
}

static void status_counters(const struct cluster *cluster, struct text *out)
{
    const struct membership_counters c = membership_counters(cluster->membership);

    text_append(out, "    \"counters\": {\"rings\": %llu, \"claims\": %llu, \"members_dropped\": %llu, \"members_left\": %llu, "
        "\"settle_timeouts\": %llu, \"statuses_in\": %llu, \"statuses_out\": %llu, \"statuses_refused\": %llu, \"over_bounds\": %llu}",
        (unsigned long long)c.rings, (unsigned long long)c.claims, (unsigned long long)c.members_dropped,
        (unsigned long long)c.members_left, (unsigned long long)c.settle_timeouts, (unsigned long long)c.statuses_in,
        (unsigned long long)c.statuses_out, (unsigned long long)c.statuses_refused, (unsigned long long)c.over_bounds);
}

void cluster_status(struct cluster *cluster, struct text *out)
{
    uint64_t now_ns = clock_now_ns();

    text_append(out, "{");
    append_text(out, "name", cluster->sampler->config.cluster.name);
    text_append(out, ", ");
    append_text(out, "self", cluster->sampler->name);
    text_append(out, ", ");
    append_text(out, "advertise", cluster->advertise);
    if (!cluster->membership) {
        text_append(out, ", \"state\": \"joining\", \"text\": \"the journal's last ring is being read\"}");
        return;
    }
    text_append(out, ", \"state\": \"%s\", \"incarnation\": %llu,\n    ", state_text(membership_state(cluster->membership)),
        (unsigned long long)cluster->sampler->incarnation);
    status_ring(cluster, out, now_ns);
    text_append(out, ",\n");
    status_held(cluster, out, now_ns);
    text_append(out, ",\n");
    status_resolver(cluster, out, now_ns);
    text_append(out, ",\n");
    status_counters(cluster, out);
    text_append(out, ",\n");
    status_peers(cluster, out, now_ns);
    text_append(out, "}");
}

/* -- /metrics ------------------------------------------------------------------------------------------------------ */

struct peer_family {
    enum metric_id id;
    uint64_t (*value)(const struct membership_peer *peer);
};

static uint64_t peer_reachable(const struct membership_peer *peer)
{
    return peer->reachable;
}

static uint64_t peer_state(const struct membership_peer *peer)
{
    return (uint64_t)peer->state;
}

static uint64_t peer_agrees(const struct membership_peer *peer)
{
    return peer->agrees;
}

static uint64_t peer_held(const struct membership_peer *peer)
{
    return peer->held_traces;
}

static void peers_metrics(const struct cluster *cluster, struct text *out, uint64_t now_ns)
{
    static const struct peer_family families[] = {
        {METRIC_PEER_STATE, peer_state},
        {METRIC_PEER_REACHABLE, peer_reachable},
        {METRIC_PEER_AGREES, peer_agrees},
        {METRIC_PEER_HELD_TRACES, peer_held},
    };

    for (size_t k = 0; k < ARRAY_COUNT(families); k++) {
        const struct metric_info *info = &metric_infos[families[k].id];

        metrics_write_head(out, info->name, info->kind, info->help);
        for (size_t i = 0; i < membership_peer_count(cluster->membership); i++) {
            const struct membership_peer peer = membership_peer(cluster->membership, i, now_ns);

            if (!peer.gone)
                metrics_write_labeled(out, info->name, info->kind, "peer", peer.name, families[k].value(&peer));
        }
    }
}

void cluster_gauges(struct cluster *cluster)
{
    struct metrics_cell *cell = cluster_cell(cluster);
    const struct view *view = cluster->view;
    struct membership_counters counters;
    uint64_t now_ns = clock_now_ns();

    if (!cluster->membership)
        return;
    counters = membership_counters(cluster->membership);
    metric_set(cell, METRIC_CLUSTER_STATE, (uint64_t)membership_state(cluster->membership));
    metric_set(cell, METRIC_CLUSTER_MEMBERS, view ? view->member_count : 0);
    metric_set(cell, METRIC_CLUSTER_RING_AGREED, all_agree(cluster, now_ns));
    metric_set(cell, METRIC_CLUSTER_IN_STEP, membership_in_step(cluster->membership));
    metric_set(cell, METRIC_CLUSTER_SLOTS_OWNED, view ? slot_set_count(view->owned) : 0);
    metric_set(cell, METRIC_CLUSTER_SLOTS_SETTLED, view ? slot_set_count(view->settled) : 0);
    metric_set(cell, METRIC_CLUSTER_RINGS, counters.rings);
    metric_set(cell, METRIC_CLUSTER_MEMBERS_DROPPED, counters.members_dropped);
    metric_set(cell, METRIC_CLUSTER_SETTLE_TIMEOUTS, counters.settle_timeouts);
    metric_set(cell, METRIC_CLUSTER_STATUSES_REFUSED, counters.statuses_refused);
}

void cluster_metrics(struct cluster *cluster, struct text *out)
{
    if (cluster->membership)
        peers_metrics(cluster, out, clock_now_ns());
}
