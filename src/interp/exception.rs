//! What a Python exception says.

use super::{Attached, Object, Raised};
use cpython_sys::*;

/// An exception that was taken from the thread: it is no longer set.
pub(crate) struct Exception<'py>(Object<'py>);

impl<'py> Exception<'py> {
    /// Takes the exception that [`Raised`] speaks of.
    pub(crate) fn take(py: Attached<'py>, _raised: Raised) -> Self {
        // SAFETY: attached; it returns a new reference, or null where nothing was set.
        let taken = unsafe { PyErr_GetRaisedException() };
        // SAFETY: see above.
        let taken = unsafe { Object::from_owned(py, taken) };
        Self(taken.unwrap_or_else(|Raised| Object::none(py)))
    }

    /// Sets it again, for a Python caller to see.
    pub(crate) fn restore(self) -> Raised {
        // SAFETY: attached, and the reference is given away.
        unsafe { PyErr_SetRaisedException(self.0.into_ptr()) };
        Raised
    }

    /// The name of its class.
    pub(crate) fn class(&self) -> String {
        self.0.type_name()
    }

    pub(crate) fn is_system_exit(&self) -> bool {
        // SAFETY: attached, and both are live objects.
        unsafe { PyErr_GivenExceptionMatches(self.0.as_ptr(), PyExc_SystemExit) != 0 }
    }

    /// Whether it is an instance of this class.
    pub(crate) fn is(&self, class: &Object<'py>) -> bool {
        // SAFETY: attached, and both are live objects.
        unsafe { PyErr_GivenExceptionMatches(self.0.as_ptr(), class.as_ptr()) != 0 }
    }

    /// The exception itself.
    pub(crate) fn object(&self) -> &Object<'py> {
        &self.0
    }

    /// The traceback as Python prints it, one line after the other.
    pub(crate) fn traceback(&self) -> String {
        let format = Object::import(self.0.py(), c"traceback")
            .and_then(|module| module.attribute(c"format_exception"));
        self.formatted(format)
    }

    /// The traceback as `format`, a function like `traceback.format_exception`, makes it.
    pub(crate) fn formatted(&self, format: Result<Object<'py>, Raised>) -> String {
        let py = self.0.py();
        let formatted = format
            .and_then(|format| format.call([&self.0]))
            .and_then(|lines| Object::text(py, "")?.attribute(c"join")?.call([&lines]))
            .and_then(|text| text.to_text());
        formatted.unwrap_or_else(|raised| {
            // An exception whose own str() raises, or no memory: its class is all that can be said.
            drop(Exception::take(py, raised));
            format!("{} (its traceback could not be formatted)", self.class())
        })
    }

    /// Class and message in one line.
    pub(crate) fn summary(&self) -> String {
        let traceback = self.traceback();
        traceback.trim_end().lines().next_back().unwrap_or_default().to_owned()
    }
}
