/* The rules of stages/text.py's SelectAdvice, each text in one pass: that module has the same in Polars, which is what
   they mean.

   What a character is, Python says: `classes` has a byte for each of the first ones. A text with another, or with an
   ODD one, is left to Polars. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdlib.h>
#include "_utf8.h"

#define SPACE 1
#define LOWER 2
#define UPPER 4
#define WORD 8
#define DIGIT 16
#define ODD 32 /* in lower case it has a letter of ASCII */
#define MOST 64 /* strings of a kind */
#define PAD 8   /* zeros behind a text, so that no look ahead leaves it */

/* What is said of a text: in the order of the names in stages/screen.py. */
enum {
    PASSED, TOO_SHORT, TOO_LONG, ODD_PUNCTUATION, PERSONAL_PRONOUNS, QUESTIONS, CAPITAL_WORDS,
    REPEATED_OPENERS, FEW_VERB_OPENERS, MANY_VERB_OPENERS, OTHER_PARAGRAPHS, UNKNOWN = 255
};

typedef struct { const uint8_t *at, *end; } Text;

/* Strings to look for, and for each byte how many of them begin with it. */
typedef struct { Text strings[MOST]; int count; uint8_t begin[256]; } Strings;

typedef struct {
    Py_ssize_t min_chars, max_chars, pronouns, pronoun_window, questions, capital_words;
    Py_ssize_t openers, repeated, min_verbs, max_verbs, extra_lines; /* `openers`: whether those rules are asked for */
} Limits;

typedef struct {
    Limits limits;
    Strings marks, pronouns;
    const uint8_t *classes;
    uint32_t known;
    PyObject *bases, *ing_forms;
} Rules;

static inline uint8_t class_of(const Rules *rules, const uint8_t *at, int *bytes) {
    if (*at < 128) return *bytes = 1, rules->classes[*at];
    uint32_t code = character(at, bytes);
    return code < rules->known ? rules->classes[code] : ODD | WORD; /* so that it ends no word that is counted */
}

static int too_short_or_long(const Limits *limits, Text text) {
    Py_ssize_t bytes = text.end - text.at;
    if (bytes < limits->min_chars) return TOO_SHORT;
    if (bytes <= limits->max_chars && bytes / 4 >= limits->min_chars) return PASSED; /* four bytes a character at most */
    Py_ssize_t count = characters(text.at, bytes);
    return count < limits->min_chars ? TOO_SHORT : count > limits->max_chars ? TOO_LONG : PASSED;
}

static int has_mark(const Strings *marks, Text text) {
    for (const uint8_t *at = text.at; at < text.end; at++) {
        if (!marks->begin[*at]) continue;
        for (int n = 0; n < marks->count; n++) {
            Py_ssize_t length = marks->strings[n].end - marks->strings[n].at;
            if (text.end - at >= length && !memcmp(at, marks->strings[n].at, length)) return 1;
        }
    }
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
    return *at == 'e' && (!(next & WORD) || next & ODD);
}

static int is_pronoun(const Rules *rules, const uint8_t *at) {
    for (int n = 0; n < rules->pronouns.count; n++)
        if (is_word(rules, rules->pronouns.strings[n], at)) return !is_id_est(rules, at);
    return 0;
}

/* What is being counted of the style: capitals are those of the run of characters without white space. */
typedef struct { Py_ssize_t pronouns, questions, capital_words, capitals; int has_small; } Style;

static inline void end_run(Style *style) {
    style->capital_words += style->capitals > 1 && !style->has_small;
    style->capitals = style->has_small = 0;
}

