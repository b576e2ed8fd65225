#include "models/foreign.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/safet.h"
#include "core/fmt/torch_file.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 160 };

/* Both libraries have the same encoder under different names. */
struct family {
    const char *item, *pos, *layer, *attn, *ffn;
    const char *positions;      /* as model_opts says it */
    const char *const *dropped; /* beginnings of names that the encoder has no use for */
};

static const char *const s3rec_dropped[] = {
    "attribute_embeddings.", "aap_norm.", "mip_norm.", "map_norm.", "sp_norm.", NULL
};
static const char *const recbole_dropped[] = { NULL };

static const struct family families[] = {
    [FOREIGN_RECBOLE] = { "item_embedding.weight", "position_embedding.weight",
                          "trm_encoder.layer.", "multi_head_attention", "feed_forward", "first",
                          recbole_dropped },
    [FOREIGN_S3REC] = { "item_embeddings.weight", "position_embeddings.weight",
                        "item_encoder.layer.", "attention", "intermediate", "last",
                        s3rec_dropped },
};

struct source {
    const struct family *fam;
    const struct torch_file *file;
    const struct items *items;
    enum foreign from;
    bool *used; /* [tensors] */
    bool heads_known;
};

/* ---- settings ---- */

static int set_number(struct model_cfg *c, const char *key, int64_t v, struct err *e)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, v);
    return conf_set(model_opts, c, key, text, e);
}

/* What the shapes tell: [rows, D] of the items, [L, D] of positions, [mD, D] of the first block's feed-forward. */
static int set_shapes(struct model_cfg *c, int64_t D, int64_t L, int64_t layers, int64_t inner,
                      struct err *e)
{
    TRY(set_number(c, "width", D, e));
    TRY(set_number(c, "max_len", L, e));
    TRY(set_number(c, "layers", layers, e));
    if (layers == 0) return 0;
    if (inner % D != 0)
        return err_set(e, ERR_INVALID,
                       "the feed-forward is %" PRId64
                       " wide, which is no multiple of the width %" PRId64,
                       inner, D);
    return set_number(c, "ffn_mult", inner / D, e);
}

static int set_key(struct model_cfg *c, const char *assignment, struct err *e)
{
    const char *key = strncmp(assignment, "model.", 6) == 0 ? assignment + 6 : assignment;
    const char *eq = strchr(key, '=');
    if (!eq || eq == key)
        return err_set(e, ERR_CONFIG, "--set %s: KEY=VALUE is expected", assignment);
    char *name = xstrndup(key, (size_t)(eq - key));
    int rc = conf_set(model_opts, c, name, eq + 1, e);
    free(name);
    return rc < 0 ? err_ctx(e, "--set %s", assignment) : 0;
}

/* Settings of the command line over those of the file; the shapes are the file's. */
static int set_keys(struct model_cfg *c, char *const *set, int n_set, struct err *e)
{
    const struct model_cfg was = *c;
    for (int i = 0; i < n_set; i++) {
        int rc = set_key(c, set[i], e);
        if (rc < 0) return e ? (e->code = ERR_USAGE) : ERR_USAGE;
        if (c->width != was.width || c->layers != was.layers || c->max_len != was.max_len ||
            c->ffn_mult != was.ffn_mult || c->interests != was.interests ||
            c->item_tower != was.item_tower)
            return err_set(e, ERR_USAGE, "--set %s: the file's tensors have other shapes",
                           set[i]);
    }
    return model_check(c, e);
}

/* Before memory is taken for what names promise, the file must have as many numbers: items and the blocks' matrices. */
static int check_size(const struct model_cfg *c, int64_t have, struct err *e)
{
    const int64_t D = c->width, m = c->ffn_mult;
    const int64_t need = c->n_items * D + c->layers * D * D * (4 + 2 * m);
    if (have >= need) return 0;
    return err_set(e, ERR_INVALID,
                   "its tensors have %" PRId64 " numbers, %d items and %d blocks of width %d "
                   "need %" PRId64,
                   have, c->n_items, c->layers, c->width, need);
}

