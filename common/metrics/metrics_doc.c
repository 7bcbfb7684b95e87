/* Writes docs/metrics.md from metrics.def, or checks that the file is what would be written.
 *
 *   metrics-doc --write FILE      metrics-doc --check FILE
 */
#include <string.h>

#include "common/metrics/metrics.h"
#include "tests/kit/doc_page.h"

static const char intro[] =
    "# Metrics\n"
    "\n"
    "What `GET /metrics` on the admin endpoint shows, in Prometheus' text format. Where the "
    "OpenTelemetry\n"
    "Collector has a metric for the thing, its name and labels are used, so that existing "
    "dashboards work;\n"
    "ours start with `tailrace_`.\n"
    "\n"
    "This page is made from `common/metrics/metrics.def`: change that file, then run\n"
    "`meson compile -C build metrics-doc`.\n"
    "\n"
    "**The books.** A sampler accounts for every span it took in. At any quiet moment\n"
    "\n"
    "    received + recovered + taken_over = exported + dropped + duplicate + handed_over + held\n"
    "\n"
    "where each word is the metric `tailrace_spans_<word>_total` (`dropped` summed over its "
    "reasons, `held`\n"
    "the gauge `tailrace_spans_held`). A difference is a defect.\n";

/* Rows of the metrics whose tiers are exactly these, one a name. */
static void write_table(struct text *out, const char *title, unsigned tiers)
{
    text_append(out, "\n## %s\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n", title);
    for (size_t id = 0; id < METRIC_COUNT;) {
        const struct metric_info *first = &metric_infos[id];
        size_t end = id;
        unsigned family_tiers = 0;

        /* A name shown by both programs is one row, even if some of its cells are one program's. */
        while (end < METRIC_COUNT && strcmp(metric_infos[end].name, first->name) == 0)
            family_tiers |= metric_infos[end++].tiers;
        if (family_tiers == METRICS_SAMPLER_NAMED)
            family_tiers = METRICS_SAMPLER;
        if (family_tiers == METRICS_LB_NAMED)
            family_tiers = METRICS_LB;
        if (family_tiers == tiers) {
            text_append(out, "| `%s` | %s | ", first->name,
                metric_kind_text(first->kind));
            for (size_t i = id; i < end; i++)
                if (metric_infos[i].labels[0])
                    text_append(out, "%s`%s`", i > id ? "<br>" : "", metric_infos[i].labels);
            text_append(out, " | %s |\n", first->help);
        }
        id = end;
    }
}

int main(int argc, char **argv)
{
    struct text page = {0};

    text_append(&page, "%s", intro);
    write_table(&page, "Both programs", METRICS_LB | METRICS_SAMPLER);
    write_table(&page, "tailrace-lb", METRICS_LB);
    write_table(&page, "tailrace-sampler", METRICS_SAMPLER);
    return doc_page_main(argc, argv, &page, "common/metrics/metrics.def", "metrics-doc");
}
