/* A disk in memory that fails on demand: stands for sampler/journal/journal_disk.c in a test that names memory_disk.c among its sources.
 *
 * A directory is a memory_disk of that name, made before. What is written is seen at once; it survives memory_disk_lose only once
 * it was synced, else by chance, in part, and out of order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/journal/journal_disk.h"

struct memory_disk;

enum memory_operation { DISK_CREATE, DISK_OPEN, DISK_REMOVE, DISK_WRITE, DISK_SYNC, DISK_READ, DISK_HEAD, DISK_LIST, DISK_OPERATIONS };

struct memory_disk *memory_disk_new(const char *directory);
void memory_disk_free(struct memory_disk *disk);

/* From the operation after `good` more of that kind on, `count` of them fail with that errno. A failing write leaves part of it. */
void memory_disk_fail(struct memory_disk *disk, enum memory_operation which, size_t good, size_t count, int error);
/* Nothing has an effect any more, everything fails: the process is dead, its disk is not. */
void memory_disk_freeze(struct memory_disk *disk, bool frozen);
/* The node lost power: unsynced writes are there, gone or torn, as the seed says. */
void memory_disk_lose(struct memory_disk *disk, uint64_t seed);
/* Creating fails with ENOSPC where files would take more together. */
void memory_disk_limit(struct memory_disk *disk, uint64_t bytes);

size_t memory_disk_count(const struct memory_disk *disk, enum memory_operation which);
uint64_t memory_disk_bytes(const struct memory_disk *disk);
size_t memory_disk_files(const struct memory_disk *disk);
/* A file's bytes, to look at and to spoil. NULL: there is none. */
uint8_t *memory_disk_file(struct memory_disk *disk, uint32_t number, uint64_t *out_size);
/* As if somebody had put it there. */
void memory_disk_put(struct memory_disk *disk, uint32_t number, const void *bytes, uint64_t size);
void memory_disk_put_head(struct memory_disk *disk, const void *bytes, size_t len);
