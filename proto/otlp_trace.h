/* The generated messages of otlp_trace.proto, with our warnings off. */
#pragma once
#pragma GCC system_header

#include "proto/otlp_trace.pb-c.h"
