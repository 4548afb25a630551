/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h: what the files of the peer room share.
 *
 * Legend: [I] immutable once others can see it; [C] the control loop alone; [L] the connection's
 * own loop alone; [P] under peer.mutex; [O] under wire.out_mutex; [T] under wire.ssl_mutex;
 * [F] whoever flushes (wire.is_flushing); [R] whoever receives: the loop, or who has it on lease
 * (lease.c); [A] atomic.
 * Order: peers.mutex, peer.mutex, wire.out_mutex; ssl_mutex alone, under none of them.  No lock is
 * held across a callback.
 */
#ifndef SLUICE_PEER_INTERNAL_H
#define SLUICE_PEER_INTERNAL_H

#include "frame.h"
#include "io/io.h"
#include "peer/peer.h"

#include <netinet/in.h>
#include <openssl/ssl.h>

#define SECOND_NS UINT64_C(1000000000)
#define STRANGERS_OF_ALL_MAX 64u
#define STRANGERS_OF_ADDRESS_MAX 16u
/* Of ciphertext before we know who it is: a greeting with a chain of certificates is smaller. */
#define STRANGER_BYTES_MAX (64u << 10)
#define LISTENERS_MAX 16u

/* --- TLS ------------------------------------------------------------------------------------ */

/* Certificates as they were read once; shared by the connections that were made with them. */
struct tls {
    SSL_CTX *context;
    _Atomic unsigned references;
    int64_t end;     /* of our certificate: seconds since 1970 */
    uint8_t sum[32]; /* SHA-256 of the files */
};
int tls_read(const struct peers_settings *files, struct tls **out, struct err *e) MUST_CHECK;
struct tls *tls_get(struct tls *tls);
void tls_put(struct tls *tls);
/* 0, or -EKEYREJECTED with whose certificate it is. */
int tls_check_name(SSL *ssl, const char *name, struct err *e) MUST_CHECK;
/* Why the last call on `ssl` failed: -EKEYREJECTED when it is a matter of identity, else -EPROTO,
 * -ECONNRESET. */
int tls_explain(SSL *ssl, int result, struct err *e);
int64_t tls_certificate_end(const X509 *certificate);

/* --- connections ---------------------------------------------------------------------------- */

struct bytes {
    uint8_t *data;
    size_t begin, end, capacity;
};
void bytes_free(struct bytes *b);
/* Room for `more` bytes at the end; moves what is there to the beginning. 0 or -ENOMEM. */
int bytes_reserve(struct bytes *b, size_t more) MUST_CHECK;

struct peer;
struct set;
struct chunk;

/* lease.c */
struct lease {
    _Atomic int receiver;           /* [A] enum receiver: who may receive */
    _Atomic unsigned waiters;       /* [A] threads that wait for something by this connection */
    _Atomic(struct home *) sleeper; /* [A] of the last of them that left the role to the loop */
    _Atomic unsigned alone;         /* [A] waits in a row without another thread's */
    _Atomic unsigned uses;          /* [A] since the timer was set */
    bool is_lent;                   /* [L] the loop does not watch for what comes */
    bool has_timer;                 /* [L] the timer is set, with a reference */
    bool is_of_use;                 /* [L] it has lasted a term in which it was used enough */
    unsigned needed;                /* [L] waits in a row that it takes */
    struct timer timer;             /* [L] */
    struct task back_task;          /* posted by who gives the role to the loop */
    struct bell *bell;              /* [L] until it is lent first, then [I] */
};

enum wire_state {
    WIRE_CONNECTING, /* of TCP */
    WIRE_HANDSHAKE,
    WIRE_GREETING,
    WIRE_PARKED, /* greeted, and not read from until its set is up, or its predecessor is empty */
    WIRE_OPEN,
    WIRE_ENDED
};

