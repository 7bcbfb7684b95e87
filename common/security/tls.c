/* A struct tls holds options and the set now in force. A set is one reading of the files with the OpenSSL context made of it;
 * whoever opens a connection takes a reference under a lock that is held for that only (note 0004), so that a reload never waits
 * for a handshake nor a handshake for a file. */
#include "common/security/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/security/tls_inside.h"

/* -- options -------------------------------------------------------------------------------------------- */

static int fail(char *out_error, size_t error_size, const char *reason)
{
    (void)snprintf(out_error, error_size, "%s", reason);
    return 1;
}

/* Source: gRPC C-core 1.51, ssl_transport_security.cc: one curve; versions can be set on its older kind of credentials only, and
 * verification can be turned off on the newer kind only. */
static int grpc_check(const struct tls_options *options, const struct tls_names *names, bool server, char *out_error, size_t error_size)
{
    if (options->curve_preference_count > 0 && strcmp(names->groups, "P-256") != 0)
        return fail(out_error, error_size, "curve_preferences: gRPC's library uses P256 and no other curve; remove this key here");
    if (!server && options->insecure_skip_verify && (names->min_version != TLS1_2_VERSION || names->max_version != 0))
        return fail(out_error, error_size,
            "min_version, max_version: gRPC's library cannot set them together with insecure_skip_verify; remove one of the two");
    return 0;
}

static int pair_check(const char *key, const char *file, const char *pem, char *out_error, size_t error_size)
{
    if (!file || !pem)
        return 0;
    (void)snprintf(out_error, error_size, "%s_file and %s_pem: only one of the two may be given", key, key);
    return 1;
}

static int options_read(
    const struct tls_options *options, bool server, struct tls_names *out_names, char *out_error, size_t error_size)
{
    bool cert = options->cert_file || options->cert_pem, key = options->key_file || options->key_pem;

    if (tls_names_read(options, out_names, out_error, error_size) ||
        pair_check("cert", options->cert_file, options->cert_pem, out_error, error_size) ||
        pair_check("key", options->key_file, options->key_pem, out_error, error_size) ||
        pair_check("ca", options->ca_file, options->ca_pem, out_error, error_size))
        return 1;
    if (server && (!cert || !key))
        return fail(out_error, error_size, "a server needs cert_file and key_file (or cert_pem and key_pem)");
    if (cert != key)
        return fail(out_error, error_size, cert ? "a certificate without its key: key_file is missing"
                                                : "a key without its certificate: cert_file is missing");
    return options->grpc ? grpc_check(options, out_names, server, out_error, error_size) : 0;
}

int tls_options_check(const struct tls_options *options, bool server, char *out_error, size_t error_size)
{
    struct tls_names names;

    return options_read(options, server, &names, out_error, error_size);
}

static char *copy(struct tls *tls, const char *text)
{
    char *copied = text && text[0] ? strdup(text) : NULL; /* the Collector too takes an empty text for none */

    if (copied)
        tls->copies[tls->copy_count++] = copied;
    else if (text && text[0])
        tls->out_of_memory = true;
    return copied;
}

/* What is read again later must outlive the configuration. */
static void options_copy(struct tls *tls, const struct tls_options *from)
{
    tls->options = *from;
    tls->options.ca_file = copy(tls, from->ca_file);
    tls->options.ca_pem = copy(tls, from->ca_pem);
    tls->options.cert_file = copy(tls, from->cert_file);
    tls->options.cert_pem = copy(tls, from->cert_pem);
    tls->options.key_file = copy(tls, from->key_file);
    tls->options.key_pem = copy(tls, from->key_pem);
    tls->options.client_ca_file = copy(tls, from->client_ca_file);
    tls->options.server_name_override = copy(tls, from->server_name_override);
    tls->options.min_version = tls->options.max_version = NULL; /* they are in names now */
    tls->options.cipher_suites = tls->options.curve_preferences = NULL;
}

/* -- sets ----------------------------------------------------------------------------------------------- */

