/* Extensions: who may send, how we say who we are, and the health check. None of them is a program of its own here; each is
 * read into what the receivers, exporters and the admin endpoint are told. */
#include <stdio.h>
#include <string.h>

#include "common/base/num.h"
#include "common/config/endpoint.h"
#include "common/config/otlp_parts.h"

/* -- basicauth and bearertokenauth ---------------------------------------------------------------------- */

struct auth_reading {
    struct auth_options options;
    struct config_strings tokens;
    const char *token;
};

#define AUTH_TEXT(field_, name_, help_) CONFIG_KEY_NAMED(struct auth_reading, options.field_, name_, CONFIG_STRING, help_)
#define AUTH_SECRET(field_, name_, type_, help_)                                                                               \
    {.name = name_, .type = type_, .offset = offsetof(struct auth_reading, field_), .help = help_, .secret = true, .set_offset = SIZE_MAX}

static const struct config_key htpasswd_keys[] = {
    AUTH_TEXT(htpasswd_file, "file", "File of lines user:password, as htpasswd writes them."),
    AUTH_SECRET(options.htpasswd_inline, "inline", CONFIG_STRING, "The same as text; both count."),
    {0},
};

static const struct config_key client_auth_keys[] = {
    AUTH_TEXT(client_username, "username", "Who we are."),
    AUTH_SECRET(options.client_password, "password", CONFIG_STRING, "The password that goes with it."),
    AUTH_TEXT(client_username_file, "username_file", "File with the name, read again when it changes; wins over username."),
    AUTH_TEXT(client_password_file, "password_file", "File with the password, read again when it changes; wins over password."),
    {0},
};

const struct config_key basicauth_keys[] = {
    CONFIG_SECTION("htpasswd", htpasswd_keys, "Who may send, for receivers."),
    CONFIG_SECTION("client_auth", client_auth_keys, "Who we are, for exporters."),
    {0},
};

const struct config_key bearertokenauth_keys[] = {
    AUTH_TEXT(header, "header", "Header that carries the token; absent: Authorization."),
    AUTH_TEXT(scheme, "scheme", "Word before the token; absent: Bearer; \"\": none."),
    AUTH_SECRET(token, "token", CONFIG_STRING, "The token."),
    AUTH_SECRET(tokens, "tokens", CONFIG_STRINGS, "Tokens of which each is let in; exporters send the first."),
    AUTH_TEXT(token_file, "filename", "File with a token a line, read again when it changes; wins over token and tokens."),
    {0},
};

static const char *or_null(const char *text)
{
    return text && *text ? text : NULL;
}

static int basicauth_read(struct config_context *context, const struct config_node *node, struct auth_options *out_options)
{
    struct auth_reading reading = {.options = {.kind = AUTH_BASIC}};
    struct auth_options *options = &reading.options;

    if (config_read(context, node, basicauth_keys, &reading))
        return CONFIG_E_INVALID;
    options->htpasswd_file = or_null(options->htpasswd_file);
    options->htpasswd_inline = or_null(options->htpasswd_inline);
    options->client_username_file = or_null(options->client_username_file);
    options->client_password_file = or_null(options->client_password_file);
    if (!options->htpasswd_file && !options->htpasswd_inline && !options->client_username && !options->client_username_file)
        return config_error(context, node, "no credentials: set htpasswd (receivers) or client_auth (exporters)");
    *out_options = *options;
    return 0;
}

static int bearertokenauth_read(struct config_context *context, const struct config_node *node, struct auth_options *out_options)
{
    struct auth_reading reading = {.options = {.kind = AUTH_BEARER, .header = "Authorization", .scheme = "Bearer"}};
    struct auth_options *options = &reading.options;
    const char **tokens;

    if (config_read(context, node, bearertokenauth_keys, &reading))
        return CONFIG_E_INVALID;
    if (!or_null(options->header))
        options->header = "Authorization";
    options->token_file = or_null(options->token_file);
    tokens = config_alloc(context, (reading.tokens.count + 1) * sizeof(*tokens));
    if (or_null(reading.token))
        tokens[options->token_count++] = reading.token;
    for (size_t i = 0; i < reading.tokens.count; i++) {
        if (*reading.tokens.items[i])
            tokens[options->token_count++] = reading.tokens.items[i];
    }
    options->tokens = (const char *const *)tokens;
    if (options->token_count == 0 && !options->token_file)
        return config_error(context, node, "no token: set token, tokens or filename");
    *out_options = *options;
    return 0;
}

