/* Credentials for gRPC C-core, which does TLS by itself and takes PEM text from us: only text that was judged as a whole before.
 * (Its own file watcher would take a certificate without its key, and drop what it had.)
 *
 * Server  the library asks at each handshake whether there is something new: fetch() answers from memory.
 * Client  credentials hold what is in force now. A channel cannot change them: links make a new channel when tls_generation rises.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <openssl/ssl.h>

#include "common/base/assert.h"
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

    if (in_force[0] && strcmp(in_force, ciphers) != 0) {
        (void)snprintf(out_error, error_size,
            "cipher_suites: gRPC's library has one list for all receivers and exporters of a process, and another section names "
            "a different one; make them equal");
        return 1;
    }
    (void)snprintf(in_force, sizeof(in_force), "%s", ciphers);
    if (setenv("GRPC_SSL_CIPHER_SUITES", ciphers, 1) == 0)
        return 0;
    (void)snprintf(out_error, error_size, "cipher_suites: out of memory");
    return 1;
}

static grpc_tls_version version_of(int openssl_version, grpc_tls_version when_unset)
{
    if (openssl_version == 0)
        return when_unset;
    return openssl_version == TLS1_3_VERSION ? TLS1_3 : TLS1_2;
}

/* -- server ----------------------------------------------------------------------------------------------- */

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
    struct grpc_fetch *fetch = calloc(1, sizeof(*fetch));
    grpc_ssl_server_credentials_options *options;
    grpc_server_credentials *credentials;

    ASSERT(fetch != NULL); /* at start */
    ASSERT(tls->server);
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
    tls_grpc_server_versions(credentials, version_of(tls->names.min_version, TLS1_2), version_of(tls->names.max_version, TLS1_3));
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
