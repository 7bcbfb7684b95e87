/* Everything is looked at before it comes into force: a pair that does not match, a certificate whose time is over, a key with a
 * passphrase are errors here, with the file's name, not failed handshakes later. */
#include "common/security/tls_material.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "common/base/cleanup.h"
#include "common/security/watched_file.h"

#define CHAIN_MAX 16 /* certificates of one chain; real ones have three */

struct tls_material {
    char *cert_pem, *key_pem, *roots_pem;
    X509 *leaf;
    STACK_OF(X509) *chain; /* what follows the leaf */
    EVP_PKEY *key;
    X509_STORE *roots;
    STACK_OF(X509_NAME) *root_names; /* told to clients that are asked for a certificate */
};

struct failure { /* where a reason goes */
    char *text;
    size_t size;
};

static int fail(struct failure failure, const char *format, ...) PRINTF_LIKE(2, 3);
static int fail(struct failure failure, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(failure.text, failure.size, format, args);
    va_end(args);
    return 1;
}

/* OpenSSL's first reason in its own words, and its queue empty afterwards. */
static const char *openssl_reason(void)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return reason ? reason : "unknown reason";
}

/* -- text ------------------------------------------------------------------------------------------------ */

/* One part from its file or its text. what: the key without _file, such as cert. */
static int text_read(const char *what, const char *file, const char *pem, char **out_text, struct failure failure)
{
    char reason[300];
    size_t len;

    if (file && pem)
        return fail(failure, "%s_file and %s_pem: only one of the two may be given", what, what);
    if (!file && !pem)
        return 0;
    if (pem) {
        *out_text = strdup(pem);
        return *out_text ? 0 : fail(failure, "%s_pem: out of memory", what);
    }
    if (file_read(file, out_text, &len, reason, sizeof(reason)))
        return fail(failure, "%s_file: %s", what, reason);
    if (strlen(*out_text) != len)
        return fail(failure, "%s_file: %s: is no PEM text", what, file);
    return 0;
}

/* How messages call it: "cert_file: PATH" or "cert_pem". */
static const char *source_of(const char *what, const char *file, char *text, size_t size)
{
    (void)snprintf(text, size, file ? "%s_file: %.200s" : "%s_pem", what, file);
    return text;
}

/* -- certificates ------------------------------------------------------------------------------------------ */

/* Reads all certificates of a PEM text, at least one. */
static int certificates_read(const char *pem, const char *source, STACK_OF(X509) **out_list, struct failure failure)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    STACK_OF(X509) *list = sk_X509_new_null();
    X509 *cert;
    unsigned long code;

    if (!bio || !list) {
        BIO_free(bio);
        sk_X509_free(list);
        return fail(failure, "%s: out of memory", source);
    }
    ERR_clear_error();
    while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        (void)sk_X509_push(list, cert);
    BIO_free(bio);
    code = ERR_peek_last_error();
    if (code && !(ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)) {
        sk_X509_pop_free(list, X509_free);
        return fail(failure, "%s: a certificate in it cannot be read: %s", source, openssl_reason());
    }
    ERR_clear_error();
    if (sk_X509_num(list) == 0) {
        sk_X509_free(list);
        return fail(failure, "%s: holds no certificate in PEM form", source);
    }
    *out_list = list;
    return 0;
}

static const char *time_text(const ASN1_TIME *when, char *text, size_t size)
{
    struct tm tm;

    if (!ASN1_TIME_to_tm(when, &tm) || strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(text, size, "an unreadable time");
    return text;
}

static int leaf_check_time(const X509 *leaf, const char *source, struct failure failure)
{
    char when[40];

    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) <= 0)
        return fail(failure, "%s: expired on %s; renew it", source, time_text(X509_get0_notAfter(leaf), when, sizeof(when)));
    if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0)
        return fail(failure, "%s: is not valid before %s; is the clock right?", source,
            time_text(X509_get0_notBefore(leaf), when, sizeof(when)));
    return 0;
}

static int chain_read(struct tls_material *material, const char *source, struct failure failure)
{
    STACK_OF(X509) *list = NULL;

    if (certificates_read(material->cert_pem, source, &list, failure))
        return 1;
    if (sk_X509_num(list) > CHAIN_MAX) {
        sk_X509_pop_free(list, X509_free);
        return fail(failure, "%s: a chain of more than %d certificates", source, CHAIN_MAX);
    }
    material->leaf = sk_X509_shift(list);
    material->chain = list;
    return leaf_check_time(material->leaf, source, failure);
}

/* -- the key --------------------------------------------------------------------------------------------- */

