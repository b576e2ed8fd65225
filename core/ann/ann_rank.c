#include "core/ann/ann_rank.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include <pthread.h>
#include <stdlib.h>

enum { RUN = 8 };

static void insertion_sort(uint64_t *key, int32_t n)
{
    for (int32_t i = 1; i < n; i++) {
        const uint64_t x = key[i];
        int32_t j = i;
        for (; j > 0 && key[j - 1] < x; j--) key[j] = key[j - 1];
        key[j] = x;
    }
}

static void merge(uint64_t *out, const uint64_t *a, int32_t na, const uint64_t *b, int32_t nb)
{
    int32_t i = 0, j = 0;
    while (i < na && j < nb) { /* no branch on the keys: none could be foretold */
        const int first = a[i] > b[j];
        out[i + j] = first ? a[i] : b[j];
        i += first;
        j += !first;
    }
    memcpy(out + i + j, a + i, (size_t)(na - i) * sizeof *a);
    memcpy(out + na + j, b + j, (size_t)(nb - j) * sizeof *b);
}

void rank_sort(uint64_t *key, uint64_t *tmp, int32_t n)
{
    uint64_t *from = key, *to = tmp;
    for (int32_t i = 0; i < n; i += RUN) insertion_sort(key + i, n - i < RUN ? n - i : RUN);
    for (int64_t run = RUN; run < n; run *= 2) {
        for (int64_t i = 0; i < n; i += 2 * run) {
            const int64_t left = n - i, na = left < run ? left : run,
                          nb = left < 2 * run ? left - na : run;
            merge(to + i, from + i, (int32_t)na, from + i + na, (int32_t)nb);
        }
        uint64_t *was = from;
        from = to;
        to = was;
    }
    if (from != key && n > 0) memcpy(key, from, (size_t)n * sizeof *key);
}

void rank_out(int32_t *ids, float *scores, const uint64_t *key, int32_t n, int32_t k)
{
    for (int32_t i = 0; i < k; i++) {
        ids[i] = i < n ? rank_row(key[i]) : -1;
        scores[i] = i < n ? rank_score(key[i]) : -INFINITY;
    }
}

/* ---- scratch ---- */

struct scratch {
    void *p[SCRATCHES];
    size_t nb[SCRATCHES];
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *s_)
{
    struct scratch *s = s_;
    for (int i = 0; i < SCRATCHES; i++) free(s->p[i]);
    free(s);
}

static void scratch_init(void)
{
    int rc = pthread_key_create(&scratch_key, scratch_free);
    REQUIRE(rc == 0, "no key for thread-local memory: %d", rc);
}

void *ann_scratch(enum ann_scratch slot, size_t nb)
{
    pthread_once(&scratch_once, scratch_init);
    struct scratch *s = pthread_getspecific(scratch_key);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        pthread_setspecific(scratch_key, s);
    }
    if (s->nb[slot] < nb) {
        free(s->p[slot]);
        s->nb[slot] = nb + nb / 2;
        s->p[slot] = xaligned(s->nb[slot]);
    }
    return s->p[slot];
}
