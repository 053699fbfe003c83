/* The rules of stages/text.py's SelectAdvice, each text in one pass: that module has the same in Polars, which is what
   they mean.

   What a character is, Python says: `classes` has a byte for each of the first ones. A text with another, or with an
   ODD one in the first word of a line, is left to Polars. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include "_utf8.h"
#include "_views.h"
#include "_blocks.h"
#include "_advice_rules.h"
#include "_advice_style.h"
#include "_advice_openers.h"

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

static PyObject *judge_all(const Rules *rules, const Views *texts) {
    Py_ssize_t count = texts->views.len / 16, most = 0;
    for (Py_ssize_t n = 0; n < count; n++) {
        Text text = text_at(texts, n);
        if (text.end - text.at > most) most = text.end - text.at;
    }
    PyObject *said = PyByteArray_FromStringAndSize(NULL, count);
    uint8_t *out = said ? (uint8_t *)PyByteArray_AsString(said) : NULL, *room = malloc(most + PAD);
    if (!room && said) PyErr_NoMemory();
    for (Py_ssize_t n = 0; room && out && n < count; n++) {
        int found = judge(rules, text_at(texts, n), room);
        if (found < 0) out = NULL;
        else out[n] = (uint8_t)found;
    }
    free(room);
    if (said && !(room && out)) Py_CLEAR(said);
    return said;
}

/* The strings of a tuple of bytes, in order of their first bytes; 0 with an error set. */
static int learn(Strings *strings, PyObject *given) {
    strings->count = (int)PyTuple_Size(given);
    if (strings->count > MOST) return PyErr_Format(PyExc_ValueError, "more than %d strings", MOST), 0;
    for (int n = 0; n < strings->count; n++) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, n), &bytes, &length)) return 0;
        if (!length) return PyErr_SetString(PyExc_ValueError, "an empty string"), 0;
        if (n && (uint8_t)*bytes < *strings->strings[n - 1].at)
            return PyErr_SetString(PyExc_ValueError, "strings not in order of their first bytes"), 0;
        strings->strings[n] = (Text){(const uint8_t *)bytes, (const uint8_t *)bytes + length};
        if (strings->begin[(uint8_t)*bytes]) continue;
        strings->begin[(uint8_t)*bytes] = (uint8_t)(n + 1);
        strings->firsts[strings->first_count++] = (uint8_t)*bytes;
    }
    return 1;
}

/* The first two bytes that a pronoun may have in a text. */
static void learn_pairs(Rules *rules) {
    for (int n = 0; n < rules->pronouns.count; n++) {
        Text pronoun = rules->pronouns.strings[n];
        uint8_t *pairs = rules->pronoun_pairs + (*pronoun.at << 8);
        int second = pronoun.end - pronoun.at > 1 ? pronoun.at[1] : 0;
        for (int byte = 0; byte < 256; byte++)
            pairs[byte] |= second == 0 ? !is_letter((uint8_t)byte) : byte == second || (second == '\'' && byte == 0xE2);
    }
}

static PyObject *advice_reasons(PyObject *module, PyObject *arguments) {
    Py_buffer classes;
    Views texts;
    PyObject *views, *buffers, *marks, *pronouns, *said = NULL;
    Rules rules = {.known = 0};
    Limits *limits = &rules.limits;
    if (!PyArg_ParseTuple(
            arguments, "OO!y*(nnnnnnnnnnn)O!O!O!O!", &views, &PyTuple_Type, &buffers, &classes, &limits->min_chars,
            &limits->max_chars, &limits->pronouns, &limits->pronoun_window, &limits->questions, &limits->capital_words,
            &limits->openers, &limits->repeated, &limits->min_verbs, &limits->max_verbs, &limits->extra_lines,
            &PyTuple_Type, &marks, &PyTuple_Type, &pronouns, &PyFrozenSet_Type, &rules.bases, &PyFrozenSet_Type,
            &rules.ing_forms
        ))
        return NULL;
    rules.classes = classes.buf;
    rules.known = (uint32_t)classes.len;
    if (classes.len < 128) PyErr_Format(PyExc_ValueError, "classes of %zd characters; accepted: 128 or more", classes.len);
    else if (learn(&rules.marks, marks) && learn(&rules.pronouns, pronouns)) {
        learn_pairs(&rules);
        if (get_views(views, buffers, &texts)) {
            said = judge_all(&rules, &texts);
            release(&texts);
        }
    }
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
