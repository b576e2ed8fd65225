#include "core/base/log.h"
#include "core/base/par.h"
#include "core/base/prog.h"
#include "tests/child.h"
#include <check.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int matches(const char *pattern, const char *text)
{
    regex_t re;
    ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    return rc == 0;
}

static int lines_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

/* Tests of the log run in children: levels and rates are the process's. */
static char *written_by(child_fn *fn)
{
    struct child c = child_run(fn, NULL);
    ck_assert_msg(child_succeeded(&c), "%s", c.text);
    return c.text;
}

static void one_event(void *ctx)
{
    (void)ctx;
    log_info("gen.swap", "gen=%d items=%d", 7, 12101);
}

START_TEST(an_event_is_a_line_of_logfmt)
{
    char *s = written_by(one_event);
    ck_assert_msg(
        matches("^ts=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                "lvl=info ev=gen\\.swap gen=7 items=12101\n$",
                s),
        "%s", s);
    free(s);
}
END_TEST

static void all_levels(void *ctx)
{
    (void)ctx;
    log_debug("a", "n=%d", 0); /* below the level at start, info */
    log_set_level(LOG_WARN);
    log_info("b", "n=%d", 1);
    log_warn("c", "n=%d", 2);
    log_error("d", "n=%d", 3);
    log_set_level(LOG_DEBUG);
    log_debug("e", "n=%d", 4);
}

START_TEST(levels_below_the_set_one_are_quiet)
{
    char *s = written_by(all_levels);
    ck_assert_int_eq(lines_of(s), 3);
    ck_assert(matches("lvl=warn ev=c n=2", s) && matches("lvl=error ev=d n=3", s) &&
              matches("lvl=debug ev=e n=4", s));
    free(s);
}
END_TEST

/* The start of a second, so that a second's lines are not cut in two. */
static void await_second(void)
{
    time_t from = time(NULL);
    while (time(NULL) == from) usleep(1000);
}

static void flood(void *ctx)
{
    (void)ctx;
    await_second();
    for (int i = 0; i < 500; i++) log_warn("req.slow", "i=%d", i);
    log_warn("other", "x=1");
    await_second();
    log_warn("req.slow", "i=last");
}

START_TEST(one_event_cannot_flood_the_log)
{
    char *s = written_by(flood);
    ck_assert_int_eq(lines_of(s), 50 + 1 + 1);
    ck_assert(matches("ev=other x=1\n", s));
    ck_assert_msg(matches("ev=req.slow i=last dropped=450\n$", s), "%s", strstr(s, "ev=other"));
    free(s);
}
END_TEST

static void endless(void *ctx)
{
    (void)ctx;
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("long", "%s", text);
}

START_TEST(a_long_line_is_cut_and_ended)
{
    char *s = written_by(endless);
    size_t n = strlen(s);
    ck_assert(n > 1900 && n <= 2048);
    ck_assert_int_eq(lines_of(s), 1);
    ck_assert_int_eq(s[n - 1], '\n');
    free(s);
}
END_TEST

static void log_block(void *ctx, int block, int worker)
{
    (void)ctx, (void)worker;
    static const char *const name[] = { "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7" };
    log_info(name[block % 8], "first=%d middle=%d last=%d", block, block, block);
}

static void hostile(void *ctx)
{
    (void)ctx;
    char value[64], cut[12];
    log_info("a", "text=%s", "x\ny\tz\x1b[0m");
    log_info("b", "reason=%s", log_value(value, sizeof value, "no \"a\\b\"\nlvl=info"));
    log_info("c", "model=%s", log_value(value, sizeof value, "films"));
    log_info("d", "model=%s", log_value(value, sizeof value, ""));
    log_info("e", "model=%s", log_value(value, sizeof value, "a=b"));
    log_info("f", "reason=%s", log_value(cut, sizeof cut, "quotes: \"\"\"\"\"\""));
}

START_TEST(a_value_cannot_break_its_line)
{
    char *s = written_by(hostile);
    ck_assert_int_eq(lines_of(s), 6);
    static const char *const want[] = { "ev=a text=x\\ny\\tz\\x1b[0m\n",
                                        "ev=b reason=\"no \\\"a\\\\b\\\"\\nlvl=info\"\n",
                                        "ev=c model=films\n",
                                        "ev=d model=\"\"\n",
                                        "ev=e model=\"a=b\"\n",
                                        "ev=f reason=\"quotes: \"\n" };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_msg(strstr(s, want[i]), "%s not in\n%s", want[i], s);
    free(s);
}
END_TEST

static void from_threads(void *ctx)
{
    (void)ctx;
    struct par *p = par_new(4);
    par_for(p, 200, log_block, NULL); /* 25 of each name */
    par_free(p);
}

