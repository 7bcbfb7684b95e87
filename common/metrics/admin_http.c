#include "common/metrics/admin_http.h"
