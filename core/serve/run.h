/* run.h — one request under way: what the steps of rec_run hand on.  Private to core/serve.
 * Everything lives in the worker's request arena.  Thread: owner of the worker. */
#pragma once
#include "core/nn/model.h"
#include "core/serve/filter_cache.h"
#include "core/serve/recommend.h"
#include "core/serve/rowset.h"

struct run {
    const struct corpus *c;
    const struct rec_request *r;
    struct rec_answer *a;
    struct arena *mem;
    bool done;  /* answered, or failed */
    bool heads; /* the answer is the best of its lists' heads: merge_cfg.best */
    bool holds_filter;

    const int32_t *row;   /* known events, oldest first; REC_ITEMS: every item, -1: unknown */
    int32_t n_rows, used; /* the newest `used` of the known are encoded */
    const int32_t *seen;  /* [n_seen] rows of the history's items, the delta's too */
    int32_t n_seen;
    struct rowset drop; /* rows never to return */
    int32_t n_drop;
    const uint64_t *allow; /* rows of the base that may be returned, as a bitmap; NULL: all */
    int32_t n_allow;
    struct filter_held filter; /* from run_allow to run_release, when */
    uint64_t *own_allow;       /* allow, once it is a copy of this request, which may change */
    const uint64_t *delta_allow; /* the same of the delta */
    int32_t n_delta_allow, n_blocked;
    const struct live_list **blocked; /* [n_blocked] blocklists of the request that there are */

    int32_t K, D, field;           /* field: of diversity */
    const float *phi, *share;      /* [K,D], [K] */
    const float *assign, *weight;  /* [used,K], [used]; NULL where the head has none */
    struct rec_interest *interest; /* [K] */
    int32_t *active, n_active;     /* by index */
    const float *query;            /* [n_active,D] */
    struct list *list;             /* [n_active] */
};

/* history.c: ids to rows, and the rows that may be returned. */
NODISCARD int run_read_history(struct run *x, struct err *e);
void run_collect_dropped(struct run *x);
/* What filter and changes leave, before anything is dropped. */
NODISCARD int run_allow(struct run *x, struct filter_fault *where, bool *in_filter,
                        struct err *e);
/* After both: what would be left without the filter. */
void run_lift_filter(struct run *x);
void run_release(struct run *x);

void run_own_allow(struct run *x);
void run_disallow(struct run *x, int32_t row); /* of the base; after run_own_allow */

/* interests.c: the vectors of all runs that have a history to encode, in one packed batch. */
bool run_is_encoded(const struct run *x);
void run_encode(struct run *x, int32_t n, struct tape *tp);
NODISCARD int run_choose_interests(struct run *x, struct err *e);
void run_use_fewer(struct run *x, int32_t n_active); /* the most important ones */
void run_explain_events(struct run *x);

/* retrieve.c: the lists of all runs that are not done. */
NODISCARD int run_retrieve(struct run *x, int32_t n, struct err *e);
