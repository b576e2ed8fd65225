/* slices.h — where a model is good and where not: metrics by popularity of the answer, length of the history, and
 * whether the answer was there before; and how the lists spread over the catalogue.
 *   struct slices s;  slices_of(&s, &ds, SPLIT_TEST, rank);      rank [n_users] from rank_eval
 * Popularity: items ordered by training events; head are the first that together have a third of the events, tail
 * the last third, with the items that have none.  Length: events up to and with the answer.
 * Thread: any (pure). */
#pragma once
#include "core/eval/rank.h"

#define SLICE_MAP(X)                                                                           \
    X(SLICE_HEAD, "head")                                                                      \
    X(SLICE_MIDDLE, "middle")                                                                  \
    X(SLICE_TAIL, "tail")                                                                      \
    X(SLICE_BELOW_5, "length <5")                                                              \
    X(SLICE_5, "length 5")                                                                     \
    X(SLICE_6_TO_8, "length 6-8")                                                              \
    X(SLICE_ABOVE_8, "length >8")                                                              \
    X(SLICE_NEW, "new")                                                                        \
    X(SLICE_REPEAT, "repeat")

enum slice {
#define SLICE_ENUM_(n, t) n,
    SLICE_MAP(SLICE_ENUM_)
#undef SLICE_ENUM_
        SLICES
};
extern const char *const slice_name[SLICES];

struct slices {
    struct metrics m[SLICES];
    int32_t items[SLICE_TAIL + 1]; /* of head, middle and tail */
};
void slices_of(struct slices *s, const struct dataset *d, enum split split,
               const int64_t *rank);

/* Share of items that were shown at all, and the Gini index of how often (0: all as often, 1: one has all). */
struct spread_out {
    double coverage, gini;
};
struct spread_out spread_of_lists(const int64_t *shown, int32_t n_items);

/* Normalised mutual information of two labellings from their joint counts [R,C]: MI / ((H_r + H_c) / 2); 0 where
 * either has a single label. */
double nmi_of(const int64_t *joint, int32_t R, int32_t C);
