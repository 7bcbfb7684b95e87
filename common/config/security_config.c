/* How connections are secured, and the headers that go over them: the Collector's configtls, and maps of headers. */
#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/otlp_parts.h"

/* -- TLS ------------------------------------------------------------------------------------------------ */

struct tls_reading {
    struct tls_options options;
    struct config_strings cipher_suites, curve_preferences;
};

#define TLS_TEXT(field_, name_, help_) CONFIG_KEY_NAMED(struct tls_reading, options.field_, name_, CONFIG_STRING, help_)
#define TLS_SECRET(field_, name_, help_)                                                                                       \
    {.name = name_, .type = CONFIG_STRING, .offset = offsetof(struct tls_reading, options.field_), .help = help_, .secret = true, \
        .set_offset = SIZE_MAX}

#define TLS_COMMON_KEYS                                                                                                        \
    TLS_TEXT(ca_file, "ca_file", "File with the authorities that certificates must come from, PEM; absent: the system's."),     \
        TLS_SECRET(ca_pem, "ca_pem", "The same as text; not together with ca_file."),                                          \
        CONFIG_KEY_NAMED(struct tls_reading, options.include_system_ca_certs_pool, "include_system_ca_certs_pool", CONFIG_BOOL, \
            "Whether the system's authorities count beside those of ca_file."),                                                \
        TLS_TEXT(cert_file, "cert_file", "File with the own certificate and those between it and its authority, PEM."),         \
        TLS_SECRET(cert_pem, "cert_pem", "The same as text; not together with cert_file."),                                    \
        TLS_TEXT(key_file, "key_file", "File with the certificate's private key, PEM."),                                       \
        TLS_SECRET(key_pem, "key_pem", "The same as text; not together with key_file."),                                       \
        TLS_TEXT(min_version, "min_version", "Least version of TLS: \"1.0\", \"1.1\", \"1.2\" or \"1.3\"; absent: 1.2."),       \
        TLS_TEXT(max_version, "max_version", "Highest version of TLS, written likewise; absent: the best there is."),          \
        CONFIG_KEY_NAMED(struct tls_reading, cipher_suites, "cipher_suites", CONFIG_STRINGS,                                   \
            "Cipher suites of TLS 1.2 and before, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; absent: the library's."),      \
        CONFIG_REFUSE_UNLESS("include_insecure_cipher_suites", "false",                                                        \
            "suites that are known to be weak are not offered; remove this key"),                                              \
        CONFIG_KEY_NAMED(struct tls_reading, curve_preferences, "curve_preferences", CONFIG_STRINGS,                           \
            "Curves in order of preference, of X25519, P256, P384 and P521; absent: the library's."),                          \
        CONFIG_KEY_NAMED(struct tls_reading, options.reload_interval_ns, "reload_interval", CONFIG_SPAN,                       \
            "How often the files are looked at (differs from the Collector: files that change are taken anyhow, without this)."), \
        CONFIG_REFUSE("tpm", "keys are read from files; set key_file")

const struct config_key tls_server_keys[] = {
    TLS_COMMON_KEYS,
    TLS_TEXT(client_ca_file, "client_ca_file", "Clients must show a certificate of an authority in this file, PEM."),
    CONFIG_KEY_NAMED(struct tls_reading, options.client_ca_file_reload, "client_ca_file_reload", CONFIG_BOOL,
        "Whether that file is watched (differs from the Collector: it is watched anyhow)."),
    {0},
};

const struct config_key tls_client_keys[] = {
    CONFIG_KEY_NAMED(struct tls_reading, options.insecure, "insecure", CONFIG_BOOL, "Plain text instead of TLS."),
    TLS_COMMON_KEYS,
    CONFIG_KEY_NAMED(struct tls_reading, options.insecure_skip_verify, "insecure_skip_verify", CONFIG_BOOL,
        "Whether the server's certificate is not checked."),
    TLS_TEXT(server_name_override, "server_name_override", "Name that the server's certificate is checked for; absent: the endpoint's."),
    {0},
};

static int version_rank(const char *version)
{
    static const char *const versions[] = {"1.0", "1.1", "1.2", "1.3"};

    for (int i = 0; i < (int)ARRAY_COUNT(versions); i++) {
        if (strcmp(versions[i], version) == 0)
            return i;
    }
    return -1;
}

static int check_versions(struct config_context *context, const struct config_node *node, struct tls_options *options)
{
    const char **const fields[] = {&options->min_version, &options->max_version};
    static const char *const names[] = {"min_version", "max_version"};
    int ranks[] = {2, 3}, result = 0;

    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (*fields[i] && !**fields[i])
            *fields[i] = NULL;
        if (!*fields[i])
            continue;
        ranks[i] = version_rank(*fields[i]);
        if (ranks[i] < 0)
            result = config_error(context, config_node_near(node, names[i]), "expected \"1.0\", \"1.1\", \"1.2\" or \"1.3\", found \"%.40s\"",
                *fields[i]);
    }
    if (result == 0 && ranks[0] > ranks[1])
        result = config_error(context, config_node_near(node, options->max_version ? "max_version" : "min_version"),
            "min_version is above max_version");
    return result;
}

