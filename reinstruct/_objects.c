/* Rows of texts as JSON objects, long texts cut: what rejected.py makes in Polars of rejected rows. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include "_json.h"
#include "_utf8.h"
#include "_views.h"

#define MOST 64     /* columns */
#define LONGEST 6   /* bytes that one becomes: \u001f */
#define USUAL 600   /* bytes of a row, to begin with */

/* `most` characters of each text are written, or all if it is 0. */
typedef struct { const char *name; Py_ssize_t length, most; Views texts; } Column;

typedef struct { Column columns[MOST]; Py_ssize_t count, rows; } Rows;

/* A character that JSON has no plain form for; behind it. */
static uint8_t *escaped(uint8_t byte, uint8_t *to) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt", digits[] = "0123456789abcdef";
    const char *found = byte ? strchr(plain, byte) : NULL;
    *to++ = '\\';
    if (found) return *to++ = (uint8_t)letters[found - plain], to;
    memcpy(to, "u00", 3);
    to[3] = (uint8_t)digits[byte >> 4];
    to[4] = (uint8_t)digits[byte & 15];
    return to + 5;
}

/* Copy so many bytes of a block, with escapes; there are as many more to read as to copy. */
static uint8_t *quoted_block(const uint8_t *block, int bytes, uint8_t *to) {
    const uint8_t *at = block;
    uint64_t found = specials(block) & ~beyond_ascii(block);
    if (bytes < BLOCK) found &= (1ULL << bytes) - 1;
    for (; found; found &= found - 1) {
        const uint8_t *next = block + __builtin_ctzll(found);
        memcpy(to, at, BLOCK);
        to = escaped(*next, to + (next - at));
        at = next + 1;
    }
    memcpy(to, at, BLOCK);
    return to + (block + bytes - at);
}

static uint8_t *quoted(Text text, uint8_t *to) {
    uint8_t last[3 * BLOCK] = {0};
    for (; text.end - text.at >= 2 * BLOCK; text.at += BLOCK) to = quoted_block(text.at, BLOCK, to);
    memcpy(last, text.at, text.end - text.at);
    for (int at = 0; at < text.end - text.at; at += BLOCK) {
        int left = text.end - text.at - at;
        to = quoted_block(last + at, left < BLOCK ? left : BLOCK, to);
    }
    return to;
}

static uint8_t *put(uint8_t *to, const char *bytes, Py_ssize_t length) {
    memcpy(to, bytes, length);
    return to + length;
}

/* A row; behind it. */
static uint8_t *object(const Rows *rows, Py_ssize_t row, uint8_t *to) {
    for (Py_ssize_t n = 0; n < rows->count; n++) {
        const Column *column = &rows->columns[n];
        Text text = text_at(&column->texts, row);
        const uint8_t *end = column->most ? behind_characters(text.at, text.end, column->most) : text.end;
        to = put(to, n ? ",\"" : "{\"", 2);
        to = put(to, column->name, column->length);
        to = quoted((Text){text.at, end}, put(to, "\":\"", 3));
        if (end < text.end) to = put(to, "\xE2\x80\xA6", 3); /* … */
        *to++ = '"';
    }
    *to++ = '}';
    return to;
}

/* How many bytes it may take. */
static Py_ssize_t room_of(const Rows *rows, Py_ssize_t row) {
    Py_ssize_t room = 2 + SLACK;
    for (Py_ssize_t n = 0; n < rows->count; n++) {
        const Column *column = &rows->columns[n];
        Text text = text_at(&column->texts, row);
        Py_ssize_t bytes = text.end - text.at, most = column->most ? 4 * column->most : bytes;
        room += column->length + 12 + LONGEST * (bytes < most ? bytes : most);
    }
    return room;
}

/* Room for so many bytes more behind the first `used`; -1 with an error set. */
static int grow(PyObject *data, Py_ssize_t used, Py_ssize_t more) {
    Py_ssize_t size = PyByteArray_Size(data);
    if (used + more <= size) return 0;
    return PyByteArray_Resize(data, used + more > 2 * size ? used + more : 2 * size);
}

/* All rows into the two byte arrays; 0, or -1 with an error set. */
static int write_all(const Rows *rows, PyObject *offsets, PyObject *data) {
    int32_t *offset = (int32_t *)PyByteArray_AsString(offsets);
    Py_ssize_t used = 0;
    *offset++ = 0;
    for (Py_ssize_t row = 0; row < rows->rows; row++) {
        if (grow(data, used, room_of(rows, row))) return -1;
        uint8_t *first = (uint8_t *)PyByteArray_AsString(data);
        used = object(rows, row, first + used) - first;
        if (used > INT32_MAX) return PyErr_SetString(PyExc_OverflowError, "more than 2 GiB of JSON"), -1;
        *offset++ = (int32_t)used;
    }
    return PyByteArray_Resize(data, used);
}

static PyObject *write_rows(const Rows *rows) {
    PyObject *offsets = PyByteArray_FromStringAndSize(NULL, (rows->rows + 1) * 4);
    PyObject *data = PyByteArray_FromStringAndSize(NULL, rows->rows * USUAL);
    PyObject *both = offsets && data && !write_all(rows, offsets, data) ? PyTuple_Pack(2, offsets, data) : NULL;
    Py_XDECREF(offsets);
    Py_XDECREF(data);
    return both;
}

/* Put a column behind those that are there; 0 with an error set. */
static int learn(Rows *rows, PyObject *given) {
    PyObject *views, *buffers;
    Column column;
    if (!PyTuple_Check(given)) return PyErr_SetString(PyExc_TypeError, "a column is a tuple"), 0;
    if (!PyArg_ParseTuple(given, "s#nOO!", &column.name, &column.length, &column.most, &views, &PyTuple_Type, &buffers))
        return 0;
    if (column.most < 0) return PyErr_Format(PyExc_ValueError, "%zd characters; accepted: 0 or more", column.most), 0;
    if (!get_views(views, buffers, &column.texts)) return 0;
    Py_ssize_t texts = column.texts.views.len / 16;
    rows->columns[rows->count++] = column;
    if (rows->count == 1) rows->rows = texts;
    if (texts != rows->rows) return PyErr_SetString(PyExc_ValueError, "columns of different lengths"), 0;
    return 1;
}

static PyObject *json_objects(PyObject *module, PyObject *columns) {
    PyObject *found = NULL;
    Rows rows = {.count = 0};
    int is_learnt = 1;
    if (!PyTuple_Check(columns)) return PyErr_SetString(PyExc_TypeError, "columns are a tuple"), NULL;
    if (PyTuple_Size(columns) > MOST) return PyErr_Format(PyExc_ValueError, "more than %d columns", MOST);
    for (Py_ssize_t n = 0; is_learnt && n < PyTuple_Size(columns); n++) is_learnt = learn(&rows, PyTuple_GetItem(columns, n));
    if (is_learnt) found = write_rows(&rows);
    while (rows.count) release(&rows.columns[--rows.count].texts);
    return found;
}

static PyMethodDef methods[] = {
    {"json_objects", json_objects, METH_O,
     "json_objects(columns): of columns of UTF-8 texts, each (name, most, views, buffers) in Arrow's view layout, a JSON\n"
     "object for each row, as (offsets, int32; UTF-8 bytes). Of a text of over `most` characters there are so many and\n"
     "an ellipsis; of any, where that is 0, all. Names are written as they are. ValueError for what cannot be."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "reinstruct._objects", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__objects(void) {
    return PyModule_Create(&module);
}
