#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/items.h"
#include "core/data/items_fmt.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *path;
static struct err e;
static char *file; /* a written catalogue */
static size_t nb_file;

/* Rows a..f, popularity 3 9 3 0 9 1, titles for every second one. */
static struct items_builder *six_items(void)
{
    static const int64_t pop[] = { 3, 9, 3, 0, 9, 1 };
    struct items_builder *b = items_builder_new();
    for (int i = 0; i < 6; i++) {
        char id[] = { (char)('a' + i), 0 }, title[16];
        ck_assert_int_eq(items_add(b, id, 1), i);
        items_set_popularity(b, i, pop[i]);
        snprintf(title, sizeof title, "Title of %s", id);
        if (i % 2 == 0) items_set_title(b, i, title, strlen(title));
    }
    int32_t genres = items_field_add(b, "genres", 6, FIELD_VALUES);
    int32_t year = items_field_add(b, "year", 4, FIELD_NUMBER);
    int32_t brand = items_field_add(b, "brand", 5, FIELD_VALUES);
    for (int i = 5; i >= 0; i -= 2) { /* b, d, f; backwards, and twice */
        items_add_value(b, genres, i, "drama", 5);
        items_add_value(b, genres, i, &"xyz"[i / 2], 1);
        items_add_value(b, genres, i, "drama", 5);
        items_set_number(b, year, i, 1990 + i);
    }
    items_add_value(b, brand, 0, "none", 4);
    return b;
}

static void set_up(void)
{
    dir = fixture_tmpdir();
    path = xasprintf("%s/items.bin", dir);
    e = (struct err){ 0 };
    struct items_builder *b = six_items();
    ck_assert_msg(items_write(b, path, &e) == 0, "%s", e.msg);
    items_builder_free(b);
    ck_assert_msg(io_read_all(&file, &nb_file, path, 1 << 20, &e) == 0, "%s", e.msg);
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
    free(path);
    free(file);
}

static void is_str(struct str s, const char *want)
{
    ck_assert_int_eq(s.len, (int)strlen(want));
    ck_assert(memcmp(s.p, want, (size_t)s.len) == 0);
}

