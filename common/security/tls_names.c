#include "common/security/tls_names.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ssl.h>

#include "common/base/cleanup.h"
#include "common/base/nearest.h"
#include "common/base/num.h"

struct name_pair {
    const char *ours, *openssl; /* openssl NULL: known, not offered; "": known, nothing to set */
};

/* Go's names, which the Collector takes. Suites of TLS 1.3 may be listed there and change nothing. */
static const struct name_pair cipher_names[] = {
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_AES_128_GCM_SHA256", ""},
    {"TLS_AES_256_GCM_SHA384", ""},
    {"TLS_CHACHA20_POLY1305_SHA256", ""},
    {"TLS_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", NULL},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", NULL},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", NULL},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", NULL},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", NULL},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", NULL},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", NULL},
};

static const struct name_pair curve_names[] = {
    {"X25519", "X25519"},
    {"P256", "P-256"},
    {"P384", "P-384"},
    {"P521", "P-521"},
    {"X25519MLKEM768", NULL},
};

/* However far: the lists are short, and one of their names is what was to be written. */
static const char *nearest(const struct name_pair *pairs, size_t count, const char *name)
{
    const char *best = pairs[0].ours;
    size_t least = word_distance(name, best, false);

    for (size_t i = 1; i < count; i++) {
        size_t d = pairs[i].openssl ? word_distance(name, pairs[i].ours, false) : least;

        if (d < least) {
            least = d;
            best = pairs[i].ours;
        }
    }
    return best;
}

struct name_list {
    const char *key;               /* for messages */
    const struct name_pair *pairs;
    size_t pair_count;
    const char *refusal;           /* why a known name is not offered */
};

static int list_read(const struct name_list *list, const char *const *names, size_t count, char out_list[TLS_LIST_MAX],
    char *out_error, size_t error_size)
{
    size_t at = 0;

    out_list[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct name_pair *pair = NULL;

        for (size_t j = 0; !pair && j < list->pair_count; j++)
            pair = strcmp(list->pairs[j].ours, names[i]) == 0 ? &list->pairs[j] : NULL;
        if (!pair) {
            (void)snprintf(out_error, error_size, "%s: `%.80s` is not known; did you mean `%s`?", list->key, names[i],
                nearest(list->pairs, list->pair_count, names[i]));
            return 1;
        }
        if (!pair->openssl) {
            (void)snprintf(out_error, error_size, "%s: `%s` %s", list->key, names[i], list->refusal);
            return 1;
        }
        if (pair->openssl[0] && strstr(out_list, pair->openssl) == NULL)
            at += (size_t)snprintf(out_list + at, TLS_LIST_MAX - at, "%s%s", at > 0 ? ":" : "", pair->openssl);
    }
    return 0;
}

static int version_read(const char *key, const char *text, int *out_version, char *out_error, size_t error_size)
{
    if (!text || !text[0])
        return 0;
    if (strcmp(text, "1.2") == 0) {
        *out_version = TLS1_2_VERSION;
        return 0;
    }
    if (strcmp(text, "1.3") == 0) {
        *out_version = TLS1_3_VERSION;
        return 0;
    }
    if (strcmp(text, "1.0") == 0 || strcmp(text, "1.1") == 0)
        (void)snprintf(out_error, error_size, "%s: TLS %s is not offered (RFC 8996 forbids it); use \"1.2\" or \"1.3\"", key, text);
    else
        (void)snprintf(out_error, error_size, "%s: `%.40s` is no version of TLS; use \"1.2\" or \"1.3\"", key, text);
    return 1;
}

int tls_names_read(const struct tls_options *options, struct tls_names *out_names, char *out_error, size_t error_size)
{
    static const struct name_list ciphers = {"cipher_suites", cipher_names, ARRAY_COUNT(cipher_names),
        "is not safe any more and not offered; leave it out"};
    static const struct name_list curves = {"curve_preferences", curve_names, ARRAY_COUNT(curve_names),
        "is not in OpenSSL 3.0; use X25519"};
    struct tls_names names = {.min_version = TLS1_2_VERSION};

    if (version_read("min_version", options->min_version, &names.min_version, out_error, error_size) ||
        version_read("max_version", options->max_version, &names.max_version, out_error, error_size))
        return 1;
    if (names.max_version && names.min_version > names.max_version) {
        (void)snprintf(out_error, error_size, "min_version %s is above max_version %s", options->min_version, options->max_version);
        return 1;
    }
    if (list_read(&ciphers, options->cipher_suites, options->cipher_suite_count, names.ciphers, out_error, error_size) ||
        list_read(&curves, options->curve_preferences, options->curve_preference_count, names.groups, out_error, error_size))
        return 1;
    if (options->cipher_suite_count > 0 && !names.ciphers[0] && names.min_version < TLS1_3_VERSION) {
        (void)snprintf(out_error, error_size,
            "cipher_suites: names suites of TLS 1.3 only, which cannot be chosen; set min_version \"1.3\" instead");
        return 1;
    }
    *out_names = names;
    return 0;
}

const char *tls_remedy(const char *reason)
{
    static const struct {
        const char *words, *remedy;
    } remedies[] = {
        {"certificate has expired", "the peer's certificate is over its time: renew it"},
        {"not in peer certificate", "the peer's certificate names other hosts: set tls.server_name_override to one of them, or have it made anew"},
        {"does not match target host", "the peer's certificate names other hosts: set tls.server_name_override to one of them, or have it made anew"},
        {"no alternative certificate subject name", "the peer's certificate names other hosts: set tls.server_name_override to one of them, or have it made anew"},
        {"certificate verify failed", "the peer's certificate is signed by no authority we trust (put it into tls.ca_file), or is over its time (renew it)"},
        {"self-signed", "the peer's certificate is signed by no authority we trust (put it into tls.ca_file), or is over its time (renew it)"},
        {"unable to get local issuer", "the peer's certificate is signed by no authority we trust (put it into tls.ca_file), or is over its time (renew it)"},
        {"did not return a certificate", "the client shows no certificate and client_ca_file asks for one: give it tls.cert_file and key_file"},
        {"certificate required", "the server asks for a client's certificate: set tls.cert_file and key_file"},
        {"unknown ca", "the peer does not trust the authority of our certificate: add it there"},
        {"bad certificate", "the peer refused our certificate: it must be signed by an authority that it trusts"},
        {"wrong version number", "one side speaks plain text: turn TLS on there, or set tls.insecure: true here"},
        {"http request", "the peer speaks plain text HTTP: give it an https:// address"},
        {"unsupported protocol", "no common TLS version: compare min_version and max_version of both sides"},
        {"protocol version", "no common TLS version: compare min_version and max_version of both sides"},
        {"no shared cipher", "no common cipher suite: compare cipher_suites of both sides"},
        {"handshake failure", "no common cipher suite or version: compare cipher_suites and min_version of both sides"},
        {"onnection refused", "nothing listens there: is the address right and the peer running?"},
        {"ocket closed", "the peer hung up: does it ask for a client's certificate (tls.cert_file, key_file)?"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(remedies); i++)
        if (strcasestr(reason, remedies[i].words))
            return remedies[i].remedy;
    return "compare the tls sections of both sides";
}
