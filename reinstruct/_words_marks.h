/* Marks around a word and within it: the rules of stages/quality_words.py on one piece. */

#define ROUNDS 64  /* as there */
#define SLOTS 4096 /* for strings: no more than half of them are taken */
#define LONGEST 32 /* characters of an entry, less one */

/* A character, where it begins in the piece, and whether it begins a word. */
typedef struct { uint32_t code, at; uint16_t classes; uint8_t begins; } Char;

/* Characters of a piece, and one behind them that is none. `rest` is left of it, without marks taken off. */
typedef struct { Char *chars; Py_ssize_t first, last, count; Text text; } Piece;

/* Strings to be found by their bytes; a slot has the number of one and one more, or 0. */
typedef struct { Text *strings; Py_ssize_t count, longest; uint16_t slots[SLOTS]; } Strings;

/* Of entries, their words, and, as bits, which of their characters would begin another word were they none; 0 for those
   that have several words. */
typedef struct { Classes classes; Strings entries, units; Text *words; uint32_t *begins; int divides; } Rules;

static Py_ssize_t slot_of(const Strings *strings, Text text) {
    Py_ssize_t slot = hash_of(text) % SLOTS;
    while (strings->slots[slot] && !is_same(text, strings->strings[strings->slots[slot] - 1])) slot = (slot + 1) % SLOTS;
    return slot;
}

/* The number of the string, and -1 if it is none of them. */
static Py_ssize_t found_in(const Strings *strings, const Piece *piece, Py_ssize_t first, Py_ssize_t last) {
    Text text = {piece->text.at + piece->chars[first].at, piece->text.at + piece->chars[last].at};
    if (text.end - text.at > strings->longest || first == last) return -1;
    return strings->slots[slot_of(strings, text)] - 1;
}

static inline int is_digit(uint32_t code) {
    return code >= '0' && code <= '9';
}

/* How many of the same character there are from `at` on, up to `end` (from there back, where `step` is -1). */
static Py_ssize_t same_from(const Char *at, const Char *end, int step) {
    Py_ssize_t count = 0;
    for (const Char *next = at; next != end && next->code == at->code; next += step) count++;
    return count;
}

/* How many marks in a row begin what is left, if they are taken off all at once. */
static Py_ssize_t run_before(const Char *at, const Char *end) {
    Py_ssize_t count = 0;
    while (at + count < end && at[count].classes & IN_RUN) count++;
    if (count >= 2) return count;
    count = at < end && at->code == '=' ? same_from(at, end, 1) : 0;
    return count >= 3 ? count - 1 : 0;
}

/* How many characters the mark has that begins what is left. */
static Py_ssize_t mark_before(const Char *at, const Char *end) {
    if (at == end) return 0;
    if (at->classes & PREFIX) return 1;
    if (at->code == '+') return end - at == 1 || !is_digit(at[1].code);
    Py_ssize_t dots = at->code == '.' ? same_from(at, end, 1) : 0;
    if (dots) return dots > 1 ? dots : 0;
    if (end - at >= 3 && at->code == 'U' && at[1].code == 'S' && at[2].code == '$') return 3;
    return end - at >= 2 && (at->code == 'C' || at->code == 'A') && at[1].code == '$' ? 2 : 0;
}

/* How many marks in a row end what is left, if they are taken off all at once. */
static Py_ssize_t run_after(const Char *at, const Char *end) {
    Py_ssize_t count = 0;
    if (at == end) return 0;
    if (end[-1].code == '*') {
        count = same_from(end - 1, at - 1, -1);
        const Char *before = end - count - 1;
        return count >= 2 && before >= at && before->code != ':' && before->code != '-' ? count : 0;
    }
    while (count < end - at && (end[-1 - count].code == '#' || end[-1 - count].code == '_')) count++;
    return count >= 2 ? count : 0;
}

