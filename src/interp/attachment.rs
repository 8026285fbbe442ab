//! Whether a thread is attached to its interpreter, for others to see: while it is, it has the GIL.
//!
//! CPython notes it in the thread's state (`PyThreadState._status.active`, Include/cpython/pystate.h of
//! 3.12 to 3.15), and has no function that says it of another thread. Where in the state it is, is
//! found out by trial: a word that says so while this thread is attached, and does not while it is not.

use super::ThreadState;
use cpython_sys::PyThreadState;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Where the word may be, in bytes from the beginning of the state: in 3.12, and from 3.13 on.
const PLACES: [usize; 2] = [24, 32];

/// The bit of the word.
const ACTIVE: u32 = 1 << 4;

/// Where it is; `None` where no place says what it should.
static PLACE: OnceLock<Option<usize>> = OnceLock::new();

/// The word of a thread's state, as long as there is one.
#[derive(Debug)]
pub(crate) struct Attachment {
    word: Mutex<Option<NonNull<AtomicU32>>>,
}

// SAFETY: the word is only read, and only while the state is there: see `forget`.
unsafe impl Send for Attachment {}
// SAFETY: see above.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// That of a state, which is detached.
    pub(super) fn of(state: &mut ThreadState) -> Arc<Self> {
        let place = *PLACE.get_or_init(|| find(state));
        let word = place.map(|place| word(state.raw(), place));
        Arc::new(Self { word: Mutex::new(word) })
    }

    /// Whether the thread has the GIL; no where that cannot be known.
    pub(crate) fn is_attached(&self) -> bool {
        self.lock().is_some_and(|word| {
            // SAFETY: `forget` is called before the state goes, and waits for this lock.
            let word = unsafe { word.as_ref() };
            word.load(Ordering::Relaxed) & ACTIVE != 0
        })
    }

    /// The state is about to go.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<NonNull<AtomicU32>>> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only place that says what is so.
fn find(state: &mut ThreadState) -> Option<usize> {
    let raw = state.raw();
    let says = |place| {
        // SAFETY: the state is live, and longer than that. CPython writes the word as a whole, with
        // the GIL or before others know of the state.
        let word = unsafe { word(raw, place).as_ref() };
        word.load(Ordering::Relaxed) & ACTIVE != 0
    };
    let before = PLACES.map(says);
    let attached = state.attach(|_| PLACES.map(says));
    let after = PLACES.map(says);
    let mut found = (0..PLACES.len())
        .filter(|&index| (before[index], attached[index], after[index]) == (false, true, false));
    let place = found.next().filter(|_| found.next().is_none()).map(|index| PLACES[index]);
    match place {
        Some(place) => tracing::debug!("byte {place} of a thread's state says that it is attached"),
        None => tracing::debug!("nothing in a thread's state says that it is attached"),
    }
    place
}

fn word(state: NonNull<PyThreadState>, place: usize) -> NonNull<AtomicU32> {
    // SAFETY: a thread's state is longer than any of the places.
    unsafe { state.byte_add(place) }.cast()
}
