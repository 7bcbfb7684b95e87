/* One good reading of what TLS needs: certificate, key and authorities that fit together. Immutable once read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/security/tls.h"
#include "common/security/tls_names.h"

struct ssl_ctx_st;
struct tls_material;

/* 0, or 1 with key, file and reason in out_error. */
int tls_material_read(const struct tls_options *options, bool server, struct tls_material **out_material, char *out_error,
    size_t error_size);
void tls_material_free(struct tls_material *material); /* accepts NULL */
/* A number that changes when one of the files does. */
uint64_t tls_material_mark(const struct tls_options *options);

/* Puts versions, suites, certificate and authorities into a context of OpenSSL's. 0, or 1 with the reason. */
int tls_material_apply(const struct tls_material *material, const struct tls_options *options, const struct tls_names *names,
    bool server, struct ssl_ctx_st *ctx, char *out_error, size_t error_size);

/* As PEM text; NULL: none. roots: of clients the authorities of servers, of servers those of clients. */
const char *tls_material_cert(const struct tls_material *material);
const char *tls_material_key(const struct tls_material *material);
const char *tls_material_roots(const struct tls_material *material);
