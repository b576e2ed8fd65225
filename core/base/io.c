#include "core/base/io.h"
#include "core/base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool io_exists(const char *path) { return access(path, F_OK) == 0; }

static int open_regular(const char *path, size_t *nb, struct err *e)
{
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for its writer */
    if (fd < 0) return err_sys(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    struct stat st;
    if (fstat(fd, &st) < 0) {
        err_sys(e, ERR_IO, "%s", path);
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_IO, "%s: not a regular file", path);
    } else {
        *nb = (size_t)st.st_size;
        return fd;
    }
    close(fd);
    return ERR_IO;
}

int io_map_open(struct io_map *m, const char *path, struct err *e)
{
    *m = (struct io_map){ 0 };
    size_t nb = 0;
    int fd = open_regular(path, &nb, e);
    if (fd < 0) return fd;
    if (nb > 0) {
        void *p = mmap(NULL, nb, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            err_sys(e, ERR_IO, "mapping %s", path);
            close(fd);
            return ERR_IO;
        }
        m->data = p;
        m->nb = nb;
    }
    close(fd);
    return 0;
}

void io_map_close(struct io_map *m)
{
    if (m->data) munmap((void *)(uintptr_t)m->data, m->nb);
    *m = (struct io_map){ 0 };
}

static int read_full(int fd, char *p, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1;
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

int io_read_all(char **out, size_t *nb, const char *path, size_t nb_max, struct err *e)
{
    size_t n = 0;
    int fd = open_regular(path, &n, e), rc = 0;
    if (fd < 0) return fd;
    if (n > nb_max) {
        rc = err_set(e, ERR_LIMIT, "%s: %zu bytes, at most %zu are read", path, n, nb_max);
    } else {
        char *p = xmalloc(n + 1);
        if (read_full(fd, p, n) < 0) {
            free(p);
            rc = err_sys(e, ERR_IO, "reading %s", path);
        } else {
            p[n] = '\0';
            *out = p;
            *nb = n;
        }
    }
    close(fd);
    return rc;
}

static int write_full(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -1;
        p += put;
        n -= (size_t)put;
    }
    return 0;
}

static int sync_path(const char *path, int flags, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0) return err_sys(e, ERR_IO, "%s", path);
    int rc = fsync(fd) < 0 ? err_sys(e, ERR_IO, "syncing %s", path) : 0;
    close(fd);
    return rc;
}

static int sync_parent(const char *path, struct err *e)
{
    char *dir = xstrdup(path), *slash = strrchr(dir, '/');
    if (slash == dir)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    int rc = sync_path(slash ? dir : ".", O_DIRECTORY, e);
    free(dir);
    return rc;
}

int io_write_atomic(const char *path, const void *data, size_t nb, struct err *e)
{
    char *tmp = xasprintf("%s.tmp.%ld", path, (long)getpid());
    int rc = 0, fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        rc = err_sys(e, ERR_IO, "%s", tmp);
        free(tmp);
        return rc;
    }
    if (write_full(fd, data, nb) < 0 || fsync(fd) < 0)
        rc = err_sys(e, ERR_IO, "writing %s", tmp);
    if (close(fd) < 0 && rc == 0) rc = err_sys(e, ERR_IO, "closing %s", tmp);
    if (rc == 0 && rename(tmp, path) < 0) rc = err_sys(e, ERR_IO, "renaming to %s", path);
    if (rc == 0)
        rc = sync_parent(path, e);
    else
        unlink(tmp);
    free(tmp);
    return rc;
}

static int make_dir(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0755) == 0) return 0;
    if (errno == EEXIST && stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) return 0;
        errno = ENOTDIR;
    }
    return err_sys(e, ERR_IO, "making directory %s", path);
}

int io_mkdirs(const char *path, struct err *e)
{
    if (!*path) return make_dir(path, e);
    char *p = xstrdup(path);
    int rc = 0;
    for (char *s = p + 1; rc == 0; s++) {
        if (*s != '/' && *s != '\0') continue;
        char c = *s;
        *s = '\0';
        rc = make_dir(p, e);
        *s = c;
        if (c == '\0') break;
    }
    free(p);
    return rc;
}

/* fn on every entry of dir but . and .. */
static int each_entry(const char *dir, int (*fn)(const char *path, struct err *e),
                      struct err *e)
{
    DIR *d = opendir(dir);
    if (!d) return err_sys(e, ERR_IO, "%s", dir);
    int rc = 0;
    for (struct dirent *x; rc == 0 && (x = readdir(d));) {
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0) continue;
        char *p = xasprintf("%s/%s", dir, x->d_name);
        rc = fn(p, e);
        free(p);
    }
    closedir(d);
    return rc;
}

static int sync_file(const char *path, struct err *e) { return sync_path(path, 0, e); }

static int remove_file(const char *path, struct err *e)
{
    return unlink(path) < 0 ? err_sys(e, ERR_IO, "removing %s", path) : 0;
}

int io_sync_tree(const char *dir, struct err *e)
{
    TRY(each_entry(dir, sync_file, e));
    return sync_path(dir, O_DIRECTORY, e);
}

int io_remove_tree(const char *dir, struct err *e)
{
    TRY(each_entry(dir, remove_file, e));
    return rmdir(dir) < 0 ? err_sys(e, ERR_IO, "removing %s", dir) : 0;
}
