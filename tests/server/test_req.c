#include "core/base/buf.h"
#include "core/base/limits.h"
#include "server/req.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Suite *suite_req(void);

static struct arena *arena;
static struct req_recommend r;
static struct faults f;

static void setup(void) { arena = arena_new("test", 4096, 16 << 20); }
static void teardown(void) { arena_free(arena); }

/* Parses with the body's last byte against a page that may not be read. */
enum { RECOMMEND, ENCODE, RANK, SEARCH, SIMILAR, BATCH };
static struct req_recommend *batch;
static int32_t n_batch;
static struct str batch_model;
static int parse_as(const char *body, size_t n, bool strict, int route)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page) / page * page;
    char *map =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mprotect(map + room, page, PROT_NONE), 0);
    char *at = map + room - n;
    memcpy(at, body, n);
    f = (struct faults){ 0 };
    arena_reset(arena);
    int rc = route == RANK      ? req_parse_rank(&r, at, n, strict, arena, &f)
             : route == ENCODE  ? req_parse_encode(&r, at, n, strict, arena, &f)
             : route == SEARCH  ? req_parse_search(&r, at, n, strict, arena, &f)
             : route == SIMILAR ? req_parse_similar(&r, at, n, strict, arena, &f)
             : route == BATCH
                 ? req_parse_batch(&batch, &n_batch, &batch_model, at, n, strict, arena, &f)
                 : req_parse_recommend(&r, at, n, strict, arena, &f);
    munmap(map, room + page); /* nothing of the result may point into the body */
    return rc;
}

static int parse(const char *body) { return parse_as(body, strlen(body), true, RECOMMEND); }

static bool is(struct str s, const char *want)
{
    return s.len == (int32_t)strlen(want) && memcmp(s.p, want, strlen(want)) == 0;
}

