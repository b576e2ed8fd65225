/* cmd_index.c — `intent index`. */
#include "models/add_items.h"
#include "models/cmd.h"
#include "models/compact.h"
#include "models/index.h"

struct args {
    char *bundle;
    char *add_items;
    char *compact;
    int32_t type;
    float recall;
};

static const struct opt opts[] = {
    OPT_STR(struct args, bundle, NULL,
            "bundle to index: a version, or a model directory's newest"),
    OPT_STR(struct args, add_items, NULL,
            "items file: its new items get vectors from their attributes, in a new version"),
    OPT_STR(struct args, compact, NULL,
            "item store (intentd --store): its changes become part of a new version"),
    OPT_CHOICE(struct args, type, "auto", INDEX_TYPES,
               "FAISS's exact index, our exact scan, graph, lists, or what is fastest here"),
    OPT_FLOAT(struct args, recall, "0.99", 0.01, 1,
              "least share of the exact best 100 to be found"),
    OPT_END
};

static void help(void)
{
    puts("usage: intent index --bundle BUNDLE [OPTION]...\n\n"
         "Builds the search index of a bundle's item vectors, measures its recall against an "
         "exact\n"
         "scan with interest vectors of made-up histories (items drawn by popularity), and "
         "puts it\n"
         "into the bundle, which keeps its version and changes in one step.\n\n"
         "With --add-items FILE (as for prep --items) the items that the bundle does not have "
         "get "
         "vectors\n"
         "from the item tower, which model.item_tower = true trains, and a new version has "
         "them.\n\n"
         "With --compact DIR, the directory of intentd --store, a new version has what was "
         "changed there:\n"
         "deleted items leave (histories that name them have unknown items then), new ones "
         "follow "
         "the others.\n"
         "The daemon may run; once it loads that version, it removes those changes from the "
         "store.\n");
    conf_help(opts, stdout);
}

int cmd_index(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    int rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1) {
        help();
    } else if (rc == 0 && !a.bundle) {
        rc = err_set(&e, ERR_USAGE, "--bundle is needed");
    } else if (rc == 0 && a.add_items && a.compact) {
        rc = err_set(&e, ERR_USAGE,
                     "--add-items and --compact make one version each: take turns");
    } else if (rc == 0) {
        struct index_cfg cfg = { .type = (enum index_type)a.type, .recall = a.recall };
        if (a.compact)
            rc = compact(a.bundle, a.compact, &cfg, stderr, &e);
        else if (a.add_items)
            rc = add_items(a.bundle, a.add_items, &cfg, stderr, &e);
        else
            rc = index_bundle(a.bundle, &cfg, stderr, &e);
    }
    conf_free(opts, &a);
    return rc < 0 ? cmd_fail("index", &e) : 0;
}
