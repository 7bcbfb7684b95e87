#include "common/otlp/span_walk.h"
