/* A link to nowhere: what is sent is looked at here, and each call ends OK in the worker's next mail. */
#pragma once

#include "common/export/link.h"

struct local_sink {
    void *context;
    void (*take)(void *context, const struct link_message *message); /* NULL: nothing is done with it */
    void (*drop)(void *context);                                     /* after the last take; NULL: nothing to free */
};

/* Always UP. 0 or -ENOMEM; then drop was not called. */
int link_local_new(struct worker *worker, const struct local_sink *sink, struct link **out_link);