static int style_of(const Rules *rules, Text text) {
    const Limits *limits = &rules->limits;
    double windows = 1, most;
    if (limits->pronoun_window) windows = (double)characters(text.at, text.end - text.at) / limits->pronoun_window;
    most = (windows > 1 ? windows : 1) * limits->pronouns;
    Style style = {0};
    int in_word = 0, bytes;
    for (const uint8_t *at = text.at; at < text.end; at += bytes) {
        uint8_t class = class_of(rules, at, &bytes);
        if (class & ODD) return UNKNOWN;
        if (!in_word && rules->pronouns.begin[*at] && (style.pronouns += is_pronoun(rules, at)) > most)
            return PERSONAL_PRONOUNS;
        in_word = class & WORD;
        style.capitals += !!(class & UPPER);
        if (class == (LOWER | WORD) && bytes == 1) { /* on to the end of a run of these */
            while (at[1] < 128 && rules->classes[at[1]] == class) at++;
            style.has_small = 1;
        } else if (class & SPACE) end_run(&style);
        else if (class & LOWER) style.has_small = 1;
        else if (*at == '?' || (bytes == 3 && !memcmp(at, "\xEF\xBC\x9F", 3))) style.questions++;
    }
    end_run(&style);
    if (style.pronouns > most) return PERSONAL_PRONOUNS; /* where even none is too many */
    if (style.questions > limits->questions) return QUESTIONS;
    return style.capital_words > limits->capital_words ? CAPITAL_WORDS : PASSED;
}

static inline int is_letter(uint8_t byte) {
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
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
   word is a word if no other follows. */
static const uint8_t *opener_of(const Rules *rules, const uint8_t *at, const uint8_t *end) {
    static const char marks[] = "-+*>#\"'([\xE2\x80\xA2\xC2\xB7\xE2\x80\xA3\xE2\x96\xAA\xE2\x97\xA6\xE2\x80\x9C\xE2\x80\x9D"
                                "\xE2\x80\x98\xE2\x80\x99"; /* • · ‣ ▪ ◦ “ ” ‘ ’ */
    const uint8_t *maybe = NULL;
    while (at < end) {
        int bytes;
        if (class_of(rules, at, &bytes) & SPACE || is_among(marks, at, bytes)) {
            at += bytes;
            continue;
        }
        const uint8_t *next = behind_number(rules, at, end);
        if (!next) next = behind_letter(rules, at, end);
        if (is_letter(*at)) maybe = at;
        if (!next) return is_letter(*at) ? at : maybe;
        at = next;
    }
    return maybe;
}

/* Behind the word that begins at `at`; "don't" is "do". */
static uint8_t *end_of_opener(uint8_t *at) {
    uint8_t *end = at, *link = NULL;
    for (int bytes;; end += bytes) {
        while (is_letter(*end)) end++;
        bytes = *end == '-' ? 1 : apostrophe(end);
        if (!bytes || !is_letter(end[bytes])) break;
        link = end;
    }
    int is_not = link && *link != '-' && link + apostrophe(link) == end - 1 && (end[-1] | 0x20) == 't';
    return is_not && (link[-1] | 0x20) == 'n' ? link - 1 : end;
}

/* The word in lower case, there and as Python's. */
static PyObject *opener_at(uint8_t *at) {
    uint8_t *end = end_of_opener(at);
    for (uint8_t *letter = at; letter < end; letter++)
        if (is_letter(*letter)) *letter |= 0x20;
    return PyUnicode_FromStringAndSize((const char *)at, end - at);
}

/* What the lines of a text begin with. */
typedef struct { Py_ssize_t openers, bases, ing_forms, newlines; PyObject *distinct; } Openers;

static int count_opener(const Rules *rules, uint8_t *at, Openers *openers) {
    PyObject *word = opener_at(at);
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
        const uint8_t *opener = opener_of(rules, at, end);
        if (opener && count_opener(rules, (uint8_t *)opener, &openers)) said = -1;
        openers.newlines += newline != NULL;
        next = end + 1;
    }
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

/* Text n of Arrow's views: up to twelve bytes beside their number, more in one of the buffers. */
static int text_at(const uint8_t *view, const Py_buffer *buffers, Py_ssize_t count, Text *text) {
    int32_t head[4];
    memcpy(head, view, 16);
    if (head[0] < 0) return 0;
    if (head[0] <= 12) return *text = (Text){view + 4, view + 4 + head[0]}, 1;
    if (head[2] < 0 || head[2] >= count || head[3] < 0 || (Py_ssize_t)head[3] + head[0] > buffers[head[2]].len) return 0;
    text->at = (const uint8_t *)buffers[head[2]].buf + head[3];
    text->end = text->at + head[0];
    return 1;
}

static PyObject *judge_all(const Rules *rules, const Py_buffer *views, const Py_buffer *buffers, Py_ssize_t count) {
    Py_ssize_t texts = views->len / 16, most = 0;
    const uint8_t *view = views->buf;
    Text text = {0};
    for (Py_ssize_t n = 0; n < texts; n++) {
        if (!text_at(view + 16 * n, buffers, count, &text))
            return PyErr_Format(PyExc_ValueError, "text %zd does not lie in its buffer", n);
        if (text.end - text.at > most) most = text.end - text.at;
    }
    PyObject *said = PyByteArray_FromStringAndSize(NULL, texts);
    uint8_t *out = said ? (uint8_t *)PyByteArray_AsString(said) : NULL, *room = malloc(most + PAD);
    if (!room && said) PyErr_NoMemory();
    for (Py_ssize_t n = 0; room && out && n < texts; n++) {
        text_at(view + 16 * n, buffers, count, &text);
        int found = judge(rules, text, room);
        if (found < 0) out = NULL;
        else out[n] = (uint8_t)found;
    }
    free(room);
    if (said && !(room && out)) Py_CLEAR(said);
    return said;
}

/* The strings of a tuple of bytes; 0 with an error set. */
static int learn(Strings *strings, PyObject *given) {
    strings->count = (int)PyTuple_Size(given);
    if (strings->count > MOST) return PyErr_Format(PyExc_ValueError, "more than %d strings", MOST), 0;
    for (int n = 0; n < strings->count; n++) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, n), &bytes, &length)) return 0;
        if (!length) return PyErr_SetString(PyExc_ValueError, "an empty string"), 0;
        strings->strings[n] = (Text){(const uint8_t *)bytes, (const uint8_t *)bytes + length};
        strings->begin[(uint8_t)*bytes] = 1;
    }
    return 1;
}

