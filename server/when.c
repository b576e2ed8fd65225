#include "server/when.h"

struct scan {
    const char *p, *end;
    bool ok;
};

static int digits(struct scan *s, int n)
{
    int x = 0;
    for (; n > 0; n--) {
        if (s->p >= s->end || *s->p < '0' || *s->p > '9') return s->ok = false, 0;
        x = x * 10 + (*s->p++ - '0');
    }
    return x;
}

static bool take(struct scan *s, const char *any_of)
{
    for (; *any_of; any_of++)
        if (s->p < s->end && *s->p == *any_of) return s->p++, true;
    return false;
}

static void expect(struct scan *s, const char *any_of)
{
    if (!take(s, any_of)) s->ok = false;
}

/* Days since 1970-01-01 of a Gregorian date (Hinnant, chrono-compatible algorithms). */
static int64_t days_from_civil(int y, int m, int d)
{
    y -= m <= 2;
    int era = (y >= 0 ? y : y - 399) / 400;
    int yoe = y - era * 400;
    int doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return (int64_t)era * 146097 + doe - 719468;
}

static int days_in_month(int y, int m)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m == 2 && leap ? 29 : days[m - 1];
}

static int fraction_ms(struct scan *s)
{
    if (!take(s, ".")) return 0;
    int ms = digits(s, 1) * 100, unit = 10;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        ms += (*s->p++ - '0') * unit;
        unit /= 10;
    }
    return ms;
}

static int offset_minutes(struct scan *s)
{
    if (take(s, "Zz")) return 0;
    int sign = take(s, "-") ? -1 : 1;
    if (sign > 0) expect(s, "+");
    int h = digits(s, 2);
    expect(s, ":");
    int m = digits(s, 2);
    if (h > 23 || m > 59) s->ok = false;
    return sign * (h * 60 + m);
}

bool when_rfc3339(int64_t *ms, const char *text, size_t n)
{
    struct scan s = { text, text + n, true };
    int y = digits(&s, 4);
    expect(&s, "-");
    int mon = digits(&s, 2);
    expect(&s, "-");
    int d = digits(&s, 2);
    expect(&s, "Tt ");
    int h = digits(&s, 2);
    expect(&s, ":");
    int min = digits(&s, 2);
    expect(&s, ":");
    int sec = digits(&s, 2);
    int frac = fraction_ms(&s);
    int offset = offset_minutes(&s);
    if (!s.ok || s.p != s.end || mon < 1 || mon > 12 || d < 1 || d > days_in_month(y, mon) ||
        h > 23 || min > 59 || sec > 60)
        return false;
    int64_t minutes = (days_from_civil(y, mon, d) * 24 + h) * 60 + min - offset;
    *ms = (minutes * 60 + sec) * 1000 + frac;
    return true;
}
