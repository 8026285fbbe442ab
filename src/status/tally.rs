//! What a request leaves on its thread for whoever counts it.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};

/// How a request was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

thread_local! {
    static TALLY: Cell<Option<Tally>> = const { Cell::new(None) };
    static ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The request that this thread serves was answered.
pub(crate) fn answered(tally: Tally) {
    TALLY.set(Some(tally));
}

/// It has failed by this, of which the first line is kept.
pub(crate) fn failed(text: &str) {
    let line = text.lines().next().unwrap_or_default();
    ERROR.replace(Some(line.to_owned()));
}

/// What was left since this was asked last.
pub(crate) fn take() -> (Option<Tally>, Option<String>) {
    (TALLY.take(), ERROR.take())
}
