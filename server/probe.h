/* probe.h — `intentd --health-check`: one blocking GET, for container health checks without curl.
 *   if (probe_ready("http://127.0.0.1:8080/readyz", 5, &e) == 0) ...   Thread: any. */
#pragma once
#include "core/base/err.h"

/* 0 when the URL answers 200 within the time; else an error that says what it did.  Only http://. */
NODISCARD int probe_ready(const char *url, int timeout_s, struct err *e);
