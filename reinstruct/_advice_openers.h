/* Rules of _advice.c on a tidied text: the words that its lines begin with. */

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
