/* Fifty policies of many types, some inside others, over ten keys, of which spans of otlp_realistic carry half: what facts and
 * decisions cost with many policies is measured with these.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

static const char *const fifty_policies[] = {
    "  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n",
    "  - {name: state, type: trace_state, trace_state: {key: vendor, values: [keep]}}\n",
    "  - {name: flagged, type: and, and: {and_sub_policy: [{name: f, type: trace_flags}, {name: r, type: numeric_attribute, numeric_attribute: {key: retry, min_value: 3}}]}}\n",
    "  - {name: p0, type: string_attribute, string_attribute: {key: http.request.method, values: [v0, w0]}}\n",
    "  - {name: p1, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 501, max_value: 601}}\n",
    "  - {name: p2, type: boolean_attribute, boolean_attribute: {key: service.name, value: true}}\n",
    "  - {name: p3, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: server.address, values: [x3]}}, {name: b, type: latency, latency: {threshold_ms: 300}}]}}\n",
    "  - {name: p4, type: span_count, span_count: {min_spans: 1004}}\n",
    "  - {name: p5, type: probabilistic, probabilistic: {sampling_percentage: 0.5}}\n",
    "  - {name: p6, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: debug, values: [y6, z6, PATCH]}}]}}\n",
    "  - {name: p7, type: latency, latency: {threshold_ms: 5007}}\n",
    "  - {name: p8, type: string_attribute, string_attribute: {key: retry, values: [v8, w8]}}\n",
    "  - {name: p9, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 509, max_value: 609}}\n",
    "  - {name: p10, type: boolean_attribute, boolean_attribute: {key: http.request.method, value: true}}\n",
    "  - {name: p11, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: http.route, values: [x11]}}, {name: b, type: latency, latency: {threshold_ms: 1100}}]}}\n",
    "  - {name: p12, type: span_count, span_count: {min_spans: 1012}}\n",
    "  - {name: p13, type: probabilistic, probabilistic: {sampling_percentage: 0.13}}\n",
    "  - {name: p14, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: tenant.id, values: [y14, z14, PATCH]}}]}}\n",
    "  - {name: p15, type: latency, latency: {threshold_ms: 5015}}\n",
    "  - {name: p16, type: string_attribute, string_attribute: {key: debug, values: [v16, w16]}}\n",
    "  - {name: p17, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 517, max_value: 617}}\n",
    "  - {name: p18, type: boolean_attribute, boolean_attribute: {key: retry, value: true}}\n",
    "  - {name: p19, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: db.system, values: [x19]}}, {name: b, type: latency, latency: {threshold_ms: 1900}}]}}\n",
    "  - {name: p20, type: span_count, span_count: {min_spans: 1020}}\n",
    "  - {name: p21, type: probabilistic, probabilistic: {sampling_percentage: 0.21}}\n",
    "  - {name: p22, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: service.name, values: [y22, z22, PATCH]}}]}}\n",
    "  - {name: p23, type: latency, latency: {threshold_ms: 5023}}\n",
    "  - {name: p24, type: string_attribute, string_attribute: {key: tenant.id, values: [v24, w24]}}\n",
    "  - {name: p25, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 525, max_value: 625}}\n",
    "  - {name: p26, type: boolean_attribute, boolean_attribute: {key: debug, value: true}}\n",
    "  - {name: p27, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: http.response.status_code, values: [x27]}}, {name: b, type: latency, latency: {threshold_ms: 2700}}]}}\n",
    "  - {name: p28, type: span_count, span_count: {min_spans: 1028}}\n",
    "  - {name: p29, type: probabilistic, probabilistic: {sampling_percentage: 0.29}}\n",
    "  - {name: p30, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: http.request.method, values: [y30, z30, PATCH]}}]}}\n",
    "  - {name: p31, type: latency, latency: {threshold_ms: 5031}}\n",
    "  - {name: p32, type: string_attribute, string_attribute: {key: service.name, values: [v32, w32]}}\n",
    "  - {name: p33, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 533, max_value: 633}}\n",
    "  - {name: p34, type: boolean_attribute, boolean_attribute: {key: tenant.id, value: true}}\n",
    "  - {name: p35, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: url.path, values: [x35]}}, {name: b, type: latency, latency: {threshold_ms: 3500}}]}}\n",
    "  - {name: p36, type: span_count, span_count: {min_spans: 1036}}\n",
    "  - {name: p37, type: probabilistic, probabilistic: {sampling_percentage: 0.37}}\n",
    "  - {name: p38, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: retry, values: [y38, z38, PATCH]}}]}}\n",
    "  - {name: p39, type: latency, latency: {threshold_ms: 5039}}\n",
    "  - {name: p40, type: string_attribute, string_attribute: {key: http.request.method, values: [v40, w40]}}\n",
    "  - {name: p41, type: numeric_attribute, numeric_attribute: {key: http.response.status_code, min_value: 541, max_value: 641}}\n",
    "  - {name: p42, type: boolean_attribute, boolean_attribute: {key: service.name, value: true}}\n",
    "  - {name: p43, type: and, and: {and_sub_policy: [{name: a, type: string_attribute, string_attribute: {key: server.address, values: [x43]}}, {name: b, type: latency, latency: {threshold_ms: 4300}}]}}\n",
    "  - {name: p44, type: span_count, span_count: {min_spans: 1044}}\n",
    "  - {name: p45, type: probabilistic, probabilistic: {sampling_percentage: 0.45}}\n",
    "  - {name: p46, type: and, and: {and_sub_policy: [{name: a, type: not, not: {not_sub_policy: {name: c, type: status_code, status_code: {status_codes: [OK]}}}}, {name: b, type: string_attribute, string_attribute: {key: debug, values: [y46, z46, PATCH]}}]}}\n",
};

/* All of them as the text of a configuration. */
static inline void fifty_policies_text(char *out, size_t size)
{
    size_t len = (size_t)snprintf(out, size, "policies:\n");

    for (size_t i = 0; i < sizeof(fifty_policies) / sizeof(fifty_policies[0]) && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s", fifty_policies[i]);
}
