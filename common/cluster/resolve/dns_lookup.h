/* One look-up of a name, without its I/O: which questions to ask, what to make of their answers, and what of an earlier
 * look-up stands in for those that failed.
 *
 * Questions  A and AAAA of the name, or SRV of a name that begins with `_service._proto.`, and then A and AAAA of each target
 *            that the answer's additional section has no address for.
 * Search     a name with fewer than ndots dots is looked up in each search domain first, as resolv.conf says. All these
 *            candidates are asked at once, and the first in order that has records is taken. Once those before it have
 *            said no for sure, it is the one that is asked from then on, until it is gone: no failing server
 *            makes a name change its meaning.
 * Failures   a question without an answer (SERVFAIL, time out, garbage) keeps the addresses that the same question gave
 *            last; NXDOMAIN and no data are answers.
 * SRV        every target counts, whatever its priority and weight (note 0013). The stable name of its addresses is target:port.
 */
#pragma once

#include "common/cluster/resolve/dns_answer.h"

enum dns_outcome {
    DNS_ASKING,      /* no answer yet; when the look-up is over: it came too late */
    DNS_ANSWERED,    /* there are records */
    DNS_NO_NAME,     /* NXDOMAIN */
    DNS_NO_DATA,     /* the name has no such records */
    DNS_FAILED,
};

struct dns_question {
    char name[DNS_NAME_SIZE];
    enum dns_type type;
    unsigned candidate;         /* place in the search order; of a target: DNS_TARGET */
    unsigned port;
    char hint[264];
    enum dns_outcome outcome;
    const char *reason;         /* DNS_FAILED: why; a literal, or c-ares' own */
    bool carried;               /* `found` is of an earlier look-up */
    struct dns_list found;      /* A and AAAA */
    struct dns_answer services; /* SRV: the whole answer */
};
#define DNS_TARGET UINT32_MAX
#define DNS_CANDIDATES_MAX 8u   /* resolv.conf has six domains at most; and the name itself */
#define DNS_QUESTIONS_MAX 8192u /* two a target; c-ares sees no reason to stop earlier */

struct dns_lookup {
    char candidates[DNS_CANDIDATES_MAX][DNS_NAME_SIZE];
    unsigned candidate_count;
    bool service;               /* the name is an SRV name */
    unsigned port;              /* of A and AAAA */
    struct dns_question **questions;
    size_t count, capacity, asked;
    enum { DNS_PHASE_KNOWN, DNS_PHASE_SEARCH, DNS_PHASE_TARGETS, DNS_PHASE_OVER } phase;
    unsigned known;             /* candidate that is asked first and alone; DNS_TARGET: all at once */
};

/* hostname: checked. known: the candidate that was chosen for sure last time, "" for none. */
void dns_lookup_init(struct dns_lookup *lookup, const char *hostname, unsigned port, const char *const *domains, size_t domain_count,
    int ndots, const char *known);
void dns_lookup_deinit(struct dns_lookup *lookup);
/* The next question to ask; NULL: none now. It stays where it is until deinit. */
struct dns_question *dns_lookup_next(struct dns_lookup *lookup);
/* How a question ended. message: of DNS_ANSWERED. */
void dns_lookup_answer(
    struct dns_lookup *lookup, struct dns_question *question, enum dns_outcome outcome, struct slice message, const char *reason);
/* All that were asked have ended: makes up what is to ask next. False: the look-up is over. */
bool dns_lookup_more(struct dns_lookup *lookup);

struct dns_result {
    struct dns_list list;       /* settled; empty: nothing to report */
    bool confirmed;             /* at least a part of the list is from now */
    bool failed;                /* in whole or in part */
    char reason[256];           /* failed: why */
    char chosen[DNS_NAME_SIZE]; /* the candidate that the list is of; "": none */
    bool sure;                  /* no name before it can be meant: the next look-up asks it alone */
};
/* The end, also when time is up before all is answered. before: whose list is in force, NULL for none; its addresses are taken
 * over where a question failed. */
void dns_lookup_finish(struct dns_lookup *lookup, const struct dns_result *before, struct dns_result *out_result);

/* Whether it begins with _service._proto. */
bool dns_is_service(const char *hostname);
