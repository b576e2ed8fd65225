/* lane.h — requests that wait for a thread, and their answers: whatever waits is encoded and searched as one packed
 * batch, as soon as the thread is free.  A lone request is a batch of one: nobody waits for company.
 *   struct lane *b = lane_new(app, &cfg);                                          one per serving thread
 *   if (lane_admit(b, c, n)) lane_add(b, c);    then    for (done = lane_serve(b); done; done = done->next) ...
 * What is counted is rows (users), not requests: a batch request of 100 weighs as much as 100 requests.
 * Thread: owner. */
#pragma once
#include "server/call.h"

struct lane;
struct lane_cfg {
    int32_t queue_rows; /* most rows that wait */
    double
        queue_ms; /* most time that the last of them may have to, by what others cost; 0: any */
    bool
        degrade; /* when more than 1/2 of either waits behind a request, half of its interests are searched, 3/4: one */
    int32_t batch_rows; /* most rows of a batch (a request of more is not split) */
};
struct lane *lane_new(struct app *app, const struct lane_cfg *cfg);
void lane_free(struct lane *b); /* nothing may wait */

/* False: the queue is full, and c fails with ERR_OVERLOADED and the time after which there will be room.  Rows: 0 while
 * the body is not parsed. */
bool lane_admit(struct lane *b, struct call *c, int32_t rows);
void lane_add(struct lane *b, struct call *c); /* parsed: c->n_jobs, or c->score */
bool lane_waits(const struct lane *b);
/* Answers some of those that wait, oldest first: their replies are written.  Linked by `next`. */
struct call *lane_serve(struct lane *b);
