//! Blocks of responses that are sent from where the application has them.
//!
//! A large `bytes` object that an application yields is not copied: the spool gets a reference to it.
//! Its bytes neither change nor move as long as there is one. Whoever has read them gives the object back
//! without the interpreter's GIL, and the interpreter's next request, or part of a response, releases it;
//! a thread of its own is woken for that where it is much.
//!
//! An interpreter may end while a client is slow. What nobody has come to by then is copied first, and
//! who reads is waited for, which takes no longer than to write what a socket has room for: a request
//! thread that is about to wait for its client copies what it was lent.

use crate::Spool;
use std::ffi::c_void;
use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// From how many bytes on an object is lent; fewer are copied sooner.
pub(crate) const LEAST: usize = 4096;

/// From how many bytes on that objects have which came back, they do not wait for the next request.
const MUCH: usize = 1 << 20;

/// How many spools are entered at least before those are forgotten that have gone.
const FEW: usize = 16;

/// An object of an interpreter, and its bytes. Dropping it releases nothing: the object then lives for as
/// long as the process does.
#[derive(Debug)]
pub(crate) struct Lent {
    bytes: NonNull<[u8]>,
    object: NonNull<c_void>,
    /// How many bytes the whole object has.
    size: usize,
}

// SAFETY: the bytes do not change, and nobody here touches the object.
unsafe impl Send for Lent {}

impl Lent {
    /// # Safety
    ///
    /// The bytes do not change, and stay until the object comes back out of [`Lender::returned`].
    pub(crate) unsafe fn new(bytes: &[u8], object: NonNull<c_void>, size: usize) -> Self {
        Self { bytes: NonNull::from(bytes), object, size }
    }

    /// With a number in the place of the object.
    #[cfg(test)]
    pub(crate) fn number(number: usize, bytes: &[u8]) -> Self {
        let object = NonNull::without_provenance(number.try_into().expect("it is none"));
        // SAFETY: tests keep their blocks for longer.
        unsafe { Self::new(bytes, object, bytes.len()) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: they stay while this is there, which is what comes back.
        unsafe { self.bytes.as_ref() }
    }
}

/// Has an interpreter release what came back, soon. Called without a lock of this module, and by any thread.
pub(crate) trait Release: std::fmt::Debug + Send + Sync {
    fn release_soon(&self);
}

/// What an interpreter has lent.
#[derive(Debug, Default)]
pub(crate) struct Lender {
    release: OnceLock<Box<dyn Release>>,
    state: Mutex<State>,
    /// Something has come back.
    has_returned: AtomicBool,
    /// Nobody reads any more.
    unread: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where lent objects may be that nobody reads yet.
    spools: Vec<Weak<Spool>>,
    /// At how many of them those are looked for that have gone.
    many: usize,
    /// How many loans are read.
    read: usize,
    returned: Vec<Lent>,
    /// How many bytes these have.
    size: usize,
}

impl Lender {
    /// From now on much that comes back is released by this.
    pub(crate) fn release_by(&self, release: impl Release + 'static) {
        // An interpreter has one.
        let _ = self.release.set(Box::new(release));
    }

    /// The objects that have come back since the last time.
    pub(crate) fn returned(&self) -> impl Iterator<Item = NonNull<c_void>> {
        let mut returned = Vec::new();
        if self.has_returned.load(Ordering::Relaxed)
            && self.has_returned.swap(false, Ordering::Relaxed)
        {
            let mut state = self.lock();
            mem::swap(&mut returned, &mut state.returned);
            state.size = 0;
        }
        returned.into_iter().map(|lent| lent.object)
    }

    /// Has everything come back, within the time that one who reads may take. For the interpreter's end,
    /// when nothing is lent any more; not for a thread that has a GIL.
    pub(crate) fn call_in(&self, limit: Duration) {
        let spools = mem::take(&mut self.lock().spools);
        spools.iter().filter_map(Weak::upgrade).for_each(|spool| spool.own());
        let wait = self.unread.wait_timeout_while(self.lock(), limit, |state| state.read > 0);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    fn enter(&self, spool: Weak<Spool>) {
        let mut state = self.lock();
        if state.spools.len() >= state.many {
            state.spools.retain(|spool| spool.strong_count() > 0);
            state.many = FEW.max(2 * state.spools.len());
        }
        state.spools.push(spool);
    }

    /// How many spools are remembered.
    #[cfg(test)]
    pub(crate) fn entered(&self) -> usize {
        self.lock().spools.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one spool was lent.
#[derive(Debug)]
pub(crate) struct Loan {
    lender: Arc<Lender>,
    lent: Vec<Lent>,
    is_read: bool,
}

impl Loan {
    /// Nothing yet, for a spool.
    pub(crate) fn new(lender: &Arc<Lender>, spool: Weak<Spool>) -> Self {
        lender.enter(spool);
        Self { lender: Arc::clone(lender), lent: Vec::new(), is_read: false }
    }

    pub(crate) fn push(&mut self, lent: Lent) {
        self.lent.push(lent);
    }

    /// The bytes of each object.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.lent.iter().map(Lent::bytes)
    }

    /// It is taken out of its spool, to be read.
    pub(crate) fn begin(&mut self) {
        self.is_read = true;
        self.lender.lock().read += 1;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut state = self.lender.lock();
        let before = state.size;
        state.size = self.lent.iter().fold(before, |size, lent| size.saturating_add(lent.size));
        let is_much = before < MUCH && state.size >= MUCH;
        state.returned.append(&mut self.lent);
        self.lender.has_returned.store(true, Ordering::Relaxed);
        if self.is_read {
            state.read -= 1;
            if state.read == 0 {
                self.lender.unread.notify_all();
            }
        }
        drop(state);
        if let Some(release) = self.lender.release.get().filter(|_| is_much) {
            release.release_soon();
        }
    }
}
