/* Folding is all OR, min, max and sum, so the order of spans does not matter. Three things remember an order: evidence says
 * which span answered a question first, for people to read, and no policy votes on it; an ordered question keeps the
 * first outcome there was, because an error after it changes nothing and an error before it does; and of several
 * randomness values in one trace, which is against the specification, the first counts. */
#include "sampler/decide/facts.h"

#include "common/base/cleanup.h"
#include "common/base/num.h"

/* A bit that the header set as well is the header's: it holds for the span's whole batch. */
static void facts_note(
    struct facts *facts, uint32_t word, uint64_t fresh, uint64_t header_word, uint64_t span_id)
{
    while (fresh && facts->evidence_count < EVIDENCE_MAX) {
        uint32_t bit = (uint32_t)__builtin_ctzll(fresh);
        struct evidence *evidence = &facts->evidence[facts->evidence_count++];

        evidence->bit = (uint16_t)(word * 64 + bit);
        evidence->span_id = (header_word >> bit) & 1 ? 0 : span_id;
        fresh &= fresh - 1;
    }
}

void facts_fold(struct facts *facts, const struct span_facts *span, const struct hits *header_hits,
    uint32_t span_bytes)
{
    for (uint32_t word = 0; word < HIT_WORDS; word++) {
        uint64_t fresh =
            (span->hits.words[word] | header_hits->words[word]) & ~facts->hits.words[word];

        if (UNLIKELY(fresh)) {
            facts->hits.words[word] |= fresh;
            facts_note(facts, word, fresh, header_hits->words[word], span->span_id);
        }
    }
    if (UNLIKELY(span->first_true | span->first_error)) {
        uint32_t open = ~(facts->first_true | facts->first_error);

        facts->first_true |= span->first_true & open;
        facts->first_error |= span->first_error & open;
    }
    if (UNLIKELY(span->ot.has_info) && !facts->ot.has_randomness) {
        facts->ot = span->ot;
    }
    if (span->start_unix_ns > 0 &&
        (facts->min_start_unix_ns == 0 || span->start_unix_ns < facts->min_start_unix_ns))
        facts->min_start_unix_ns = span->start_unix_ns;
    facts->max_end_unix_ns = u64_max(facts->max_end_unix_ns, span->end_unix_ns);
    facts->bytes += span_bytes;
    facts->spans_count++;
    facts->root_seen |= span->is_root;
}
