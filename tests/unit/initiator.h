/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * initiator.h: libiscsi for tests that also include the target's own headers, whose names clash
 * with the library's.  One session of one LUN with sectors of 512 bytes, used by one thread; no
 * command is repeated, and none waits longer than half a minute.
 */
#ifndef SLUICE_TEST_INITIATOR_H
#define SLUICE_TEST_INITIATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct initiator;

/* port: of the initiator, the qualifier of its ISID. NULL: it was not let in. */
struct initiator *initiator_login(const char *name, uint16_t port, const char *target,
                                  const char *portal, unsigned lun, bool has_digest);
void initiator_logout(struct initiator *i);
void initiator_drop(struct initiator *i);
bool initiator_write(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes);
bool initiator_read(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes);
bool initiator_inquire(struct initiator *i, uint8_t page, uint8_t *data, uint8_t bytes);
bool initiator_copy(struct initiator *i, uint8_t *list, size_t bytes);
void initiator_reset(struct initiator *i); /* the logical unit */
/* Sends as many writes of that data, side by side, as the socket takes, then breaks the connection.
 */
void initiator_break_off(struct initiator *i, uint64_t lba, uint8_t *data, uint32_t bytes,
                         unsigned writes);

#endif
