/* What a piece is cut by, taken from Python. */

/* The strings of a tuple of bytes; NULL with an error set. */
static Text *strings_of(PyObject *given) {
    Py_ssize_t count = PyTuple_Size(given), length;
    if (count > SLOTS / 2) return PyErr_Format(PyExc_ValueError, "%zd strings; accepted: %d", count, SLOTS / 2), NULL;
    Text *strings = malloc((count + 1) * sizeof *strings);
    if (!strings) return PyErr_NoMemory(), NULL;
    for (Py_ssize_t n = 0; n < count; n++) {
        char *bytes;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, n), &bytes, &length)) return free(strings), NULL;
        strings[n] = (Text){(const uint8_t *)bytes, (const uint8_t *)bytes + length};
    }
    return strings;
}

/* Make strings to be found. */
static void learn(Strings *strings) {
    for (Py_ssize_t n = 0; n < strings->count; n++) {
        Text text = strings->strings[n];
        strings->slots[slot_of(strings, text)] = (uint16_t)(n + 1);
        if (text.end - text.at > strings->longest) strings->longest = text.end - text.at;
    }
}

/* Whether an entry is its words and the marks between them, and short enough. */
static int is_sound(Text entry, Text words) {
    if (entry.end - entry.at >= LONGEST) return 0;
    for (; words.at < words.end; words.at++)
        if (*words.at != CUT && (entry.at == entry.end || *entry.at++ != *words.at)) return 0;
    return entry.at == entry.end;
}

/* Learn what entries of one word would be cut into, while there are none to be found; 0 with an error set. */
static int learn_begins(Rules *rules) {
    Char room[LONGEST + 2];
    Rules apart = *rules;
    apart.divides = 1;
    rules->begins = calloc(rules->entries.count + 1, sizeof *rules->begins);
    if (!rules->begins) return PyErr_NoMemory(), 0;
    for (Py_ssize_t n = 0; n < rules->entries.count; n++) {
        Piece entry = {.chars = room + 1, .text = rules->entries.strings[n]};
        if (!is_sound(entry.text, rules->words[n])) return PyErr_Format(PyExc_ValueError, "entry %zd cannot be", n), 0;
        if (!is_same(entry.text, rules->words[n]) || cut(&apart, &entry) == UNKNOWN) continue;
        for (Py_ssize_t at = 1; at < entry.count; at++) rules->begins[n] |= (uint32_t)entry.chars[at].begins << at;
    }
    return 1;
}

/* Get what a piece is cut by; 0 with an error set. */
static int learn_all(Rules *rules, PyObject *entries, PyObject *words, PyObject *units) {
    rules->entries.count = PyTuple_Size(entries);
    rules->units.count = PyTuple_Size(units);
    if (PyTuple_Size(words) != rules->entries.count)
        return PyErr_SetString(PyExc_ValueError, "as many words as entries are wanted"), 0;
    if (!(rules->entries.strings = strings_of(entries)) || !(rules->words = strings_of(words))) return 0;
    if (!(rules->units.strings = strings_of(units))) return 0;
    learn(&rules->units);
    if (!learn_begins(rules)) return 0;
    learn(&rules->entries);
    return 1;
}
