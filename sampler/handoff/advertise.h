/* Where other samplers reach this one, when the user does not say. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* host:port. endpoint: what the gRPC receiver listens on, in the form host:port; its host counts when it is one address. Else
 * the machine's first address that is up and not loopback (IPv4 before IPv6, link-local ones never); a machine that has none is
 * reached on loopback. False: no room in out_address. */
bool advertise_address(const char *endpoint, int port, char *out_address, size_t size);
