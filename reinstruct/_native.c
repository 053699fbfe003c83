/* Runs of consecutive words of UTF-8 texts as 64-bit keys: the inner loop of stages/shingles.py, which has the same in
   Polars.

   What a character is in a word, Python says: of each of the first ones, `letters` has four bytes. The first is 0 if it
   stands between words, AS_IT_IS if it is in a word with its own bytes, UNKNOWN if Python has to be asked, and else says
   how many bytes stand for it, which follow. With BY_ITSELF added, the character is a word. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include "_utf8.h"

#define FACTOR 0x9E3779B97F4A7C15ULL
#define AS_IT_IS 4
#define BY_ITSELF 128
#define UNKNOWN 255
#define NOT_JUDGED UINT32_MAX
#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* The word that is being read: eight bytes at a time, the first in the lowest bits, are put into its key. */
typedef struct { uint64_t key, eight, length; } Word;

static inline uint64_t mixed(uint64_t key, uint64_t eight) {
    key = (key ^ eight) * FACTOR;
    return key ^ (key >> 29);
}

static inline void add_byte(Word *word, uint8_t byte) {
    word->eight |= (uint64_t)byte << 8 * (word->length & 7);
    if (++word->length & 7) return;
    word->key = mixed(word->key, word->eight);
    word->eight = 0;
}

/* Put the key of a word that has ended behind the others; the new end. */
static inline uint64_t *ended(Word *word, uint64_t *keys) {
    if (!word->length) return keys;
    if (word->length & 7) word->key = mixed(word->key, word->eight);
    *keys = mixed(word->key, word->length);
    *word = (Word){0};
    return keys + 1;
}

/* What `letters` tells of ASCII (a byte in lower case, or 0), of the others, and of how many it tells. */
typedef struct { uint8_t ascii[128]; const uint8_t *letters; uint32_t known; } Alphabet;

static void learn(Alphabet *alphabet, const Py_buffer *letters) {
    alphabet->letters = letters->buf;
    alphabet->known = (uint32_t)(letters->len / 4);
    for (int byte = 0; byte < 128; byte++)
        alphabet->ascii[byte] = alphabet->letters[4 * byte] ? alphabet->letters[4 * byte + 1] : 0;
}

/* Put a character that is no ASCII letter into the word, or behind it; the new end of the keys, NULL if it is unknown. */
static uint64_t *add_other(Word *word, const uint8_t **at, const Alphabet *alphabet, uint64_t *keys) {
    int bytes;
    uint32_t code = character(*at, &bytes);
    if (code >= alphabet->known) return NULL;
    const uint8_t *letter = alphabet->letters + 4 * code;
    if (*letter == UNKNOWN) return NULL;
    int kind = *letter & ~BY_ITSELF, count = kind == AS_IT_IS ? bytes : kind;
    if (!kind || *letter & BY_ITSELF) keys = ended(word, keys);
    for (int byte = 0; byte < count; byte++) add_byte(word, kind == AS_IT_IS ? (*at)[byte] : letter[byte + 1]);
    if (*letter & BY_ITSELF) keys = ended(word, keys);
    *at += bytes;
    return keys;
}

/* What `letters` tells of the eight bytes at `at`, the first in the lowest bits; 0 if one of them is not ASCII. */
static inline uint64_t lower_eight(const uint8_t *at, const uint8_t *letters) {
    uint64_t lower = 0, raw;
    memcpy(&raw, at, 8);
    if (raw & HIGHS) return 0;
    for (int byte = 0; byte < 8; byte++) lower |= (uint64_t)letters[at[byte]] << 8 * byte;
    return lower;
}

/* Words of ASCII, eight bytes at a time as `add_byte` puts them together, while there are eight; the new end of the
   keys. A branch for each word costs a third of one for each byte. */
