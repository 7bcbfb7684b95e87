/* Ten simple policies as pasted configurations have them: keys that spans of otlp_realistic carry, keys that few do, two
 * policies on one key. What facts cost is measured and held with these.
 */
#pragma once

#define TEN_POLICIES                                                                                                              \
    "policies:\n"                                                                                                                 \
    "  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n"                                               \
    "  - {name: slow, type: latency, latency: {threshold_ms: 5000}}\n"                                                            \
    "  - {name: share, type: probabilistic, probabilistic: {sampling_percentage: 1}}\n"                                           \
    "  - {name: writes, type: string_attribute, string_attribute: {key: http.request.method, values: [PUT, DELETE]}}\n"           \
    "  - {name: patches, type: string_attribute, string_attribute: {key: http.request.method, values: [PATCH]}}\n"                \
    "  - {name: tenants, type: string_attribute, string_attribute: {key: tenant.id, values: [gold, silver, bronze]}}\n"           \
    "  - {name: routes, type: string_attribute, string_attribute: {key: http.route, values: [/pay, /pay/confirm]}}\n"             \
    "  - {name: debug, type: string_attribute, string_attribute: {key: debug, values: [\"1\", \"true\"]}}\n"                      \
    "  - {name: services, type: string_attribute, string_attribute: {key: service.name, values: [payment, fraud]}}\n"             \
    "  - {name: hosts, type: string_attribute, string_attribute: {key: server.address, values: [pay.internal]}}\n"
