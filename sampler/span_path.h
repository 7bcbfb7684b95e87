/* The way in of the back tier: one request's spans into their traces. */
#pragma once

struct request;

/* tier: the struct sampler. Runs on the worker that received the request; common/ingest calls it. */
void sampler_on_request(void *tier, struct request *request);
