#include "core/base/prog.h"
#include "core/base/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint64_t DRAW_NS = 100000000u;    /* on a terminal */
static const uint64_t PLAIN_NS = 10000000000u; /* a line every ten seconds elsewhere */

struct prog prog_begin(const char *label, int64_t total)
{
    uint64_t now = clock_ns();
    return (struct prog){ label, total, 0, now, now, isatty(2) != 0 };
}

static void format_span(char *out, size_t n, double s)
{
    if (s >= 3600)
        snprintf(out, n, "%dh%02dm", (int)(s / 3600), (int)(s / 60) % 60);
    else if (s >= 60)
        snprintf(out, n, "%dm%02ds", (int)(s / 60), (int)s % 60);
    else
        snprintf(out, n, "%.1fs", s);
}

void prog_step(struct prog *p, int64_t done, const char *fmt, ...)
{
    uint64_t now = clock_ns();
    p->last_done = done;
    if (now - p->last_ns < (p->tty ? DRAW_NS : PLAIN_NS)) return;
    p->last_ns = now;
    double s = (double)(now - p->start_ns) * 1e-9,
           part = p->total > 0 ? (double)done / (double)p->total : 0;
    char note[160], eta[32] = "-", bar[25];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(note, sizeof note, fmt, ap);
    va_end(ap);
    if (done > 0 && part > 0) format_span(eta, sizeof eta, s / part * (1 - part));
    int full = part < 1 ? (int)(part * 24) : 24;
    memset(bar, '.', 24);
    memset(bar, '#', (size_t)full);
    bar[24] = '\0';
    double rate = s > 0 ? (double)done / s : 0;
    if (p->tty)
        fprintf(stderr, "\r\033[K%s [%s] %3.0f%% %.0f/s eta %s  %s", p->label, bar, part * 100,
                rate, eta, note);
    else
        fprintf(stderr, "%s %3.0f%% %.0f/s eta %s  %s\n", p->label, part * 100, rate, eta,
                note);
}

void prog_end(struct prog *p, const char *fmt, ...)
{
    double s = (double)(clock_ns() - p->start_ns) * 1e-9;
    char note[240], span[32];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(note, sizeof note, fmt, ap);
    va_end(ap);
    format_span(span, sizeof span, s);
    fprintf(stderr, "%s%s %s  %s\n", p->tty ? "\r\033[K" : "", p->label, span, note);
}
