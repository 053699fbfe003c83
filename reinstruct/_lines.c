/* JSON lines to columns of text, for corpus/typed.py, which has the same in msgspec.

   The one rule: what is read here is well-formed JSON in well-formed UTF-8, one object a line, with texts where texts
   are wanted. Anything else, and anything that two readers could take in two ways, ends it: another road reads the
   block. */

#include "_lines_read.h"
#include "_processor.h"

typedef int Lines(Reader *, const Part *, Py_ssize_t);
Lines lines_avx2;

/* Buffers of bytes that are read end to end, and the parts that those are. */
typedef struct { Py_buffer *buffers; Part *parts; Py_ssize_t count, bytes; } Parts;

static void release(Parts *parts) {
    while (parts->count) PyBuffer_Release(&parts->buffers[--parts->count]);
    free(parts->buffers);
    free(parts->parts);
}

/* 0 with an error set, and nothing got. */
static int get_parts(PyObject *given, Parts *parts) {
    Py_ssize_t wanted = PyTuple_Size(given);
    *parts = (Parts){calloc(wanted + 1, sizeof(Py_buffer)), calloc(wanted + 1, sizeof(Part)), 0, 0};
    if (!parts->buffers || !parts->parts) PyErr_NoMemory();
    while (parts->buffers && parts->parts && parts->count < wanted) {
        Py_buffer *buffer = &parts->buffers[parts->count];
        if (PyObject_GetBuffer(PyTuple_GetItem(given, parts->count), buffer, PyBUF_SIMPLE)) break;
        const uint8_t *first = buffer->buf;
        parts->parts[parts->count++] = (Part){first, first + buffer->len};
        parts->bytes += buffer->len;
    }
    if (parts->buffers && parts->parts && parts->count == wanted) return 1;
    release(parts);
    return 0;
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

/* What was read of a column: byte arrays of its offsets and of its bytes. */
static PyObject *taken(const Column *column, Py_ssize_t rows, PyObject *data) {
    PyObject *offsets = PyByteArray_FromStringAndSize((const char *)column->offsets, (rows + 1) * sizeof *column->offsets);
    PyObject *both = offsets && data ? PyTuple_Pack(2, offsets, data) : NULL;
    Py_XDECREF(offsets);
    Py_XDECREF(data);
    return both;
}

static PyObject *all_taken(const Reader *reader, PyObject *first) {
    PyObject *found = PyTuple_New(reader->column_count);
    if (found && PyByteArray_Resize(first, reader->columns[0].size)) Py_CLEAR(found);
    for (int n = 0; found && n < reader->column_count; n++) {
        const Column *column = &reader->columns[n];
        PyObject *data = n ? PyByteArray_FromStringAndSize(column->data, column->size) : Py_NewRef(first);
        PyObject *both = taken(column, reader->rows, data);
        if (!both || PyTuple_SetItem(found, n, both)) Py_CLEAR(found);
    }
    return found;
}

static PyObject *read_columns(Reader *reader, const Parts *parts, Lines *lines) {
    PyObject *first = PyByteArray_FromStringAndSize(NULL, parts->bytes + SLACK), *found = NULL;
    Column *columns = reader->columns;
    int is_read = 0;
    for (int n = 0; n < reader->column_count; n++) columns[n] = (Column){.data = NULL};
    if (first) {
        columns[0].data = PyByteArray_AsString(first);
        Py_BEGIN_ALLOW_THREADS
        is_read = lines(reader, parts->parts, parts->count) && reader->rows;
        Py_END_ALLOW_THREADS
        found = is_read ? all_taken(reader, first) : Py_NewRef(Py_None);
    }
    for (int n = 0; n < reader->column_count; n++) {
        free(columns[n].offsets);
        if (n) free(columns[n].data);
    }
    Py_XDECREF(first);
    return found;
}

static PyObject *columns_by(PyObject *arguments, Lines *lines) {
    PyObject *given, *accepted;
    Parts parts;
    Py_ssize_t id_column;
    Name names[MOST_NAMES];
    Column columns[MOST_NAMES];
    if (!PyArg_ParseTuple(arguments, "O!O!n", &PyTuple_Type, &given, &PyTuple_Type, &accepted, &id_column)) return NULL;
    Reader reader = {.columns = columns, .names = names, .column_count = (int)PyTuple_Size(accepted)};
    PyObject *found = NULL;
    reader.name_count = learn_names(accepted, id_column, names);
    if (reader.name_count < 0 || !get_parts(given, &parts)) return NULL;
    if (parts.bytes <= INT32_MAX - SLACK && reader.column_count && reader.column_count <= MOST_NAMES)
        found = read_columns(&reader, &parts, lines);
    else found = Py_NewRef(Py_None);
    release(&parts);
    return found;
}

static PyObject *text_columns(PyObject *module, PyObject *arguments) {
    return columns_by(arguments, has_avx2() ? lines_avx2 : lines);
}

static PyObject *text_columns_anywhere(PyObject *module, PyObject *arguments) {
    return columns_by(arguments, lines);
}

static PyMethodDef methods[] = {
    {"text_columns", text_columns, METH_VARARGS,
     "text_columns(parts, names, id_column): of lines that are JSON objects, in buffers end to end, for each column the\n"
     "value of the first of its names that is not null, as (offsets, int32; UTF-8 bytes), empty where there is none; of\n"
     "id_column whole numbers, too. None unless every line that is not blank is well-formed, all these values are texts,\n"
     "and each row surely has more than white space in the first column."},
    {"text_columns_anywhere", text_columns_anywhere, METH_VARARGS, "The same by what every processor can."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "reinstruct._lines", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lines(void) {
    return PyModule_Create(&module);
}
