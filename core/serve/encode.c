#include "core/serve/encode.h"

/* What is to be encoded of one history. */
static struct extend plan(struct state *st, struct states *states, struct arena *a,
                          const struct encode_in *h, int32_t L)
{
    const int32_t n = h->n < L ? h->n : L;
    *st = (struct state){ 0 };
    if (states && h->n >= STATES_LEAST && h->n <= L) {
        const uint32_t ago = states_met(states, h->row, n);
        if (ago) states_take(st, states, a, h->row, n, ago);
    }
    return (struct extend){ st->page, h->row + (h->n - n) + st->from, st->from, n - st->from };
}

void encode_histories(struct encode_out *out, struct states *states, const struct model *m,
                      struct tape *tp, struct arena *a, const struct encode_in *h, int32_t n)
{
    const struct model_cfg *c = model_config(m);
    struct extend *x = ARENA_NEW(a, struct extend, n);
    struct state *st = ARENA_NEW(a, struct state, n);
    struct seqpack sp;
    for (int32_t b = 0; b < n; b++) x[b] = plan(&st[b], states, a, &h[b], c->max_len);
    tape_begin(tp, 0, 0, false);
    const struct encoded e = model_extend(m, tp, &sp, x, n);
    for (int32_t b = 0; b < n; b++)
        if (st[b].page) states_put(states, &st[b]);
    *out = (struct encode_out){ .K = model_interests(m),
                                .D = c->width,
                                .phi = e.phi->x,
                                .cu = sp.cu,
                                .assign = e.assign ? e.assign->x : NULL,
                                .weight = e.weight ? e.weight->x : NULL };
    out->share = ARENA_NEW(a, float, (size_t)n *(size_t)out->K);
    model_shares(out->share, m, &e, &sp);
}
