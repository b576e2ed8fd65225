/* http.h — the daemon's listener on libmicrohttpd: threads that read, compute and write.  Each has connections of its own and
 * goes round: read what has come on all of them, compute what waits as one batch (lane.h), write.  So a lone request goes
 * straight through, requests that came during a batch are the next one, nothing is handed from thread to thread, and no more
 * threads can be runnable than there are cores.
 *   struct http *h;  TRY(http_start(&h, app, listen_fd, &e));  http_refuse(h);  http_quiesce(h);  http_stop(h);
 * Thread: owner (main). */
#pragma once
#include "server/app.h"

struct http;
/* Takes listen_fd.  After a failure it is open or closed, as the library left it, and no longer the caller's:
 * closing it again could hit a descriptor of somebody else. */
NODISCARD int http_start(struct http **out, struct app *app, int listen_fd, struct err *e);
/* Takes no new connections from here on: what arrives is left unanswered, and refused once http_quiesce
 * closes the port.  Those whose handshake has begun get through meanwhile. */
void http_refuse(struct http *h);
/* Closes the port, after taking in what the kernel had accepted: those are still served. */
void http_quiesce(struct http *h);
void http_stop(struct http *h); /* closes every connection and the listening socket */
