/* The generated messages of peer.proto, with our warnings off: protobuf-c's initialisers cast const away. */
#pragma once
#pragma GCC system_header

#include "proto/peer.pb-c.h"