/* HTTP/1.1 is what our HTTP servers speak; a client that offers other protocols only is left without an answer to that question. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *context)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)context;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void set_unref(struct tls_set *set)
{
    if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
        return;
    tls_material_free(set->material);
    SSL_CTX_free(set->ctx);
    free(set);
}

void tls_set_unref(struct tls_set *set)
{
    set_unref(set);
}

struct tls_set *tls_set_ref(struct tls *tls)
{
    struct tls_set *set;

    pthread_mutex_lock(&tls->lock);
    set = tls->current;
    atomic_fetch_add(&set->refs, 1);
    pthread_mutex_unlock(&tls->lock);
    return set;
}

static int set_read(struct tls *tls, struct tls_set **out_set, char *out_error, size_t error_size)
{
    struct tls_set *set = calloc(1, sizeof(*set));

    if (!set)
        return fail(out_error, error_size, "out of memory");
    atomic_init(&set->refs, 1);
    if (tls_material_read(&tls->options, tls->server, &set->material, out_error, error_size)) {
        set_unref(set);
        return 1;
    }
    /* Also made where only gRPC uses the material: what OpenSSL refuses here it would refuse there, without a word. */
    set->ctx = SSL_CTX_new(tls->server ? TLS_server_method() : TLS_client_method());
    if (!set->ctx) {
        set_unref(set);
        return fail(out_error, error_size, "out of memory");
    }
    if (tls_material_apply(set->material, &tls->options, &tls->names, tls->server, set->ctx, out_error, error_size)) {
        set_unref(set);
        return 1;
    }
    if (tls->server)
        SSL_CTX_set_alpn_select_cb(set->ctx, on_alpn, NULL);
    *out_set = set;
    return 0;
}

static void set_publish(struct tls *tls, struct tls_set *set)
{
    struct tls_set *old;

    pthread_mutex_lock(&tls->lock);
    old = tls->current;
    tls->current = set;
    set->generation = old ? old->generation + 1 : 1;
    atomic_store(&tls->generation, set->generation);
    pthread_mutex_unlock(&tls->lock);
    set_unref(old);
}

/* -- life ------------------------------------------------------------------------------------------------- */

static int tls_start(struct tls *tls, const struct tls_options *options, char *out_error, size_t error_size)
{
    struct tls_set *set = NULL;
    uint64_t mark;

    options_copy(tls, options);
    if (tls->out_of_memory)
        return fail(out_error, error_size, "out of memory");
    if (options->grpc && tls->names.ciphers[0] && tls_grpc_ciphers(tls->names.ciphers, out_error, error_size))
        return 1;
    mark = tls_material_mark(&tls->options);
    if (set_read(tls, &set, out_error, error_size))
        return 1;
    (void)file_watch_result(&tls->watch, mark, true);
    set_publish(tls, set);
    return 0;
}

static int tls_new(const struct tls_options *options, bool server, struct tls **out_tls, char *out_error, size_t error_size)
{
    struct tls *tls = calloc(1, sizeof(*tls));

    if (!tls)
        return fail(out_error, error_size, "out of memory");
    (void)pthread_mutex_init(&tls->lock, NULL);
    atomic_init(&tls->refs, 1);
    tls->server = server;
    if (options_read(options, server, &tls->names, out_error, error_size) || tls_start(tls, options, out_error, error_size)) {
        tls_free(tls);
        return 1;
    }
    *out_tls = tls;
    return 0;
}

int tls_server_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size)
{
    return tls_new(options, true, out_tls, out_error, error_size);
}

int tls_client_new(const struct tls_options *options, struct tls **out_tls, char *out_error, size_t error_size)
{
    ASSERT(!options->insecure); /* plain text needs no struct tls */
    return tls_new(options, false, out_tls, out_error, error_size);
}

struct tls *tls_ref(struct tls *tls)
{
    atomic_fetch_add(&tls->refs, 1);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (!tls || atomic_fetch_sub(&tls->refs, 1) != 1)
        return;
    set_unref(tls->current);
    for (unsigned i = 0; i < tls->copy_count; i++)
        secret_free(tls->copies[i]);
    (void)pthread_mutex_destroy(&tls->lock);
    free(tls);
}

unsigned tls_generation(const struct tls *tls)
{
    return atomic_load(&tls->generation);
}

const char *tls_grpc_target_name(const struct tls *tls)
{
    return tls->options.server_name_override;
}

void *tls_ssl_ctx(struct tls *tls)
{
    struct tls_set *set = tls_set_ref(tls);
    SSL_CTX *ctx = set->ctx;

    (void)SSL_CTX_up_ref(ctx);
    set_unref(set);
    return ctx;
}

enum reload_outcome tls_reload(struct tls *tls, char *out_error, size_t error_size)
{
    uint64_t mark = tls_material_mark(&tls->options);
    struct tls_set *set = NULL;

    if (!file_watch_due(&tls->watch, mark))
        return RELOAD_SAME;
    if (set_read(tls, &set, out_error, error_size))
        return file_watch_result(&tls->watch, mark, false);
    set_publish(tls, set);
    return file_watch_result(&tls->watch, mark, true);
}
