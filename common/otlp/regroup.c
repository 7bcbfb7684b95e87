#include "common/otlp/regroup.h"
