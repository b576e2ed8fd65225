#include "core/ad/prof.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

struct prof {
    struct prof_part *part;
    int n, cap;
    double last;
};

struct prof *prof_new(void) { return xcalloc(1, sizeof(struct prof)); }

void prof_free(struct prof *p)
{
    if (!p) return;
    free(p->part);
    free(p);
}

void prof_mark(struct prof *p)
{
    if (p) p->last = clock_s();
}

static struct prof_part *part_of(struct prof *p, const char *name, const struct cost *c)
{
    for (int i = 0; i < p->n; i++) {
        struct prof_part *q = &p->part[i];
        if (q->in == c->in && q->out == c->out && strcmp(q->name, name) == 0) return q;
    }
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 32;
        p->part = xrealloc(p->part, (size_t)p->cap, sizeof *p->part);
    }
    p->part[p->n] = (struct prof_part){ .name = name, .in = c->in, .out = c->out };
    return &p->part[p->n++];
}

void prof_lap(struct prof *p, const char *name, const struct cost *c, enum prof_pass pass)
{
    static const struct cost none;
    if (!p) return;
    double now = clock_s();
    if (!c) c = &none;
    struct prof_part *q = part_of(p, name, c);
    q->seconds[pass] += now - p->last;
    q->flop[pass] += c->flop[pass];
    q->floats[pass] += c->floats[pass];
    if (pass == PROF_FORWARD) {
        q->calls++;
        q->rows += c->rows;
    }
    p->last = clock_s();
}

int prof_count(const struct prof *p) { return p ? p->n : 0; }
const struct prof_part *prof_part(const struct prof *p, int i) { return &p->part[i]; }
