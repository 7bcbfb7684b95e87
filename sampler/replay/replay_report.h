/* What a replay prints: a line a trace, totals, or what two policy sets decide differently; as text or as JSON, a row a line.
 *
 * Text    name=value, blanks between; a value with blanks, quotes or control characters is quoted as in JSON; "-" is none
 * JSON    one object a line; the keys are the text's names
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "sampler/replay/replay_traces.h"

struct replay_report {
    FILE *out;
    bool json;
    const struct replay_traces *traces;
    const struct policy_set *sets[REPLAY_SIDES];
    const struct policy_votes *votes[REPLAY_SIDES]; /* a row a policy */
};

void replay_report_traces(const struct replay_report *report);
void replay_report_summary(const struct replay_report *report);
/* with_traces: a line for each that changed, before the totals. */
void replay_report_diff(const struct replay_report *report, bool with_traces);
