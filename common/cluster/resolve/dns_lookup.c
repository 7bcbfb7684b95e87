/* Questions are held by pointer, as c-ares keeps the pointer while more are made up. The phases only ever go forward:
 * the name that is known, then all that it could be, then the targets of a service. */
#include "common/cluster/resolve/dns_lookup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"

static const char *type_text(enum dns_type type)
{
    switch (type) {
    case DNS_TYPE_A:
        return "A";
    case DNS_TYPE_AAAA:
        return "AAAA";
    case DNS_TYPE_SRV:
        return "SRV";
    case DNS_TYPE_CNAME:
        break;
    }
    return "CNAME";
}

bool dns_is_service(const char *hostname)
{
    const char *dot = strchr(hostname, '.');

    if (hostname[0] != '_' || !dot || dot == hostname + 1 || dot[1] != '_')
        return false;
    hostname = dot + 1;
    dot = strchr(hostname, '.');
    return dot && dot > hostname + 1 && dot[1] != '\0';
}

/* -- questions ---------------------------------------------------------------------------------------------- */

static void question_add(struct dns_lookup *lookup, const char *name, enum dns_type type, unsigned candidate, unsigned port,
    const char *hint)
{
    struct dns_question *question = calloc(1, sizeof(*question));

    ASSERT(question != NULL);
    if (lookup->count == lookup->capacity) {
        size_t capacity = size_max(lookup->capacity * 2, 8);
        struct dns_question **more = realloc(lookup->questions, capacity * sizeof(struct dns_question *));

        ASSERT(more != NULL);
        lookup->questions = more;
        lookup->capacity = capacity;
    }
    (void)snprintf(question->name, sizeof(question->name), "%s", name);
    (void)snprintf(question->hint, sizeof(question->hint), "%s", hint);
    question->type = type;
    question->candidate = candidate;
    question->port = port;
    question->found = dns_list_empty();
    lookup->questions[lookup->count++] = question;
}

static void addresses_ask(struct dns_lookup *lookup, const char *name, unsigned candidate, unsigned port, const char *hint)
{
    question_add(lookup, name, DNS_TYPE_A, candidate, port, hint);
    question_add(lookup, name, DNS_TYPE_AAAA, candidate, port, hint);
}

static void candidate_ask(struct dns_lookup *lookup, unsigned candidate)
{
    const char *name = lookup->candidates[candidate];

    if (lookup->service)
        question_add(lookup, name, DNS_TYPE_SRV, candidate, 0, "");
    else
        addresses_ask(lookup, name, candidate, lookup->port, "");
}

static void candidates_ask(struct dns_lookup *lookup)
{
    lookup->phase = DNS_PHASE_SEARCH;
    for (unsigned i = 0; i < lookup->candidate_count; i++) {
        if (i != lookup->known)
            candidate_ask(lookup, i);
    }
}

static void candidate_add(struct dns_lookup *lookup, const char *hostname, const char *domain)
{
    char name[2 * DNS_NAME_SIZE];

    if (lookup->candidate_count == DNS_CANDIDATES_MAX)
        return;
    (void)snprintf(name, sizeof(name), "%.253s%s%.253s", hostname, domain[0] ? "." : "", domain);
    dns_name(name, lookup->candidates[lookup->candidate_count]);
    if (lookup->candidates[lookup->candidate_count][0]) /* one that is too long is no name */
        lookup->candidate_count++;
}

/* Source: resolv.conf(5), search and ndots. */
static void candidates_make(
    struct dns_lookup *lookup, const char *hostname, const char *const *domains, size_t domain_count, int ndots)
{
    size_t len = strlen(hostname);
    int dots = 0;
    bool first;

