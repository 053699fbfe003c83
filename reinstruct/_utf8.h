/* Characters of well-formed UTF-8. */

#include <stdint.h>
#include <string.h>

/* The character at `at`, and how many bytes it has. */
static inline uint32_t character(const uint8_t *at, int *bytes) {
    *bytes = *at < 0x80 ? 1 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
    uint32_t code = *bytes == 1 ? *at : *at & (0x7Fu >> *bytes);
    for (int byte = 1; byte < *bytes; byte++) code = code << 6 | (at[byte] & 63u);
    return code;
}

#define AT_ONCE 192 /* fewer than a byte counts, so that compilers count sixteen at a time */

/* How many characters a text of so many bytes has. */
static inline Py_ssize_t characters(const uint8_t *text, Py_ssize_t bytes) {
    Py_ssize_t count = bytes;
    for (; bytes >= AT_ONCE; bytes -= AT_ONCE, text += AT_ONCE) {
        uint8_t followers = 0;
        for (int byte = 0; byte < AT_ONCE; byte++) followers += (int8_t)text[byte] < -64;
        count -= followers;
    }
    for (Py_ssize_t byte = 0; byte < bytes; byte++) count -= (int8_t)text[byte] < -64;
    return count;
}
