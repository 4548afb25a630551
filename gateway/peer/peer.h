/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer: the other gateways.  Mutual TLS 1.3 alone (no older version, no plain text, no resumption);
 * a peer is who its certificate says, and is listened to only when the configuration names it.
 *
 * To each peer there is one *set* of connections or none: one for control (heartbeats, questions)
 * and some *streams* for bulk.  On the streams run *channels*, found by a key that both sides open:
 * messages of one channel arrive whole, once and in order while the set lives; when it is lost
 * every channel is told so, and connected again when there is a new one.  Each channel has a window
 * of its own, so that one whose reader is slow holds up no other.  docs/peer.md has the wire
 * format.
 *
 * Threads.  One loop for control, one for each stream; senders are any thread.  Callbacks of one
 * channel run in one loop, one at a time, and must not block.
 */
#ifndef SLUICE_PEER_H
#define SLUICE_PEER_H

#include "io/io.h"

struct peers;

/* Of one message of a channel, in bytes. */
#define PEER_MESSAGE_MAX ((1u << 20) + (64u << 10))
#define PEER_STREAMS_MAX 16u
#define PEER_WINDOW_MIN (2u << 20)
#define PEER_WINDOW_MAX (256u << 20)
/* Of one question and of its answer. */
#define PEER_QUESTION_MAX (64u << 10)
#define PEER_ANSWER_MAX (1u << 20)

/* --- life ----------------------------------------------------------------------------------- */

struct peers_settings {
    const char *name;                   /* this gateway's; its certificate must have it */
    const char *ca, *certificate, *key; /* PEM files */
    uint64_t heartbeat_ns, timeout_ns;  /* asked that often; lost when silent for so long */
    unsigned streams;                   /* 1..PEER_STREAMS_MAX, of the sets that this side dials */
    uint32_t window_bytes;              /* of each channel */
    uint64_t handshake_ns;              /* a stranger has so long to say who it is; 0: 5 s */
    uint64_t rekey_records;             /* new keys after so many records; 0: 2^23 */
    unsigned lease_waits_most;          /* before a lease, see lease.c; 0: 4096 */
    /* What happened: "connected", "lost", "refused"; any thread; text is one "key:value ..." line.
     */
    void (*notify)(void *context, const char *what, const char *peer, const char *text);
    /* A question of a peer; on a thread of its own, may block.  The answer is malloc'ed. */
    char *(*asked)(void *context, const char *peer, const char *question);
    void *context;
};

/* Strings are copied.  Reads the certificates: -EINVAL with the file that is wrong. */
int peers_create(const struct peers_settings *settings, struct peers **out,
                 struct err *e) MUST_CHECK;
/* Listens at one more address. Blocks. */
int peers_listen(struct peers *peers, const char *host, uint16_t port, const char *text,
                 struct err *e) MUST_CHECK;

struct peer_target {
    const char *name, *host;
    uint16_t port;
};
/* These and no others; sets to those that are gone or have moved are ended.  Dials at once, also
 * where an error of identity had ended all trying. Blocks. */
int peers_configure(struct peers *peers, const struct peer_target *targets, unsigned count,
                    struct err *e) MUST_CHECK;
/* Reads the certificates anew; on an error the old ones stay.  Where they have changed, sets move
 * to connections with the new ones without losing a message. Blocks. */
int peers_renew(struct peers *peers, struct err *e) MUST_CHECK;
/* Says goodbye and ends all sets; channels are told that they are lost.  Nothing can be freed:
 * callers may still be inside. Blocks. */
void peers_stop(struct peers *peers);
/* After peers_stop(), when every channel has been closed and nobody asks. */
void peers_destroy(struct peers *peers);

/* --- channels ------------------------------------------------------------------------------- */

struct peer_channel;
struct peer_channel_handlers {
    void (*connected)(void *context, const char *peer);
    void (*message)(void *context, const void *data, size_t length);
    void (*writable)(void *context);
    void (*lost)(void *context, const char *reason);
    void (*caught_up)(void *context); /* NULL, or as sluice_channel_handlers.caught_up */
};

/* peer NULL: the only one.  key: at most 150 bytes; -EEXIST when it is open to that peer.  Nothing
 * is called before peer_channel_start(). */
int peer_channel_open(struct peers *peers, const char *peer, const char *key,
                      const struct peer_channel_handlers *handlers, void *context,
                      struct peer_channel **out, struct err *e) MUST_CHECK;
void peer_channel_start(struct peer_channel *channel);
/* Copies the message and sends it at once.  0; -EAGAIN: the window is full, writable() will be
 * called; -ENOTCONN; -EMSGSIZE; -ENOMEM. */
int peer_channel_send(struct peer_channel *channel, const void *data, size_t length) MUST_CHECK;
/* The same, but it leaves with what is sent next, or after about a millisecond. */
int peer_channel_send_soon(struct peer_channel *channel, const void *data,
                           size_t length) MUST_CHECK;
/* One message of two pieces, which leaves with the next flush, or what is sent next: so its place
 * is given under a caller's mutex, and it is encrypted and sent without it.  Returns as send. */
int peer_channel_queue(struct peer_channel *channel, const void *head, size_t head_length,
                       const void *data, size_t length) MUST_CHECK;
/* is_soon: after about a millisecond, or with what is sent before. */
void peer_channel_flush(struct peer_channel *channel, bool is_soon);
/* While paused no message() is called; the other side's window fills. */
void peer_channel_pause(struct peer_channel *channel, bool is_paused);
/* No callback runs when it returns, but the one it is called from. */
void peer_channel_close(struct peer_channel *channel);

/* --- questions ------------------------------------------------------------------------------ */

/* One text to a peer and its answer back, on the control connection.  *answer is malloc'ed.  0, or
 * -ENOTCONN, -ETIMEDOUT, -ENOENT (no such peer) with a sentence. Blocks. */
int peers_ask(struct peers *peers, const char *peer, const char *question, uint64_t timeout_ns,
              char **answer, struct err *e) MUST_CHECK;

/* --- looking -------------------------------------------------------------------------------- */

struct peer_view {
    const char *name, *address; /* as configured */
    const char *state;          /* "connected", "dialling", "refused" */
    const char *reason;         /* why it is not connected; "" */
    const char *remote;         /* the other end's address; "" */
    const char *tls;            /* "TLSv1.3 TLS_AES_128_GCM_SHA256"; "" */
    bool is_dialled;            /* by this side */
    unsigned streams, channels, channels_connected;
    uint64_t since_ns, heard_ns;  /* clock_now_ns() scale; 0: never */
    uint64_t round_trip_ns;       /* of the last heartbeat; 0: unknown */
    uint64_t bytes_in, bytes_out; /* of TLS, in this set */
    uint64_t messages_in, messages_out, losses, renewals, rekeys;
    int64_t certificate_end; /* of the peer's: seconds since 1970; 0: unknown */
};
void peers_for_each(struct peers *peers, void (*fn)(const struct peer_view *view, void *arg),
                    void *arg);

/* The first certificate in a PEM file, an X509 of OpenSSL; NULL with the file's name. */
struct x509_st *certificate_file_read(const char *path, struct err *e) MUST_CHECK;
/* When the first certificate in a PEM file ends, in seconds since 1970.  0, or a negative errno
 * with the file's name. */
int certificate_file_end(const char *path, int64_t *end_s, struct err *e) MUST_CHECK;

#endif
