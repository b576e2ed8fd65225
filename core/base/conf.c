#include "core/base/conf.h"
#include "core/base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *member(const struct opt *o, void *cfg) { return (char *)cfg + o->off; }
static const void *member_of(const struct opt *o, const void *cfg)
{
    return (const char *)cfg + o->off;
}

void conf_free(const struct opt *o, void *cfg)
{
    for (; o->key; o++) {
        if (o->type != OPT_T_STR) continue;
        char **s = member(o, cfg);
        free(*s);
        *s = NULL;
    }
}

void conf_defaults(const struct opt *o, void *cfg)
{
    for (; o->key; o++) {
        if (o->type == OPT_T_STR) {
            *(char **)member(o, cfg) = o->def ? xstrdup(o->def) : NULL;
            continue;
        }
        struct err e = { 0 };
        const char *def = o->def;
        if (!def) def = o->type == OPT_T_BOOL ? "false" : "0";
        REQUIRE(conf_set(o, cfg, o->key, def, &e) == 0, "default of %s: %s", o->key, e.msg);
    }
}

/* '-' and '_' are one. */
static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_'))) return false;
    return *a == *b;
}

const struct opt *conf_find(const struct opt *o, const char *key)
{
    for (; o->key; o++)
        if (same_key(o->key, key)) return o;
    return NULL;
}

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance of strings up to 63 bytes. */
static int edit_distance(const char *a, const char *b)
{
    int row[64], n = (int)strnlen(b, 63);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; i <= 63 && a[i - 1]; i++) {
        int diag = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int cost = diag + (a[i - 1] != b[j - 1]);
            diag = row[j];
            row[j] = min3(cost, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[n];
}

const char *conf_nearest(const struct opt *o, const char *key)
{
    const char *best = NULL;
    int least = 1 + (int)strnlen(key, 63) / 2; /* further away it is no help */
    for (; o->key; o++) {
        int d = edit_distance(key, o->key);
        if (d <= least) {
            least = d;
            best = o->key;
        }
    }
    return best;
}

static int set_bool(const struct opt *o, void *cfg, const char *v, struct err *e)
{
    static const char *const yes[] = { "true", "yes", "on", "1" };
    static const char *const no[] = { "false", "no", "off", "0" };
    for (int i = 0; i < 4; i++) {
        if (strcmp(v, yes[i]) == 0) return *(bool *)member(o, cfg) = true, 0;
        if (strcmp(v, no[i]) == 0) return *(bool *)member(o, cfg) = false, 0;
    }
    return err_set(e, ERR_CONFIG, "%s = %s: expected true or false", o->key, v);
}

static int set_number(const struct opt *o, void *cfg, const char *v, struct err *e)
{
    char *end;
    errno = 0;
    bool whole = o->type != OPT_T_FLOAT;
    double x = whole ? (double)strtoll(v, &end, 10) : strtod(v, &end);
    if (end == v || *end || errno || !isfinite(x))
        return err_set(e, ERR_CONFIG, "%s = %s: expected %s", o->key, v,
                       whole ? "a whole number" : "a number");
    double lo = o->lo, hi = o->hi;
    if (!whole) { /* as it is kept: what conf_get prints of a limit has to be read again */
        x = (double)(float)x;
        lo = (double)(float)lo;
        hi = (double)(float)hi;
    }
    if (x < lo || x > hi)
        return err_set(e, ERR_CONFIG, "%s = %s: must be from %g to %g", o->key, v, o->lo,
                       o->hi);
    if (o->type == OPT_T_INT) *(int32_t *)member(o, cfg) = (int32_t)x;
    if (o->type == OPT_T_I64) *(int64_t *)member(o, cfg) = strtoll(v, NULL, 10);
    if (o->type == OPT_T_FLOAT) *(float *)member(o, cfg) = (float)x;
    return 0;
}

static int set_choice(const struct opt *o, void *cfg, const char *v, struct err *e)
{
    size_t n = strlen(v);
    int32_t i = 0;
    for (const char *c = o->choices; *c; i++) {
        size_t len = strcspn(c, "|");
        if (len == n && memcmp(c, v, n) == 0) return *(int32_t *)member(o, cfg) = i, 0;
        c += len + (c[len] == '|');
    }
    return err_set(e, ERR_CONFIG, "%s = %s: must be one of %s", o->key, v, o->choices);
}

static int unknown_key(const struct opt *o, const char *key, struct err *e)
{
    const char *near = conf_nearest(o, key);
    if (near) return err_set(e, ERR_CONFIG, "unknown key '%s'; did you mean '%s'?", key, near);
    return err_set(e, ERR_CONFIG, "unknown key '%s'", key);
}

int conf_set(const struct opt *opts, void *cfg, const char *key, const char *value,
             struct err *e)
{
    const struct opt *o = conf_find(opts, key);
    if (!o) return unknown_key(opts, key, e);
    switch (o->type) {
    case OPT_T_BOOL: return set_bool(o, cfg, value, e);
    case OPT_T_CHOICE: return set_choice(o, cfg, value, e);
    case OPT_T_STR: {
        char **s = member(o, cfg);
        free(*s);
        *s = xstrdup(value);
        return 0;
    }
    default: return set_number(o, cfg, value, e);
    }
}

void conf_get(const struct opt *o, const void *cfg, char *out, size_t n)
{
    const void *m = member_of(o, cfg);
    switch (o->type) {
    case OPT_T_BOOL: snprintf(out, n, "%s", *(const bool *)m ? "true" : "false"); break;
    case OPT_T_INT: snprintf(out, n, "%d", *(const int32_t *)m); break;
    case OPT_T_I64: snprintf(out, n, "%lld", (long long)*(const int64_t *)m); break;
    case OPT_T_FLOAT: /* as few digits as bring it back */
        for (int digits = 6; digits <= 9; digits++) {
            snprintf(out, n, "%.*g", digits, (double)*(const float *)m);
            if (strtof(out, NULL) == *(const float *)m) break;
        }
        break;
    case OPT_T_STR: snprintf(out, n, "%s", *(char *const *)m ? *(char *const *)m : ""); break;
    case OPT_T_CHOICE: {
        const char *c = o->choices;
        for (int32_t i = *(const int32_t *)m; i > 0; i--) c += strcspn(c, "|") + 1;
        snprintf(out, n, "%.*s", (int)strcspn(c, "|"), c);
        break;
    }
    case OPT_T_END: break;
    }
}

static int set_flag(const struct opt *o, void *cfg, const char *key, const char *value,
                    struct err *e)
{
    if (conf_set(o, cfg, key, value, e) == 0) return 0;
    err_ctx(e, "--%s", key);
    if (e) e->code = ERR_USAGE;
    return ERR_USAGE;
}

/* One "--key[=value]"; *used_next tells that next was taken as the value. */
static int flag(const struct opt *o, void *cfg, const char *arg, const char *next,
                bool *used_next, struct err *e)
{
    char key[64];
    size_t len = strcspn(arg, "=");
    if (len >= sizeof key) return err_set(e, ERR_USAGE, "unknown option --%.40s...", arg);
    memcpy(key, arg, len);
    key[len] = '\0';
    const struct opt *x = conf_find(o, key);
    if (arg[len] == '=') return set_flag(o, cfg, key, arg + len + 1, e);
    if (x && x->type == OPT_T_BOOL) return set_flag(o, cfg, key, "true", e);
    if (!x && strncmp(key, "no-", 3) == 0) {
        const struct opt *negated = conf_find(o, key + 3);
        if (negated && negated->type == OPT_T_BOOL)
            return set_flag(o, cfg, key + 3, "false", e);
    }
    if (!x) return set_flag(o, cfg, key, "", e); /* says what is nearest */
    if (!next) return err_set(e, ERR_USAGE, "--%s needs a value", key);
    *used_next = true;
    return set_flag(o, cfg, key, next, e);
}

int conf_args(const struct opt *o, void *cfg, int argc, char **argv, char **pos, int *n_pos,
              struct err *e)
{
    *n_pos = 0;
    bool only_pos = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!only_pos && strcmp(a, "--") == 0) {
            only_pos = true;
        } else if (!only_pos && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
            return 1;
        } else if (!only_pos && strncmp(a, "--", 2) == 0) {
            bool used_next = false;
            TRY(flag(o, cfg, a + 2, i + 1 < argc ? argv[i + 1] : NULL, &used_next, e));
            i += used_next;
        } else if (!only_pos && a[0] == '-' && a[1]) {
            return err_set(e, ERR_USAGE, "unknown option %s", a);
        } else {
            pos[(*n_pos)++] = argv[i];
        }
    }
    return 0;
}

