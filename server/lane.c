#include "server/lane.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>

/* A client that waited this long may have gone: asking costs a system call. */
static const uint64_t GONE_NS = 1000000;

struct lane {
    struct app *app;
    struct rec_worker *worker;
    struct call *first, *last;
    int32_t rows;
    struct lane_cfg cfg;
    struct rec_job **job; /* [n_most] of the pass */
    int32_t n_most;
    double
        row_us; /* what a row costs of late, with all else that the thread does between batches */
    uint64_t end_ns; /* of the last batch, while others wait; 0: none did */
};

struct lane *lane_new(struct app *app, const struct lane_cfg *cfg)
{
    struct lane *b = xcalloc(1, sizeof *b);
    *b = (struct lane){ .app = app,
                        .worker = rec_worker_new(),
                        .cfg = *cfg,
                        .n_most = cfg->batch_rows + LIMIT_BATCH_ROWS };
    b->job = xcalloc((size_t)b->n_most, sizeof(struct rec_job *));
    return b;
}

void lane_free(struct lane *b)
{
    if (!b) return;
    REQUIRE(!b->first, "%d rows still wait", b->rows);
    rec_worker_free(b->worker);
    free(b->job);
    free(b);
}

static int32_t rows_of(const struct call *c) { return c->score ? 1 : c->n_jobs; }

/* How long so many rows will take. */
static double ms_of(const struct lane *b, int32_t rows) { return rows * b->row_us * 1e-3; }

bool lane_admit(struct lane *b, struct call *c, int32_t rows)
{
    const double wait_ms = ms_of(b, b->rows);
    const bool room = b->rows + (rows ? rows : 1) <= b->cfg.queue_rows;
    /* Alone, a request of any size is let in. */
    if (b->rows == 0) return true;
    if (room && (b->cfg.queue_ms == 0 || wait_ms <= b->cfg.queue_ms)) return true;
    c->retry_after_ms = 1 + (int)wait_ms;
    metrics_shed(&b->app->metrics, SHED_QUEUE);
    if (room)
        call_fail(c, ERR_OVERLOADED, "queue full: what waits takes about %d ms",
                  c->retry_after_ms);
    else
        call_fail(c, ERR_OVERLOADED, "queue full: %d rows wait, the limit is %d", b->rows,
                  b->cfg.queue_rows);
    return false;
}

void lane_add(struct lane *b, struct call *c)
{
    c->queued_ns = clock_ns();
    c->next = NULL;
    if (b->last)
        b->last->next = c;
    else
        b->first = c;
    b->last = c;
    b->rows += rows_of(c);
    metrics_queue(&b->app->metrics, rows_of(c));
}

bool lane_waits(const struct lane *b) { return b->first != NULL; }

/* Nobody reads the answer. */
static bool is_lost(struct call *c, uint64_t now)
{
    if (now - c->queued_ns < GONE_NS) return false;
    if (conn_gone(c->conn)) {
        metrics_shed(&c->app->metrics, SHED_GONE);
        call_fail(c, ERR_CLIENT_GONE, "the client closed the connection");
        return true;
    }
    return false;
}

/* One in how many interests there is time for, by what waits behind the first. */
static int32_t hurry_of(const struct lane *b)
{
    if (!b->cfg.degrade) return 0;
    const int32_t others = b->rows - rows_of(b->first);
    double full = (double)others / b->cfg.queue_rows;
    if (b->cfg.queue_ms > 0) full = fmax(full, ms_of(b, others) / b->cfg.queue_ms);
    if (full > .75) return LIMIT_INTERESTS;
    return full > .5 ? 2 : 0;
}

/* From the front: requests to one generation, as many as one batch may hold. */
static struct call *take(struct lane *b, int32_t *n_jobs, int32_t *n_rows)
{
    struct call *done = b->first, *last = done;
    REQUIRE(done, "nothing waits");
    const uint64_t now = clock_ns();
    int32_t rows = 0;
    const int32_t hurry = hurry_of(b);
    *n_jobs = 0;
    for (struct call *c = b->first; c; c = c->next) {
        if (c != done && (c->gen != done->gen || c->view != done->view || c->score ||
                          done->score || rows + rows_of(c) > b->cfg.batch_rows))
            break;
        rows += rows_of(c);
        metrics_stage(&b->app->metrics, STAGE_QUEUE, (double)(now - c->queued_ns) * 1e-6);
        if (!is_lost(c, now))
            for (int32_t i = 0; i < c->n_jobs; i++) {
                c->req[i].rec.hurry = hurry;
                b->job[(*n_jobs)++] = &c->job[i];
            }
        last = c;
    }
    b->first = last->next;
    if (!b->first) b->last = NULL;
    last->next = NULL;
    b->rows -= rows;
    *n_rows = rows;
    metrics_queue(&b->app->metrics, -rows);
    return done;
}

static void score(struct lane *b, struct call *c)
{
    if (c->fail.code) return;
    struct err e = { 0 };
    if (c->deadline_ns && clock_ns() > c->deadline_ns)
        call_fail(c, ERR_DEADLINE, "the deadline passed before the candidates were scored");
    else if (score_candidates(&c->scores, rec_worker_tape(b->worker), c->gen, c->score, &e) < 0)
        call_fail(c, e.code, "%s", e.msg);
}

static void count_batch(struct server_metrics *m, const struct rec_answer *a)
{
    metrics_batch(m, a->batch);
    metrics_stage(m, STAGE_ENCODE, a->encode_ms);
    metrics_stage(m, STAGE_SEARCH, a->search_ms);
    metrics_stage(m, STAGE_MERGE, a->merge_ms);
}

/* Near the middle of what was seen of late: one batch that the machine held up must not make everybody else too late. */
static void learn(double *us, double seen)
{
    if (*us == 0) *us = seen;
    *us *= seen > *us ? 1.1 : 1 / 1.1;
}

struct call *lane_serve(struct lane *b)
{
    if (!b->first) return NULL;
    const uint64_t start = b->end_ns ? b->end_ns : clock_ns();
    int32_t n = 0, rows = 0;
    struct call *done = take(b, &n, &rows);
    metrics_inflight(&b->app->metrics, rows);
    if (done->score) score(b, done);
    if (n > 0) {
        rec_run(b->worker, &done->corpus, b->job, n);
        count_batch(&b->app->metrics, &b->job[0]->answer);
    }
    for (struct call *c = done; c; c = c->next) call_finish(c);
    metrics_inflight(&b->app->metrics, -rows);
    const uint64_t end = clock_ns();
    learn(&b->row_us, (double)(end - start) * 1e-3 / rows);
    b->end_ns = b->first ? end : 0;
    return done;
}
