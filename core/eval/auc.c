#include "core/eval/auc.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

struct scored {
    int32_t group;
    float score;
    bool positive;
};

static int by_group_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return (x->score > y->score) - (x->score < y->score);
}

/* Of n rows by score.  A positive counts the negatives below it, and half of those beside it. */
static double area(const struct scored *x, int64_t n)
{
    double negatives = 0, positives = 0, wins = 0;
    for (int64_t i = 0; i < n;) {
        double p = 0, q = 0; /* of the rows that tie */
        for (float s = x[i].score; i < n && x[i].score == s; i++) {
            p += x[i].positive;
            q += !x[i].positive;
        }
        wins += p * (negatives + q / 2);
        positives += p;
        negatives += q;
    }
    return wins / (positives * negatives); /* NaN for one class */
}

static struct scored *sorted(const float *score, const float *label, const int32_t *group,
                             int64_t n)
{
    struct scored *x = xcalloc((size_t)n + 1, sizeof *x);
    bool bad = false;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (struct scored){ group ? group[i] : 0, score[i], label[i] >= 0.5f };
        bad |= isnan(score[i]);
    }
    qsort(x, (size_t)n, sizeof *x, by_group_score);
    if (!bad) return x;
    free(x);
    return NULL;
}

double auc(const float *score, const float *label, int64_t n)
{
    struct scored *x = sorted(score, label, NULL, n);
    double a = x ? area(x, n) : (double)NAN;
    free(x);
    return a;
}

double auc_grouped(const float *score, const float *label, const int32_t *group, int64_t n)
{
    struct scored *x = sorted(score, label, group, n);
    double sum = 0, weight = 0;
    for (int64_t i = 0, end; x && i < n; i = end) {
        for (end = i; end < n && x[end].group == x[i].group;) end++;
        const double a = area(x + i, end - i), w = (double)(end - i);
        if (isnan(a)) continue;
        sum += w * a;
        weight += w;
    }
    free(x);
    return sum / weight;
}

double log_loss(const float *score, const float *label, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double p = fmin(fmax((double)score[i], 1e-7), 1 - 1e-7), l = (double)label[i];
        sum -= l * log(p) + (1 - l) * log(1 - p);
    }
    return sum / (double)n;
}