static const struct bad {
    const char *body;
    int code;
    const char *pointer, *detail; /* detail: a part of it */
} bads[] = {
    { "", ERR_BAD_JSON, "", "empty" },
    { " ", ERR_BAD_JSON, "", "line 1" },
    { "{", ERR_BAD_JSON, "", "line 1, column 1" },
    { "{\"history\":[\"a\",]}", ERR_BAD_JSON, "", "" },
    { "{\"limit\":1}x", ERR_BAD_JSON, "", "end of file expected" },
    { "{\"limit\":1,\"limit\":2}", ERR_BAD_JSON, "", "duplicate" },
    { "{\"history\":[\"\xff\"]}", ERR_BAD_JSON, "", "0xff" },
    { "{\"history\":[\"\xed\xa0\x80\"]}", ERR_BAD_JSON, "", "" },
    { "{\"history\":[\"\\ud800\"]}", ERR_BAD_JSON, "", "" },
    { "{\"history\":[\"\xc3", ERR_BAD_JSON, "", "" },
    { "{\"history\":[123456789012345678901]}", ERR_BAD_JSON, "", "too big integer" },
    { "{\"his\\u0000tory\":[]}", ERR_BAD_JSON, "", "" },
    { "[]", ERR_BAD_TYPE, "", "an object, not an array" },
    { "null", ERR_BAD_JSON, "", "" }, /* jansson reads objects and arrays only */
    { "\"history\"", ERR_BAD_JSON, "", "" },
    { "{\"limt\":3}", ERR_UNKNOWN_FIELD, "/limt", "did you mean \"limit\"" },
    { "{\"\":3}", ERR_UNKNOWN_FIELD, "/", "" },
    { "{\"a/b~c\":3}", ERR_UNKNOWN_FIELD, "/a~1b~0c", "" },
    { "{\"format\":\"float\"}", ERR_UNKNOWN_FIELD, "/format", "" },
    { "{\"history\":\"a\"}", ERR_BAD_TYPE, "/history", "expected an array, got a string" },
    { "{\"history\":null}", ERR_BAD_TYPE, "/history", "null" },
    { "{\"history\":[1.5]}", ERR_BAD_TYPE, "/history/0", "a fractional number" },
    { "{\"history\":[\"a\",true]}", ERR_BAD_TYPE, "/history/1", "a boolean" },
    { "{\"history\":[[]]}", ERR_BAD_TYPE, "/history/0", "an array" },
    { "{\"history\":[\"\"]}", ERR_INVALID, "/history/0", "empty" },
    { "{\"history\":[\"a\\u0000b\"]}", ERR_INVALID, "/history/0", "NUL" },
    { "{\"history\":[{}]}", ERR_INVALID, "/history/0", "item_id is missing" },
    { "{\"history\":[{\"item_id\":null}]}", ERR_BAD_TYPE, "/history/0/item_id", "null" },
    { "{\"history\":[{\"item_id\":1,\"time\":2}]}", ERR_UNKNOWN_FIELD, "/history/0/time",
      "item_id, ts, event" },
    { "{\"history\":[{\"item_id\":1,\"ts\":1700000000}]}", ERR_INVALID, "/history/0/ts",
      "seconds" },
    { "{\"history\":[{\"item_id\":1,\"ts\":-5}]}", ERR_INVALID, "/history/0/ts", "seconds" },
    { "{\"history\":[{\"item_id\":1,\"ts\":1.7e12}]}", ERR_BAD_TYPE, "/history/0/ts",
      "RFC 3339" },
    { "{\"history\":[{\"item_id\":1,\"ts\":\"yesterday\"}]}", ERR_INVALID, "/history/0/ts",
      "RFC 3339" },
    { "{\"history\":[{\"item_id\":1,\"ts\":\"2026-02-29T00:00:00Z\"}]}", ERR_INVALID,
      "/history/0/ts", "" },
    { "{\"history\":[{\"item_id\":1,\"event\":5}]}", ERR_BAD_TYPE, "/history/0/event",
      "an integer" },
    { "{\"limit\":0}", ERR_INVALID, "/limit", "from 1 to 1000, not 0" },
    { "{\"limit\":-1}", ERR_INVALID, "/limit", "" },
    { "{\"limit\":1000000000}", ERR_INVALID, "/limit", "not 1000000000" },
    { "{\"limit\":4294967297}", ERR_INVALID, "/limit", "" },
    { "{\"limit\":\"5\"}", ERR_BAD_TYPE, "/limit", "an integer" },
    { "{\"limit\":5.0}", ERR_BAD_TYPE, "/limit", "" },
    { "{\"limit\":true}", ERR_BAD_TYPE, "/limit", "" },
    { "{\"interests\":0}", ERR_INVALID, "/interests", "" },
    { "{\"interests\":65}", ERR_INVALID, "/interests", "" },
    { "{\"candidates_per_interest\":0}", ERR_INVALID, "/candidates_per_interest", "" },
    { "{\"candidates_per_interest\":4001}", ERR_INVALID, "/candidates_per_interest", "" },
    { "{\"merge\":\"max\"}", ERR_BAD_TYPE, "/merge", "" },
    { "{\"merge\":{\"strategy\":\"best\"}}", ERR_INVALID, "/merge/strategy", "not one of" },
    { "{\"merge\":{\"strategy\":1}}", ERR_BAD_TYPE, "/merge/strategy", "" },
    { "{\"merge\":{\"k\":0}}", ERR_INVALID, "/merge/k", "from 1" },
    { "{\"merge\":{\"rrf\":60}}", ERR_UNKNOWN_FIELD, "/merge/rrf", "strategy, k, weights" },
    { "{\"merge\":{\"weights\":[1,-1]}}", ERR_INVALID, "/merge/weights/1", "" },
    { "{\"merge\":{\"weights\":[]}}", ERR_INVALID, "/merge/weights", "" },
    { "{\"merge\":{\"weights\":[\"1\"]}}", ERR_BAD_TYPE, "/merge/weights/0", "a number" },
    { "{\"merge\":{\"min_per_interest\":1001}}", ERR_INVALID, "/merge/min_per_interest", "" },
    { "{\"diversity\":{\"method\":\"dpp\"}}", ERR_INVALID, "/diversity/method",
      "none|category|mmr" },
    { "{\"diversity\":{\"strength\":1.5}}", ERR_INVALID, "/diversity/strength", "from 0 to 1" },
    { "{\"diversity\":0.5}", ERR_BAD_TYPE, "/diversity", "an object" },
    { "{\"search\":{\"ef\":0}}", ERR_INVALID, "/search/ef", "" },
    { "{\"search\":{\"exact\":1}}", ERR_BAD_TYPE, "/search/exact", "" },
    { "{\"exclude_lists\":[\"\"]}", ERR_INVALID, "/exclude_lists/0", "empty" },
    { "{\"seed\":1.5}", ERR_BAD_TYPE, "/seed", "an integer" },
    { "{\"allow_degraded\":\"no\"}", ERR_BAD_TYPE, "/allow_degraded", "" },
    { "{\"vectors\":[[1]]}", ERR_UNKNOWN_FIELD, "/vectors", "" },
    { "{\"exclude_seen\":1}", ERR_BAD_TYPE, "/exclude_seen", "true or false" },
    { "{\"exclude_items\":{}}", ERR_BAD_TYPE, "/exclude_items", "" },
    { "{\"exclude_items\":[\"a\",null]}", ERR_BAD_TYPE, "/exclude_items/1", "" },
    { "{\"unknown_items\":\"drop\"}", ERR_INVALID, "/unknown_items", "ignore|error" },
    { "{\"fallback\":\"\"}", ERR_INVALID, "/fallback", "popular|popular_within_filter|none" },
    { "{\"fallback\":false}", ERR_BAD_TYPE, "/fallback", "" },
    { "{\"model\":7}", ERR_BAD_TYPE, "/model", "" },
    { "{\"model\":\"\"}", ERR_INVALID, "/model", "" },
    { "{\"user_id\":[]}", ERR_BAD_TYPE, "/user_id", "" },
    { "{\"explain\":\"yes\"}", ERR_BAD_TYPE, "/explain", "" },
};

