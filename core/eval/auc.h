/* auc.h — area under the ROC curve, whole and by group.
 *   double a = auc(score, label, n), g = auc_grouped(score, label, user, n);
 * AUC = P(score of a positive > score of a negative) + P(equal)/2, in O(n log n).  label >= .5 is positive.
 * Grouped: the mean of the groups' AUCs, each weighted by its number of rows; groups of one class are left out
 * (Zhou et al., KDD 2018).  NaN where there is nothing to compare, or a score is NaN.  Thread: any (pure). */
#pragma once
#include <stdint.h>

double auc(const float *score, const float *label, int64_t n);
double auc_grouped(const float *score, const float *label, const int32_t *group, int64_t n);
/* Mean of -log p of what happened, p = score, kept from 0 and 1 by 1e-7. */
double log_loss(const float *score, const float *label, int64_t n);