static inline uint64_t *add_words(
    Word *word, const uint8_t **from, const uint8_t *end, const uint8_t *letters, uint64_t *keys
) {
    const uint8_t *at = *from;
    while (end - at >= 8) {
        uint64_t lower = lower_eight(at, letters);
        if (!lower) break;
        uint64_t gap = (lower - ONES) & ~lower & HIGHS; /* the lowest is exact */
        int bytes = gap ? __builtin_ctzll(gap) / 8 : 8;
        if (bytes) word->key = mixed(word->key, bytes < 8 ? lower & ((1ULL << 8 * bytes) - 1) : lower);
        word->length += bytes;
        at += bytes;
        if (!gap) continue;
        if (word->length) *keys++ = mixed(word->key, word->length);
        *word = (Word){0};
        at++;
    }
    *from = at;
    return keys;
}

/* Go on up to a character that is not ASCII, or to the end; the new end of the keys. */
static uint64_t *add_ascii(Word *held, const uint8_t **from, const uint8_t *end, const uint8_t *letters, uint64_t *keys) {
    Word word = *held; /* nothing points to a copy, so it stays in registers */
    const uint8_t *at = *from;
    while (at < end && *at < 128) {
        if (!(word.length & 7)) keys = add_words(&word, &at, end, letters, keys);
        if (at == end || *at >= 128) break;
        uint8_t lower = letters[*at++];
        if (lower) add_byte(&word, lower);
        else keys = ended(&word, keys);
    }
    *held = word;
    *from = at;
    return keys;
}

/* Keys of the words of a text of well-formed UTF-8, and where they end; NULL for one with an unknown character. */
static uint64_t *keys_of_text(const uint8_t *at, const uint8_t *end, const Alphabet *alphabet, uint64_t *keys) {
    Word word = {0};
    while (keys && at < end) {
        keys = add_ascii(&word, &at, end, alphabet->ascii, keys);
        if (at < end) keys = add_other(&word, &at, alphabet, keys);
    }
    return keys ? ended(&word, keys) : NULL;
}

/* The same of a text of words with spaces between them and nothing else. */
static uint64_t *keys_of_spaced(const uint8_t *at, const uint8_t *end, uint64_t *keys) {
    Word word = {0};
    for (; at < end; at++) {
        if (*at == ' ') keys = ended(&word, keys);
        else add_byte(&word, *at);
    }
    return ended(&word, keys);
}

/* Put the keys of runs of `size` words in the place of those of the words; where they end. */
static uint64_t *runs(uint64_t *keys, uint64_t *end, Py_ssize_t size) {
    Py_ssize_t count = end - keys;
    if (count >= size) {
        for (Py_ssize_t first = 0; first + size <= count; first++)
            for (Py_ssize_t next = first + 1; next < first + size; next++) keys[first] = keys[first] * FACTOR + keys[next];
        return end - size + 1;
    }
    if (count == 0) return keys;
    uint64_t all = 0; /* a text of fewer words has one run */
    for (Py_ssize_t word = 0; word < count; word++) all += keys[word] * FACTOR * (2 * (uint64_t)word + 1);
    *keys = all;
    return keys + 1;
}

static int are_sound(const int64_t *offsets, Py_ssize_t texts, Py_ssize_t bytes) {
    for (Py_ssize_t text = 0; text < texts; text++)
        if (offsets[text] < 0 || offsets[text] > offsets[text + 1] || offsets[text + 1] > bytes) return 0;
    return 1;
}

