/* JSON lines to columns of text: the inner loop of corpus/typed.py, which has the same in msgspec.

   The one rule: what is read here is well-formed JSON in well-formed UTF-8, one object a line, with texts where texts
   are wanted. Anything else, and anything that two readers could take in two ways, ends it: another road reads the
   block. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdlib.h>
#include "_json.h"

#define MOST_NAMES 64

/* A column's values end to end in `room` bytes, and the row's own from `start`; `rank` says which of its names it came
   from. The first column has room for all of the block. Others, which are mostly small, get more when they need it:
   memory that is touched for the first time costs more than what is done with it. */
typedef struct { char *data; int32_t *offsets; Py_ssize_t size, start, room; int rank; } Column;

/* A name in the lines that fills a column; those with a lower rank go first. `is_id`: whole numbers are taken, too. */
typedef struct { const char *name; Py_ssize_t length; int column, rank, is_id; } Name;

typedef struct {
    Json json;
    Column *columns;
    Name *names;
    int column_count, name_count;
} Reader;

/* A whole number, as it is written. */
static Py_ssize_t whole_number(Json *json, uint8_t *out) {
    const uint8_t *first = json->at;
    if (!skip_number(json)) return -1;
    Py_ssize_t length = json->at - first;
    if (length > 18 || (length == 2 && !memcmp(first, "-0", 2))) return -1;
    for (Py_ssize_t byte = 1; byte < length; byte++)
        if (first[byte] < '0' || first[byte] > '9') return -1;
    memcpy(out, first, length);
    return length;
}

/* A text or a whole number. */
static Py_ssize_t text_or_number(Json *json, uint8_t *out) {
    uint8_t spare[32];
    if (*json->at != '"') return whole_number(json, out ? out : spare);
    json->at++;
    return string(json, out);
}

/* Room for so many bytes behind `start`; 0 if there is no memory. */
static int make_room(Column *column, Py_ssize_t bytes) {
    Py_ssize_t wanted = column->start + bytes + SLACK;
    if (wanted <= column->room) return 1;
    wanted = wanted > 2 * column->room ? wanted : 2 * column->room;
    char *data = realloc(column->data, wanted);
    if (!data) return 0;
    column->data = data;
    column->room = wanted;
    return 1;
}

/* How many bytes the text or number takes that begins here, at most; -1 if there is none. */
static Py_ssize_t bytes_ahead(const Json *json) {
    Json ahead = *json;
    return text_or_number(&ahead, NULL) < 0 ? -1 : ahead.at - json->at;
}

/* The value of a name: put into its column unless a better name has filled it. */
static int fill(Reader *reader, const Name *name) {
    Json *json = &reader->json;
    Column *column = &reader->columns[name->column];
    skip_space(json);
    if (json->at >= json->end) return 0;
    if (*json->at == 'n') return word(json, "null");
    if (*json->at != '"' && !name->is_id) return 0;
    int is_better = name->rank < column->rank;
    if (is_better && name->column) {
        Py_ssize_t most = bytes_ahead(json);
        if (most < 0 || !make_room(column, most)) return 0;
    }
    Py_ssize_t bytes = text_or_number(json, is_better ? (uint8_t *)column->data + column->start : NULL);
    if (bytes < 0) return 0;
    if (!is_better) return 1;
    column->rank = name->rank;
    column->size = column->start + bytes;
    return 1;
}

/* A name and its value. */
static int member(Reader *reader, uint64_t *seen) {
    if (!take(&reader->json, '"')) return 0;
    const uint8_t *key = reader->json.at;
    if (string(&reader->json, NULL) < 0 || memchr(key, '\\', reader->json.at - key)) return 0;
    Py_ssize_t length = reader->json.at - key - 1;
    if (!take(&reader->json, ':')) return 0;
    int wanted = 0;
    const uint8_t *value = reader->json.at;
    for (int n = 0; n < reader->name_count; n++) {
        const Name *name = &reader->names[n];
        if (name->length != length || memcmp(name->name, key, length)) continue;
        if (*seen >> n & 1) return 0; /* twice in one object */
        *seen |= 1ULL << n;
        reader->json.at = value; /* a name may fill two columns */
        if (!fill(reader, name)) return 0;
        wanted = 1;
    }
    return wanted || skip_value(&reader->json, 1);
}

/* Whether a text surely holds more than white space. That beyond ASCII begins with C2, E1, E2 or E3 80. */
static int is_filled(const Column *column) {
    for (Py_ssize_t at = column->start; at < column->size; at++) {
        uint8_t byte = (uint8_t)column->data[at];
        if (byte > ' ' && byte < 0x7F) return 1;
        if (byte == 0xE3 && (uint8_t)column->data[at + 1] != 0x80) return 1;
        if (byte > 0xC2 && byte != 0xE1 && byte != 0xE2 && byte != 0xE3) return 1;
    }
    return 0;
}

/* One line; its row is put behind the others. */
static int line(Reader *reader, Py_ssize_t row) {
    uint64_t seen = 0;
    for (int n = 0; n < reader->column_count; n++) {
        reader->columns[n].start = reader->columns[n].size;
        reader->columns[n].rank = MOST_NAMES;
    }
    if (!take(&reader->json, '{')) return 0;
    if (!take(&reader->json, '}')) {
        do
            if (!member(reader, &seen)) return 0;
        while (take(&reader->json, ','));
        if (!take(&reader->json, '}')) return 0;
    }
    skip_space(&reader->json);
    if (reader->json.at < reader->json.end || !is_filled(&reader->columns[0])) return 0;
    for (Column *column = reader->columns; column < reader->columns + reader->column_count; column++)
        column->offsets[row + 1] = (int32_t)column->size;
    return 1;
}

