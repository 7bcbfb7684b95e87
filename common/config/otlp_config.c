#include "common/config/otlp_config.h"