/* RecBole's file has its settings. */
static int recbole_settings(struct model_cfg *c, struct source *s, struct err *e)
{
    static const char *const names[][2] = { { "n_heads", "heads" },
                                            { "hidden_act", "activation" },
                                            { "hidden_dropout_prob", "dropout" },
                                            { "attn_dropout_prob", "attn_dropout" } };
    char text[64];
    for (int i = 0; i < 4; i++) {
        if (!torch_setting(text, sizeof text, s->file, names[i][0])) continue;
        if (conf_set(model_opts, c, names[i][1], text, e) < 0)
            return err_ctx(e, "the file's setting %s", names[i][0]);
        s->heads_known |= i == 0;
    }
    if (torch_setting(text, sizeof text, s->file, "layer_norm_eps") &&
        strtod(text, NULL) > 1.0001e-12)
        return err_set(e, ERR_INVALID,
                       "the file's setting layer_norm_eps is %s: this encoder has 1e-12", text);
    return 0;
}

/* ---- tensors of a PyTorch file ---- */

/* Layer i's tensor: "trm_encoder.layer.0." "multi_head_attention" ".query.weight" */
static void layer_name(char out[NAME], const struct family *f, int32_t i, const char *part,
                       const char *rest)
{
    snprintf(out, NAME, "%s%d.%s%s", f->layer, i, part, rest);
}

static int find(const struct torch_tensor **out, const struct source *s, const char *name,
                int32_t rank, struct err *e)
{
    *out = torch_find(s->file, name);
    if (!*out)
        return err_set(e, ERR_INVALID,
                       "tensor %s is missing: not the encoder of this library, or of another "
                       "(--from " FOREIGN_CHOICES ")",
                       name);
    if ((*out)->rank == rank) return 0;
    return err_set(e, ERR_INVALID, "tensor %s: %d dimensions, %d expected", name, (*out)->rank,
                   rank);
}

static const char *shape_text(char out[64], int64_t rows, int64_t cols)
{
    if (rows)
        snprintf(out, 64, "[%" PRId64 ",%" PRId64 "]", rows, cols);
    else
        snprintf(out, 64, "[%" PRId64 "]", cols);
    return out;
}

/* A tensor's values [rows, cols], or [cols] when rows is 0; the caller frees them. */
static int take(float **out, struct source *s, const char *name, int64_t rows, int64_t cols,
                struct err *e)
{
    const struct torch_tensor *t;
    char is[64], want[64];
    TRY(find(&t, s, name, rows ? 2 : 1, e));
    if (rows ? t->shape[0] != rows || t->shape[1] != cols : t->shape[0] != cols)
        return err_set(e, ERR_INVALID, "tensor %s: shape %s, %s expected", name,
                       shape_text(is, rows ? t->shape[0] : 0, t->shape[rows ? 1 : 0]),
                       shape_text(want, rows, cols));
    float *x = xmalloc((size_t)t->n * sizeof *x + 1);
    int rc = torch_read(x, t, e);
    if (rc == 0) rc = ckpt_check_finite(name, x, t->n, (int32_t)cols, e);
    if (rc < 0) {
        free(x);
        return rc;
    }
    s->used[t - torch_at(s->file, 0)] = true;
    *out = x;
    return 0;
}

static struct param *param(const struct model *m, const char *layer, const char *name)
{
    char full[NAME];
    snprintf(full, sizeof full, "%s%s", layer, name);
    struct param *p = params_find(model_params(m), full);
    REQUIRE(p, "no parameter %s", full);
    return p;
}