struct wire {
    struct peers *peers;            /* [I] */
    struct loop *loop;              /* [C] until it is handed over, then [I] */
    struct home *home;              /* its loop's */
    struct watch watch;             /* [L] */
    enum wire_state state;          /* [L] */
    bool is_accepted;               /* [I] */
    bool is_stranger;               /* [C] counted among those that have not said who they are */
    bool is_waiting;                /* [L] for the socket to take more; the loop flushes then */
    bool is_watched;                /* [L] */
    struct peer *peer;              /* [C] [L] */
    struct set *set;                /* [C] */
    unsigned number;                /* [C] [L] 0 is control, then streams */
    struct list link;               /* [C] peers.wires: every one that has not ended */
    struct timer deadline;          /* [C] of handshake and greeting */
    struct wire *heir;              /* [C] its successor, begun when a SWITCH has come */
    struct wire *heir_here;         /* [L] the same, a reference, until it has begun */
    bool is_leaving;                /* [C] it has a successor */
    bool is_switched_in;            /* [O], written in [L]: SWITCH has come */
    bool is_switched_out;           /* [O] SWITCH is the last that was queued */
    char address[ADDRESS_TEXT_MAX]; /* [I] the other end */
    struct sockaddr_storage other;  /* [I] */
    _Atomic unsigned references;    /* [A] */
    struct task flush_task, end_task, ended_task, start_task;
    struct task soon_task; /* posted, or its timer is set, while is_soon */
    struct timer soon;     /* [L] */
    bool has_soon;         /* [L] the timer is set, with a reference */
    struct lease lease;    /* a stream's */

    pthread_mutex_t ssl_mutex;
    SSL *ssl;             /* [T] */
    struct tls *tls;      /* [I] */
    struct bytes cipher;  /* [T] came, not yet decrypted; recv() writes past its end, by [R] */
    struct bytes fill;    /* [T] encrypted, not yet taken to be sent */
    uint64_t records;     /* [T] written with the present keys */
    struct bytes plain;   /* [R] */
    struct bytes sending; /* [F] */

    pthread_mutex_t out_mutex;
    struct chunk *first, *last, *spare;                         /* [O] */
    size_t queued_bytes;                                        /* [O] */
    bool is_flushing, is_dead, has_waiters, must_push, is_soon; /* [O] */
    _Atomic bool has_failed; /* [A] once: reason and code are set */
    int code;
    char reason[300];
    _Atomic uint64_t bytes_in, bytes_out, rekeys; /* [A] */
};

/* ssl: for one side or the other by is_accepted.  Takes the descriptor, also when it fails. */
struct wire *wire_new(struct peers *peers, int fd, bool is_accepted,
                      const struct sockaddr_storage *other);