/* How many characters the mark has that ends what is left. */
static Py_ssize_t mark_after(const Char *at, const Char *end) {
    if (at == end) return 0;
    uint32_t last = end[-1].code, before = end - at >= 2 ? end[-2].code : 0;
    if (last == 0x2026) return before == 0x2026 ? 2 : 1;
    if (end[-1].classes & SUFFIX) return 1;
    if (last == 's' || last == 'S') return before == '\'' || before == 0x2019 ? 2 : 0;
    if (last != '.' || end - at < 2) return 0;
    if (before == '.') return same_from(end - 1, at - 1, -1);
    if (end[-2].classes & BEFORE_STOP) return 1;
    if (end - at < 3) return 0;
    if (end[-3].code == 0xB0 && before < 0x80 && memchr("FfCcKk", (int)before, 6)) return 1;
    return end[-3].classes & end[-2].classes & UPPER ? 1 : 0;
}

/* How many characters a unit behind a digit has that ends what is left from `first` on. */
static Py_ssize_t unit_after(const Rules *rules, const Piece *piece, Py_ssize_t first) {
    for (Py_ssize_t digit = piece->last - 1; digit >= first; digit--) {
        if (piece->chars[piece->last].at - piece->chars[digit + 1].at > rules->units.longest) return 0;
        if (!is_digit(piece->chars[digit].code)) continue;
        return found_in(&rules->units, piece, digit + 1, piece->last) < 0 ? 0 : piece->last - digit - 1;
    }
    return 0;
}

/* Take a mark off the begin and one off the end. Where an entry is left over by either alone, only that one. Whether
   that is the end of it. */
static int round_ends(const Rules *rules, Piece *piece) {
    Char *chars = piece->chars, *end = chars + piece->last;
    Py_ssize_t run = run_before(chars + piece->first, end);
    Py_ssize_t tail = piece->first + (run ? run : mark_before(chars + piece->first, end));
    Py_ssize_t end_run = run_after(chars + tail, end), off = end_run ? end_run : mark_after(chars + tail, end);
    Py_ssize_t unit = unit_after(rules, piece, tail), head = piece->last - (unit > off ? unit : off);
    if (tail == piece->first && head == piece->last) return 1;
    int by_prefix = tail > piece->first && found_in(&rules->entries, piece, tail, piece->last) >= 0;
    int by_suffix = !by_prefix && head < piece->last && found_in(&rules->entries, piece, piece->first, head) >= 0;
    if (!by_suffix) {
        for (Py_ssize_t n = piece->first + 1; run && n < tail; n++) chars[n].begins = 1;
        chars[piece->first = tail].begins = 1;
    }
    if (!by_prefix) {
        for (Py_ssize_t n = head + 1; end_run && n < piece->last; n++) chars[n].begins = 1;
        chars[piece->last = head].begins = 1;
    }
    return by_prefix || by_suffix || piece->first == piece->last ||
           found_in(&rules->entries, piece, piece->first, piece->last) >= 0;
}

/* How many characters the mark at `at` has that divides by rule `rule`. */
static Py_ssize_t divider(const Char *at, const Char *end, int rule) {
    static const char *marks[] = {"+-*^", ".", ",", "-~", ":<>=/"};
    if (rule == 3 && (at->code == '-' || at->code == 0x2014)) {
        Py_ssize_t count = same_from(at, end - at > 4 ? at + 4 : end, 1);  // more than three never divide
        return count <= (at->code == '-' ? 3 : 2) ? count : 0;
    }
    if (rule == 3 && at->code == 0x2013) return 1;
    return at->code && at->code < 0x80 && strchr(marks[rule], (int)at->code) != NULL;
}

/* Whether it stands between what that rule asks for. */
static int is_between(const Char *before, const Char *after, int rule) {
    switch (rule) {
    case 0: return is_digit(before->code) && (is_digit(after->code) || after->code == '-');
    case 1: return before->classes & LOWER_OR_QUOTE && after->classes & UPPER_OR_QUOTE;
    case 2: return before->classes & LETTER && after->classes & LETTER;
    default: return (before->classes & LETTER || is_digit(before->code)) && after->classes & LETTER;
    }
}