/* PyTorch's linear weight [out, in] into columns from..from+out of ours [in, all]. */
static int take_linear(struct param *w, struct param *b, int32_t from, int32_t n,
                       struct source *s, const char *name, struct err *e)
{
    char full[NAME + 8];
    float *x;
    int32_t in = w->t.rows, all = w->t.cols;
    snprintf(full, sizeof full, "%s.weight", name);
    TRY(take(&x, s, full, n, in, e));
    for (int32_t o = 0; o < n; o++)
        for (int32_t i = 0; i < in; i++)
            w->t.x[(size_t)i * (size_t)all + (size_t)(from + o)] =
                x[(size_t)o * (size_t)in + (size_t)i];
    free(x);
    snprintf(full, sizeof full, "%s.bias", name);
    TRY(take(&x, s, full, 0, n, e));
    memcpy(b->t.x + from, x, (size_t)n * sizeof *x);
    free(x);
    return 0;
}

static int take_norm(const struct model *m, const char *layer, const char *ours,
                     struct source *s, const char *theirs, struct err *e)
{
    static const char *const kind[] = { "weight", "bias" };
    for (int i = 0; i < 2; i++) {
        char from[NAME + 8], to[NAME];
        float *x;
        snprintf(from, sizeof from, "%s.%s", theirs, kind[i]);
        snprintf(to, sizeof to, "%s.%s", ours, kind[i]);
        struct param *p = param(m, layer, to);
        TRY(take(&x, s, from, 0, p->t.cols, e));
        memcpy(p->t.x, x, (size_t)p->t.cols * sizeof *x);
        free(x);
    }
    return 0;
}

static int take_block(const struct model *m, int32_t i, struct source *s, struct err *e)
{
    static const char *const qkv[] = { ".query", ".key", ".value" };
    const struct family *f = s->fam;
    const int32_t D = model_config(m)->width, inner = D * model_config(m)->ffn_mult;
    char layer[32], name[NAME];
    snprintf(layer, sizeof layer, "layers.%d.", i);
    struct param *w = param(m, layer, "attn.qkv.weight"), *b = param(m, layer, "attn.qkv.bias");
    for (int32_t j = 0; j < 3; j++) {
        layer_name(name, f, i, f->attn, qkv[j]);
        TRY(take_linear(w, b, j * D, D, s, name, e));
    }
    const struct {
        const char *part, *theirs, *w, *b;
        int32_t n;
    } lin[] = { { f->attn, ".dense", "attn.out.weight", "attn.out.bias", D },
                { f->ffn, ".dense_1", "ffn.up.weight", "ffn.up.bias", inner },
                { f->ffn, ".dense_2", "ffn.down.weight", "ffn.down.bias", D } };
    for (int j = 0; j < 3; j++) {
        layer_name(name, f, i, lin[j].part, lin[j].theirs);
        TRY(take_linear(param(m, layer, lin[j].w), param(m, layer, lin[j].b), 0, lin[j].n, s,
                        name, e));
    }
    layer_name(name, f, i, f->attn, ".LayerNorm");
    TRY(take_norm(m, layer, "attn_norm", s, name, e));
    layer_name(name, f, i, f->ffn, ".LayerNorm");
    return take_norm(m, layer, "ffn_norm", s, name, e);
}

/* ---- items ---- */

/* S3-Rec's row of an id: the number that it is. */
static int64_t number_of(struct str id)
{
    int64_t n = 0;
    if (id.len > 9 || id.p[0] == '0') return -1;
    for (int32_t i = 0; i < id.len; i++) {
        if (id.p[i] < '0' || id.p[i] > '9') return -1;
        n = n * 10 + (id.p[i] - '0');
    }
    return n;
}

/* Row of the file's table [rows] that item r has; row 0 is padding and, in S3-Rec's, the last one the mask's. */
static int source_row(int64_t *out, const struct source *s, int32_t r, int64_t rows,
                      struct err *e)
{
    *out = (int64_t)r + 1;
    if (s->from == FOREIGN_RECBOLE) return 0;
    struct str id = items_id(s->items, r);
    *out = number_of(id);
    if (*out >= 1 && *out <= rows - 2) return 0;
    return err_set(e, ERR_INVALID,
                   "tensor %s: item '%.*s' of the data set is not one of its rows 1 to %" PRId64
                   ": the items must be the numbers of S3-Rec's text file",
                   s->fam->item, id.len < 64 ? id.len : 64, id.p, rows - 2);
}

