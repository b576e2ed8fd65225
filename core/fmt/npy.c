#include "core/fmt/npy.h"
#include "core/base/io.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAGIC_BYTES = 8, HEAD_BYTES = 128 }; /* data begin at a multiple of 64 */

int npy_write(const char *path, const float *x, int64_t rows, int64_t cols, struct err *e)
{
    static const char magic[] = "\x93NUMPY\1";
    char head[HEAD_BYTES];
    memcpy(head, magic, MAGIC_BYTES);
    head[MAGIC_BYTES] = HEAD_BYTES - MAGIC_BYTES - 2;
    head[MAGIC_BYTES + 1] = 0;
    char *text = head + MAGIC_BYTES + 2;
    size_t room = HEAD_BYTES - MAGIC_BYTES - 2;
    int n = snprintf(text, room,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRId64 ", %" PRId64
                     "), }",
                     rows, cols);
    REQUIRE(n > 0 && (size_t)n < room, "a header of %d bytes", n);
    memset(text + n, ' ', room - (size_t)n);
    head[HEAD_BYTES - 1] = '\n';
    const struct io_piece piece[] = { { head, sizeof head },
                                      { x, (size_t)rows * (size_t)cols * sizeof *x } };
    return io_write_pieces(path, piece, 2, e);
}