START_TEST(a_catalogue_reads_back_as_it_was_written)
{
    struct items *it;
    ck_assert_msg(items_open(&it, path, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(items_count(it), 6);
    is_str(items_id(it, 0), "a");
    is_str(items_id(it, 5), "f");
    is_str(items_title(it, 2), "Title of c");
    is_str(items_title(it, 3), "");
    ck_assert_int_eq(items_popularity(it, 4), 9);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(items_find(it, items_id(it, i).p, 1), i);
    items_close(it);
}
END_TEST

START_TEST(fields_read_back_as_they_were_written)
{
    struct items *it;
    int32_t n;
    ck_assert_msg(items_open(&it, path, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(items_fields(it), 3);
    ck_assert_int_eq(items_field_find(it, "brand", 5), 2);
    ck_assert_int_eq(items_field_find(it, "price", 5), -1);
    ck_assert_int_eq(items_field_kind(it, 1), FIELD_NUMBER);
    ck_assert_int_eq(items_field_values(it, 0), 4);
    is_str(items_field_value(it, 0, 0), "drama");
    is_str(items_field_value(it, 2, 0), "none");
    const int32_t *v = items_values(it, 0, 3, &n);
    ck_assert_int_eq(n, 2);
    is_str(items_field_value(it, 0, v[0]), "drama");
    is_str(items_field_value(it, 0, v[1]), "y");
    (void)items_values(it, 0, 4, &n);
    ck_assert_int_eq(n, 0);
    ck_assert(items_number(it, 1, 5) == 1995);
    ck_assert(isnan(items_number(it, 1, 0)));
    items_close(it);
}
END_TEST

START_TEST(a_field_has_one_kind_and_there_are_so_many_of_them)
{
    struct items_builder *b = six_items();
    char name[8];
    ck_assert_int_eq(items_field_add(b, "year", 4, FIELD_VALUES), -1);
    ck_assert_int_eq(items_field_add(b, "year", 4, FIELD_NUMBER), 1);
    for (int i = 3; i < LIMIT_FIELDS; i++)
        ck_assert_int_eq(items_field_add(b, name, (size_t)snprintf(name, sizeof name, "f%d", i),
                                         FIELD_VALUES),
                         i);
    ck_assert_int_eq(items_field_add(b, "more", 4, FIELD_VALUES), -1);
    items_builder_free(b);
}
END_TEST

START_TEST(find_returns_minus_one_for_unknown_ids)
{
    struct items *it;
    ck_assert_int_eq(items_open(&it, path, &e), 0);
    ck_assert_int_eq(items_find(it, "g", 1), -1);
    ck_assert_int_eq(items_find(it, "aa", 2), -1);
    ck_assert_int_eq(items_find(it, "", 0), -1);
    ck_assert_int_eq(items_find(it, "a\0", 2), -1);
    char *big = xcalloc(1, 10 << 20);
    ck_assert_int_eq(items_find(it, big, 10 << 20), -1);
    free(big);
    items_close(it);
}
END_TEST

START_TEST(order_is_by_popularity_then_row)
{
    struct items *it;
    ck_assert_int_eq(items_open(&it, path, &e), 0);
    static const int32_t want[] = { 1, 4, 0, 2, 5, 3 };
    ck_assert_mem_eq(items_by_popularity(it), want, sizeof want);
    items_close(it);
}
END_TEST

START_TEST(adding_an_id_again_gives_its_row)
{
    struct items_builder *b = six_items();
    ck_assert_int_eq(items_add(b, "c", 1), 2);
    ck_assert_int_eq(items_builder_count(b), 6);
    ck_assert_int_eq(items_lookup(b, "f", 1), 5);
    ck_assert_int_eq(items_lookup(b, "x", 1), -1);
    is_str(items_builder_title(b, 1), "");
    items_set_title(b, 0, "new", 3);
    is_str(items_builder_title(b, 0), "new");
    items_builder_free(b);
}
END_TEST

START_TEST(many_ids_are_all_found)
{
    enum { N = 20000 };
    struct items_builder *b = items_builder_new();
    char id[32];
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(items_add(b, id, (size_t)snprintf(id, sizeof id, "item-%d", i * 7)),
                         i);
    ck_assert_msg(items_write(b, path, &e) == 0, "%s", e.msg);
    items_builder_free(b);
    struct items *it;
    ck_assert_msg(items_open(&it, path, &e) == 0, "%s", e.msg);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(items_find(it, id, (size_t)snprintf(id, sizeof id, "item-%d", i * 7)),
                         i);
    ck_assert_int_eq(items_find(it, "item-1", 6), -1);
    items_close(it);
}
END_TEST

START_TEST(a_long_title_is_cut_between_characters)
{
    struct items_builder *b = items_builder_new();
    char *title = xmalloc(LIMIT_TITLE_BYTES + 10);
    for (int i = 0; i < LIMIT_TITLE_BYTES + 10; i++) title[i] = i % 2 ? '\xa9' : '\xc3';
    items_add(b, "x", 1);
    items_set_title(b, 0, title, LIMIT_TITLE_BYTES + 9);
    ck_assert_int_eq(items_builder_title(b, 0).len, LIMIT_TITLE_BYTES);
    free(title);
    items_builder_free(b);
}
END_TEST

START_TEST(an_empty_catalogue_is_not_written)
{
    struct items_builder *b = items_builder_new();
    ck_assert_int_eq(items_write(b, path, &e), ERR_EMPTY);
    items_builder_free(b);
}
END_TEST

START_TEST(a_missing_or_empty_file_is_an_error_with_its_path)
{
    struct items *it;
    ck_assert_int_eq(items_open(&it, "/nowhere/items.bin", &e), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(e.msg, "/nowhere/items.bin"));
    ck_assert_ptr_null(it);
    e = (struct err){ 0 };
    ck_assert_int_eq(io_write_atomic(path, "", 0, &e), 0);
    ck_assert_int_eq(items_open(&it, path, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, path));
}
END_TEST

/* ---- damage ---- */

static struct items_section *section(char *f, uint32_t tag)
{
    struct items_section *s = (struct items_section *)(f + sizeof(struct items_header));
    while (s->tag != tag) s++;
    return s;
}

static void *content(char *f, uint32_t tag) { return f + section(f, tag)->off; }

#define TAG(a, b, c, d) ITEMS_TAG(a, b, c, d)
#define HEADER(f)       ((struct items_header *)(f))

static void magic(char *f) { f[3] = 'x'; }
static void version(char *f) { HEADER(f)->version = 2; }
static void size_more(char *f) { HEADER(f)->nb_file += 64; }
static void no_rows(char *f) { HEADER(f)->n_items = 0; }
static void many_rows(char *f) { HEADER(f)->n_items = UINT32_MAX; }
static void more_rows(char *f) { HEADER(f)->n_items = 7; }
static void many_sections(char *f) { HEADER(f)->n_sections = 65; }
static void fewer_sections(char *f) { HEADER(f)->n_sections = SEC_COUNT - 1; }
static void section_outside(char *f) { section(f, TAG('P', 'O', 'P', ' '))->off = 1 << 30; }
static void section_wraps(char *f)
{
    section(f, TAG('P', 'O', 'P', ' '))->off = UINT64_MAX - 63;
}
static void section_long(char *f) { section(f, TAG('I', 'D', 'S', ' '))->nb = UINT64_MAX - 64; }
static void section_shifted(char *f) { section(f, TAG('P', 'O', 'P', ' '))->off += 8; }
static void section_twice(char *f)
{
    section(f, TAG('P', 'O', 'P', ' '))->tag = TAG('O', 'R', 'D', ' ');
}
static void section_short(char *f) { section(f, TAG('P', 'O', 'P', ' '))->nb -= 8; }
static void id_start(char *f) { ((uint64_t *)content(f, TAG('I', 'D', 'X', ' ')))[0] = 1; }
static void id_end(char *f) { ((uint64_t *)content(f, TAG('I', 'D', 'X', ' ')))[6]++; }
static void id_back(char *f) { ((uint64_t *)content(f, TAG('I', 'D', 'X', ' ')))[3] = 1; }
static void id_far(char *f)
{
    ((uint64_t *)content(f, TAG('I', 'D', 'X', ' ')))[3] = UINT64_MAX;
}
static void id_empty(char *f) { ((uint64_t *)content(f, TAG('I', 'D', 'X', ' ')))[3] = 2; }
static void id_bytes(char *f) { ((char *)content(f, TAG('I', 'D', 'S', ' ')))[1] = '\xff'; }
static void id_double(char *f) { ((char *)content(f, TAG('I', 'D', 'S', ' ')))[1] = 'a'; }
static void title_back(char *f) { ((uint64_t *)content(f, TAG('T', 'T', 'X', ' ')))[2] = 99; }
static void title_bytes(char *f) { ((char *)content(f, TAG('T', 'T', 'L', ' ')))[0] = '\xc3'; }
static void pop_negative(char *f) { ((int64_t *)content(f, TAG('P', 'O', 'P', ' ')))[3] = -1; }
static void pop_other(char *f) { ((int64_t *)content(f, TAG('P', 'O', 'P', ' ')))[3] = 4; }
static void order_range(char *f) { ((int32_t *)content(f, TAG('O', 'R', 'D', ' ')))[2] = 6; }
static void order_minus(char *f) { ((int32_t *)content(f, TAG('O', 'R', 'D', ' ')))[2] = -1; }
static void order_twice(char *f) { ((int32_t *)content(f, TAG('O', 'R', 'D', ' ')))[1] = 1; }
static void hash_not_power(char *f) { section(f, TAG('H', 'S', 'H', ' '))->nb = 4 * 15; }
static void hash_small(char *f) { section(f, TAG('H', 'S', 'H', ' '))->nb = 4 * 8; }
static void hash_odd(char *f) { section(f, TAG('H', 'S', 'H', ' '))->nb -= 1; }

static void set_slot(char *f, int32_t from, int32_t to)
{
    int32_t *slot = content(f, TAG('H', 'S', 'H', ' '));
    while (*slot != from) slot++;
    *slot = to;
}
static void hash_range(char *f) { set_slot(f, 3, 6); }
static void hash_minus(char *f) { set_slot(f, 3, -2); }
static void hash_lost(char *f) { set_slot(f, 3, -1); }
static void hash_twice(char *f) { set_slot(f, 3, 4); }
static void hash_full(char *f)
{
    for (int i = 0; i < 10; i++) set_slot(f, -1, 0);
}

static const struct {
    const char *name, *reason;
    void (*damage)(char *f);
} damages[] = {
    { "magic", "does not begin with", magic },
    { "version", "version 2", version },
    { "size", "its header says", size_more },
    { "no rows", "0 rows", no_rows },
    { "too many rows", "rows; allowed are", many_rows },
    { "other count of rows", "for 7 rows", more_rows },
    { "many sections", "65 sections", many_sections },
    { "missing section", "no section holds the numbers", fewer_sections },
    { "section outside", "does not fit", section_outside },
    { "section that wraps", "does not fit", section_wraps },
    { "section too long", "does not fit", section_long },
    { "section not aligned", "does not fit", section_shifted },
    { "section twice", "two sections", section_twice },
    { "section too short", "popularity: 40 bytes", section_short },
    { "first offset", "do not span", id_start },
    { "last offset", "do not span", id_end },
    { "offset backwards", "goes backwards", id_back },
    { "offset outside", "goes backwards or outside", id_far },
    { "empty id", "ids: row 2 has 0 bytes", id_empty },
    { "id bytes", "ids: row 1 is not UTF-8", id_bytes },
    { "id twice", "is not found", id_double },
    { "title offset", "titles: offset", title_back },
    { "title bytes", "titles: row 0 is not UTF-8", title_bytes },
    { "negative popularity", "negative", pop_negative },
    { "other popularity", "out of order", pop_other },
    { "order out of range", "holds row 6", order_range },
    { "negative order", "holds row -1", order_minus },
    { "order twice", "out of order", order_twice },
    { "hash size", "hash table: 60 bytes", hash_not_power },
    { "hash too small", "hash table: 32 bytes", hash_small },
    { "hash odd", "hash table: 63 bytes", hash_odd },
    { "hash out of range", "holds row 6", hash_range },
    { "hash negative", "holds row -2", hash_minus },
    { "hash lost", "5 slots for 6 rows", hash_lost },
    { "hash twice", "row 3 is not found", hash_twice },
    { "hash full", "16 slots for 6 rows", hash_full },
};

START_TEST(damage_is_refused_with_its_reason)
{
    char *copy = guard_copy(file, nb_file);
    damages[_i].damage(copy);
    struct items *it;
    ck_assert_msg(items_open_mem(&it, copy, nb_file, &e) == ERR_FORMAT, "%s", damages[_i].name);
    ck_assert_msg(strstr(e.msg, damages[_i].reason) != NULL, "%s: %s", damages[_i].name, e.msg);
    ck_assert_ptr_null(it);
    guard_free(copy, nb_file);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    for (size_t nb = 0; nb < nb_file; nb++) {
        struct items *it;
        char *copy = guard_copy(file, nb);
        ck_assert_int_eq(items_open_mem(&it, copy, nb, NULL), ERR_FORMAT);
        /* The same with a header that agrees: the sections have to notice. */
        if (nb >= sizeof(struct items_header)) {
            uint64_t nb_said = nb;
            memcpy(copy + offsetof(struct items_header, nb_file), &nb_said, sizeof nb_said);
            if (items_open_mem(&it, copy, nb, NULL) == 0) {
                const struct items_section *last = section(file, TAG('H', 'S', 'H', ' '));
                ck_assert_uint_ge(nb, last->off + last->nb);
                items_close(it);
            }
        }
        guard_free(copy, nb);
    }
}
END_TEST

START_TEST(no_change_of_one_byte_leads_outside)
{
    char *copy = guard_copy(file, nb_file);
    for (size_t i = 0; i < nb_file; i++) {
        for (int bit = 0; bit < 8; bit++) {
            copy[i] ^= (char)(1 << bit);
            struct items *it;
            if (items_open_mem(&it, copy, nb_file, NULL) == 0) {
                for (int32_t row = 0; row < items_count(it); row++) {
                    struct str id = items_id(it, row);
                    ck_assert_int_eq(items_find(it, id.p, (size_t)id.len), row);
                    ck_assert_int_ge(items_title(it, row).len, 0);
                    for (int32_t f = 0; f < items_fields(it); f++) {
                        int32_t n = 0;
                        if (items_field_kind(it, f) == FIELD_NUMBER) {
                            ck_assert(!isinf(items_number(it, f, row)));
                            continue;
                        }
                        const int32_t *v = items_values(it, f, row, &n);
                        for (int32_t k = 0; k < n; k++)
                            ck_assert_int_gt(items_field_value(it, f, v[k]).len, 0);
                    }
                }
                ck_assert_int_eq(items_find(it, "unknown", 7), -1);
                items_close(it);
            }
            copy[i] ^= (char)(1 << bit);
        }
    }
    guard_free(copy, nb_file);
}
END_TEST

START_TEST(unknown_sections_are_passed_over_and_fields_may_be_absent)
{
    char *copy = xaligned(nb_file);
    memcpy(copy, file, nb_file);
    static const uint32_t optional[] = { TAG('F', 'L', 'D', ' '), TAG('V', 'L', 'X', ' '),
                                         TAG('V', 'L', 'S', ' '), TAG('A', 'T', 'X', ' '),
                                         TAG('A', 'T', 'V', ' '), TAG('N', 'U', 'M', ' ') };
    for (int i = 0; i < 6; i++) section(copy, optional[i])->tag = TAG('X', 'X', 'X', '0' + i);
    struct items *it;
    ck_assert_msg(items_open_mem(&it, copy, nb_file, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(items_find(it, "e", 1), 4);
    ck_assert_int_eq(items_fields(it), 0);
    items_close(it);
    memcpy(copy, file, nb_file);
    section(copy, optional[3])->tag = TAG('X', 'X', 'X', 'X');
    ck_assert_int_eq(items_open_mem(&it, copy, nb_file, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "no section holds the attributes' places"));
    free(copy);
}
END_TEST

Suite *suite_items(void);
Suite *suite_items(void)
{
    Suite *s = suite_create("items");
    TCase *t = tcase_create("items");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_catalogue_reads_back_as_it_was_written);
    tcase_add_test(t, fields_read_back_as_they_were_written);
    tcase_add_test(t, a_field_has_one_kind_and_there_are_so_many_of_them);
    tcase_add_test(t, find_returns_minus_one_for_unknown_ids);
    tcase_add_test(t, order_is_by_popularity_then_row);
    tcase_add_test(t, adding_an_id_again_gives_its_row);
    tcase_add_test(t, many_ids_are_all_found);
    tcase_add_test(t, a_long_title_is_cut_between_characters);
    tcase_add_test(t, an_empty_catalogue_is_not_written);
    tcase_add_test(t, a_missing_or_empty_file_is_an_error_with_its_path);
    tcase_add_loop_test(t, damage_is_refused_with_its_reason, 0,
                        sizeof damages / sizeof *damages);
    tcase_add_test(t, every_truncation_is_refused);
    tcase_add_test(t, no_change_of_one_byte_leads_outside);
    tcase_add_test(t, unknown_sections_are_passed_over_and_fields_may_be_absent);
    suite_add_tcase(s, t);
    return s;
}
