#include "models/obj.h"

const struct obj_ops *const obj_list[] = {
#define OBJ(name) &obj_##name,
#include "models/list.def"
#undef OBJ
};
const int obj_count = (int)(sizeof obj_list / sizeof obj_list[0]);

const struct encoded *step_in(struct step *s)
{
    const struct batch *b = s->batch;
    if (s->in_.states || s->in_.phi) return &s->in_;
    if (s->layout == LAYOUT_A)
        s->in_.states = model_states(s->model, s->tp, &b->seq, b->ids);
    else
        s->in_ = model_encode(s->model, s->tp, &b->seq, b->ids, BETA_IN);
    return &s->in_;
}

struct ten *step_term(struct step *s, const char *name, struct ten *x)
{
    if (s->n_terms < MAX_TERMS) s->term[s->n_terms++] = (struct loss_term){ name, x };
    return x;
}

const int32_t *step_numbers(struct tape *tp, int32_t n)
{
    int32_t *x = ARENA_NEW(tape_arena(tp), int32_t, n);
    for (int32_t i = 0; i < n; i++) x[i] = i;
    return x;
}