static int check_curves(struct config_context *context, const struct config_node *node, const struct config_strings *curves)
{
    static const char *const known[] = {"X25519", "P256", "P384", "P521"};

    for (size_t i = 0; i < curves->count; i++) {
        bool found = false;

        for (size_t j = 0; j < ARRAY_COUNT(known); j++)
            found = found || strcmp(known[j], curves->items[i]) == 0;
        if (!found)
            return config_error(context, config_node_near(node, "curve_preferences"),
                "expected curves of X25519, P256, P384 and P521, found \"%.40s\"", curves->items[i]);
    }
    return 0;
}

static const char *or_null(const char *text)
{
    return text && *text ? text : NULL;
}

static int check_one_of(
    struct config_context *context, const struct config_node *node, const char *file, const char *pem, const char *what)
{
    if (!file || !pem)
        return 0;
    return config_error(context, node, "both %s_file and %s_pem are set; one of them must go", what, what);
}

static int tls_read(struct config_context *context, const struct config_node *node, const struct config_key *keys,
    struct tls_options *out_options)
{
    struct tls_reading reading = {0};
    struct tls_options *options = &reading.options;
    int result = config_read(context, node, keys, &reading);

    options->ca_file = or_null(options->ca_file);
    options->ca_pem = or_null(options->ca_pem);
    options->cert_file = or_null(options->cert_file);
    options->cert_pem = or_null(options->cert_pem);
    options->key_file = or_null(options->key_file);
    options->key_pem = or_null(options->key_pem);
    options->client_ca_file = or_null(options->client_ca_file);
    options->server_name_override = or_null(options->server_name_override);
    if (check_one_of(context, node, options->ca_file, options->ca_pem, "ca"))
        result = CONFIG_E_INVALID;
    if (check_one_of(context, node, options->cert_file, options->cert_pem, "cert"))
        result = CONFIG_E_INVALID;
    if (check_one_of(context, node, options->key_file, options->key_pem, "key"))
        result = CONFIG_E_INVALID;
    if ((options->cert_file || options->cert_pem) != (options->key_file || options->key_pem))
        result = config_error(context, node, "%s", options->key_file || options->key_pem
                                                       ? "a key without its certificate: set cert_file"
                                                       : "a certificate without its key: set key_file");
    if (check_versions(context, node, options))
        result = CONFIG_E_INVALID;
    if (check_curves(context, node, &reading.curve_preferences))
        result = CONFIG_E_INVALID;
    options->cipher_suites = (const char *const *)reading.cipher_suites.items;
    options->cipher_suite_count = reading.cipher_suites.count;
    options->curve_preferences = (const char *const *)reading.curve_preferences.items;
    options->curve_preference_count = reading.curve_preferences.count;
    *out_options = *options;
    return result;
}

static int tls_read_into(struct config_context *context, const struct config_node *node, const struct config_key *keys,
    void *out_field, struct tls_options **out_options)
{
    struct tls_options *options = config_alloc(context, sizeof(*options));
    int result = tls_read(context, node, keys, options);

    memcpy(out_field, &options, sizeof(options));
    *out_options = options;
    return result;
}

/* What else TLS cannot do here: said of the key that the reason begins with. */
static int tls_judge(struct config_context *context, const struct config_node *node, const struct tls_options *options, bool server)
{
    char reason[300], key[40];

    if (!tls_options_check(options, server, reason, sizeof(reason)))
        return 0;
    (void)snprintf(key, sizeof(key), "%.*s", (int)strcspn(reason, ":, "), reason);
    return config_error(context, config_node_near(node, key), "%s", reason);
}

static int server_read(struct config_context *context, const struct config_node *node, bool grpc, void *out_field)
{
    struct tls_options *options;
    int result;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0; /* as no key: plain text */
    result = tls_read_into(context, node, tls_server_keys, out_field, &options);
    if (result == 0 && !options->cert_file && !options->cert_pem)
        result = config_error(context, node, "a server needs a certificate: set cert_file and key_file");
    options->grpc = grpc;
    return result ? result : tls_judge(context, node, options, true);
}

int tls_server_read(struct config_context *context, const struct config_node *node, void *out_field)
{
    return server_read(context, node, false, out_field);
}

int tls_grpc_server_read(struct config_context *context, const struct config_node *node, void *out_field)
{
    return server_read(context, node, true, out_field);
}

int tls_client_read(struct config_context *context, const struct config_node *node, void *out_field)
{
    struct tls_options *options;
    int result = tls_read_into(context, node, tls_client_keys, out_field, &options);

    return result || options->insecure ? result : tls_judge(context, node, options, false);
}

/* -- headers --------------------------------------------------------------------------------------------- */

static bool header_name_ok(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= 256 && strncmp(name, "grpc-", 5) != 0 &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0';
}