static int check_rows(const struct source *s, FILE *notes, struct err *e)
{
    const struct torch_tensor *t;
    int32_t V = items_count(s->items);
    TRY(find(&t, s, s->fam->item, 2, e));
    int64_t rows = t->shape[0];
    if (s->from == FOREIGN_RECBOLE && rows != (int64_t)V + 1 && rows != (int64_t)V + 2)
        return err_set(
            e, ERR_INVALID,
            "tensor %s: %" PRId64 " rows, %d expected for the padding and the data "
            "set's %d items (or one more for a mask): prepare the data set from the .inter "
            "file that was trained on, with the filters that were set",
            s->fam->item, rows, V + 1, V);
    if (s->from == FOREIGN_RECBOLE && rows == (int64_t)V + 2 && notes)
        fprintf(notes,
                "note: the last row of %s is taken for a mask's; a model without one (SASRec) "
                "was trained on one item more than the data set has\n",
                s->fam->item);
    if (s->from == FOREIGN_S3REC && rows - 2 < V)
        return err_set(e, ERR_INVALID,
                       "tensor %s: %" PRId64 " rows, at least %d expected for padding, mask "
                       "and the data set's %d items",
                       s->fam->item, rows, V + 2, V);
    if (s->from == FOREIGN_S3REC && rows - 2 > V && notes)
        fprintf(notes,
                "note: %s has %" PRId64 " items, the data set %d: the others are left out\n",
                s->fam->item, rows - 2, V);
    return 0;
}

static int take_items(const struct model *m, struct source *s, struct err *e)
{
    const struct torch_tensor *t;
    struct param *p = model_items(m);
    const size_t D = (size_t)p->t.cols;
    float *x;
    TRY(find(&t, s, s->fam->item, 2, e));
    TRY(take(&x, s, s->fam->item, t->shape[0], t->shape[1], e));
    int rc = 0;
    for (int32_t r = 0; r < p->t.rows && rc == 0; r++) {
        int64_t row;
        rc = source_row(&row, s, r, t->shape[0], e);
        if (rc == 0) memcpy(p->t.x + (size_t)r * D, x + (size_t)row * D, D * sizeof *x);
    }
    free(x);
    return rc;
}

/* ---- a PyTorch file ---- */

static int32_t count_layers(const struct source *s)
{
    char name[NAME];
    for (int32_t i = 0; i <= LIMIT_LAYERS; i++) {
        layer_name(name, s->fam, i, s->fam->attn, ".query.weight");
        if (!torch_find(s->file, name)) return i;
    }
    return LIMIT_LAYERS + 1;
}

static int torch_config(struct model_cfg *c, struct source *s, struct err *e)
{
    const struct torch_tensor *item, *pos, *up = NULL;
    char name[NAME];
    TRY(find(&item, s, s->fam->item, 2, e));
    TRY(find(&pos, s, s->fam->pos, 2, e));
    int32_t layers = count_layers(s);
    layer_name(name, s->fam, 0, s->fam->ffn, ".dense_1.weight");
    if (layers > 0) TRY(find(&up, s, name, 2, e));
    conf_defaults(model_opts, c);
    TRY(conf_set(model_opts, c, "positions", s->fam->positions, e));
    TRY(set_shapes(c, item->shape[1], pos->shape[0], layers, up ? up->shape[0] : 0, e));
    return s->from == FOREIGN_RECBOLE ? recbole_settings(c, s, e) : 0;
}

