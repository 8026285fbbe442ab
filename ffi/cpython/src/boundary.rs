//! The only place where a panic in a function that CPython calls is stopped.

use crate::{PyErr_SetString, PyExc_SystemError, PyObject};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A return type of a C callback, and the value that tells CPython an exception is set.
pub trait CallbackValue {
    /// What a failing callback of this type returns.
    const ERROR: Self;
}

impl CallbackValue for *mut PyObject {
    const ERROR: Self = std::ptr::null_mut();
}

impl CallbackValue for std::ffi::c_int {
    const ERROR: Self = -1;
}

impl CallbackValue for () {
    const ERROR: Self = ();
}

/// Runs the body of a function that CPython calls. A panic becomes a `SystemError` in the calling
/// Python code (the panic hook has already reported where it was), never an unwind through C.
///
/// The calling thread must be attached to an interpreter.
pub fn callback<R: CallbackValue>(body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        // SAFETY: CPython called us on this thread, so it is attached; the text is a literal.
        unsafe {
            PyErr_SetString(
                PyExc_SystemError,
                c"mod_manifold: internal error (a panic, reported in the error log)".as_ptr(),
            );
        }
        R::ERROR
    })
}
