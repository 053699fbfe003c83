/* The rules of stages/text.py's SelectAdvice, each text in one pass: that module has the same in Polars, which is what
   they mean.

   What a character is, Python says: `classes` has a byte for each of the first ones. A text with another, or with an
   ODD one in the first word of a line, is left to Polars. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "_utf8.h"
#include "_views.h"

#define SPACE 1
#define LOWER 2
#define UPPER 4
#define WORD 8
#define DIGIT 16
#define ODD 32    /* in lower case it has a letter of ASCII */
#define UNTOLD 64 /* not among those that are told of */
#define MOST 64 /* strings of a kind */
#define BLOCK 64
#define PAD BLOCK /* zeros behind a text, so that no look ahead leaves it */

/* What is said of a text: in the order of the names in stages/screen.py. */
enum {
    PASSED, TOO_SHORT, TOO_LONG, ODD_PUNCTUATION, PERSONAL_PRONOUNS, QUESTIONS, CAPITAL_WORDS,
    REPEATED_OPENERS, FEW_VERB_OPENERS, MANY_VERB_OPENERS, OTHER_PARAGRAPHS, UNKNOWN = 255
};

/* Strings to look for, those with the same first byte together: those with the byte b from begin[b] - 1 on; and what the
   first bytes are. */
typedef struct { Text strings[MOST]; int count, first_count; uint8_t firsts[MOST], begin[256]; } Strings;

typedef struct {
    Py_ssize_t min_chars, max_chars, pronouns, pronoun_window, questions, capital_words;
    Py_ssize_t openers, repeated, min_verbs, max_verbs, extra_lines; /* `openers`: whether those rules are asked for */
} Limits;

typedef struct {
    Limits limits;
    Strings marks, pronouns;
    uint8_t pronoun_pairs[1 << 16]; /* whether a pronoun may begin with two bytes */
    const uint8_t *classes;
    uint32_t known;
    PyObject *bases, *ing_forms;
} Rules;

static inline int is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

static inline uint8_t class_of(const Rules *rules, const uint8_t *at, int *bytes) {
    if (*at < 128) return *bytes = 1, rules->classes[*at];
    uint32_t code = character(at, bytes);
    return code < rules->known ? rules->classes[code] : UNTOLD | WORD; /* so that it ends no word that is counted */
}

static int too_short_or_long(const Limits *limits, Text text) {
    Py_ssize_t bytes = text.end - text.at;
    if (bytes < limits->min_chars) return TOO_SHORT;
    if (bytes <= limits->max_chars && bytes / 4 >= limits->min_chars) return PASSED; /* four bytes a character at most */
    Py_ssize_t count = characters(text.at, bytes);
    return count < limits->min_chars ? TOO_SHORT : count > limits->max_chars ? TOO_LONG : PASSED;
}

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

static inline int is_at(Text string, const uint8_t *at, const uint8_t *end) {
    if (end - at < string.end - string.at) return 0;
    while (string.at < string.end && *string.at == *at) string.at++, at++;
    return string.at == string.end;
}

static int is_mark(const Strings *marks, const uint8_t *at, const uint8_t *end) {
    for (int n = marks->begin[*at] - 1; n < marks->count && *marks->strings[n].at == *at; n++)
        if (is_at(marks->strings[n], at, end)) return 1;
    return 0;
}

static int has_mark(const Strings *marks, Text text) {
    const uint8_t *at = text.at;
    for (; text.end - at >= BLOCK; at += BLOCK)
        for (uint64_t maybe = among(at, marks->firsts, marks->first_count); maybe; maybe &= maybe - 1)
            if (is_mark(marks, at + __builtin_ctzll(maybe), text.end)) return 1;
    for (; at < text.end; at++)
        if (marks->begin[*at] && is_mark(marks, at, text.end)) return 1;
    return 0;
}

/* Behind the white space at `at`. */
static const uint8_t *behind_space(const Rules *rules, const uint8_t *at, const uint8_t *end) {
    int bytes;
    while (at < end && class_of(rules, at, &bytes) & SPACE) at += bytes;
    return at;
}