struct wire *wire_get(struct wire *c);
void wire_put(struct wire *c);
/* Watches for what its state and is_waiting need. [L] */
int wire_watch(struct wire *c) MUST_CHECK;
/* Begins to watch, in the control loop. connecting: connect() is under way. */
void wire_begin(struct wire *c, bool is_connecting);
/* From any thread; code: a negative errno. Ends it in its loop, once; set_wire_ended() follows. */
void wire_fail(struct wire *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Takes what has arrived. [L] */
void wire_read(struct wire *c);
/* Greeted: stops reading. [C] */
void wire_park(struct wire *c);
/* A parked one goes on, in this loop. [C] */
void wire_open(struct wire *c, struct loop *loop);
/* `next`, parked, goes on where c ends: when a SWITCH has come on c. [C] */
void wire_succeed(struct wire *c, struct wire *next);

/* What a thread takes in, and what of that is sent. */
struct digestion {
    const struct wire *wire;
    struct digestion *outer;     /* of what it is the successor of */
    struct peer_channel *behind; /* were told of messages, and not that these are all */
    bool has_soon, has_now;
};
void digestion_begin(struct digestion *d, const struct wire *c);
/* At its end ch hears that these are all. False: this thread is taking nothing in. [P] of ch */
bool digestion_put_off(struct peer_channel *ch);
/* True: nobody waits for what was queued meanwhile. */
bool digestion_end(const struct digestion *d);
/* Bytes of the socket, past what OpenSSL looks at, then shown to it.  As recv(2). [R] */
ssize_t wire_receive(struct wire *c);
/* One record; 1: decrypted, 0: none is whole, or a negative errno. [R] */
int wire_decrypt(struct wire *c);
/* receive() has returned n, which is an error or the end. */
void wire_fail_receiving(struct wire *c, ssize_t n);
/* Whole records and frames that were received. [R] in its loop */
void wire_digest(struct wire *c);

/* send.c */
/* Queues a frame. 0, -ENOMEM or -ENOTCONN. */
int wire_queue(struct wire *c, enum frame_type type, uint32_t channel, const void *data,
               uint32_t length) MUST_CHECK;
int wire_queue_payload(struct wire *c, enum frame_type type, uint32_t channel,
                       const struct frame_payload *payload) MUST_CHECK;
/* Encrypts and writes what is queued, unless somebody else does already. Any thread. */
void wire_flush(struct wire *c);
/* The same after about a millisecond, unless something is sent before. Any thread. */
void wire_flush_soon(struct wire *c);
/* [L] It ends. */
void wire_forget_soon(struct wire *c);
/* True: this thread is taking in what has come on c, or on its predecessor, and flushes c when it
 * has: about a millisecond later if nothing but what is sent soon was queued. */
bool wire_leaves_later(const struct wire *c, bool is_soon);
/* Both; a connection that cannot take it fails. */
void wire_send(struct wire *c, enum frame_type type, uint32_t channel, const void *data,
               size_t length);
void wire_flush_task(struct task *task);
/* [L] The socket takes more. */
void wire_can_write(struct wire *c);
/* What TLS itself wants to be sent (handshake, key updates, goodbyes). */
void wire_push(struct wire *c);
void wire_free_queue(struct wire *c);
/* Switched both ways and empty: ends it. */
void wire_end_if_switched(struct wire *c);
/* True: too much is queued; wire_drained will tell. [P] */
bool wire_is_full(struct wire *c);

/* lease.c */
/* This thread has sent something on a channel of ours: how it may wait for the answer. */
void lease_expect(struct peer *peer, uint32_t channel);
/* [L] After a read: lends the role of the receiver, if that is worth it. */
void lease_offer(struct wire *c);
/* [L] True: this loop is the receiver. */
bool lease_take_back(struct wire *c);
/* [L] It ends. */
void lease_forget(struct wire *c);

/* --- peers ---------------------------------------------------------------------------------- */

struct stream {
    struct wire *wire; /* [P] NULL: not connected */
};

/* A channel that the other side has opened. */
struct remote_channel {
    struct list link; /* [P] peer.remotes */
    uint32_t number, window_bytes;
    bool is_stale; /* ours was closed since: wait for the other side to open anew */
    char key[PEER_KEY_MAX];
};
#define REMOTES_MAX 8192u

/* A message kept while the channel is paused. */
struct kept {
    struct kept *next;
    uint32_t length;
    uint8_t data[];
};

/* What a message takes of the window. */
#define COST(length) ((uint64_t)(length) + FRAME_HEAD_BYTES)

struct peer_channel {
    struct peer *peer;                     /* [I] */
    struct list link;                      /* [P] peer.channels */
    char key[PEER_KEY_MAX];                /* [I] */
    struct peer_channel_handlers handlers; /* [I] */
    void *context;                         /* [I] */
    struct task tell_task;                 /* posted while is_tell_posted */
    uint32_t number;                       /* [P] ours */
    struct remote_channel *remote;         /* [P] paired */
    struct wire *wire;                     /* [P] while linked: the stream's */
    uint64_t linked, told; /* [P] serial of the link that is; that the handlers know of; 0: none */
    uint64_t credit, consumed; /* [P] bytes we may send; that the other side is not told of */
    bool is_started, is_opened, is_closed, is_paused; /* [P] */
    bool wants_writable, is_tell_posted;              /* [P] */
    bool is_behind;                   /* [P] told of a message, and not that it has caught up */
    bool is_put_off;                  /* [P] in the list of a digestion */
    struct peer_channel *next_behind; /* [P] there */
    unsigned uses;                    /* [P] threads that attend to it */
    bool is_busy;                     /* [P] a callback runs, in busy_thread */
    bool is_orphan;                   /* [P] closed, and freed by the last who knows of it */
    pthread_t busy_thread;
    struct kept *kept_first, *kept_last; /* [P] */
    uint64_t kept_bytes;                 /* [P] */
    char lost_reason[200];               /* [P] */
};

#define DIAL_ADDRESSES_MAX 8u
enum dial_state { DIAL_IDLE, DIAL_WAITING, DIAL_RESOLVING, DIAL_CONNECTING };

/* The connections to a peer, or those that are to become them. [C] */
struct set {
    struct peer *peer;
    uint8_t id[16], boot[16];
    bool is_dialled, is_renewal, is_up;
    unsigned streams, ready; /* ready: greeted streams */
    struct wire *wire[PEER_STREAMS_MAX + 1];
    struct sockaddr_storage address; /* dialled: where the streams go too */
    struct timer tick;               /* of heartbeats, when up; else the deadline */
    uint64_t pinged_ns, probe_ns;
};

struct peer {
    struct list link;         /* under peers.mutex; never freed before peers_destroy() */
    struct peers *peers;      /* [I] */
    char name[PEER_NAME_MAX]; /* [I] */
    bool is_configured;       /* [C] */
    char host[256];           /* [C] */
    uint16_t port;            /* [C] */
    struct set *set;          /* [C] the one in force, or being made */
    struct set *coming;       /* [C] a renewal being made */
    struct {
        enum dial_state state;
        struct timer timer;
        uint64_t pause_ns;
        struct resolution *resolution; /* under way; it looks here when it is back */
        struct sockaddr_storage address[DIAL_ADDRESSES_MAX];
        unsigned count, next;
    } dial;             /* [C] */
    bool wants_renewal; /* [C] the set in force has older certificates than ours */
    bool is_final;      /* [C] an error of identity: no more dialling */
    char said[300];     /* [C] the last reason that was logged */

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* with mutex: a callback has ended; a question was answered */
    bool is_up;             /* [P] */
    unsigned stream_count;  /* [P] */
    struct stream stream[PEER_STREAMS_MAX]; /* [P] */
    struct wire *control;                   /* [P] a reference, while up */
    uint64_t link_serial;                   /* [P] */
    struct list channels, remotes;          /* [P] */
    unsigned remote_count;                  /* [P] */
    struct peer_channel **slot;             /* [P] by number % 65536 */
    unsigned slot_count;                    /* [P] */
    uint32_t next_number;                   /* [P] */
    struct list questions;                  /* [P] */
    uint32_t next_question;                 /* [P] */
    _Atomic unsigned thinkers;
    struct {
        char reason[300], address[320], remote[ADDRESS_TEXT_MAX], tls[80];
        const char *state;
        bool is_dialled;
        uint64_t since_ns, losses, renewals, bytes_in, bytes_out, rekeys;
        int64_t certificate_end;
    } seen; /* [P] for those who look */
    _Atomic uint64_t heard_ns, round_trip_ns, messages_in, messages_out;
};

struct listener {
    struct peers *peers;
    struct watch watch;
    bool is_resting;
    struct timer rest;
    char text[ADDRESS_TEXT_MAX * 4];
};

#define SAID_MAX 64u
struct said {
    char text[200];
    uint64_t at_ns;
};

struct peers {
    struct peers_settings settings;      /* [I] strings owned */
    uint8_t boot[16];                    /* [I] */
    struct loop *loop;                   /* [I] control */
    struct home *home;                   /* [I] */
    struct loop *bulk[PEER_STREAMS_MAX]; /* [I] */
    unsigned bulk_count;                 /* [I] */
    pthread_mutex_t mutex;
    pthread_cond_t done; /* with mutex: a call in the loop has ended; the last job left */
    struct list list;    /* peers; under mutex, written in the control loop */
    struct tls *tls;     /* under mutex */
    unsigned jobs;       /* under mutex: threads and resolvers that will come back */
    struct list wires;   /* [C] */
    struct listener *listener[LISTENERS_MAX]; /* [C] */
    unsigned listener_count;                  /* [C] */
    struct strangers strangers;               /* [C] */
    struct said said[SAID_MAX];               /* [C] */
    bool is_stopping;                         /* [C] */
};

/* peers.c */
struct tls *peers_tls(struct peers *peers);
/* [C] NULL: not configured. */
struct peer *peers_find(struct peers *peers, const char *name);
/* Any thread; for what was configured at some time. NULL with a sentence. */
struct peer *peers_find_any(struct peers *peers, const char *name, struct err *e);
/* [C] One line for what a stranger did, the same one at most once a minute. */
void peers_say_refused(struct peers *peers, const char *who, const char *reason);
void peers_notify(struct peers *peers, const char *what, const char *peer, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Threads that will come back; peers_job_done() is due. */
void peers_job_begin(struct peers *peers);
void peers_job_done(struct peers *peers);

/* accept.c [C] */
int listener_start(struct peers *peers, int fd, const char *text);
void listeners_stop(struct peers *peers);

/* dial.c [C] */
/* Connects to the peer after pause_ns, unless that is under way or pointless.  While a set is up
 * that means its renewal. */
void dial_soon(struct peer *peer, uint64_t pause_ns);
void dial_cancel(struct peer *peer);
/* A connection of a set to its address. 0 or a negative errno. */
int dial_connect(struct set *set, unsigned number) MUST_CHECK;
void dial_failed(struct peer *peer, int code, const char *reason);
void dial_succeeded(struct peer *peer);
/* How long the one that does not win waits for the one that does. */
uint64_t dial_courtesy_ns(const struct peer *peer);

/* set.c [C] */
/* Begins one at this address. 0 or a negative errno. */
int set_dial(struct peer *peer, const struct sockaddr_storage *address) MUST_CHECK;
/* Ends it and all its connections; a set that was up is lost. */
void set_drop(struct set *set, int code, const char *reason);
struct set *set_new(struct peer *peer, bool is_dialled, bool is_renewal);
void set_probe(struct set *set);
/* Of the two that dial each other, this side's connection is kept. */
bool set_is_ours_kept(const struct peer *peer);
/* A frame on the control connection. */
void set_control(struct wire *c, const struct frame *frame);
void set_wire_ended(struct wire *c);
/* greet.c */
void greet_accepted(struct wire *c, const struct frame *frame);
void greet_dialled(struct wire *c, const struct frame *frame);
void greet_begin(struct wire *c);
/* One more connection of the set has been greeted. */
void set_wire_greeted(struct set *set, struct wire *c);

/* channel.c; [R] of the stream */
void channel_frame(struct wire *c, const struct frame *frame);
/* The stream of one of ours, found by its number: a reference, or NULL.  Any thread. */
struct wire *channel_wire(struct peer *peer, uint32_t number);
/* After all that came together, in the thread that took it in. */
void channels_catch_up(struct peer_channel *first);
/* [R] After some of them: sends what they made. */
void channels_flush(struct wire *c, bool is_soon);
/* [C] The set is up: streams are published, channels opened. */
void channels_link(struct peer *peer, struct set *set);
/* [C] */
void channels_unlink(struct peer *peer, const char *reason);
/* [C] From the streams of one set to those of the next. */
void channels_switch(struct peer *peer, struct set *set);
/* Any thread: senders that were told to wait may go on. */
void channels_drained(struct wire *c);

/* ask.c */
void ask_frame(struct wire *c, const struct frame *frame);    /* [C] */
void answer_frame(struct wire *c, const struct frame *frame); /* [C] */
void questions_fail(struct peer *peer, const char *reason);   /* [C] */

#endif