START_TEST(lines_of_several_threads_do_not_mix)
{
    char *s = written_by(from_threads), *rest = s;
    int n = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; n++) {
        int a, b, c;
        const char *from = strstr(line, "first=");
        ck_assert_msg(from && sscanf(from, "first=%d middle=%d last=%d", &a, &b, &c) == 3, "%s",
                      line);
        ck_assert(a == b && b == c);
    }
    ck_assert_int_eq(n, 200);
    free(s);
}
END_TEST

/* ---- progress ---- */

static void short_work(void *ctx)
{
    (void)ctx;
    struct prog p = prog_begin("epoch 3", 10);
    for (int i = 1; i <= 10; i++) prog_step(&p, i, "loss %.4f", 1.0 / i);
    prog_end(&p, "valid ndcg@10 %.4f", .0484);
}

START_TEST(without_a_terminal_progress_is_plain_lines)
{
    char *s = written_by(short_work);
    ck_assert_msg(matches("^epoch 3 [0-9.]+s  valid ndcg@10 0\\.0484\n$", s), "%s", s);
    free(s);
}
END_TEST

static void long_work(void *ctx)
{
    (void)ctx;
    struct prog p = prog_begin("epoch 3", 200);
    p.start_ns -= UINT64_C(20000000000); /* as if it had begun 20 s ago */
    p.last_ns = p.start_ns;
    prog_step(&p, 50, "loss %.4f", .5);
    p.start_ns -= UINT64_C(4000000000000);
    prog_end(&p, "done");
}

START_TEST(a_plain_line_tells_share_rate_and_time_left)
{
    char *s = written_by(long_work);
    ck_assert_msg(
        matches("^epoch 3  25% 2/s eta 1m00s  loss 0\\.5000\nepoch 3 1h07m  done\n$", s), "%s",
        s);
    free(s);
}
END_TEST

/* long_work on a terminal; what the terminal got goes to where standard error was. */
static void on_a_terminal(void *ctx)
{
    int err = dup(STDERR_FILENO), master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) _exit(77);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) _exit(77);
    dup2(slave, STDERR_FILENO);
    long_work(ctx);
    char text[1000] = "";
    size_t n = 0;
    for (ssize_t more; !strstr(text, "done"); n += (size_t)more) { /* it comes piece by piece */
        more = read(master, text + n, sizeof text - 1 - n);
        if (more <= 0) _exit(1);
    }
    if (write(err, text, n) != (ssize_t)n) _exit(1);
}

START_TEST(on_a_terminal_progress_is_a_bar)
{
    struct child c = child_run(on_a_terminal, NULL);
    if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 77) {
        fprintf(stderr, "no pseudo-terminal here: the progress bar is not tested\n");
    } else {
        ck_assert_msg(child_succeeded(&c), "status %#x", (unsigned)c.status);
        ck_assert_msg(strstr(c.text,
                             "\r\033[Kepoch 3 [######..................]  25% 2/s eta 1m00s  "
                             "loss 0.5000\r\033[Kepoch 3 1h07m  done"),
                      "%s", c.text);
    }
    free(c.text);
}
END_TEST

static void no_total(void *ctx)
{
    (void)ctx;
    struct prog p = prog_begin("read", 0);
    p.start_ns -= UINT64_C(20000000000);
    p.last_ns = p.start_ns;
    prog_step(&p, 40, "lines");
    p.last_ns = p.start_ns;
    p.total = 10; /* more done than promised */
    prog_step(&p, 40, "lines");
    prog_end(&p, "done");
}

START_TEST(unknown_and_wrong_totals_are_harmless)
{
    char *s = written_by(no_total);
    ck_assert_msg(
        matches("^read +0% 2/s eta -  lines\nread 400% 2/s eta [-0-9.]+s  lines\n", s), "%s",
        s);
    free(s);
}
END_TEST

Suite *suite_log(void);
Suite *suite_log(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_add_test(t, an_event_is_a_line_of_logfmt);
    tcase_add_test(t, levels_below_the_set_one_are_quiet);
    tcase_add_test(t, one_event_cannot_flood_the_log);
    tcase_add_test(t, a_long_line_is_cut_and_ended);
    tcase_add_test(t, a_value_cannot_break_its_line);
    tcase_add_test(t, lines_of_several_threads_do_not_mix);
    suite_add_tcase(s, t);
    TCase *p = tcase_create("progress");
    tcase_add_test(p, without_a_terminal_progress_is_plain_lines);
    tcase_add_test(p, a_plain_line_tells_share_rate_and_time_left);
    tcase_add_test(p, on_a_terminal_progress_is_a_bar);
    tcase_add_test(p, unknown_and_wrong_totals_are_harmless);
    suite_add_tcase(s, p);
    return s;
}
