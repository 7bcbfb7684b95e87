/* What goes from membership to the workers and to the disk, and how a ring becomes the node's: when every worker has a view of
 * it and its record is written. Views and polls go by mail in one order, so a poll's answer counts all that one worker sent to
 * another under an older view. A poll therefore goes out when all of them act by the newest one: as long as one does not know that a member is
 * reachable again it keeps spans for it, and passes them to another that has answered already. And from when a ring is on its way to the
 * workers, no answer counts that one of them gets under the ring before it (T3): another may have taken back by then what was given.
 *
 * A disk that fails must not hold up the ring of all others: the record is tried again, and the ring goes on without it. What is
 * lost by that is known only after a crash in that very time: the node then learns of the others from its resolver alone. */
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/run/control.h"
#include "sampler/handoff/cluster_inside.h"
#include "sampler/journal/journal.h"

static void adoption_check(struct cluster *cluster, uint64_t now_ns)
{
    struct ring_adoption *adoption = &cluster->adoption;

    if (adoption->ring_no == 0 || !adoption->view_out || adoption->workers_left > 0 || !adoption->record_out)
        return;
    membership_adopted(cluster->membership, adoption->ring_no, now_ns);
    adoption->ring_no = 0;
    cluster_run(cluster, now_ns);
}

static void adoption_of(struct cluster *cluster, uint32_t ring_no)
{
    if (cluster->adoption.ring_no != ring_no)
        cluster->adoption = (struct ring_adoption){.ring_no = ring_no, .record_out = !cluster->sampler->journal};
}

/* -- the ring's record (R5) ------------------------------------------------------------------------------------ */

struct record_write {
    struct journal_write write;
    struct cluster *cluster;
    uint32_t ring_no;
};

static void record_keep(struct cluster *cluster, struct buffer *record)
{
    buffer_unref(cluster->unwritten);
    cluster->unwritten = record;
}

static void record_written(struct cluster *cluster, uint32_t ring_no)
{
    if (cluster->adoption.ring_no == ring_no)
        cluster->adoption.record_out = true;
    adoption_check(cluster, clock_now_ns());
}

static void control_on_record(struct mail *mail, void *receiver)
{
    struct record_write *record = container_of(container_of(mail, struct journal_write, mail), struct record_write, write);
    struct cluster *cluster = record->cluster;
    uint32_t ring_no = record->ring_no;

    (void)receiver;
    if (record->write.error)
        log_event(LOG_WARN, "ring_record_not_written", "ring_no=%u errno=%d", ring_no, -record->write.error);
    free(record);
    record_written(cluster, ring_no);
}

static bool record_append(struct cluster *cluster, struct buffer *bytes, uint32_t ring_no)
{
    struct record_write *record = calloc(1, sizeof(*record));

    ASSERT(record != NULL);
    record->cluster = cluster;
    record->ring_no = ring_no;
    record->write.mail.deliver = control_on_record;
    record->write.done = journal_done_at_control;
    record->write.to = &cluster->sampler->control;
    record->write.kind = JOURNAL_MEMBER;
    record->write.head = buffer_ref(bytes);
    if (journal_append(cluster->sampler->journal, &record->write) == 0)
        return true;
    buffer_unref(bytes);
    free(record);
    return false;
}

void cluster_record_write(struct cluster *cluster, struct buffer *record, uint32_t ring_no, uint64_t now_ns)
{
    (void)now_ns;
    if (!cluster->sampler->journal) {
        buffer_unref(record);
        return;
    }
    adoption_of(cluster, ring_no);
    record_keep(cluster, NULL); /* an older one is of no use any more */
    if (record_append(cluster, record, ring_no)) {
        buffer_unref(record);
        return;
    }
    log_event(LOG_WARN, "ring_record_not_written", "ring_no=%u text=\"the journal takes nothing; tried again\"", ring_no);
    record_keep(cluster, record);
    cluster->adoption.record_out = true;
}

void cluster_record_again(struct cluster *cluster)
{
    if (!cluster->unwritten || journal_failing(cluster->sampler->journal))
        return;
    if (record_append(cluster, cluster->unwritten, 0))
        record_keep(cluster, NULL);
}