/* All lines but blank ones; how many rows, -1 if one cannot be read here. */
static Py_ssize_t lines(Reader *reader, const uint8_t *block, const uint8_t *end) {
    Py_ssize_t row = 0;
    for (const uint8_t *next; block < end; block = next) {
        const uint8_t *newline = memchr(block, '\n', end - block);
        reader->json.at = block;
        reader->json.end = newline ? newline : end;
        next = newline ? newline + 1 : end;
        skip_space(&reader->json);
        if (reader->json.at == reader->json.end) continue;
        if (!line(reader, row++)) return -1;
    }
    return row;
}

static Py_ssize_t most_rows(const uint8_t *at, const uint8_t *end) {
    Py_ssize_t rows = 1;
    while (at < end && (at = memchr(at, '\n', end - at))) rows++, at++;
    return rows;
}

/* The names of all columns in the order of their ranks; how many, -1 with an error set. */
static int learn_names(PyObject *columns, Py_ssize_t id_column, Name *names) {
    int count = 0;
    for (Py_ssize_t column = 0; column < PyTuple_Size(columns); column++) {
        PyObject *accepted = PyTuple_GetItem(columns, column);
        if (!PyTuple_Check(accepted)) return PyErr_SetString(PyExc_TypeError, "names of a column are a tuple"), -1;
        for (Py_ssize_t rank = 0; rank < PyTuple_Size(accepted); rank++) {
            if (count == MOST_NAMES) return PyErr_Format(PyExc_ValueError, "more than %d names", MOST_NAMES), -1;
            Name *name = &names[count++];
            *name = (Name){.column = (int)column, .rank = (int)rank, .is_id = column == id_column};
            name->name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(accepted, rank), &name->length);
            if (!name->name) return -1;
        }
    }
    return count;
}

/* Byte arrays of a column: its offsets and its bytes, which are cut when all is read; those of others than the first are
   put into the second then. */
static PyObject *new_column(Column *column, Py_ssize_t rows, Py_ssize_t bytes) {
    PyObject *offsets = PyByteArray_FromStringAndSize(NULL, (rows + 1) * 4);
    PyObject *data = PyByteArray_FromStringAndSize(NULL, bytes);
    PyObject *both = offsets && data ? PyTuple_Pack(2, offsets, data) : NULL;
    *column = (Column){.offsets = both ? (int32_t *)PyByteArray_AsString(offsets) : NULL};
    if (both && bytes) column->data = PyByteArray_AsString(data);
    if (both) column->offsets[0] = 0;
    Py_XDECREF(offsets);
    Py_XDECREF(data);
    return both;
}

static int cut(PyObject *both, const Column *column, Py_ssize_t rows) {
    PyObject *data = PyTuple_GetItem(both, 1);
    int is_own = column->room > 0;
    if (PyByteArray_Resize(PyTuple_GetItem(both, 0), (rows + 1) * 4) || PyByteArray_Resize(data, column->size)) return -1;
    if (is_own) memcpy(PyByteArray_AsString(data), column->data, column->size);
    return 0;
}

static PyObject *read_columns(Reader *reader, Column *columns, const Py_buffer *block) {
    const uint8_t *first = block->buf, *end = first + block->len;
    PyObject *found = PyTuple_New(reader->column_count);
    Py_ssize_t most = most_rows(first, end), rows;
    for (int n = 0; found && n < reader->column_count; n++) {
        PyObject *both = new_column(&columns[n], most, n ? 0 : block->len + SLACK);
        if (!both || PyTuple_SetItem(found, n, both)) Py_CLEAR(found);
    }
    if (!found) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rows = lines(reader, first, end);
    Py_END_ALLOW_THREADS
    for (int n = 0; found && rows > 0 && n < reader->column_count; n++)
        if (cut(PyTuple_GetItem(found, n), &columns[n], rows)) Py_CLEAR(found);
    for (int n = 1; n < reader->column_count; n++) free(columns[n].data);
    if (rows > 0) return found;
    Py_DECREF(found);
    Py_RETURN_NONE;
}

static PyObject *text_columns(PyObject *module, PyObject *arguments) {
    Py_buffer block;
    PyObject *accepted;
    Py_ssize_t id_column;
    Name names[MOST_NAMES];
    Column columns[MOST_NAMES];
    if (!PyArg_ParseTuple(arguments, "y*O!n", &block, &PyTuple_Type, &accepted, &id_column)) return NULL;
    Reader reader = {.columns = columns, .names = names, .column_count = (int)PyTuple_Size(accepted)};
    PyObject *found = NULL;
    reader.name_count = learn_names(accepted, id_column, names);
    if (reader.name_count < 0) found = NULL;
    else if (block.len > INT32_MAX - SLACK || reader.column_count > MOST_NAMES) found = Py_NewRef(Py_None);
    else found = read_columns(&reader, columns, &block);
    PyBuffer_Release(&block);
    return found;
}

static PyMethodDef methods[] = {
    {"text_columns", text_columns, METH_VARARGS,
     "text_columns(block, names, id_column): of lines that are JSON objects, for each column the value of the first\n"
     "of its names that is not null, as (offsets, int32; UTF-8 bytes), empty where there is none; of id_column whole\n"
     "numbers, too. None unless every line that is not blank is well-formed, all these values are texts, and each row\n"
     "surely has more than white space in the first column."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "reinstruct._lines", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lines(void) {
    return PyModule_Create(&module);
}
