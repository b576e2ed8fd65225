/* prog.h — progress of long work on standard error: a bar on a terminal, plain lines otherwise.
 *   struct prog p = prog_begin("epoch 3", n);
 *   prog_step(&p, done, "loss %.4f", loss);     cheap: draws at most ten times a second
 *   prog_end(&p, "valid ndcg@10 %.4f", x);      final line stays
 * Thread: owner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct prog {
    const char *label;
    int64_t total, last_done;
    uint64_t start_ns, last_ns;
    bool tty;
};

struct prog prog_begin(const char *label, int64_t total);
void prog_step(struct prog *p, int64_t done, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void prog_end(struct prog *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
