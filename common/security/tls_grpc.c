/* Credentials for gRPC C-core, which does TLS by itself and takes PEM text from us: only text that was judged as a whole before.
 * (Its own file watcher would take a certificate without its key, and drop what it had.)
 *
 * Server  the library asks at each handshake whether there is something new: fetch() answers from memory.
 * Client  credentials hold what is in force now. A channel cannot change them: links make a new channel when tls_generation rises.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <openssl/ssl.h>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/run/clock.h"
#include "common/security/tls_grpc_version.h"
#include "common/security/tls_inside.h"

struct grpc_fetch { /* of one server's credentials: what was given last */
    struct tls *tls;
    unsigned given_generation; /* the library calls under a lock of its own */
};

/* The library has one list a process and takes it from the environment, when it makes its first connection. */
int tls_grpc_ciphers(const char *ciphers, char *out_error, size_t error_size)
{
    static char in_force[TLS_LIST_MAX];
    size_t len;

    if (in_force[0] && strcmp(in_force, ciphers) != 0) {
        (void)snprintf(out_error, error_size,
            "cipher_suites: gRPC's library has one list for all receivers and exporters of a process, and another section names "
            "a different one; make them equal");
        return 1;
    }
    len = strnlen(ciphers, sizeof(in_force) - 1);
    memcpy(in_force, ciphers, len);
    in_force[len] = '\0';
    if (setenv("GRPC_SSL_CIPHER_SUITES", ciphers, 1) == 0)
        return 0;
    (void)snprintf(out_error, error_size, "cipher_suites: out of memory");
    return 1;
}

/* The library tells of a handshake that a server refused in its own log only. Any thread of its own; we take that line alone. */
static void on_library_log(gpr_log_func_args *args)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct log_limit limit;
    const char *failed = strstr(args->message, "Handshake failed");
    uint64_t suppressed;
    bool now;

    if (!failed)
        return;
    pthread_mutex_lock(&lock);
    now = log_limit_pass(&limit, clock_now_ns(), &suppressed);
    pthread_mutex_unlock(&lock);
    if (now)
        log_event(LOG_WARN, "tls_handshake_failed", "transport=grpc reason=\"%s\" remedy=\"%s\" suppressed=%llu", failed,
            tls_remedy(failed), (unsigned long long)suppressed);
}

void tls_grpc_log_setup(void)
{
    const char *verbosity = getenv("GRPC_VERBOSITY");

    if (verbosity && strcasecmp(verbosity, "NONE") != 0) /* somebody debugs the library and wants all it says, as it is */
        return;
    (void)setenv("GRPC_VERBOSITY", "ERROR", 1);
    gpr_set_log_function(on_library_log);
}

static grpc_tls_version version_of(int openssl_version, grpc_tls_version when_unset)
{
    if (openssl_version == 0)
        return when_unset;
    return openssl_version == TLS1_3_VERSION ? TLS1_3 : TLS1_2;
}

/* -- server ----------------------------------------------------------------------------------------------- */

/* Versions that a server must not speak, for the next context that this thread makes: the library makes it right after fetch_config,
 * on the same thread, and offers no other way to tell it where certificates are fetched. */
static _Thread_local uint64_t next_context_options;

/* OpenSSL calls this for each new SSL_CTX of the process. */
static void on_new_context(void *parent, void *data, CRYPTO_EX_DATA *ex_data, int index, long number, void *pointer)
{
    (void)data;
    (void)ex_data;
    (void)index;
    (void)number;
    (void)pointer;
    if (next_context_options)
        (void)SSL_CTX_set_options(parent, next_context_options);
    next_context_options = 0;
}

static void register_on_new_context(void)
{
    (void)SSL_CTX_get_ex_new_index(0, NULL, on_new_context, NULL, NULL);
}

static uint64_t forbidden_versions(const struct tls_names *names)
{
    return (names->min_version == TLS1_3_VERSION ? SSL_OP_NO_TLSv1_2 : 0) |
           (names->max_version == TLS1_2_VERSION ? SSL_OP_NO_TLSv1_3 : 0);
}

