#include "core/serve/embed.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/serve/fields.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096 }; /* items that go through the tower at once */

struct embed {
    struct fields *fields;
    struct params *params;
    struct tower *tower;
    int32_t D;
};

/* Before memory is taken for what the manifest claims, as load.c has it: the fields' tables and the first layer. */
static int check_size(const struct bundle *b, const struct model_cfg *c,
                      const struct item_fields *f, struct err *e)
{
    const int64_t nb = bundle_bytes(b, BUNDLE_TOWER), E = c->field_width;
    int64_t need = (c->width + f->n * E) * c->tower_width;
    for (int32_t j = 0; j < f->n; j++) need += f->field[j].n_values * E;
    need *= (int64_t)sizeof(float);
    if (nb >= need) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "%s: %" PRId64 " bytes, its %d fields need %" PRId64,
                   BUNDLE_TOWER, nb, f->n, need);
}

int embed_open(struct embed **out, const struct bundle *b, const struct model *model,
               const struct items *items, struct err *e)
{
    const json_t *known = json_object_get(b->manifest, "tower");
    const struct model_cfg *c = model_config(model);
    *out = NULL;
    if (!known) return 0;
    struct embed *m = xcalloc(1, sizeof *m);
    m->D = c->width;
    int rc = fields_known(&m->fields, items, known, e);
    if (rc == 0) rc = check_size(b, c, fields_of(m->fields), e);
    if (rc == 0) {
        char *path = bundle_path(b, BUNDLE_TOWER);
        m->params = params_new(false);
        /* Stands in for the embeddings of trained ids, which no item here has. */
        struct param *id = params_add(m->params, "item.weight", 1, m->D, 0, INIT_ZERO, 0);
        m->tower = tower_new(
            m->params, id, fields_of(m->fields),
            &(struct tower_cfg){
                .D = m->D, .E = c->field_width, .M = c->tower_width, .group = GROUP_TOWER });
        rc = ckpt_load_part(m->params, GROUP_TOWER, path, e);
        free(path);
    }
    if (rc == 0) {
        *out = m;
        return 0;
    }
    embed_free(m);
    if (e) e->code = ERR_BAD_BUNDLE;
    return ERR_BAD_BUNDLE;
}

void embed_free(struct embed *m)
{
    if (!m) return;
    tower_free(m->tower);
    if (m->params) params_free(m->params);
    fields_free(m->fields);
    free(m);
}

/* Field j of n items. */
static struct item_field make_bag(const struct embed *m, struct arena *mem, int32_t j,
                                  const struct attrs *a, int32_t n)
{
    struct item_field bag = fields_of(m->fields)->field[j];
    int32_t *cu = ARENA_NEW(mem, int32_t, n + 1), one[LIMIT_TAGS];
    cu[0] = 0;
    for (int32_t i = 0; i < n; i++) cu[i + 1] = cu[i] + fields_ids(one, m->fields, j, &a[i]);
    int32_t *id = ARENA_NEW(mem, int32_t, cu[n] + 1);
    for (int32_t i = 0; i < n; i++) {
        int32_t k = fields_ids(one, m->fields, j, &a[i]);
        memcpy(id + cu[i], one, (size_t)k * sizeof *id);
    }
    bag.cu = cu;
    bag.id = id;
    return bag;
}

static void embed(float *vector, const struct embed *m, struct tape *tp, const struct attrs *a,
                  int32_t n)
{
    struct item_field bag[LIMIT_FIELDS];
    tape_begin(tp, 0, 0, false);
    struct arena *mem = tape_arena(tp);
    int32_t *ids = ARENA_NEW(mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) ids[i] = EMBED_MASK;
    for (int32_t j = 0; j < fields_of(m->fields)->n; j++) bag[j] = make_bag(m, mem, j, a, n);
    struct ten *x = tower_vectors(m->tower, tp, ids, n, bag);
    memcpy(vector, x->x, (size_t)n * (size_t)m->D * sizeof *vector);
}

void embed_items(float *vector, const struct embed *m, const struct attrs *a, int32_t n)
{
    struct arena *mem = arena_new("embed", 1 << 20, 0);
    struct tape *tp = tape_new(mem, NULL);
    for (int32_t i = 0; i < n; i += ROWS)
        embed(vector + (size_t)i * (size_t)m->D, m, tp, a + i, n - i < ROWS ? n - i : ROWS);
    tape_free(tp);
    arena_free(mem);
}

int32_t embed_silent(const struct embed *m, const struct attrs *a, int32_t n)
{
    int32_t silent = 0, id[LIMIT_TAGS];
    for (int32_t i = 0; i < n; i++) {
        int32_t known = 0;
        for (int32_t j = 0; j < fields_of(m->fields)->n; j++)
            known += fields_ids(id, m->fields, j, &a[i]);
        silent += known == 0;
    }
    return silent;
}
