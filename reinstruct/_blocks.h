/* Bytes of a text that are looked for in blocks: a bit for each, the first in the lowest. */

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64

/* A bit for each byte of a block that lies between two of ASCII below 127. */
static inline uint64_t between(const uint8_t *block, uint8_t first, uint8_t last) {
    uint64_t bits = 0;
#ifdef __SSE2__
    for (int at = 0; at < BLOCK; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(block + at)); /* signed, so that those beyond ASCII are below */
        __m128i above = _mm_cmpgt_epi8(bytes, _mm_set1_epi8((char)(first - 1)));
        __m128i below = _mm_cmplt_epi8(bytes, _mm_set1_epi8((char)(last + 1)));
        bits |= (uint64_t)_mm_movemask_epi8(_mm_and_si128(above, below)) << at;
    }
#else
    for (int at = 0; at < BLOCK; at++) bits |= (uint64_t)((uint8_t)(block[at] - first) <= last - first) << at;
#endif
    return bits;
}

/* A bit for each byte of a block that is one of `count`. */
static inline uint64_t among(const uint8_t *block, const uint8_t *wanted, int count) {
    uint64_t bits = 0;
#ifdef __SSE2__
    for (int at = 0; at < BLOCK; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(block + at)), same = _mm_setzero_si128();
        for (int n = 0; n < count; n++) same = _mm_or_si128(same, _mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)wanted[n])));
        bits |= (uint64_t)_mm_movemask_epi8(same) << at;
    }
#else
    for (int at = 0; at < BLOCK; at++) bits |= (uint64_t)(memchr(wanted, block[at], count) != NULL) << at;
#endif
    return bits;
}

static inline uint64_t equal(const uint8_t *block, uint8_t byte) {
    return among(block, &byte, 1);
}
