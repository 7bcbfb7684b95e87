#include "common/otlp/span_view.h"
