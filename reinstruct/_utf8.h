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

static inline Py_ssize_t characters(const uint8_t *text, Py_ssize_t length) {
    Py_ssize_t count = 0;
    for (Py_ssize_t byte = 0; byte < length; byte++) count += (text[byte] & 0xC0) != 0x80;
    return count;
}
