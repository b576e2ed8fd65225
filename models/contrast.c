#include "models/contrast.h"
#include <inttypes.h>

enum { MOST_ROWS = 1 << 14 }; /* 1 GiB of similarities */

int contrast_check(const char *objective, int64_t rows, const char *change, struct err *e)
{
    if (rows <= MOST_ROWS) return 0;
    return err_set(e, ERR_CONFIG,
                   "%s: a batch has %" PRId64
                   " rows that are compared with each other, at most "
                   "%d: %s",
                   objective, rows, MOST_ROWS, change);
}

const struct view *contrast_views(const struct step *s, const struct augment_cfg *a)
{
    struct view *v = ARENA_NEW(tape_arena(s->tp), struct view, 2);
    augment_pair(v, tape_arena(s->tp), a, &s->batch->seq, s->batch->ids, s->key);
    return v;
}

struct ten *contrast_vectors(struct step *s, const struct view *v)
{
    struct ten *phi = model_encode(s->model, s->tp, &v->seq, v->ids, BETA_IN).phi;
    int32_t K = model_interests(s->model);
    return K == 1 ? phi : ad_reshape(s->tp, phi, phi->rows / K, phi->cols * K);
}

struct ten *contrast_matrix(struct tape *tp, struct ten *a, struct ten *b, float temperature,
                            enum similarity how)
{
    struct ten *z = ad_concat_rows(tp, a, b);
    if (how == SIMILARITY_COSINE) z = ad_normalize(tp, z);
    return ad_matmul_nt(tp, z, z, 1.0f / temperature);
}

const int32_t *contrast_pairs(struct tape *tp, int32_t B)
{
    int32_t *p = ARENA_NEW(tape_arena(tp), int32_t, 2 * B);
    for (int32_t i = 0; i < 2 * B; i++) p[i] = i < B ? i + B : i - B;
    return p;
}

struct ten *contrast_mean(struct tape *tp, struct ten *s)
{
    struct ten *l = ad_xent_rows(tp, s, contrast_pairs(tp, s->rows / 2), true);
    return ad_sum(tp, l, 1.0f / (float)l->rows);
}

struct ten *contrast_nt_xent(struct tape *tp, struct ten *a, struct ten *b, float temperature,
                             enum similarity how)
{
    return contrast_mean(tp, contrast_matrix(tp, a, b, temperature, how));
}
