#include "core/data/unpack.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { FIRST_BYTES = 1 << 16 };

/* What has been unpacked; grows by half. */
struct out {
    char *p;
    size_t nb, cap, max;
};

/* Room for more bytes; false at the limit. */
static bool out_room(struct out *o)
{
    if (o->nb < o->cap) return true;
    if (o->cap >= o->max) return false;
    size_t want = o->cap + o->cap / 2 + FIRST_BYTES;
    o->cap = want < o->max ? want : o->max;
    o->p = xrealloc(o->p, o->cap, 1);
    return true;
}

static int over_limit(const struct out *o, struct err *e)
{
    return err_set(e, ERR_LIMIT, "unpacks to more than %zu bytes", o->max);
}

static unsigned piece(size_t n) { return n < UINT_MAX ? (unsigned)n : UINT_MAX; }

/* One member of a gzip file; *at moves behind it.  1: there was no damage. */
static int gzip_member(struct out *o, const unsigned char *p, size_t nb, size_t *at,
                       struct unpacked *u, struct err *e)
{
    z_stream z = { 0 };
    REQUIRE(inflateInit2(&z, 15 + 16) == Z_OK, "inflateInit2"); /* + 16: gzip, with its check */
    int rc = Z_OK;
    while (rc == Z_OK) {
        if (!out_room(o)) {
            inflateEnd(&z);
            return over_limit(o, e);
        }
        unsigned in = piece(nb - *at), room = piece(o->cap - o->nb);
        z.next_in = (unsigned char *)(uintptr_t)(p + *at);
        z.avail_in = in;
        z.next_out = (unsigned char *)o->p + o->nb;
        z.avail_out = room;
        rc = inflate(&z, Z_NO_FLUSH);
        *at += in - z.avail_in;
        o->nb += room - z.avail_out;
        if (rc == Z_BUF_ERROR && z.avail_out == 0) rc = Z_OK;
    }
    u->cut = rc != Z_STREAM_END;
    if (rc == Z_BUF_ERROR)
        snprintf(u->damage, sizeof u->damage, "ends early, after %zu unpacked bytes", o->nb);
    else if (rc != Z_STREAM_END)
        snprintf(u->damage, sizeof u->damage, "damaged after %zu unpacked bytes (%s)", o->nb,
                 z.msg ? z.msg : "not gzip");
    inflateEnd(&z);
    return rc == Z_STREAM_END;
}

static int gunzip(struct out *o, const unsigned char *p, size_t nb, struct unpacked *u,
                  struct err *e)
{
    size_t at = 0;
    while (at < nb && p[at] == 0x1f) {
        int whole = gzip_member(o, p, nb, &at, u, e);
        if (whole <= 0) return whole;
    }
    while (at < nb && p[at] == 0) at++; /* tapes and block devices pad with zeros */
    if (at < nb)
        snprintf(u->damage, sizeof u->damage, "%zu bytes of something else at the end",
                 nb - at);
    return 0;
}

static int unzstd(struct out *o, const unsigned char *p, size_t nb, struct unpacked *u,
                  struct err *e)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    REQUIRE(z && !ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 31)),
            "ZSTD_createDStream"); /* what `zstd --long=31` makes is read too */
    ZSTD_inBuffer in = { p, nb, 0 };
    size_t left = 1;
    int rc = 0;
    while (rc == 0 && (in.pos < in.size || left > 0)) {
        if (!out_room(o)) {
            rc = over_limit(o, e);
            break;
        }
        ZSTD_outBuffer out = { o->p, o->cap, o->nb };
        left = ZSTD_decompressStream(z, &out, &in);
        bool full = out.pos == out.size;
        o->nb = out.pos;
        if (ZSTD_isError(left))
            snprintf(u->damage, sizeof u->damage, "damaged after %zu unpacked bytes (%s)",
                     o->nb, ZSTD_getErrorName(left));
        else if (left > 0 && in.pos == in.size && !full)
            snprintf(u->damage, sizeof u->damage, "ends early, after %zu unpacked bytes",
                     o->nb);
        u->cut = u->damage[0] != '\0';
        if (u->cut) break;
    }
    ZSTD_freeDStream(z);
    return rc;
}

int unpack_mem(struct unpacked *u, const void *data, size_t nb, size_t nb_max, struct err *e)
{
    const unsigned char *p = data;
    *u = (struct unpacked){ .data = data, .nb = nb };
    if (nb >= 2 && memcmp(p, "\x1f\x8b", 2) == 0) u->packed = "gzip";
    if (nb >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0) u->packed = "zstd";
    if (!u->packed) return 0;
    struct out o = { .max = nb_max };
    int rc = p[0] == 0x1f ? gunzip(&o, p, nb, u, e) : unzstd(&o, p, nb, u, e);
    if (rc == 0 && o.nb == 0 && u->damage[0])
        rc = err_set(e, ERR_FORMAT, "begins like %s: %s", u->packed, u->damage);
    if (rc < 0) {
        free(o.p);
        *u = (struct unpacked){ 0 };
        return rc;
    }
    u->own_ = o.p;
    u->data = o.nb ? o.p : NULL;
    u->nb = o.nb;
    return 0;
}

int unpack_open(struct unpacked *u, const char *path, struct err *e)
{
    struct io_map map;
    *u = (struct unpacked){ 0 };
    TRY(io_map_open(&map, path, e));
    int rc = unpack_mem(u, map.data, map.nb, LIMIT_UNPACKED_BYTES, e);
    if (rc < 0) {
        err_ctx(e, "%s", path);
        io_map_close(&map);
        return rc;
    }
    while (u->cut && u->nb > 0 && u->data[u->nb - 1] != '\n') u->nb--;
    if (u->packed)
        io_map_close(&map);
    else
        u->map_ = map;
    return 0;
}

void unpack_close(struct unpacked *u)
{
    io_map_close(&u->map_);
    free(u->own_);
    *u = (struct unpacked){ 0 };
}
