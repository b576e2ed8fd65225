#include "models/sweep_plan.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/fmt/bundle.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const status_name[] = { "waiting", "running", "stopped", "done", "failed" };

/* ---- the trials ---- */

static int count_values(const char *grid, struct err *e)
{
    const char *eq = strchr(grid, '=');
    if (!eq || eq == grid || !eq[1])
        return err_set(e, ERR_USAGE, "--grid %s: expected key=a,b,c", grid);
    int n = 1;
    for (const char *p = eq; *p; p++) n += *p == ',';
    return n;
}

/* "key=value" with the i-th value */
static char *grid_value(const char *grid, int i)
{
    const char *eq = strchr(grid, '='), *v = eq + 1;
    for (; i > 0; i--) v = strchr(v, ',') + 1;
    return xasprintf("%.*s=%.*s", (int)(eq - grid), grid, (int)strcspn(v, ","), v);
}

/* One key in two grids, with its section or without. */
static bool same_key(const char *a, const char *b)
{
    size_t na = strcspn(a, "="), nb = strcspn(b, "="), n = na < nb ? na : nb;
    const char *longer = na < nb ? b : a;
    if (memcmp(a + na - n, b + nb - n, n) != 0) return false;
    return na == nb || longer[(na < nb ? nb : na) - n - 1] == '.';
}

static int check_grids(const struct sweep_args *a, struct err *e)
{
    if (a->n_grid > SWEEP_GRIDS) return err_set(e, ERR_USAGE, "at most %d grids", SWEEP_GRIDS);
    for (int i = 0; i < a->n_grid; i++)
        for (int k = 0; k < i; k++)
            if (same_key(a->grid[i], a->grid[k]))
                return err_set(e, ERR_USAGE, "--grid %s and --grid %s are about one key",
                               a->grid[k], a->grid[i]);
    return 0;
}

int plan_trials(struct sweep *s, struct err *e)
{
    int count[SWEEP_GRIDS];
    int64_t n = 1;
    TRY(check_grids(s->a, e));
    for (int g = 0; g < SWEEP_GRIDS; g++) count[g] = 1;
    for (int g = 0; g < s->a->n_grid; g++) {
        count[g] = count_values(s->a->grid[g], e);
        TRY(count[g]);
        n *= count[g];
        if (n > SWEEP_TRIALS)
            return err_set(e, ERR_USAGE, "more than %d combinations", SWEEP_TRIALS);
    }
    s->n = (int)n;
    s->trial = xcalloc((size_t)n, sizeof *s->trial);
    for (int i = 0; i < s->n; i++) {
        int left = i;
        s->trial[i].score = (double)NAN;
        for (int g = s->a->n_grid - 1; g >= 0; g--) {
            s->trial[i].set[g] = grid_value(s->a->grid[g], left % count[g]);
            left /= count[g];
        }
    }
    return 0;
}

/* By what validation of the last stage chooses; the same for all trials. */
static int check_judge(struct sweep *s, const struct recipe *r, struct err *e)
{
    struct recipe last;
    char seen[16], judge[64];
    recipe_stage(&last, r, recipe_stages(r) - 1);
    bool none = last.train.stop_on == STOP_NONE;
    conf_get(conf_find(train_opts, "stop_on"), &last.train, s->metric, sizeof s->metric);
    conf_get(conf_find(train_opts, "valid_seen"), &last.train, seen, sizeof seen);
    snprintf(judge, sizeof judge, "stop_on = %s, valid_seen = %s", s->metric, seen);
    recipe_free(&last);
    if (none)
        return err_set(e, ERR_CONFIG,
                       "validation chooses among trials: set train.stop_on to a metric");
    if (s->judge[0] && strcmp(judge, s->judge) != 0)
        return err_set(e, ERR_CONFIG,
                       "trials must be judged alike to be compared: one has %s, another %s",
                       s->judge, judge);
    memcpy(s->judge, judge, sizeof judge);
    return 0;
}

/* A trial's recipe, which must be trainable and be judged as the others are. */
static int check_trial(struct sweep *s, const struct trial *t, const struct dataset *d,
                       struct err *e)
{
    struct recipe r;
    json_t *o = recipe_json(s->a->recipe);
    int rc = recipe_from_json(&r, o, e);
    json_decref(o);
    TRY(rc);
    for (int g = 0; g < s->a->n_grid && rc == 0; g++) {
        rc = recipe_set(&r, t->set[g], e);
        if (rc < 0) err_ctx(e, "--grid");
    }
    r.model.n_items = d->n_items;
    if (rc == 0) rc = recipe_check(&r, d, e);
    if (rc == 0) rc = check_judge(s, &r, e);
    recipe_free(&r);
    return rc;
}

