/* A protobuf message as OTLP/JSON, by protobuf-c's descriptors: for bodies that are encoded once, before anything is timed. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/base/buffer.h"

/* IDs in hex, enums as numbers, 64-bit integers as texts, texts as they are. Aborts when memory is out. */
struct buffer *json_print(const ProtobufCMessage *message);
