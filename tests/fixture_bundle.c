#include "tests/fixture_bundle.h"
#include "core/ann/ann.h"
#include "core/base/mem.h"
#include "core/data/items.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture fixture_defaults(void)
{
    return (struct fixture){ .name = "toy",
                             .version = 1,
                             .V = 40,
                             .K = 4,
                             .D = 16,
                             .L = 8,
                             .layers = 1,
                             .seed = 1,
                             .scale = 1,
                             .active_share = 0.01f,
                             .titles = true,
                             .index = true };
}

static struct model_cfg config(const struct fixture *fx)
{
    struct model_cfg cfg;
    conf_defaults(model_opts, &cfg);
    cfg.width = fx->D;
    cfg.layers = fx->layers;
    cfg.max_len = fx->L;
    cfg.interests = fx->K;
    cfg.active_share = fx->active_share;
    cfg.n_items = fx->V;
    return cfg;
}

struct model *fixture_model(const struct fixture *fx)
{
    struct model_cfg cfg = config(fx);
    struct err e = { 0 };
    REQUIRE(model_check(&cfg, &e) == 0, "%s", e.msg);
    struct model *m = model_new(&cfg, false);
    struct params *ps = model_params(m);
    params_init(ps, fx->seed);
    for (int32_t i = 0; i < params_count(ps); i++) {
        struct param *p = params_at(ps, i);
        for (int64_t j = 0; p->decay && j < (int64_t)p->t.rows * p->t.cols; j++)
            p->t.x[j] *= fx->scale;
    }
    return m;
}

/* Of row r: category "c<r % 7>"; colours "red" where 2 divides r, "blue" where 3 does; price r % 20, none where 11 divides r. */
static void add_attributes(struct items_builder *b, int32_t row)
{
    char text[16];
    int32_t category = items_field_add(b, "category", 8, FIELD_VALUES),
            colour = items_field_add(b, "colour", 6, FIELD_VALUES),
            price = items_field_add(b, "price", 5, FIELD_NUMBER);
    items_add_value(b, category, row, text,
                    (size_t)snprintf(text, sizeof text, "c%d", row % 7));
    if (row % 2 == 0) items_add_value(b, colour, row, "red", 3);
    if (row % 3 == 0) items_add_value(b, colour, row, "blue", 4);
    if (row % 11 != 0) items_set_number(b, price, row, row % 20);
}

static void write_items(const struct fixture *fx, const char *path)
{
    struct items_builder *b = items_builder_new();
    struct err e = { 0 };
    char text[32];
    for (int32_t row = 0; row < fx->V; row++) {
        items_add(b, text, (size_t)snprintf(text, sizeof text, "i%d", row));
        items_set_popularity(b, row, row * 7 % 50);
        if (fx->attributes) add_attributes(b, row);
        if (fx->titles)
            items_set_title(b, row, text, (size_t)snprintf(text, sizeof text, "Film %d", row));
    }
    REQUIRE(items_write(b, path, &e) == 0, "%s", e.msg);
    items_builder_free(b);
}

static void write_index(const struct fixture *fx, const struct model *m, const char *path,
                        json_t *manifest)
{
    struct ann *a;
    struct err e = { 0 };
    const float *rows = model_items(m)->t.x;
    int rc = fx->hnsw ? ann_build_hnsw(&a, rows, fx->V, fx->D, 0, 0, 0, &e)
                      : ann_build_flat(&a, rows, fx->V, fx->D, &e);
    REQUIRE(rc == 0 && ann_save(a, path, &e) == 0, "%s", e.msg);
    json_object_set_new(manifest, "index",
                        json_pack("{s:s, s:i, s:f}", "type", ann_type(a), "ef_search",
                                  ann_width(a), "recall", 1.0));
    ann_free(a);
}

static json_t *make_manifest(const struct fixture *fx)
{
    struct model_cfg cfg = config(fx);
    return json_pack("{s:o, s:i, s:s, s:i, s:i, s:i, s:{s:s}, s:{s:{s:f}}}", "encoder",
                     bundle_opts_to_json(model_opts, &cfg), "items", fx->V, "metric",
                     "inner_product", "interests", fx->K ? fx->K : 1, "width", fx->D, "max_len",
                     fx->L, "recipe", "next_item.weight", "1", "metrics", "test", "hr@10",
                     0.25);
}

void fixture_bundle(const struct fixture *fx, const char *models_dir)
{
    struct bundle_writer w;
    struct err e = { 0 };
    struct model *m = fixture_model(fx);
    char *model_dir = xasprintf("%s/%s", models_dir, fx->name);
    REQUIRE(bundle_begin(&w, model_dir, fx->version, &e) == 0, "%s", e.msg);
    char *weights = xasprintf("%s/%s", w.tmp_dir, BUNDLE_WEIGHTS);
    char *items = xasprintf("%s/%s", w.tmp_dir, BUNDLE_ITEMS);
    char *index = xasprintf("%s/%s", w.tmp_dir, BUNDLE_INDEX);
    json_t *manifest = make_manifest(fx);
    REQUIRE(ckpt_save(weights, model_params(m), GROUPS_BUNDLE, &e) == 0, "%s", e.msg);
    write_items(fx, items);
    if (fx->index) write_index(fx, m, index, manifest);
    REQUIRE(bundle_commit(&w, manifest, &e) == 0, "%s", e.msg);
    json_decref(manifest);
    free(weights);
    free(items);
    free(index);
    free(model_dir);
    model_free(m);
}

char *fixture_tmpdir(void)
{
    const char *tmp = getenv("TMPDIR");
    if (!tmp) tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char *dir = xasprintf("%s/intent-test-XXXXXX", tmp);
    REQUIRE(mkdtemp(dir) != NULL, "mkdtemp %s", dir);
    return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void fixture_rmdir(const char *dir)
{
    REQUIRE(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s", dir);
}