int conf_env(const struct opt *o, void *cfg, const char *prefix, struct err *e)
{
    for (const struct opt *x = o; x->key; x++) {
        char name[128];
        int n = snprintf(name, sizeof name, "%s_%s", prefix, x->key);
        for (int i = 0; i < n && name[i]; i++) name[i] = (char)toupper((unsigned char)name[i]);
        const char *v = getenv(name);
        if (v && *v && conf_set(o, cfg, x->key, v, e) < 0)
            return err_ctx(e, "environment %s", name);
    }
    return 0;
}

struct ini_ctx {
    conf_ini_fn *fn;
    void *ctx;
    const char *path;
    FILE *f;
    int line; /* lines read so far: the one being parsed */
    struct err *e;
};

/* The rest of a line that did not fit. */
static bool skip_line(FILE *f)
{
    int ch = getc(f);
    if (ch == EOF) return false;
    while (ch != '\n' && ch != EOF) ch = getc(f);
    return true;
}

/* fn hears of a section that has no keys too; inih tells sections only with their keys. */
static int tell_section(struct ini_ctx *c, char *line)
{
    if (c->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0) line += 3;
    char *close = *line == '[' ? strchr(line, ']') : NULL;
    if (!close) return 0;
    *close = '\0';
    if (c->fn(c->ctx, line + 1, NULL, NULL, c->line, c->e) < 0)
        err_ctx(c->e, "%s:%d", c->path, c->line);
    *close = ']';
    return c->e->code;
}

