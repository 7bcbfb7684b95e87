/* The inside of a struct tls: for tls.c, tls_grpc.c and tls_curl.c only. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/security/tls.h"
#include "common/security/tls_material.h"
#include "common/security/tls_names.h"
#include "common/security/watched_file.h"

struct tls_set { /* immutable but for its count */
    atomic_uint refs;
    unsigned generation;
    struct tls_material *material;
    struct ssl_ctx_st *ctx;
};

struct tls {
    struct tls_options options; /* names and lists are in `names` */
    struct tls_names names;
    bool server, out_of_memory;
    char *copies[8]; /* of the options' texts */
    unsigned copy_count;
    struct file_watch watch;      /* control thread */
    pthread_mutex_t lock;         /* current */
    struct tls_set *current;
    atomic_uint generation;       /* current's, to be read without the lock */
    atomic_uint refs;             /* the owner's, and one a gRPC server's credentials */
};

struct tls_set *tls_set_ref(struct tls *tls);
void tls_set_unref(struct tls_set *set);
struct tls *tls_ref(struct tls *tls); /* tls_free lets go of one */
/* tls_grpc.c: the process's one list of suites. 0, or 1 with the reason. */
int tls_grpc_ciphers(const char *ciphers, char *out_error, size_t error_size);
