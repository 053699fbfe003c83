/* The loop of _lines.c for processors with AVX2. */

#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#endif
#include "_lines_read.h"

int lines_avx2(Reader *reader, const Part *parts, Py_ssize_t count) {
    return lines(reader, parts, count);
}
