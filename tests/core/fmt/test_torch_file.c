#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/torch_file.h"
#include "core/fmt/zip.h"
#include "tests/guard.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Files that PyTorch wrote: tests/vectors/gen_torch_files.py. */
static const char *in_vectors(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "tests/vectors/torch/%s", name);
    return path;
}

static struct torch_file *open_file(const char *name)
{
    struct torch_file *f;
    struct err e = { 0 };
    ck_assert_msg(torch_open(&f, in_vectors(name), &e) == 0, "%s", e.msg);
    return f;
}

static void check_values(const struct torch_file *f, const char *name, const float *want,
                         int32_t rank, const int64_t *shape, int64_t n)
{
    const struct torch_tensor *t = torch_find(f, name);
    struct err e = { 0 };
    float x[12];
    ck_assert_msg(t != NULL, "%s", name);
    ck_assert_int_eq(t->rank, rank);
    for (int32_t i = 0; i < rank; i++) ck_assert_int_eq(t->shape[i], shape[i]);
    ck_assert_int_eq(t->n, n);
    ck_assert_msg(torch_read(x, t, &e) == 0, "%s", e.msg);
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(x[i] == want[i], "%s[%d]: %g, %g expected", name, (int)i, (double)x[i],
                      (double)want[i]);
}

static const char *const all_types[] = { "types.pt", "types_old.pt", "types_protocol4.pt",
                                         "types_old_protocol4.pt" };

START_TEST(torch_reads_every_type_and_view)
{
    struct torch_file *f = open_file(all_types[_i]);
    float x[12], turned[12], part[4];
    for (int i = 0; i < 12; i++) x[i] = (float)(i - 5) / 4;
    for (int i = 0; i < 12; i++) turned[i] = x[i % 3 * 4 + i / 3];
    for (int i = 0; i < 4; i++) part[i] = x[(1 + i / 2) * 4 + 1 + i % 2];
    const int64_t plain[] = { 3, 4 }, other[] = { 4, 3 }, small[] = { 2, 2 };
    const int64_t cube[] = { 2, 3, 1, 2 }, empty[] = { 0, 3 };
    check_values(f, "f64", x, 2, plain, 12);
    check_values(f, "f32", x, 2, plain, 12);
    check_values(f, "f16", x, 2, plain, 12);
    check_values(f, "bf16", x, 2, plain, 12);
    check_values(f, "turned", turned, 2, other, 12);
    check_values(f, "part", part, 2, small, 4);
    check_values(f, "parameter", x, 2, plain, 12);
    check_values(f, "cube", x, 4, cube, 12);
    check_values(f, "number", (float[]){ 0.5f }, 0, NULL, 1);
    check_values(f, "empty", NULL, 2, empty, 0);
    ck_assert_int_eq(torch_count(f), 11);
    ck_assert_str_eq(torch_at(f, 0)->name, "f64");
    ck_assert_ptr_null(torch_find(f, "f8"));
    torch_close(f);
}
END_TEST

START_TEST(torch_does_not_take_integers_for_numbers)
{
    struct torch_file *f = open_file("types.pt");
    struct err e = { 0 };
    float x[3];
    ck_assert_int_eq(torch_read(x, torch_find(f, "integers"), &e), ERR_FORMAT);
    ck_assert_str_eq(e.msg, "tensor integers: int64, floating-point numbers are expected");
    torch_close(f);
}
END_TEST

START_TEST(torch_reads_recboles_dictionary_and_settings)
{
    struct torch_file *f = open_file("recbole.pth");
    char text[32];
    ck_assert_ptr_nonnull(torch_find(f, "item_embedding.weight"));
    ck_assert_ptr_null(torch_find(f, "epoch"));
    ck_assert(torch_setting(text, sizeof text, f, "n_heads"));
    ck_assert_str_eq(text, "2");
    ck_assert(torch_setting(text, sizeof text, f, "hidden_act"));
    ck_assert_str_eq(text, "gelu");
    ck_assert(torch_setting(text, sizeof text, f, "layer_norm_eps"));
    ck_assert_str_eq(text, "1e-12");
    ck_assert(!torch_setting(text, sizeof text, f, "topk"));
    ck_assert(!torch_setting(text, sizeof text, f, "n_layers"));
    torch_close(f);
    f = open_file("small.pt");
    ck_assert(!torch_setting(text, sizeof text, f, "n_heads"));
    torch_close(f);
}
END_TEST

