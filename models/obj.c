#include "models/obj.h"

const struct obj_ops *const obj_list[] = {
#define OBJ(name) &obj_##name,
#include "models/list.def"
#undef OBJ
};
const int obj_count = (int)(sizeof obj_list / sizeof obj_list[0]);

void step_encode(struct step *s)
{
    const struct batch *b = s->batch;
    s->in = (struct encoded){ 0 };
    if (s->layout == LAYOUT_A)
        s->in.states = model_states(s->model, s->tp, &b->seq, b->ids);
    else
        s->in = model_encode(s->model, s->tp, &b->seq, b->ids, BETA_IN);
}
