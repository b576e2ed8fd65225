/* metrics.h — counters and histograms of the daemon in Prometheus' text format.
 *   metrics_request(m, route, METHOD_POST, 200, ns);  metrics_stage(m, STAGE_ENCODE, ms);
 *   metrics_write(&out, m, route_names);              GET /metrics
 * Labels come from small fixed sets: never users, items or paths of the client.
 * Thread: any; every field is atomic, relaxed. */
#pragma once
#include "core/base/buf.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum metrics_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OTHER,
    N_METHODS
};
enum metrics_stage {
    STAGE_HISTORY, /* parsing the request */
    STAGE_QUEUE,   /* waiting for a thread */
    STAGE_ENCODE,  /* this and the next two once a batch */
    STAGE_SEARCH,
    STAGE_MERGE,
    STAGE_SERIALIZE,
    N_STAGES
};
enum metrics_history { HISTORY_USED, HISTORY_UNKNOWN, HISTORY_TRUNCATED, N_HISTORY };
enum metrics_candidates {
    CANDIDATES_FETCHED,
    CANDIDATES_MERGED,
    CANDIDATES_RETURNED,
    N_CANDIDATES
};
enum metrics_fallback {
    FALLBACK_EMPTY,
    FALLBACK_UNKNOWN,
    FALLBACK_INACTIVE,
    FALLBACK_FILTERED,
    FALLBACK_DEADLINE,
    FALLBACK_OTHER,
    N_FALLBACK
};

enum metrics_degraded { DEGRADED_DEADLINE, DEGRADED_LOAD, N_DEGRADED };

enum metrics_shed {
    SHED_CONNECTIONS, /* over max_connections */
    SHED_BODIES,      /* bodies held together are too large */
    SHED_QUEUE,       /* too many rows wait */
    SHED_GONE,        /* the client closed before its turn */
    N_SHED
};

enum { METRICS_ROUTES = 24, METRICS_CODES = 19, HIST_BUCKETS = 20 };

struct hist {
    atomic_uint_fast64_t bucket[HIST_BUCKETS + 1]; /* not cumulative; the last is +Inf */
    atomic_uint_fast64_t sum;                      /* ns, or units */
};

struct server_metrics {
    atomic_uint_fast64_t requests[METRICS_ROUTES][N_METHODS][METRICS_CODES];
    struct hist duration[METRICS_ROUTES];
    struct hist stage[N_STAGES];
    struct hist candidates[N_CANDIDATES];
    atomic_uint_fast64_t history[N_HISTORY];
    atomic_uint_fast64_t fallback[N_FALLBACK];
    atomic_uint_fast64_t shed[N_SHED];
    atomic_uint_fast64_t degraded[N_DEGRADED];
    struct hist batch;                     /* rows computed together */
    atomic_int queued_rows, inflight_rows; /* that wait; that are computed */
};

/* status 499: the client went away first.  timed: counts in the latency histogram too. */
void metrics_request(struct server_metrics *m, int route, enum metrics_method method,
                     int status, bool timed, uint64_t ns);
void metrics_stage(struct server_metrics *m, enum metrics_stage stage, double ms);
void metrics_candidates(struct server_metrics *m, enum metrics_candidates kind, int32_t n);
void metrics_history(struct server_metrics *m, int32_t used, int32_t unknown,
                     int32_t truncated);
void metrics_fallback(struct server_metrics *m, const char *reason); /* rec_answer's word */
void metrics_shed(struct server_metrics *m, enum metrics_shed reason);
void metrics_degraded(struct server_metrics *m, const char *reason); /* rec_degraded's word */
void metrics_batch(struct server_metrics *m, int32_t rows);
/* More, or fewer, that wait or are computed. */
void metrics_queue(struct server_metrics *m, int32_t rows);
void metrics_inflight(struct server_metrics *m, int32_t rows);

const char *metrics_method_name(unsigned method); /* "GET" ... "other" */
/* What the counters hold; route_names ends with NULL. */
void metrics_write(struct buf *b, struct server_metrics *m, const char *const *route_names);
/* process_*: from /proc/self. */
void metrics_write_process(struct buf *b);
/* "# HELP name text\n# TYPE name type\n" */
void metrics_head(struct buf *b, const char *name, const char *type, const char *help);
/* value as a label: backslash, quote and newline escaped, with its quotes. */
void metrics_label(struct buf *b, const char *value);
