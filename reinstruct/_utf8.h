/* Characters of well-formed UTF-8. */

#include <string.h>
#include "_wide.h"

/* The character at `at`, and how many bytes it has. */
static inline uint32_t character(const uint8_t *at, int *bytes) {
    *bytes = *at < 0x80 ? 1 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
    uint32_t code = *bytes == 1 ? *at : *at & (0x7Fu >> *bytes);
    for (int byte = 1; byte < *bytes; byte++) code = code << 6 | (at[byte] & 63u);
    return code;
}

#define COUNTED 64 /* bytes whose followers are counted at once, so that compilers take sixteen at a time */

/* How many of the next bytes are not the first of a character. */
static inline int followers(const uint8_t *at) {
#if defined(__AVX2__) && defined(__POPCNT__)
    uint64_t found = bits(above(every(-64), loaded(at))) | bits(above(every(-64), loaded(at + 32))) << 32;
    return __builtin_popcountll(found);
#else
    uint8_t count = 0; /* not wider: that would be slower */
    for (int byte = 0; byte < COUNTED; byte++) count += (int8_t)at[byte] < -64;
    return count;
#endif
}

/* How many characters a text of so many bytes has. */
static inline Py_ssize_t characters(const uint8_t *text, Py_ssize_t bytes) {
    Py_ssize_t count = bytes;
    for (; bytes >= COUNTED; bytes -= COUNTED, text += COUNTED) count -= followers(text);
    for (Py_ssize_t byte = 0; byte < bytes; byte++) count -= (int8_t)text[byte] < -64;
    return count;
}

/* Behind the first `most` characters of a text, or its end. */
static inline const uint8_t *behind_characters(const uint8_t *at, const uint8_t *end, Py_ssize_t most) {
    if (end - at <= most) return end;
    for (; most >= COUNTED && end - at >= COUNTED; at += COUNTED) most -= COUNTED - followers(at);
    for (; at < end; at++)
        if ((int8_t)*at >= -64 && most-- == 0) return at;
    return end;
}
