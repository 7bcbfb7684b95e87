/* The journal's directory: files by number, a small head file, one owner.
 *
 * The only part of the journal that touches a disk; the simulator has its own. Whole or failed: a write that got short is an error,
 * and what it left behind is anything. Written bytes survive a crash of the process; of the node once journal_file_sync was done,
 * for new files also journal_disk_sync_names. Return 0 or -errno unless said otherwise. A file is used by one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/base/slice.h"

#define JOURNAL_HEAD_NAME "journal" /* a directory with this file holds a journal */

struct journal_disk;
struct journal_file;

/* Makes the directory if it is missing and locks it. -EWOULDBLOCK: another process has it. */
int journal_disk_open(const char *directory, struct journal_disk **out_disk);
/* Unlocks. Every file is closed. Accepts NULL. */
void journal_disk_close(struct journal_disk *disk);
CLEANUP_DEFINE(struct journal_disk, journal_disk_close);

/* The head: a small file that is there whole or not at all, replaced at once and durably. *out_len: 0 where there is none. */
int journal_disk_read_head(struct journal_disk *disk, uint8_t *bytes, size_t capacity, size_t *out_len);
int journal_disk_write_head(struct journal_disk *disk, struct slice bytes);

/* Calls for each file that is there, in order of number. What is not one of ours is passed over. A file whose size cannot be
 * learned is named with size 0. */
int journal_disk_list(struct journal_disk *disk, void (*visit)(void *context, uint32_t number, uint64_t size_bytes), void *context);
/* A file of zeros, its space taken (-ENOSPC comes here, if it can). It must not exist. */
int journal_disk_create(struct journal_disk *disk, uint32_t number, uint64_t size_bytes, struct journal_file **out_file);
int journal_disk_open_file(struct journal_disk *disk, uint32_t number, struct journal_file **out_file);
int journal_disk_remove(struct journal_disk *disk, uint32_t number);
int journal_disk_sync_names(struct journal_disk *disk); /* files made and removed */

/* The parts one behind the other, from offset on. */
int journal_file_write(struct journal_file *file, uint64_t offset, const struct slice *parts, size_t count);
int journal_file_sync(struct journal_file *file);
/* *out_len is less than len at the end of the file only. */
int journal_file_read(struct journal_file *file, uint64_t offset, uint8_t *bytes, size_t len, size_t *out_len);
void journal_file_close(struct journal_file *file); /* accepts NULL */
