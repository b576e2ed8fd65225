#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/fmt/pickle.h"
#include "tests/guard.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct pickle pk;
static size_t used;

/* Reads a string literal's bytes, which end at a guard page. */
static int read_guarded(const char *bytes, size_t nb, struct err *e)
{
    char *p = guard_copy(bytes, nb);
    int rc = pickle_read(&pk, (const uint8_t *)p, nb, &used, e);
    if (rc == 0) pickle_free(&pk);
    guard_free(p, nb);
    return rc;
}

#define OPEN(literal)                                                                          \
    do {                                                                                       \
        struct err e_ = { 0 };                                                                 \
        ck_assert_msg(pickle_read(&pk, (const uint8_t *)(literal), sizeof(literal) - 1, &used, \
                                  &e_) == 0,                                                   \
                      "%s", e_.msg);                                                           \
        ck_assert_uint_eq(used, sizeof(literal) - 1);                                          \
    } while (0)

START_TEST(pickle_reads_numbers_of_every_width)
{
    OPEN("\x80\x02(K\xffM\x01\x02J\xff\xff\xff\xff\x8a\x00\x8a\x02\x00\x80\x8a\x09"
         "\x01\x02\x03\x04\x05\x06\x07\x08\x09G?\xf8\0\0\0\0\0\0N\x88\x89t.");
    ck_assert_int_eq(pk.root->kind, PICKLE_TUPLE);
    ck_assert_int_eq(pk.root->n, 10);
    struct pval **v = pk.root->at;
    ck_assert_int_eq(v[0]->i, 255);
    ck_assert_int_eq(v[1]->i, 513);
    ck_assert_int_eq(v[2]->i, -1);
    ck_assert_int_eq(v[3]->i, 0);
    ck_assert_int_eq(v[4]->i, -32768);
    ck_assert_int_eq(v[5]->kind, PICKLE_LONG);
    ck_assert_uint_eq(v[5]->len, 9);
    ck_assert_double_eq(v[6]->f, 1.5);
    ck_assert_int_eq(v[7]->kind, PICKLE_NONE);
    ck_assert(v[8]->kind == PICKLE_BOOL && v[8]->i && !v[9]->i);
    pickle_free(&pk);
}
END_TEST

START_TEST(pickle_builds_containers_and_gets_keys)
{
    /* {"a": [1, (2,)], "b": {}, "a": 3}, with the memo of both protocols */
    OPEN("\x80\x04\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x01"
         "a\x94](K\x01K\x02\x85"
         "eX\x01\0\0\0bq\x05}h\x01K\x03u.");
    ck_assert_int_eq(pk.root->kind, PICKLE_DICT);
    ck_assert_int_eq(pk.root->n, 6);
    ck_assert_int_eq(pickle_get(pk.root, "a")->i, 3);
    ck_assert_int_eq(pickle_get(pk.root, "b")->kind, PICKLE_DICT);
    ck_assert_ptr_null(pickle_get(pk.root, "c"));
    const struct pval *list = pk.root->at[1];
    ck_assert_int_eq(list->n, 2);
    ck_assert_int_eq(list->at[1]->at[0]->i, 2);
    pickle_free(&pk);
}
END_TEST

START_TEST(pickle_keeps_a_call_as_data)
{
    /* OrderedDict() with an entry and a state, and mine.Model.__new__(Model) */
    OPEN("\x80\x02"
         "ccollections\nOrderedDict\n)RU\x01kK\x07s}bcmine\nModel\n)\x81\x86.");
    const struct pval *d = pk.root->at[0], *m = pk.root->at[1];
    ck_assert_int_eq(d->kind, PICKLE_CALL);
    ck_assert(pickle_global_is(d->func, "collections.OrderedDict"));
    ck_assert_int_eq(d->args->n, 0);
    ck_assert_int_eq(pickle_get(d, "k")->i, 7);
    ck_assert_int_eq(d->state->kind, PICKLE_DICT);
    ck_assert_str_eq(m->func->str, "mine.Model");
    ck_assert_ptr_null(m->state);
    pickle_free(&pk);
}
END_TEST

START_TEST(pickle_stops_at_its_end_and_collects_storages)
{
    static const char two[] = "\x80\x02K\x01Q.K\x02.";
    struct err e = { 0 };
    ck_assert_int_eq(pickle_read(&pk, (const uint8_t *)two, sizeof two - 1, &used, &e), 0);
    ck_assert_uint_eq(used, 6);
    ck_assert_int_eq(pk.n_persids, 1);
    ck_assert_int_eq(pk.persid[0]->args->i, 1);
    pickle_free(&pk);
}
END_TEST

START_TEST(pickle_may_contain_itself)
{
    OPEN("\x80\x02]q\0h\0a.");
    ck_assert_ptr_eq(pk.root->at[0], pk.root);
    pickle_free(&pk);
}
END_TEST

