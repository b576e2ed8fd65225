#include "server/when.h"
#include <check.h>
#include <string.h>

Suite *suite_when(void);

static const struct {
    const char *text;
    int64_t ms; /* -1: no date */
} dates[] = {
    { "1970-01-01T00:00:00Z", 0 },
    { "1970-01-01T00:00:01.5z", 1500 },
    { "2026-11-22T18:04:11Z", 1795370651000 },
    { "2026-11-22t18:04:11.123456789Z", 1795370651123 },
    { "2026-11-22 18:04:11.1Z", 1795370651100 },
    { "2026-11-22T19:04:11+01:00", 1795370651000 },
    { "2026-11-22T12:34:11-05:30", 1795370651000 },
    { "2000-02-29T00:00:00Z", 951782400000 },
    { "2016-12-31T23:59:60Z", 1483228800000 },
    { "9999-12-31T23:59:59Z", 253402300799000 },
    { "", -1 },
    { "2026-11-22", -1 },
    { "2026-11-22T18:04:11", -1 },
    { "2026-11-22T18:04Z", -1 },
    { "2026-11-22T18:04:11.Z", -1 },
    { "2026-11-22T18:04:11Zx", -1 },
    { "2026-11-22T24:00:00Z", -1 },
    { "2026-11-22T18:60:00Z", -1 },
    { "2026-11-31T18:04:11Z", -1 },
    { "2026-00-22T18:04:11Z", -1 },
    { "2026-13-22T18:04:11Z", -1 },
    { "2100-02-29T00:00:00Z", -1 },
    { "2026-11-22T18:04:11+1:00", -1 },
    { "2026-11-22T18:04:11+24:00", -1 },
    { "2026-11-22T18:04:11 01:00", -1 },
    { "+026-11-22T18:04:11Z", -1 },
};

START_TEST(when_reads_rfc_3339)
{
    int64_t ms = -1;
    bool ok = when_rfc3339(&ms, dates[_i].text, strlen(dates[_i].text));
    ck_assert_msg(ok == (dates[_i].ms >= 0), "%s", dates[_i].text);
    if (ok) ck_assert_msg(ms == dates[_i].ms, "%s: %ld", dates[_i].text, (long)ms);
}
END_TEST

Suite *suite_when(void)
{
    Suite *s = suite_create("when");
    TCase *t = tcase_create("when");
    tcase_add_loop_test(t, when_reads_rfc_3339, 0, (int)(sizeof dates / sizeof *dates));
    suite_add_tcase(s, t);
    return s;
}
