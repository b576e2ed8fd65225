#include "core/serve/reply.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCORE_DIGITS = 7, WEIGHT_DIGITS = 4, MOST_DIGITS = 9 };

void reply_int(struct buf *b, int64_t x)
{
    char s[24], *p = s + sizeof s;
    uint64_t u = x < 0 ? -(uint64_t)x : (uint64_t)x;
    do {
        *--p = (char)('0' + u % 10);
        u /= 10;
    } while (u);
    if (x < 0) *--p = '-';
    buf_put(b, p, (size_t)(s + sizeof s - p));
}

static double pow10_int(int n) /* n >= 0; exact up to 1e22 */
{
    double y = 1, base = 10;
    for (; n > 0; n >>= 1, base *= base)
        if (n & 1) y *= base;
    return y;
}

/* |x| as `digits` decimal digits d.ddd, rounded, and its exponent. */
static int64_t decimal(double x, int digits, int *exponent)
{
    int ex = (int)floor(ilogb(x) * 0.30103); /* of 2^ilogb(x): may be one too small */
    double scaled = 0;
    int64_t limit = 1, m;
    for (int i = 0; i < digits; i++) limit *= 10;
    for (int tries = 0; tries < 3; tries++) {
        int shift = digits - 1 - ex;
        scaled = shift >= 0 ? x * pow10_int(shift) : x / pow10_int(-shift);
        m = llrint(scaled);
        if (m >= limit)
            ex++;
        else if (m < limit / 10)
            ex--;
        else
            break;
    }
    *exponent = ex;
    return m;
}

static void put_exponent(struct buf *b, int ex)
{
    buf_puts(b, ex < 0 ? "e-" : "e+");
    if (abs(ex) < 10) buf_putc(b, '0');
    reply_int(b, abs(ex));
}

void reply_num(struct buf *b, double x, int digits)
{
    char s[MOST_DIGITS + 1];
    if (!isfinite(x)) return buf_puts(b, "null");
    if (x < 0) buf_putc(b, '-');
    if (fabs(x) < 1e-300) return buf_putc(b, '0');
    int ex, n = digits;
    int64_t m = decimal(fabs(x), digits, &ex);
    for (int i = digits - 1; i >= 0; i--, m /= 10) s[i] = (char)('0' + m % 10);
    while (n > 1 && s[n - 1] == '0') n--;
    if (ex < -4 || ex >= digits) { /* d.ddde-NN */
        buf_put(b, s, 1);
        if (n > 1) buf_putc(b, '.');
        buf_put(b, s + 1, (size_t)n - 1);
        put_exponent(b, ex);
    } else if (ex < 0) { /* 0.00ddd */
        buf_put(b, "0.0000", (size_t)(1 - ex));
        buf_put(b, s, (size_t)n);
    } else { /* ddd.ddd */
        int whole = ex + 1;
        buf_put(b, s, (size_t)(n < whole ? n : whole));
        for (int i = n; i < whole; i++) buf_putc(b, '0');
        if (n > whole) buf_putc(b, '.');
        if (n > whole) buf_put(b, s + whole, (size_t)(n - whole));
    }
}

/* ---- the answer ---- */

static void put_key(struct buf *b, const char *key)
{
    buf_putc(b, '"');
    buf_puts(b, key);
    buf_puts(b, "\":");
}

static void put_next(struct buf *b, const char *key) /* ,"key": */
{
    buf_putc(b, ',');
    put_key(b, key);
}

static void put_str(struct buf *b, struct str s) { buf_json_str(b, s.p, (size_t)s.len); }

static void put_id(struct buf *b, const struct corpus *c, int32_t row)
{
    put_key(b, "item_id");
    put_str(b, corpus_id(c, row));
}

static void put_title(struct buf *b, const struct corpus *c, int32_t row)
{
    struct str title = corpus_title(c, row);
    if (title.len == 0) return;
    put_next(b, "title");
    put_str(b, title);
}

static void put_model(struct buf *b, const struct gen_info *info)
{
    put_key(b, "model");
    buf_puts(b, "{\"name\":");
    buf_json_str(b, info->name, strlen(info->name));
    buf_puts(b, ",\"version\":\"");
    reply_int(b, info->version);
    buf_puts(b, "\",\"index\":\"");
    reply_int(b, info->version);
    buf_putc(b, '/');
    buf_puts(b, info->index_type);
    buf_puts(b, "\",\"items\":");
    reply_int(b, info->n_items);
    buf_putc(b, '}');
}

