"""What the extension modules take from the C of Python's types, beyond what Cython declares; see _core.pxd."""

from cpython.object cimport PyObject, PyTypeObject


cdef extern from *:
    """
    #include "structmember.h"

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

    /* The __dict__ of one whose class says where it is, borrowed; NULL: it has none yet. */
    static inline PyObject *own_dict(PyObject *item) {
        return *(PyObject **)((char *)item + Py_TYPE(item)->tp_dictoffset);
    }

    /* Likewise, of one whose instances have slots and no __dict__. */
    static inline int type_is_slotted(const PyTypeObject *type) {
        return type_is_made(type) && type->tp_new == PyBaseObject_Type.tp_new &&
               type->tp_getattro == PyObject_GenericGetAttr && type->tp_dictoffset == 0 && type->tp_itemsize == 0;
    }

    /* Nothing of the class's own runs when an attribute is set. */
    static inline int type_sets_plainly(const PyTypeObject *type) {
        return type->tp_setattro == PyObject_GenericSetAttr;
    }

    /* Where instances of `type` have the value of the slot that `found` is; -1: it is none of theirs. */
    static inline Py_ssize_t slot_place(PyTypeObject *type, PyObject *found) {
        if (!Py_IS_TYPE(found, &PyMemberDescr_Type) || !type_is_made(PyDescr_TYPE(found)) ||
            !PyType_IsSubtype(type, PyDescr_TYPE(found)))
            return -1;
        const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        return member->type == T_OBJECT_EX && member->flags == 0 ? member->offset : -1;
    }

    /* What a slot has, borrowed; NULL: nothing yet. */
    static inline PyObject *slot_value(PyObject *item, Py_ssize_t place) {
        return *(PyObject **)((char *)item + place);
    }

    static inline void slot_set(PyObject *item, Py_ssize_t place, PyObject *value) {
        PyObject **slot = (PyObject **)((char *)item + place), *old = *slot;
        Py_INCREF(value);
        *slot = value;
        Py_XDECREF(old);
    }
    """
    PyObject *own_dict(object item)
    int type_is_slotted(const PyTypeObject *type)
    int type_sets_plainly(const PyTypeObject *type)
    Py_ssize_t slot_place(PyTypeObject *type, PyObject *found)
    PyObject *slot_value(PyObject *item, Py_ssize_t place)
    void slot_set(PyObject *item, Py_ssize_t place, PyObject *value)
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