START_TEST(req_refuses_what_is_wrong_and_says_where)
{
    const struct bad *b = &bads[_i];
    ck_assert_msg(parse(b->body) == b->code, "%s: %s", b->body,
                  f.n ? f.at[0].detail : "accepted");
    ck_assert_int_ge(f.n, 1);
    ck_assert_str_eq(f.at[0].pointer, b->pointer);
    ck_assert_msg(strstr(f.at[0].detail, b->detail) != NULL, "%s: %s", b->body, f.at[0].detail);
}
END_TEST

START_TEST(req_takes_every_field)
{
    ck_assert_int_eq(
        parse(
            "{\"user_id\":\"u\",\"history\":[\"a\",17,{\"item_id\":\"c\",\"event\":\"click\"}],"
            "\"limit\":7,\"interests\":3,\"candidates_per_interest\":50,"
            "\"merge\":{\"strategy\":\"max\"},\"exclude_seen\":false,"
            "\"exclude_items\":[\"x\",-9],\"unknown_items\":\"error\",\"fallback\":\"none\","
            "\"model\":\"films\",\"explain\":true}"),
        0);
    const struct rec_request *q = &r.rec;
    ck_assert_int_eq(q->n_history, 3);
    ck_assert(is(q->history[0], "a") && is(q->history[1], "17") && is(q->history[2], "c"));
    ck_assert_int_eq(q->limit, 7);
    ck_assert_int_eq(q->interests, 3);
    ck_assert_int_eq(q->candidates, 50);
    ck_assert(!q->exclude_seen && q->explain);
    ck_assert_int_eq(q->n_exclude, 2);
    ck_assert(is(q->exclude[0], "x") && is(q->exclude[1], "-9"));
    ck_assert_int_eq(q->unknown, REC_UNKNOWN_ERROR);
    ck_assert_int_eq(q->fallback, REC_FALLBACK_NONE);
    ck_assert(is(r.user_id, "u") && is(r.model, "films"));
}
END_TEST

START_TEST(req_defaults_are_those_of_core_serve)
{
    struct rec_request want;
    rec_request_defaults(&want);
    ck_assert_int_eq(parse("{}"), 0);
    ck_assert_int_eq(r.rec.limit, want.limit);
    ck_assert_int_eq(r.rec.n_history, 0);
    ck_assert_int_eq(r.rec.exclude_seen, want.exclude_seen);
    ck_assert_int_eq(r.rec.candidates, want.candidates);
    ck_assert_ptr_null(r.model.p);
}
END_TEST

START_TEST(req_sorts_by_time_when_any_event_has_one)
{
    ck_assert_int_eq(parse("{\"history\":["
                           "\"first\","
                           "{\"item_id\":\"late\",\"ts\":\"2026-11-22T18:04:11Z\"},"
                           "\"after-late\","
                           "{\"item_id\":\"early\",\"ts\":\"2026-11-22T18:04:11+01:00\"},"
                           "{\"item_id\":\"same\",\"ts\":\"2026-11-22T17:04:11.000Z\"},"
                           "{\"item_id\":\"ms\",\"ts\":1195446738833}]}"),
                     0);
    static const char *const want[] = { "first", "ms", "early", "same", "late", "after-late" };
    ck_assert_int_eq(r.rec.n_history, 6);
    for (int i = 0; i < 6; i++) ck_assert_msg(is(r.rec.history[i], want[i]), "place %d", i);
}
END_TEST

START_TEST(req_keeps_the_order_of_a_history_without_times)
{
    ck_assert_int_eq(parse("{\"history\":[\"c\",\"a\",\"b\",\"a\"]}"), 0);
    ck_assert(is(r.rec.history[0], "c") && is(r.rec.history[1], "a") &&
              is(r.rec.history[3], "a"));
}
END_TEST