static const uint8_t *before_space(const Rules *rules, const uint8_t *at, const uint8_t *end) {
    int bytes;
    while (end > at) {
        const uint8_t *last = end - 1;
        while (last > at && (*last & 0xC0) == 0x80) last--;
        if (!(class_of(rules, last, &bytes) & SPACE)) break;
        end = last;
    }
    return end;
}

/* LF for the line ends CR LF and CR, where the text is; its new end. */
static uint8_t *with_unix_lines(uint8_t *text, uint8_t *end) {
    uint8_t *to = memchr(text, '\r', end - text);
    if (!to) return end;
    for (uint8_t *at = to; at < end; at++) {
        if (*at == '\r' && at[1] == '\n' && at + 1 < end) continue;
        *to++ = *at == '\r' ? '\n' : *at;
    }
    return to;
}

/* The text as select.tidy makes it, where it is. */
static Text tidied(const Rules *rules, uint8_t *text, uint8_t *end) {
    uint8_t *to = text;
    end = with_unix_lines(text, end);
    for (const uint8_t *at = text, *next; at < end; at = next) {
        const uint8_t *newline = memchr(at, '\n', end - at), *stop = newline ? newline : end;
        next = stop + 1;
        if (behind_space(rules, at, stop) == stop) continue;
        memmove(to, at, stop - at);
        to += stop - at;
        *to++ = '\n'; /* the last one may take the place of a zero behind the text */
    }
    const uint8_t *first = behind_space(rules, text, to);
    to = (uint8_t *)before_space(rules, first, to);
    memset(to, 0, PAD);
    return (Text){first, to};
}

/* How long an apostrophe at `at` is, straight or curly; 0 if there is none. */
static int apostrophe(const uint8_t *at) {
    return *at == '\'' ? 1 : at[0] == 0xE2 && at[1] == 0x80 && at[2] == 0x99 ? 3 : 0;
}

/* Whether the string is at `at`, as a whole word that begins there; an apostrophe of it may be either. */
static int is_word(const Rules *rules, Text string, const uint8_t *at) {
    for (const uint8_t *wanted = string.at; wanted < string.end; wanted++) {
        int bytes = *wanted == '\'' ? apostrophe(at) : *wanted == *at;
        if (!bytes) return 0;
        at += bytes;
    }
    int bytes;
    return !(class_of(rules, at, &bytes) & WORD);
}

/* Whether "i.e" is at `at`, with or without white space. */
static int is_id_est(const Rules *rules, const uint8_t *at) {
    int bytes;
    if (at[0] != 'i' || at[1] != '.') return 0;
    at += 2;
    if (class_of(rules, at, &bytes) & SPACE) at += bytes;
    uint8_t next = class_of(rules, at + 1, &bytes);
    return *at == 'e' && (!(next & WORD) || next & UNTOLD);
}

/* Whether one is at `at`, where a word begins with the first byte of one. */
static int is_pronoun(const Rules *rules, const uint8_t *at) {
    const Strings *pronouns = &rules->pronouns;
    for (int n = pronouns->begin[*at] - 1; n < pronouns->count && *pronouns->strings[n].at == *at; n++)
        if (is_word(rules, pronouns->strings[n], at)) return !is_id_est(rules, at);
    return 0;
}

/* Bits for the bytes of a block: those of a small letter, a capital, a character of a word, white space, a question mark,
   and those beyond ASCII. */
typedef struct { uint64_t small, capital, word, space, question, wide; } Masks;

static Masks masks_of(const uint8_t *block) {
    Masks masks = {.small = between(block, 'a', 'z'), .capital = between(block, 'A', 'Z')};
    masks.word = masks.small | masks.capital | between(block, '0', '9') | equal(block, '_');
    masks.space = between(block, '\t', '\r') | equal(block, ' ');
    masks.question = equal(block, '?');
    masks.wide = ~between(block, 0, 126) & ~equal(block, 127);
    return masks;
}