static int on_passphrase(char *buffer, int size, int writing, void *asked)
{
    (void)buffer;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static int key_read(struct tls_material *material, const char *source, struct failure failure)
{
    BIO *bio = BIO_new_mem_buf(material->key_pem, -1);
    bool asked = false;

    ERR_clear_error();
    material->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asked) : NULL;
    BIO_free(bio);
    if (material->key)
        return 0;
    if (asked) {
        ERR_clear_error();
        return fail(failure, "%s: the key is encrypted with a passphrase; store it without one, protected by its mode", source);
    }
    if (!strstr(material->key_pem, "PRIVATE KEY-----")) {
        ERR_clear_error();
        return fail(failure, "%s: holds no private key in PEM form", source);
    }
    return fail(failure, "%s: the private key cannot be read: %s", source, openssl_reason());
}

static int identity_read(struct tls_material *material, const struct tls_options *options, bool server, struct failure failure)
{
    char cert_source[256], key_source[256];

    if (text_read("cert", options->cert_file, options->cert_pem, &material->cert_pem, failure) ||
        text_read("key", options->key_file, options->key_pem, &material->key_pem, failure))
        return 1;
    if (!material->cert_pem && !material->key_pem)
        return server ? fail(failure, "a server needs cert_file and key_file (or cert_pem and key_pem)") : 0;
    if (!material->cert_pem)
        return fail(failure, "a key without its certificate: cert_file is missing");
    if (!material->key_pem)
        return fail(failure, "a certificate without its key: key_file is missing");
    (void)source_of("cert", options->cert_file, cert_source, sizeof(cert_source));
    (void)source_of("key", options->key_file, key_source, sizeof(key_source));
    if (chain_read(material, cert_source, failure) || key_read(material, key_source, failure))
        return 1;
    if (X509_check_private_key(material->leaf, material->key) != 1) {
        ERR_clear_error();
        return fail(failure, "%s: the key does not belong to the first certificate of %s", key_source, cert_source);
    }
    return 0;
}

/* -- authorities -------------------------------------------------------------------------------------------- */

/* Where systems keep theirs. The environment's word counts first, as in OpenSSL and Go. */
static const char *system_roots_path(void)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Alpine */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, RHEL */
        "/etc/ssl/ca-bundle.pem",                            /* SUSE */
        "/etc/ssl/cert.pem",
    };
    const char *path = getenv("SSL_CERT_FILE");

    if (path && path[0])
        return path;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return NULL;
}

/* Appends the system's authorities to what is in *roots. */
static int system_roots_add(char **roots, struct failure failure)
{
    const char *path = system_roots_path();
    char *system = NULL, *joined = NULL;
    char reason[300];
    size_t len;

    if (!path)
        return fail(failure, "this system has no bundle of authorities: install ca-certificates, or set ca_file");
    if (file_read(path, &system, &len, reason, sizeof(reason)))
        return fail(failure, "the system's authorities: %s", reason);
    if (asprintf(&joined, "%s\n%s", *roots ? *roots : "", system) < 0)
        joined = NULL;
    free(system);
    if (!joined)
        return fail(failure, "out of memory");
    free(*roots);
    *roots = joined;
    return 0;
}

/* A bundle in which all are expired is a mistake; one of many is every system's everyday. */
static int roots_check_time(STACK_OF(X509) *list, const char *source, struct failure failure)
{
    char when[40];

    for (int i = 0; i < sk_X509_num(list); i++)
        if (X509_cmp_current_time(X509_get0_notAfter(sk_X509_value(list, i))) > 0)
            return 0;
    return fail(failure, "%s: expired on %s; renew it", source,
        time_text(X509_get0_notAfter(sk_X509_value(list, 0)), when, sizeof(when)));
}

static int roots_keep(struct tls_material *material, STACK_OF(X509) *list, struct failure failure)
{
    material->roots = X509_STORE_new();
    material->root_names = sk_X509_NAME_new_null();
    if (!material->roots || !material->root_names)
        return fail(failure, "out of memory");
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *cert = sk_X509_value(list, i);
        X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

        if (!name || !X509_STORE_add_cert(material->roots, cert) || !sk_X509_NAME_push(material->root_names, name)) {
            X509_NAME_free(name);
            return fail(failure, "out of memory");
        }
    }
    /* As in Go: whatever is listed is trusted, also an authority in the middle of a chain or a server's own certificate. */
    (void)X509_STORE_set_flags(material->roots, X509_V_FLAG_PARTIAL_CHAIN);
    return 0;
}