START_TEST(req_reports_several_faults_and_the_first_one_decides)
{
    ck_assert_int_eq(parse("{\"limit\":0,\"histroy\":[],\"explain\":3}"), ERR_INVALID);
    ck_assert_int_eq(f.n, 3);
    ck_assert_str_eq(f.at[1].pointer, "/histroy");
    ck_assert_int_eq(f.at[1].code, ERR_UNKNOWN_FIELD);
    ck_assert_int_eq(f.at[2].code, ERR_BAD_TYPE);
}
END_TEST

START_TEST(req_reports_at_most_faults_max)
{
    ck_assert_int_eq(parse("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,"
                           "\"i\":1,\"j\":1}"),
                     ERR_UNKNOWN_FIELD);
    ck_assert_int_eq(f.n, FAULTS_MAX);
}
END_TEST

START_TEST(req_not_strict_ignores_unknown_members_only)
{
    const char *body =
        "{\"future\":{},\"history\":[{\"item_id\":\"a\",\"dwell\":3}],\"merge\":{\"x\":1}}";
    ck_assert_int_eq(parse_as(body, strlen(body), false, RECOMMEND), 0);
    ck_assert_int_eq(r.rec.n_history, 1);
    body = "{\"limit\":0}";
    ck_assert_int_eq(parse_as(body, strlen(body), false, RECOMMEND), ERR_INVALID);
}
END_TEST

START_TEST(req_nul_bytes_and_every_truncation_are_bad_json)
{
    static const char body[] =
        "{\"user_id\":\"\xc3\xa9\",\"history\":[\"a\",{\"item_id\":5,\"ts\":1795446738833}],"
        "\"merge\":{\"strategy\":\"max\"},\"explain\":false}";
    size_t n = sizeof body - 1;
    ck_assert_int_eq(parse_as(body, n, true, RECOMMEND), 0);
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(parse_as(body, cut, true, RECOMMEND), ERR_BAD_JSON);
    for (size_t at = 0; at < n; at++) {
        char with_nul[sizeof body];
        memcpy(with_nul, body, sizeof body);
        with_nul[at] = '\0';
        ck_assert_msg(parse_as(with_nul, n, true, RECOMMEND) == ERR_BAD_JSON, "NUL at %zu", at);
    }
}
END_TEST

START_TEST(req_depth_is_bounded)
{
    enum { DEEP = 200000 };
    char *body = malloc(DEEP + 16);
    int n = sprintf(body, "{\"history\":");
    memset(body + n, '[', DEEP);
    ck_assert_int_eq(parse_as(body, (size_t)n + DEEP, true, RECOMMEND), ERR_BAD_JSON);
    free(body);
}
END_TEST

/* {"KEY":[1,1,...]} with n elements */
static char *many(const char *key, int n)
{
    char *body = malloc((size_t)n * 2 + 64), *p = body;
    p += sprintf(p, "{\"%s\":[1", key);
    for (int i = 1; i < n; i++) p += sprintf(p, ",1");
    sprintf(p, "]}");
    return body;
}

static const struct {
    const char *key;
    int n, want;
} counts[] = { { "history", LIMIT_HISTORY_PARSED, 0 },
               { "history", LIMIT_HISTORY_PARSED + 1, ERR_INVALID },
               { "exclude_items", LIMIT_EXCLUDE, 0 },
               { "exclude_items", LIMIT_EXCLUDE + 1, ERR_INVALID } };

START_TEST(req_arrays_have_caps)
{
    char *body = many(counts[_i].key, counts[_i].n);
    ck_assert_int_eq(parse(body), counts[_i].want);
    free(body);
}
END_TEST

START_TEST(req_ids_have_a_cap)
{
    char body[LIMIT_ID_BYTES + 64];
    for (int n = LIMIT_ID_BYTES; n <= LIMIT_ID_BYTES + 1; n++) {
        int at = sprintf(body, "{\"history\":[\"");
        memset(body + at, 'x', (size_t)n);
        sprintf(body + at + n, "\"]}");
        ck_assert_int_eq(parse(body), n == LIMIT_ID_BYTES ? 0 : ERR_INVALID);
    }
}
END_TEST

START_TEST(req_out_of_arena_is_a_limit_not_a_crash)
{
    char *body = many("history", 5000);
    struct arena *small = arena_new("small", 4096, 64 << 10);
    f = (struct faults){ 0 };
    ck_assert_int_eq(req_parse_recommend(&r, body, strlen(body), true, small, &f), ERR_LIMIT);
    arena_free(small);
    free(body);
}
END_TEST

START_TEST(req_encode_takes_its_fields_and_no_others)
{
    const char *body = "{\"history\":[\"a\"],\"format\":\"base64\",\"unknown_items\":\"error\","
                       "\"model\":\"m\"}";
    ck_assert_int_eq(parse_as(body, strlen(body), true, ENCODE), 0);
    ck_assert_int_eq(r.format, REQ_BASE64);
    body = "{\"limit\":3}";
    ck_assert_int_eq(parse_as(body, strlen(body), true, ENCODE), ERR_UNKNOWN_FIELD);
    body = "{\"format\":\"hex\"}";
    ck_assert_int_eq(parse_as(body, strlen(body), true, ENCODE), ERR_INVALID);
}
END_TEST