/* What has been counted of the style, and of the last character, its class and whether it is in a word or a capital;
   `run` is where the characters without white space began, `judged` where those end that were looked at as a whole. */
typedef struct {
    Py_ssize_t pronouns, questions, capital_words;
    uint64_t in_word, is_capital;
    uint8_t class;
    const uint8_t *run, *judged;
} Style;

/* Put the bytes beyond ASCII into the masks; 0 if one is of a character that is untold of. */
static int add_wide(const Rules *rules, const uint8_t *block, Masks *masks, Style *style) {
    int bytes;
    for (uint64_t left = masks->wide; left; left &= left - 1) {
        uint64_t bit = left & -left;
        const uint8_t *at = block + __builtin_ctzll(left);
        if ((*at & 0xC0) == 0xC0) {
            style->class = class_of(rules, at, &bytes);
            style->questions += bytes == 3 && !memcmp(at, "\xEF\xBC\x9F", 3);
        }
        if (style->class & UNTOLD) return 0;
        masks->small |= style->class & LOWER ? bit : 0;
        masks->capital |= style->class & UPPER ? bit : 0;
        masks->word |= style->class & WORD ? bit : 0;
        masks->space |= style->class & SPACE ? bit : 0;
    }
    return 1;
}

static void count_pronouns(const Rules *rules, const uint8_t *block, const Masks *masks, Style *style) {
    uint64_t begin = masks->word & ~(masks->word << 1 | style->in_word);
    style->in_word = masks->word >> 63;
    for (; begin; begin &= begin - 1) {
        const uint8_t *at = block + __builtin_ctzll(begin);
        if (rules->pronoun_pairs[at[0] << 8 | at[1]]) style->pronouns += is_pronoun(rules, at);
    }
}

/* Whether the characters up to white space have two capitals and no small letter; `end` is where they end. */
static int is_capital_word(const Rules *rules, const uint8_t *at, const uint8_t **end) {
    int capitals = 0, smalls = 0, bytes;
    for (;; at += bytes) {
        uint8_t class = class_of(rules, at, &bytes);
        if (class & SPACE || at >= *end) break;
        capitals += !!(class & UPPER);
        smalls += !!(class & LOWER);
    }
    *end = at;
    return capitals > 1 && !smalls;
}

/* Where neither a small letter nor white space follows a capital, all characters around are looked at. */
static void count_capital_words(const Rules *rules, const uint8_t *block, const Masks *masks, Text text, Style *style) {
    uint64_t maybe = (masks->capital << 1 | style->is_capital) & ~masks->small & ~masks->space;
    style->is_capital = masks->capital >> 63;
    for (; maybe; maybe &= maybe - 1) {
        int bit = __builtin_ctzll(maybe);
        uint64_t before = masks->space & ((1ULL << bit) - 1);
        const uint8_t *run = before ? block + BLOCK - __builtin_clzll(before) : style->run, *end = text.end;
        if (block + bit < style->judged || block + bit >= text.end) continue;
        style->capital_words += is_capital_word(rules, run, &end);
        style->judged = end;
    }
    if (masks->space) style->run = block + BLOCK - __builtin_clzll(masks->space);
}

static int style_of(const Rules *rules, Text text) {
    const Limits *limits = &rules->limits;
    double windows = 1, most;
    if (limits->pronoun_window) windows = (double)characters(text.at, text.end - text.at) / limits->pronoun_window;
    most = (windows > 1 ? windows : 1) * limits->pronouns;
    Style style = {.run = text.at, .judged = text.at};
    for (const uint8_t *block = text.at; block < text.end; block += BLOCK) {
        Masks masks = masks_of(block);
        if (masks.wide && !add_wide(rules, block, &masks, &style)) return UNKNOWN;
        count_pronouns(rules, block, &masks, &style);
        if (style.pronouns > most) return PERSONAL_PRONOUNS;
        for (; masks.question; masks.question &= masks.question - 1) style.questions++;
        count_capital_words(rules, block, &masks, text, &style);
    }
    if (style.pronouns > most) return PERSONAL_PRONOUNS; /* of no text, where even none is too many */
    if (style.questions > limits->questions) return QUESTIONS;
    return style.capital_words > limits->capital_words ? CAPITAL_WORDS : PASSED;
}

