/* tailrace.cluster and tailrace.journal of a sampler's file: whom it hands traces to, and what outlives it. */
#pragma once

#include "common/config/otlp_config.h"
#include "common/config/resolver_config.h"
#include "sampler/journal/journal.h"

struct sampler_config;

struct cluster_config {
    bool on;                              /* there is a resolver; else standalone, and nothing below counts */
    const char *name;                     /* of the cluster: members of another are refused */
    struct resolver_config resolver;
    struct resolver_config fallback;      /* name NULL: none */
    const char *advertise;                /* host:port at which others reach this one; NULL: found out at start */
    const struct tls_options *tls;        /* NULL: plain text */
    const struct auth_options *auth;      /* how this one shows who it is to the others; NULL: not at all */
    const char *authenticator;            /* as written */
    int64_t status_interval_ns, peer_timeout_ns, handoff_timeout_ns, hello_wait_ns, ack_wait_ns, forward_timeout_ns;
};

struct journal_config {
    const char *directory;                /* NULL: memory only, and nothing below counts */
    enum journal_sync sync;
    int64_t sync_interval_ns;
    uint64_t max_size_bytes, segment_bytes;
    enum journal_on_error on_error;
};

extern const struct config_key cluster_keys[], journal_keys[]; /* of struct sampler_config */
extern const struct cluster_config cluster_defaults;
extern const struct journal_config journal_defaults;

/* After tailrace was read into config. failed: what is missing may have been complained of. 0 or CONFIG_E_INVALID. */
int cluster_config_check(
    struct config_context *context, const struct otlp_file *file, bool failed, struct sampler_config *config);
int journal_config_check(struct config_context *context, const struct otlp_file *file, struct sampler_config *config);
