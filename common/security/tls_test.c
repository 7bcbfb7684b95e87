/* What does not fit together is refused with key, file and reason; what fits shakes hands with whom it should and nobody else; and
 * new files come into force only when all of them are good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base/cleanup.h"
#include "common/security/tls.h"

static char dir[64];

/* -- certificates made for the test --------------------------------------------------------------------------- */

struct identity {
    X509 *cert;
    EVP_PKEY *key;
};

static void extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *made;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    made = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(made);
    assert_int_equal(X509_add_ext(cert, made, -1), 1);
    X509_EXTENSION_free(made);
}

/* issuer NULL: signs itself, and is an authority. */
static struct identity make(const char *name, const struct identity *issuer, const char *alt_names, long days)
{
    struct identity made = {X509_new(), EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")};
    static long serial;

    assert_int_equal(X509_set_version(made.cert, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(made.cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made.cert), days > 0 ? -3600 : -100 * 86400);
    X509_gmtime_adj(X509_getm_notAfter(made.cert), days * 86400);
    X509_set_pubkey(made.cert, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made.cert, X509_get_subject_name(issuer ? issuer->cert : made.cert));
    extension(made.cert, made.cert, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (alt_names)
        extension(made.cert, made.cert, NID_subject_alt_name, alt_names);
    assert_true(X509_sign(made.cert, issuer ? issuer->key : made.key, EVP_sha256()) > 0);
    return made;
}

static void drop(struct identity identity)
{
    X509_free(identity.cert);
    EVP_PKEY_free(identity.key);
}

static const char *path_of(const char *name)
{
    static char paths[64][128]; /* more than one test uses */
    static unsigned next;
    char *path = paths[next++ % ARRAY_COUNT(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    return path;
}

/* Whole, by rename, as tools do it. */
static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(path_of("new"), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(path_of("new"), path_of(name)), 0);
}

static void write_identity(const char *cert_name, const char *key_name, struct identity identity, const char *passphrase)
{
    FILE *file = fopen(path_of("new"), "w");

    assert_int_equal(PEM_write_X509(file, identity.cert), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(path_of("new"), path_of(cert_name)), 0);
    if (!key_name)
        return;
    file = fopen(path_of("new"), "w");
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, identity.key, passphrase ? EVP_aes_128_cbc() : NULL, passphrase,
                         passphrase ? (int)strlen(passphrase) : 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(path_of("new"), path_of(key_name)), 0);
}

/* ca, other-ca: authorities. server, client: of ca. wrong: server's name under other-ca. expired, later: of ca. */
static int setup(void **state)
{
    struct identity ca, other, made;
    struct {
        const char *cert, *key, *alt_names;
        bool other;
        long days;
    } const leaves[] = {
        {"server.pem", "server.key", "DNS:sampler.test,IP:127.0.0.1", false, 10},
        {"second.pem", "second.key", "DNS:sampler.test", false, 20},
        {"client.pem", "client.key", NULL, false, 10},
        {"wrong.pem", "wrong.key", "DNS:sampler.test", true, 10},
        {"expired.pem", "expired.key", "DNS:sampler.test", false, -1},
    };

    (void)state;
    (void)strcpy(dir, "/tmp/tailrace-tls-XXXXXX");
    assert_non_null(mkdtemp(dir));
    ca = make("the authority", NULL, NULL, 100);
    other = make("another authority", NULL, NULL, 100);
    write_identity("ca.pem", NULL, ca, NULL);
    write_identity("other-ca.pem", NULL, other, NULL);
    for (size_t i = 0; i < ARRAY_COUNT(leaves); i++) {
        made = make(leaves[i].cert, leaves[i].other ? &other : &ca, leaves[i].alt_names, leaves[i].days);
        write_identity(leaves[i].cert, leaves[i].key, made, NULL);
        if (i == 0)
            write_identity("server.pem", "secret.key", made, "geheim");
        drop(made);
    }
    made = make("old authority", NULL, NULL, -1);
    write_identity("expired-ca.pem", NULL, made, NULL);
    drop(made);
    drop(ca);
    drop(other);
    write_text("empty", "");
    write_text("text", "good day\n");
    write_text("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

/* -- what is refused -------------------------------------------------------------------------------------------- */

static void refused(void **state)
{
    static const char *const known[] = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"};
    static const char *const misspelt[] = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"};
    static const char *const unsafe[] = {"TLS_RSA_WITH_RC4_128_SHA"};
    static const char *const only13[] = {"TLS_AES_128_GCM_SHA256"};
    static const char *const curve[] = {"P255"};
    static const char *const x25519[] = {"X25519"};
    const struct {
        const char *what;
        bool server;
        struct tls_options options;
        const char *cert, *key, *ca, *client_ca; /* files */
        const char *want[3];                     /* words of the message */
    } cases[] = {
        {"no certificate", true, {0}, NULL, NULL, NULL, NULL, {"a server needs cert_file and key_file"}},
        {"no key", true, {0}, "server.pem", NULL, NULL, NULL, {"a server needs"}},
        {"client without key", false, {0}, "client.pem", NULL, "ca.pem", NULL, {"key_file is missing"}},
        {"missing file", true, {0}, "none.pem", "server.key", NULL, NULL, {"cert_file: ", "none.pem", "No such file"}},
        {"directory", true, {0}, "server.pem", "folder", NULL, NULL, {"key_file: ", "folder", "is a directory"}},
        {"empty", true, {0}, "empty", "server.key", NULL, NULL, {"cert_file: ", "empty", "holds no certificate"}},
        {"no PEM", true, {0}, "server.pem", "text", NULL, NULL, {"key_file: ", "text", "holds no private key"}},
        {"broken", true, {0}, "broken.pem", "server.key", NULL, NULL, {"cert_file: ", "broken.pem", "cannot be read"}},
        {"key of another", true, {0}, "server.pem", "client.key", NULL, NULL, {"client.key", "does not belong to", "server.pem"}},
        {"passphrase", true, {0}, "server.pem", "secret.key", NULL, NULL, {"key_file: ", "secret.key", "encrypted with a passphrase"}},
        {"expired", true, {0}, "expired.pem", "expired.key", NULL, NULL, {"cert_file: ", "expired.pem", "expired on 20"}},
        {"client CA missing", true, {0}, "server.pem", "server.key", NULL, "none", {"client_ca_file: ", "none", "No such file"}},
        {"client CA is a key", true, {0}, "server.pem", "server.key", NULL, "server.key", {"client_ca_file: ", "holds no certificate"}},
        {"CA expired", false, {0}, NULL, NULL, "expired-ca.pem", NULL, {"ca_file: ", "expired-ca.pem", "expired on 20"}},
        {"file and PEM", false, {.ca_pem = "x"}, NULL, NULL, "ca.pem", NULL, {"ca_file and ca_pem", "only one"}},
        {"TLS 1.1", false, {.min_version = "1.1"}, NULL, NULL, "ca.pem", NULL, {"min_version", "1.1", "RFC 8996"}},
        {"TLS 2", false, {.max_version = "2"}, NULL, NULL, "ca.pem", NULL, {"max_version", "`2`"}},
        {"min above max", false, {.min_version = "1.3", .max_version = "1.2"}, NULL, NULL, "ca.pem", NULL, {"1.3 is above", "1.2"}},
        {"unknown suite", false, {.cipher_suites = misspelt, .cipher_suite_count = 1}, NULL, NULL, "ca.pem", NULL,
            {"cipher_suites", "did you mean", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
        {"unsafe suite", false, {.cipher_suites = unsafe, .cipher_suite_count = 1}, NULL, NULL, "ca.pem", NULL, {"RC4", "not safe"}},
        {"suites of 1.3", false, {.cipher_suites = only13, .cipher_suite_count = 1}, NULL, NULL, "ca.pem", NULL, {"min_version \"1.3\""}},
        {"unknown curve", false, {.curve_preferences = curve, .curve_preference_count = 1}, NULL, NULL, "ca.pem", NULL,
            {"curve_preferences", "`P255`", "did you mean `P256`"}},
        {"curve, gRPC", false, {.curve_preferences = x25519, .curve_preference_count = 1, .grpc = true}, NULL, NULL, "ca.pem", NULL,
            {"curve_preferences", "gRPC"}},
        {"version without verifying, gRPC", false, {.min_version = "1.3", .insecure_skip_verify = true, .grpc = true}, NULL, NULL, NULL,
            NULL, {"min_version", "insecure_skip_verify"}},
    };
    struct tls_options options = {.cipher_suites = known, .cipher_suite_count = 1, .ca_file = path_of("ca.pem")};
    struct tls *tls = NULL;
    char error[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        options = cases[i].options;
        options.cert_file = cases[i].cert ? path_of(cases[i].cert) : NULL;
        options.key_file = cases[i].key ? path_of(cases[i].key) : NULL;
        options.ca_file = cases[i].ca ? path_of(cases[i].ca) : NULL;
        options.client_ca_file = cases[i].client_ca ? path_of(cases[i].client_ca) : NULL;
        error[0] = '\0';
        if ((cases[i].server ? tls_server_new : tls_client_new)(&options, &tls, error, sizeof(error)) != 1)
            fail_msg("%s: was taken", cases[i].what);
        for (size_t w = 0; w < 3 && cases[i].want[w]; w++)
            if (!strstr(error, cases[i].want[w]))
                fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].what, error, cases[i].want[w]);
        if (strchr(error, '\n'))
            fail_msg("%s: more than one line: %s", cases[i].what, error);
    }
    options = (struct tls_options){.cipher_suites = known, .cipher_suite_count = 1, .ca_file = path_of("ca.pem")};
    assert_int_equal(tls_client_new(&options, &tls, error, sizeof(error)), 0);
    tls_free(tls);
    tls_free(NULL);
}

static void one_list_of_suites_for_grpc(void **state)
{
    static const char *const one[] = {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, *const two[] = {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"};
    struct tls_options options = {.ca_file = path_of("ca.pem"), .cipher_suites = one, .cipher_suite_count = 1, .grpc = true};
    struct tls *tls = NULL;
    char error[256];

    (void)state;
    assert_int_equal(tls_client_new(&options, &tls, error, sizeof(error)), 0);
    tls_free(tls);
    assert_string_equal(getenv("GRPC_SSL_CIPHER_SUITES"), "ECDHE-ECDSA-AES128-GCM-SHA256");
    options.cipher_suites = two;
    assert_int_equal(tls_client_new(&options, &tls, error, sizeof(error)), 1);
    assert_non_null(strstr(error, "cipher_suites: gRPC"));
    assert_string_equal(getenv("GRPC_SSL_CIPHER_SUITES"), "ECDHE-ECDSA-AES128-GCM-SHA256");
    options.grpc = false;
    assert_int_equal(tls_client_new(&options, &tls, error, sizeof(error)), 0);
    tls_free(tls);
}

/* -- who shakes hands with whom -------------------------------------------------------------------------------- */

struct outcome {
    bool good;
    int version;
    char cipher[64];
    long server_serial; /* of the certificate the client saw */
};

static void shake(SSL *client, SSL *server, struct outcome *outcome)
{
    bool done = false;

    for (unsigned turn = 0; turn < 20 && !done; turn++) {
        int c = SSL_do_handshake(client), s = SSL_do_handshake(server);

        done = c == 1 && s == 1;
        if ((c != 1 && SSL_get_error(client, c) == SSL_ERROR_SSL) || (s != 1 && SSL_get_error(server, s) == SSL_ERROR_SSL))
            return;
    }
    outcome->good = done;
    outcome->version = SSL_version(client);
    (void)snprintf(outcome->cipher, sizeof(outcome->cipher), "%s", SSL_get_cipher_name(client));
    outcome->server_serial = ASN1_INTEGER_get(X509_get0_serialNumber(SSL_get0_peer_certificate(client)));
}

static struct outcome handshake(struct tls *client_tls, struct tls *server_tls, const char *name)
{
    SSL_CTX *client_ctx = tls_ssl_ctx(client_tls), *server_ctx = tls_ssl_ctx(server_tls);
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    struct outcome outcome = {0};
    BIO *a, *b;

    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(client, a, a);
    SSL_set_bio(server, b, b);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    if (name)
        (void)SSL_set1_host(client, name);
    shake(client, server, &outcome);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    return outcome;
}

static struct tls *server_of(struct tls_options options, const char *cert, const char *key)
{
    struct tls *tls = NULL;
    char error[512] = "";

    options.cert_file = path_of(cert);
    options.key_file = path_of(key);
    if (tls_server_new(&options, &tls, error, sizeof(error)))
        fail_msg("%s", error);
    return tls;
}

static struct tls *client_of(struct tls_options options)
{
    struct tls *tls = NULL;
    char error[512] = "";

    if (tls_client_new(&options, &tls, error, sizeof(error)))
        fail_msg("%s", error);
    return tls;
}

static void handshakes(void **state)
{
    static const char *const one[] = {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, *const two[] = {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"};
    const char *ca = path_of("ca.pem"), *other = path_of("other-ca.pem");
    const char *cert = path_of("client.pem"), *key = path_of("client.key");
    const struct {
        const char *what;
        struct tls_options server, client;
        const char *server_cert, *server_key;
        bool want;
        int want_version;
        const char *want_cipher;
    } cases[] = {
        {"plain good", {0}, {.ca_file = ca}, "server.pem", "server.key", true, TLS1_3_VERSION, NULL},
        {"wrong authority", {0}, {.ca_file = other}, "server.pem", "server.key", false, 0, NULL},
        {"not verified", {0}, {.insecure_skip_verify = true}, "wrong.pem", "wrong.key", true, TLS1_3_VERSION, NULL},
        {"at most 1.2", {0}, {.ca_file = ca, .max_version = "1.2"}, "server.pem", "server.key", true, TLS1_2_VERSION, NULL},
        {"1.3 wanted, 1.2 offered", {.min_version = "1.3"}, {.ca_file = ca, .max_version = "1.2"}, "server.pem", "server.key", false, 0,
            NULL},
        {"suite", {0}, {.ca_file = ca, .max_version = "1.2", .cipher_suites = one, .cipher_suite_count = 1}, "server.pem", "server.key",
            true, TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
        {"no common suite", {.cipher_suites = two, .cipher_suite_count = 1},
            {.ca_file = ca, .max_version = "1.2", .cipher_suites = one, .cipher_suite_count = 1}, "server.pem", "server.key", false, 0,
            NULL},
        {"client's certificate missing", {.client_ca_file = ca}, {.ca_file = ca, .max_version = "1.2"}, "server.pem", "server.key", false,
            0, NULL},
        {"client's certificate", {.client_ca_file = ca}, {.ca_file = ca, .cert_file = cert, .key_file = key}, "server.pem", "server.key",
            true, TLS1_3_VERSION, NULL},
        {"client of another authority", {.client_ca_file = other},
            {.ca_file = ca, .cert_file = cert, .key_file = key, .max_version = "1.2"}, "server.pem", "server.key", false, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct tls *server = server_of(cases[i].server, cases[i].server_cert, cases[i].server_key), *client = client_of(cases[i].client);
        struct outcome outcome = handshake(client, server, "sampler.test");

        if (outcome.good != cases[i].want)
            fail_msg("%s: the handshake %s", cases[i].what, outcome.good ? "was good" : "failed");
        if (cases[i].want && outcome.version != cases[i].want_version)
            fail_msg("%s: version %x", cases[i].what, (unsigned)outcome.version);
        if (cases[i].want_cipher && strcmp(outcome.cipher, cases[i].want_cipher) != 0)
            fail_msg("%s: suite %s", cases[i].what, outcome.cipher);
        tls_free(server);
        tls_free(client);
    }
}

/* -- reload ----------------------------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
    char command[300];

    (void)snprintf(command, sizeof(command), "cp %s/%s %s/new && mv %s/new %s/%s", dir, from, dir, dir, dir, to);
    assert_int_equal(system(command), 0);
}

static void reload(void **state)
{
    struct tls *server, *client = client_of((struct tls_options){.ca_file = path_of("ca.pem")});
    struct outcome before, after;
    char error[512] = "";
    void *ctx;

    (void)state;
    copy_file("server.pem", "live.pem");
    copy_file("server.key", "live.key");
    server = server_of((struct tls_options){0}, "live.pem", "live.key");
    before = handshake(client, server, "sampler.test");
    ctx = tls_ssl_ctx(server);
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_SAME);

    /* One of the pair: may be followed by the other, so said only at the second look; and once. */
    copy_file("second.pem", "live.pem");
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_SAME);
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_FAILED);
    assert_non_null(strstr(error, "does not belong to"));
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_SAME);
    assert_int_equal(tls_generation(server), 1);
    after = handshake(client, server, "sampler.test");
    assert_true(after.good && after.server_serial == before.server_serial);

    copy_file("second.key", "live.key");
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_NEW);
    assert_int_equal(tls_generation(server), 2);
    after = handshake(client, server, "sampler.test");
    assert_true(after.good && after.server_serial != before.server_serial);
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_SAME);

    /* Gone and back: nothing is lost meanwhile. */
    assert_int_equal(unlink(path_of("live.key")), 0);
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_SAME);
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_FAILED);
    assert_non_null(strstr(error, "No such file"));
    copy_file("second.key", "live.key");
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_NEW);
    SSL_CTX_free(ctx); /* of the first set: lived on */
    tls_free(server);
    tls_free(client);
}

/* The authorities of both sides, and a secret's directory that is swapped as Kubernetes does it. */
static void reload_authorities(void **state)
{
    struct tls *server, *client;
    struct tls_options mutual = {0}, options = {.cert_file = path_of("client.pem"), .key_file = path_of("client.key"), .max_version = "1.2"};
    char command[400], error[512], ca[128], client_ca[128];

    (void)state;
    (void)snprintf(command, sizeof(command),
        "cd %s && mkdir a b && cp ca.pem a/ca.pem && cp other-ca.pem b/ca.pem && ln -s a ..data && ln -s ..data/ca.pem live-ca.pem && "
        "cp ca.pem client-ca.pem", dir);
    assert_int_equal(system(command), 0);
    (void)snprintf(ca, sizeof(ca), "%s", path_of("live-ca.pem"));
    (void)snprintf(client_ca, sizeof(client_ca), "%s", path_of("client-ca.pem"));
    options.ca_file = ca;
    mutual.client_ca_file = client_ca;
    server = server_of(mutual, "server.pem", "server.key");
    client = client_of(options);
    assert_true(handshake(client, server, "sampler.test").good);

    (void)snprintf(command, sizeof(command), "cd %s && ln -s b ..new && mv -T ..new ..data", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(tls_reload(client, error, sizeof(error)), RELOAD_NEW);
    assert_false(handshake(client, server, "sampler.test").good);
    (void)snprintf(command, sizeof(command), "cd %s && ln -s a ..new && mv -T ..new ..data", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(tls_reload(client, error, sizeof(error)), RELOAD_NEW);
    assert_true(handshake(client, server, "sampler.test").good);

    copy_file("other-ca.pem", "client-ca.pem");
    assert_int_equal(tls_reload(server, error, sizeof(error)), RELOAD_NEW);
    assert_false(handshake(client, server, "sampler.test").good);
    tls_free(server);
    tls_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(one_list_of_suites_for_grpc),
        cmocka_unit_test(handshakes),
        cmocka_unit_test(reload),
        cmocka_unit_test(reload_authorities),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
