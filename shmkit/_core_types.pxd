"""What the extension modules take from the C of Python's types, beyond what Cython declares; see _core.pxd."""

from cpython.object cimport PyObject, PyTypeObject


cdef extern from *:
    """
    /* A number that no other type has, nor this one after a change of it or of a class that it is derived from; 0: it
     * has none now, a lookup may give it one.  Without a GIL nobody can tell, and it is always 0. */
    static inline unsigned int type_version(const PyTypeObject *type) {
    #ifdef Py_GIL_DISABLED
        (void)type;
        return 0;
    #else
    #if PY_VERSION_HEX < 0x030D0000
        if (!(type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG))
            return 0;
    #endif
        return type->tp_version_tag;
    #endif
    }

    static inline int type_is_made(const PyTypeObject *type) { return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0; }

    /* What object itself would make, and give its attributes, but for what the class has by special methods' names. */
    static inline int type_is_as_object(const PyTypeObject *type) {
        return type_is_made(type) && type->tp_new == PyBaseObject_Type.tp_new &&
               type->tp_getattro == PyObject_GenericGetAttr && type->tp_dictoffset != 0;
    }

    /* Borrowed, and perhaps NULL.  The first: of one that type_is_made. */
    static inline PyObject *type_qualname(PyTypeObject *type) { return ((PyHeapTypeObject *)type)->ht_qualname; }
    static inline PyObject *type_own_names(PyTypeObject *type) { return type->tp_dict; }

    static inline PyObject *type_make(PyTypeObject *type, PyObject *args) { return type->tp_new(type, args, NULL); }
    static inline int type_makes(const PyTypeObject *type) { return type->tp_new != NULL; }
    static inline int type_has_dict(const PyTypeObject *type) { return type->tp_dictoffset != 0; }
    """
    unsigned int type_version(const PyTypeObject *type)
    int type_is_made(const PyTypeObject *type)
    int type_is_as_object(const PyTypeObject *type)
    int type_has_dict(const PyTypeObject *type)
    int type_makes(const PyTypeObject *type)
    PyObject *type_qualname(PyTypeObject *type)
    PyObject *type_own_names(PyTypeObject *type)
    object type_make(PyTypeObject *type, PyObject *args)


cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(object item)
    object PyObject_GenericGetDict(object made, void *context)
    int PySys_Audit(const char *event, const char *formats, ...) except -1
    void PyObject_GC_Track(PyObject *item)
    void PyObject_GC_UnTrack(PyObject *item)