static int roots_read(struct tls_material *material, const struct tls_options *options, bool server, struct failure failure)
{
    STACK_OF(X509) *list = NULL;
    char source[256];
    int r;

    if (server)
        r = text_read("client_ca", options->client_ca_file, NULL, &material->roots_pem, failure);
    else
        r = text_read("ca", options->ca_file, options->ca_pem, &material->roots_pem, failure);
    if (r)
        return r;
    if (material->roots_pem) { /* judged before the system's are joined: it must hold at least one of its own */
        (void)source_of(server ? "client_ca" : "ca", server ? options->client_ca_file : options->ca_file, source, sizeof(source));
        if (certificates_read(material->roots_pem, source, &list, failure))
            return 1;
        r = roots_check_time(list, source, failure);
        sk_X509_pop_free(list, X509_free);
        if (r)
            return r;
    }
    if (server ? !material->roots_pem : options->insecure_skip_verify && !material->roots_pem)
        return 0;
    if (!server && (options->include_system_ca_certs_pool || !material->roots_pem) && system_roots_add(&material->roots_pem, failure))
        return 1;
    if (certificates_read(material->roots_pem, "authorities", &list, failure))
        return 1;
    r = roots_keep(material, list, failure);
    sk_X509_pop_free(list, X509_free);
    return r;
}

/* -- life ------------------------------------------------------------------------------------------------- */

int tls_material_read(const struct tls_options *options, bool server, struct tls_material **out_material, char *out_error,
    size_t error_size)
{
    struct tls_material *material = calloc(1, sizeof(*material));
    struct failure failure = {out_error, error_size};

    if (!material)
        return fail(failure, "out of memory");
    if (identity_read(material, options, server, failure) || roots_read(material, options, server, failure)) {
        tls_material_free(material);
        return 1;
    }
    *out_material = material;
    return 0;
}

void tls_material_free(struct tls_material *material)
{
    if (!material)
        return;
    X509_free(material->leaf);
    sk_X509_pop_free(material->chain, X509_free);
    EVP_PKEY_free(material->key);
    X509_STORE_free(material->roots);
    sk_X509_NAME_pop_free(material->root_names, X509_NAME_free);
    secret_free(material->cert_pem);
    secret_free(material->key_pem);
    free(material->roots_pem);
    free(material);
}

uint64_t tls_material_mark(const struct tls_options *options)
{
    const char *const paths[] = {options->cert_file, options->key_file, options->ca_file, options->client_ca_file};
    uint64_t mark = 1;

    for (size_t i = 0; i < ARRAY_COUNT(paths); i++)
        mark = mark * 0x9e3779b97f4a7c15ull + file_mark(paths[i]);
    return mark;
}

const char *tls_material_cert(const struct tls_material *material)
{
    return material->cert_pem;
}

const char *tls_material_key(const struct tls_material *material)
{
    return material->key_pem;
}

const char *tls_material_roots(const struct tls_material *material)
{
    return material->roots_pem;
}

/* -- into a context ----------------------------------------------------------------------------------------- */

static int apply_names(const struct tls_names *names, SSL_CTX *ctx, struct failure failure)
{
    if (!SSL_CTX_set_min_proto_version(ctx, names->min_version) || !SSL_CTX_set_max_proto_version(ctx, names->max_version))
        return fail(failure, "min_version, max_version: %s", openssl_reason());
    if (names->ciphers[0] && !SSL_CTX_set_cipher_list(ctx, names->ciphers))
        return fail(failure, "cipher_suites: %s", openssl_reason());
    if (names->groups[0] && !SSL_CTX_set1_groups_list(ctx, (char *)(uintptr_t)names->groups)) /* the macro casts const away */
        return fail(failure, "curve_preferences: %s", openssl_reason());
    return 0;
}

static int apply_identity(const struct tls_material *material, SSL_CTX *ctx, struct failure failure)
{
    if (!material->leaf)
        return 0;
    if (!SSL_CTX_use_certificate(ctx, material->leaf) || !SSL_CTX_use_PrivateKey(ctx, material->key) ||
        !SSL_CTX_set1_chain(ctx, material->chain))
        return fail(failure, "the certificate is refused: %s", openssl_reason()); /* such as: ee key too small */
    return 0;
}

static int apply_server(const struct tls_material *material, SSL_CTX *ctx, struct failure failure)
{
    static const unsigned char session_context[] = "tailrace";

    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (!SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1))
        return fail(failure, "%s", openssl_reason());
    if (material->roots) {
        STACK_OF(X509_NAME) *names = SSL_dup_CA_list(material->root_names);

        if (!names)
            return fail(failure, "out of memory");
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return 0;
}

int tls_material_apply(const struct tls_material *material, const struct tls_options *options, const struct tls_names *names,
    bool server, struct ssl_ctx_st *ctx, char *out_error, size_t error_size)
{
    struct failure failure = {out_error, error_size};

    ERR_clear_error();
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* 34 KiB less an idle connection */
    if (apply_names(names, ctx, failure) || apply_identity(material, ctx, failure))
        return 1;
    if (material->roots)
        SSL_CTX_set1_cert_store(ctx, material->roots);
    if (server)
        return apply_server(material, ctx, failure);
    SSL_CTX_set_verify(ctx, options->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    return 0;
}
