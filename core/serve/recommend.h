/* recommend.h — histories in, candidates out; the one code path of `intent recommend` and of the
 * daemon.  Knows no HTTP.
 *   struct rec_worker *w = rec_worker_new();               one per thread
 *   recommend(&answer, w, &corpus, &request, &e);          one request
 *   rec_run(w, &corpus, jobs, n);                          several at once, in one packed batch
 * Answers live in w until its next use.  Steps: ids -> rows; encode (newest L events); search every active interest of every
 * request, without the excluded rows and those that the filter leaves out; merge (merge.h); pick (pick.h).  Nothing usable in
 * the history: the popular items, and the answer says so.
 * Scores are products of one kernel, one at a time: lists and scores are the same whatever else is in the batch.
 * Thread: owner of the worker; the corpus is shared. */
#pragma once
#include "core/serve/corpus.h"
#include "core/serve/filter.h"
#include "core/serve/pick.h"

enum rec_source {
    REC_HISTORY, /* a user's events, to be encoded */
    REC_VECTORS, /* queries as they are */
    REC_ITEMS    /* the vectors of the items in `history` */
};
enum rec_fallback {
    REC_FALLBACK_WITHIN,  /* popular items that pass the filter, perhaps none */
    REC_FALLBACK_POPULAR, /* as WITHIN; where that leaves none, popular items of all */
    REC_FALLBACK_NONE
};
enum rec_unknown { REC_UNKNOWN_IGNORE, REC_UNKNOWN_ERROR };

struct rec_request {
    enum rec_source source;
    int32_t limit;             /* 1 .. LIMIT_RESULTS */
    const struct str *history; /* external ids, oldest first */
    const float *vectors;      /* REC_VECTORS: [n_vectors,D], 1 .. LIMIT_INTERESTS */
    const struct str *exclude; /* external ids never to return; unknown ones are ignored */
    const struct str *lists; /* names of blocklists; those that there are not exclude nothing */
    int32_t n_history, n_vectors, n_exclude, n_lists;
    const struct filter *filter; /* NULL: none */
    int32_t interests;           /* most interests to use, by share; 0: all */
    int32_t
        candidates; /* per interest, at least limit; 0: limit where only the best are looked at, else 100 */
    enum merge_how merge;
    float rrf_k; /* 0: 60 */
    const float *
        weights; /* rrf: of each interest, vector or item of the request, [n_weights]; NULL: ones */
    int32_t n_weights;
    int32_t
        min_per_interest; /* places that each active interest has at least, as far as limit goes */
    enum diversity diversity;
    float strength;             /* of diversity, 0 .. 1 */
    struct str diversity_field; /* of category; len 0: "category" */
    enum rec_fallback fallback;
    enum rec_unknown unknown;
    bool exclude_seen; /* leave history items out */
    bool explain;
    bool encode_only; /* vectors and shares, nothing is searched */
    bool exact;       /* search by an exact scan */
    bool whole;       /* past the deadline: ERR_DEADLINE instead of a part of the answer */
    bool has_seed;    /* of the popular items: */
    int32_t
        hurry;  /* others wait: one in so many interests will do, the most important; 0: all */
    int32_t ef; /* HNSW's width of search; 0: the index's own */
    int32_t nprobe; /* IVF's lists to visit; 0: the index's own */
    uint64_t seed;
    uint64_t deadline_ns; /* clock_ns() to be done by; 0: none */
};
/* limit 20, exclude_seen, strength .5, within, ignore */
void rec_request_defaults(struct rec_request *r);

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
    int32_t interest;         /* it counts for (merge.h); -1: popular fallback */
    int32_t rank_in_interest; /* 1-based among all candidates; explain only */
    float penalty;            /* taken by diversity, of the scaled score */
    const float *by_interest; /* explain: [K] exact scores, else NULL */
};
struct rec_plan {                 /* how the candidates were found */
    const char *mode;             /* ann.h's word; NULL: nothing was searched */
    double selectivity;           /* of the filter and what changed, 1 without */
    int32_t fetched, after_dedup; /* -1: not counted, only the best were merged */
};
struct rec_degraded {
    const char *reason;      /* "deadline", "load"; NULL: the answer is whole */
    double coverage;         /* part of the active interests that was searched */
    const int32_t *interest; /* [n_interests] those that were not */
    int32_t n_interests;
    bool encode, diversity; /* skipped as well */
};
struct rec_answer {
    const struct rec_item *item;
    int32_t n_items;
    const struct rec_interest *interest;
    int32_t n_interests; /* K; 0 when the history was not encoded */
    const float *phi;    /* [n_interests,D] */
    int32_t received;    /* events of the request = used + unknown + truncated */
    int32_t used;        /* given to the encoder: the newest L of the known ones */
    int32_t unknown;
    const struct str *unknown_item; /* REC_ITEMS: [unknown] those of the request, else NULL */
    int32_t truncated;         /* beyond LIMIT_HISTORY, or known but older than the newest L */
    const char *fallback;      /* NULL or the reason: "empty_history", "all_items_unknown",
                             "no_active_interest", "filtered_out", "deadline" */
    const char *fallback_used; /* "popular", "popular_within_filter", "none" */
    struct rec_plan plan;
    struct rec_degraded degraded;
    double encode_ms, search_ms, merge_ms; /* of the whole batch that it was in */
    int32_t batch;                         /* rows of that batch */
};

struct rec_job {
    const struct rec_request *request;
    struct rec_answer answer;
    struct err err;     /* code 0: answered */
    const char *member; /* that err is about, as a JSON pointer; NULL: none in particular */
    bool in_filter;     /* err is about a clause of the filter: */
    struct filter_fault where;
};

struct rec_worker;
struct rec_worker *rec_worker_new(void);
void rec_worker_free(struct rec_worker *w);
/* For what else a request computes (score.h); what a worker's answer lives in is something else. */
struct tape *rec_worker_tape(struct rec_worker *w);

/* Answers every job, each on its own: an error of one is no other's. */
void rec_run(struct rec_worker *w, const struct corpus *c, struct rec_job *const *job,
             int32_t n);
/* One of them. */
NODISCARD int recommend(struct rec_answer *a, struct rec_worker *w, const struct corpus *c,
                        const struct rec_request *r, struct err *e);
