/* Writing a bundle.  <model_dir>/.tmp-<version>-<pid>-<n> is filled, hashed, synced and put in
 * place with one rename.  Its writer holds a flock on it, which the kernel drops with the
 * process: an unlocked temporary directory is rubbish.  Where the file system can't exchange
 * two directories (NFS) the old one is renamed to .old-<version>-<pid> first; a kill between
 * the two renames leaves it there, and the next bundle_begin puts it back. */
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/manifest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Removes a temporary directory nobody holds.  Best effort: another cleaner may be at it. */
static void clean_tmp(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && io_remove_tree(path, NULL) < 0) errno = 0;
    close(fd);
}

/* An old version set aside: back to its place when the new one never came, else away. */
static void clean_old(const char *model_dir, const char *path, const char *name)
{
    char *dir = xasprintf("%s/%" PRId64, model_dir, (int64_t)strtoll(name, NULL, 10));
    if (exists(dir))
        clean_tmp(path);
    else if (rename(path, dir) < 0)
        errno = 0;
    free(dir);
}

static int clean_stale(const char *model_dir, struct err *e)
{
    DIR *d = opendir(model_dir);
    if (!d) return err_sys(e, ERR_IO, "%s", model_dir);
    for (struct dirent *x; (x = readdir(d));) {
        char *path = xasprintf("%s/%s", model_dir, x->d_name);
        if (strncmp(x->d_name, ".tmp-", 5) == 0) clean_tmp(path);
        if (strncmp(x->d_name, ".old-", 5) == 0) clean_old(model_dir, path, x->d_name + 5);
        free(path);
    }
    closedir(d);
    return 0;
}

/* Opens and locks path; -1 when a cleaner was faster. */
static int lock_dir(const char *path)
{
    struct stat by_fd, by_path;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    bool taken = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (!taken && fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 &&
        by_fd.st_ino == by_path.st_ino)
        return fd;
    close(fd);
    return -1;
}

static int make_tmp(struct bundle_writer *w, struct err *e)
{
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        char *path = xasprintf("%s/.tmp-%" PRId64 "-%ld-%d", w->model_dir, w->version,
                               (long)getpid(), i);
        if (mkdir(path, 0755) == 0 && (w->lock = lock_dir(path)) >= 0) {
            w->tmp_dir = path;
            return 0;
        }
        int why = errno;
        free(path);
        errno = why;
        if (errno != EEXIST && errno != ENOENT && errno != EWOULDBLOCK) break;
    }
    return err_sys(e, ERR_IO, "making a temporary directory");
}

static void release(struct bundle_writer *w)
{
    if (w->tmp_dir) close(w->lock);
    free(w->tmp_dir);
    free(w->dir);
    free(w->name);
    free(w->model_dir);
    *w = (struct bundle_writer){ 0 };
}

static int begin(struct bundle_writer *w, const char *model_dir, int64_t version, struct err *e)
{
    TRY(io_mkdirs(model_dir, e));
    w->model_dir =
        realpath(model_dir, NULL); /* the name must be right for "." and symbolic links */
    if (!w->model_dir) return err_sys(e, ERR_IO, "realpath");
    const char *slash = strrchr(w->model_dir, '/');
    w->name = xstrdup(slash ? slash + 1 : w->model_dir);
    json_t *name = json_string(w->name); /* the manifest's: NULL unless it is UTF-8 */
    json_decref(name);
    if (!name) return err_set(e, ERR_INVALID, "the directory's name is not UTF-8");
    TRY(clean_stale(w->model_dir, e));
    w->version = version;
    if (version == 0) {
        TRY(bundle_latest(w->model_dir, &w->version, e));
        w->version++;
    }
    w->dir = xasprintf("%s/%" PRId64, w->model_dir, w->version);
    return make_tmp(w, e);
}

int bundle_begin(struct bundle_writer *w, const char *model_dir, int64_t version, struct err *e)
{
    REQUIRE(version >= 0, "version %" PRId64, version);
    *w = (struct bundle_writer){ 0 };
    int rc = begin(w, model_dir, version, e);
    if (rc < 0) {
        err_ctx(e, "writing a bundle in %s", model_dir);
        release(w);
    }
    return rc;
}

