//! CPython's C API for this project: pyo3-ffi's declarations, the few it lacks, what the linked
//! version can do, and the guard around every function that CPython calls.
//!
//! Nothing here knows what a WSGI application is, and nothing uses `PyGILState_*`: that API finds
//! the main interpreter on any thread it does not know (PEP 684).

pub use pyo3_ffi::*;

mod boundary;
mod version;

pub use boundary::{CallbackValue, callback};
pub use version::{
    CAN_END_INTERPRETERS, OWN_GIL_IS_SAFE, PREIMPORTS, VERSION, VERSION_TEXT,
    is_refused_with_own_gil,
};