START_TEST(req_rank_takes_values_of_features_as_a_table_would_have_them)
{
    const char *body =
        "{\"user\":{\"id\":\"u7\",\"age\":3,\"price\":0.1,\"big\":1e300,\"level\":2.0,"
        "\"third\":0.30000000000000004,\"none\":null,\"empty\":\"\"},"
        "\"history\":[\"a\",{\"item_id\":2}],\"candidates\":[\"x\",3],"
        "\"model\":\"ads\"}";
    const char *const want[][2] = { { "id", "u7" },     { "age", "3" },
                                    { "price", "0.1" }, { "big", "1e+300" },
                                    { "level", "2.0" }, { "third", "0.30000000000000004" },
                                    { "empty", "" } };
    ck_assert_int_eq(parse_as(body, strlen(body), true, RANK), 0);
    ck_assert_int_eq(r.rank.n_values, 7);
    for (int i = 0; i < 7; i++) {
        ck_assert(is(r.rank.value[i].name, want[i][0]));
        ck_assert(is(r.rank.value[i].text, want[i][1]));
    }
    ck_assert_int_eq(r.rank.n_candidates, 2);
    ck_assert(is(r.rank.candidate[1], "3"));
    ck_assert_int_eq(r.rec.n_history, 2);
    ck_assert(is(r.model, "ads"));
}
END_TEST

static const struct bad rank_bads[] = {
    { "{}", ERR_INVALID, "", "candidates is missing" },
    { "{\"candidates\":[]}", ERR_INVALID, "/candidates", "is empty" },
    { "{\"candidates\":\"x\"}", ERR_BAD_TYPE, "/candidates", "expected an array" },
    { "{\"candidates\":[\"x\",null]}", ERR_BAD_TYPE, "/candidates/1",
      "a string or an integer" },
    { "{\"candidates\":[1],\"user\":7}", ERR_BAD_TYPE, "/user", "an object" },
    { "{\"candidates\":[1],\"user\":{\"a\":true}}", ERR_BAD_TYPE, "/user/a",
      "a string or a number" },
    { "{\"candidates\":[1],\"limit\":1}", ERR_UNKNOWN_FIELD, "/limit", "unknown field" },
};

START_TEST(req_rank_refuses_what_is_wrong_and_says_where)
{
    const struct bad *b = &rank_bads[_i];
    ck_assert_int_eq(parse_as(b->body, strlen(b->body), true, RANK), b->code);
    ck_assert_str_eq(f.at[0].pointer, b->pointer);
    ck_assert_msg(strstr(f.at[0].detail, b->detail), "%s", f.at[0].detail);
}
END_TEST

/* ---- search, similar, batches ---- */

static int parse_to(int route, const char *body)
{
    return parse_as(body, strlen(body), true, route);
}

START_TEST(req_takes_the_options_of_an_answer)
{
    ck_assert_int_eq(
        parse("{\"merge\":{\"strategy\":\"rrf\",\"k\":10,\"weights\":[1,0.5],"
              "\"min_per_interest\":2},\"diversity\":{\"method\":\"mmr\",\"strength\":0.25,"
              "\"field\":\"brand\"},\"search\":{\"exact\":true,\"ef\":7,\"nprobe\":9},"
              "\"seed\":-1,\"allow_degraded\":false,\"fallback\":\"popular\","
              "\"exclude_lists\":[\"out\"]}"),
        0);
    const struct rec_request *q = &r.rec;
    ck_assert_int_eq(q->merge, MERGE_RRF);
    ck_assert(q->rrf_k == 10 && q->n_weights == 2 && q->weights[1] == 0.5f);
    ck_assert_int_eq(q->min_per_interest, 2);
    ck_assert_int_eq(q->diversity, DIVERSITY_MMR);
    ck_assert(q->strength == 0.25f && is(q->diversity_field, "brand"));
    ck_assert(q->exact && q->ef == 7 && q->nprobe == 9);
    ck_assert(q->has_seed && q->seed == UINT64_MAX && q->whole);
    ck_assert_int_eq(q->fallback, REC_FALLBACK_POPULAR);
    ck_assert(r.rec.n_lists == 1 && is(r.rec.lists[0], "out"));
}
END_TEST

