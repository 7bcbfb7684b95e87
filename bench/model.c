#include "bench/model.h"

#include "common/base/num.h"

struct model_trace model_trace(const struct model *model, uint64_t number)
{
    struct model_trace trace;
    uint64_t high = model_mix(model->seed * 0x9e3779b97f4a7c15ull + number + 1);
    uint64_t low = model_mix(high ^ (number + 0x632be59bd9b4e019ull));
    uint64_t fate = model_mix(low + 0x9e3779b97f4a7c15ull), more = model_mix(fate);
    double draw = (double)(fate >> 32) / 4294967296.0 * 100, draw_slow = (double)(uint32_t)fate / 4294967296.0 * 100;
    uint64_t slow_ns = model->slow_ms * NS_PER_MS;

    if (low == 0)
        low = 1; /* an all-zero ID is not a trace ID */
    memcpy(trace.id.bytes, &high, 8);
    memcpy(trace.id.bytes + 8, &low, 8);
    trace.span_prefix = model_span_prefix(&trace.id);
    trace.start_unix_ns = model->base_unix_ns + number * model->step_ns;
    /* Well away from the threshold on both sides: a judge need not know how it is rounded. */
    if (draw_slow < model->slow_percent)
        trace.duration_ns = slow_ns + slow_ns / 2 + more % (slow_ns + 1);
    else
        trace.duration_ns = slow_ns / 200 + more % (slow_ns / 2 + 1);
    trace.error_span = draw < model->error_percent ? (uint32_t)((more >> 40) % model->spans_per_trace) : UINT32_MAX;
    trace.tenant = (uint32_t)(more >> 20) % MODEL_TENANTS;
    return trace;
}

uint32_t model_span_parent(const struct model *model, uint32_t index)
{
    uint32_t service = model_span_service(model, index);
    uint32_t entry = model_service_first(model, service);

    if (index == 0)
        return UINT32_MAX;
    /* An entry was called by the service before it: by its last span, or by its only one. */
    return index == entry ? entry - 1 : entry;
}
