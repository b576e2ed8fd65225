#include "core/fmt/bundle.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/manifest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *join(const char *dir, const char *file) { return xasprintf("%s/%s", dir, file); }

static void hex_digest(char hex[65], struct sha256_ctx *ctx)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(ctx, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

int bundle_sha256_file(char hex[65], uint64_t *nb, const char *path, struct err *e)
{
    enum { CHUNK = 1 << 18 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_sys(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    uint8_t *chunk = xmalloc(CHUNK);
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    *nb = 0;
    ssize_t got;
    while ((got = read(fd, chunk, CHUNK)) > 0 || (got < 0 && errno == EINTR)) {
        if (got < 0) continue;
        sha256_update(&ctx, (size_t)got, chunk);
        *nb += (uint64_t)got;
    }
    int rc = got < 0 ? err_sys(e, ERR_IO, "reading %s", path) : 0;
    hex_digest(hex, &ctx);
    free(chunk);
    close(fd);
    return rc;
}

/* ---- opening ---- */

/* The number a version directory is named by, 0 for any other name. */
static int64_t version_of(const char *name)
{
    size_t n = strspn(name, "0123456789");
    if (n == 0 || n > 18 || name[n] != '\0' || name[0] == '0') return 0;
    return strtoll(name, NULL, 10);
}

int bundle_before(const char *model_dir, int64_t below, int64_t *version, struct err *e)
{
    DIR *d = opendir(model_dir);
    if (!d) return err_sys(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", model_dir);
    *version = 0;
    for (struct dirent *x; (x = readdir(d));) {
        int64_t v = version_of(x->d_name);
        struct stat st;
        if (v > *version && v < below && fstatat(dirfd(d), x->d_name, &st, 0) == 0 &&
            S_ISDIR(st.st_mode))
            *version = v;
    }
    closedir(d);
    return 0;
}

int bundle_latest(const char *model_dir, int64_t *version, struct err *e)
{
    return bundle_before(model_dir, INT64_MAX, version, e);
}

/* path itself when it holds a manifest, else its highest version. */
static int find_version(char **dir, const char *path, struct err *e)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') len--;
    char *base = xstrndup(path, len), *manifest = join(base, BUNDLE_MANIFEST);
    bool is_version = io_exists(manifest);
    free(manifest);
    if (is_version) {
        *dir = base;
        return 0;
    }
    int64_t v = 0;
    int rc = bundle_latest(base, &v, e);
    if (rc == 0 && v == 0)
        rc = err_set(e, ERR_NOT_FOUND, "no bundle: neither %s nor a numbered version",
                     BUNDLE_MANIFEST);
    if (rc == 0) *dir = xasprintf("%s/%" PRId64, base, v);
    free(base);
    return rc;
}

static int read_manifest(struct bundle *b, struct err *e)
{
    char *path = join(b->dir, BUNDLE_MANIFEST), *text = NULL;
    size_t nb = 0;
    int rc = io_read_all(&text, &nb, path, LIMIT_JSON_FILE_BYTES, e);
    if (rc == 0) {
        struct sha256_ctx ctx;
        sha256_init(&ctx);
        sha256_update(&ctx, nb, (const uint8_t *)text);
        hex_digest(b->sha256, &ctx);
        rc = manifest_parse(&b->manifest, text, nb, e);
        if (rc < 0) err_ctx(e, BUNDLE_MANIFEST);
    }
    free(text);
    free(path);
    return rc;
}

static int check_version(struct bundle *b, struct err *e)
{
    b->name = xstrdup(json_string_value(json_object_get(b->manifest, "name")));
    b->version = json_integer_value(json_object_get(b->manifest, "version"));
    const char *slash = strrchr(b->dir, '/');
    int64_t named = version_of(slash ? slash + 1 : b->dir);
    if (named == 0 || named == b->version) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   "%s: \"version\" is %" PRId64 ", the directory is %" PRId64, BUNDLE_MANIFEST,
                   b->version, named);
}

static int verify_file(const struct bundle *b, const char *name, const json_t *want,
                       struct err *e)
{
    char *path = join(b->dir, name), hex[65] = "";
    uint64_t nb = 0, nb_want = (uint64_t)json_integer_value(json_object_get(want, "bytes"));
    struct stat st;
    int rc = 0;
    if (stat(path, &st) < 0)
        rc = err_sys(e, ERR_BAD_BUNDLE, "%s", name);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(e, ERR_BAD_BUNDLE, "%s: not a regular file", name);
    else if ((uint64_t)st.st_size != nb_want)
        rc = err_set(e, ERR_BAD_BUNDLE, "%s: %" PRIu64 " bytes, the manifest says %" PRIu64,
                     name, (uint64_t)st.st_size, nb_want);
    else if ((rc = bundle_sha256_file(hex, &nb, path, e)) == 0 &&
             strcmp(hex, json_string_value(json_object_get(want, "sha256"))) != 0)
        rc = err_set(e, ERR_BAD_BUNDLE,
                     "%s: its sha256 is not the manifest's: the file is damaged", name);
    free(path);
    return rc;
}

static int verify(struct bundle *b, bool need_index, struct err *e)
{
    TRY(read_manifest(b, e));
    TRY(check_version(b, e));
    json_t *files = json_object_get(b->manifest, "files"), *want;
    if (need_index && !manifest_is_rank(b->manifest) && !json_object_get(files, BUNDLE_INDEX))
        return err_set(e, ERR_BAD_BUNDLE, "no %s: run `intent index --bundle %s`", BUNDLE_INDEX,
                       b->dir);
    const char *name;
    json_object_foreach (files, name, want) TRY(verify_file(b, name, want, e));
    return 0;
}

bool bundle_is_current(const struct bundle *b)
{
    struct stat st;
    return stat(b->dir, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino;
}

/* One attempt; *moved tells that the directory was exchanged while it was read. */
static int open_once(struct bundle *b, const char *path, bool need_index, bool *moved,
                     struct err *e)
{
    *b = (struct bundle){ 0 };
    *moved = false;
    int rc = find_version(&b->dir, path, e);
    struct stat st;
    if (rc == 0 && stat(b->dir, &st) < 0) rc = err_sys(e, ERR_IO, "%s", b->dir);
    if (rc == 0) {
        b->dev = st.st_dev;
        b->ino = st.st_ino;
        rc = verify(b, need_index, e);
        *moved = !bundle_is_current(b);
    }
    if (rc < 0 || *moved) bundle_close(b);
    return rc;
}

int bundle_open(struct bundle *b, const char *path, bool need_index, struct err *e)
{
    enum { TRIES = 3 };
    struct err why = { 0 };
    bool moved = true;
    int rc = 0;
    for (int i = 0; i < TRIES && moved; i++) {
        why = (struct err){ 0 };
        rc = open_once(b, path, need_index, &moved, &why);
    }
    if (rc == 0 && moved) rc = err_set(&why, ERR_IO, "the directory keeps changing");
    if (rc < 0 && e && !e->code) *e = why;
    if (rc < 0) err_ctx(e, "bundle %s", path);
    return rc;
}

void bundle_close(struct bundle *b)
{
    free(b->dir);
    free(b->name);
    json_decref(b->manifest);
    *b = (struct bundle){ 0 };
}

char *bundle_path(const struct bundle *b, const char *file) { return join(b->dir, file); }

int64_t bundle_bytes(const struct bundle *b, const char *file)
{
    const json_t *files = json_object_get(b->manifest, "files");
    return json_integer_value(json_object_get(json_object_get(files, file), "bytes"));
}

/* ---- options ---- */

json_t *bundle_opts_to_json(const struct opt *o, const void *cfg)
{
    json_t *obj = json_object();
    char text[256];
    for (; o->type != OPT_T_END; o++) {
        const void *m = (const char *)cfg + o->off;
        json_t *v = NULL;
        switch (o->type) {
        case OPT_T_BOOL: v = json_boolean(*(const bool *)m); break;
        case OPT_T_INT: v = json_integer(*(const int32_t *)m); break;
        case OPT_T_I64: v = json_integer(*(const int64_t *)m); break;
        case OPT_T_FLOAT:
            conf_get(o, cfg, text,
                     sizeof text); /* the shortest decimal that reads back as the float */
            v = json_real(strtod(text, NULL));
            break;
        case OPT_T_STR:
            v = *(char *const *)m ? json_string(*(char *const *)m) : json_null();
            break;
        case OPT_T_CHOICE:
            conf_get(o, cfg, text, sizeof text);
            v = json_string(text);
            break;
        case OPT_T_END: break;
        }
        json_object_set_new(obj, o->key, v);
    }
    return obj;
}

static int set_opt(const struct opt *o, void *cfg, const json_t *v, struct err *e)
{
    static const char *const want[] = {
        [OPT_T_BOOL] = "a boolean", [OPT_T_INT] = "an integer", [OPT_T_I64] = "an integer",
        [OPT_T_FLOAT] = "a number", [OPT_T_STR] = "a string",   [OPT_T_CHOICE] = "a string"
    };
    char text[64];
    bool ok = false;
    const char *value = text;
    switch (o->type) {
    case OPT_T_BOOL:
        ok = json_is_boolean(v);
        value = json_is_true(v) ? "true" : "false";
        break;
    case OPT_T_INT:
    case OPT_T_I64:
        ok = json_is_integer(v);
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case OPT_T_FLOAT:
        ok = json_is_number(v);
        snprintf(text, sizeof text, "%.17g", json_number_value(v));
        break;
    case OPT_T_STR:
    case OPT_T_CHOICE:
        if (o->type == OPT_T_STR && json_is_null(v)) return 0;
        ok = json_is_string(v);
        value = json_string_value(v);
        break;
    case OPT_T_END: break;
    }
    if (!ok) return err_set(e, ERR_BAD_BUNDLE, "\"%s\" is not %s", o->key, want[o->type]);
    return conf_set(o, cfg, o->key, value, e);
}

static bool has_key(const struct opt *o, const char *key)
{
    while (o->type != OPT_T_END && strcmp(o->key, key) != 0) o++;
    return o->type != OPT_T_END;
}

static int opts_from_json(const struct opt *o, void *cfg, const json_t *obj, struct err *e)
{
    const char *key;
    json_t *v;
    if (!json_is_object(obj)) return err_set(e, ERR_BAD_BUNDLE, "not an object");
    json_object_foreach ((json_t *)(uintptr_t)obj, key, v)
        if (!has_key(o, key))
            return err_set(e, ERR_BAD_BUNDLE, "\"%.64s\" is not a known option", key);
    for (; o->type != OPT_T_END; o++) {
        v = json_object_get(obj, o->key);
        if (!v) return err_set(e, ERR_BAD_BUNDLE, "\"%s\" is missing", o->key);
        TRY(set_opt(o, cfg, v, e));
    }
    return 0;
}

int bundle_opts_from_json(const struct opt *o, void *cfg, const json_t *obj, struct err *e)
{
    conf_defaults(o, cfg);
    if (opts_from_json(o, cfg, obj, e) == 0) return 0;
    conf_free(o, cfg);
    if (e) e->code = ERR_BAD_BUNDLE; /* a bad value is not the caller's configuration */
    return ERR_BAD_BUNDLE;
}
