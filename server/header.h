/* header.h — the request headers the daemon looks at, as pure functions over their text.
 * Every value may be NULL: the header was not sent.  Thread: any (pure). */
#pragma once
#include <stdbool.h>

/* Content-Type: application/json, with or without parameters, or none. */
bool header_is_json(const char *content_type);
/* Accept leaves room for application/json: named, or by a wildcard, and not with q=0. */
bool header_accepts_json(const char *accept);
/* X-Request-Id: 1 to LIMIT_REQUEST_ID visible ASCII characters. */
bool header_good_id(const char *id);
/* X-Request-Timeout-Ms: 1 to 3600000, or not sent: 0.  -1: something else. */
int header_timeout_ms(const char *text);
