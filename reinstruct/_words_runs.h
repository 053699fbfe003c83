/* Runs of words within a text that are there more than once: stages/quality_repeats.py has the same in Polars. */

#define LEAST 2
#define MOST 10
#define COMMONEST 4 /* runs of so many words and of fewer are counted, of more those that stood before */

#define SIZES (MOST - LEAST + 1)

/* Of texts, how many pieces each has, and the numbers of those; of words, the piece that each is in, keys and
   characters. */
typedef struct { Py_buffer lengths, numbers, pieces, keys, chars; } Columns;

/* A word: a number that it has alone, the same of the run that begins with it, and how many characters stand before. */
typedef struct { uint64_t key, run, before; } Word;

typedef struct { uint64_t run; uint32_t count, first; } Sighting;

typedef struct { Sighting *sightings; uint64_t mask; } Seen;

/* Where a run is, or a place for it. */
static Sighting *sighting_of(const Seen *seen, uint64_t run) {
    uint64_t place = (run * FACTOR) >> 32 & seen->mask;
    while (seen->sightings[place].count && seen->sightings[place].run != run) place = (place + 1) & seen->mask;
    return &seen->sightings[place];
}

/* The characters of all sightings of the commonest run of so many words, the first of equals, with single spaces. */
static uint64_t commonest(const Word *words, uint32_t runs, int size, const Seen *seen, int *is_repeated) {
    Sighting best = {.count = 0};
    for (uint32_t n = 0; n < runs; n++) {
        Sighting *found = sighting_of(seen, words[n].run);
        if (!found->count) *found = (Sighting){words[n].run, 0, n};
        found->count++;
        if (found->count > best.count || (found->count == best.count && found->first < best.first)) best = *found;
    }
    *is_repeated = best.count > 1;
    return best.count * (words[best.first + size].before - words[best.first].before + size - 1);
}

/* The characters of runs that stood before; one that is counted is left behind before the next is looked at. */
static uint64_t said_before(const Word *words, uint32_t runs, int size, const Seen *seen) {
    uint64_t chars = 0;
    for (uint32_t n = 0; n < runs; n++) {
        Sighting *found = sighting_of(seen, words[n].run);
        if (found->count) {
            chars += words[n + size].before - words[n].before;
            n += size - 1;
        } else *found = (Sighting){words[n].run, 1, n};
    }
    return chars;
}

/* Characters for runs of each size in a text of `count` words, with one behind them that is none. What is not there
   twice with fewer words is not there twice with more. */
static void count_runs(Word *words, uint32_t count, Seen *seen, uint64_t *chars) {
    int is_repeated = 1;
    for (seen->mask = 1; seen->mask < 2 * (uint64_t)count; seen->mask = 2 * seen->mask + 1) {}
    for (uint32_t n = 0; n < count; n++) words[n].run = words[n].key;
    for (int size = LEAST; size <= MOST; size++) {
        uint32_t runs = count >= (uint32_t)size ? count - size + 1 : 0;
        chars[size - LEAST] = 0;
        if (!runs || (!is_repeated && size > COMMONEST)) continue;
        for (uint32_t n = 0; n < runs; n++) words[n].run = words[n].run * FACTOR + words[n + size - 1].key;
        if (is_repeated) memset(seen->sightings, 0, (seen->mask + 1) * sizeof *seen->sightings);
        if (!is_repeated) chars[size - LEAST] = words[size].before - words[0].before + size - 1;
        else if (size <= COMMONEST) chars[size - LEAST] = commonest(words, runs, size, seen, &is_repeated);
        else is_repeated = (chars[size - LEAST] = said_before(words, runs, size, seen)) > 0;
    }
}