START_TEST(req_search_reads_vectors_in_both_forms)
{
    static const struct {
        const char *body;
        int n, floats;
    } good[] = {
        { "{\"vectors\":[[1,-2.5,0.125]]}", 1, 3 },
        { "{\"vectors\":[\"AACAPwAAIMAAAAA+\"]}", 1, 3 },
        { "{\"vectors\":[[1,-2.5,0.125],\"AACAPwAAIMAAAAA+\"],\"limit\":3}", 2, 6 },
        { "{\"vectors\":[\"AACAPw==\",[1],\"AACAPw\"]}", 3, 3 },
    };
    static const float want[] = { 1, -2.5f, 0.125f };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(parse_to(SEARCH, good[i].body) == 0, "%s: %s", good[i].body,
                      f.at[0].detail);
        ck_assert_int_eq(r.rec.source, REC_VECTORS);
        ck_assert_int_eq(r.rec.n_vectors, good[i].n);
        ck_assert_int_eq(r.n_floats, good[i].floats);
        for (int j = 0; j < r.n_floats; j++)
            ck_assert(r.rec.vectors[j] == want[j % (r.n_floats / r.rec.n_vectors)]);
        ck_assert_int_eq(r.rec.fallback, REC_FALLBACK_NONE);
    }
}
END_TEST

static const struct bad other_bads[] = {
    { "s{}", ERR_INVALID, "", "vectors is missing" },
    { "s{\"vectors\":[]}", ERR_INVALID, "/vectors", "must be from 1 to 64" },
    { "s{\"vectors\":{}}", ERR_BAD_TYPE, "/vectors", "" },
    { "s{\"vectors\":[1]}", ERR_BAD_TYPE, "/vectors/0", "numbers or base64" },
    { "s{\"vectors\":[[]]}", ERR_INVALID, "/vectors/0", "must be from 1 to 4096" },
    { "s{\"vectors\":[[1,null]]}", ERR_BAD_TYPE, "/vectors/0/1", "a number" },
    { "s{\"vectors\":[[1,2],[1]]}", ERR_INVALID, "/vectors/1", "the first vector has 2" },
    { "s{\"vectors\":[[1],[1,2]]}", ERR_INVALID, "/vectors/1", "the first vector has 1" },
    { "s{\"vectors\":[[1],[1,2,3,4]]}", ERR_INVALID, "/vectors/1", "the first vector has 1" },
    { "s{\"vectors\":[[1e16]]}", ERR_INVALID, "/vectors/0/0", "" },
    { "s{\"vectors\":[\"\"]}", ERR_INVALID, "/vectors/0", "0 numbers" },
    { "s{\"vectors\":[\"====\"]}", ERR_INVALID, "/vectors/0", "0 numbers" },
    { "s{\"vectors\":[\"AACAPwAAI\"]}", ERR_INVALID, "/vectors/0", "base64" },
    { "s{\"vectors\":[\"AACA\"]}", ERR_INVALID, "/vectors/0", "0 numbers" },
    { "s{\"vectors\":[\"AACAPwA\"]}", ERR_INVALID, "/vectors/0", "base64" },
    { "s{\"vectors\":[\"AAC Pw==\"]}", ERR_INVALID, "/vectors/0", "base64" },
    { "s{\"vectors\":[\"AADAfw==\"]}", ERR_INVALID, "/vectors/0", "base64" }, /* NaN */
    { "s{\"vectors\":[\"AACAfw==\"]}", ERR_INVALID, "/vectors/0", "base64" }, /* infinity */
    { "s{\"vectors\":[\"AACAPw==\",\"AACAPwAAgD8=\"]}", ERR_INVALID, "/vectors/1", "" },
    { "s{\"vectors\":[[1]],\"history\":[]}", ERR_UNKNOWN_FIELD, "/history", "" },
    { "s{\"vectors\":[[1]],\"interests\":1}", ERR_UNKNOWN_FIELD, "/interests", "" },
    { "i{}", ERR_INVALID, "", "items is missing" },
    { "i{\"items\":[]}", ERR_INVALID, "/items", "is empty" },
    { "i{\"items\":[{}]}", ERR_BAD_TYPE, "/items/0", "" },
    { "i{\"items\":\"a\"}", ERR_BAD_TYPE, "/items", "" },
    { "i{\"items\":[1],\"seed\":1}", ERR_UNKNOWN_FIELD, "/seed", "" },
    { "b[]", ERR_BAD_TYPE, "", "an object" },
    { "b{}", ERR_INVALID, "", "requests is missing" },
    { "b{\"requests\":[]}", ERR_INVALID, "/requests", "is empty" },
    { "b{\"requests\":7}", ERR_BAD_TYPE, "/requests", "an array" },
    { "b{\"requests\":[7]}", ERR_BAD_TYPE, "/requests/0", "an object" },
    { "b{\"requests\":[{},{\"history\":[\"\"]}]}", ERR_INVALID, "/requests/1/history/0", "" },
    { "b{\"requests\":[{\"limt\":1}]}", ERR_UNKNOWN_FIELD, "/requests/0/limt", "\"limit\"" },
    { "b{\"requests\":[{\"model\":\"x\"}]}", ERR_UNKNOWN_FIELD, "/requests/0/model", "" },
    { "b{\"requests\":[{}],\"defaults\":[]}", ERR_BAD_TYPE, "/defaults", "" },
    { "b{\"requests\":[{}],\"defaults\":{\"seed\":\"x\"}}", ERR_BAD_TYPE, "/defaults/seed",
      "" },
    { "b{\"requests\":[{}],\"request\":1}", ERR_UNKNOWN_FIELD, "/request",
      "model, defaults, requests" },
    { "b{\"requests\":[{}],\"model\":1}", ERR_BAD_TYPE, "/model", "" },
    { "b{\"requests\":[{\"filter\":{\"must\":[{\"key\":\"a\"}]}}]}", ERR_INVALID,
      "/requests/0/filter/must/0", "" },
};

