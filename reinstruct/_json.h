/* A reader of JSON that takes nothing but what is well-formed, in well-formed UTF-8: a cursor, and functions that move
   it. They return 0 (or -1 where they return a length) where it is not. */

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define DEEPEST 32
#define SLACK 16 /* bytes that copying may write behind a string */

typedef struct { const uint8_t *at, *end; } Json;

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* Whether one of eight bytes ends a run that is copied as it is: a quote, a backslash, a control or a byte over 127. */
static inline uint64_t special(uint64_t eight) {
    uint64_t quote = eight ^ ONES * '"', slash = eight ^ ONES * '\\';
    return (((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) | (eight - ONES * 0x20) | eight) & HIGHS;
}

static inline uint64_t little(uint64_t eight) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(eight);
#else
    return eight;
#endif
}

static inline void skip_space(Json *json) {
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\r')) json->at++;
}

static inline int take(Json *json, uint8_t wanted) {
    skip_space(json);
    if (json->at >= json->end || *json->at != wanted) return 0;
    json->at++;
    return 1;
}

/* Copy a character of more than one byte; how many it has, 0 if it is not well-formed (Unicode, table 3-7). */
static int wide_character(Json *json, uint8_t *out) {
    const uint8_t *at = json->at;
    uint8_t lead = *at;
    int bytes = lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
    if (!bytes || json->end - at < bytes) return 0;
    uint8_t least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < least || at[1] > most) return 0;
    for (int byte = 0; byte < bytes; byte++) {
        if (byte > 1 && (at[byte] & 0xC0) != 0x80) return 0;
        out[byte] = at[byte];
    }
    json->at += bytes;
    return bytes;
}

/* What a hex digit stands for, and -1 for other bytes. */
static const int8_t hex_digits[256] = {
#define NONE4 -1, -1, -1, -1
#define NONE16 NONE4, NONE4, NONE4, NONE4
#define LETTERS -1, 10, 11, 12, 13, 14, 15, -1, NONE4, NONE4
    NONE16, NONE16, NONE16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -1, NONE4, LETTERS, NONE16, LETTERS, NONE16,
    NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16,
};

/* Four hex digits, or -1. */
static inline int32_t four_digits(const uint8_t *at, const uint8_t *end) {
    if (end - at < 4) return -1;
    int32_t first = hex_digits[at[0]], second = hex_digits[at[1]], third = hex_digits[at[2]], last = hex_digits[at[3]];
    return (first | second | third | last) < 0 ? -1 : first << 12 | second << 8 | third << 4 | last;
}

/* Write the character of \uXXXX, whose digits begin at `at`, in UTF-8; how many bytes it has. 0 for half a pair. */
static int unicode_escape(Json *json, uint8_t *out) {
    int32_t code = four_digits(json->at, json->end);
    json->at += 4;
    if (code < 0 || (code >= 0xDC00 && code < 0xE000)) return 0;
    if (code >= 0xD800 && code < 0xDC00) {
        if (json->end - json->at < 6 || json->at[0] != '\\' || json->at[1] != 'u') return 0;
        int32_t low = four_digits(json->at + 2, json->end);
        if (low < 0xDC00 || low >= 0xE000) return 0;
        json->at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    int bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int byte = bytes - 1; byte > 0; byte--, code >>= 6) out[byte] = 0x80 | (code & 63);
    out[0] = leads[bytes] | (uint8_t)code;
    return bytes;
}

/* What a byte behind a backslash stands for; 0 for none. */
static const uint8_t escapes[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t',
};

/* Write what the escape at a backslash stands for; how many bytes it has, 0 if it is none. */
static inline int escape(Json *json, uint8_t *out) {
    if (json->end - json->at < 2) return 0;
    uint8_t kind = json->at[1];
    json->at += 2;
    if (kind == 'u') return unicode_escape(json, out);
    *out = escapes[kind];
    return *out != 0;
}

#ifdef __SSE2__
#define AT_ONCE 16
typedef __m128i Run;

/* A bit for each byte of a run that is special. */
static inline unsigned specials(Run run) {
    Run quote = _mm_cmpeq_epi8(run, _mm_set1_epi8('"')), slash = _mm_cmpeq_epi8(run, _mm_set1_epi8('\\'));
    Run other = _mm_cmplt_epi8(run, _mm_set1_epi8(0x20)); /* signed: those over 127, too */
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), other));
}
#define FIRST(found) __builtin_ctz(found)
#else
#define AT_ONCE 8
typedef uint64_t Run;

static inline uint64_t specials(Run run) {
    return special(little(run));
}
#define FIRST(found) (__builtin_ctzll(found) / 8) /* the lowest is exact; those above it may be wrong */
#endif

/* Copy bytes up to the next special one, many at a time where there are as many; where the copy ends. */
static inline uint8_t *plain(Json *json, uint8_t *to, int step) {
    for (Run run; json->end - json->at >= AT_ONCE; json->at += AT_ONCE, to += AT_ONCE * step) {
        memcpy(&run, json->at, AT_ONCE);
        memcpy(to, &run, AT_ONCE);
        if (!specials(run)) continue;
        int bytes = FIRST(specials(run));
        json->at += bytes;
        return to + bytes * step;
    }
    for (; json->at < json->end && !(special(*json->at | ONES << 8) & 0x80); json->at++, to += step) *to = *json->at;
    return to;
}

/* Copy the string behind a quote to `out`, or only check it where that is NULL; its bytes, -1 if it is none. */
static Py_ssize_t string(Json *json, uint8_t *out) {
    uint8_t spare[SLACK], *to = out ? out : spare;
    int step = out ? 1 : 0;
    for (;;) {
        to = plain(json, to, step);
        if (json->at >= json->end || *json->at < 0x20) return -1;
        if (*json->at == '"') {
            json->at++;
            return out ? to - out : 0;
        }
        int bytes = *json->at == '\\' ? escape(json, to) : wide_character(json, to);
        if (!bytes) return -1;
        to += bytes * step;
    }
}

static int digits(Json *json) {
    const uint8_t *first = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') json->at++;
    return json->at > first;
}

static int skip_number(Json *json) {
    if (*json->at == '-') json->at++;
    const uint8_t *first = json->at;
    if (!digits(json) || (*first == '0' && json->at > first + 1)) return 0;
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        if (!digits(json)) return 0;
    }
    if (json->at < json->end && (*json->at | 0x20) == 'e') {
        json->at++;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-')) json->at++;
        if (!digits(json)) return 0;
    }
    return 1;
}

static int word(Json *json, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(json->end - json->at) < length || memcmp(json->at, wanted, length)) return 0;
    json->at += length;
    return 1;
}

static int skip_value(Json *json, int depth);

/* The rest of an object or an array, whose bracket is read. */
static int skip_items(Json *json, uint8_t close, int depth) {
    if (depth == DEEPEST) return 0;
    if (take(json, close)) return 1;
    do {
        if (close == '}' && !(take(json, '"') && string(json, NULL) >= 0 && take(json, ':'))) return 0;
        if (!skip_value(json, depth + 1)) return 0;
    } while (take(json, ','));
    return take(json, close);
}

static int skip_value(Json *json, int depth) {
    skip_space(json);
    if (json->at >= json->end) return 0;
    switch (*json->at) {
        case '"': json->at++; return string(json, NULL) >= 0;
        case '{': json->at++; return skip_items(json, '}', depth);
        case '[': json->at++; return skip_items(json, ']', depth);
        case 't': return word(json, "true");
        case 'f': return word(json, "false");
        case 'n': return word(json, "null");
        default: return skip_number(json);
    }
}