/* Whether one of the characters, which are end to end in `list`, is at `at`. */
static int is_among(const char *list, const uint8_t *at, int bytes) {
    for (const uint8_t *one = (const uint8_t *)list; *one;) {
        int length;
        character(one, &length);
        if (length == bytes && !memcmp(one, at, bytes)) return 1;
        one += length;
    }
    return 0;
}

/* Behind a number such as "1." or "Step 3:"; NULL if there is none. */
static const uint8_t *behind_number(const Rules *rules, const uint8_t *at, const uint8_t *end) {
    static const char *const words[] = {"step", "tip", "rule", "part", "day", "method"};
    int bytes, digits = 0;
    for (int n = 0; is_letter(*at) && n < 6; n++) {
        size_t letter = 0;
        while (words[n][letter] && words[n][letter] == (at[letter] | 0x20) && is_letter(at[letter])) letter++;
        if (words[n][letter]) continue;
        at += letter;
        break;
    }
    at = behind_space(rules, at, end);
    for (; digits < 3 && at < end && class_of(rules, at, &bytes) & DIGIT; digits++) at += bytes;
    if (!digits) return NULL;
    at = behind_space(rules, at, end);
    if (at >= end) return NULL;
    class_of(rules, at, &bytes);
    return is_among(".):\xE2\x80\x93\xE2\x80\x94-", at, bytes) ? at + bytes : NULL;
}

/* Behind a letter such as "a)" and white space; NULL if there is none. */
static const uint8_t *behind_letter(const Rules *rules, const uint8_t *at, const uint8_t *end) {
    int bytes;
    if (!is_letter(*at) || (at[1] != '.' && at[1] != ')') || at + 2 >= end) return NULL;
    return class_of(rules, at + 2, &bytes) & SPACE ? at + 2 + bytes : NULL;
}

/* Where the first word of a line begins, behind list marks and quotes; NULL if it has none. What could be a mark or a
   word is a word if no other follows. `is_odd` is set where that takes another alphabet. */
static const uint8_t *opener_of(const Rules *rules, const uint8_t *at, const uint8_t *end, int *is_odd) {
    static const char marks[] = "-+*>#\"'([\xE2\x80\xA2\xC2\xB7\xE2\x80\xA3\xE2\x96\xAA\xE2\x97\xA6\xE2\x80\x9C\xE2\x80\x9D"
                                "\xE2\x80\x98\xE2\x80\x99"; /* • · ‣ ▪ ◦ “ ” ‘ ’ */
    const uint8_t *maybe = NULL;
    while (at < end) {
        int bytes;
        uint8_t class = class_of(rules, at, &bytes);
        if (class & SPACE || is_among(marks, at, bytes)) {
            at += bytes;
            continue;
        }
        *is_odd |= class & ODD;
        const uint8_t *next = behind_number(rules, at, end);
        if (!next) next = behind_letter(rules, at, end);
        if (is_letter(*at)) maybe = at;
        if (!next) return is_letter(*at) ? at : maybe;
        at = next;
    }
    return maybe;
}

/* Behind the word that begins at `at`; "don't" is "do". `is_odd` as above. */
static uint8_t *end_of_opener(const Rules *rules, uint8_t *at, int *is_odd) {
    uint8_t *end = at, *link = NULL;
    for (int bytes, next;; end += bytes) {
        while (is_letter(*end)) end++;
        bytes = *end == '-' ? 1 : apostrophe(end);
        *is_odd |= class_of(rules, end + bytes, &next) & ODD;
        if (!bytes || !is_letter(end[bytes])) break;
        link = end;
    }
    int is_not = link && *link != '-' && link + apostrophe(link) == end - 1 && (end[-1] | 0x20) == 't';
    return is_not && (link[-1] | 0x20) == 'n' ? link - 1 : end;
}

