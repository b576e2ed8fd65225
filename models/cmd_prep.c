/* cmd_prep.c — `intent prep`: interactions of people's files to a data set directory. */
#include "core/base/conf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/read.h"
#include "models/cmd.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct prep_cfg {
    char *out, *titles;
    int32_t min_events, format;
};

static const struct opt prep_opts[] = {
    OPT_STR(struct prep_cfg, out, NULL,
            "data set directory to write (an older data set is replaced)"),
    OPT_STR(struct prep_cfg, titles, NULL,
            "CSV or TSV with a header naming an item column and title, name or attributes"),
    OPT_INT(struct prep_cfg, min_events, "2", 1, 1000000, "drop users with fewer events"),
    OPT_CHOICE(struct prep_cfg, format, "auto", "auto|seq|inter|movielens",
               "format of the inputs; auto looks at the content"),
    OPT_END
};

static void prep_help(void)
{
    puts("usage: intent prep INPUT... --out DATASET [options]\n"
         "\n"
         "Reads interactions and writes a data set. INPUT is\n"
         "  user-sequence text   a line per user: user item item ... (oldest first)\n"
         "  RecBole .inter       TAB-separated, header user_id:token item_id:token "
         "[timestamp:float] ...\n"
         "  MovieLens            ratings.csv, or a directory with ratings.csv and movies.csv; "
         "any CSV\n"
         "                       whose header names a user and an item column [and timestamp]\n"
         "Titles come from movies.csv, a RecBole .item file, or a TSV such as `item_id "
         "external_id\n"
         "attributes` (the attribute names then serve as the title).\n");
    conf_help(prep_opts, stdout);
}

static void say_error(const struct err *e) { fprintf(stderr, "intent prep: %s\n", e->msg); }

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Reads one input.  A file of unknown format is reported and passed over: others may be usable. */
static int prep_read(struct interactions *x, const char *path, int32_t format, struct err *e)
{
    struct read_stats st;
    struct err why = { 0 };
    int rc = read_events(x, path, (enum read_format)format, &st, &why);
    if (rc == ERR_FORMAT) {
        say_error(&why);
        return 0;
    }
    if (rc < 0) return err_set(e, rc, "%s", why.msg);
    read_report(&st, path, stderr);
    return 0;
}

static int prep_titles(struct interactions *x, const char *path, struct err *e)
{
    struct title_stats st;
    TRY(read_titles(x, path, &st, e));
    fprintf(stderr, "%s: titles for %lld items, %lld lines for items without events\n", path,
            (long long)st.matched, (long long)st.unknown);
    if (st.bad)
        fprintf(stderr, "%s:%lld: wrong number of fields: %lld dropped, the first here\n", path,
                (long long)st.first_bad, (long long)st.bad);
    return 0;
}

/* A MovieLens directory stands for the two files inside. */
static int prep_directory(struct interactions *x, const char *dir, const struct prep_cfg *cfg,
                          struct err *e)
{
    char *ratings = xasprintf("%s/ratings.csv", dir), *movies = xasprintf("%s/movies.csv", dir);
    int rc = 0;
    if (!io_exists(ratings))
        rc = err_set(e, ERR_NOT_FOUND, "%s: a directory without ratings.csv", dir);
    if (rc == 0) rc = prep_read(x, ratings, cfg->format, e);
    struct err why = { 0 };
    if (rc == 0 && !cfg->titles && io_exists(movies) && prep_titles(x, movies, &why) < 0)
        say_error(&why); /* nobody asked for these titles: the events are good without */
    free(ratings);
    free(movies);
    return rc;
}

static int by_length(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Opens what was written, which also checks it, and prints what it holds. */
static int prep_summary(const char *dir, struct err *e)
{
    struct dataset d;
    TRY(dataset_open(&d, dir, e));
    int64_t *len = xmalloc((size_t)d.n_users * sizeof *len);
    int32_t n_titles = 0;
    for (int32_t u = 0; u < d.n_users; u++) len[u] = d.cu[u + 1] - d.cu[u];
    for (int32_t i = 0; i < d.n_items; i++) n_titles += items_title(d.items, i).len > 0;
    qsort(len, (size_t)d.n_users, sizeof *len, by_length);
    printf("%s: %d users, %d items (%d with titles), %lld events\n", dir, d.n_users, d.n_items,
           n_titles, (long long)d.n_events);
    printf("events a user: %lld to %lld, median %lld, mean %.2f\n", (long long)len[0],
           (long long)len[d.n_users - 1], (long long)len[d.n_users / 2],
           (double)d.n_events / d.n_users);
    free(len);
    dataset_close(&d);
    return 0;
}

static int prep(const struct prep_cfg *cfg, char **input, int n_input, struct err *e)
{
    struct interactions *x = interactions_new();
    struct read_stats st;
    int rc = 0;
    for (int i = 0; i < n_input && rc == 0; i++)
        rc = is_directory(input[i]) ? prep_directory(x, input[i], cfg, e)
                                    : prep_read(x, input[i], cfg->format, e);
    if (rc == 0 && cfg->titles) rc = prep_titles(x, cfg->titles, e);
    if (rc == 0) {
        rc = interactions_write(x, cfg->out, cfg->min_events, &st, e);
        read_report_users(&st, stderr);
    }
    interactions_free(x);
    return rc < 0 ? rc : prep_summary(cfg->out, e);
}

int cmd_prep(int argc, char **argv)
{
    struct prep_cfg cfg = { 0 };
    struct err e = { 0 };
    char **pos = xcalloc((size_t)argc + 1, sizeof *pos);
    int n_pos = 0, code = 0;
    conf_defaults(prep_opts, &cfg);
    int rc = conf_args(prep_opts, &cfg, argc, argv, pos, &n_pos, &e);
    if (rc > 0) {
        prep_help();
    } else if (rc < 0 || n_pos == 0 || !cfg.out || !*cfg.out) {
        if (rc == 0)
            err_set(&e, ERR_USAGE, n_pos == 0 ? "no input given" : "--out DATASET is missing");
        say_error(&e);
        fputs("usage: intent prep INPUT... --out DATASET [--titles FILE] [--min-events N] "
              "[--format auto|seq|inter|movielens]\n",
              stderr);
        code = 2;
    } else if (prep(&cfg, pos, n_pos, &e) < 0) {
        say_error(&e);
        code = 1;
    }
    conf_free(prep_opts, &cfg);
    free(pos);
    return code;
}
