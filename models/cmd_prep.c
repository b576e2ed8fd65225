/* cmd_prep.c — `intent prep`: interactions of people's files to a data set directory. */
#include "core/base/conf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/data/describe.h"
#include "core/data/items_read.h"
#include "models/cmd.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct prep_cfg {
    char *out, *user_col, *item_col, *time_col, *event_col, *title_col, *header, *events;
    char *fields, *items_header, *items_item_col, *valid_from, *test_from;
    int32_t min_events, min_item_events, format, split;
    bool describe, json;
    char **items; /* [n_items] files of --items */
    int n_items;
};

static const struct opt prep_opts[] = {
    OPT_STR(struct prep_cfg, out, NULL,
            "data set directory to write (an older data set is replaced)"),
    OPT_CHOICE(struct prep_cfg, format, "auto", "auto|seq|inter|csv|tsv",
               "format of the inputs; auto looks at the content"),
    OPT_STR(struct prep_cfg, user_col, NULL, "name of the user column of a table"),
    OPT_STR(struct prep_cfg, item_col, NULL, "name of the item column"),
    OPT_STR(struct prep_cfg, time_col, NULL, "name of the timestamp column; -: there is none"),
    OPT_STR(struct prep_cfg, event_col, NULL, "name of the column of event types; -: none"),
    OPT_STR(struct prep_cfg, header, NULL,
            "names of the columns of inputs that have no header: user,item,rating,time"),
    OPT_STR(struct prep_cfg, events, NULL,
            "event types to keep and their weights in the loss: view,buy=5 (*: all others)"),
    OPT_INT(struct prep_cfg, min_events, "2", 1, 1000000, "drop users with fewer events"),
    OPT_INT(
        struct prep_cfg, min_item_events, "1", 1, 1000000,
        "drop items with fewer events; with --min-events repeated until all have enough: the "
        "k-core"),
    OPT_CHOICE(struct prep_cfg, split, "leave-one-out", "leave-one-out|time",
               "what is test: each user's last event, or what came after a moment"),
    OPT_STR(struct prep_cfg, valid_from, NULL,
            "--split time: validation begins at a share of the events, a date or a time stamp "
            "(default 80%)"),
    OPT_STR(struct prep_cfg, test_from, NULL, "--split time: test begins (default 90%)"),
    OPT_STR(struct prep_cfg, items_item_col, NULL, "name of the item column of --items"),
    OPT_STR(struct prep_cfg, title_col, NULL, "name of the title column of --items; -: none"),
    OPT_STR(
        struct prep_cfg, fields, NULL,
        "attribute fields of --items: genres,year:number,brand:values (default: every column "
        "that can be one)"),
    OPT_STR(struct prep_cfg, items_header, NULL,
            "names of the columns of --items without header"),
    OPT_BOOL(
        struct prep_cfg, describe, "false",
        "print lengths, popularity, repeats and time span; of a data set without --out too"),
    OPT_BOOL(struct prep_cfg, json, "false", "print the description as one JSON object"),
    OPT_END
};

static void prep_help(void)
{
    puts("usage: intent prep INPUT... --out DATASET [--items FILE]... [options]\n"
         "       intent prep --describe DATASET\n"
         "\n"
         "Reads interactions and writes a data set. INPUT, plain or packed with gzip or zstd, "
         "is\n"
         "  user-sequence text   a line per user: user item item ... (oldest first)\n"
         "  RecBole .inter       TAB-separated, header user_id:token item_id:token "
         "[timestamp:float] ...\n"
         "  CSV, TSV             with a header that names a user and an item column, in any "
         "order,\n"
         "                       [a timestamp: seconds, ms, us, ns or ISO 8601] [an event "
         "type]\n"
         "  MovieLens directory  ratings.csv, with movies.csv for --items\n"
         "What is dropped is counted by reason and said with the line of the first.\n");
    conf_help(prep_opts, stdout);
    printf("  %-34s titles and attributes: CSV or TSV with a header, RecBole .item, or JSON\n"
           "  %-34s {\"id\": [attribute, ...]}; may be repeated\n",
           "--items FILE", "");
}

