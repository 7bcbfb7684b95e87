/* The Collector's names for versions, cipher suites and curves, as OpenSSL wants them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/security/tls.h"

#define TLS_LIST_MAX 1024 /* bytes of a list of names for OpenSSL */

struct tls_names {
    int min_version, max_version;  /* TLS1_2_VERSION …; max 0: the best there is */
    char ciphers[TLS_LIST_MAX];    /* of TLS 1.2; "": the library's */
    char groups[TLS_LIST_MAX];     /* "": the library's */
};
/* 0, or 1 with key and reason in out_error. */
int tls_names_read(const struct tls_options *options, struct tls_names *out_names, char *out_error, size_t error_size);
