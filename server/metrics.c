#include "server/metrics.h"
#include "core/base/err.h"
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const int codes[METRICS_CODES] = { 200, 400, 404, 405, 406, 408, 409, 413, 415, 422,
                                          429, 431, 499, 500, 501, 503, 504, 507, 0 };
static const char *const method_names[N_METHODS] = { "GET", "HEAD",   "POST",
                                                     "PUT", "DELETE", "other" };
static const char *const stage_names[N_STAGES] = { "history", "queue", "encode",
                                                   "search",  "merge", "serialize" };
static const char *const history_names[N_HISTORY] = { "used", "unknown", "truncated" };
static const char *const candidate_names[N_CANDIDATES] = { "fetched", "merged", "returned" };
static const char *const fallback_names[N_FALLBACK] = {
    "empty_history", "all_items_unknown", "no_active_interest",
    "filtered_out",  "deadline",          "other"
};
static const char *const degraded_names[N_DEGRADED] = { "deadline", "load" };
static const char *const shed_names[N_SHED] = { "connections", "bodies", "queue",
                                                "client_gone" };

/* Seconds.  Dense where a recommendation falls: 50 us to a few ms. */
static const double time_bounds[HIST_BUCKETS] = {
    5e-5,   1e-4, 1.5e-4, 2e-4, 3e-4, 4e-4, 5e-4, 7.5e-4, 1e-3, 1.5e-3,
    2.5e-3, 5e-3, 1e-2,   2e-2, 5e-2, 0.1,  0.2,  0.5,    1,    2,
};
static const double count_bounds[HIST_BUCKETS] = {
    0, 1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 1000, 2000, 4000, 8000, 16000,
};

const char *metrics_method_name(unsigned method) { return method_names[method]; }

static inline void add(atomic_uint_fast64_t *x, uint64_t n)
{
    atomic_fetch_add_explicit(x, n, memory_order_relaxed);
}

static inline uint64_t get(atomic_uint_fast64_t *x)
{
    return atomic_load_explicit(x, memory_order_relaxed);
}

static void observe(struct hist *h, const double *bounds, double x, uint64_t units)
{
    int i = 0;
    while (i < HIST_BUCKETS && x > bounds[i]) i++;
    add(&h->bucket[i], 1);
    add(&h->sum, units);
}

void metrics_request(struct server_metrics *m, int route, enum metrics_method method,
                     int status, bool timed, uint64_t ns)
{
    int code = 0;
    while (code < METRICS_CODES - 1 && codes[code] != status) code++;
    add(&m->requests[route][method][code], 1);
    if (timed) observe(&m->duration[route], time_bounds, (double)ns * 1e-9, ns);
}

void metrics_stage(struct server_metrics *m, enum metrics_stage stage, double ms)
{
    observe(&m->stage[stage], time_bounds, ms * 1e-3, (uint64_t)(ms > 0 ? ms * 1e6 : 0));
}

void metrics_candidates(struct server_metrics *m, enum metrics_candidates kind, int32_t n)
{
    observe(&m->candidates[kind], count_bounds, (double)n, (uint64_t)(n > 0 ? n : 0));
}

void metrics_history(struct server_metrics *m, int32_t used, int32_t unknown, int32_t truncated)
{
    add(&m->history[HISTORY_USED], (uint64_t)used);
    add(&m->history[HISTORY_UNKNOWN], (uint64_t)unknown);
    add(&m->history[HISTORY_TRUNCATED], (uint64_t)truncated);
}

void metrics_fallback(struct server_metrics *m, const char *reason)
{
    int i = 0;
    while (i < FALLBACK_OTHER && strcmp(fallback_names[i], reason) != 0) i++;
    add(&m->fallback[i], 1);
}

void metrics_shed(struct server_metrics *m, enum metrics_shed reason)
{
    add(&m->shed[reason], 1);
}

