/* conns.h — every open connection: what it waits for and since when.  The HTTP library only times silence;
 * this table also ends bodies that drip in for ever, keeps a place for clients beyond the limit to be told
 * so, knows when a drain is over, and lets a client read its refusal before its socket is closed.
 *   struct conn *c = conns_open(t, fd);      conns_set(c, CONN_BODY) ... conns_close(c)
 *   conns_tick(t, clock_ns());               main, a few times a second
 * Thread: any; one mutex guards everything in it. */
#pragma once
#include "core/base/buf.h"
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct conns;
struct conn;

enum conn_state {
    CONN_WAIT, /* for a request: new, or between two */
    CONN_BODY, /* headers are here, the body is not */
    CONN_BUSY, /* being answered */
    CONN_DEAD, /* timed out: the client has its last word, nothing more may be written */
};

/* The whole HTTP response for a body that timed out; arg is conn_set_arg's. */
typedef void conns_late_fn(struct buf *out, void *arg);

struct conns_cfg {
    int most;         /* connections beyond are `over` */
    uint64_t idle_ns; /* longest CONN_WAIT */
    uint64_t body_ns; /* longest CONN_BODY */
    conns_late_fn *late;
};
enum { CONNS_LINGER = 64 }; /* refused bodies that are read to their end at a time */

struct conns *conns_new(const struct conns_cfg *cfg);
void conns_free(struct conns *t); /* no connection may be open */

struct conn *conns_open(struct conns *t, int fd);
void conns_close(struct conn *c); /* before fd is closed */
/* False when the connection is dead. arg: what the late reply needs, valid until the next state. */
bool conns_set(struct conn *c, enum conn_state state, void *arg);
bool conn_over(const struct conn *c); /* opened beyond the limit */
bool conn_gone(const struct conn *c); /* the client closed it */
/* The reply is sent, the body is not read: goes on reading (and dropping) it for a while after the
 * library closed its descriptor, because closing with unread bytes makes the kernel reset the connection, reply
 * and all. */
void conns_linger(struct conn *c);

/* A whole HTTP response past the library, which is to close the connection then. */
void conns_last_word(struct conn *c, const struct buf *reply);

/* Ends what is overdue, reads what lingers. */
void conns_tick(struct conns *t, uint64_t now_ns);
int conns_pollfds(struct conns *t, struct pollfd *out, int n); /* the lingering ones */
int conns_count(struct conns *t);
/* Connections in CONN_BODY or CONN_BUSY, or that became CONN_WAIT less than grace ago. */
int conns_busy(struct conns *t, uint64_t now_ns, uint64_t grace_ns);
