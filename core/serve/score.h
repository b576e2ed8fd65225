/* score.h — a user, a history and candidates in, the candidates' probabilities of a click out: the one code path of
 * `intent rank score` and of POST /v1/rank.  Knows no HTTP.
 *   struct score_answer a;  score_candidates(&a, tape, gen, &request, &e);     a lives in the tape's arena until its next use
 * The user's values are features of the user, features of items that belong to the request (context = true), and
 * sequences themselves; what is not given counts as missing.  The history's steps are the catalogue's features of its
 * items, oldest first; items that the catalogue lacks are left out.  A candidate that it lacks is scored with missing
 * features, but for the one that is its id.
 * Thread: the tape's owner; the generation is shared. */
#pragma once
#include "core/base/buf.h"
#include "core/serve/gen.h"

struct score_value {
    struct str name, text; /* text: as a table of impressions would have it */
};
struct score_request {
    const struct score_value *value; /* each name once */
    int32_t n_values;
    const struct str *history; /* external ids, oldest first */
    int32_t n_history;
    const struct str *candidate; /* external ids */
    int32_t n_candidates;        /* 1 .. LIMIT_RANK */
    bool strict;                 /* a value of an unknown feature is an error */
};
struct score_answer {
    const float *score; /* [n] probabilities, in the candidates' order */
    int32_t n;
    const int32_t *unknown; /* [n_unknown] places of candidates that the catalogue lacks */
    int32_t n_unknown;
    int32_t received, used, missing, truncated; /* events of the history, as in rec_answer */
    double rank_ms;
};

/* ERR_UNKNOWN_FIELD: no such feature.  ERR_INVALID: a number that is none, both a history and a sequence, a history that
 * the model can't use, or the generation retrieves and does not rank. */
NODISCARD int score_candidates(struct score_answer *a, struct tape *tp, const struct gen *g,
                               const struct score_request *r, struct err *e);
/* {"model", "scores", "unknown", "history", "took_ms"}; took_ms < 0: left out.  No newline. */
void score_reply(struct buf *b, const struct score_answer *a, const struct gen *g,
                 const struct score_request *r, double took_ms);
