/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * strangers.h: connections that have not said who they are yet, counted by address, so that neither
 * one host nor all of them take what those need who have.  And an address as text.
 *
 * Not thread safe: the owner serialises.
 */
#ifndef SLUICE_IO_STRANGERS_H
#define SLUICE_IO_STRANGERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct stranger {
    uint8_t address[16]; /* IPv4 in the first four */
    unsigned count;
};

#define STRANGERS_MAX 1024u
struct strangers {
    unsigned max, max_of_address; /* set by the owner; STRANGERS_MAX at most */
    unsigned all, count;          /* connections; rows in use */
    struct stranger rows[STRANGERS_MAX];
};

/* False: there are as many as may be, of its address or in all. */
bool strangers_enter(struct strangers *s, const struct sockaddr_storage *who);
/* Once for each that was let in. */
void strangers_leave(struct strangers *s, const struct sockaddr_storage *who);

#define ADDRESS_TEXT_MAX 80u
/* "192.0.2.1:3260" or "[2001:db8::1]:3260"; an IPv4 peer of an IPv6 listener as what it is. */
void address_text(const struct sockaddr_storage *sa, char *out, size_t size);

#endif
