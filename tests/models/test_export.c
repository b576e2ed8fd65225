#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/safet.h"
#include "core/serve/load.h"
#include "models/export.h"
#include "models/foreign.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *out;
static struct fixture fx;
static struct bundle b;
static struct model *m;
static struct items *it;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    out = xasprintf("%s/out", dir);
    e = (struct err){ 0 };
    fx = fixture_defaults();
    fx.layers = 2;
    m = NULL;
    it = NULL;
    b = (struct bundle){ 0 };
}

static void make(enum export_format format)
{
    char *model = xasprintf("%s/%s", dir, fx.name);
    fixture_bundle(&fx, dir);
    ck_assert_msg(export_bundle(model, format, out, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(bundle_open(&b, model, false, &e), 0);
    ck_assert_int_eq(load_model(&m, &it, &b, false, &e), 0);
    free(model);
}

static void tear_down(void)
{
    model_free(m);
    if (it) items_close(it);
    bundle_close(&b);
    fixture_rmdir(dir);
    free(out);
    free(dir);
}

static const char *in_out(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", out, name);
    return path;
}

static char *load(const char *name, size_t *nb)
{
    char *data;
    ck_assert_msg(io_read_all(&data, nb, in_out(name), 1 << 24, &e) == 0, "%s", e.msg);
    return data;
}

START_TEST(every_format_has_the_ids)
{
    make((enum export_format)_i);
    size_t nb;
    char *ids = load("ids.txt", &nb);
    ck_assert_int_eq(strncmp(ids, "i0\ni1\ni2\n", 9), 0);
    ck_assert_ptr_nonnull(strstr(ids, "\ni39\n"));
    free(ids);
}
END_TEST

/* ---- safetensors ---- */

static int read_back(struct model **back, const struct items *items)
{
    return foreign_model(back, FOREIGN_SAFETENSORS, in_out("model.safetensors"), NULL, 0, items,
                         NULL, &e);
}

START_TEST(safetensors_come_back_bit_for_bit)
{
    struct model *back;
    make(EXPORT_SAFETENSORS);
    ck_assert_msg(read_back(&back, it) == 0, "%s", e.msg);
    for (const struct opt *o = model_opts; o->key; o++) {
        char want[64], got[64];
        conf_get(o, model_config(m), want, sizeof want);
        conf_get(o, model_config(back), got, sizeof got);
        ck_assert_str_eq(got, want);
    }
    ck_assert_int_eq(model_config(back)->n_items, model_config(m)->n_items);
    for (int32_t i = 0; i < params_count(model_params(m)); i++) {
        const struct param *x = params_at(model_params(m), i),
                           *y = params_at(model_params(back), i);
        ck_assert_str_eq(x->name, y->name);
        ck_assert_int_eq(
            memcmp(x->t.x, y->t.x, (size_t)x->t.rows * (size_t)x->t.cols * sizeof(float)), 0);
    }
    model_free(back);
}
END_TEST

static struct items *items_of(int32_t n, int32_t first)
{
    struct items_builder *builder = items_builder_new();
    struct items *made;
    char id[16], *path = xasprintf("%s/other.bin", dir);
    for (int32_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "i%d", (first + i) % n);
        items_add(builder, id, strlen(id));
    }
    ck_assert_int_eq(items_write(builder, path, &e), 0);
    ck_assert_int_eq(items_open(&made, path, &e), 0);
    items_builder_free(builder);
    free(path);
    return made;
}

START_TEST(safetensors_of_other_items_are_refused)
{
    struct model *back;
    make(EXPORT_SAFETENSORS);
    struct items *turned = items_of(40, 1), *fewer = items_of(39, 0), *same = items_of(40, 0);
    ck_assert_int_eq(read_back(&back, turned), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.msg, "its rows are other items, or in another order"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_back(&back, fewer), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.msg, "item.weight: 40 rows, the data set has 39 items"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_back(&back, same), 0);
    model_free(back);
    items_close(turned);
    items_close(fewer);
    items_close(same);
}
END_TEST

START_TEST(safetensors_without_settings_take_shapes_and_defaults)
{
    struct model *back;
    make(EXPORT_SAFETENSORS);
    char *weights = bundle_path(&b, BUNDLE_WEIGHTS); /* has no settings */
    char *heads[] = { (char[]){ "heads=4" } };
    ck_assert_msg(foreign_model(&back, FOREIGN_SAFETENSORS, weights, heads, 1, it, NULL, &e) ==
                      0,
                  "%s", e.msg);
    const struct model_cfg *c = model_config(back);
    ck_assert_int_eq(c->layers, 2);
    ck_assert_int_eq(c->interests, 4);
    ck_assert_int_eq(c->width, 16);
    ck_assert_int_eq(c->max_len, 8);
    ck_assert_int_eq(c->heads, 4);
    model_free(back);
    free(weights);
}
END_TEST

/* ---- npy ---- */

START_TEST(npy_has_every_parameter_and_the_settings)
{
    make(EXPORT_NPY);
    for (int32_t i = 0; i < params_count(model_params(m)); i++) {
        const struct param *p = params_at(model_params(m), i);
        size_t nb, n = (size_t)p->t.rows * (size_t)p->t.cols * sizeof(float);
        char *name = xasprintf("%s.npy", p->name), *data = load(name, &nb);
        ck_assert_uint_eq(nb, 128 + n);
        ck_assert_msg(memcmp(data + 128, p->t.x, n) == 0, "%s", name);
        free(data);
        free(name);
    }
    json_t *o = json_load_file(in_out("encoder.json"), 0, NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(o, "width")), 16);
    ck_assert_str_eq(json_string_value(json_object_get(o, "positions")), "first");
    json_decref(o);
}
END_TEST