START_TEST(req_other_routes_refuse_what_is_wrong_and_say_where)
{
    const struct bad *b = &other_bads[_i];
    const int route = b->body[0] == 's' ? SEARCH : b->body[0] == 'i' ? SIMILAR : BATCH;
    ck_assert_msg(parse_to(route, b->body + 1) == b->code, "%s: %s", b->body,
                  f.n ? f.at[0].detail : "accepted");
    ck_assert_str_eq(f.at[0].pointer, b->pointer);
    ck_assert_msg(strstr(f.at[0].detail, b->detail) != NULL, "%s: %s", b->body, f.at[0].detail);
}
END_TEST

START_TEST(req_vectors_have_caps)
{
    static const struct {
        int n, width, want;
    } caps[] = { { LIMIT_INTERESTS, 3, 0 },
                 { LIMIT_INTERESTS + 1, 3, ERR_INVALID },
                 { 1, LIMIT_WIDTH, 0 },
                 { 1, LIMIT_WIDTH + 1, ERR_INVALID } };
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        struct buf b = { 0 };
        buf_puts(&b, "{\"vectors\":[");
        for (int v = 0; v < caps[i].n; v++)
            for (int j = 0; j < caps[i].width; j++)
                buf_puts(&b, j == 0 ? v ? "],[1" : "[1" : ",1");
        buf_puts(&b, "]]}");
        ck_assert_int_eq(parse_as(b.data, b.len, true, SEARCH), caps[i].want);
        buf_free(&b);
    }
}
END_TEST

START_TEST(req_similar_takes_ids)
{
    ck_assert_int_eq(parse_to(SIMILAR, "{\"items\":[\"a\",7],\"unknown_items\":\"error\"}"), 0);
    ck_assert_int_eq(r.rec.source, REC_ITEMS);
    ck_assert(r.rec.n_history == 2 && is(r.rec.history[1], "7"));
    ck_assert_int_eq(r.rec.unknown, REC_UNKNOWN_ERROR);
    char *body = many("items", LIMIT_INTERESTS);
    ck_assert_int_eq(parse_to(SIMILAR, body), 0);
    free(body);
    body = many("items", LIMIT_INTERESTS + 1);
    ck_assert_int_eq(parse_to(SIMILAR, body), ERR_INVALID);
    free(body);
}
END_TEST

START_TEST(req_batch_defaults_hold_where_a_request_says_nothing)
{
    const char *body =
        "{\"requests\":[{},{\"limit\":9,\"merge\":{\"k\":5}},{\"history\":[\"b\"]}],"
        "\"model\":\"m\",\"defaults\":{\"limit\":3,\"history\":[\"a\",\"c\"],"
        "\"merge\":{\"strategy\":\"rrf\",\"k\":7},\"explain\":true}}";
    ck_assert_int_eq(parse_to(BATCH, body), 0);
    ck_assert(n_batch == 3 && is(batch_model, "m"));
    static const int limit[] = { 3, 9, 3 }, history[] = { 2, 2, 1 };
    for (int i = 0; i < 3; i++) {
        const struct rec_request *q = &batch[i].rec;
        ck_assert_int_eq(q->limit, limit[i]);
        ck_assert_int_eq(q->n_history, history[i]);
        ck_assert_int_eq(q->merge, MERGE_RRF);
        ck_assert(q->rrf_k == (i == 1 ? 5 : 7) && q->explain && q->exclude_seen);
    }
    ck_assert(is(batch[2].rec.history[0], "b"));
}
END_TEST

