/* The different pieces of texts between white space, the words in each, and runs of words: what stages/quality_words.py
   and quality_repeats.py do in Polars, which is what the rules mean.

   What a character is, Python says: `classes` has two bytes for each of the first ones. A piece with another is left to
   Polars; so is which pieces are an address. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include "_utf8.h"
#include "_views.h"

#define CUT 0x1F /* between two words */
#define REST 0x1E /* on both sides of what may be an address */

/* What a character may be, in the order of CLASSES in stages/quality_words.py. */
enum {
    WHITE = 1, IN_RUN = 2, PREFIX = 4, SUFFIX = 8, BEFORE_STOP = 16, UPPER = 32, LETTER = 64, DIVIDES = 128,
    ANYWHERE = 256, LOWER_OR_QUOTE = 512, UPPER_OR_QUOTE = 1024
};

/* What is said of a piece, as in stages/quality_compiled.py. */
enum { SURE, MAY_BE_ADDRESS, UNKNOWN };

typedef struct { const uint16_t *of; uint32_t known; } Classes;

#include "_words_pieces.h"
#include "_words_marks.h"
#include "_words_entries.h"
#include "_words_runs.h"

/* A piece with a mark between its words, or around what may be an address; behind it. */
static uint8_t *put(const Piece *piece, int said, int divides, uint8_t *to) {
    Py_ssize_t count = said == UNKNOWN ? 0 : piece->count;
    for (Py_ssize_t n = 0; n <= count; n++) {
        const Char *at = piece->chars + n;
        int edge = !divides && said == MAY_BE_ADDRESS ? (n == piece->first) + (n == piece->last) : 0;
        for (int mark = 0; mark < edge; mark++) *to++ = REST;
        if (!edge && n && n < count && at->begins) *to++ = CUT;
        if (n == count) break;
        memcpy(to, piece->text.at + at->at, at[1].at - at->at);
        to += at[1].at - at->at;
    }
    return to;
}

static Py_ssize_t bytes_of(const Views *texts, Py_ssize_t *longest) {
    Py_ssize_t bytes = *longest = 0;
    for (Py_ssize_t n = 0; n < texts->views.len / 16; n++) {
        Text text = text_at(texts, n);
        bytes += text.end - text.at;
        if (text.end - text.at > *longest) *longest = text.end - text.at;
    }
    return bytes;
}

static PyObject *cut_all(const Rules *rules, const Views *pieces) {
    Py_ssize_t count = pieces->views.len / 16, longest, bytes = bytes_of(pieces, &longest);
    PyObject *kinds = PyByteArray_FromStringAndSize(NULL, count);
    PyObject *offsets = PyByteArray_FromStringAndSize(NULL, 8 * (count + 1));
    PyObject *data = PyByteArray_FromStringAndSize(NULL, 2 * bytes + 2 * count);
    PyObject *all = kinds && offsets && data ? PyTuple_Pack(3, kinds, offsets, data) : NULL;
    Char *room = all ? malloc((longest + 2) * sizeof *room) : NULL; /* one before the first, which no mark is */
    if (all && !room) PyErr_NoMemory();
    if (room) {
        uint8_t *kind = (uint8_t *)PyByteArray_AsString(kinds), *begin = (uint8_t *)PyByteArray_AsString(data), *to = begin;
        int64_t *offset = (int64_t *)PyByteArray_AsString(offsets);
        *offset = 0;
        for (Py_ssize_t n = 0; n < count; n++) {
            Piece piece = {.chars = room + 1, .text = text_at(pieces, n)};
            kind[n] = (uint8_t)cut(rules, &piece);
            to = put(&piece, kind[n], rules->divides, to);
            offset[n + 1] = to - begin;
        }
        if (PyByteArray_Resize(data, to - begin)) Py_CLEAR(all);
    } else Py_CLEAR(all);
    free(room);
    Py_XDECREF(kinds);
    Py_XDECREF(offsets);
    Py_XDECREF(data);
    return all;
}

static int classes_of(const Py_buffer *given, Classes *classes) {
    *classes = (Classes){given->buf, (uint32_t)(given->len / 2)};
    if (classes->known >= 128 && given->len % 2 == 0) return 1;
    return PyErr_Format(PyExc_ValueError, "classes has %zd bytes; accepted: two of each of 128 or more", given->len), 0;
}

static PyObject *cut_words(PyObject *module, PyObject *arguments) {
    Py_buffer classes;
    Views pieces;
    PyObject *views, *buffers, *entries, *words, *units, *found = NULL;
    Rules rules = {.words = NULL};
    if (!PyArg_ParseTuple(
            arguments, "OO!y*O!O!O!p", &views, &PyTuple_Type, &buffers, &classes, &PyTuple_Type, &entries, &PyTuple_Type,
            &words, &PyTuple_Type, &units, &rules.divides
        ))
        return NULL;
    if (classes_of(&classes, &rules.classes) && learn_all(&rules, entries, words, units) &&
        get_views(views, buffers, &pieces)) {
        found = cut_all(&rules, &pieces);
        release(&pieces);
    }
    free(rules.entries.strings);
    free(rules.units.strings);
    free(rules.words);
    free(rules.begins);
    PyBuffer_Release(&classes);
    return found;
}

