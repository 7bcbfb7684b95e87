/* The generated messages of peer.proto, with our warnings off. Initialise with the generated *__init functions:
 * protobuf-c's *__INIT macros cast const away, in our own files. */
#pragma once
#pragma GCC system_header

#include "proto/peer.pb-c.h"
