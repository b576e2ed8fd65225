/* sweep_plan.h — what a sweep tries and where each trial stands; on disk, plan.json and table.tsv of sweep.h.
 * Thread: main. */
#pragma once
#include "models/sweep.h"
#include <jansson.h>
#include <sys/types.h>

enum status { WAITING, RUNNING, STOPPED, DONE, FAILED };
extern const char *const status_name[];
enum { SWEEP_GRIDS = 16 };

struct trial {
    char *set[SWEEP_GRIDS]; /* "key=value" of each grid, owned */
    enum status status;
    pid_t pid;       /* of a running one */
    int killed;      /* times it died of a signal that nobody here sent */
    double started;  /* clock_s */
    double seconds;  /* of this and earlier calls */
    double score;    /* on validation; NaN: none yet */
    int64_t epoch;   /* that gave it */
    json_t *metrics; /* on validation; owned, NULL: none */
};

struct sweep {
    const struct sweep_args *a;
    char *dir;    /* OUT/sweep */
    char *recipe; /* OUT/sweep/recipe.ini: the file as it was at the beginning */
    int lock,
        busy; /* descriptors: of dir, locked while a sweep runs; of a file that its trainings lock too */
    uint64_t data;
    char judge[64]; /* metric and protocol that all trials share */
    char metric[16];
    struct trial *trial;
    int n;
    double spent, started; /* seconds of earlier calls; clock_s of this one */
    double saved;          /* clock_s of the newest plan on disk */
    int winner;            /* -1: not chosen */
    int64_t version;       /* of OUT, where the winner was put; 0: not yet */
};

/* All combinations, the last grid's values changing fastest.  ERR_USAGE: a grid that is none. */
NODISCARD int plan_trials(struct sweep *s, struct err *e);
/* Every trial can be trained on the data and is judged as the others are; fills data, judge and metric. */
NODISCARD int plan_check(struct sweep *s, struct err *e);
/* Where an earlier call left it; the first call keeps the recipe.  ERR_CONFIG: it was another sweep. */
NODISCARD int plan_load(struct sweep *s, struct err *e);
NODISCARD int plan_save(struct sweep *s, struct err *e);
void plan_free(struct sweep *s);
double plan_spent(const struct sweep *s); /* seconds, of all calls */
char *plan_path(const struct sweep *s, int i,
                const char *suffix); /* OUT/sweep/trial-00I + suffix, malloc'd */
void plan_label(const struct sweep *s, int i, char *out,
                size_t n); /* "trial 2/9 train.lr=0.01" */
/* Score and metrics of trial i from its bundle, which is there from the first validation on. */
void plan_look_at(struct sweep *s, int i);
int plan_best(const struct sweep *s); /* -1: no trial has a score */
/* The trials, best first: for people, in columns; or with a tab between cells. */
void plan_print(const struct sweep *s, FILE *f, bool tabs);
NODISCARD int plan_save_table(const struct sweep *s, struct err *e);