static void say_error(const struct err *e) { fprintf(stderr, "intent prep: %s\n", e->msg); }

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

struct prep {
    const struct prep_cfg *cfg;
    struct read_opts read;
    struct items_opts items;
    struct write_opts write;
    struct event_types types;
    struct interactions *x;
};

/* Reads one input.  A file of unknown format is reported and passed over: others may be usable.  One that is known
 * but does not fit what was asked for is an error. */
static int prep_read(struct prep *p, const char *path, struct err *e)
{
    struct read_stats st;
    struct err why = { 0 };
    int rc = read_events(p->x, path, &p->read, &st, &why);
    if (rc == ERR_FORMAT && st.format == READ_AUTO) {
        say_error(&why);
        return 0;
    }
    if (rc < 0) return err_set(e, rc, "%s", why.msg);
    read_report(&st, path, stderr);
    return 0;
}

static int prep_items(struct prep *p, const char *path, struct err *e)
{
    struct items_stats st;
    TRY(read_items(interactions_items(p->x), path, &p->items, &st, e));
    items_report(&st, path, stderr);
    return 0;
}

/* The first option given that is about items files, or NULL. */
static const char *items_options(const struct prep_cfg *c)
{
    return c->fields           ? "--fields"
           : c->title_col      ? "--title-col"
           : c->items_header   ? "--items-header"
           : c->items_item_col ? "--items-item-col"
                               : NULL;
}

/* A MovieLens directory stands for the two files inside. */
static int prep_directory(struct prep *p, const char *dir, struct err *e)
{
    char *ratings = xasprintf("%s/ratings.csv", dir), *movies = xasprintf("%s/movies.csv", dir);
    int rc = 0;
    if (!io_exists(ratings))
        rc = err_set(e, ERR_NOT_FOUND, "%s: a directory without ratings.csv", dir);
    if (rc == 0) rc = prep_read(p, ratings, e);
    struct err why = { 0 };
    bool asked = items_options(p->cfg) != NULL;
    if (rc == 0 && p->cfg->n_items == 0 && io_exists(movies) &&
        prep_items(p, movies, &why) < 0) {
        if (asked)
            rc = err_set(e, why.code, "%s", why.msg);
        else
            say_error(&why); /* nobody asked for these titles: the events are good without */
    }
    free(ratings);
    free(movies);
    return rc;
}

