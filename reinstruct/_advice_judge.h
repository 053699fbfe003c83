/* The loop of _advice.c over texts. It is compiled twice: for any processor, and in _advice_avx2.c for those that compare
   32 bytes at a time. */

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
