//! References to Python objects that live no longer than the proof of being attached.

use super::Attached;
use crate::lending::{Lender, Lent};
use cpython_sys::*;
use std::borrow::Cow;
use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

/// A Python exception is set on this thread. It is to be passed on to the Python caller, or taken
/// by [`super::exception::Exception::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised;

/// An owned reference to an object of the interpreter this thread is attached to.
pub(crate) struct Object<'py> {
    pointer: NonNull<PyObject>,
    py: Attached<'py>,
}

impl<'py> Object<'py> {
    /// Takes over a reference that a C function returned; null means it raised.
    ///
    /// # Safety
    ///
    /// `pointer` is null with an exception set, or a reference the caller owns.
    pub(crate) unsafe fn from_owned(
        py: Attached<'py>,
        pointer: *mut PyObject,
    ) -> Result<Self, Raised> {
        NonNull::new(pointer).map(|pointer| Self { pointer, py }).ok_or(Raised)
    }

    /// A reference of our own to an object that somebody else keeps.
    ///
    /// # Safety
    ///
    /// `pointer` is a live object of this interpreter.
    pub(crate) unsafe fn from_borrowed(py: Attached<'py>, pointer: *mut PyObject) -> Self {
        // SAFETY: the caller's promise, and the token proves that we are attached.
        unsafe { Py_INCREF(pointer) };
        // SAFETY: a live object is not at address zero.
        let pointer = unsafe { NonNull::new_unchecked(pointer) };
        Self { pointer, py }
    }

    pub(crate) fn as_ptr(&self) -> *mut PyObject {
        self.pointer.as_ptr()
    }

