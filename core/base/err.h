/* err.h — world errors (I/O, input, config, limits): the first message wins.
 *   struct err e = { 0 };
 *   if (items_open(&it, path, &e) < 0) { err_ctx(&e, "loading %s", dir); fputs(e.msg, stderr); }
 * A function that can fail returns 0 or a negative ERR_* and fills *e (e may be NULL).
 * Bugs are not errors: REQUIRE aborts with the values printed, in release too.
 * Thread: any (an err belongs to its caller). */
#pragma once
#include <stdarg.h>
#include <stddef.h>

#define NODISCARD         __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* name, HTTP status, slug (the wire's `code`), title */
#define ERR_MAP(X)                                                                             \
    X(ERR_IO, 500, "internal", "Input or output failed")                                       \
    X(ERR_INTERNAL, 500, "internal", "Internal error")                                         \
    X(ERR_ANN, 500, "internal", "Index search failed")                                         \
    X(ERR_FORMAT, 400, "bad_format", "Malformed file")                                         \
    X(ERR_CONFIG, 400, "bad_config", "Bad configuration")                                      \
    X(ERR_USAGE, 400, "usage", "Wrong usage")                                                  \
    X(ERR_EMPTY, 400, "empty", "Nothing usable in the input")                                  \
    X(ERR_BAD_BUNDLE, 400, "bad_bundle", "Bundle refused")                                     \
    X(ERR_BAD_JSON, 400, "bad_json", "Malformed JSON")                                         \
    X(ERR_UNKNOWN_FIELD, 400, "unknown_field", "Unknown field")                                \
    X(ERR_BAD_TYPE, 400, "bad_type", "Wrong type")                                             \
    X(ERR_NOT_FOUND, 404, "not_found", "Not found")                                            \
    X(ERR_MODEL_NOT_FOUND, 404, "model_not_found", "Model not found")                          \
    X(ERR_METHOD, 405, "method_not_allowed", "Method not allowed")                             \
    X(ERR_NOT_ACCEPTABLE, 406, "not_acceptable", "Not acceptable")                             \
    X(ERR_BODY_TIMEOUT, 408, "body_timeout", "Body timed out")                                 \
    X(ERR_NO_STORE, 409, "no_store", "No item store")                                          \
    X(ERR_LIMIT, 413, "body_too_large", "Too large")                                           \
    X(ERR_BATCH_TOO_LARGE, 413, "batch_too_large", "Too many requests in a batch")             \
    X(ERR_MEDIA_TYPE, 415, "unsupported_media_type", "Unsupported media type")                 \
    X(ERR_INVALID, 422, "invalid_value", "Invalid value")                                      \
    X(ERR_UNKNOWN_ATTRIBUTE, 422, "unknown_attribute", "Unknown attribute")                    \
    X(ERR_UNKNOWN_ITEMS, 422, "unknown_items", "Unknown items")                                \
    X(ERR_HEADERS, 431, "headers_too_large", "Headers too large")                              \
    X(ERR_OVERLOADED, 429, "overloaded", "Overloaded")                                         \
    X(ERR_CLIENT_GONE, 499, "client_closed", "Client closed")                                  \
    X(ERR_NOT_READY, 503, "not_ready", "Not ready")                                            \
    X(ERR_DEADLINE, 504, "deadline_exceeded", "Deadline exceeded")                             \
    X(ERR_DELTA_FULL, 507, "delta_full", "Too many changed items")

enum err_code {
    ERR_NONE = 0,
#define ERR_ENUM_(name, http, slug, title) name##_POSITIVE_,
    ERR_MAP(ERR_ENUM_)
#undef ERR_ENUM_
#define ERR_ENUM_(name, http, slug, title) name = -name##_POSITIVE_,
        ERR_MAP(ERR_ENUM_)
#undef ERR_ENUM_
};

struct err {
    int code;         /* 0 or the first ERR_* set */
    const char *file; /* where it was set (static string) */
    int line;
    char msg[512]; /* "context: context: what happened", always terminated */
};

/* Records code and message unless an error stands already; returns the code that stands. */
#define err_set(e, code, ...) err_set_at((e), (code), __FILE__, __LINE__, __VA_ARGS__)
int err_set_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* As err_set with ": strerror(errno)" appended. */
#define err_sys(e, code, ...) err_sys_at((e), (code), __FILE__, __LINE__, __VA_ARGS__)
int err_sys_at(struct err *e, int code, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* Puts "context: " before the message that stands; nothing without an error.  Returns its code. */
int err_ctx(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

int err_http(int code);          /* 400, 404 ...; 500 for what is not in the table */
const char *err_slug(int code);  /* "bad_json" ... */
const char *err_title(int code); /* "Malformed JSON" ... */

#define TRY(expr)                                                                              \
    do {                                                                                       \
        int try_rc_ = (expr);                                                                  \
        if (try_rc_ < 0) return try_rc_;                                                       \
    } while (0)

/* A broken invariant is a bug: print and abort. */
#define REQUIRE(cond, ...)                                                                     \
    do {                                                                                       \
        if (__builtin_expect(!(cond), 0)) err_bug(__FILE__, __LINE__, #cond, __VA_ARGS__);     \
    } while (0)
__attribute__((noreturn)) void err_bug(const char *file, int line, const char *cond,
                                       const char *fmt, ...) PRINTF_LIKE(4, 5);
