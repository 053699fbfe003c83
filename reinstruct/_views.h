/* Texts where they lie: in the buffers of Arrow's view layout. */

#include <stdlib.h>

/* Bytes from `at` on, up to `end`. */
typedef struct { const uint8_t *at, *end; } Text;

/* A column: sixteen bytes for each text, and the buffers that those name. */
typedef struct { Py_buffer views, *buffers; Py_ssize_t count; } Views;

/* Text n: up to twelve bytes beside their number, more in one of the buffers; from NULL on if it does not lie in one. */
static Text text_at(const Views *column, Py_ssize_t n) {
    const uint8_t *view = (const uint8_t *)column->views.buf + 16 * n;
    int32_t head[4]; /* how many bytes, the first four of them, the buffer, and where in it */
    memcpy(head, view, 16);
    if (head[0] < 0) return (Text){NULL, NULL};
    if (head[0] <= 12) return (Text){view + 4, view + 4 + head[0]};
    if (head[2] < 0 || head[2] >= column->count || head[3] < 0) return (Text){NULL, NULL};
    if ((Py_ssize_t)head[3] + head[0] > column->buffers[head[2]].len) return (Text){NULL, NULL};
    const uint8_t *at = (const uint8_t *)column->buffers[head[2]].buf + head[3];
    return (Text){at, at + head[0]};
}

/* Let go of what was got of a column. */
static void release(Views *column) {
    while (column->buffers && column->count--) PyBuffer_Release(&column->buffers[column->count]);
    free(column->buffers);
    if (column->views.obj) PyBuffer_Release(&column->views);
    *column = (Views){.count = 0};
}

static int are_inside(const Views *column) {
    for (Py_ssize_t n = 0; n < column->views.len / 16; n++)
        if (!text_at(column, n).at) return PyErr_Format(PyExc_ValueError, "text %zd does not lie in its buffer", n), 0;
    return 1;
}

/* Get the buffers of a column, all of whose texts then lie in them; 0 with an error set, and nothing got. */
static inline int get_views(PyObject *views, PyObject *buffers, Views *column) {
    Py_ssize_t wanted = PyTuple_Size(buffers);
    *column = (Views){.count = 0};
    if (PyObject_GetBuffer(views, &column->views, PyBUF_SIMPLE)) return 0;
    column->buffers = calloc(wanted + 1, sizeof *column->buffers);
    if (!column->buffers) PyErr_NoMemory();
    while (column->buffers && column->count < wanted &&
           !PyObject_GetBuffer(PyTuple_GetItem(buffers, column->count), &column->buffers[column->count], PyBUF_SIMPLE))
        column->count++;
    if (column->buffers && column->count == wanted && are_inside(column)) return 1;
    release(column);
    return 0;
}