int plan_check(struct sweep *s, struct err *e)
{
    struct dataset d;
    TRY(dataset_open(&d, s->a->data, e));
    s->data = dataset_fingerprint(&d);
    int rc = 0;
    for (int i = 0; i < s->n && rc == 0; i++) rc = check_trial(s, &s->trial[i], &d, e);
    dataset_close(&d);
    return rc;
}

char *plan_path(const struct sweep *s, int i, const char *suffix)
{
    return xasprintf("%s/trial-%03d%s", s->dir, i + 1, suffix);
}

void plan_label(const struct sweep *s, int i, char *out, size_t n)
{
    size_t at = (size_t)snprintf(out, n, "trial %d/%d", i + 1, s->n);
    for (int g = 0; g < s->a->n_grid && at < n; g++)
        at += (size_t)snprintf(out + at, n - at, " %s", s->trial[i].set[g]);
}

void plan_free(struct sweep *s)
{
    for (int i = 0; i < s->n; i++) {
        for (int g = 0; g < s->a->n_grid; g++) free(s->trial[i].set[g]);
        json_decref(s->trial[i].metrics);
    }
    free(s->trial);
    free(s->recipe);
    free(s->dir);
}

/* ---- the plan ---- */

static json_t *identity(const struct sweep *s)
{
    json_t *grid = json_array();
    char data[17];
    for (int g = 0; g < s->a->n_grid; g++)
        json_array_append_new(grid, json_string(s->a->grid[g]));
    snprintf(data, sizeof data, "%016" PRIx64, s->data);
    return json_pack("{s:i, s:s, s:o, s:o}", "format", 1, "data", data, "grid", grid, "recipe",
                     recipe_json(s->a->recipe));
}

double plan_spent(const struct sweep *s) { return s->spent + clock_s() - s->started; }

int plan_save(struct sweep *s, struct err *e)
{
    s->saved = clock_s();
    json_t *o = identity(s), *trials = json_array();
    for (int i = 0; i < s->n; i++) {
        const struct trial *t = &s->trial[i];
        double seconds = t->seconds + (t->status == RUNNING ? clock_s() - t->started : 0);
        /* what runs now will have been stopped when somebody reads this */
        const char *status = status_name[t->status == RUNNING ? STOPPED : t->status];
        json_array_append_new(trials,
                              json_pack("{s:s, s:f}", "status", status, "seconds", seconds));
    }
    json_object_set_new(o, "trials", trials);
    json_object_set_new(o, "spent_s", json_real(plan_spent(s)));
    json_object_set_new(o, "winner", json_integer(s->winner + 1));
    json_object_set_new(o, "version", json_integer((json_int_t)s->version));
    char *text = json_dumps(o, JSON_INDENT(1)), *path = xasprintf("%s/plan.json", s->dir);
    int rc = io_write_atomic(path, text, strlen(text), e);
    json_decref(o);
    free(text);
    free(path);
    return rc;
}

/* What failed is tried again by a later call: a disk may have been full. */
static int take_trials(struct sweep *s, const json_t *trials, struct err *e)
{
    if ((int)json_array_size(trials) != s->n)
        return err_set(e, ERR_FORMAT, "%zu trials, %d expected", json_array_size(trials), s->n);
    for (int i = 0; i < s->n; i++) {
        const json_t *o = json_array_get(trials, (size_t)i);
        const char *status = json_string_value(json_object_get(o, "status"));
        s->trial[i].seconds = json_number_value(json_object_get(o, "seconds"));
        for (int k = 0; k < FAILED && status; k++)
            if (strcmp(status, status_name[k]) == 0) s->trial[i].status = (enum status)k;
    }
    return 0;
}

static int same_sweep(const json_t *was, const json_t *now, const char *dir, struct err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)now, key, v)
        if (!json_equal(v, json_object_get(was, key)))
            return err_set(
                e, ERR_CONFIG,
                "%s holds another sweep (its %s differs): give its command again to go "
                "on with it, or another --out",
                dir, key);
    return 0;
}