static const struct {
    const char *name, *why; /* the whole message after the path */
} refused[] = {
    { "code.pth", "key 'run': posix.system: this file wants to run code, and none of it was "
                  "run; get the weights from somebody you trust, saved as a state dict" },
    { "code_old.pt", "key 'v': posix.system: this file wants to run code, and none of it was "
                     "run; get the weights from somebody you trust, saved as a state dict" },
    { "code_hidden.pt",
      "__builtin__.exec: this file wants to run code, and none of it was run; "
      "get the weights from somebody you trust, saved as a state dict" },
    { "class.pt", "the file holds mine.model.Model, not a state dict; nothing in it is run: "
                  "save model.state_dict() instead" },
    { "class_inside.pth", "key 'state_dict' holds mine.model.Model, not a state dict; nothing "
                          "in it is run: save model.state_dict() instead" },
    { "not_a_tensor.pt",
      "key 'lr' holds a number, not a tensor: only tensors are read, nothing is run" },
};

START_TEST(torch_refuses_what_is_not_tensors)
{
    struct torch_file *f;
    struct err e = { 0 };
    const char *path = in_vectors(refused[_i].name);
    ck_assert_int_eq(torch_open(&f, path, &e), ERR_FORMAT);
    ck_assert_int_eq(strncmp(e.msg, path, strlen(path)), 0);
    ck_assert_str_eq(e.msg + strlen(path) + 2, refused[_i].why);
}
END_TEST

/* ---- damage ---- */

/* Opens bytes that end at a guard page and reads all they have. */
static int open_guarded(const char *data, size_t nb, struct err *e)
{
    struct torch_file *f;
    char *p = guard_copy(data, nb);
    int rc = torch_open_mem(&f, p, nb, e);
    for (int32_t i = 0; rc == 0 && i < torch_count(f); i++) {
        const struct torch_tensor *t = torch_at(f, i);
        float *x = xmalloc((size_t)t->n * sizeof *x + 1);
        if (torch_read(x, t, NULL) < 0) ck_assert_str_eq(t->name, "integers");
        free(x);
    }
    if (rc == 0) torch_close(f);
    guard_free(p, nb);
    return rc;
}

static char *load(const char *name, size_t *nb)
{
    char *data;
    struct err e = { 0 };
    ck_assert_msg(io_read_all(&data, nb, in_vectors(name), 1 << 20, &e) == 0, "%s", e.msg);
    return data;
}

static const char *const small[] = { "small.pt", "small_old.pt", "types_old.pt" };

START_TEST(torch_refuses_a_file_cut_anywhere)
{
    size_t nb;
    char *p = load(small[_i], &nb);
    ck_assert_int_eq(open_guarded(p, nb, NULL), 0);
    for (size_t cut = 0; cut < nb; cut++) {
        struct err e = { 0 };
        ck_assert_msg(open_guarded(p, cut, &e) == ERR_FORMAT, "cut at %zu", cut);
        ck_assert(e.msg[0] != '\0');
    }
    free(p);
}
END_TEST

START_TEST(torch_survives_any_changed_byte)
{
    size_t nb;
    char *p = load(small[_i], &nb);
    static const char change[] = { 1, 0x10, (char)0x80, (char)0xff };
    for (size_t at = 0; at < nb; at++)
        for (size_t c = 0; c < sizeof change; c++) {
            struct err e = { 0 };
            struct torch_file *f;
            p[at] = (char)(p[at] ^ change[c]);
            char *g = guard_copy(p, nb);
            if (torch_open_mem(&f, g, nb, &e) == 0)
                torch_close(f);
            else
                ck_assert(e.msg[0] != '\0');
            guard_free(g, nb);
            p[at] = (char)(p[at] ^ change[c]);
        }
    free(p);
}
END_TEST

/* Puts `is` in the place of `was`, of the same length, wherever it stands, and opens the file. */
static void refuses_edit(const char *name, const char *was, const char *is, size_t n,
                         const char *why)
{
    size_t nb, hits = 0;
    char *p = load(name, &nb);
    struct err e = { 0 };
    for (size_t i = 0; i + n <= nb; i++)
        if (memcmp(p + i, was, n) == 0) {
            memcpy(p + i, is, n);
            hits++;
        }
    ck_assert_msg(hits > 0, "%s has no %s", name, was);
    ck_assert_msg(open_guarded(p, nb, &e) < 0, "%s: accepted", why);
    ck_assert_msg(strstr(e.msg, why) != NULL, "%s\n  said: %s", why, e.msg);
    free(p);
}

