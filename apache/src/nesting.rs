//! Requests that the output of another one waits for.

use crate::request::Request;
use manifold::Patience;
use std::cell::Cell;

/// Says whether this thread is inside another conversation of ours already: that of a request whose
/// output made it serve a sub-request.
pub(crate) struct Nesting {
    inner: bool,
}

thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });

impl Nesting {
    /// Begins a conversation; it ends when this is dropped.
    pub(crate) fn enter() -> Self {
        let depth = DEPTH.get();
        DEPTH.set(depth + 1);
        Self { inner: depth > 0 }
    }

    /// How long its job may wait for a thread: httpd's `Timeout` where the outer conversation may
    /// hold the only one there is.
    pub(crate) fn patience(&self, r: Request<'_>) -> Patience {
        match self.inner {
            true => Patience::Nested(r.timeout()),
            false => Patience::Endless,
        }
    }
}

impl Drop for Nesting {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
