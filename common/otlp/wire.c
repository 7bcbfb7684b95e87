#include "common/otlp/wire.h"