void metrics_degraded(struct server_metrics *m, const char *reason)
{
    add(&m->degraded[strcmp(reason, "load") == 0 ? DEGRADED_LOAD : DEGRADED_DEADLINE], 1);
}

void metrics_batch(struct server_metrics *m, int32_t rows)
{
    observe(&m->batch, count_bounds, (double)rows, (uint64_t)rows);
}

void metrics_queue(struct server_metrics *m, int32_t rows)
{
    atomic_fetch_add_explicit(&m->queued_rows, rows, memory_order_relaxed);
}

void metrics_inflight(struct server_metrics *m, int32_t rows)
{
    atomic_fetch_add_explicit(&m->inflight_rows, rows, memory_order_relaxed);
}

/* ---- text ------------------------------------------------------------------------------------ */

void metrics_head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_label(struct buf *b, const char *value)
{
    buf_putc(b, '"');
    for (; *value; value++) {
        if (*value == '\n') {
            buf_puts(b, "\\n");
            continue;
        }
        if (*value == '"' || *value == '\\') buf_putc(b, '\\');
        buf_putc(b, *value);
    }
    buf_putc(b, '"');
}

/* label NULL: none */
static void write_hist(struct buf *b, struct hist *h, const double *bounds, double unit,
                       const char *name, const char *label, const char *value)
{
    uint64_t n = 0;
    char one[80] = "", comma[80] = ""; /* the label, alone and before another */
    if (label) {
        snprintf(one, sizeof one, "{%s=\"%s\"}", label, value);
        snprintf(comma, sizeof comma, "%s=\"%s\",", label, value);
    }
    for (int i = 0; i <= HIST_BUCKETS; i++) {
        n += get(&h->bucket[i]);
        buf_printf(b, "%s_bucket{%sle=\"", name, comma);
        if (i < HIST_BUCKETS)
            buf_printf(b, "%g\"} %lu\n", bounds[i], (unsigned long)n);
        else
            buf_printf(b, "+Inf\"} %lu\n", (unsigned long)n);
    }
    buf_printf(b, "%s_sum%s %.9g\n", name, one, (double)get(&h->sum) * unit);
    buf_printf(b, "%s_count%s %lu\n", name, one, (unsigned long)n);
}

static void write_requests(struct buf *b, struct server_metrics *m,
                           const char *const *route_names)
{
    static const char name[] = "intentd_http_requests_total";
    metrics_head(b, name, "counter", "Requests answered.");
    for (int r = 0; route_names[r]; r++)
        for (int me = 0; me < N_METHODS; me++)
            for (int c = 0; c < METRICS_CODES; c++) {
                unsigned long n = get(&m->requests[r][me][c]);
                if (!n) continue;
                buf_printf(b, "%s{route=\"%s\",method=\"%s\",code=\"", name, route_names[r],
                           method_names[me]);
                if (codes[c])
                    buf_printf(b, "%d\"} %lu\n", codes[c], n);
                else
                    buf_printf(b, "other\"} %lu\n", n);
            }
}

static void write_counters(struct buf *b, atomic_uint_fast64_t *x, int n, const char *name,
                           const char *label, const char *const *values, const char *help)
{
    metrics_head(b, name, "counter", help);
    for (int i = 0; i < n; i++)
        buf_printf(b, "%s{%s=\"%s\"} %lu\n", name, label, values[i], (unsigned long)get(&x[i]));
}

