/* items_fmt.h — layout of items.bin, shared by its reader and its writer.
 * Little endian.  A header of 64 bytes, a table of sections, the sections, each at a multiple of 64 and
 * padded with zeros; the file's size is a multiple of 64.  A reader skips sections whose tag it does not know, so
 * later kinds of data (attributes) need no new version.
 *   "IDX " uint64 [n+1]  offsets of the ids in "IDS "      "IDS " bytes of all ids, in row order
 *   "TTX " uint64 [n+1]  offsets of the titles in "TTL "   "TTL " bytes of all titles (may be empty)
 *   "POP " int64  [n]    events in the training part       "ORD " int32 [n] rows by popularity, ties by row
 *   "HSH " int32  [m]    open addressing: XXH3_64bits(id) & (m-1), then linear; -1 empty; m = 2^k >= 2n */
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
    X(SEC_HASH, ITEMS_TAG('H', 'S', 'H', ' '), "hash table")

enum items_sec {
#define ITEMS_SEC_ENUM_(name, tag, text) name,
    ITEMS_SECTION_MAP(ITEMS_SEC_ENUM_)
#undef ITEMS_SEC_ENUM_
        SEC_COUNT
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
_Static_assert(sizeof(struct items_header) == 64, "header of items.bin");
_Static_assert(sizeof(struct items_section) == 24, "section entry of items.bin");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped as they are");