static grpc_ssl_certificate_config_reload_status fetch_config(void *context, grpc_ssl_server_certificate_config **out_config)
{
    struct grpc_fetch *fetch = context;
    struct tls_set *set;
    grpc_ssl_pem_key_cert_pair pair;
    const char *roots;

    if (fetch->given_generation == tls_generation(fetch->tls))
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    set = tls_set_ref(fetch->tls);
    pair = (grpc_ssl_pem_key_cert_pair){tls_material_key(set->material), tls_material_cert(set->material)};
    roots = tls_material_roots(set->material);
    if (!roots)
        roots = pair.cert_chain; /* the library wants some even where it asks no client for a certificate */
    *out_config = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
    fetch->given_generation = set->generation;
    next_context_options = forbidden_versions(&fetch->tls->names);
    tls_set_unref(set);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

/* The library frees credentials when its last connection is gone, which may be after we are. */
static void fetch_free(void *state)
{
    struct grpc_fetch *fetch = state;

    tls_free(fetch->tls);
    free(fetch);
}

void *tls_grpc_server_credentials(struct tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct grpc_fetch *fetch = calloc(1, sizeof(*fetch));
    grpc_ssl_server_credentials_options *options;
    grpc_server_credentials *credentials;

    ASSERT(fetch != NULL); /* at start */
    ASSERT(tls->server);
    (void)pthread_once(&once, register_on_new_context);
    fetch->tls = tls_ref(tls);
    options = grpc_ssl_server_credentials_create_options_using_config_fetcher(tls->options.client_ca_file
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        fetch_config, fetch);
    credentials = grpc_ssl_server_credentials_create_with_options(options);
    ASSERT(credentials != NULL);
    /* A processor that processes nothing: the one thing of ours that the library frees together with credentials. */
    grpc_server_credentials_set_auth_metadata_processor(
        credentials, (grpc_auth_metadata_processor){.process = NULL, .destroy = fetch_free, .state = fetch});
    return credentials;
}

/* -- client ----------------------------------------------------------------------------------------------- */

/* Without verification: only the newer kind of credentials can do that. */
static grpc_channel_credentials *unverified_credentials(const struct tls_material *material)
{
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();
    grpc_tls_certificate_verifier *verifier = grpc_tls_certificate_verifier_no_op_create();
    grpc_tls_certificate_provider *provider = NULL;

    grpc_tls_credentials_options_set_verify_server_cert(options, 0);
    grpc_tls_credentials_options_set_check_call_host(options, 0);
    grpc_tls_credentials_options_set_certificate_verifier(options, verifier);
    grpc_tls_certificate_verifier_release(verifier);
    if (tls_material_cert(material)) {
        grpc_tls_identity_pairs *pairs = grpc_tls_identity_pairs_create();

        grpc_tls_identity_pairs_add_pair(pairs, tls_material_key(material), tls_material_cert(material));
        provider = grpc_tls_certificate_provider_static_data_create(NULL, pairs);
        grpc_tls_credentials_options_set_certificate_provider(options, provider);
        grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
        grpc_tls_certificate_provider_release(provider);
    }
    return grpc_tls_credentials_create(options);
}

static grpc_channel_credentials *verified_credentials(const struct tls *tls, const struct tls_material *material)
{
    grpc_ssl_pem_key_cert_pair pair = {tls_material_key(material), tls_material_cert(material)};
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create_ex(tls_material_roots(material), pair.cert_chain ? &pair : NULL, NULL, NULL);

    tls_grpc_channel_versions(credentials, version_of(tls->names.min_version, TLS1_2), version_of(tls->names.max_version, TLS1_3));
    return credentials;
}

void *tls_grpc_channel_credentials(struct tls *tls)
{
    struct tls_set *set = tls_set_ref(tls);
    grpc_channel_credentials *credentials =
        tls->options.insecure_skip_verify ? unverified_credentials(set->material) : verified_credentials(tls, set->material);

    ASSERT(!tls->server);
    ASSERT(credentials != NULL);
    tls_set_unref(set);
    return credentials;
}