    for (size_t i = 0; i < len; i++)
        dots += hostname[i] == '.';
    if (len > 0 && hostname[len - 1] == '.')
        domain_count = 0; /* whole as it stands */
    first = dots >= ndots || domain_count == 0;
    if (first)
        candidate_add(lookup, hostname, "");
    for (size_t i = 0; i < domain_count && lookup->candidate_count + 1 < DNS_CANDIDATES_MAX; i++)
        candidate_add(lookup, hostname, domains[i]);
    if (!first)
        candidate_add(lookup, hostname, "");
}

void dns_lookup_init(struct dns_lookup *lookup, const char *hostname, unsigned port, const char *const *domains, size_t domain_count,
    int ndots, const char *known)
{
    *lookup = (struct dns_lookup){.service = dns_is_service(hostname), .port = port, .known = DNS_TARGET};
    candidates_make(lookup, hostname, domains, domain_count, ndots);
    for (unsigned i = 0; i < lookup->candidate_count && known[0]; i++) {
        if (strcmp(lookup->candidates[i], known) == 0)
            lookup->known = i;
    }
    if (lookup->known == DNS_TARGET)
        candidates_ask(lookup);
    else
        candidate_ask(lookup, lookup->known);
}

void dns_lookup_deinit(struct dns_lookup *lookup)
{
    for (size_t i = 0; i < lookup->count; i++) {
        dns_list_deinit(&lookup->questions[i]->found);
        dns_answer_deinit(&lookup->questions[i]->services);
        free(lookup->questions[i]);
    }
    free(lookup->questions);
    *lookup = (struct dns_lookup){0};
}

struct dns_question *dns_lookup_next(struct dns_lookup *lookup)
{
    return lookup->asked < lookup->count ? lookup->questions[lookup->asked++] : NULL;
}

/* -- answers ------------------------------------------------------------------------------------------------ */

static void question_read(struct dns_question *question, struct slice message)
{
    struct dns_answer answer;
    uint32_t ttl_s = DNS_TTL_NONE;
    size_t found = 0;

    if (dns_answer_read(message, &answer)) {
        question->outcome = DNS_FAILED;
        question->reason = "an answer that is no DNS message";
        return;
    }
    if (question->type == DNS_TYPE_SRV) {
        const char *name = dns_answer_alias(&answer, question->name, &ttl_s);

        for (size_t i = 0; i < answer.count; i++)
            found += answer.records[i].type == DNS_TYPE_SRV && !answer.records[i].additional &&
                strcmp(answer.records[i].owner, name) == 0;
        question->services = answer;
    } else {
        found = dns_answer_addresses(&answer, question->name, question->type, false, question->port, question->hint, &question->found);
        dns_answer_deinit(&answer);
    }
    if (found == 0)
        question->outcome = DNS_NO_DATA; /* an alias without an end, or records of other names */
}

void dns_lookup_answer(
    struct dns_lookup *lookup, struct dns_question *question, enum dns_outcome outcome, struct slice message, const char *reason)
{
    (void)lookup;
    ASSERT(question->outcome == DNS_ASKING);
    question->outcome = outcome;
    question->reason = reason;
    if (outcome == DNS_ANSWERED)
        question_read(question, message);
}

static bool outcome_sure(enum dns_outcome outcome)
{
    return outcome == DNS_NO_NAME || outcome == DNS_NO_DATA;
}

/* Every question of the candidate was asked, and answered with no. */
static bool candidate_refuted(const struct dns_lookup *lookup, unsigned candidate)
{
    unsigned asked = 0;

    for (size_t i = 0; i < lookup->count; i++) {
        if (lookup->questions[i]->candidate != candidate)
            continue;
        asked++;
        if (!outcome_sure(lookup->questions[i]->outcome))
            return false;
    }
    return asked > 0;
}

static bool candidate_has(const struct dns_lookup *lookup, unsigned candidate)
{
    for (size_t i = 0; i < lookup->count; i++) {
        const struct dns_question *question = lookup->questions[i];

        if (question->candidate == candidate && (question->outcome == DNS_ANSWERED || question->carried))
            return true;
    }
    return false;
}

