#include "models/rank_synth.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/eval/auc.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_INTERESTS = 16, PRICES = 3 };

/* Place k of the theme's n things is thing k themes + theme. */
static int32_t any_of(int32_t theme, int32_t n, int32_t themes, struct rng *r)
{
    const int32_t places = (n - theme + themes - 1) / themes;
    return (int32_t)rng_below(r, (uint32_t)places) * themes + theme;
}

struct item {
    int32_t theme, category, brand, level;
    double price;
};

/* Item i, the same whenever it is asked for. */
static struct item item_of(const struct rank_synth *a, int32_t i)
{
    struct rng r = rng_make(rng_hash((uint64_t)a->seed, (uint64_t)i), RNG_SYNTH);
    struct item x = { .theme = i % a->themes };
    x.category = any_of(x.theme, a->categories, a->themes, &r);
    x.brand = any_of(x.theme, a->brands, a->themes, &r);
    x.price = exp(3 + 1.5 * (double)rng_normal(&r));
    x.level = x.price < 10 ? 0 : x.price < 40 ? 1 : 2;
    return x;
}

struct user {
    int32_t age, pvalue, shopping, occupation, segment, group, city;
};

static struct user user_of(const struct rank_synth *a, int32_t u)
{
    struct rng r = rng_make(rng_hash(~(uint64_t)a->seed, (uint64_t)u), RNG_SYNTH);
    struct user x = { .age = 1 + (int32_t)rng_below(&r, 6),
                      .pvalue = (int32_t)rng_below(&r, PRICES),
                      .shopping = 1 + (int32_t)rng_below(&r, 3),
                      .occupation = (int32_t)rng_below(&r, 2),
                      .segment = (int32_t)rng_below(&r, 97),
                      .city = 1 + (int32_t)rng_below(&r, 4) };
    x.group = x.age * 2 + x.occupation;
    return x;
}

struct row {
    struct user user;
    struct item item;
    int32_t user_id, item_id, pid, n_steps, interest[MOST_INTERESTS];
    bool match;
};

/* Some different themes. */
static void draw_interests(struct row *x, const struct rank_synth *a, struct rng *r)
{
    for (int32_t k = 0; k < a->interests;) {
        int32_t theme = (int32_t)rng_below(r, (uint32_t)a->themes), i = 0;
        while (i < k && x->interest[i] != theme) i++;
        if (i == k) x->interest[k++] = theme;
    }
}

static struct row draw_row(const struct rank_synth *a, struct rng *r)
{
    struct row x = { .user_id = (int32_t)rng_below(r, (uint32_t)a->users),
                     .n_steps = (int32_t)rng_below(r, (uint32_t)(2 * a->steps + 1)),
                     .pid = (int32_t)rng_below(r, 2) };
    draw_interests(&x, a, r);
    x.user = user_of(a, x.user_id);
    int32_t theme = rng_below(r, 2) ? x.interest[rng_below(r, (uint32_t)a->interests)]
                                    : (int32_t)rng_below(r, (uint32_t)a->themes);
    x.item_id = any_of(theme, a->items, a->themes, r);
    x.item = item_of(a, x.item_id);
    for (int32_t k = 0; k < a->interests; k++) x.match |= x.interest[k] == theme;
    return x;
}

/* With what the sequence tells, and without. */
static double logit(const struct rank_synth *a, const struct row *x, double match)
{
    const double suits = (x->user.age + x->item.theme) % 3 == 0 ? 2.0 / 3 : -1.0 / 3;
    const double apart = abs(x->user.pvalue - x->item.level);
    return (double)a->bias + (double)a->match * match + (double)a->user * suits +
           (double)a->price * (0.5 - apart / 2) + 0.3 * x->pid;
}

static void put_steps(struct buf *b, const struct rank_synth *a, const struct row *x,
                      struct rng *r)
{
    struct buf brands = { 0 };
    for (int32_t i = 0; i < x->n_steps; i++) {
        int32_t theme = rng_f64(r) < (double)a->noise
                            ? (int32_t)rng_below(r, (uint32_t)a->themes)
                            : x->interest[rng_below(r, (uint32_t)a->interests)];
        buf_printf(b, "%s%d", i ? "|" : "", any_of(theme, a->categories, a->themes, r));
        buf_printf(&brands, "%s%d", i ? "|" : "", any_of(theme, a->brands, a->themes, r));
    }
    buf_putc(b, ',');
    if (brands.len) buf_put(b, brands.data, brands.len);
    buf_free(&brands);
}

static void put_row(struct buf *b, const struct rank_synth *a, const struct row *x, bool click,
                    double p, struct rng *r)
{
    const struct user *u = &x->user;
    const struct item *i = &x->item;
    buf_printf(b, "%d,%d,%d,%d,%d,%d,%d,%d,%.2f,", click, x->pid, x->item_id, i->category,
               x->item_id / 4, x->item_id / 16, i->brand, x->user_id, i->price);
    buf_printf(b, "%d,%d,%d,%d,%d,%d,%d,", u->segment, u->group, u->age, u->pvalue + 1,
               u->shopping, u->occupation, u->city);
    put_steps(b, a, x, r);
    buf_printf(b, ",%.4f\n", p);
}

static int write_rows(const struct rank_synth *a, float *label, float *with, float *without,
                      struct rank_synth_stats *st, struct err *e)
{
    struct buf b = { .cap_max = (size_t)16 << 30 };
    buf_puts(&b, "clk,pid,adgroup_id,cate_id,campaign_id,customer,brand,user_id,price,"
                 "cms_segid,cms_group_id,age_level,pvalue_level,shopping_level,occupation,"
                 "new_user_class_level,tag_category_list,tag_brand_list,p_true\n");
    for (int32_t i = 0; i < a->rows && !b.failed; i++) {
        struct rng r = rng_make(rng_hash((uint64_t)a->seed + 1, (uint64_t)i), RNG_SYNTH);
        struct row x = draw_row(a, &r);
        const double p = 1 / (1 + exp(-logit(a, &x, x.match)));
        const bool click = rng_f64(&r) < p;
        label[i] = click;
        with[i] = (float)p;
        without[i] = (float)logit(a, &x, 0);
        st->clicks += (double)click / a->rows;
        st->empty += x.n_steps == 0;
        put_row(&b, a, &x, click, p, &r);
    }
    int rc = b.failed ? err_set(e, ERR_LIMIT, "more than 16 GiB of impressions")
                      : io_write_atomic(a->out, b.data, b.len, e);
    buf_free(&b);
    return rc;
}

int rank_synth(const struct rank_synth *a, struct rank_synth_stats *st, struct err *e)
{
    if (a->interests > a->themes || a->interests > MOST_INTERESTS)
        return err_set(e, ERR_USAGE, "--interests %d: there are %d themes, and at most %d work",
                       a->interests, a->themes, MOST_INTERESTS);
    if (a->themes > a->items || a->themes > a->categories || a->themes > a->brands)
        return err_set(e, ERR_USAGE,
                       "--themes %d: every theme needs an item, a category and a brand",
                       a->themes);
    float *label = xcalloc((size_t)a->rows * 3, sizeof *label);
    float *with = label + a->rows, *without = with + a->rows;
    *st = (struct rank_synth_stats){ 0 };
    int rc = write_rows(a, label, with, without, st, e);
    st->best = auc(with, label, a->rows);
    st->without = auc(without, label, a->rows);
    free(label);
    return rc;
}
