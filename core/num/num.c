#include "core/num/num.h"
#include "core/base/err.h"
#include <cblas.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TABLES(isa)                                                                            \
    extern const struct k_vec_ops k_vec_##isa;                                                 \
    extern const struct k_mm_ops k_mm_##isa;                                                   \
    extern const struct k_act_ops k_act_##isa;                                                 \
    extern const struct k_norm_ops k_norm_##isa;                                               \
    extern const struct k_attn_ops k_attn_##isa;                                               \
    extern const struct k_last_ops k_last_##isa;                                               \
    extern const struct k_seg_ops k_seg_##isa;                                                 \
    extern const struct k_loss_ops k_loss_##isa;                                               \
    extern const struct k_adam_ops k_adam_##isa;                                               \
    extern const struct k_scan_ops k_scan_##isa;                                               \
    static const struct num_ops ops_##isa = { #isa,          &k_vec_##isa,  &k_mm_##isa,       \
                                              &k_act_##isa,  &k_norm_##isa, &k_attn_##isa,     \
                                              &k_last_##isa, &k_seg_##isa,  &k_loss_##isa,     \
                                              &k_adam_##isa, &k_scan_##isa }

TABLES(base);
#ifdef __x86_64__
TABLES(v3);
TABLES(v4);
#endif

const struct num_ops *num = &ops_base;

int num_available(const struct num_ops *out[3])
{
    int n = 0;
#ifdef __x86_64__
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (v4) out[n++] = &ops_v4;
    if (v3) out[n++] = &ops_v3;
#endif
    out[n++] = &ops_base;
    return n;
}

void num_init(void)
{
    const struct num_ops *have[3];
    int n = num_available(have);
    const char *want = getenv("INTENTD_ISA");
    num = have[0];
    for (int i = 0; want && i < n; i++)
        if (strcmp(have[i]->isa, want) == 0) num = have[i];
    openblas_set_num_threads(1);
}