/* The first in order that has records; DNS_TARGET: none has. */
static unsigned candidate_chosen(const struct dns_lookup *lookup)
{
    for (unsigned i = 0; i < lookup->candidate_count; i++) {
        if (candidate_has(lookup, i))
            return i;
    }
    return DNS_TARGET;
}

static const struct dns_question *service_question(const struct dns_lookup *lookup)
{
    unsigned chosen = candidate_chosen(lookup);

    for (size_t i = 0; i < lookup->count; i++) {
        if (lookup->questions[i]->type == DNS_TYPE_SRV && lookup->questions[i]->candidate == chosen)
            return lookup->questions[i];
    }
    return NULL;
}

static bool is_target(const char *name, const struct dns_record *record)
{
    return record->type == DNS_TYPE_SRV && !record->additional && record->target[0] && record->port > 0 &&
        strcmp(record->owner, name) == 0;
}

static void hint_of(const struct dns_record *record, char *out, size_t size)
{
    (void)snprintf(out, size, "%s:%u", record->target, record->port);
}

/* A and AAAA of the targets that the answer itself has no address for. */
static void targets_ask(struct dns_lookup *lookup)
{
    const struct dns_question *service = service_question(lookup);
    const struct dns_answer *answer = &service->services;
    uint32_t ttl_s = DNS_TTL_NONE;
    const char *name = dns_answer_alias(answer, service->name, &ttl_s);

    lookup->phase = DNS_PHASE_TARGETS;
    for (size_t i = 0; i < answer->count && lookup->count < DNS_QUESTIONS_MAX; i++) {
        const struct dns_record *record = &answer->records[i];
        struct dns_list list = dns_list_empty();
        size_t found;
        char hint[264];

        if (!is_target(name, record))
            continue;
        found = dns_answer_addresses(answer, record->target, DNS_TYPE_A, true, record->port, "", &list) +
            dns_answer_addresses(answer, record->target, DNS_TYPE_AAAA, true, record->port, "", &list);
        hint_of(record, hint, sizeof(hint));
        if (found == 0)
            addresses_ask(lookup, record->target, DNS_TARGET, record->port, hint);
        dns_list_deinit(&list);
    }
}

bool dns_lookup_more(struct dns_lookup *lookup)
{
    size_t before = lookup->count;

    if (lookup->phase == DNS_PHASE_KNOWN && candidate_refuted(lookup, lookup->known))
        candidates_ask(lookup);
    if (lookup->count == before && lookup->phase < DNS_PHASE_TARGETS && lookup->service && candidate_chosen(lookup) != DNS_TARGET)
        targets_ask(lookup);
    if (lookup->count == before)
        lookup->phase = DNS_PHASE_OVER;
    return lookup->count > before;
}

/* -- the end -------------------------------------------------------------------------------------------------- */

/* Of the last list, what the same question gave: the target's, or the name's, of that family. */
static void carry_question(struct dns_question *question, const struct dns_result *before)
{
    bool v6 = question->type == DNS_TYPE_AAAA;

    if (question->type == DNS_TYPE_SRV || (question->candidate != DNS_TARGET && strcmp(question->name, before->chosen) != 0))
        return;
    for (size_t i = 0; i < before->list.count; i++) {
        const struct resolved_address *item = &before->list.items[i];
        struct dns_list one = {.items = (struct resolved_address *)(uintptr_t)item, .count = 1, .ttl_s = DNS_TTL_NONE};

        if ((item->address[0] == '[') != v6 || strcmp(item->name, question->hint) != 0)
            continue;
        dns_list_append(&question->found, &one);
        question->carried = true;
    }
}

static void carry(struct dns_lookup *lookup, const struct dns_result *before)
{
    for (size_t i = 0; i < lookup->count; i++) {
        struct dns_question *question = lookup->questions[i];

        if (question->outcome == DNS_ASKING) {
            question->outcome = DNS_FAILED;
            question->reason = "no answer in time";
        }
        if (question->outcome == DNS_FAILED && before)
            carry_question(question, before);
    }
}

