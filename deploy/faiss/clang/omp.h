/* omp.h — for clang, which has none without its own OpenMP runtime: FAISS's headers name this type in declarations
 * that the project never calls. gcc reads its own omp.h; both link gcc's runtime, as FAISS's library does. */
#pragma once
struct omp_lock_t;
