/* recommend.h — history in, candidates out; the one code path of `intent recommend` and of the
 * daemon.  Knows no HTTP.
 *   struct rec_worker *w = rec_worker_new();               one per thread
 *   recommend(&answer, w, gen, &request, &e);              answer lives in w until its next use
 * Steps: ids -> rows; encode (newest L events); search every active interest in one call with
 * the excluded rows left out; union of the candidates, each scored exactly against every
 * interest (score = max_k phi_k . e_v, so index type and batch do not change scores); order by
 * score descending, then row.  Nothing usable in the history: the popular items, and the answer
 * says so.
 * Thread: owner of the worker; the generation is shared. */
#pragma once
#include "core/serve/filter.h"
#include "core/serve/gen.h"

enum rec_fallback { REC_FALLBACK_POPULAR, REC_FALLBACK_NONE };
enum rec_unknown { REC_UNKNOWN_IGNORE, REC_UNKNOWN_ERROR };

struct rec_request {
    const struct str *history; /* external ids, oldest first */
    const struct str *exclude; /* external ids never to return; unknown ones are ignored */
    int32_t n_history, n_exclude;
    const struct filter *filter; /* NULL: none */
    int32_t limit;               /* 1 .. LIMIT_RESULTS */
    int32_t interests;           /* most interests to use, by share; 0: all */
    int32_t candidates; /* candidates per interest; 0: 100; at least limit are fetched */
    enum rec_fallback fallback;
    enum rec_unknown unknown;
    bool exclude_seen; /* leave history items out */
    bool explain;
};
void rec_request_defaults(struct rec_request *r); /* limit 20, exclude_seen, popular, ignore */

struct rec_event { /* explain: how much an interest listened to an event */
    int32_t row;
    float weight; /* p(k|i) p_i over the interest's sum */
};
struct rec_interest {
    int32_t index;
    bool active;
    float share; /* of importance */
    float norm;
    const struct rec_event *event; /* explain: at most 10, by weight; else NULL */
    int32_t n_events;
    int32_t fetched; /* candidates it brought */
};
struct rec_item {
    int32_t row;
    float score;
    int32_t interest;         /* argmax; -1: popular fallback */
    int32_t rank_in_interest; /* 1-based among all candidates; explain only */
    const float *by_interest; /* explain: [K] exact scores, else NULL */
};
struct rec_answer {
    const struct rec_item *item;
    int32_t n_items;
    const struct rec_interest *interest;
    int32_t n_interests; /* K; 0 when the history was not encoded */
    int32_t received;    /* events of the request = used + unknown + truncated */
    int32_t used;        /* given to the encoder: the newest L of the known ones */
    int32_t unknown;
    int32_t truncated;    /* beyond LIMIT_HISTORY, or known but older than the newest L */
    const char *fallback; /* NULL or the reason: "empty_history", "all_items_unknown",
                             "no_active_interest" */
    enum rec_fallback fallback_used; /* what served it when fallback is set */
    int32_t fetched, after_dedup;
    double encode_ms, search_ms, merge_ms;
};

struct rec_worker;
struct rec_worker *rec_worker_new(void);
void rec_worker_free(struct rec_worker *w);
/* For what else a request computes (score.h); what a worker's answer lives in is something else. */
struct tape *rec_worker_tape(struct rec_worker *w);
NODISCARD int recommend(struct rec_answer *a, struct rec_worker *w, const struct gen *g,
                        const struct rec_request *r, struct err *e);

/* The vectors alone: phi [K,D], shares [K]; n_used events went in (0: vectors are NULL). */
struct rec_vectors {
    const float *phi, *share;
    int32_t K, D, received, used, unknown, truncated;
};
NODISCARD int rec_encode(struct rec_vectors *v, struct rec_worker *w, const struct gen *g,
                         const struct rec_request *r, struct err *e);
