#include "tests/kit/doc_page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
}

static int write_page(const char *path, const struct text *page)
{
    FILE *file = fopen(path, "w");
    size_t written;

    if (!file)
        return fail(path);
    written = fwrite(page->at, 1, page->len, file);
    if (fclose(file) != 0 || written != page->len)
        return fail(path);
    return 0;
}

static int check_page(const char *path, const struct text *page, const char *source, const char *target)
{
    FILE *file = fopen(path, "r");
    char *found = malloc(page->len + 1);
    size_t len;
    int same;

    if (!file || !found) {
        int status = fail(path);

        if (file)
            (void)fclose(file);
        free(found);
        return status;
    }
    len = fread(found, 1, page->len + 1, file);
    (void)fclose(file);
    same = len == page->len && memcmp(found, page->at, len) == 0;
    free(found);
    if (!same)
        fprintf(stderr,
            "%s does not fit %s any more.\n"
            "Write it anew with: meson compile -C <build directory> %s\n",
            path, source, target);
    return !same;
}

int doc_page_main(int argc, char **argv, struct text *page, const char *source, const char *target)
{
    int status = 2;

    if (page->failed) {
        fprintf(stderr, "%s: out of memory\n", argv[0]);
        status = 1;
    } else if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        status = write_page(argv[2], page);
    } else if (argc == 3 && strcmp(argv[1], "--check") == 0) {
        status = check_page(argv[2], page, source, target);
    } else {
        fprintf(stderr, "usage: %s --write|--check FILE\n", argv[0]);
    }
    text_deinit(page);
    return status;
}