static PyObject *keys_of_texts(const Py_buffer *data, const Py_buffer *ends, const Py_buffer *letters, Py_ssize_t size) {
    const int64_t *offsets = ends->buf;
    Py_ssize_t texts = ends->len / 8 - 1;
    if (texts < 0 || !are_sound(offsets, texts, data->len))
        return PyErr_Format(PyExc_ValueError, "offsets do not lie in order within %zd bytes", data->len);
    if (size < 1) return PyErr_Format(PyExc_ValueError, "a run of %zd words; accepted: 1 or more", size);
    if (letters->len && (letters->len < 4 * 128 || letters->len % 4))
        return PyErr_Format(PyExc_ValueError, "letters has %zd bytes; accepted: four of each of 128 or more", letters->len);
    Alphabet alphabet = {.known = 0};
    if (letters->len) learn(&alphabet, letters);
    PyObject *counts = PyByteArray_FromStringAndSize(NULL, texts * 4);
    PyObject *keys = PyByteArray_FromStringAndSize(NULL, (offsets[texts] - offsets[0]) * 8);
    PyObject *both = counts && keys ? PyTuple_Pack(2, counts, keys) : NULL;
    if (both) {
        uint32_t *count = (uint32_t *)PyByteArray_AsString(counts);
        uint64_t *first = (uint64_t *)PyByteArray_AsString(keys), *next = first;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t text = 0; text < texts; text++) {
            const uint8_t *at = (const uint8_t *)data->buf + offsets[text], *end = at + offsets[text + 1] - offsets[text];
            uint64_t *last = letters->len ? keys_of_text(at, end, &alphabet, next) : keys_of_spaced(at, end, next);
            if (last) last = runs(next, last, size);
            count[text] = last ? (uint32_t)(last - next) : NOT_JUDGED;
            if (last) next = last;
        }
        Py_END_ALLOW_THREADS
        if (PyByteArray_Resize(keys, (next - first) * 8)) Py_CLEAR(both);
    }
    Py_XDECREF(counts);
    Py_XDECREF(keys);
    return both;
}

static PyObject *shingle_keys(PyObject *module, PyObject *arguments) {
    Py_buffer data, offsets, letters;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "y*y*y*n", &data, &offsets, &letters, &size)) return NULL;
    PyObject *found = keys_of_texts(&data, &offsets, &letters, size);
    PyBuffer_Release(&data);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&letters);
    return found;
}

/* The key of a band: of its number and its slots, mixed so that the high bits depend on all of them. */
static int key_of_band(PyObject *signature, Py_ssize_t band, Py_ssize_t rows, uint64_t *key) {
    *key = (uint64_t)band;
    for (Py_ssize_t slot = 0; slot < rows; slot++) {
        PyObject *number = PyList_GetItem(signature, band * rows + slot);
        uint64_t value = number ? PyLong_AsUnsignedLongLong(number) : 0;
        if (PyErr_Occurred()) return -1;
        *key = *key * FACTOR + value;
    }
    *key = (*key ^ *key >> 29) * FACTOR;
    return 0;
}

static PyObject *band_keys(PyObject *module, PyObject *arguments) {
    PyObject *signatures;
    Py_ssize_t bands, rows;
    if (!PyArg_ParseTuple(arguments, "O!nn", &PyList_Type, &signatures, &bands, &rows)) return NULL;
    Py_ssize_t count = PyList_Size(signatures);
    PyObject *keys = PyByteArray_FromStringAndSize(NULL, count * bands * 8);
    uint64_t *next = keys ? (uint64_t *)PyByteArray_AsString(keys) : NULL;
    for (Py_ssize_t text = 0; next && text < count; text++)
        for (Py_ssize_t band = 0; band < bands; band++)
            if (key_of_band(PyList_GetItem(signatures, text), band, rows, next++)) {
                Py_DECREF(keys);
                return NULL;
            }
    return keys;
}

static PyMethodDef methods[] = {
    {"shingle_keys", shingle_keys, METH_VARARGS,
     "shingle_keys(data, offsets, letters, size): of UTF-8 texts end to end, text n from offsets[n] (int64) to the\n"
     "next, how many runs of size words each has (uint32), and the keys of them all (uint64). A text with a character\n"
     "that letters does not tell has 2**32 - 1 and no keys. Without letters, words have spaces between them and\n"
     "nothing else. ValueError for offsets, letters or a size that cannot be."},
    {"band_keys", band_keys, METH_VARARGS,
     "band_keys(signatures, bands, rows): of signatures, lists of bands * rows numbers, a key for each band (uint64)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "reinstruct._native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModule_Create(&module);
}