/* [{"item_id","weight"}]: what an interest listened to. */
static void put_events(struct buf *b, const struct rec_interest *in, const struct corpus *c,
                       bool titles)
{
    buf_putc(b, '[');
    for (int32_t i = 0; i < in->n_events; i++) {
        buf_puts(b, i ? ",{" : "{");
        put_id(b, c, in->event[i].row);
        if (titles) put_title(b, c, in->event[i].row);
        put_next(b, "weight");
        reply_num(b, (double)in->event[i].weight, WEIGHT_DIGITS);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
}

static void put_item_explain(struct buf *b, const struct rec_answer *a,
                             const struct rec_item *it, const struct corpus *c)
{
    put_next(b, "explain");
    buf_puts(b, "{\"scores_by_interest\":[");
    for (int32_t k = 0; k < a->n_interests; k++) {
        if (k) buf_putc(b, ',');
        reply_num(b, (double)it->by_interest[k], SCORE_DIGITS);
    }
    buf_puts(b, "],\"rank_in_interest\":");
    reply_int(b, it->rank_in_interest);
    buf_puts(b, ",\"diversity_penalty\":");
    reply_num(b, (double)it->penalty, WEIGHT_DIGITS);
    buf_puts(b, ",\"interest_history\":");
    put_events(b, &a->interest[it->interest], c, false);
    buf_puts(b, it->row < corpus_base(c) ? ",\"source\":\"index\"}" : ",\"source\":\"delta\"}");
}

static void put_item(struct buf *b, const struct rec_answer *a, const struct rec_item *it,
                     const struct corpus *c, bool explain)
{
    buf_putc(b, '{');
    put_id(b, c, it->row);
    put_title(b, c, it->row);
    put_next(b, "score");
    reply_num(b, (double)it->score, SCORE_DIGITS);
    put_next(b, "interest");
    if (it->interest >= 0)
        reply_int(b, it->interest);
    else
        buf_puts(b, "null,\"source\":\"popular\"");
    if (explain && it->by_interest) put_item_explain(b, a, it, c);
    buf_putc(b, '}');
}

static void put_history(struct buf *b, const struct rec_answer *a)
{
    put_next(b, "history");
    buf_puts(b, "{\"received\":");
    reply_int(b, a->received);
    buf_puts(b, ",\"used\":");
    reply_int(b, a->used);
    buf_puts(b, ",\"unknown\":");
    reply_int(b, a->unknown);
    buf_puts(b, ",\"truncated\":");
    reply_int(b, a->truncated);
    buf_putc(b, '}');
}

/* Of /v1/similar: what it knows no neighbours of. */
static void put_unknown_items(struct buf *b, const struct rec_answer *a)
{
    put_next(b, "unknown");
    buf_putc(b, '[');
    for (int32_t i = 0; i < a->unknown; i++) {
        if (i) buf_putc(b, ',');
        put_str(b, a->unknown_item[i]);
    }
    buf_putc(b, ']');
}

static void put_fallback(struct buf *b, const struct rec_answer *a)
{
    put_next(b, "fallback");
    if (!a->fallback) return buf_puts(b, "null");
    buf_puts(b, "{\"used\":\"");
    buf_puts(b, a->fallback_used);
    buf_puts(b, "\",\"reason\":\"");
    buf_puts(b, a->fallback);
    buf_puts(b, "\"}");
}

static void put_degraded(struct buf *b, const struct rec_degraded *d)
{
    const char *comma = "";
    put_next(b, "degraded");
    if (!d->reason) return buf_puts(b, "null");
    buf_puts(b, "{\"reason\":\"");
    buf_puts(b, d->reason);
    buf_puts(b, "\",\"coverage\":");
    reply_num(b, d->coverage, WEIGHT_DIGITS);
    buf_puts(b, ",\"skipped\":[");
    if (d->encode) {
        buf_puts(b, "\"encode\",\"search\"");
        comma = ",";
    }
    for (int32_t i = 0; i < d->n_interests; i++, comma = ",") {
        buf_puts(b, comma);
        buf_puts(b, "\"interest:");
        reply_int(b, d->interest[i]);
        buf_putc(b, '"');
    }
    if (d->diversity) {
        buf_puts(b, comma);
        buf_puts(b, "\"diversity\"");
    }
    buf_puts(b, "]}");
}

static void put_interest(struct buf *b, const struct rec_interest *in, const struct corpus *c)
{
    buf_puts(b, "{\"index\":");
    reply_int(b, in->index);
    buf_puts(b, ",\"norm\":");
    reply_num(b, (double)in->norm, SCORE_DIGITS);
    buf_puts(b, in->active ? ",\"active\":true" : ",\"active\":false");
    put_next(b, "history_share");
    reply_num(b, (double)in->share, WEIGHT_DIGITS);
    put_next(b, "fetched");
    reply_int(b, in->fetched);
    put_next(b, "history");
    put_events(b, in, c, true);
    buf_putc(b, '}');
}

static void put_plan(struct buf *b, const struct rec_plan *p)
{
    buf_puts(b, "],\"plan\":{\"mode\":");
    if (p->mode)
        buf_json_str(b, p->mode, strlen(p->mode));
    else
        buf_puts(b, "null");
    buf_puts(b, ",\"selectivity\":");
    reply_num(b, p->selectivity, WEIGHT_DIGITS);
    buf_puts(b, ",\"fetched\":");
    reply_int(b, p->fetched);
    buf_puts(b, ",\"after_dedup\":");
    reply_int(b, p->after_dedup);
    buf_putc(b, '}');
}

static void put_explain(struct buf *b, const struct rec_answer *a, const struct corpus *c)
{
    put_next(b, "explain");
    buf_puts(b, "{\"interests\":[");
    for (int32_t k = 0; k < a->n_interests; k++) {
        if (k) buf_putc(b, ',');
        put_interest(b, &a->interest[k], c);
    }
    put_plan(b, &a->plan);
    buf_putc(b, '}');
}

void reply_recommend(struct buf *b, const struct rec_answer *a, const struct corpus *c,
                     const struct reply_opts *o)
{
    buf_putc(b, '{');
    if (o->recommendation_id) {
        put_key(b, "recommendation_id");
        buf_json_str(b, o->recommendation_id, strlen(o->recommendation_id));
        buf_putc(b, ',');
    }
    put_model(b, gen_info(c->gen));
    put_next(b, "items");
    buf_putc(b, '[');
    for (int32_t i = 0; i < a->n_items; i++) {
        if (i) buf_putc(b, ',');
        put_item(b, a, &a->item[i], c, o->explain);
    }
    buf_putc(b, ']');
    if (!o->vectors) put_history(b, a);
    if (a->unknown_item) put_unknown_items(b, a);
    put_fallback(b, a);
    put_degraded(b, &a->degraded);
    if (o->explain) put_explain(b, a, c);
    if (o->took_ms >= 0) {
        put_next(b, "took_ms");
        reply_num(b, o->took_ms, WEIGHT_DIGITS);
    }
    buf_putc(b, '}');
}
