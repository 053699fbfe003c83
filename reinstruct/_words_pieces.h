/* The different pieces of texts, each with a number: what stands between white space. */

#define FACTOR 0x9E3779B97F4A7C15ULL

/* Pieces end to end, piece n from offsets[n] to the next. A slot has half of a hash above the number of a piece, and one
   more, so that 0 is free. */
typedef struct { uint64_t *slots; size_t mask; int64_t *offsets; uint32_t count; uint8_t *data; } Pieces;

static uint64_t hash_of(Text text) {
    uint64_t hash = (uint64_t)(text.end - text.at), eight;
    for (; text.end - text.at >= 8; text.at += 8) {
        memcpy(&eight, text.at, 8);
        hash = (hash ^ eight) * FACTOR;
        hash ^= hash >> 29;
    }
    eight = 0;
    for (int byte = 0; text.at < text.end; byte += 8) eight |= (uint64_t)*text.at++ << byte;
    hash = (hash ^ eight) * FACTOR;
    return hash ^ hash >> 32;
}

static inline int is_same(Text one, Text other) {
    return one.end - one.at == other.end - other.at && !memcmp(one.at, other.at, one.end - one.at);
}

/* Twice the slots; 0 if there is no memory. */
static int widen(Pieces *pieces) {
    size_t mask = 2 * pieces->mask + 1;
    uint64_t *slots = calloc(mask + 1, sizeof *slots);
    if (!slots) return 0;
    for (uint32_t n = 0; n < pieces->count; n++) {
        uint64_t hash = hash_of((Text){pieces->data + pieces->offsets[n], pieces->data + pieces->offsets[n + 1]});
        size_t slot = hash & mask;
        while (slots[slot]) slot = (slot + 1) & mask;
        slots[slot] = (hash >> 32 << 32) | (n + 1);
    }
    free(pieces->slots);
    pieces->slots = slots;
    pieces->mask = mask;
    return 1;
}

/* The number of a piece, -1 if there is no memory for one more. */
static int64_t number_of(Pieces *pieces, Text piece) {
    uint64_t hash = hash_of(piece);
    size_t slot = hash & pieces->mask;
    for (uint64_t held; (held = pieces->slots[slot]); slot = (slot + 1) & pieces->mask) {
        uint32_t n = (uint32_t)held - 1;
        const uint8_t *data = pieces->data;
        if (held >> 32 == hash >> 32 && is_same(piece, (Text){data + pieces->offsets[n], data + pieces->offsets[n + 1]}))
            return n;
    }
    uint32_t number = pieces->count++;
    memcpy(pieces->data + pieces->offsets[number], piece.at, piece.end - piece.at);
    pieces->offsets[number + 1] = pieces->offsets[number] + (piece.end - piece.at);
    pieces->slots[slot] = (hash >> 32 << 32) | (number + 1);
    if (2 * (size_t)pieces->count > pieces->mask && !widen(pieces)) return -1;
    return number;
}

/* The bytes of the white space that begins at `at`, 0 if none does. */
static inline int white_at(const Classes *classes, const uint8_t *at) {
    int bytes;
    if (*at < 0x80) return (classes->of[*at] & WHITE) != 0;
    if (*at < 0xC0) return 0; /* within a character */
    uint32_t code = character(at, &bytes);
    return code < classes->known && classes->of[code] & WHITE ? bytes : 0;
}

/* How many pieces a text has. */
static uint32_t count_all(const Classes *classes, Text text) {
    uint32_t count = 1;
    for (; text.at < text.end; text.at++) count += white_at(classes, text.at) != 0;
    return count;
}

/* Put the numbers of a text's pieces at `numbers`; behind them, or NULL if there is no memory. */
static uint32_t *number_all(Pieces *pieces, const Classes *classes, Text text, uint32_t *numbers) {
    for (const uint8_t *at = text.at, *first = at;; at++) {
        int white = at < text.end ? white_at(classes, at) : 1;
        if (!white) continue;
        int64_t number = number_of(pieces, (Text){first, at});
        if (number < 0) return NULL;
        *numbers++ = (uint32_t)number;
        if (at == text.end) return numbers;
        first = at + white;
        at = first - 1;
    }
}