/* The word in lower case, there and as Python's. */
static PyObject *opener_at(const Rules *rules, uint8_t *at, int *is_odd) {
    uint8_t *end = end_of_opener(rules, at, is_odd);
    for (uint8_t *letter = at; letter < end; letter++)
        if (is_letter(*letter)) *letter |= 0x20;
    return PyUnicode_FromStringAndSize((const char *)at, end - at);
}

/* What the lines of a text begin with. */
typedef struct { Py_ssize_t openers, bases, ing_forms, newlines; PyObject *distinct; int is_odd; } Openers;

static int count_opener(const Rules *rules, uint8_t *at, Openers *openers) {
    PyObject *word = opener_at(rules, at, &openers->is_odd);
    if (!word) return -1;
    int is_base = PySet_Contains(rules->bases, word), is_ing = PySet_Contains(rules->ing_forms, word);
    int failed = is_base < 0 || is_ing < 0 || PySet_Add(openers->distinct, word);
    Py_DECREF(word);
    openers->openers++;
    openers->bases += is_base;
    openers->ing_forms += is_ing;
    return failed ? -1 : 0;
}

static int judge_openers(const Limits *limits, const Openers *openers) {
    Py_ssize_t numbers[] = {openers->bases, openers->ing_forms}, least = PY_SSIZE_T_MAX, fitting = -1;
    if (openers->openers - PySet_Size(openers->distinct) > limits->repeated) return REPEATED_OPENERS;
    for (int n = 0; n < 2; n++) {
        if (numbers[n] < limits->min_verbs) continue;
        if (numbers[n] < least) least = numbers[n];
        if (numbers[n] <= limits->max_verbs && numbers[n] > fitting) fitting = numbers[n];
    }
    if (least == PY_SSIZE_T_MAX) return FEW_VERB_OPENERS;
    if (least > limits->max_verbs) return MANY_VERB_OPENERS;
    return openers->newlines - fitting > limits->extra_lines - 1 ? OTHER_PARAGRAPHS : PASSED;
}

/* -1 with an error set. */
static int openers_of(const Rules *rules, Text text) {
    Openers openers = {.distinct = PySet_New(NULL)};
    int said = openers.distinct ? PASSED : -1;
    for (const uint8_t *at = text.at, *next; said == PASSED && at < text.end; at = next) {
        const uint8_t *newline = memchr(at, '\n', text.end - at), *end = newline ? newline : text.end;
        const uint8_t *opener = opener_of(rules, at, end, &openers.is_odd);
        if (opener && count_opener(rules, (uint8_t *)opener, &openers)) said = -1;
        openers.newlines += newline != NULL;
        next = end + 1;
    }
    if (said == PASSED && openers.is_odd) said = UNKNOWN;
    if (said == PASSED) said = judge_openers(&rules->limits, &openers);
    Py_XDECREF(openers.distinct);
    return said;
}

/* What is said of a text, -1 with an error set; `room` has space for it and its zeros. */
static int judge(const Rules *rules, Text text, uint8_t *room) {
    int said = too_short_or_long(&rules->limits, text);
    if (said == PASSED && has_mark(&rules->marks, text)) said = ODD_PUNCTUATION;
    if (said != PASSED) return said;
    Py_ssize_t bytes = text.end - text.at;
    memcpy(room, text.at, bytes);
    memset(room + bytes, 0, PAD);
    text = tidied(rules, room, room + bytes);
    said = style_of(rules, text);
    return said == PASSED && rules->limits.openers ? openers_of(rules, text) : said;
}

static PyObject *judge_all(const Rules *rules, const Views *texts) {
    Py_ssize_t count = texts->views.len / 16, most = 0;
    for (Py_ssize_t n = 0; n < count; n++) {
        Text text = text_at(texts, n);
        if (text.end - text.at > most) most = text.end - text.at;
    }
    PyObject *said = PyByteArray_FromStringAndSize(NULL, count);
    uint8_t *out = said ? (uint8_t *)PyByteArray_AsString(said) : NULL, *room = malloc(most + PAD);
    if (!room && said) PyErr_NoMemory();
    for (Py_ssize_t n = 0; room && out && n < count; n++) {
        int found = judge(rules, text_at(texts, n), room);
        if (found < 0) out = NULL;
        else out[n] = (uint8_t)found;
    }
    free(room);
    if (said && !(room && out)) Py_CLEAR(said);
    return said;
}

