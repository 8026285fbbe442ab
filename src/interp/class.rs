//! Python types that are written in Rust.
//!
//! They are heap types, one of each kind for each interpreter: a static type would be shared by
//! all, which PEP 684 forbids. Their instances hold no references to Python objects, so they need
//! no part in garbage collection.

use super::{Attached, Object, Raised};
use cpython_sys::*;
use std::ffi::{CStr, c_int, c_void};

/// An instance of a type whose data is `T`.
#[repr(C)]
struct Instance<T> {
    base: PyObject,
    data: T,
}

/// A list of methods, ended by an empty row.
#[repr(transparent)]
pub(crate) struct Methods<const N: usize>([PyMethodDef; N]);

// SAFETY: the rows hold pointers to literals and functions, and nobody writes to them.
unsafe impl<const N: usize> Sync for Methods<N> {}

impl<const N: usize> Methods<N> {
    pub(crate) const fn new(rows: [PyMethodDef; N]) -> Self {
        Self(rows)
    }

    /// The first row.
    pub(crate) const fn as_ptr(&'static self) -> *mut PyMethodDef {
        (&raw const self.0).cast_mut().cast()
    }

    /// One row, for [`function`].
    pub(crate) const fn row(&'static self, index: usize) -> *mut PyMethodDef {
        (&raw const self.0[index]).cast_mut()
    }
}

/// A method that takes positional arguments: `def name(self, /, *arguments)`.
pub(crate) const fn method(
    name: &'static CStr,
    function: PyCFunctionFast,
    doc: &'static CStr,
) -> PyMethodDef {
    PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: PyMethodDefPointer { PyCFunctionFast: function },
        ml_flags: METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    }
}

/// A method that takes positional and keyword arguments, as a tuple and a dict.
pub(crate) const fn method_with_keywords(
    name: &'static CStr,
    function: PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> PyMethodDef {
    PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: METH_FASTCALL | METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// The row that ends a list.
pub(crate) const fn end() -> PyMethodDef {
    PyMethodDef::zeroed()
}

/// Makes a type for instances with data `T`. It can be neither derived from nor called in Python.
pub(crate) fn make<'py, T>(
    py: Attached<'py>,
    name: &'static CStr,
    methods: *mut PyMethodDef,
    more: &[PyType_Slot],
) -> Result<Object<'py>, Raised> {
    let mut slots = vec![
        PyType_Slot { slot: Py_tp_dealloc, pfunc: deallocate::<T> as *mut c_void },
        PyType_Slot { slot: Py_tp_methods, pfunc: methods.cast() },
    ];
    slots.extend_from_slice(more);
    slots.push(PyType_Slot { slot: 0, pfunc: std::ptr::null_mut() });
    let mut spec = PyType_Spec {
        name: name.as_ptr(),
        basicsize: c_int::try_from(size_of::<Instance<T>>()).expect("instances are small"),
        itemsize: 0,
        flags: (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)
            as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; name and methods are static, the slots are read during the call only.
    unsafe { Object::from_owned(py, PyType_FromSpec(&raw mut spec)) }
}

/// Makes an instance. `class` was made by [`make`] with the same `T`.
pub(crate) fn instance<'py, T>(class: &Object<'py>, data: T) -> Result<Object<'py>, Raised> {
    let class_pointer = class.as_ptr().cast::<PyTypeObject>();
    // SAFETY: attached, and it is a type; allocation takes a reference to it.
    let made = unsafe { PyType_GenericAlloc(class_pointer, 0) };
    if !made.is_null() {
        // SAFETY: the type's basic size is that of Instance<T>, and the data is not yet there.
        unsafe { (&raw mut (*made.cast::<Instance<T>>()).data).write(data) };
    }
    // SAFETY: a new reference or an exception.
    unsafe { Object::from_owned(class.py(), made) }
}

/// The data of an instance.
///
/// # Safety
///
/// `object` is a live instance of a type that [`make`] made with the same `T`, as CPython ensures
/// for the `self` of such a type's methods.
pub(crate) unsafe fn data<'a, T>(object: *mut PyObject) -> &'a T {
    // SAFETY: the caller's promise.
    unsafe { &(*object.cast::<Instance<T>>()).data }
}

/// A function whose `self` is `owner`: a method that was taken from its object.
pub(crate) fn function<'py>(
    owner: &Object<'py>,
    row: *mut PyMethodDef,
) -> Result<Object<'py>, Raised> {
    // SAFETY: attached; rows are static, and the function takes a reference to its owner.
    let made = unsafe { PyCFunction_NewEx(row, owner.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: a new reference or an exception.
    unsafe { Object::from_owned(owner.py(), made) }
}

/// The body of a method or attribute of a type that [`make`] made with `T`: CPython's arguments in,
/// a new reference or null out.
pub(crate) fn call<T>(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
    body: impl for<'py> FnOnce(Attached<'py>, &T, &[Object<'py>]) -> Result<Object<'py>, Raised>,
) -> *mut PyObject {
    callback(|| {
        // SAFETY: CPython calls methods on attached threads.
        let py = unsafe { Attached::assume() };
        let arguments: Vec<_> = (0..count.unsigned_abs())
            .map(|index| {
                // SAFETY: CPython passes `count` live objects.
                let argument = unsafe { *arguments.add(index) };
                // SAFETY: see above.
                unsafe { Object::from_borrowed(py, argument) }
            })
            .collect();
        // SAFETY: CPython calls the methods of a type with its instances only.
        let data = unsafe { data::<T>(this) };
        body(py, data, &arguments).map_or(std::ptr::null_mut(), Object::into_ptr)
    })
}

unsafe extern "C" fn deallocate<T>(object: *mut PyObject) {
    callback(|| {
        // SAFETY: CPython calls this once, for the last reference; the data was written when the
        // instance was made.
        unsafe { std::ptr::drop_in_place(&raw mut (*object.cast::<Instance<T>>()).data) };
        // SAFETY: attached, and the object is still there.
        let class = unsafe { Py_TYPE(object) };
        // SAFETY: it was allocated by PyType_GenericAlloc of a type without garbage collection.
        unsafe { PyObject_Free(object.cast()) };
        // SAFETY: the instance's reference to its type ends with it.
        unsafe { Py_DECREF(class.cast()) };
    });
}
