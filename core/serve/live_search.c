#include "core/num/num.h"
#include "core/serve/live.h"

/* A query's best so far: a heap whose root is the one that comes last. */
struct best {
    int32_t *id;
    float *score;
    int32_t n, k;
};

static bool before(const struct best *b, int32_t i, int32_t j)
{
    return b->score[i] > b->score[j] || (b->score[i] == b->score[j] && b->id[i] < b->id[j]);
}

static void swap(struct best *b, int32_t i, int32_t j)
{
    const int32_t id = b->id[i];
    const float score = b->score[i];
    b->id[i] = b->id[j];
    b->score[i] = b->score[j];
    b->id[j] = id;
    b->score[j] = score;
}

static void sift(struct best *b, int32_t n, int32_t i)
{
    for (;;) {
        int32_t last = i;
        for (int32_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (before(b, last, child)) last = child;
        if (last == i) return;
        swap(b, i, last);
        i = last;
    }
}

/* Into a heap that is not full. */
static void add(struct best *b, int32_t id, float score)
{
    int32_t i = b->n++;
    b->id[i] = id;
    b->score[i] = score;
    for (; i > 0 && before(b, (i - 1) / 2, i); i = (i - 1) / 2) swap(b, i, (i - 1) / 2);
}

static void replace_root(struct best *b, int32_t id, float score)
{
    b->id[0] = id;
    b->score[0] = score;
    sift(b, b->n, 0);
}

static void finish(struct best *b)
{
    for (int32_t n = b->n - 1; n > 0; n--) {
        swap(b, 0, n);
        sift(b, n, 0);
    }
    for (int32_t i = b->n; i < b->k; i++) {
        b->id[i] = -1;
        b->score[i] = 0;
    }
}

/* Rows come in ascending order: of equal scores the one that is there stays.  Every row is
 * offered to every query, so that their heaps fill alike. */
static void offer(int32_t *ids, float *scores, int32_t n, int32_t k, const struct live_view *v,
                  int32_t row, const float *queries, int32_t nq)
{
    const float *x = live_vector(v, row);
    for (int32_t q = 0; q < nq; q++) {
        struct best b = { ids + (size_t)q * (size_t)k, scores + (size_t)q * (size_t)k, n, k };
        const float score = num->vec->dot(queries + (size_t)q * (size_t)v->D, x, v->D);
        if (n < k)
            add(&b, v->V + row, score);
        else if (score > b.score[0])
            replace_root(&b, v->V + row, score);
    }
}

void live_search(int32_t *ids, float *scores, const struct live_view *v, const float *queries,
                 int32_t nq, int32_t k, const uint64_t *allow)
{
    int32_t n = 0;
    for (int32_t w = 0; w < (v->n + 63) / 64 && k > 0; w++) {
        uint64_t bits = allow ? v->alive[w] & allow[w] : v->alive[w];
        for (; bits; bits &= bits - 1) {
            offer(ids, scores, n, k, v, 64 * w + __builtin_ctzll(bits), queries, nq);
            if (n < k) n++;
        }
    }
    for (int32_t q = 0; q < nq; q++)
        finish(&(struct best){ ids + (size_t)q * (size_t)k, scores + (size_t)q * (size_t)k, n,
                               k });
}