void bundle_abort(struct bundle_writer *w)
{
    if (w->tmp_dir && io_remove_tree(w->tmp_dir, NULL) < 0)
        errno = 0; /* the next begin tries again */
    release(w);
}

int bundle_reuse(const struct bundle_writer *w, const struct bundle *b, const char *file,
                 struct err *e)
{
    char *from = bundle_path(b, file), *to = xasprintf("%s/%s", w->tmp_dir, file);
    int rc = link(from, to) == 0 ? 0 : io_copy_file(to, from, e);
    free(from);
    free(to);
    return rc;
}

static int hash_files(json_t *files, const char *dir, struct err *e)
{
    struct dirent **entry;
    int n = scandir(dir, &entry, NULL, alphasort), rc = 0;
    if (n < 0) return err_sys(e, ERR_IO, "%s", dir);
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        bool skip = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
                    strcmp(name, BUNDLE_MANIFEST) == 0;
        if (!skip && rc == 0) {
            char *path = xasprintf("%s/%s", dir, name), hex[65];
            uint64_t nb;
            rc = bundle_sha256_file(hex, &nb, path, e);
            if (rc == 0)
                json_object_set_new(
                    files, name,
                    json_pack("{s:s, s:I}", "sha256", hex, "bytes", (json_int_t)nb));
            free(path);
        }
        free(entry[i]);
    }
    free(entry);
    return rc;
}

static json_t *make_time(void)
{
    char s[32];
    struct tm tm;
    time_t now = time(NULL);
    strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    return json_string(s);
}

/* The caller's manifest with the members that commit knows; the caller's order after them. */
static int complete_manifest(json_t **out, const struct bundle_writer *w, const json_t *given,
                             struct err *e)
{
    json_t *m = json_pack("{s:i, s:s, s:I}", "format", BUNDLE_FORMAT, "name", w->name,
                          "version", (json_int_t)w->version);
    json_t *created = json_object_get(given, "created"), *files = json_object();
    json_object_set_new(m, "created", created ? json_incref(created) : make_time());
    json_object_update_missing(m, (json_t *)(uintptr_t)given);
    json_object_set_new(m, "files", files);
    int rc = hash_files(files, w->tmp_dir, e);
    if (rc == 0) rc = manifest_check(m, e);
    if (rc < 0)
        json_decref(m);
    else
        *out = m;
    return rc;
}

static int write_manifest(const struct bundle_writer *w, const json_t *given, struct err *e)
{
    json_t *m;
    TRY(complete_manifest(&m, w, given, e));
    char *text = json_dumps(m, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    char *path = xasprintf("%s/%s", w->tmp_dir, BUNDLE_MANIFEST);
    int rc = text ? io_write_atomic(path, text, strlen(text), e)
                  : err_set(e, ERR_BAD_BUNDLE, "the manifest can't be written as JSON");
    free(path);
    free(text);
    json_decref(m);
    return rc;
}

static int replace(const struct bundle_writer *w, struct err *e)
{
    char *aside =
        xasprintf("%s/.old-%" PRId64 "-%ld", w->model_dir, w->version, (long)getpid());
    int rc = io_exchange_dir(w->tmp_dir, w->dir, aside, e);
    free(aside);
    if (rc == 0) rc = io_sync_parent(w->dir, e);
    if (rc == 0) clean_tmp(w->tmp_dir); /* now the old version, held by nobody */
    return rc;
}

static int put_in_place(const struct bundle_writer *w, struct err *e)
{
    if (rename(w->tmp_dir, w->dir) == 0) return io_sync_parent(w->dir, e);
    if (errno != EEXIST && errno != ENOTEMPTY)
        return err_sys(e, ERR_IO, "renaming to %s", w->dir);
    return replace(w, e);
}

int bundle_commit(struct bundle_writer *w, const json_t *manifest, struct err *e)
{
    int rc = write_manifest(w, manifest, e);
    if (rc == 0) rc = io_sync_tree(w->tmp_dir, e);
    if (rc == 0) rc = put_in_place(w, e);
    if (rc < 0) {
        err_ctx(e, "writing bundle %s", w->dir);
        bundle_abort(w);
    } else {
        release(w);
    }
    return rc;
}
