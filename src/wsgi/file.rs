//! `wsgi.file_wrapper` (PEP 3333): the file behind what an application returned, to be sent without
//! passing through Python.

use super::Residents;
use crate::interp::exception::Exception;
use crate::interp::{Attached, Object};
use cpython_sys::*;
use std::fs::File;
use std::os::fd::BorrowedFd;

/// A regular file, from some position to its end.
pub(super) struct Sendable {
    /// A descriptor of our own: the application may close its one.
    pub(super) file: File,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The file that `returned` stands for, where it is a `FileWrapper` that need not be iterated.
pub(super) fn sendable<'py>(
    py: Attached<'py>,
    residents: &Residents,
    returned: &Object<'py>,
) -> Option<Sendable> {
    let class = residents.file_wrapper.as_ptr().cast();
    // SAFETY: attached, and both are live types.
    if unsafe { PyType_IsSubtype(Py_TYPE(returned.as_ptr()), class) } == 0 {
        return None;
    }
    let found = match residents.sendable_file.get(py).call([returned]) {
        Ok(found) if !found.is_none() => found,
        Ok(_) => return None,
        Err(raised) => {
            // Not Exception but the like of KeyboardInterrupt; iterating says what is wrong.
            drop(Exception::take(py, raised));
            return None;
        }
    };
    let number = |index| {
        // SAFETY: attached; the bootstrap module returns a tuple of two, which keeps them.
        let number = unsafe { PyTuple_GetItem(found.as_ptr(), index) };
        // SAFETY: attached, and it is live; anything but an int raises.
        let number = unsafe { PyLong_AsLongLong(number) };
        // SAFETY: attached.
        let raised = number == -1 && !unsafe { PyErr_Occurred() }.is_null();
        if raised {
            // SAFETY: attached; whatever it was, iterating goes on without a descriptor.
            unsafe { PyErr_Clear() };
        }
        (!raised).then_some(number)
    };
    let descriptor = i32::try_from(number(0)?).ok().filter(|descriptor| *descriptor >= 0)?;
    let start = u64::try_from(number(1)?).ok()?;
    // SAFETY: it is open unless the application lies, and used for this call only; a number that
    // is not open is an error here.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().ok()?;
    let file = File::from(file);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(Sendable { file, start, length: metadata.len().saturating_sub(start) })
}
