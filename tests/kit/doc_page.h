/* Pages of docs/ that a program makes from tables of the code: written anew, or held against what would be written. */
#pragma once

#include "common/metrics/text.h"

/* The main of such a program: --write FILE or --check FILE. source: what the page must fit, for messages; target: meson's
 * name for writing it anew. Returns the exit status; the page is deinited. */
int doc_page_main(int argc, char **argv, struct text *page, const char *source, const char *target);
