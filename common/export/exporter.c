#include "common/export/exporter.h"
