//! What the user is told where a command cannot be done: what was given, where, and what helps.
#![forbid(unsafe_code)]

use std::fmt;

/// A text for people.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// A value, or why there is none.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// The end of a command, with its reason.
pub(crate) fn fail<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure(text.into()))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when something went wrong.
pub(crate) trait During<T> {
    /// `what` is called for an error only.
    fn during(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}