static bool is_dropped(const struct family *f, const char *name)
{
    for (const char *const *d = f->dropped; *d; d++)
        if (strncmp(name, *d, strlen(*d)) == 0) return true;
    return false;
}

/* Everything must have been used, or be known to be of no use. */
static int check_rest(const struct source *s, FILE *notes, struct err *e)
{
    int32_t n = 0;
    for (int32_t i = 0; i < torch_count(s->file); i++) {
        const char *name = torch_at(s->file, i)->name;
        if (s->used[i]) continue;
        if (!is_dropped(s->fam, name))
            return err_set(e, ERR_INVALID,
                           "tensor %s is none of the encoder's: these weights are of another "
                           "model, which would not be the same without it",
                           name);
        if (notes) fprintf(notes, "%s%s", n++ ? ", " : "note: left out: ", name);
    }
    if (n > 0) fputc('\n', notes);
    return 0;
}

static int take_all(const struct model *m, struct source *s, FILE *notes, struct err *e)
{
    float *x;
    struct param *pos = param(m, "", "pos.weight");
    TRY(take_items(m, s, e));
    TRY(take(&x, s, s->fam->pos, pos->t.rows, pos->t.cols, e));
    memcpy(pos->t.x, x, (size_t)pos->t.rows * (size_t)pos->t.cols * sizeof *x);
    free(x);
    TRY(take_norm(m, "", "emb_norm", s, "LayerNorm", e));
    for (int32_t i = 0; i < model_config(m)->layers; i++) TRY(take_block(m, i, s, e));
    return check_rest(s, notes, e);
}

static bool names_key(char *const *set, int n_set, const char *key)
{
    for (int i = 0; i < n_set; i++) {
        const char *k = strncmp(set[i], "model.", 6) == 0 ? set[i] + 6 : set[i];
        if (strncmp(k, key, strlen(key)) == 0 && k[strlen(key)] == '=') return true;
    }
    return false;
}

static int from_torch(struct model **out, struct source *s, char *const *set, int n_set,
                      FILE *notes, struct err *e)
{
    struct model_cfg cfg;
    TRY(torch_config(&cfg, s, e));
    TRY(check_rows(s, notes, e));
    cfg.n_items = items_count(s->items);
    TRY(set_keys(&cfg, set, n_set, e));
    TRY(check_size(&cfg, torch_numbers(s->file), e));
    if (!s->heads_known && !names_key(set, n_set, "heads") && notes)
        fprintf(notes,
                "note: the file does not say how many attention heads it has; %d taken "
                "(--set heads=N)\n",
                cfg.heads);
    struct model *m = model_new(&cfg, false);
    int rc = take_all(m, s, notes, e);
    if (rc < 0)
        model_free(m);
    else
        *out = m;
    return rc;
}

static int open_torch(struct model **out, enum foreign from, const char *path, char *const *set,
                      int n_set, const struct items *it, FILE *notes, struct err *e)
{
    struct torch_file *f;
    TRY(torch_open(&f, path, e));
    struct source s = { .fam = &families[from], .file = f, .items = it, .from = from };
    s.used = xcalloc((size_t)torch_count(f) + 1, sizeof *s.used);
    int rc = from_torch(out, &s, set, n_set, notes, e);
    free(s.used);
    torch_close(f);
    return rc < 0 ? err_ctx(e, "%s", path) : 0;
}

/* ---- safetensors ---- */

static int find_own(const struct safet_tensor **out, const struct safet *s, const char *name,
                    struct err *e)
{
    *out = safet_find(s, name);
    if (!*out) return err_set(e, ERR_INVALID, "tensor %s is missing", name);
    if ((*out)->rank == 2) return 0;
    return err_set(e, ERR_INVALID, "tensor %s: %d dimensions, 2 expected", name, (*out)->rank);
}