/* Number the pieces of all texts; 0 with an error set. */
static int number_texts(const Classes *classes, const Views *texts, PyObject *numbers, PyObject *offsets, PyObject *data) {
    Pieces pieces = {NULL, 511, (int64_t *)PyByteArray_AsString(offsets), 0, (uint8_t *)PyByteArray_AsString(data)};
    uint32_t *next = widen(&pieces) ? (uint32_t *)PyByteArray_AsString(numbers) : NULL;
    *pieces.offsets = 0;
    for (Py_ssize_t n = 0; next && n < texts->views.len / 16; n++)
        next = number_all(&pieces, classes, text_at(texts, n), next);
    free(pieces.slots);
    if (!next) return PyErr_NoMemory(), 0;
    return !PyByteArray_Resize(data, pieces.offsets[pieces.count]) && !PyByteArray_Resize(offsets, 8 * (pieces.count + 1));
}

static PyObject *find_pieces(const Classes *classes, const Views *texts) {
    Py_ssize_t count = texts->views.len / 16, longest, bytes = bytes_of(texts, &longest), most = 0;
    PyObject *counts = PyByteArray_FromStringAndSize(NULL, 4 * count);
    for (Py_ssize_t n = 0; counts && n < count; n++)
        most += ((uint32_t *)PyByteArray_AsString(counts))[n] = count_all(classes, text_at(texts, n));
    PyObject *numbers = PyByteArray_FromStringAndSize(NULL, 4 * most);
    PyObject *offsets = PyByteArray_FromStringAndSize(NULL, 8 * (most + 1));
    PyObject *data = PyByteArray_FromStringAndSize(NULL, bytes);
    PyObject *all = counts && numbers && offsets && data ? PyTuple_Pack(4, counts, numbers, offsets, data) : NULL;
    if (all && !number_texts(classes, texts, numbers, offsets, data)) Py_CLEAR(all);
    Py_XDECREF(counts);
    Py_XDECREF(numbers);
    Py_XDECREF(offsets);
    Py_XDECREF(data);
    return all;
}

static PyObject *different_pieces(PyObject *module, PyObject *arguments) {
    Py_buffer given;
    Views texts;
    Classes classes;
    PyObject *views, *buffers, *found = NULL;
    if (!PyArg_ParseTuple(arguments, "OO!y*", &views, &PyTuple_Type, &buffers, &given)) return NULL;
    if (classes_of(&given, &classes) && get_views(views, buffers, &texts)) {
        found = find_pieces(&classes, &texts);
        release(&texts);
    }
    PyBuffer_Release(&given);
    return found;
}

static PyObject *run_chars(PyObject *module, PyObject *arguments) {
    Columns all;
    if (!PyArg_ParseTuple(arguments, "y*y*y*y*y*", &all.lengths, &all.numbers, &all.pieces, &all.keys, &all.chars))
        return NULL;
    PyObject *found = run_chars_of(&all);
    Py_buffer *given[] = {&all.lengths, &all.numbers, &all.pieces, &all.keys, &all.chars};
    for (int n = 0; n < 5; n++) PyBuffer_Release(given[n]);
    return found;
}

static PyMethodDef methods[] = {
    {"different_pieces", different_pieces, METH_VARARGS,
     "different_pieces(views, buffers, classes): of UTF-8 texts in Arrow's view layout, how many pieces each has between\n"
     "white space, empty ones too (uint32), the numbers of all in order (uint32), and each different one once, as\n"
     "(offsets, int64; UTF-8 bytes). ValueError for views or classes that cannot be."},
    {"cut_words", cut_words, METH_VARARGS,
     "cut_words(views, buffers, classes, entries, words, units, divides): of pieces, what is said of each (a byte), and\n"
     "the piece with 0x1F between its words, as (offsets, int64; UTF-8 bytes). Where divides is false, what may be an\n"
     "address is not cut and has 0x1E on both sides. ValueError for what cannot be."},
    {"run_chars", run_chars, METH_VARARGS,
     "run_chars(lengths, numbers, pieces, keys, chars): of texts of so many pieces with these numbers (uint32), and of\n"
     "words in these pieces, in order (uint32), with keys and characters (uint64), nine numbers for each text (uint64):\n"
     "characters in the commonest run of 2, 3 and 4 words, and in runs of 5 to 10 that stood before. ValueError for what\n"
     "cannot be."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "reinstruct._words", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__words(void) {
    return PyModule_Create(&module);
}