START_TEST(req_batch_has_a_cap)
{
    for (int n = LIMIT_BATCH_ROWS; n <= LIMIT_BATCH_ROWS + 1; n++) {
        struct buf b = { 0 };
        buf_puts(&b, "{\"requests\":[{}");
        for (int i = 1; i < n; i++) buf_puts(&b, ",{}");
        buf_puts(&b, "]}");
        ck_assert_int_eq(parse_as(b.data, b.len, true, BATCH),
                         n == LIMIT_BATCH_ROWS ? 0 : ERR_BATCH_TOO_LARGE);
        buf_free(&b);
    }
}
END_TEST

START_TEST(req_truncations_of_the_other_routes_are_bad_json)
{
    static const char *const whole[] = {
        [SEARCH] = "{\"vectors\":[[1,2],\"AACAPwAAgD8=\"],\"limit\":3}",
        [SIMILAR] = "{\"items\":[\"a\",5],\"filter\":{\"must\":[]}}",
        [BATCH] = "{\"defaults\":{\"limit\":3},\"requests\":[{\"history\":[1]},{}]}"
    };
    for (int route = SEARCH; route <= BATCH; route++) {
        const size_t n = strlen(whole[route]);
        ck_assert_int_eq(parse_as(whole[route], n, true, route), 0);
        for (size_t cut = 0; cut < n; cut++)
            ck_assert_int_eq(parse_as(whole[route], cut, true, route), ERR_BAD_JSON);
    }
}
END_TEST

START_TEST(req_rank_has_caps)
{
    struct {
        int n, want;
    } caps[] = { { LIMIT_RANK, 0 }, { LIMIT_RANK + 1, ERR_INVALID } };
    for (int i = 0; i < 2; i++) {
        char *body = many("candidates", caps[i].n);
        ck_assert_int_eq(parse_as(body, strlen(body), true, RANK), caps[i].want);
        free(body);
    }
    char body[65 * 16 + 64], *p = body;
    p += sprintf(p, "{\"candidates\":[1],\"user\":{\"f0\":0");
    for (int i = 1; i <= LIMIT_FEATURES; i++) p += sprintf(p, ",\"f%d\":0", i);
    sprintf(p, "}}");
    ck_assert_int_eq(parse_as(body, strlen(body), true, RANK), ERR_INVALID);
    ck_assert_msg(strstr(f.at[0].detail, "65 members"), "%s", f.at[0].detail);
}
END_TEST

Suite *suite_req(void)
{
    Suite *s = suite_create("req");
    TCase *t = tcase_create("req");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, req_refuses_what_is_wrong_and_says_where, 0,
                        (int)(sizeof bads / sizeof *bads));
    tcase_add_test(t, req_takes_every_field);
    tcase_add_test(t, req_defaults_are_those_of_core_serve);
    tcase_add_test(t, req_sorts_by_time_when_any_event_has_one);
    tcase_add_test(t, req_keeps_the_order_of_a_history_without_times);
    tcase_add_test(t, req_reports_several_faults_and_the_first_one_decides);
    tcase_add_test(t, req_reports_at_most_faults_max);
    tcase_add_test(t, req_not_strict_ignores_unknown_members_only);
    tcase_add_test(t, req_nul_bytes_and_every_truncation_are_bad_json);
    tcase_add_test(t, req_depth_is_bounded);
    tcase_add_loop_test(t, req_arrays_have_caps, 0, (int)(sizeof counts / sizeof *counts));
    tcase_add_test(t, req_ids_have_a_cap);
    tcase_add_test(t, req_out_of_arena_is_a_limit_not_a_crash);
    tcase_add_test(t, req_encode_takes_its_fields_and_no_others);
    tcase_add_test(t, req_rank_takes_values_of_features_as_a_table_would_have_them);
    tcase_add_loop_test(t, req_rank_refuses_what_is_wrong_and_says_where, 0,
                        (int)(sizeof rank_bads / sizeof *rank_bads));
    tcase_add_test(t, req_rank_has_caps);
    tcase_add_test(t, req_takes_the_options_of_an_answer);
    tcase_add_test(t, req_search_reads_vectors_in_both_forms);
    tcase_add_loop_test(t, req_other_routes_refuse_what_is_wrong_and_say_where, 0,
                        (int)(sizeof other_bads / sizeof *other_bads));
    tcase_add_test(t, req_vectors_have_caps);
    tcase_add_test(t, req_similar_takes_ids);
    tcase_add_test(t, req_batch_defaults_hold_where_a_request_says_nothing);
    tcase_add_test(t, req_batch_has_a_cap);
    tcase_add_test(t, req_truncations_of_the_other_routes_are_bad_json);
    suite_add_tcase(s, t);
    return s;
}