/* -- headers_setter ------------------------------------------------------------------------------------- */

struct set_header {
    char *key, *from_context;
    const struct config_node *value;
};

#define OTHER_TOOL "a header is a fixed `value` or one of the client's, `from_context`; remove this key"

static const struct config_key set_header_keys[] = {
    CONFIG_KEY(struct set_header, key, CONFIG_STRING, "Name of the header; required."),
    CONFIG_REFUSE_UNLESS("action", "upsert|insert|", "headers are set, never taken away; use `upsert` or remove this key"),
    CONFIG_KEY(struct set_header, value, CONFIG_NODE, "Its value, a text."),
    CONFIG_KEY(struct set_header, from_context, CONFIG_STRING,
        "Header of the client's request that it is taken from: the same name as `key` (differs from the Collector). It is kept with the "
        "spans and sent on by the exporters that name this extension."),
    CONFIG_REFUSE_UNLESS("default_value", "", OTHER_TOOL),
    CONFIG_REFUSE_UNLESS("from_attribute", "", OTHER_TOOL),
    CONFIG_REFUSE_UNLESS("value_file", "", OTHER_TOOL),
    CONFIG_REFUSE_UNLESS("default_value_file", "", OTHER_TOOL),
    {0},
};

struct headers_setter {
    const struct config_node *headers;
};

const struct config_key headers_setter_keys[] = {
    {.name = "headers", .type = CONFIG_NODE, .offset = offsetof(struct headers_setter, headers), .nested = set_header_keys,
        .help = "What is set, a list.", .set_offset = SIZE_MAX},
    CONFIG_REFUSE("additional_auth", "one authenticator can be used at a time; put its header in as `value`"),
    {0},
};

static int set_header_read(struct config_context *context, const struct config_node *node, struct otlp_file *file,
    struct otlp_extension *extension, char **pair, bool *out_static)
{
    struct set_header header = {0};
    struct config_strings name;

    *out_static = false;
    if (config_read(context, node, set_header_keys, &header))
        return CONFIG_E_INVALID;
    if (!or_null(header.key))
        return config_error(context, node, "key is missing");
    if (!or_null(header.from_context) == !header.value)
        return config_error(context, node, "either value or from_context must be set");
    if (header.value) {
        *out_static = true;
        return header_read(context, header.value, header.key, pair);
    }
    if (strcasecmp(header.key, header.from_context) != 0)
        return config_error(context, config_node_near(node, "from_context"),
            "not supported: a header of another name; a client's header is carried under the name it has, so write the same as `key`");
    name = (struct config_strings){&header.key, 1};
    if (forward_headers_add(context, config_node_near(node, "key"), &name, &extension->forward_headers))
        return CONFIG_E_INVALID;
    return forward_headers_add(context, config_node_near(node, "key"), &name, &file->forward_headers);
}

static int headers_setter_read(struct config_context *context, struct otlp_file *file, struct otlp_extension *extension)
{
    const struct config_node *node = extension->node;
    struct headers_setter setter = {0};
    size_t count = 0;
    int result = config_read(context, node, headers_setter_keys, &setter);
    char **pairs;

    if (result == 0 && config_node_count(setter.headers) == 0)
        return config_error(context, setter.headers ? setter.headers : node, "headers are missing: a list of {key, value} or {key, from_context}");
    if (config_node_count(setter.headers) > OTLP_HEADERS_MAX)
        return config_error(context, setter.headers, "at most %u headers are sent", OTLP_HEADERS_MAX);
    pairs = config_alloc(context, (2 * config_node_count(setter.headers) + 1) * sizeof(char *));
    for (size_t i = 0; i < config_node_count(setter.headers); i++) {
        bool is_static;

        if (set_header_read(context, config_node_at(setter.headers, i), file, extension, &pairs[2 * count], &is_static))
            result = CONFIG_E_INVALID;
        else if (is_static)
            count++;
    }
    pairs[2 * count] = NULL;
    extension->header_pairs = pairs;
    return result;
}

