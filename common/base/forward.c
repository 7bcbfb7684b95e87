#include "common/base/forward.h"

#include <string.h>
#include <strings.h>

bool forward_wants(const struct forward *forward, struct slice name)
{
    for (size_t i = 0; forward && i < forward->count; i++) {
        if (strlen(forward->names[i]) == name.len && strncasecmp(forward->names[i], (const char *)name.at, name.len) == 0)
            return true;
    }
    return false;
}