static bool header_value_ok(const char *value)
{
    for (; *value; value++) {
        if ((unsigned char)*value < 0x20 || (unsigned char)*value > 0x7e)
            return false;
    }
    return true;
}

/* HTTP/2 has lower case only. */
static char *lower_case(struct config_context *context, const char *name)
{
    char *lower = context_text(context, name, strlen(name));

    for (char *at = lower; *at; at++) {
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
    }
    return lower;
}

#define NO_HEADER_NAME "no name of a header: letters, digits, - _ . and not beginning with grpc-"

int header_read(struct config_context *context, const struct config_node *node, const char *name, char **pair)
{
    pair[0] = lower_case(context, name);
    if (!header_name_ok(pair[0]))
        return config_error(context, node, NO_HEADER_NAME);
    if (config_node_kind(node) == CONFIG_NODE_NULL)
        pair[1] = context_text(context, "", 0);
    else if (config_read_text(context, node, true, &pair[1]))
        return CONFIG_E_INVALID;
    if (!header_value_ok(pair[1]))
        return config_error(context, node, "a header's value is of printable ASCII characters");
    return 0;
}

struct listed_header {
    char *name;
    const struct config_node *value;
};

static const struct config_key listed_header_keys[] = {
    CONFIG_KEY(struct listed_header, name, CONFIG_STRING, "Name of a header."),
    CONFIG_KEY(struct listed_header, value, CONFIG_NODE, "Its value, a text."),
    {0},
};

static int listed_header_read(struct config_context *context, const struct config_node *node, char **pair)
{
    struct listed_header listed = {0};

    if (config_read(context, node, listed_header_keys, &listed))
        return CONFIG_E_INVALID;
    if (!listed.name)
        return config_error(context, node, "name is missing");
    return header_read(context, config_node_near(node, "value"), listed.name, pair);
}

int headers_read(struct config_context *context, const struct config_node *node, void *out_field)
{
    size_t count = config_node_count(node);
    char **pairs = config_alloc(context, (2 * count + 1) * sizeof(char *));
    int result = 0;

    if (config_node_kind(node) == CONFIG_NODE_NULL)
        return 0;
    if (config_node_kind(node) != CONFIG_NODE_MAP && config_node_kind(node) != CONFIG_NODE_SEQUENCE)
        return config_error(context, node, "expected a map of headers");
    if (count > OTLP_HEADERS_MAX)
        return config_error(context, node, "%zu headers, at most %u are sent", count, OTLP_HEADERS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct config_node *value = config_node_at(node, i);

        if (config_node_kind(node) == CONFIG_NODE_MAP ? header_read(context, value, config_node_key(node, i), &pairs[2 * i])
                                                      : listed_header_read(context, value, &pairs[2 * i]))
            result = CONFIG_E_INVALID;
    }
    if (result == 0 && count > 0)
        memcpy(out_field, &pairs, sizeof(pairs));
    return result;
}

static size_t pair_count(char **pairs)
{
    size_t count = 0;

    while (pairs && pairs[2 * count])
        count++;
    return count;
}

char **headers_join(struct config_context *context, char **a, char **b)
{
    size_t count = pair_count(a);
    char **pairs;

    if (pair_count(b) == 0)
        return a;
    pairs = config_alloc(context, (2 * (count + pair_count(b)) + 1) * sizeof(char *));
    if (a)
        memcpy(pairs, a, 2 * count * sizeof(char *));
    for (; *b; b += 2) {
        bool there = false;

        for (size_t i = 0; i < pair_count(a); i++)
            there = there || strcmp(a[2 * i], b[0]) == 0;
        if (there)
            continue;
        pairs[2 * count] = b[0];
        pairs[2 * count++ + 1] = b[1];
    }
    return pairs;
}

/* What the transport itself makes; carried on, it would contradict the request around it. */
static bool header_is_transports(const char *name)
{
    static const char *const names[] = {"host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection",
        "te", "user-agent", "keep-alive", "upgrade", "accept-encoding"};

    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return strncmp(name, "tailrace-", 9) == 0;
}

int forward_headers_add(
    struct config_context *context, const struct config_node *node, const struct config_strings *names, struct config_strings *into)
{
    char **items = config_alloc(context, (into->count + names->count + 1) * sizeof(char *));
    int result = 0;

    if (into->count > 0)
        memcpy(items, into->items, into->count * sizeof(char *));
    into->items = items;
    for (size_t i = 0; i < names->count; i++) {
        char *name = lower_case(context, names->items[i]);
        bool there = false;

        for (size_t j = 0; j < into->count; j++)
            there = there || strcmp(into->items[j], name) == 0;
        if (!header_name_ok(name))
            result = config_error(context, node, NO_HEADER_NAME);
        else if (header_is_transports(name))
            result = config_error(context, node, "`%.60s` belongs to each connection and is not carried on", name);
        else if (!there)
            into->items[into->count++] = name;
    }
    if (into->count > FORWARD_HEADERS_MAX)
        result = config_error(context, node, "%zu headers to carry to the backend, at most %u are", into->count, FORWARD_HEADERS_MAX);
    return result;
}
