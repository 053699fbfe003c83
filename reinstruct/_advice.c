/* The rules of stages/text.py's SelectAdvice, each text in one pass: that module has the same in Polars, which is what
   they mean.

   What a character is, Python says: `classes` has a byte for each of the first ones. A text with another, or with an
   ODD one in the first word of a line, is left to Polars. */

#include "_advice_judge.h"
#include "_processor.h"

typedef PyObject *Judge(const Rules *, const Views *);
Judge judge_all_avx2;

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

static PyObject *reasons(PyObject *arguments, Judge *judge_all) {
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

static PyObject *advice_reasons(PyObject *module, PyObject *arguments) {
    return reasons(arguments, has_avx2() ? judge_all_avx2 : judge_all);
}

static PyObject *advice_reasons_anywhere(PyObject *module, PyObject *arguments) {
    return reasons(arguments, judge_all);
}

static PyMethodDef methods[] = {
    {"advice_reasons", advice_reasons, METH_VARARGS,
     "advice_reasons(views, buffers, classes, limits, marks, pronouns, bases, ing_forms): of UTF-8 texts in Arrow's view\n"
     "layout, a byte for each: 0 if it passes, the number of the first rule that it breaks, 255 if it has a character\n"
     "that classes do not tell. ValueError for views or strings that cannot be."},
    {"advice_reasons_anywhere", advice_reasons_anywhere, METH_VARARGS, "The same by what every processor can."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "reinstruct._advice", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__advice(void) {
    return PyModule_Create(&module);
}
