/* replay.c — runs a fuzz target over files and directories of inputs, without libFuzzer: part of `make test`.
 *   replay_read tests/fuzz/corpus/read
 * Every input is also cut at every power of two, which costs nothing and reaches the truncated cases. */
#include "core/base/io.h"
#include "core/base/mem.h"
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static int n_inputs;

/* A copy of the exact size, so that the sanitizer sees one byte too many. */
static void run(const char *data, size_t nb)
{
    uint8_t *copy = xmalloc(nb ? nb : 1);
    if (nb) memcpy(copy, data, nb);
    LLVMFuzzerTestOneInput(copy, nb);
    free(copy);
}

static int replay_file(const char *path)
{
    struct err e = { 0 };
    char *data;
    size_t nb;
    if (io_read_all(&data, &nb, path, (size_t)64 << 20, &e) < 0) {
        fprintf(stderr, "replay: %s\n", e.msg);
        return -1;
    }
    run(data, nb);
    for (size_t cut = 1; cut < nb; cut *= 2) run(data, cut);
    free(data);
    n_inputs++;
    return 0;
}

static int replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) return replay_file(path);
    DIR *dir = opendir(path);
    if (!dir) {
        fprintf(stderr, "replay: %s: cannot be read\n", path);
        return -1;
    }
    int rc = 0;
    for (struct dirent *x; (x = readdir(dir));) {
        if (x->d_name[0] == '.') continue;
        char *inside = xasprintf("%s/%s", path, x->d_name);
        if (replay_file(inside) < 0) rc = -1;
        free(inside);
    }
    closedir(dir);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    run("", 0);
    for (int i = 1; i < argc; i++)
        if (replay(argv[i]) < 0) rc = 1;
    printf("%s: %d inputs\n", argv[0], n_inputs);
    return rc;
}
