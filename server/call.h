/* call.h — one request on its way through the daemon, HTTP library left out: what was asked, the body so far, the
 * reply.  Its memory is the request lifetime: taken from a pool when the headers are complete, recycled by
 * the last of its two holders, the request and the reply that is being sent from `out`.
 *   struct call *c = call_take(app, conn);  call_begin(c, &head);  call_body(c, data, n) ...;  call_run(c);
 *   call_hold(c);  (reply queued)  call_drop(c) twice
 * Thread: owner; hold and drop: any. */
#pragma once
#include "core/base/arena.h"
#include "core/serve/score.h"
#include "server/app.h"
#include "server/fault.h"
#include "server/req.h"
#include "server/routes.h"

struct call_head {             /* the request line and the headers, as text; NULL: not sent */
    const char *method, *path; /* path: decoded, without the query */
    const char *strict, *verbose, *model; /* query arguments; NULL: absent */
    const char *request_id, *accept, *content_type, *content_encoding, *content_length,
        *transfer_encoding, *expect, *timeout_ms;
};

struct call {
    /* set by call_begin */
    struct app *app;
    struct conn *conn;
    const struct route *route;
    enum metrics_method method;
    const char *path, *tail; /* tail: what a prefix route leaves of the path */
    const char *model;       /* the query's; NULL: none */
    char id[132];
    bool strict, verbose;
    bool has_body;
    bool early; /* reply at once, read no body; the connection closes */
    uint64_t start_ns;
    uint64_t deadline_ns; /* 0: none */

    struct arena *arena;
    struct buf body;
    size_t nb_body;    /* received, kept or not */
    size_t nb_counted; /* in app->body_bytes */

    /* what is to be computed, set by the route; the lane then has it done */
    struct gen *gen;        /* references, for corpus */
    struct live_view *view; /* NULL: a rank model */
    struct corpus corpus;
    struct req_recommend *req; /* [n_jobs] */
    struct rec_job *job;       /* [n_jobs] users */
    int32_t n_jobs;
    const struct score_request *score; /* instead of jobs */
    struct score_answer scores;
    uint64_t queued_ns;
    double parse_ms;
    void *connection; /* of the HTTP library, while it waits */
    void *loop;       /* and the thread it is to wake (http.c), while it is with the writer */
    bool writing;     /* with the writer, or back from it */
    bool served;      /* by its lane */

    /* the reply */
    struct err fail; /* code set: a problem is the reply */
    struct faults faults;
    int status;
    int retry_after_ms; /* 0: a second, where there is any */
    int retry_after_s;
    const char *type, *allow;
    char model_version[300];
    struct buf timing, out;
    bool replied;

    struct call *next; /* in the pool, or that waits */
    atomic_int holders;
};

struct calls;
struct calls *calls_new(void);
void calls_free(struct calls *pool); /* every call must have come back */

struct call *call_take(struct app *app, struct conn *conn); /* one holder */
void call_hold(struct call *c);
void call_drop(struct call *c);

/* Route, method, negotiation, size: what is wrong already is remembered in c->fail. */
void call_begin(struct call *c, const struct call_head *h);
/* False: this client sends without end, cut it off. */
bool call_body(struct call *c, const char *data, size_t n);
/* Handles the request, or writes the problem: status, type and out are set afterwards.  True: it is parsed, but what it
 * asks for is yet to be computed (lane.h), and then call_finish writes the reply. */
bool call_run(struct call *c);
void call_finish(struct call *c);
/* The first failure stands. */
void call_fail(struct call *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A problem as a whole HTTP response, where the library cannot send one. */
void call_write_whole(struct buf *out, const struct call *c, int code, const char *detail);
/* conns_late_fn: 408 in that way. */
void call_write_late(struct buf *out, void *call);
bool call_closes(const struct call *c); /* the reply carries Connection: close */
