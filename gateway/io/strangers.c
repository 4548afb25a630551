/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * strangers.c: a row for each address that has a connection, in no order; the last one takes the
 * place of one that is free.
 */
#include "io/io.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void address_of(const struct sockaddr_storage *sa, uint8_t out[16])
{
    memset(out, 0, 16);
    if (sa->ss_family == AF_INET)
        memcpy(out, &((const struct sockaddr_in *)sa)->sin_addr, 4);
    else if (sa->ss_family == AF_INET6)
        memcpy(out, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
}

/* Of this address; NULL: it has none. */
static struct stranger *find(struct strangers *s, const uint8_t address[16])
{
    for (unsigned i = 0; i < s->count; i++)
        if (memcmp(s->rows[i].address, address, 16) == 0)
            return &s->rows[i];
    return NULL;
}

bool strangers_enter(struct strangers *s, const struct sockaddr_storage *who)
{
    uint8_t address[16];
    struct stranger *row;

    address_of(who, address);
    row = find(s, address);
    if (s->all >= s->max || (row && row->count >= s->max_of_address))
        return false;
    if (!row) {
        row = &s->rows[s->count++];
        memcpy(row->address, address, sizeof row->address);
        row->count = 0;
    }
    row->count++;
    s->all++;
    return true;
}

void strangers_leave(struct strangers *s, const struct sockaddr_storage *who)
{
    uint8_t address[16];
    struct stranger *row;

    address_of(who, address);
    row = find(s, address);
    if (!row)
        return;
    s->all--;
    if (--row->count == 0)
        *row = s->rows[--s->count];
}

void address_text(const struct sockaddr_storage *sa, char *out, size_t size)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    socklen_t length =
        sa->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    const char *shown = host;

    if (getnameinfo((const struct sockaddr *)sa, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, size, "unknown");
        return;
    }
    if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.'))
        shown = host + 7;
    snprintf(out, size, strchr(shown, ':') ? "[%.45s]:%s" : "%.45s:%s", shown, port);
}
