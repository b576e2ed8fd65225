#include "core/base/err.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int http;
    const char *slug, *title;
} table[] = { [ERR_NONE] = { 200, "ok", "OK" },
#define ERR_ROW_(name, http, slug, title) [name##_POSITIVE_] = { http, slug, title },
              ERR_MAP(ERR_ROW_)
#undef ERR_ROW_
};

static int row_of(int code)
{
    int n = (int)(sizeof table / sizeof table[0]);
    return code <= 0 && -code < n ? -code : ERR_INTERNAL_POSITIVE_;
}

int err_http(int code) { return table[row_of(code)].http; }
const char *err_slug(int code) { return table[row_of(code)].slug; }
const char *err_title(int code) { return table[row_of(code)].title; }

/* Fills a fresh error; suffix may be NULL. */
__attribute__((format(printf, 6, 0))) static void fill(struct err *e, int code,
                                                       const char *file, int line,
                                                       const char *suffix, const char *fmt,
                                                       va_list ap)
{
    e->code = code;
    e->file = file;
    e->line = line;
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (suffix && at < sizeof e->msg) snprintf(e->msg + at, sizeof e->msg - at, ": %s", suffix);
}

int err_set_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
{
    if (!e) return code;
    if (e->code) return e->code;
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, file, line, NULL, fmt, ap);
    va_end(ap);
    return code;
}

int err_sys_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
{
    int saved = errno;
    if (!e) return code;
    if (e->code) return e->code;
    char why[128];
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, file, line, strerror_r(saved, why, sizeof why), fmt, ap);
    va_end(ap);
    return code;
}

int err_ctx(struct err *e, const char *fmt, ...)
{
    if (!e || !e->code) return e ? e->code : ERR_NONE;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at < sizeof e->msg) snprintf(e->msg + at, sizeof e->msg - at, ": %s", old);
    return e->code;
}

void err_bug(const char *file, int line, const char *cond, const char *fmt, ...)
{
    fprintf(stderr, "%s:%d: bug: %s is false: ", file, line, cond);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}
