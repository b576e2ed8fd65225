/* items_fmt.h — layout of items.bin, shared by its reader and its writer.
 * Little endian.  A header of 64 bytes, a table of sections, the sections, each at a multiple of 64 and
 * padded with zeros; the file's size is a multiple of 64.  A reader skips sections whose tag it does not know.
 *   "IDX " uint64 [n+1]  offsets of the ids in "IDS "      "IDS " bytes of all ids, in row order
 *   "TTX " uint64 [n+1]  offsets of the titles in "TTL "   "TTL " bytes of all titles (may be empty)
 *   "POP " int64  [n]    events in the training part       "ORD " int32 [n] rows by popularity, ties by row
 *   "HSH " int32  [m]    open addressing: XXH3_64bits(id) & (m-1), then linear; -1 empty; m = 2^k >= 2n
 * Attribute fields; a file without "FLD " has none, and the other five are needed where it is:
 *   "FLD " struct items_field [F]
 *   "VLX " uint64 [W+1]  offsets of the values in "VLS "; W: all fields' values, field after field   "VLS " their bytes
 *   "ATX " uint64 [G, n+1] for the G fields of values: places of a row's values in "ATV "
 *   "ATV " int32         values of rows, numbered within their field, ascending in a row
 *   "NUM " double [F-G, n] for the fields of numbers; NaN: none */
#pragma once
#include <stdint.h>

#define ITEMS_MAGIC "INTITEMS"
#define ITEMS_TAG(a, b, c, d)                                                                  \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

enum { ITEMS_VERSION = 1, ITEMS_ALIGN = 64, ITEMS_SECTIONS_MAX = 64 };

/* In the order in which they are written. */
#define ITEMS_SECTION_MAP(X)                                                                   \
    X(SEC_ID_OFF, ITEMS_TAG('I', 'D', 'X', ' '), "ids' offsets")                               \
    X(SEC_ID, ITEMS_TAG('I', 'D', 'S', ' '), "ids")                                            \
    X(SEC_TITLE_OFF, ITEMS_TAG('T', 'T', 'X', ' '), "titles' offsets")                         \
    X(SEC_TITLE, ITEMS_TAG('T', 'T', 'L', ' '), "titles")                                      \
    X(SEC_POP, ITEMS_TAG('P', 'O', 'P', ' '), "popularity")                                    \
    X(SEC_ORDER, ITEMS_TAG('O', 'R', 'D', ' '), "order by popularity")                         \
    X(SEC_HASH, ITEMS_TAG('H', 'S', 'H', ' '), "hash table")                                   \
    X(SEC_FIELD, ITEMS_TAG('F', 'L', 'D', ' '), "fields")                                      \
    X(SEC_VALUE_OFF, ITEMS_TAG('V', 'L', 'X', ' '), "values' offsets")                         \
    X(SEC_VALUE, ITEMS_TAG('V', 'L', 'S', ' '), "values")                                      \
    X(SEC_ATTR_OFF, ITEMS_TAG('A', 'T', 'X', ' '), "attributes' places")                       \
    X(SEC_ATTR, ITEMS_TAG('A', 'T', 'V', ' '), "attributes")                                   \
    X(SEC_NUMBER, ITEMS_TAG('N', 'U', 'M', ' '), "numbers")

enum items_sec {
#define ITEMS_SEC_ENUM_(name, tag, text) name,
    ITEMS_SECTION_MAP(ITEMS_SEC_ENUM_)
#undef ITEMS_SEC_ENUM_
        SEC_COUNT,
    SEC_NEEDED = SEC_FIELD /* those before are in every file */
};

struct items_header {
    char magic[8];
    uint32_t version, n_sections;
    uint64_t nb_file;
    uint32_t n_items, reserved[9];
};
struct items_section {
    uint32_t tag, reserved;
    uint64_t off, nb;
};
struct items_field {
    char name[48]; /* filled with zeros; the last byte is one */
    uint32_t kind, n_values;
    uint64_t reserved;
};
_Static_assert(sizeof(struct items_field) == 64, "field of items.bin");
_Static_assert(sizeof(struct items_header) == 64, "header of items.bin");
_Static_assert(sizeof(struct items_section) == 24, "section entry of items.bin");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped as they are");
