/* Answers of any bytes to a whole look-up, and to one after it: nothing is read past their end, and what comes out is a list of
 * addresses in the one spelling, sorted, each once.
 *
 * The first byte picks the name; then each message stands behind two bytes of length. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/cluster/resolve/dns_lookup.h"
#include "tests/kit/fuzz_piece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const hostnames[] = {"s.x", "s", "_o._t.s", "s.x."};
static const char *const domains[] = {"obs.svc", "svc"};

static void check_list(const struct dns_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        char address[264];

        ASSERT(resolver_address(list->items[i].address, 1, address, sizeof(address)));
        ASSERT(strcmp(address, list->items[i].address) == 0);
        ASSERT(i == 0 || strcmp(list->items[i - 1].address, address) < 0);
    }
}

static void look_up(const char *hostname, struct slice *rest, const struct dns_result *before, struct dns_result *out_result)
{
    struct dns_lookup lookup;
    struct dns_question *question;
    unsigned asked = 0;

    dns_lookup_init(&lookup, hostname, 4317, domains, 2, 1, before && before->sure ? before->chosen : "");
    do {
        while ((question = dns_lookup_next(&lookup))) {
            uint8_t *copy;
            struct slice message;

            if (asked++ > 64)
                continue; /* never answered */
            message = fuzz_piece_take(rest, &copy);
            if (message.len == 1)
                dns_lookup_answer(&lookup, question, DNS_NO_DATA, slice_make(NULL, 0), NULL);
            else
                dns_lookup_answer(&lookup, question, message.len ? DNS_ANSWERED : DNS_FAILED, message, "empty");
            free(copy);
        }
    } while (dns_lookup_more(&lookup));
    dns_lookup_finish(&lookup, before, out_result);
    dns_lookup_deinit(&lookup);
    check_list(&out_result->list);
    ASSERT(out_result->failed || out_result->list.count > 0);
    ASSERT(out_result->confirmed || out_result->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest;
    struct dns_result first, second;
    const char *hostname;

    if (size < 1)
        return 0;
    hostname = hostnames[data[0] % 4];
    rest = slice_make(data + 1, size - 1);
    look_up(hostname, &rest, NULL, &first);
    look_up(hostname, &rest, first.list.count > 0 ? &first : NULL, &second);
    dns_list_deinit(&first.list);
    dns_list_deinit(&second.list);
    return 0;
}