/* -- health_check --------------------------------------------------------------------------------------- */

#define HEALTH_PLAIN "the health check is served as it is; remove this key"

static const struct config_key health_body_keys[] = {
    CONFIG_KEY(struct health_check_config, healthy, CONFIG_STRING, "Body of 200."),
    CONFIG_KEY(struct health_check_config, unhealthy, CONFIG_STRING, "Body of 503."),
    {0},
};

const struct config_key health_check_keys[] = {
    CONFIG_KEY(struct health_check_config, endpoint, CONFIG_STRING,
        "Where it is served, host:port. On the port of tailrace.admin.endpoint, where that is not set, both are served here."),
    CONFIG_KEY(struct health_check_config, path, CONFIG_STRING, "Its path."),
    CONFIG_SECTION("response_body", health_body_keys, "Bodies other than the usual ones."),
    CONFIG_IGNORE("check_collector_pipeline", "it had no effect in the Collector either"),
    CONFIG_REFUSE("tls", "probes are answered in plain text; remove this key"),
    CONFIG_REFUSE("auth", HEALTH_PLAIN),
    CONFIG_REFUSE("cors", HEALTH_PLAIN),
    CONFIG_REFUSE("response_headers", HEALTH_PLAIN),
    CONFIG_REFUSE_UNLESS("transport", "tcp", "Unix sockets are not served; use `tcp` or remove this key"),
    CONFIG_IGNORE_UNLESS("include_metadata", "false", "nothing asks for a probe's metadata"),
    CONFIG_IGNORE("max_request_body_size", "a probe has no body"),
    CONFIG_IGNORE("compression_algorithms", "a probe has no body"),
    CONFIG_IGNORE("read_timeout", "a silent caller is let go after 10s"),
    CONFIG_IGNORE("read_header_timeout", "a silent caller is let go after 10s"),
    CONFIG_IGNORE("write_timeout", "a silent caller is let go after 10s"),
    CONFIG_IGNORE("idle_timeout", "a silent caller is let go after 10s"),
    CONFIG_IGNORE("keep_alives_enabled", "connections are kept while the caller keeps them"),
    {0},
};

const struct health_check_config health_check_defaults = {.endpoint = "localhost:13133", .path = "/"};

static int health_check_read(struct config_context *context, const struct config_node *node, struct otlp_file *file)
{
    struct health_check_config health = health_check_defaults;
    int result;

    if (file->health.endpoint)
        return config_error(context, node, "not supported: a second health_check; remove it from service.extensions");
    result = config_read(context, node, health_check_keys, &health);
    health.endpoint = endpoint_listen(context, config_node_near(node, "endpoint"), health.endpoint);
    if (!health.endpoint)
        result = CONFIG_E_INVALID;
    if (!*health.path)
        health.path = "/";
    if (health.path[0] != '/')
        result = config_error(context, config_node_near(node, "path"), "expected a path that begins with /");
    file->health = health;
    file->health_node = node;
    return result;
}

/* -- service.extensions --------------------------------------------------------------------------------- */

static const struct {
    const char *type, *why;
} ignored[] = {
    {"pprof", "use perf on the process"},
    {"zpages", "/status and /traces/{id} are at tailrace.admin.endpoint"},
    {"memory_ballast", "there is no garbage collector that would need one"},
};