/* ---- ONNX: the graph hangs together; what it computes is compared by `make import-check` ---- */

enum { NAMES = 512 };
struct names {
    char *name[NAMES];
    bool used[NAMES];
    int n;
};

static int find(const struct names *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->name[i], name) == 0) return i;
    return -1;
}

static void define(struct names *s, char *name)
{
    ck_assert_msg(find(s, name) < 0, "%s is made twice", name);
    ck_assert_int_lt(s->n, NAMES);
    s->name[s->n++] = name;
}

static void use(struct names *s, char *name)
{
    int i = find(s, name);
    ck_assert_msg(i >= 0, "%s is used before it is made", name);
    s->used[i] = true;
    free(name);
}

struct message {
    const uint8_t *p, *end;
};

static uint64_t varint(struct message *x)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t byte = *x->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return v;
    }
}

/* The next field's number; its bytes in *in, empty for numbers.  0: there is none left. */
static int field(struct message *x, struct message *in)
{
    if (x->p >= x->end) return 0;
    uint64_t key = varint(x), n = 0;
    if ((key & 7) == 2) n = varint(x);
    if ((key & 7) == 5) x->p += 4;
    if ((key & 7) == 0) varint(x);
    *in = (struct message){ x->p, x->p + n };
    x->p += n;
    return (int)(key >> 3);
}

static char *text(struct message x)
{
    return xstrndup((const char *)x.p, (size_t)(x.end - x.p));
}

/* Field `number` of a message, as text. */
static char *text_of(struct message x, int number)
{
    struct message in;
    for (int f; (f = field(&x, &in)) != 0;)
        if (f == number) return text(in);
    ck_abort_msg("no field %d", number);
}

static void walk_graph(struct names *s, struct message graph)
{
    struct message in, name, again = graph;
    for (int f; (f = field(&graph, &in)) != 0;) {
        if (f == 11) define(s, text_of(in, 1));
        if (f == 5) define(s, text_of(in, 8));
        if (f != 1) continue;
        struct message outputs = in;
        for (int g; (g = field(&in, &name)) != 0;)
            if (g == 1) use(s, text(name));
        for (int g; (g = field(&outputs, &name)) != 0;)
            if (g == 2) define(s, text(name));
    }
    for (int f; (f = field(&again, &in)) != 0;)
        if (f == 12) use(s, text_of(in, 1));
}

static const struct {
    int32_t K, layers;
} shapes[] = { { 4, 2 }, { 0, 2 }, { 0, 0 }, { 4, 0 }, { 1, 1 } };

START_TEST(onnx_graph_hangs_together)
{
    fx.K = shapes[_i].K;
    fx.layers = shapes[_i].layers;
    fx.active_share = 0.01f;
    make(EXPORT_ONNX);
    struct names s = { .n = 0 };
    size_t nb;
    char *data = load("model.onnx", &nb);
    struct message model = { (const uint8_t *)data, (const uint8_t *)data + nb }, in;
    for (int f; (f = field(&model, &in)) != 0;)
        if (f == 7) walk_graph(&s, in);
    ck_assert_int_ge(find(&s, "items"), 0);
    ck_assert_int_ge(find(&s, "interests"), 0);
    ck_assert_int_eq(find(&s, "shares") >= 0, fx.K > 0);
    for (int i = 0; i < s.n; i++) {
        ck_assert_msg(s.used[i], "%s is not used", s.name[i]);
        free(s.name[i]);
    }
    ck_assert(io_exists(in_out("item.weight.npy")));
    free(data);
}
END_TEST

START_TEST(export_names_what_it_cannot_read_or_write)
{
    ck_assert_int_lt(export_bundle("/nonexistent", EXPORT_NPY, out, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent"));
    e = (struct err){ 0 };
    fixture_bundle(&fx, dir);
    char *model = xasprintf("%s/%s", dir, fx.name), *file = xasprintf("%s/1/items.bin", model);
    ck_assert_int_lt(export_bundle(model, EXPORT_NPY, file, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, "items.bin"));
    e = (struct err){ 0 };
    char *version = xasprintf("%s/1", model);
    ck_assert_int_eq(export_bundle(model, EXPORT_SAFETENSORS, version, &e), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(e.msg, "is a bundle"));
    free(version);
    free(model);
    free(file);
}
END_TEST

Suite *suite_export(void);
Suite *suite_export(void)
{
    Suite *s = suite_create("export");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, every_format_has_the_ids, 0, 3);
    tcase_add_test(t, safetensors_come_back_bit_for_bit);
    tcase_add_test(t, safetensors_of_other_items_are_refused);
    tcase_add_test(t, safetensors_without_settings_take_shapes_and_defaults);
    tcase_add_test(t, npy_has_every_parameter_and_the_settings);
    tcase_add_loop_test(t, onnx_graph_hangs_together, 0,
                        (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_test(t, export_names_what_it_cannot_read_or_write);
    suite_add_tcase(s, t);
    return s;
}
