/* Bytes that are compared many at a time: AT_ONCE of them, where the compiler is told of a processor that can. Elsewhere
   there is no AT_ONCE, and loops look at fewer. */

#pragma once
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#define AT_ONCE 32
#define WITH(work) _mm256_##work
#define ALL(work) WITH(work##_si256)
typedef __m256i Bytes;
#elif defined(__SSE2__)
#include <emmintrin.h>
#define AT_ONCE 16
#define WITH(work) _mm_##work
#define ALL(work) WITH(work##_si128)
typedef __m128i Bytes;
#endif

#ifdef AT_ONCE
static inline Bytes loaded(const uint8_t *from) {
    return ALL(loadu)((const Bytes *)from);
}

static inline Bytes every(int byte) {
    return WITH(set1_epi8)((char)byte);
}

static inline Bytes same(Bytes some, Bytes others) {
    return WITH(cmpeq_epi8)(some, others);
}

/* Signed: those beyond ASCII are below all others. */
static inline Bytes above(Bytes some, Bytes others) {
    return WITH(cmpgt_epi8)(some, others);
}

static inline Bytes either(Bytes some, Bytes others) {
    return ALL(or)(some, others);
}

static inline Bytes both(Bytes some, Bytes others) {
    return ALL(and)(some, others);
}

/* A bit for the first bit of each byte, the first byte's in the lowest. */
static inline uint64_t bits(Bytes some) {
    return (uint32_t)WITH(movemask_epi8)(some);
}
#endif
