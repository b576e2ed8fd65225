/* log.h — logfmt events on standard error, one line each:  ts=... lvl=info ev=gen.swap gen=7
 *   log_info("gen.swap", "gen=%d items=%d", gen, n);
 *   char why[LOG_VALUE];  log_warn("model.refused", "reason=%s", log_value(why, sizeof why, text));
 * Control characters become \n or \x1b, so that an event stays one line; text from elsewhere goes through log_value.
 * Event names are stable API.  At most LOG_PER_SECOND lines a second for one event name; the next
 * line says how many were dropped.  Library code (core/num ad nn) does not log.  Thread: any. */
#pragma once
#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum { LOG_VALUE = 1200 }; /* room for an err's message */

void log_set_level(enum log_level l);
void log_event(enum log_level l, const char *ev, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Text as a value: as it is when it is one word, else quoted, quotes and backslashes escaped; cut at n bytes.
 * Returns out. */
const char *log_value(char *out, size_t n, const char *text);
#define log_debug(ev, ...) log_event(LOG_DEBUG, ev, __VA_ARGS__)
#define log_info(ev, ...)  log_event(LOG_INFO, ev, __VA_ARGS__)
#define log_warn(ev, ...)  log_event(LOG_WARN, ev, __VA_ARGS__)
#define log_error(ev, ...) log_event(LOG_ERROR, ev, __VA_ARGS__)
