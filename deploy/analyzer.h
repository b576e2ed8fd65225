/* analyzer.h — put before every file by `make tidy`: tells clang's analyzer that err_set's result is the
 * negative code, so that it doesn't follow paths on which an error goes unnoticed. */
#include "core/base/err.h"
#undef err_set
#undef err_sys
#define err_set(e, code, ...)                                                                  \
    ((void)err_set_at((e), (code), __FILE__, __LINE__, __VA_ARGS__), (int)(code))
#define err_sys(e, code, ...)                                                                  \
    ((void)err_sys_at((e), (code), __FILE__, __LINE__, __VA_ARGS__), (int)(code))
