/* reply.h — an answer as the JSON object of POST /v1/recommend; `intent recommend --json` and
 * the daemon print the same bytes for the same answer.
 *   struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
 *   reply_recommend(&b, &answer, &corpus, &(struct reply_opts){ .took_ms = -1 });
 * Members, in this order: recommendation_id, model, items, history, unknown, fallback,
 * degraded, explain, took_ms.  Items carry "title" when the catalogue has one.  No newline at the end.
 * b->failed says that the reply passed the buffer's cap.  Thread: any (pure). */
#pragma once
#include "core/base/buf.h"
#include "core/serve/recommend.h"

struct reply_opts {
    bool explain;                  /* as the request's */
    bool vectors;                  /* there was no history: the member is left out */
    const char *recommendation_id; /* NULL: the member is left out */
    double took_ms;                /* negative: the member is left out */
};
void reply_recommend(struct buf *b, const struct rec_answer *a, const struct corpus *c,
                     const struct reply_opts *o);

/* A JSON number with at most `digits` (1..9) significant digits, as %.<digits>g prints it up to
 * the last digit of halfway cases; 9 digits give a float back bit for bit.  NaN and infinities,
 * which JSON lacks, become null. */
void reply_num(struct buf *b, double x, int digits);
void reply_int(struct buf *b, int64_t x);