void metrics_write(struct buf *b, struct server_metrics *m, const char *const *route_names)
{
    static const char duration[] = "intentd_http_request_duration_seconds";
    static const char stage[] = "intentd_stage_duration_seconds";
    static const char candidates[] = "intentd_candidates";
    write_requests(b, m, route_names);
    metrics_head(
        b, duration, "histogram",
        "From the end of a request's headers to the end of its reply; health checks left out.");
    for (int r = 0; route_names[r]; r++)
        if (strncmp(route_names[r], "/v1/", 4) == 0)
            write_hist(b, &m->duration[r], time_bounds, 1e-9, duration, "route",
                       route_names[r]);
    metrics_head(b, stage, "histogram", "Parts of answering a recommendation.");
    for (int i = 0; i < N_STAGES; i++)
        write_hist(b, &m->stage[i], time_bounds, 1e-9, stage, "stage", stage_names[i]);
    metrics_head(b, candidates, "histogram", "Candidates of a recommendation.");
    for (int i = 0; i < N_CANDIDATES; i++)
        write_hist(b, &m->candidates[i], count_bounds, 1, candidates, "kind",
                   candidate_names[i]);
    write_counters(b, m->history, N_HISTORY, "intentd_history_items_total", "kind",
                   history_names, "Events of histories.");
    write_counters(b, m->fallback, N_FALLBACK, "intentd_fallback_total", "reason",
                   fallback_names, "Answers that no interest gave.");
    write_counters(b, m->shed, N_SHED, "intentd_shed_total", "reason", shed_names,
                   "Requests refused because of load.");
    write_counters(b, m->degraded, N_DEGRADED, "intentd_degraded_total", "reason",
                   degraded_names, "Answers cut short by their deadline, or by what waits.");
    metrics_head(b, "intentd_batch_rows", "histogram", "Users computed together.");
    write_hist(b, &m->batch, count_bounds, 1, "intentd_batch_rows", NULL, NULL);
    metrics_head(b, "intentd_queue_rows", "gauge", "Users that wait for a thread.");
    buf_printf(b, "intentd_queue_rows %d\n",
               atomic_load_explicit(&m->queued_rows, memory_order_relaxed));
    metrics_head(b, "intentd_inflight_rows", "gauge",
                 "Users whose answers are being computed.");
    buf_printf(b, "intentd_inflight_rows %d\n",
               atomic_load_explicit(&m->inflight_rows, memory_order_relaxed));
}

static void gauge(struct buf *b, const char *name, const char *type, const char *help, double x)
{
    metrics_head(b, name, type, help);
    buf_printf(b, "%s %.15g\n", name, x);
}

static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d) return -1;
    int n = -1; /* the directory itself */
    while (readdir(d)) n++;
    closedir(d);
    return n - 2; /* "." and ".." */
}

/* Fields 14, 15, 20, 22, 23, 24 of /proc/self/stat: utime, stime, threads, start, vsize, rss. */
static bool read_stat(unsigned long long v[6])
{
    char line[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f) return false;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    const char *p = strrchr(line, ')'); /* the name may hold blanks */
    return p && sscanf(p + 1,
                       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d"
                       " %llu %*d %llu %llu %llu",
                       &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]) == 6;
}

static double boot_time(void)
{
    char line[256];
    double t = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (!f) return t;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "btime %lf", &t) == 1) break;
    fclose(f);
    return t;
}

void metrics_write_process(struct buf *b)
{
    unsigned long long v[6];
    struct rlimit fds;
    double ticks = (double)sysconf(_SC_CLK_TCK);
    if (read_stat(v)) {
        gauge(b, "process_cpu_seconds_total", "counter", "User and system CPU time.",
              (double)(v[0] + v[1]) / ticks);
        gauge(b, "process_threads", "gauge", "Threads.", (double)v[2]);
        gauge(b, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.",
              boot_time() + (double)v[3] / ticks);
        gauge(b, "process_virtual_memory_bytes", "gauge", "Virtual memory.", (double)v[4]);
        gauge(b, "process_resident_memory_bytes", "gauge", "Resident memory.",
              (double)v[5] * (double)sysconf(_SC_PAGESIZE));
    }
    gauge(b, "process_open_fds", "gauge", "Open file descriptors.", open_fds());
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        gauge(b, "process_max_fds", "gauge", "Most file descriptors.", (double)fds.rlim_cur);
}