/* The strings of a tuple of bytes, in order of their first bytes; 0 with an error set. */
static int learn(Strings *strings, PyObject *given) {
    strings->count = (int)PyTuple_Size(given);
    if (strings->count > MOST) return PyErr_Format(PyExc_ValueError, "more than %d strings", MOST), 0;
    for (int n = 0; n < strings->count; n++) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, n), &bytes, &length)) return 0;
        if (!length) return PyErr_SetString(PyExc_ValueError, "an empty string"), 0;
        if (n && (uint8_t)*bytes < *strings->strings[n - 1].at)
            return PyErr_SetString(PyExc_ValueError, "strings not in order of their first bytes"), 0;
        strings->strings[n] = (Text){(const uint8_t *)bytes, (const uint8_t *)bytes + length};
        if (strings->begin[(uint8_t)*bytes]) continue;
        strings->begin[(uint8_t)*bytes] = (uint8_t)(n + 1);
        strings->firsts[strings->first_count++] = (uint8_t)*bytes;
    }
    return 1;
}

/* The first two bytes that a pronoun may have in a text. */
static void learn_pairs(Rules *rules) {
    for (int n = 0; n < rules->pronouns.count; n++) {
        Text pronoun = rules->pronouns.strings[n];
        uint8_t *pairs = rules->pronoun_pairs + (*pronoun.at << 8);
        int second = pronoun.end - pronoun.at > 1 ? pronoun.at[1] : 0;
        for (int byte = 0; byte < 256; byte++)
            pairs[byte] |= second == 0 ? !is_letter((uint8_t)byte) : byte == second || (second == '\'' && byte == 0xE2);
    }
}

static PyObject *advice_reasons(PyObject *module, PyObject *arguments) {
    Py_buffer classes;
    Views texts;
    PyObject *views, *buffers, *marks, *pronouns, *said = NULL;
    Rules rules = {.known = 0};
    Limits *limits = &rules.limits;
    if (!PyArg_ParseTuple(
            arguments, "OO!y*(nnnnnnnnnnn)O!O!O!O!", &views, &PyTuple_Type, &buffers, &classes, &limits->min_chars,
            &limits->max_chars, &limits->pronouns, &limits->pronoun_window, &limits->questions, &limits->capital_words,
            &limits->openers, &limits->repeated, &limits->min_verbs, &limits->max_verbs, &limits->extra_lines,
            &PyTuple_Type, &marks, &PyTuple_Type, &pronouns, &PyFrozenSet_Type, &rules.bases, &PyFrozenSet_Type,
            &rules.ing_forms
        ))
        return NULL;
    rules.classes = classes.buf;
    rules.known = (uint32_t)classes.len;
    if (classes.len < 128) PyErr_Format(PyExc_ValueError, "classes of %zd characters; accepted: 128 or more", classes.len);
    else if (learn(&rules.marks, marks) && learn(&rules.pronouns, pronouns)) {
        learn_pairs(&rules);
        if (get_views(views, buffers, &texts)) {
            said = judge_all(&rules, &texts);
            release(&texts);
        }
    }
    PyBuffer_Release(&classes);
    return said;
}

static PyMethodDef methods[] = {
    {"advice_reasons", advice_reasons, METH_VARARGS,
     "advice_reasons(views, buffers, classes, limits, marks, pronouns, bases, ing_forms): of UTF-8 texts in Arrow's view\n"
     "layout, a byte for each: 0 if it passes, the number of the first rule that it breaks, 255 if it has a character\n"
     "that classes do not tell. ValueError for views or strings that cannot be."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "reinstruct._advice", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__advice(void) {
    return PyModule_Create(&module);
}