/* Where the words of each piece begin among all, of the piece that each word is in; NULL with an error set. */
static uint32_t *begins_of(const Py_buffer *numbers, const Py_buffer *pieces) {
    const uint32_t *number = numbers->buf, *piece = pieces->buf;
    uint32_t count = 0, next = 0;
    for (Py_ssize_t n = 0; n < numbers->len / 4; n++) {
        if (number[n] >= numbers->len / 4) return PyErr_Format(PyExc_ValueError, "there is no piece %u", number[n]), NULL;
        if (number[n] >= count) count = number[n] + 1;
    }
    uint32_t *begins = malloc((count + 1) * sizeof *begins);
    if (!begins) return PyErr_NoMemory(), NULL;
    for (Py_ssize_t n = 0; n < pieces->len / 4; n++) {
        if (piece[n] >= count || piece[n] + 1 < next)
            return free(begins), PyErr_Format(PyExc_ValueError, "word %zd is in no piece, or not in order", n), NULL;
        while (next <= piece[n]) begins[next++] = (uint32_t)n;
    }
    while (next <= count) begins[next++] = (uint32_t)(pieces->len / 4);
    return begins;
}

/* Whether there are as many pieces as all texts have. */
static int are_all(const Py_buffer *lengths, const Py_buffer *numbers) {
    uint64_t count = 0;
    for (Py_ssize_t n = 0; n < lengths->len / 4; n++) count += ((const uint32_t *)lengths->buf)[n];
    if (count == (uint64_t)numbers->len / 4) return 1;
    return PyErr_SetString(PyExc_ValueError, "the texts have other pieces than there are"), 0;
}

/* The words of a text's pieces, or only how many there are where `words` is NULL. */
static uint32_t words_of(Word *words, const uint32_t *numbers, uint32_t count, const uint32_t *begins, const Columns *all) {
    uint32_t found = 0;
    uint64_t chars = 0;
    for (uint32_t n = 0; n < count; n++)
        for (uint32_t at = begins[numbers[n]]; at < begins[numbers[n] + 1]; at++, found++) {
            if (!words) continue;
            words[found] = (Word){((const uint64_t *)all->keys.buf)[at], 0, chars};
            chars += ((const uint64_t *)all->chars.buf)[at];
        }
    if (words) words[found].before = chars;
    return found;
}

/* SIZES numbers for each text at `chars`; 0 with an error set. */
static int count_texts(const Columns *all, const uint32_t *begins, uint64_t *chars) {
    const uint32_t *lengths = all->lengths.buf, *numbers = all->numbers.buf;
    uint32_t longest = 0;
    Py_ssize_t texts = all->lengths.len / 4;
    for (Py_ssize_t n = 0; n < texts; numbers += lengths[n++]) {
        uint32_t count = words_of(NULL, numbers, lengths[n], begins, all);
        if (count > longest) longest = count;
    }
    Word *words = malloc(((size_t)longest + 1) * sizeof *words);
    Seen seen = {malloc((4 * (size_t)longest + 2) * sizeof *seen.sightings), 0};
    numbers = all->numbers.buf;
    for (Py_ssize_t n = 0; words && seen.sightings && n < texts; numbers += lengths[n++], chars += SIZES)
        count_runs(words, words_of(words, numbers, lengths[n], begins, all), &seen, chars);
    int is_done = words && seen.sightings;
    free(words);
    free(seen.sightings);
    return is_done || (PyErr_NoMemory(), 0);
}

static PyObject *run_chars_of(const Columns *all) {
    if (all->keys.len != 2 * all->pieces.len || all->chars.len != all->keys.len)
        return PyErr_SetString(PyExc_ValueError, "columns of different lengths"), NULL;
    uint32_t *begins = are_all(&all->lengths, &all->numbers) ? begins_of(&all->numbers, &all->pieces) : NULL;
    PyObject *chars = begins ? PyByteArray_FromStringAndSize(NULL, all->lengths.len / 4 * SIZES * 8) : NULL;
    if (chars && !count_texts(all, begins, (uint64_t *)PyByteArray_AsString(chars))) Py_CLEAR(chars);
    free(begins);
    return chars;
}
