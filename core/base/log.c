#include "core/base/log.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOG_PER_SECOND = 50, N_NAMES = 64 };

static const char *const level_name[] = { "debug", "info", "warn", "error" };
static atomic_int level = LOG_INFO;

/* One row per event name: lines in this second, and lines dropped. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const char *ev;
    time_t second;
    int lines;
    long dropped;
} seen[N_NAMES]; /* GUARDED_BY(mu) */

void log_set_level(enum log_level l) { atomic_store(&level, (int)l); }

/* -1: drop this line; otherwise how many of its kind were dropped before it. */
static long admit(const char *ev, time_t now)
{
    long before = 0;
    pthread_mutex_lock(&mu);
    for (int i = 0; i < N_NAMES; i++) {
        if (seen[i].ev && strcmp(seen[i].ev, ev) != 0) continue;
        if (!seen[i].ev) seen[i].ev = ev;
        if (seen[i].second != now) {
            before = seen[i].dropped;
            seen[i].second = now;
            seen[i].lines = 0;
            seen[i].dropped = 0;
        }
        if (++seen[i].lines > LOG_PER_SECOND) {
            seen[i].dropped++;
            before = -1;
        }
        break;
    }
    pthread_mutex_unlock(&mu);
    return before;
}

const char *log_value(char *out, size_t n, const char *text)
{
    bool plain = text[0] != '\0';
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || strchr("=\"\\", *p)) plain = false;
    if (plain) {
        snprintf(out, n, "%s", text);
        return out;
    }
    size_t at = 0;
    out[at++] = '"';
    for (; *text && at + 4 <= n; text++) { /* room for two, the quote and the end */
        if (*text == '"' || *text == '\\') out[at++] = '\\';
        out[at++] = *text;
    }
    out[at++] = '"';
    out[at] = '\0';
    return out;
}

/* Control characters escaped; what does not fit is cut.  Returns the length. */
static size_t put_line(char *out, size_t n, const char *text)
{
    size_t at = 0;
    for (; *text && at + 5 <= n; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n' || c == '\t' || c == '\r')
            at += (size_t)snprintf(out + at, 3, "\\%c",
                                   c == '\n'   ? 'n'
                                   : c == '\t' ? 't'
                                               : 'r');
        else if (c < ' ' || c == 0x7f)
            at += (size_t)snprintf(out + at, 5, "\\x%02x", c);
        else
            out[at++] = (char)c;
    }
    return at;
}

void log_event(enum log_level l, const char *ev, const char *fmt, ...)
{
    if ((int)l < atomic_load_explicit(&level, memory_order_relaxed)) return;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    long dropped = admit(ev, t.tv_sec);
    if (dropped < 0) return;
    char line[2048], text[2048], when[32];
    struct tm tm;
    gmtime_r(&t.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "ts=%s.%03ldZ lvl=%s ev=%s ", when, t.tv_nsec / 1000000,
                     level_name[l], ev);
    size_t at = n > 0 ? (size_t)n : 0;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    at += put_line(line + at, sizeof line - 40 - at, text);
    if (dropped)
        at += (size_t)snprintf(line + at, sizeof line - at, " dropped=%ld\n", dropped);
    else
        line[at++] = '\n';
    fwrite(line, 1, at, stderr); /* one call: lines of several threads do not mix */
}
