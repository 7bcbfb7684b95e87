/* TLS for everything that speaks it: gRPC and HTTP, as server and as client, from one set of the Collector's keys.
 *
 * Files   certificate, key and authorities are read again when they change on disk (looked at every reload_interval, at
 *         least once a minute: replaced by rename or by a Kubernetes secret's swap of `..data`); a set that does not fit
 *         together, or does not parse, is logged once and the old one stays in force. New connections take the new files.
 * Life    a struct tls is made at start, shared by all threads, freed after its last connection.
 * Source  reference/load-balancing section 3.3, collector configtls
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_options {
    /* file or PEM text, not both; NULL: not given */
    const char *ca_file, *ca_pem, *cert_file, *cert_pem, *key_file, *key_pem;
    bool include_system_ca_certs_pool;
    const char *min_version, *max_version; /* "1.0" … "1.3"; NULL: 1.2 and the best there is */
    const char *const *cipher_suites;      /* names as in the Collector (TLS_ECDHE_…), of TLS 1.2 and before; NULL: library's */
    size_t cipher_suite_count;
    const char *const *curve_preferences;  /* X25519, P256, P384, P521 */
    size_t curve_preference_count;
    int64_t reload_interval_ns;            /* 0: not asked for; files are watched all the same */
    /* servers */
    const char *client_ca_file;            /* clients must show a certificate of this authority */
    bool client_ca_file_reload;
    /* clients */
    bool insecure;                         /* plain text */
    bool insecure_skip_verify;
    const char *server_name_override;
};

struct tls;
/* Reads the files at once: a missing or wrong one is an error here, with file and reason in out_error. 0 or 1. */
int tls_server_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size);
int tls_client_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size);
void tls_free(struct tls *tls); /* accepts NULL */

/* grpc_server_credentials * and grpc_channel_credentials *, for receiver_grpc.c and link_grpc.c; the caller releases them. */
void *tls_grpc_server_credentials(struct tls *tls);
void *tls_grpc_channel_credentials(struct tls *tls);
/* SSL_CTX * of the newest good files with a reference of the caller's (SSL_CTX_free); any thread. For receiver_http.c: one call a
 * connection. */
void *tls_ssl_ctx(struct tls *tls);
/* Sets all that concerns TLS on a CURL * handle, for link_http.c. */
void tls_curl_setup(struct tls *tls, void *curl);
/* Looks at the files now; true: new ones are in force. The control thread calls it once a second or so. */
bool tls_reload(struct tls *tls);