int plan_load(struct sweep *s, struct err *e)
{
    char *path = xasprintf("%s/plan.json", s->dir), *text = NULL;
    size_t nb;
    json_error_t why;
    json_t *o = NULL, *now = identity(s);
    int rc = 0;
    if (io_exists(path)) {
        rc = io_read_all(&text, &nb, path, LIMIT_JSON_FILE_BYTES, e);
        if (rc == 0 && !(o = json_loadb(text, nb, JSON_REJECT_DUPLICATES, &why)))
            rc = err_set(e, ERR_FORMAT, "line %d: %s", why.line, why.text);
        if (rc == 0) rc = same_sweep(o, now, s->dir, e);
        if (rc == 0) rc = take_trials(s, json_object_get(o, "trials"), e);
        if (rc < 0) err_ctx(e, "%s", path);
        s->spent = json_number_value(json_object_get(o, "spent_s"));
        s->winner = (int)json_integer_value(json_object_get(o, "winner")) - 1;
        s->version = json_integer_value(json_object_get(o, "version"));
        if (rc == 0 && (s->winner < -1 || s->winner >= s->n || s->version < 0))
            rc = err_set(e, ERR_FORMAT, "%s: winner %d of %d", path, s->winner + 1, s->n);
    } else {
        /* trainings read this copy: the file may be edited meanwhile */
        rc = io_copy_file(s->recipe, s->a->recipe_path, e);
    }
    json_decref(o);
    json_decref(now);
    free(text);
    free(path);
    return rc;
}

/* ---- what trials have reached ---- */

void plan_look_at(struct sweep *s, int i)
{
    struct trial *t = &s->trial[i];
    struct bundle b;
    struct err none = { 0 };
    char *dir = plan_path(s, i, "");
    if (io_exists(dir) && bundle_open(&b, dir, false, &none) == 0) {
        const json_t *valid = json_object_get(json_object_get(b.manifest, "metrics"), "valid");
        const json_t *score = json_object_get(valid, s->metric);
        if (json_is_number(score)) {
            t->score = json_number_value(score);
            t->epoch = json_integer_value(
                json_object_get(json_object_get(b.manifest, "data"), "epochs"));
            json_decref(t->metrics);
            t->metrics = json_incref((json_t *)(uintptr_t)valid);
        }
        bundle_close(&b);
    }
    free(dir);
}

int plan_best(const struct sweep *s)
{
    int best = -1;
    for (int i = 0; i < s->n; i++)
        if (!isnan(s->trial[i].score) && (best < 0 || s->trial[i].score > s->trial[best].score))
            best = i;
    return best;
}

static int by_score(const void *a, const void *b, void *trials)
{
    const struct trial *t = trials;
    double x = t[*(const int *)a].score, y = t[*(const int *)b].score;
    if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
    if (x != y) return x < y ? 1 : -1;
    return *(const int *)a - *(const int *)b;
}

void plan_print(const struct sweep *s, FILE *f, bool tabs)
{
    const char *sep = tabs ? "\t" : "  ";
    static const char *const columns[] = { "hr@10", "ndcg@10", "hr@20", "ndcg@20",
                                           "recall@50" };
    int *order = xcalloc((size_t)s->n, sizeof *order);
    for (int i = 0; i < s->n; i++) order[i] = i;
    qsort_r(order, (size_t)s->n, sizeof *order, by_score, s->trial);
    fprintf(f, "trial%sstatus%sepoch%sseconds", sep, sep, sep);
    for (int c = 0; c < 5; c++) fprintf(f, "%svalid %s", sep, columns[c]);
    fprintf(f, "%ssettings\n", sep);
    for (int i = 0; i < s->n; i++) {
        const struct trial *t = &s->trial[order[i]];
        fprintf(f, tabs ? "%d%s%s%s%" PRId64 "%s%.0f" : "%5d%s%-7s%s%5" PRId64 "%s%7.0f",
                order[i] + 1, sep, status_name[t->status], sep, t->epoch, sep, t->seconds);
        for (int c = 0; c < 5; c++) {
            const json_t *v = json_object_get(t->metrics, columns[c]);
            int width = tabs ? 0 : (int)strlen(columns[c]) + 6;
            if (v)
                fprintf(f, "%s%*.4f", sep, width, json_number_value(v));
            else
                fprintf(f, "%s%*s", sep, width, "-");
        }
        fputs(sep, f);
        for (int g = 0; g < s->a->n_grid; g++) fprintf(f, "%s%s", g ? " " : "", t->set[g]);
        fputc('\n', f);
    }
    free(order);
}

int plan_save_table(const struct sweep *s, struct err *e)
{
    char *text = NULL, *path = xasprintf("%s/table.tsv", s->dir);
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    REQUIRE(f, "open_memstream");
    plan_print(s, f, true);
    fclose(f);
    int rc = io_write_atomic(path, text, nb, e);
    free(text);
    free(path);
    return rc;
}