static void result_fail(struct dns_result *result, const struct dns_question *question, const char *reason)
{
    if (result->failed)
        return; /* the first says enough */
    result->failed = true;
    (void)snprintf(result->reason, sizeof(result->reason), "%s %.200s: %.40s", type_text(question->type), question->name, reason);
}

/* Adds what the questions of a candidate, or of targets, found. */
static void collect(const struct dns_lookup *lookup, unsigned candidate, struct dns_result *result)
{
    for (size_t i = 0; i < lookup->count; i++) {
        const struct dns_question *question = lookup->questions[i];

        if (question->candidate != candidate)
            continue;
        if (question->outcome == DNS_ANSWERED)
            result->confirmed = true;
        if (question->carried)
            result_fail(result, question, question->reason);
        dns_list_append(&result->list, &question->found);
    }
}

static void collect_services(const struct dns_lookup *lookup, struct dns_result *result)
{
    const struct dns_question *service = service_question(lookup);
    const struct dns_answer *answer = &service->services;
    const char *name = dns_answer_alias(answer, service->name, &result->list.ttl_s);

    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_record *record = &answer->records[i];
        char hint[264];

        if (!is_target(name, record))
            continue;
        hint_of(record, hint, sizeof(hint));
        (void)dns_answer_addresses(answer, record->target, DNS_TYPE_A, true, record->port, hint, &result->list);
        (void)dns_answer_addresses(answer, record->target, DNS_TYPE_AAAA, true, record->port, hint, &result->list);
        result->list.ttl_s = record->ttl_s < result->list.ttl_s ? record->ttl_s : result->list.ttl_s;
    }
    collect(lookup, DNS_TARGET, result);
    result->confirmed = service->outcome == DNS_ANSWERED;
}

/* Why there is nothing: a failure before a no, as it may hide a yes. */
static void explain_nothing(const struct dns_lookup *lookup, struct dns_result *result)
{
    for (size_t i = 0; i < lookup->count; i++) {
        if (lookup->questions[i]->outcome == DNS_FAILED)
            result_fail(result, lookup->questions[i], lookup->questions[i]->reason);
    }
    for (size_t i = 0; i < lookup->count; i++) {
        const struct dns_question *question = lookup->questions[i];

        if (question->outcome == DNS_ANSWERED && question->type == DNS_TYPE_SRV)
            result_fail(result, question, "its targets have no address");
        else if (question->outcome == DNS_NO_DATA)
            result_fail(result, question, "no such record");
    }
    if (!result->failed && lookup->count > 0)
        result_fail(result, lookup->questions[0], "no such name");
}

/* The candidate may be asked alone from now on: it answered, and no other stands before it. */
static bool candidate_sure(const struct dns_lookup *lookup, unsigned chosen)
{
    for (unsigned i = 0; i < chosen; i++) {
        if (!candidate_refuted(lookup, i))
            return chosen == lookup->known;
    }
    return true;
}

void dns_lookup_finish(struct dns_lookup *lookup, const struct dns_result *before, struct dns_result *out_result)
{
    struct dns_result result = {.list = dns_list_empty()};
    unsigned chosen;

    carry(lookup, before);
    chosen = candidate_chosen(lookup);
    if (chosen != DNS_TARGET) {
        if (lookup->service)
            collect_services(lookup, &result);
        else
            collect(lookup, chosen, &result);
        (void)snprintf(result.chosen, sizeof(result.chosen), "%s", lookup->candidates[chosen]);
        result.sure = candidate_sure(lookup, chosen);
    }
    dns_list_settle(&result.list);
    if (result.list.count == 0) {
        result.confirmed = planted(PLANT_EMPTY_ANSWER_ACCEPTED);
        explain_nothing(lookup, &result);
    }
    *out_result = result;
}
