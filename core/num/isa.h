/* isa.h — names of the per-instruction-set copies.  Only k_*.c include it.
 *   static void fwd(...) { ... }
 *   const struct k_norm_ops NUM_TABLE(k_norm) = { .fwd = fwd }; */
#pragma once

#ifndef NUM_ISA
#    define NUM_ISA base
#endif
#define NUM_PASTE_(a, b) a##_##b
#define NUM_PASTE(a, b)  NUM_PASTE_(a, b)
#define NUM_TABLE(name)  NUM_PASTE(name, NUM_ISA)