/* Get a buffer of each; how many were got. */
static Py_ssize_t get_buffers(PyObject *given, Py_buffer *buffers) {
    Py_ssize_t n = 0;
    while (n < PyTuple_Size(given) && !PyObject_GetBuffer(PyTuple_GetItem(given, n), &buffers[n], PyBUF_SIMPLE)) n++;
    return n;
}

static PyObject *judge_given(const Rules *rules, const Py_buffer *views, PyObject *given) {
    Py_ssize_t count = PyTuple_Size(given);
    Py_buffer *buffers = calloc(count + 1, sizeof *buffers);
    if (!buffers) return PyErr_NoMemory();
    Py_ssize_t got = get_buffers(given, buffers);
    PyObject *said = got == count ? judge_all(rules, views, buffers, count) : NULL;
    while (got--) PyBuffer_Release(&buffers[got]);
    free(buffers);
    return said;
}

static PyObject *advice_reasons(PyObject *module, PyObject *arguments) {
    Py_buffer views, classes;
    PyObject *buffers, *marks, *pronouns;
    Rules rules = {0};
    Limits *limits = &rules.limits;
    if (!PyArg_ParseTuple(
            arguments, "y*O!y*(nnnnnnnnnnn)O!O!O!O!", &views, &PyTuple_Type, &buffers, &classes, &limits->min_chars,
            &limits->max_chars, &limits->pronouns, &limits->pronoun_window, &limits->questions, &limits->capital_words,
            &limits->openers, &limits->repeated, &limits->min_verbs, &limits->max_verbs, &limits->extra_lines,
            &PyTuple_Type, &marks, &PyTuple_Type, &pronouns, &PyFrozenSet_Type, &rules.bases, &PyFrozenSet_Type,
            &rules.ing_forms
        ))
        return NULL;
    rules.classes = classes.buf;
    rules.known = (uint32_t)classes.len;
    PyObject *said = NULL;
    if (classes.len < 128) PyErr_Format(PyExc_ValueError, "classes of %zd characters; accepted: 128 or more", classes.len);
    else if (learn(&rules.marks, marks) && learn(&rules.pronouns, pronouns)) said = judge_given(&rules, &views, buffers);
    PyBuffer_Release(&views);
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