START_TEST(torch_refuses_sizes_that_do_not_fit)
{
    /* offset 0, size (1,), stride (1,) of one element: "K\0K\x01\x85q.K\x01\x85" */
    refuses_edit("small.pt", "K\0K\1\x85", "K\1K\1\x85", 5, "its storage has 1");
    refuses_edit("small.pt", "K\0K\1\x85", "K\0K\2\x85", 5, "its storage has 1");
    refuses_edit("small.pt", "K\0K\1\x85", "K\0N0\x85", 5,
                 "built in a way that torch.save does not");
    refuses_edit("small.pt", "FloatStorage", "FlortStorage", 12,
                 "of type torch.FlortStorage, which is not known");
    refuses_edit("small.pt", "FloatStorage", "ComplexStore", 12, "which is not known");
    refuses_edit("small.pt", "_rebuild_tensor_v2", "_rebuild_tensor_v9", 18,
                 "key 'w' holds torch._utils._rebuild_tensor_v9, not a tensor");
    refuses_edit("small.pt", "data/0", "data/1", 6, "storage '0': 0 bytes, 4 expected");
    refuses_edit("small_old.pt", "little_endian", "little_lndian", 13, "little-endian");
    refuses_edit("small_old.pt", "M\xe9\3.", "M\xe8\3.", 4, "version of PyTorch's old format");
    refuses_edit("small_old.pt", "\x6c\xfc\x9c\x46", "\x6c\xfc\x9c\x47", 4,
                 "not one that torch.save wrote");
}
END_TEST

/* ---- ZIP ---- */

START_TEST(zip_refuses_packed_and_doubled_entries)
{
    size_t nb;
    char *p = load("small.pt", &nb), *at = NULL;
    struct zip *z;
    struct err e = { 0 };
    ck_assert_int_eq(zip_open_mem(&z, p, nb, &e), 0);
    ck_assert_int_eq(zip_count(z), 3);
    ck_assert_ptr_nonnull(zip_find(z, "small/data/0"));
    ck_assert_ptr_null(zip_find(z, "small/data"));
    for (int32_t i = 1; i < 3; i++)
        ck_assert_int_lt(strcmp(zip_at(z, i - 1)->name, zip_at(z, i)->name), 0);
    zip_close(z);
    at = memmem(p, nb, "PK\1\2", 4);
    ck_assert_ptr_nonnull(at);
    at[10] = 8; /* deflated */
    ck_assert_int_eq(zip_open_mem(&z, p, nb, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "small/data.pkl is packed or encrypted"));
    free(p);
    refuses_edit("types.pt", "types/data/1", "types/data/0", 12,
                 "entry types/data/0 is there twice");
}
END_TEST

/* An entry whose sizes and place are in the 64-bit extra field, behind a 64-bit end. */
START_TEST(zip_reads_64_bit_sizes)
{
    static const char local[] = "PK\3\4-\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff"
                                "\xff\1\0\0\0aDATA";
    static const char central[] =
        "PK\1\2-\0-\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\1\0\x24\0\0\0\0\0"
        "\0\0\0\0\0\0\xff\xff\xff\xff"
        "a\x07\0\4\0zzzz\1\0\x18\0\4\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    static const char end64[] =
        "PK\6\6\x2c\0\0\0\0\0\0\0-\0-\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1"
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x23\0\0\0\0\0\0\0";
    static const char end[] = "PK\6\7\0\0\0\0\x76\0\0\0\0\0\0\0\1\0\0\0PK\5\6\0\0\0\0\xff\xff"
                              "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0";
    char file[512];
    size_t nb = 0;
    struct zip *z;
    struct err e = { 0 };
#define PUT(part) (memcpy(file + nb, (part), sizeof(part) - 1), nb += sizeof(part) - 1)
    PUT(local);
    ck_assert_uint_eq(nb, 0x23);
    PUT(central);
    ck_assert_uint_eq(nb, 0x76);
    PUT(end64);
    PUT(end);
#undef PUT
    char *p = guard_copy(file, nb);
    ck_assert_msg(zip_open_mem(&z, p, nb, &e) == 0, "%s", e.msg);
    const struct zip_entry *x = zip_find(z, "a");
    ck_assert_ptr_nonnull(x);
    ck_assert_uint_eq(x->nb, 4);
    ck_assert_int_eq(memcmp(x->data, "DATA", 4), 0);
    zip_close(z);
    guard_free(p, nb);
}
END_TEST

Suite *suite_torch_file(void);
Suite *suite_torch_file(void)
{
    Suite *s = suite_create("torch_file");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, torch_reads_every_type_and_view, 0, 4);
    tcase_add_test(t, torch_does_not_take_integers_for_numbers);
    tcase_add_test(t, torch_reads_recboles_dictionary_and_settings);
    tcase_add_loop_test(t, torch_refuses_what_is_not_tensors, 0,
                        (int)(sizeof refused / sizeof refused[0]));
    tcase_add_loop_test(t, torch_refuses_a_file_cut_anywhere, 0, 3);
    tcase_add_loop_test(t, torch_survives_any_changed_byte, 0, 3);
    tcase_add_test(t, torch_refuses_sizes_that_do_not_fit);
    tcase_add_test(t, zip_refuses_packed_and_doubled_entries);
    tcase_add_test(t, zip_reads_64_bit_sizes);
    suite_add_tcase(s, t);
    return s;
}
