#include "common/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "assert_failed file=%s line=%d condition=\"%s\"\n", file, line, what);
    abort();
}
