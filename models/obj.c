#include "models/obj.h"

const struct obj_ops *const obj_list[] = {
#define OBJ(name) &obj_##name,
#include "models/list.def"
#undef OBJ
};
const int obj_count = (int)(sizeof obj_list / sizeof obj_list[0]);
