#include "common/ingest/receiver.h"
