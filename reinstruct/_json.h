/* A reader of JSON that takes nothing but what is well-formed, in well-formed UTF-8: a cursor, and functions that move
   it. They return 0 (or -1 where they return a length) where it is not. */

#include <string.h>
#include "_blocks.h"

#define DEEPEST 32
#define SLACK BLOCK /* bytes that copying may write behind a string */

typedef struct { const uint8_t *at, *end; } Json;

#ifndef AT_ONCE
#define ONES 0x0101010101010101ULL
#define SEVENS (ONES * 0x7F)

/* The first bit of each of eight bytes that is 0, and no other. */
static inline uint64_t zeros(uint64_t eight) {
    return ~(((eight & SEVENS) + SEVENS) | eight | SEVENS);
}

/* What `specials` says of eight bytes. */
static inline uint8_t specials_of_eight(const uint8_t *at) {
    uint64_t eight = 0;
    for (int byte = 0; byte < 8; byte++) eight |= (uint64_t)at[byte] << 8 * byte; /* one load, if the lowest is first */
    uint64_t plain = ((eight & SEVENS) + ONES * 0x60) & ~eight; /* the first bit of those from 0x20 to 0x7F */
    uint64_t found = zeros(eight ^ ONES * '"') | zeros(eight ^ ONES * '\\') | (~plain & ONES * 0x80);
    return (uint8_t)((found >> 7) * 0x0102040810204080ULL >> 56); /* their first bits side by side */
}
#endif

/* A bit for each byte of a block that is a quote, a backslash, a control or beyond ASCII. */
static inline uint64_t specials(const uint8_t *block) {
    uint64_t found = 0;
#ifdef AT_ONCE
    for (int at = 0; at < BLOCK; at += AT_ONCE) {
        Bytes bytes = loaded(block + at), quote = same(bytes, every('"')), slash = same(bytes, every('\\'));
        found |= bits(either(either(quote, slash), above(every(0x20), bytes))) << at;
    }
#else
    for (int at = 0; at < BLOCK; at += 8) found |= (uint64_t)specials_of_eight(block + at) << at;
#endif
    return found;
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
static inline int wide_character(const uint8_t *at, const uint8_t *end, uint8_t *out) {
    uint8_t lead = *at;
    int bytes = lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
    if (!bytes || end - at < bytes) return 0;
    uint8_t least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < least || at[1] > most) return 0;
    for (int byte = 0; byte < bytes; byte++) {
        if (byte > 1 && (at[byte] & 0xC0) != 0x80) return 0;
        out[byte] = at[byte];
    }
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

/* Four hex digits, or a negative number. */
static inline int32_t four_digits(const uint8_t *at) {
    return hex_digits[at[0]] * 4096 | hex_digits[at[1]] * 256 | hex_digits[at[2]] * 16 | hex_digits[at[3]];
}

/* Write a character in UTF-8, of which it takes four bytes of `out`; how many it has. */
static inline int put_character(uint32_t code, uint8_t *out) {
    uint32_t last = 0x80 | (code & 63), third = 0x80 | (code >> 6 & 63), second = 0x80 | (code >> 12 & 63), form = code;
    form = code < 0x80 ? form : 0xC0 | code >> 6 | last << 8;
    form = code < 0x800 ? form : 0xE0 | code >> 12 | third << 8 | last << 16;
    form = code < 0x10000 ? form : 0xF0 | code >> 18 | second << 8 | third << 16 | last << 24;
    for (int byte = 0; byte < 4; byte++) out[byte] = (uint8_t)(form >> 8 * byte);
    return 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000);
}

/* What a byte behind a backslash stands for; 0 for none. */
static const uint8_t escapes[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t',
};

/* Write the character of two escapes, each of which is half of it; its bytes, 0 if they are not. */
static int escaped_pair(const uint8_t *at, const uint8_t *end, uint8_t *out) {
    if (end - at < 12 || at[1] != 'u' || at[6] != '\\' || at[7] != 'u') return 0;
    int32_t high = four_digits(at + 2), low = four_digits(at + 8);
    if (high < 0xD800 || high >= 0xDC00 || low < 0xDC00 || low >= 0xE000) return 0;
    return put_character(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), out);
}

/* Write what the escape at a backslash stands for; how many bytes it has, 0 if it is none. Behind that of a string there
   are a quote and the end of an object. Which of the two forms it has cannot be foretold, so nothing branches on it. */
static inline int escape(const uint8_t **at, const uint8_t *end, uint8_t *out) {
    const uint8_t *first = *at;
    if (end - first < 4) return 0;
    int is_code = first[1] == 'u';
    int32_t plain = escapes[first[1]], code = end - first < 6 ? -1 : four_digits(first + 2);
    code = is_code ? code : plain - !plain;
    if (code < 0 || (code & 0xF800) == 0xD800) {
        int bytes = escaped_pair(first, end, out);
        *at += bytes ? 12 : 0;
        return bytes;
    }
    *at += is_code ? 6 : 2;
    return put_character((uint32_t)code, out);
}

/* A string that is being copied: from `at` to `to`, which goes on by `step` bytes for each. */
typedef struct { const uint8_t *at, *end; uint8_t *to; int step; } Copy;

/* Copy what a special byte begins; 0 if that is the end of the string, or not well-formed. */
static inline int special(Copy *copy) {
    int is_escape = *copy->at == '\\', bytes;
    if (is_escape) bytes = escape(&copy->at, copy->end, copy->to);
    else if (*copy->at < 0x80) return 0;
    else bytes = wide_character(copy->at, copy->end, copy->to);
    copy->at += is_escape ? 0 : bytes;
    copy->to += bytes * copy->step;
    return bytes;
}

/* Copy a block, and what begins in it; 0 at the end of the string, or where it is not well-formed. There are more than
   two blocks more. Where the special bytes are is known before what they are, so they are copied while the next are
   looked at. */
static inline int block(Copy *copy) {
    const uint8_t *last = copy->at + BLOCK;
    for (uint64_t found = specials(copy->at); found; found &= found - 1) {
        const uint8_t *next = last - BLOCK + __builtin_ctzll(found);
        if (next < copy->at) continue; /* the second byte of an escape */
        memcpy(copy->to, copy->at, BLOCK);
        copy->to += (next - copy->at) * copy->step;
        copy->at = next;
        if (!special(copy)) return 0;
    }
    if (copy->at >= last) return 1;
    memcpy(copy->to, copy->at, BLOCK);
    copy->to += (last - copy->at) * copy->step;
    copy->at = last;
    return 1;
}

/* Copy the string behind a quote to `out`, or only check it where that is NULL; its bytes, -1 if it is none. */
static Py_ssize_t string(Json *json, uint8_t *out) {
    uint8_t spare[SLACK];
    Copy copy = {json->at, json->end, out ? out : spare, out ? 1 : 0};
    for (;;) {
        if (copy.end - copy.at > 3 * BLOCK && block(&copy)) continue;
        if (copy.at >= copy.end || *copy.at < 0x20) return -1;
        if (*copy.at == '"') {
            json->at = copy.at + 1;
            return out ? copy.to - out : 0;
        }
        if (*copy.at == '\\' || *copy.at > 0x7F) {
            if (!special(&copy)) return -1;
            continue;
        }
        *copy.to = *copy.at++;
        copy.to += copy.step;
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