    /// Gives the reference away, to a C function that steals it or to CPython as a return value.
    pub(crate) fn into_ptr(self) -> *mut PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub(crate) fn py(&self) -> Attached<'py> {
        self.py
    }

    pub(crate) fn none(py: Attached<'py>) -> Self {
        // SAFETY: None lives as long as the interpreter.
        unsafe { Self::from_borrowed(py, Py_None()) }
    }

    pub(crate) fn boolean(py: Attached<'py>, value: bool) -> Self {
        // SAFETY: it returns a new reference and does not fail.
        let made = unsafe { PyBool_FromLong(value.into()) };
        // SAFETY: see above.
        unsafe { Self::from_owned(py, made) }.expect("True and False always exist")
    }

    pub(crate) fn integer(py: Attached<'py>, value: i64) -> Result<Self, Raised> {
        // SAFETY: attached; it returns a new reference or raises.
        unsafe { Self::from_owned(py, PyLong_FromLongLong(value)) }
    }

    /// The value of this `int`.
    pub(crate) fn to_integer(&self) -> Result<i64, Raised> {
        // SAFETY: attached, and this is a live object; -1 may be an exception.
        let value = unsafe { PyLong_AsLongLong(self.as_ptr()) };
        // SAFETY: attached.
        if value == -1 && !unsafe { PyErr_Occurred() }.is_null() {
            return Err(Raised);
        }
        Ok(value)
    }

    pub(crate) fn float(py: Attached<'py>, value: f64) -> Result<Self, Raised> {
        // SAFETY: attached; it returns a new reference or raises.
        unsafe { Self::from_owned(py, PyFloat_FromDouble(value)) }
    }

    /// A `tuple` of these.
    pub(crate) fn tuple<const N: usize>(
        py: Attached<'py>,
        items: [Self; N],
    ) -> Result<Self, Raised> {
        // SAFETY: attached; it returns a new reference or raises.
        let tuple = unsafe { Self::from_owned(py, PyTuple_New(N.cast_signed())) }?;
        for (index, item) in (0..).zip(items) {
            // SAFETY: the tuple is new and long enough, and the reference is given away.
            done(unsafe { PyTuple_SetItem(tuple.as_ptr(), index, item.into_ptr()) })?;
        }
        Ok(tuple)
    }

    pub(crate) fn bytes(py: Attached<'py>, value: &[u8]) -> Result<Self, Raised> {
        // SAFETY: the slice is readable for its length; it returns a new reference or raises.
        unsafe {
            Self::from_owned(py, PyBytes_FromStringAndSize(value.as_ptr().cast(), length(value)))
        }
    }

    /// A `str` of these characters.
    pub(crate) fn text(py: Attached<'py>, value: &str) -> Result<Self, Raised> {
        let (start, length) = (value.as_ptr().cast(), length(value.as_bytes()));
        // SAFETY: the text is readable for its length; it returns a new reference or raises.
        unsafe { Self::from_owned(py, PyUnicode_FromStringAndSize(start, length)) }
    }

    /// A `str` with one character for each byte: PEP 3333's "native string".
    pub(crate) fn latin1(py: Attached<'py>, value: &[u8]) -> Result<Self, Raised> {
        let start = value.as_ptr().cast();
        // SAFETY: the slice is readable for its length; it returns a new reference or raises.
        unsafe {
            Self::from_owned(py, PyUnicode_DecodeLatin1(start, length(value), std::ptr::null()))
        }
    }

    /// A `str` in the encoding of file names, as `os.fsdecode` makes it.
    pub(crate) fn path(py: Attached<'py>, value: &[u8]) -> Result<Self, Raised> {
        let start = value.as_ptr().cast();
        // SAFETY: the slice is readable for its length; it returns a new reference or raises.
        unsafe { Self::from_owned(py, PyUnicode_DecodeFSDefaultAndSize(start, length(value))) }
    }

    pub(crate) fn import(py: Attached<'py>, name: &CStr) -> Result<Self, Raised> {
        // SAFETY: attached; it returns a new reference or raises.
        unsafe { Self::from_owned(py, PyImport_ImportModule(name.as_ptr())) }
    }

    pub(crate) fn attribute(&self, name: &CStr) -> Result<Self, Raised> {
        // SAFETY: attached, and this is a live object; a new reference or an exception.
        unsafe { Self::from_owned(self.py, PyObject_GetAttrString(self.as_ptr(), name.as_ptr())) }
    }

    /// The attribute, or `None` where there is none of that name. Another exception than
    /// `AttributeError`, raised while looking, is one here as well.
    pub(crate) fn attribute_if_any(&self, name: &CStr) -> Result<Option<Self>, Raised> {
        // SAFETY: attached; it returns a new reference or raises.
        let name = unsafe { Self::from_owned(self.py, PyUnicode_FromString(name.as_ptr())) }?;
        let mut found = std::ptr::null_mut();
        // Nothing is raised, nor a message made for it, where there is none, from 3.13 on.
        // SAFETY: attached, and both are live objects; it fills a new reference or null.
        let status = unsafe {
            compat::PyObject_GetOptionalAttr(self.as_ptr(), name.as_ptr(), &raw mut found)
        };
        done(status)?;
        // SAFETY: see above.
        Ok(unsafe { Self::from_owned(self.py, found) }.ok())
    }

    pub(crate) fn set_attribute(&self, name: &CStr, value: &Object<'py>) -> Result<(), Raised> {
        // SAFETY: attached, and both are live objects.
        done(unsafe { PyObject_SetAttrString(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// Puts a value into this `dict`.
    pub(crate) fn set_item(&self, key: &Object<'py>, value: &Object<'py>) -> Result<(), Raised> {
        // SAFETY: attached, and all three are live objects; for anything but a dict it raises.
        done(unsafe { PyDict_SetItem(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    pub(crate) fn set_item_named(&self, key: &CStr, value: &Object<'py>) -> Result<(), Raised> {
        // SAFETY: attached, and both are live objects; for anything but a dict it raises.
        done(unsafe { PyDict_SetItemString(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Calls it with positional arguments.
    pub(crate) fn call<const N: usize>(
        &self,
        arguments: [&Object<'py>; N],
    ) -> Result<Self, Raised> {
        let arguments = arguments.map(Object::as_ptr);
        // SAFETY: attached, and the array holds N live objects.
        let result = unsafe {
            PyObject_Vectorcall(self.as_ptr(), arguments.as_ptr(), N, std::ptr::null_mut())
        };
        // SAFETY: a new reference or an exception.
        unsafe { Self::from_owned(self.py, result) }
    }

    /// The same with arguments whose number is known only now.
    pub(crate) fn call_with(&self, arguments: &[Object<'py>]) -> Result<Self, Raised> {
        let arguments: Vec<_> = arguments.iter().map(Object::as_ptr).collect();
        let (start, count) = (arguments.as_ptr(), arguments.len());
        // SAFETY: attached, and the list holds `count` live objects.
        let result =
            unsafe { PyObject_Vectorcall(self.as_ptr(), start, count, std::ptr::null_mut()) };
        // SAFETY: a new reference or an exception.
        unsafe { Self::from_owned(self.py, result) }
    }

    /// An item of this sequence.
    pub(crate) fn item(&self, index: Py_ssize_t) -> Result<Self, Raised> {
        // SAFETY: attached, and this is a live object; a new reference or an exception.
        unsafe { Self::from_owned(self.py, PySequence_GetItem(self.as_ptr(), index)) }
    }

    /// The value under a name in this `dict`, or `None` where there is none.
    pub(crate) fn item_named(&self, key: &CStr) -> Option<Self> {
        // SAFETY: attached, and this is a dict; the reference is the dict's.
        let found = unsafe { PyDict_GetItemString(self.as_ptr(), key.as_ptr()) };
        // SAFETY: it is null, or a live object that the dict keeps.
        (!found.is_null()).then(|| unsafe { Self::from_borrowed(self.py, found) })
    }

    /// Whether its type is exactly, or derived from, the one that `flag` marks.
    pub(crate) fn is_instance_of(&self, flag: std::ffi::c_ulong) -> bool {
        // SAFETY: attached, and this is a live object.
        let class = unsafe { Py_TYPE(self.as_ptr()) };
        // SAFETY: an object's type lives at least as long as the object.
        unsafe { PyType_FastSubclass(class, flag) != 0 }
    }

    /// Whether its type is exactly this one.
    pub(crate) fn is_exactly(&self, class: *mut PyTypeObject) -> bool {
        // SAFETY: attached, and this is a live object.
        unsafe { Py_TYPE(self.as_ptr()) == class }
    }

    /// Its truth value, as `bool()` sees it.
    pub(crate) fn is_true(&self) -> Result<bool, Raised> {
        // SAFETY: attached, and this is a live object; -1 is an exception.
        match unsafe { PyObject_IsTrue(self.as_ptr()) } {
            -1 => Err(Raised),
            truth => Ok(truth != 0),
        }
    }

    pub(crate) fn is_callable(&self) -> bool {
        // SAFETY: attached, and this is a live object.
        unsafe { PyCallable_Check(self.as_ptr()) != 0 }
    }

    pub(crate) fn is_none(&self) -> bool {
        // SAFETY: it compares addresses only.
        unsafe { Py_IsNone(self.as_ptr()) != 0 }
    }

    /// The name of its type, for messages.
    pub(crate) fn type_name(&self) -> String {
        // SAFETY: attached, and this is a live object; a type's name is a C string it keeps.
        let name = unsafe { CStr::from_ptr((*Py_TYPE(self.as_ptr())).tp_name) };
        name.to_string_lossy().into_owned()
    }

    /// The bytes of this `bytes` object, for as long as it is referred to.
    pub(crate) fn as_bytes(&self) -> Option<&[u8]> {
        if !self.is_instance_of(Py_TPFLAGS_BYTES_SUBCLASS) {
            return None;
        }
        let mut start: *mut c_char = std::ptr::null_mut();
        let mut length = 0;
        // SAFETY: attached, and it is a bytes object, so both are filled.
        unsafe { PyBytes_AsStringAndSize(self.as_ptr(), &raw mut start, &raw mut length) };
        // SAFETY: a bytes object does not change, and lives at least as long as `self`.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), length.unsigned_abs()) })
    }

    /// Lends bytes of this `bytes` object, as a reference of its own.
    pub(crate) fn lend(&self, bytes: &[u8]) -> Lent {
        let all = self.as_bytes().unwrap_or_default();
        debug_assert!(all.as_ptr_range().contains(&bytes.as_ptr()));
        let kept = Kept::new(self.clone());
        // SAFETY: a bytes object does not change, and lives as long as there is this reference.
        unsafe { Lent::new(bytes, kept.0.cast(), all.len()) }
    }

    /// The characters of this `str` as UTF-8; what has no UTF-8 (a lone surrogate) is replaced.
    pub(crate) fn to_text(&self) -> Result<String, Raised> {
        // SAFETY: attached; for anything but a str it raises.
        let encoded = unsafe {
            PyUnicode_AsEncodedString(
                self.as_ptr(),
                c"utf-8".as_ptr(),
                c"backslashreplace".as_ptr(),
            )
        };
        // SAFETY: a new reference or an exception.
        let encoded = unsafe { Self::from_owned(self.py, encoded) }?;
        Ok(String::from_utf8_lossy(encoded.as_bytes().unwrap_or_default()).into_owned())
    }

    /// The characters of this `str`, where all are ASCII.
    fn as_ascii(&self) -> Option<&[u8]> {
        let mut length = 0;
        // SAFETY: attached; for anything but a str it raises.
        let start = unsafe { PyUnicode_AsUTF8AndSize(self.as_ptr(), &raw mut length) };
        if start.is_null() {
            // SAFETY: attached.
            unsafe { PyErr_Clear() };
            return None;
        }
        // In UTF-8 all others are longer.
        // SAFETY: attached, and it is a str.
        if unsafe { PyUnicode_GetLength(self.as_ptr()) } != length {
            return None;
        }
        // SAFETY: a str does not change, keeps its UTF-8, and lives at least as long as `self`.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), length.unsigned_abs()) })
    }

    /// The characters of this `str` as ISO-8859-1; for anything else, and other characters, it
    /// raises.
    pub(crate) fn to_latin1(&self) -> Result<Cow<'_, [u8]>, Raised> {
        if let Some(ascii) = self.as_ascii() {
            return Ok(Cow::Borrowed(ascii));
        }
        // SAFETY: attached; for anything but a str it raises.
        let encoded = unsafe { PyUnicode_AsLatin1String(self.as_ptr()) };
        // SAFETY: a new reference or an exception.
        let encoded = unsafe { Self::from_owned(self.py, encoded) }?;
        Ok(Cow::Owned(encoded.as_bytes().unwrap_or_default().to_vec()))
    }
}

impl Clone for Object<'_> {
    fn clone(&self) -> Self {
        // SAFETY: this is a live object of this interpreter.
        unsafe { Self::from_borrowed(self.py, self.as_ptr()) }
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        // SAFETY: the token proves that we are attached, and the reference is ours.
        unsafe { Py_DECREF(self.as_ptr()) }
    }
}

/// A reference that is kept while no thread is attached. It can be used and dropped only by a
/// thread that is attached to the interpreter it came from.
pub(crate) struct Kept(NonNull<PyObject>);

// SAFETY: it is an address; whoever turns it into an object again has to be attached.
unsafe impl Send for Kept {}
// SAFETY: see above.
unsafe impl Sync for Kept {}

impl Kept {
    pub(crate) fn new(object: Object<'_>) -> Self {
        let kept = Self(object.pointer);
        std::mem::forget(object);
        kept
    }

    /// The object, for a thread that is attached to its interpreter. What is kept in an interpreter
    /// sits in its [`crate::wsgi::Residents`], which only threads made for it can reach.
    pub(crate) fn get<'py>(&self, py: Attached<'py>) -> Object<'py> {
        // SAFETY: the reference kept it alive.
        unsafe { Object::from_borrowed(py, self.0.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut PyObject {
        self.0.as_ptr()
    }

    /// Gives the reference back to be dropped by an attached thread.
    pub(crate) fn release<'py>(self, py: Attached<'py>) -> Object<'py> {
        Object { pointer: self.0, py }
    }
}

/// Releases what this interpreter has lent and what came back. Its lender sits in its
/// [`crate::wsgi::Residents`], as what is [`Kept`].
pub(crate) fn release_returned(py: Attached<'_>, lender: &Lender) {
    for object in lender.returned() {
        drop(Kept(object.cast()).release(py));
    }
}

/// What a C function says that returns 0, or -1 with an exception set.
pub(crate) fn done(status: std::ffi::c_int) -> Result<(), Raised> {
    if status < 0 { Err(Raised) } else { Ok(()) }
}

/// Raises a `TypeError`.
pub(crate) fn type_error(py: Attached<'_>, message: &str) -> Raised {
    // SAFETY: exception types live as long as the interpreter.
    raise(py, unsafe { PyExc_TypeError }, message)
}

/// Raises a `ValueError`.
pub(crate) fn value_error(py: Attached<'_>, message: &str) -> Raised {
    // SAFETY: exception types live as long as the interpreter.
    raise(py, unsafe { PyExc_ValueError }, message)
}

/// Raises a `RuntimeError`.
pub(crate) fn runtime_error(py: Attached<'_>, message: &str) -> Raised {
    // SAFETY: exception types live as long as the interpreter.
    raise(py, unsafe { PyExc_RuntimeError }, message)
}

/// Raises an `OSError`.
pub(crate) fn os_error(py: Attached<'_>, message: &str) -> Raised {
    // SAFETY: exception types live as long as the interpreter.
    raise(py, unsafe { PyExc_OSError }, message)
}

fn raise(_py: Attached<'_>, class: *mut PyObject, message: &str) -> Raised {
    let message = std::ffi::CString::new(message).unwrap_or_default();
    // SAFETY: attached, `class` is an exception type, and the message is copied.
    unsafe { PyErr_SetString(class, message.as_ptr()) };
    Raised
}

fn length(bytes: &[u8]) -> Py_ssize_t {
    Py_ssize_t::try_from(bytes.len()).expect("no slice is longer than isize::MAX")
}