/* Cut at marks between letters or digits, rule by rule: one cuts no mark from a neighbour that another has cut off. */
static void divide(const Piece *piece) {
    Char *first = piece->chars + piece->first, *end = piece->chars + piece->last;
    for (Char *at = first; at < end; at++) {
        Py_ssize_t size = at->classes & ANYWHERE ? 1 : at->code == '.' ? same_from(at, end, 1) : 0;
        if (!size || (at->code == '.' && size < 2)) continue;
        at[0].begins = at[size].begins = 1;
        at += size - 1;
    }
    for (int rule = 0; rule < 5; rule++)
        for (Char *at = first + 1; at < end; at++) {
            Py_ssize_t size = divider(at, end, rule), cut = 0;
            if (!size || end - at <= size || !is_between(at - 1, at + size, rule)) continue;
            for (Py_ssize_t n = 0; n <= size; n++) cut |= at[n].begins;
            if (!cut) at[0].begins = at[size].begins = 1;
        }
}

/* Whether what is left may be an address: a full stop before two characters that may be letters, or three of them. */
static int may_be_address(const Piece *piece) {
    int stops = 0;
    for (Py_ssize_t n = piece->first + 1; n < piece->last - 1; n++) {
        const Char *at = piece->chars + n;
        if (at->code != '.') continue;
        if (++stops == 3) return 1;
        int letters = 0;
        while (letters < 2 && (at[1 + letters].code >= 0x80 || (at[1 + letters].code >= 'a' && at[1 + letters].code <= 'z')))
            letters++;
        if (letters == 2 && n + 2 < piece->last) return 1;
    }
    return 0;
}

/* Cut what is left, an entry, where its words begin. */
static void cut_entry(const Rules *rules, const Piece *piece, Py_ssize_t entry) {
    Text words = rules->words[entry];
    Char *at = piece->chars + piece->first;
    uint32_t byte = at->at;
    for (const uint8_t *next = words.at; next < words.end; next++) {
        if (*next == CUT) at->begins = 1;
        else if (++byte == at[1].at) at++;
    }
}

/* Words side by side that are an entry of one word together become it: those that it would be cut into were it none. */
static void merge(const Rules *rules, const Piece *piece) {
    Char *chars = piece->chars;
    for (Py_ssize_t first = 0; first < piece->count; first++) {
        Py_ssize_t longest = 0;
        uint32_t begins = 0;
        if (first && !chars[first].begins) continue;
        for (Py_ssize_t last = first + 1; last <= piece->count && last - first < LONGEST; last++) {
            if (last < piece->count && !chars[last].begins) continue;
            Py_ssize_t entry = begins ? found_in(&rules->entries, piece, first, last) : -1;
            if (entry >= 0 && rules->begins[entry] == begins) longest = last;
            begins |= 1u << (last - first);
        }
        while (++first < longest) chars[first].begins = 0;
        first--;
    }
}

/* The characters of a text; 0 if one is not known. */
static int read_piece(const Classes *classes, Piece *piece) {
    Char *next = piece->chars;
    int bytes;
    for (const uint8_t *at = piece->text.at; at < piece->text.end; at += bytes) {
        uint32_t code = character(at, &bytes);
        if (code >= classes->known) return 0;
        *next++ = (Char){code, (uint32_t)(at - piece->text.at), classes->of[code], 0};
    }
    *next = (Char){0, (uint32_t)(piece->text.end - piece->text.at), 0, 0};
    piece->first = 0;
    piece->last = piece->count = next - piece->chars;
    return 1;
}

/* Mark where the words of a piece begin, and say how sure that is. */
static int cut(const Rules *rules, Piece *piece) {
    if (!read_piece(&rules->classes, piece)) return UNKNOWN;
    Py_ssize_t entry = found_in(&rules->entries, piece, 0, piece->count);
    if (entry >= 0) return cut_entry(rules, piece, entry), SURE;
    for (int round = 0; round < ROUNDS && !round_ends(rules, piece); round++) {}
    entry = found_in(&rules->entries, piece, piece->first, piece->last);
    int divides = 0, is_address = 0, is_whole = piece->last - piece->first == piece->count;
    for (Py_ssize_t n = piece->first; entry < 0 && n < piece->last; n++) divides |= piece->chars[n].classes & DIVIDES;
    if (divides) is_address = may_be_address(piece);
    if (divides && (rules->divides || !is_address)) divide(piece);
    if (entry >= 0) cut_entry(rules, piece, entry);
    if (divides || !is_whole) merge(rules, piece);
    return is_address ? MAY_BE_ADDRESS : SURE;
}
