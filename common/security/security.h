/* All that a tier has in TLS and credentials: made at start, looked after about once a second, freed at the end.
 *
 * Owner   the control thread; what it hands out is any thread's. Freed after receivers and links.
 * Logs    here is the boundary of a reload: tls_reloaded, tls_reload_failed, auth_reloaded, auth_reload_failed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/security/auth.h"
#include "common/security/tls.h"

struct security;
/* NULL: no memory. */
struct security *security_new(void);
void security_free(struct security *security); /* accepts NULL */
/* name: key path of the section, such as receivers.otlp.protocols.grpc.tls; begins out_error and stands in log lines. Copied. The new
 * one belongs to security. 0 or 1. */
int security_tls(struct security *security, const char *name, const struct tls_options *options, bool server, struct tls **out_tls,
    char *out_error, size_t error_size);
int security_auth(struct security *security, const char *name, const struct auth_options *options, bool server,
    struct auth **out_auth, char *out_error, size_t error_size);
/* Nobody begins to use them any more (live reload): not looked after from now on, and freed with the others at the end. Accept NULL. */
void security_retire_tls(struct security *security, const struct tls *tls);
void security_retire_auth(struct security *security, const struct auth *auth);
/* From the tier's timer, as often as it likes: looks at the files once a second. */
void security_tend(struct security *security, uint64_t now_ns);
