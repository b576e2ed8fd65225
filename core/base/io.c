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

/* Bytes read: fewer than n at the end of the file; -1 with errno. */
static ssize_t read_full(int fd, char *p, size_t n)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = read(fd, p + have, n - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        have += (size_t)got;
    }
    return (ssize_t)have;
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
        ssize_t have = read_full(fd, p, n);
        if (have < 0) rc = err_sys(e, ERR_IO, "reading %s", path);
        if (have >= 0 && (size_t)have < n)
            rc = err_set(e, ERR_IO, "reading %s: ended early, after %zd of %zu bytes", path,
                         have, n);
        if (rc < 0) {
            free(p);
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

int io_sync_parent(const char *path, struct err *e)
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
    return io_write_pieces(path, &(struct io_piece){ data, nb }, 1, e);
}

int io_write_pieces(const char *path, const struct io_piece *piece, int32_t n, struct err *e)
{
    char *tmp = xasprintf("%s.tmp.%ld", path, (long)getpid());
    int rc = 0, fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        rc = err_sys(e, ERR_IO, "%s", tmp);
        free(tmp);
        return rc;
    }
    for (int32_t i = 0; i < n && rc == 0; i++)
        if (write_full(fd, piece[i].data, piece[i].nb) < 0)
            rc = err_sys(e, ERR_IO, "writing %s", tmp);
    if (rc == 0 && fsync(fd) < 0) rc = err_sys(e, ERR_IO, "syncing %s", tmp);
    if (close(fd) < 0 && rc == 0) rc = err_sys(e, ERR_IO, "closing %s", tmp);
    if (rc == 0 && rename(tmp, path) < 0) rc = err_sys(e, ERR_IO, "renaming to %s", path);
    if (rc == 0)
        rc = io_sync_parent(path, e);
    else
        unlink(tmp);
    free(tmp);
    return rc;
}

int io_copy_file(const char *to, const char *from, struct err *e)
{
    struct io_map map;
    TRY(io_map_open(&map, from, e));
    int rc = io_write_atomic(to, map.data, map.nb, e);
    io_map_close(&map);
    return rc;
}

int io_exchange_aside(const char *fresh, const char *dir, const char *aside, struct err *e)
{
    if (rename(dir, aside) < 0) return err_sys(e, ERR_IO, "setting %s aside", dir);
    if (rename(fresh, dir) < 0) {
        int rc = err_sys(e, ERR_IO, "replacing %s", dir);
        if (rename(aside, dir) < 0) err_ctx(e, "what was there is at %s", aside);
        return rc;
    }
    if (rename(aside, fresh) < 0)
        return err_sys(e, ERR_IO, "%s is replaced; what was there is at %s", dir, aside);
    return 0;
}

int io_exchange_dir(const char *fresh, const char *dir, const char *aside, struct err *e)
{
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, dir, RENAME_EXCHANGE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return err_sys(e, ERR_IO, "replacing %s", dir);
    return io_exchange_aside(fresh, dir, aside, e);
}

static int make_dir(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0755) == 0) return io_sync_parent(path, e);
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