static void describe(const struct dataset *d, bool json)
{
    struct description s;
    describe_dataset(&s, d);
    if (!json) {
        describe_print(&s, d, stdout);
        return;
    }
    json_t *o = describe_json(&s, d);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

/* Opens what was written, which also checks it, and prints what it holds. */
static int prep_summary(const char *dir, const struct prep_cfg *cfg, struct err *e)
{
    struct dataset d;
    TRY(dataset_open(&d, dir, e));
    if (cfg->describe || cfg->json) {
        describe(&d, cfg->json);
    } else {
        struct description s;
        int32_t n_titles = 0;
        describe_dataset(&s, &d);
        for (int32_t i = 0; i < d.n_items; i++) n_titles += items_title(d.items, i).len > 0;
        printf("%s: %d users, %d items (%d with titles), %lld events\n", dir, d.n_users,
               d.n_items, n_titles, (long long)d.n_events);
        printf("events a user: %lld to %lld, median %lld, mean %.2f; %lld validation and %lld "
               "test cases\n",
               (long long)s.length.least, (long long)s.length.most, (long long)s.length.median,
               (double)d.n_events / d.n_users, (long long)s.valid, (long long)s.test);
    }
    dataset_close(&d);
    return 0;
}

static int prep_options(struct prep *p, const struct prep_cfg *cfg, struct err *e)
{
    *p = (struct prep){ .cfg = cfg };
    p->read.format = (enum read_format)cfg->format;
    p->read.columns = (struct column_names){ { [COL_USER] = cfg->user_col,
                                               [COL_ITEM] = cfg->item_col,
                                               [COL_TIME] = cfg->time_col,
                                               [COL_EVENT] = cfg->event_col } };
    p->read.header = cfg->header;
    if (cfg->events) {
        TRY(event_types_parse(&p->types, cfg->events, e));
        p->read.types = &p->types;
    }
    p->items.columns = (struct column_names){
        { [COL_ITEM] = cfg->items_item_col, [COL_TITLE] = cfg->title_col }
    };
    p->items.fields = cfg->fields;
    p->items.header = cfg->items_header;
    p->write.min_events = cfg->min_events;
    p->write.min_item_events = cfg->min_item_events;
    p->write.split.kind = (enum split_kind)cfg->split;
    if (cfg->split != SPLIT_TIME && (cfg->valid_from || cfg->test_from))
        return err_set(e, ERR_USAGE, "--valid-from and --test-from are for --split time");
    if (cfg->split != SPLIT_TIME) return 0;
    TRY(split_point_parse(&p->write.split.valid, cfg->valid_from ? cfg->valid_from : "80%", e));
    return split_point_parse(&p->write.split.test, cfg->test_from ? cfg->test_from : "90%", e);
}

static int prep(const struct prep_cfg *cfg, char **input, int n_input, struct err *e)
{
    struct prep p;
    struct read_stats st;
    TRY(prep_options(&p, cfg, e));
    bool directory = false;
    for (int i = 0; i < n_input; i++) directory |= is_directory(input[i]);
    if (items_options(cfg) && cfg->n_items == 0 && !directory)
        return err_set(e, ERR_USAGE, "%s is about items files, and no --items is given",
                       items_options(cfg));
    p.x = interactions_new();
    int rc = 0;
    for (int i = 0; i < n_input && rc == 0; i++)
        rc = is_directory(input[i]) ? prep_directory(&p, input[i], e)
                                    : prep_read(&p, input[i], e);
    for (int i = 0; i < cfg->n_items && rc == 0; i++) rc = prep_items(&p, cfg->items[i], e);
    if (rc == 0) {
        rc = interactions_write(p.x, cfg->out, &p.write, &st, e);
        read_report_users(&st, stderr);
    }
    interactions_free(p.x);
    return rc < 0 ? rc : prep_summary(cfg->out, cfg, e);
}

static int run(const struct prep_cfg *cfg, char **pos, int n_pos, struct err *e)
{
    bool only_describe = (cfg->describe || cfg->json) && !cfg->out;
    if (n_pos == 0)
        return err_set(e, ERR_USAGE,
                       only_describe ? "--describe needs a data set" : "no input given");
    if (only_describe && n_pos == 1) return prep_summary(pos[0], cfg, e);
    if (!cfg->out || !*cfg->out) return err_set(e, ERR_USAGE, "--out DATASET is missing");
    return prep(cfg, pos, n_pos, e);
}

int cmd_prep(int argc, char **argv)
{
    struct prep_cfg cfg = { 0 };
    struct err e = { 0 };
    char **pos = xcalloc((size_t)argc + 1, 2 * sizeof *pos);
    int n_pos = 0;
    conf_defaults(prep_opts, &cfg);
    cfg.items = pos + argc + 1;
    int rc = cmd_repeated("--items", &argc, argv, cfg.items, &cfg.n_items, &e);
    if (rc == 0) rc = conf_args(prep_opts, &cfg, argc, argv, pos, &n_pos, &e);
    if (rc > 0)
        prep_help();
    else if (rc == 0)
        rc = run(&cfg, pos, n_pos, &e);
    conf_free(prep_opts, &cfg);
    free(pos);
    return rc < 0 ? cmd_fail("prep", &e) : 0;
}
