/* cppcheck.h — jansson's loops spelt out for cppcheck, which does not read system headers. */
#pragma once
#define json_object_foreach(object, key, value)                                                \
    for ((key) = next(object); (key); (value) = next(object))
#define json_array_foreach(array, i, value)                                                    \
    for ((i) = 0; (i) < size(array) && ((value) = at(array, i)); (i)++)