#define TEXT(s) (s), sizeof(s) - 1
static const struct {
    const char *bytes;
    size_t nb;
    const char *why; /* part of the message */
} bad[] = {
    { TEXT(""), "ends in the middle" },
    { TEXT("\x80\x02"), "ends in the middle" },
    { TEXT("\x80\x02."), "its stack is empty" },
    { TEXT("("), "ends in the middle" },
    { TEXT("(."), "its stack is empty" },
    { TEXT("K"), "ends in the middle" },
    { TEXT("X\xff\xff\xff\xff"), "ends in the middle" },
    { TEXT("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "ends in the middle" },
    { TEXT("\x8b\xff\xff\xff\xff"), "ends in the middle" },
    { TEXT("h\0."), "place 0 of its memo is empty" },
    { TEXT("Nj\xff\xff\xff\xff."), "of its memo is empty" },
    { TEXT("Nr\xff\xff\xff\xff."), "place 4294967295 of its memo" },
    { TEXT("t."), "no mark" },
    { TEXT("K\x01\x86."), "its stack is empty" },
    { TEXT("(K\x01\x86."), "its stack is empty" },
    { TEXT("}K\x01s."), "its stack is empty" },
    { TEXT("}(K\x01u."), "a key without a value" },
    { TEXT("]K\x01K\x02s."), "holds no values" },
    { TEXT("}K\x01"
           "a."),
      "holds no values" },
    { TEXT("K\x01)R."), "what has no class" },
    { TEXT("cmine\nModel\nK\x01R."), "what has no class" },
    { TEXT("]}b."), "a state for what has none" },
    { TEXT("K\x01K\x02\x93."), "a class's name is not text" },
    { TEXT("cmine"), "in the middle of a name" },
    { TEXT("c\nModel\n."), "a class's name has 5 bytes" },
    { TEXT("I1\n."), "opcode 0x49 is none that torch.save writes" },
    { TEXT("\x82\x01."), "opcode 0x82" },
};

START_TEST(pickle_refuses_bad_bytes_and_says_why)
{
    struct err e = { 0 };
    ck_assert_int_eq(read_guarded(bad[_i].bytes, bad[_i].nb, &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, bad[_i].why) != NULL, "case %d said: %s", _i, e.msg);
}
END_TEST

/* Whatever the opcode that names it, and whether its result is kept or not. */
static const struct {
    const char *bytes;
    size_t nb;
    const char *why;
} code[] = {
    { TEXT("cos\nsystem\n(U\x02lstR."), "os.system: this file wants to run code" },
    { TEXT("cposix\nsystem\n."), "posix.system: " },
    { TEXT("}U\x06"
           "configc__builtin__\neval\n"),
      "key 'config': __builtin__.eval: " },
    { TEXT("}(U\x01"
           "aK\x01U\x01"
           "bcbuiltins\nexec\n"),
      "key 'b': builtins.exec: " },
    { TEXT("}(U\x01"
           "a]cnt\nsystem\n"),
      "key 'a': nt.system: " },
    { TEXT("\x8c\x0asubprocess\x8c\x05Popen\x93."), "subprocess.Popen: " },
    { TEXT("ios\npopen\n."), "os.popen: " },
    { TEXT("cimportlib.util\nmodule_from_spec\n0N."), "importlib.util.module_from_spec: " },
};

START_TEST(pickle_refuses_what_runs_code_by_name_and_key)
{
    struct err e = { 0 };
    ck_assert_int_eq(read_guarded(code[_i].bytes, code[_i].nb, &e), ERR_FORMAT);
    ck_assert_msg(strncmp(e.msg, code[_i].why, strlen(code[_i].why)) == 0, "%s", e.msg);
}
END_TEST

/* Whatever lies on the stack. */
START_TEST(pickle_refuses_code_behind_a_long_list_at_once)
{
    enum { N = 400000 };
    static const char last[] = "cos\nsystem\n(U\x02lstR.";
    struct buf b = { 0 };
    struct err e = { 0 };
    for (int i = 0; i < N; i++) buf_put(&b, "U", 2); /* "" */
    buf_put(&b, last, sizeof last - 1);
    ck_assert_int_eq(pickle_read(&pk, (const uint8_t *)b.data, b.len, &used, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "wants to run code"));
    buf_free(&b);
}
END_TEST

START_TEST(pickle_of_types_and_enumerations_is_no_code)
{
    OPEN("c__builtin__\nset\ncbuiltins\ngetattr\n(crecbole\nInputType\nU\x05POINTtR\x86.");
    ck_assert_str_eq(pk.root->at[0]->str, "__builtin__.set");
    ck_assert_str_eq(pk.root->at[1]->func->str, "builtins.getattr");
    pickle_free(&pk);
}
END_TEST

START_TEST(pickle_has_a_limit_of_memory)
{
    /* MARKs cost a byte each in the file and a hundred in memory. */
    enum { N = 4 << 20 };
    char *p = xmalloc(N);
    struct err e = { 0 };
    memset(p, '(', N);
    ck_assert_int_eq(pickle_read(&pk, (const uint8_t *)p, N, &used, &e), ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(e.msg, "bytes of memory"));
    free(p);
}
END_TEST

Suite *suite_pickle(void);
Suite *suite_pickle(void)
{
    Suite *s = suite_create("pickle");
    TCase *t = tcase_create("all");
    tcase_add_test(t, pickle_reads_numbers_of_every_width);
    tcase_add_test(t, pickle_builds_containers_and_gets_keys);
    tcase_add_test(t, pickle_keeps_a_call_as_data);
    tcase_add_test(t, pickle_stops_at_its_end_and_collects_storages);
    tcase_add_test(t, pickle_may_contain_itself);
    tcase_add_loop_test(t, pickle_refuses_bad_bytes_and_says_why, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_loop_test(t, pickle_refuses_what_runs_code_by_name_and_key, 0,
                        (int)(sizeof code / sizeof code[0]));
    tcase_add_test(t, pickle_refuses_code_behind_a_long_list_at_once);
    tcase_add_test(t, pickle_of_types_and_enumerations_is_no_code);
    tcase_add_test(t, pickle_has_a_limit_of_memory);
    suite_add_tcase(s, t);
    return s;
}
