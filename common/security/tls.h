/* TLS for everything that speaks it: gRPC and HTTP, as server and as client, from one set of the Collector's keys.
 *
 * Files   certificate, key and authorities are read again when they change on disk, whatever reload_interval says: replaced by
 *         rename, written in place, or by a Kubernetes secret's swap of `..data`. A set that does not fit together, or does not
 *         parse, leaves the old one in force. New connections take the new files; a client of gRPC makes a new channel when
 *         tls_generation() has risen (its credentials hold what was in force when they were made).
 * Life    a struct tls is made at start, shared by all threads, freed after its last connection. security.h keeps and tends them.
 * gRPC    its library speaks TLS 1.2 and 1.3, and has one list of cipher suites a process. What it cannot do is refused by name.
 * Source  collector configtls; RFC 8996 for why 1.0 and 1.1 are refused
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/security/reload.h"

struct tls_options {
    /* file or PEM text, not both; NULL: not given */
    const char *ca_file, *ca_pem, *cert_file, *cert_pem, *key_file, *key_pem;
    bool include_system_ca_certs_pool;
    const char *min_version, *max_version; /* "1.2" or "1.3"; NULL: 1.2 and the best there is */
    const char *const *cipher_suites;      /* names as in the Collector (TLS_ECDHE_…), of TLS 1.2; NULL: library's */
    size_t cipher_suite_count;
    const char *const *curve_preferences;  /* X25519, P256, P384, P521 */
    size_t curve_preference_count;
    int64_t reload_interval_ns;            /* not needed: files are watched all the same */
    bool grpc;                             /* for gRPC's library, not for HTTP: has fewer possibilities */
    /* servers */
    const char *client_ca_file;            /* clients must show a certificate of this authority */
    bool client_ca_file_reload;            /* watched all the same */
    /* clients */
    bool insecure;                         /* plain text: no struct tls is made */
    bool insecure_skip_verify;
    const char *server_name_override;
};

struct tls;
/* What can be judged without reading a file: 0, or 1 with the key's name and the reason in out_error. */
int tls_options_check(const struct tls_options *options, bool server, char *out_error, size_t error_size);
/* Checks the options, copies them and reads the files at once: a missing or wrong one is an error here, with key, file and reason
 * in out_error. 0 or 1. Before gRPC's first connection. */
int tls_server_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size);
int tls_client_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size);
void tls_free(struct tls *tls); /* accepts NULL */

/* grpc_server_credentials * and grpc_channel_credentials *, for receiver_grpc.c and link_grpc.c; the caller releases them. A
 * server's follow the files by themselves. */
void *tls_grpc_server_credentials(struct tls *tls);
void *tls_grpc_channel_credentials(struct tls *tls);
/* Rises when new files came into force; any thread. Read it before tls_grpc_channel_credentials: a channel made before it rose
 * connects with the old files. */
unsigned tls_generation(const struct tls *tls);
/* Before grpc_init: what its library says of a handshake that failed goes to our log, at most once a period. */
void tls_grpc_log_setup(void);
/* NULL, or the value of channel argument grpc.ssl_target_name_override (GRPC_SSL_TARGET_NAME_OVERRIDE_ARG), which link_grpc.c sets:
 * the name to ask for and to find in the server's certificate. Lives as long as tls. */
const char *tls_grpc_target_name(const struct tls *tls);
/* SSL_CTX * of the newest good files with a reference of the caller's (SSL_CTX_free); any thread. For receiver_http.c: one call a
 * connection. */
void *tls_ssl_ctx(struct tls *tls);
/* Sets all that concerns TLS on a CURL * handle, for link_http.c. Each connection it opens takes the newest files; tls must outlive
 * the handle. */
void tls_curl_setup(struct tls *tls, void *curl);
/* What to do about a connection that failed for this reason, in OpenSSL's, gRPC's or curl's words. */
const char *tls_remedy(const char *reason);
/* Looks at the files now. The control thread calls it through security.h. RELOAD_FAILED comes once a change, with the reason. */
enum reload_outcome tls_reload(struct tls *tls, char *out_error, size_t error_size);
