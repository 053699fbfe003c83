/* Rules of _advice.c on a tidied text: its pronouns, question marks and words in capitals. */

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
    masks.wide = beyond_ascii(block);
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