static int extension_read(struct config_context *context, const struct config_node *reference, const struct component_id *id,
    const struct otlp_tier *tier, struct otlp_file *file, struct otlp_extension *extension)
{
    struct auth_options *auth = config_alloc(context, sizeof(*auth));
    int result;

    if (strcmp(id->type, "health_check") == 0) {
        extension->kind = EXTENSION_HEALTH_CHECK;
        return health_check_read(context, extension->node, file);
    }
    if (strcmp(id->type, "headers_setter") == 0) {
        extension->kind = EXTENSION_HEADERS_SETTER;
        return headers_setter_read(context, file, extension);
    }
    if (strcmp(id->type, "basicauth") == 0 || strcmp(id->type, "bearertokenauth") == 0) {
        extension->kind = EXTENSION_AUTH;
        result = id->type[1] == 'a' ? basicauth_read(context, extension->node, auth) : bearertokenauth_read(context, extension->node, auth);
        auth->id = extension->node->key;
        extension->auth = result == 0 ? auth : NULL;
        return result;
    }
    for (size_t i = 0; i < ARRAY_COUNT(ignored); i++) {
        if (strcmp(ignored[i].type, id->type) == 0) {
            extension->kind = EXTENSION_IGNORED;
            config_warn(context, reference, "accepted without effect: %s", ignored[i].why);
            return 0;
        }
    }
    return component_refuse(context, reference, id, EXTENSION, tier);
}

static bool extension_runs(const struct otlp_file *file, const struct config_node *node)
{
    for (size_t i = 0; i < file->extension_count; i++) {
        if (file->extension[i].node == node)
            return true;
    }
    return false;
}

int extensions_read(struct config_context *context, const struct otlp_tier *tier, struct otlp_file *file)
{
    int result = 0;

    if (file->extensions && file->extensions->kind != CONFIG_NODE_MAP && file->extensions->kind != CONFIG_NODE_NULL)
        return config_error(context, file->extensions, "expected a map of components by their IDs");
    for (size_t i = 0; i < list_count(file->service_extensions); i++) {
        const struct config_node *reference = list_at(file->service_extensions, i);
        struct component_id id;
        size_t index;

        if (config_node_kind(reference) != CONFIG_NODE_STRING || !component_id_parse(EXTENSION, config_node_text(reference), &id)) {
            result = config_error(context, reference, "expected the ID of an extension, such as health_check");
            continue;
        }
        index = node_find(file->extensions, id.whole);
        if (index == SIZE_MAX) {
            result = config_error(context, reference, "the extension `%.200s` is not defined under `extensions`", id.whole);
            continue;
        }
        if (file->extension_count == OTLP_EXTENSIONS_MAX || extension_runs(file, file->extensions->items[index])) {
            result = config_error(context, reference, "`%.200s` is here twice", id.whole);
            continue;
        }
        file->extension[file->extension_count].node = file->extensions->items[index];
        if (extension_read(context, reference, &id, tier, file, &file->extension[file->extension_count++]))
            result = CONFIG_E_INVALID;
    }
    for (size_t i = 0; i < config_node_count(file->extensions); i++) {
        const struct config_node *one = file->extensions->items[i];

        if (!extension_runs(file, one))
            config_warn(context, one, "not used: service.extensions does not name it, so it was not read");
    }
    return result;
}

int authenticator_find(struct config_context *context, const struct otlp_file *file, const struct config_node *node,
    const char *name, bool server, const struct otlp_extension **out_extension)
{
    const struct otlp_extension *found = NULL;

    for (size_t i = 0; i < file->extension_count; i++) {
        if (strcmp(file->extension[i].node->key, name) == 0)
            found = &file->extension[i];
    }
    if (!found && node_find(file->extensions, name) != SIZE_MAX)
        return config_error(context, node, "the extension `%.200s` is not in service.extensions", name);
    if (!found)
        return config_error(context, node, "the extension `%.200s` is not defined under `extensions`", name);
    *out_extension = found;
    if (found->kind == EXTENSION_HEADERS_SETTER && !server)
        return 0;
    if (found->kind != EXTENSION_AUTH)
        return config_error(context, node, "the extension `%.200s` %s", name,
            found->kind == EXTENSION_HEADERS_SETTER ? "sets headers of exporters, it cannot check who sends" : "is no authenticator");
    if (!found->auth)
        return CONFIG_E_INVALID; /* that was said */
    if (found->auth->kind == AUTH_BASIC && server && !found->auth->htpasswd_file && !found->auth->htpasswd_inline)
        return config_error(context, node, "the extension `%.200s` has no htpasswd, which tells who may send", name);
    if (found->auth->kind == AUTH_BASIC && !server && !found->auth->client_username && !found->auth->client_username_file)
        return config_error(context, node, "the extension `%.200s` has no client_auth, which tells who we are", name);
    return 0;
}