/* -- views ------------------------------------------------------------------------------------------------------- */

struct view_mail {
    struct mail mail;
    struct cluster *cluster;
    struct sampler_worker *home;
    struct view *view; /* a reference, on its way out */
    uint32_t ring_no;
};

static void control_on_adopted(struct mail *mail, void *receiver)
{
    struct view_mail *news = container_of(mail, struct view_mail, mail);
    struct cluster *cluster = news->cluster;

    (void)receiver;
    cluster->views_out--;
    if (cluster->adoption.ring_no == news->ring_no && cluster->adoption.workers_left > 0)
        cluster->adoption.workers_left--;
    free(news);
    adoption_check(cluster, clock_now_ns());
    if (cluster->views_out == 0)
        cluster_run(cluster, clock_now_ns()); /* a poll may have waited for this */
}

static void worker_on_view_mail(struct mail *mail, void *receiver)
{
    struct view_mail *news = container_of(mail, struct view_mail, mail);

    (void)receiver;
    worker_on_view(news->home, news->view);
    view_unref(news->view);
    news->view = NULL;
    news->mail.deliver = control_on_adopted;
    control_post(&news->cluster->sampler->control, &news->mail);
}

/* The links of members; a member whose link is not there now gets it with a later view. */
static void view_link(struct cluster *cluster, struct view *view)
{
    for (size_t i = 0; i < view->member_count; i++) {
        struct view_member *member = &view->members[i];

        if (member->target < cluster->link_count && cluster->links[member->target].link && !cluster->links[member->target].closing)
            member->link = peer_link_ref(cluster->links[member->target].link);
    }
}

void cluster_view_publish(struct cluster *cluster, struct view *view, uint64_t now_ns)
{
    struct sampler *sampler = cluster->sampler;

    (void)now_ns;
    view_link(cluster, view);
    if (!cluster->view || cluster->view->ring_no != view->ring_no) {
        adoption_of(cluster, view->ring_no);
        cluster->adoption.view_out = true;
        cluster->adoption.workers_left = sampler->worker_count;
        log_event(LOG_INFO, "ring", "ring_no=%u fingerprint=%016llx members=%zu", view->ring_no,
            (unsigned long long)view->fingerprint, view->member_count);
    }
    atomic_store(&sampler->ring_no_out, view->ring_no);
    cluster->views_out += sampler->worker_count;
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        struct view_mail *news = calloc(1, sizeof(*news));

        ASSERT(news != NULL);
        news->mail.deliver = worker_on_view_mail;
        news->cluster = cluster;
        news->home = &sampler->workers[i];
        news->view = view_ref(view);
        news->ring_no = cluster->view && cluster->view->ring_no == view->ring_no ? 0 : view->ring_no;
        worker_post(&sampler->workers[i].worker, &news->mail);
    }
    view_unref(cluster->view);
    cluster->view = view;
}

/* -- polls ---------------------------------------------------------------------------------------------------------- */

void cluster_on_holds(void *context, const struct holds_sum *sum)
{
    struct cluster *cluster = context;
    uint64_t now_ns = clock_now_ns();

    cluster->held = *sum;
    cluster->held_ns = now_ns;
    cluster->held_members = realloc(cluster->held_members, (sum->member_count + 1) * sizeof(cluster->held_members[0]));
    ASSERT(cluster->held_members != NULL);
    for (size_t i = 0; i < sum->member_count; i++)
        cluster->held_members[i] = (struct membership_held){sum->members[i].traces, sum->members[i].bytes, sum->members[i].exports};
    membership_polled(cluster->membership, cluster->poll_view, cluster->held_members, sum->member_count,
        sum->swept && sum->ring_no != 0, now_ns);
    cluster_run(cluster, now_ns);
}

void cluster_poll_begin(struct cluster *cluster, uint64_t view_number, uint64_t now_ns)
{
    (void)now_ns;
    ASSERT(cluster->view && cluster->view->number == view_number);
    cluster->poll_view = view_number;
    hold_poll_begin(&cluster->poll, cluster->view->member_count);
}
