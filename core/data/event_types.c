#include "core/data/event_types.h"
#include <string.h>

static int find(const struct event_types *t, struct span name)
{
    for (int i = 0; i < t->n; i++)
        if (t->type[i].name.n == name.n && memcmp(t->type[i].name.p, name.p, name.n) == 0)
            return i;
    return -1;
}

static int weight_of(float *w, struct span name, struct span text, struct err *e)
{
    double x = 1;
    if (text.p && (!text_number(text, &x) || x <= 0 || x > 1000))
        return err_set(e, ERR_USAGE,
                       "event type %.*s: weight '%.*s' must be above 0 and at most 1000",
                       (int)name.n, name.p, (int)text.n, text.p);
    *w = (float)x;
    return 0;
}

int event_types_parse(struct event_types *t, const char *text, struct err *e)
{
    *t = (struct event_types){ 0 };
    struct span rest = { text, strlen(text) }, part, name;
    while (text_part(&rest, ',', &part)) {
        float w = 1;
        struct span weight = part;
        (void)text_part(&weight, '=', &name);
        if (name.n == 0)
            return err_set(e, ERR_USAGE, "'%s': an event type without a name", text);
        TRY(weight_of(&w, name, weight.p ? text_trim(weight) : weight, e));
        bool others = name.n == 1 && name.p[0] == '*';
        if (others ? t->others > 0 : find(t, name) >= 0)
            return err_set(e, ERR_USAGE, "event type %.*s is named twice", (int)name.n, name.p);
        if (others) {
            t->others = w;
            continue;
        }
        if (t->n == LIMIT_EVENT_TYPES)
            return err_set(e, ERR_USAGE, "more than %d event types", LIMIT_EVENT_TYPES);
        t->type[t->n].name = name;
        t->type[t->n++].weight = w;
    }
    return 0;
}

float event_types_weight(const struct event_types *t, struct span type)
{
    int i = find(t, type);
    return i < 0 ? t->others : t->type[i].weight;
}