/* inih would take an indented line for more of the value before it, which a key that is set twice would lose. */
static int refuse_indented(struct ini_ctx *c, const char *line)
{
    const size_t blanks = strspn(line, " \t");
    if (blanks == 0 || strchr(";#\r\n", line[blanks])) return 0; /* or nothing but blanks */
    return err_set(
        c->e, ERR_CONFIG,
        "%s:%d: begins with a blank: a key begins its line, and its value ends there", c->path,
        c->line);
}

/* fgets that counts, since inih may be built without line numbers in its callback, and that keeps inih from
 * taking the rest of a long line for a line of its own: comments are cut, anything else is an error. */
static char *next_line(char *out, int n, void *stream)
{
    struct ini_ctx *c = stream;
    if (c->e->code || !fgets(out, n, c->f)) return NULL;
    c->line++;
    size_t len = strlen(out);
    if (len + 1 == (size_t)n && out[len - 1] != '\n' && skip_line(c->f)) {
        char first = out[strspn(out, " \t")];
        if (first != '#' && first != ';')
            (void)err_set(c->e, ERR_CONFIG, "%s:%d: the line is longer than %d bytes", c->path,
                          c->line, n - 1);
    }
    return c->e->code || refuse_indented(c, out) < 0 || tell_section(c, out) < 0 ? NULL : out;
}

static int on_ini(void *user, const char *section, const char *name, const char *value)
{
    struct ini_ctx *c = user;
    if (c->fn(c->ctx, section, name, value, c->line, c->e) == 0) return 1;
    err_ctx(c->e, "%s:%d", c->path, c->line);
    return 0;
}

int conf_ini(const char *path, conf_ini_fn *fn, void *ctx, struct err *e)
{
    struct err local = { 0 };
    struct ini_ctx c = { fn, ctx, path, fopen(path, "r"), 0, e ? e : &local };
    if (!c.f) return err_sys(e, ERR_CONFIG, "%s", path);
    int bad = ini_parse_stream(next_line, &c, on_ini,
                               &c); /* reads on after an error: next_line ends it */
    if (ferror(c.f)) (void)err_sys(c.e, ERR_CONFIG, "reading %s", path);
    fclose(c.f);
    if (c.e->code) return c.e->code;
    if (bad != 0)
        return err_set(e, ERR_CONFIG, "%s:%d: expected [section], key = value or # comment",
                       path, bad);
    return 0;
}

static void help_range(const struct opt *o, char *out, size_t n)
{
    out[0] = '\0';
    if (o->type == OPT_T_INT || o->type == OPT_T_I64 || o->type == OPT_T_FLOAT)
        snprintf(out, n, ", %g to %g", o->lo, o->hi);
}

void conf_help(const struct opt *o, FILE *f)
{
    static const char *const kind[] = { "", "", " N", " N", " X", " TEXT", "" };
    for (; o->key; o++) {
        char left[96], range[64];
        int n = snprintf(left, sizeof left, "--%s%s", o->key, kind[o->type]);
        for (int i = 0; i < n && left[i] && left[i] != ' '; i++)
            if (left[i] == '_') left[i] = '-';
        if (o->type == OPT_T_CHOICE && n > 0 && (size_t)n < sizeof left)
            snprintf(left + n, sizeof left - (size_t)n, " %s", o->choices);
        help_range(o, range, sizeof range);
        if (o->def && o->type != OPT_T_BOOL)
            fprintf(f, "  %-34s %s (default %s%s)\n", left, o->help, o->def, range);
        else
            fprintf(f, "  %-34s %s\n", left, o->help);
    }
}
