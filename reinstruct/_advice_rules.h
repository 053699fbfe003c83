/* What the rules of _advice.c are told, and the rules on a text as it is: its length and its marks. */

#define SPACE 1
#define LOWER 2
#define UPPER 4
#define WORD 8
#define DIGIT 16
#define ODD 32    /* in lower case it has a letter of ASCII */
#define UNTOLD 64 /* not among those that are told of */
#define MOST 64   /* strings of a kind */
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

/* No more is counted than tells. */
static int too_short_or_long(const Limits *limits, Text text) {
    Py_ssize_t most = limits->max_chars > limits->min_chars ? limits->max_chars : limits->min_chars, count = 0;
    for (; text.end - text.at >= COUNTED && count <= most; text.at += COUNTED) count += COUNTED - followers(text.at);
    if (count <= most) count += characters(text.at, text.end - text.at);
    return count < limits->min_chars ? TOO_SHORT : count > limits->max_chars ? TOO_LONG : PASSED;
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
