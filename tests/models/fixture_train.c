#include "tests/models/fixture_train.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "models/train.h"
#include "tests/child.h"
#include "tests/core/data/fixture_data.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *loss_choices(const struct obj_ops *ops)
{
    const struct opt *o = conf_find(ops->opts, "loss");
    return o ? o->choices : NULL;
}

int objective_variants(const struct obj_ops *ops)
{
    int n = 1;
    for (const char *c = loss_choices(ops); c && (c = strchr(c, '|')); c++) n++;
    return n;
}

const char *objective_variant(const struct obj_ops *ops, int i)
{
    static char name[64];
    const char *c = loss_choices(ops);
    if (!c) return NULL;
    for (; i > 0; i--) c = strchr(c, '|') + 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(c, "|"), c);
    return name;
}

char *learnable_data(const char *dir, int n_users, int n_items, uint64_t seed)
{
    struct buf text = { 0 };
    struct rng r = rng_make(seed, RNG_TEST);
    for (int u = 0; u < n_users; u++) {
        uint32_t item = rng_below(&r, (uint32_t)n_items);
        buf_printf(&text, "u%d", u);
        for (int i = 0; i < 4 + u % 9; i++) {
            buf_printf(&text, " i%u", item);
            item = rng_below(&r, 10) ? (item + 1) % (uint32_t)n_items
                                     : rng_below(&r, (uint32_t)n_items);
        }
        buf_putc(&text, '\n');
    }
    struct dataset ds;
    ck_assert_ptr_nonnull(text.data);
    char *items = data_items(n_items);
    data_with_items(&ds, dir, text.data, items);
    free(items);
    char *path = xasprintf("%s/%s", dir, ds.name);
    dataset_close(&ds);
    buf_free(&text);
    return path;
}

struct job job_new(const char *dir, const char *data, const char *sections)
{
    static int n_jobs;
    struct err e = { 0 };
    struct job j = { .data = xstrdup(data), .threads = 1, .save_s = 60 };
    j.out = xasprintf("%s/model%d", dir, n_jobs);
    j.recipe = xasprintf("%s/recipe%d.ini", dir, n_jobs++);
    char *text = xasprintf(
        "[model]\nwidth = 16\nlayers = 1\nmax_len = 8\ndropout = 0.1\nattn_dropout = 0.1\n"
        "interests = 2\n[train]\nepochs = 3\nbatch_size = 32\nlr = 0.005\n%s",
        sections);
    ck_assert_msg(io_write_atomic(j.recipe, text, strlen(text), &e) == 0, "%s", e.msg);
    free(text);
    return j;
}

static void train(void *ctx)
{
    struct job *j = ctx;
    struct recipe r;
    recipe_defaults(&r);
    struct par *pool = par_new(j->threads);
    struct index_cfg index = { .type = INDEX_FLAT, .recall = 0.99f };
    j->e = (struct err){ 0 };
    j->rc = recipe_load(&r, j->recipe, &j->e);
    if (j->rc == 0)
        j->rc = train_run(&(struct train_args){ .data = j->data,
                                                .out = j->out,
                                                .init = j->init,
                                                .recipe = &r,
                                                .pool = pool,
                                                .index = index,
                                                .resume = j->resume,
                                                .no_test = j->no_test,
                                                .finish = j->finish,
                                                .save_s = j->save_s },
                          &j->res, &j->e);
    par_free(pool);
    recipe_free(&r);
}

void job_run(struct job *j)
{
    free(j->text);
    j->text = child_caught(train, j);
}

void job_in_child(void *ctx)
{
    train(ctx);
    const struct job *j = ctx;
    if (j->rc < 0) _exit(1);
    if (j->res.stopped) _exit(2);
}

void job_free(struct job *j)
{
    free(j->data);
    free(j->out);
    free(j->recipe);
    free(j->text);
}

int job_log(const struct job *j, int version, const char *event, const char *key, double *x,
            int most)
{
    char *path = xasprintf("%s/%d.train.jsonl", j->out, version), *text, *rest;
    size_t nb;
    int n = 0;
    if (io_exists(path) && io_read_all(&text, &nb, path, 1 << 20, NULL) == 0) {
        rest = text;
        for (char *line;
             (line = strsep(&rest, "\n")) && rest;) { /* a line that is not ended is not read */
            json_t *o = json_loads(line, 0, NULL);
            ck_assert_msg(o, "not JSON: %s", line);
            if (strcmp(json_string_value(json_object_get(o, "event")), event) == 0) {
                if (n < most) x[n] = json_number_value(json_object_get(o, key));
                n++;
            }
            json_decref(o);
        }
        free(text);
    }
    free(path);
    return n;
}
