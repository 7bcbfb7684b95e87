/* What the parts of otlp_config.h share: for common/config only, and for the writer of docs/configuration.md. */
#pragma once

#include "common/config/node.h"
#include "common/config/otlp_config.h"

/* -- component.c: IDs and types ------------------------------------------------------------------------- */

enum component_kind { RECEIVER, PROCESSOR, EXPORTER, CONNECTOR, EXTENSION, COMPONENT_KINDS };

/* TYPE or TYPE/NAME; type is the present name of one that has two, shown the one that was written. */
struct component_id {
    char type[72], shown[72];
    const char *whole;
};

/* False: no ID. */
bool component_id_parse(enum component_kind kind, const char *text, struct component_id *out_id);
const char *component_kind_name(enum component_kind kind); /* receiver … */
const char *component_kind_list(enum component_kind kind); /* receivers … */
/* Says why a component of the Collector has no place here and what to do, or what was probably meant by an unknown name.
 * Returns CONFIG_E_INVALID. */
int component_refuse(
    struct config_context *context, const struct config_node *reference, const struct component_id *id, enum component_kind kind,
    const struct otlp_tier *tier);

/* The items of a list, or the one value that stands for a list of one. */
size_t list_count(const struct config_node *list);
const struct config_node *list_at(const struct config_node *list, size_t index);

/* -- security_config.c: TLS, headers -------------------------------------------------------------------- */

int tls_server_read(struct config_context *context, const struct config_node *node, void *out_field); /* const struct tls_options ** */
int tls_grpc_server_read(struct config_context *context, const struct config_node *node, void *out_field); /* of gRPC: its library can do less */
/* Custom readers of headers, as a map or a list of {name, value}; out_field: a char ** of key, value, …, NULL. */
int headers_read(struct config_context *context, const struct config_node *node, void *out_field);
/* One header into pair[0], in lower case, and pair[1]. node: its value; secret, as the key of `headers`. */
int header_read(struct config_context *context, const struct config_node *node, const char *name, char **pair);
/* All pairs of a, then those of b that a has not. NULL and NULL: NULL. */
char **headers_join(struct config_context *context, char **a, char **b);
/* Adds names of headers that are carried to the backend, in lower case, each once. */
int forward_headers_add(
    struct config_context *context, const struct config_node *node, const struct config_strings *names, struct config_strings *into);

/* -- extension_config.c --------------------------------------------------------------------------------- */

int extensions_read(struct config_context *context, const struct otlp_tier *tier, struct otlp_file *file);
/* The authenticator that `auth.authenticator` at node names: a headers_setter, or one that has `auth`. server: it must be able to
 * check clients. */
int authenticator_find(struct config_context *context, const struct otlp_file *file, const struct config_node *node,
    const char *name, bool server, const struct otlp_extension **out_extension);

/* -- processor_config.c --------------------------------------------------------------------------------- */

int batch_processor_read(struct config_context *context, const struct config_node *node, struct batch_processor_config *out_batch);
int memory_limiter_read(
    struct config_context *context, const struct config_node *node, struct memory_limiter_config *out_limiter);

/* -- tables that the page shows ------------------------------------------------------------------------- */

extern const struct config_key tls_server_keys[];
extern const struct config_key otlp_file_keys[], otlp_telemetry_keys[], otlp_pipeline_keys[];
extern const struct config_key otlp_receiver_keys[], otlp_grpc_exporter_keys[], otlp_http_exporter_keys[], debug_exporter_keys[];
extern const struct config_key batch_processor_keys[], memory_limiter_keys[];
extern const struct config_key health_check_keys[], basicauth_keys[], bearertokenauth_keys[], headers_setter_keys[];
/* Structs with the defaults that these tables read over. */
const void *otlp_receiver_defaults(void);
const void *otlp_grpc_exporter_reading_defaults(void);
const void *otlp_http_exporter_reading_defaults(void);
const void *debug_exporter_reading_defaults(void);
extern const struct batch_processor_config batch_processor_defaults;
extern const struct memory_limiter_config memory_limiter_defaults;
extern const struct health_check_config health_check_defaults;