static int own_shapes(struct model_cfg *c, const struct safet *s, struct err *e)
{
    const struct safet_tensor *item, *pos, *up = NULL, *proto;
    char name[NAME];
    int32_t layers = 0;
    TRY(find_own(&item, s, "item.weight", e));
    TRY(find_own(&pos, s, "pos.weight", e));
    do snprintf(name, sizeof name, "layers.%d.attn.qkv.weight", layers);
    while (safet_find(s, name) && layers++ <= LIMIT_LAYERS);
    if (layers > 0) TRY(find_own(&up, s, "layers.0.ffn.up.weight", e));
    TRY(set_shapes(c, item->shape[1], pos->shape[0], layers, up ? up->shape[1] : 0, e));
    if (!safet_find(s, "interest.prototypes")) return 0;
    TRY(find_own(&proto, s, "interest.prototypes", e));
    return set_number(c, "interests", proto->shape[0], e);
}

static int own_config(struct model_cfg *c, const struct safet *s, FILE *notes, struct err *e)
{
    const char *text = safet_meta(s, FOREIGN_META_ENCODER);
    conf_defaults(model_opts, c);
    if (!text) {
        if (notes)
            fprintf(notes,
                    "note: the file does not say how its weights are run; heads, causal, "
                    "positions, activation are the defaults (--set KEY=VALUE)\n");
        return own_shapes(c, s, e);
    }
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    int rc = o ? bundle_opts_from_json(model_opts, c, o, e)
               : err_set(e, ERR_FORMAT, "not valid JSON");
    json_decref(o);
    return rc < 0 ? err_ctx(e, "metadata %s", FOREIGN_META_ENCODER) : own_shapes(c, s, e);
}

/* The rows' order can only be checked where the file has it. */
static int check_order(const struct safet *s, const struct items *it, FILE *notes,
                       struct err *e)
{
    const struct safet_tensor *item = safet_find(s, "item.weight");
    const char *said = safet_meta(s, FOREIGN_META_ITEMS);
    char have[17];
    if (item->shape[0] != items_count(it))
        return err_set(e, ERR_INVALID,
                       "tensor item.weight: %" PRId64 " rows, the data set has %d items",
                       item->shape[0], items_count(it));
    snprintf(have, sizeof have, "%016" PRIx64, items_order_hash(it));
    if (said && strcmp(said, have) != 0)
        return err_set(e, ERR_INVALID,
                       "tensor item.weight: its rows are other items, or in another order, "
                       "than the data set's");
    if (!said && notes)
        fprintf(notes, "note: the file does not name its items; their order is taken to be the "
                       "data set's\n");
    return 0;
}

static int open_safetensors(struct model **out, const char *path, char *const *set, int n_set,
                            const struct items *it, FILE *notes, struct err *e)
{
    struct safet *s;
    struct model_cfg cfg;
    int64_t have = 0;
    TRY(safet_open(&s, path, e));
    int rc = own_config(&cfg, s, notes, e);
    /* The vectors are what a tower made; the tower is not in the file. */
    cfg.item_tower = false;
    if (rc == 0) rc = check_order(s, it, notes, e);
    cfg.n_items = items_count(it);
    if (rc == 0) rc = set_keys(&cfg, set, n_set, e);
    for (int32_t i = 0; i < safet_count(s); i++) have += safet_at(s, i)->n;
    if (rc == 0) rc = check_size(&cfg, have, e);
    safet_close(s);
    if (rc < 0) return err_ctx(e, "%s", path);
    struct model *m = model_new(&cfg, false);
    rc = ckpt_load(model_params(m), GROUPS_BUNDLE, path, e);
    if (rc < 0)
        model_free(m);
    else
        *out = m;
    return rc;
}

int foreign_model(struct model **out, enum foreign from, const char *path, char *const *set,
                  int n_set, const struct items *it, FILE *notes, struct err *e)
{
    return from == FOREIGN_SAFETENSORS ? open_safetensors(out, path, set, n_set, it, notes, e)
                                       : open_torch(out, from, path, set, n_set, it, notes, e);
}
