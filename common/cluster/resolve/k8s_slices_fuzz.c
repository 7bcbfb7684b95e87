/* Any list and any lines of a watch: what cannot be read changes nothing, and what comes out is a list of addresses in the one spelling,
 * sorted, each once.
 *
 * The first byte picks what is wanted; the first line is the list, each further one an event. */
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/cluster/resolve/k8s_slices.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const ports[] = {"otlp", "4317"};

static void check(const struct k8s_slices *slices)
{
    struct k8s_addresses addresses, again;

    ASSERT(k8s_slices_addresses(slices, &addresses) == 0);
    for (size_t i = 0; i < addresses.count; i++) {
        const struct resolved_address *item = &addresses.items[i];
        char address[264];

        ASSERT(resolver_address(item->address, 1, address, sizeof(address)));
        ASSERT(strcmp(address, item->address) == 0);
        ASSERT(i == 0 || strcmp(addresses.items[i - 1].address, item->address) < 0);
        ASSERT(!item->ready || !item->terminating);
    }
    ASSERT(addresses.count > 0 || addresses.trouble[0]);
    ASSERT(k8s_slices_addresses(slices, &again) == 0);
    ASSERT(k8s_addresses_same(&addresses, &again));
    k8s_addresses_deinit(&again);
    k8s_addresses_deinit(&addresses);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct k8s_selection want = {.service = "s", .service_namespace = "n", .ports = ports};
    struct k8s_slices slices;
    bool first = true;

    if (size < 1)
        return 0;
    want.port_count = data[0] % 3;
    want.return_hostnames = data[0] & 4;
    data++;
    size--;
    k8s_slices_init(&slices, &want);
    while (size > 0) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t len = end ? (size_t)(end - data) : size;
        uint8_t *copy = malloc(len + 1); /* so that a read past its end shows */
        size_t had = slices.slice_count, endpoints = slices.endpoint_count;
        char version[K8S_VERSION_SIZE];
        struct k8s_event event;
        struct k8s_status status;
        int r;

        ASSERT(copy != NULL);
        memcpy(copy, data, len);
        r = first ? k8s_slices_list(&slices, slice_make(copy, len), version) : k8s_slices_event(&slices, slice_make(copy, len), &event);
        ASSERT(r >= 0);
        if (r)
            ASSERT(slices.slice_count == had && slices.endpoint_count == endpoints);
        (void)k8s_status_read(slice_make(copy, len), &status);
        free(copy);
        check(&slices);
        first = false;
        data += len + (end ? 1 : 0);
        size -= len + (end ? 1 : 0);
    }
    k8s_slices_deinit(&slices);
    return 0;
}
