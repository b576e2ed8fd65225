/* pick.h — which of the merged candidates are answered: places that interests are owed, and diversity.
 *   int32_t n = pick(c, n, &(struct pick_cfg){ .limit = 20, .n_lists = 4 }, corpus, arena);
 * Greedy: the next place goes to the candidate with the largest
 *   none        rel(v)
 *   category    rel(v) - strength * (items chosen that share a value of the field with v)        ComiRec, eq. 9
 *   mmr         (1 - strength) rel(v) - strength * max over the chosen u of cos(e_u, e_v)        Carbonell & Goldstein 1998
 * the earlier one on ties; rel is the merged score, scaled so that the best candidate has 1 and the last 0 (all 1
 * where they are equal), so that a strength means the same with every model.  When no more places are left than lists are
 * owed, only candidates of those lists are taken; a list that has no more candidates is owed nothing.
 * Thread: any (pure but for the arena). */
#pragma once
#include "core/serve/merge.h"

enum diversity { DIVERSITY_NONE, DIVERSITY_CATEGORY, DIVERSITY_MMR };
/* With diversity the first so many candidates are looked at; more than `limit` products of these two are not. */
enum { PICK_PRODUCTS = 1 << 20 };

struct pick_cfg {
    int32_t limit;
    const int32_t *owed; /* places by list, summing to at most limit; NULL: none */
    int32_t n_lists;
    enum diversity method;
    float strength; /* [0,1]; 0: pure relevance */
    int32_t field;  /* category: a field of values */
};

/* c [n] in order.  Brings the chosen to the front, in the order of their choice; returns their number.
 * penalty [limit], or NULL: what diversity took from each. */
int32_t pick(struct cand *c, int32_t n, const struct pick_cfg *cfg, const struct corpus *corpus,
             struct arena *a, float *penalty);
/* How many places each list has of limit: `least` each as far as that goes, and of the rest in proportion to weight
 * [n_lists] (>= 0; all equal where they are 0), largest remainders first. */
void pick_quota(int32_t *owed, int32_t n_lists, const float *weight, int32_t least,
                int32_t limit);
