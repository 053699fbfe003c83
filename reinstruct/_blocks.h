/* Bytes of a text that are looked for in blocks: a bit for each, the first in the lowest. */

#include "_wide.h"

#define BLOCK 64

/* A bit for each byte of a block that lies between two of ASCII below 127. */
static inline uint64_t between(const uint8_t *block, uint8_t first, uint8_t last) {
    uint64_t found = 0;
#ifdef AT_ONCE
    for (int at = 0; at < BLOCK; at += AT_ONCE) {
        Bytes bytes = loaded(block + at);
        found |= bits(both(above(bytes, every(first - 1)), above(every(last + 1), bytes))) << at;
    }
#else
    for (int at = 0; at < BLOCK; at++) found |= (uint64_t)((uint8_t)(block[at] - first) <= last - first) << at;
#endif
    return found;
}

/* A bit for each byte of a block that is one of `count`. */
static inline uint64_t among(const uint8_t *block, const uint8_t *wanted, int count) {
    uint64_t found = 0;
#ifdef AT_ONCE
    for (int at = 0; at < BLOCK; at += AT_ONCE) {
        Bytes bytes = loaded(block + at), hits = every(0);
        for (int n = 0; n < count; n++) hits = either(hits, same(bytes, every(wanted[n])));
        found |= bits(hits) << at;
    }
#else
    for (int at = 0; at < BLOCK; at++) found |= (uint64_t)(memchr(wanted, block[at], count) != NULL) << at;
#endif
    return found;
}

static inline uint64_t equal(const uint8_t *block, uint8_t byte) {
    return among(block, &byte, 1);
}

/* A bit for each byte of a block that is not of ASCII. */
static inline uint64_t beyond_ascii(const uint8_t *block) {
#ifdef AT_ONCE
    uint64_t found = 0;
    for (int at = 0; at < BLOCK; at += AT_ONCE) found |= bits(loaded(block + at)) << at;
    return found;
#else
    return ~between(block, 0, 126) & ~equal(block, 127);
#endif
}
