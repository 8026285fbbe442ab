//! Bytes of responses that wait for slow clients, outside of any interpreter.
//!
//! What a client is behind with is copied here, twice where need be: by the application's thread when
//! the request thread is busy with the client, and by that one when it can leave the rest to the web
//! server. Then neither waits. It is an anonymous file in memory (`memfd_create`), since that is what
//! a web server can have the kernel send (sendfile). What all responses of a process keep here is
//! bounded by its [`Store`]; where that has no room, they wait.

use crate::Outcome;
use std::ffi::{CStr, c_uint};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One response may have this part of the store at each of its two places, so that some endless ones
/// leave room for others: where the application puts it, and where the request thread does.
const SHARE: u64 = 8;

/// How many bytes a part may have, and how many may follow it in memory, before a store is asked.
pub(crate) const TAIL: usize = 256 << 10;

/// From how many bytes on a copy is put into a buffer for [`TAIL`] of them.
const LARGE: usize = 128 << 10;

/// How many such buffers are kept, since a new one costs a page fault for each page.
const SPARE: usize = 8;

/// How many bytes the responses of a process keep, and may; and buffers for what follows a part.
#[derive(Debug)]
pub struct Store {
    limit: u64,
    used: AtomicU64,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Store {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), spare: Mutex::default() })
    }

    /// How many bytes are kept.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How much of that one response may have.
    pub fn share(&self) -> u64 {
        self.limit / SHARE
    }

    /// A copy of at most [`TAIL`] bytes, in a buffer of them where it pays.
    pub(crate) fn copy(&self, block: &[u8]) -> Vec<u8> {
        if block.len() < LARGE {
            return block.to_vec();
        }
        let mut bytes = self.buffer();
        bytes.extend_from_slice(block);
        bytes
    }

    /// A buffer of [`TAIL`] bytes, with nothing in it.
    fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(TAIL))
    }

    /// Takes back the bytes of a [`Tail`] or a part, once they were sent, where they are in such a buffer.
    pub fn take_back(&self, mut bytes: Vec<u8>) {
        // Only one of those: a larger one would be kept for good.
        if bytes.capacity() != TAIL {
            return;
        }
        bytes.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
    }

    /// Counts more bytes, where there is room.
    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are kept until this is dropped.
#[derive(Debug)]
pub struct Stored {
    file: File,
    length: u64,
    store: Arc<Store>,
}

impl Stored {
    /// Copies a block, if there is room for it.
    pub fn copy_of(store: &Arc<Store>, block: &[u8]) -> Option<Self> {
        if block.len() as u64 > store.share() {
            return None;
        }
        let mut stored = Self { file: anonymous_file()?, length: 0, store: Arc::clone(store) };
        stored.append(block).then_some(stored)
    }

    /// Copies one more block behind what is there, if there is room for it.
    pub fn append(&mut self, block: &[u8]) -> bool {
        let bytes = block.len() as u64;
        if self.length + bytes > self.store.share() || !self.store.take(bytes) {
            return false;
        }
        // There may be no memory for it.
        let written = self.file.write_all_at(block, self.length).is_ok();
        if written {
            self.length += bytes;
        } else {
            self.store.give_back(bytes);
        }
        written
    }

    /// The file, from whose beginning the bytes are. It is to be read at places.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads the bytes from some place on, as many as there is room for in `into`.
    ///
    /// # Errors
    ///
    /// There are fewer, or they cannot be read.
    pub(crate) fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<()> {
        self.file.read_exact_at(into, place)
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.store.give_back(self.length);
    }
}

/// What follows a part of a response that the request thread has not come to yet. Until it has, more
/// can be put here, and how the response ended: for neither anybody waits, and nobody is woken.
#[derive(Debug)]
pub struct Spool(Mutex<State>);

#[derive(Debug)]
enum State {
    /// More may come.
    Open(Tail),
    /// The response ends behind it.
    Ended(Tail, Outcome),
    /// Nothing can be added any more.
    Taken,
}

/// What a spool holds.
#[derive(Debug, Default)]
pub struct Tail {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// The bytes behind those, where there are more.
    pub stored: Option<Stored>,
}

impl Spool {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Open(Tail::default()))))
    }

    /// Whether the client is so far behind that something was put into the store, and still is.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(&*self.lock(), State::Open(Tail { stored: Some(_), .. }))
    }

    /// Puts a block behind what is there, in memory. `false` where the request thread has come to it, or
    /// that would be too much.
    pub(crate) fn add(&self, store: &Store, block: &[u8]) -> bool {
        match &mut *self.lock() {
            State::Open(Tail { bytes, stored: None }) if bytes.len() + block.len() <= TAIL => {
                if bytes.capacity() == 0 {
                    *bytes = store.buffer();
                }
                bytes.extend_from_slice(block);
                true
            }
            _ => false,
        }
    }

    /// Puts a block behind what is there, in the store. `false` where the request thread has come to it,
    /// or there is no room.
    pub(crate) fn append(&self, store: &Arc<Store>, block: &[u8]) -> bool {
        match &mut *self.lock() {
            State::Open(Tail { stored: Some(stored), .. }) => stored.append(block),
            State::Open(Tail { stored: none, .. }) => {
                *none = Stored::copy_of(store, block);
                none.is_some()
            }
            State::Ended(..) | State::Taken => false,
        }
    }

    /// Says how the response ended. `false` where the request thread has come to this.
    pub(crate) fn end(&self, outcome: Outcome) -> bool {
        let mut state = self.lock();
        let State::Open(tail) = &mut *state else { return false };
        *state = State::Ended(mem::take(tail), outcome);
        true
    }

    /// What is there, and how the response ended, if it has.
    pub fn take(&self) -> (Tail, Option<Outcome>) {
        match mem::replace(&mut *self.lock(), State::Taken) {
            State::Open(tail) => (tail, None),
            State::Ended(tail, outcome) => (tail, Some(outcome)),
            State::Taken => (Tail::default(), None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An empty file in memory that forked programs do not inherit; `None` where the system has none to
/// give: no descriptors, or no memory.
fn anonymous_file() -> Option<File> {
    // Kernels before 6.3 know no MFD_NOEXEC_SEAL; later ones may insist on it.
    [libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL, libc::MFD_CLOEXEC]
        .into_iter()
        .find_map(|flags| memfd(c"wsgi-response", flags))
}

fn memfd(name: &CStr, flags: c_uint) -> Option<File> {
    // SAFETY: the name is a C string, which the kernel copies.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    // SAFETY: the descriptor was just made, and is ours alone.
    (descriptor >= 0).then(|| File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(tail: &Tail) -> Vec<u8> {
        let mut bytes = tail.bytes.clone();
        if let Some(stored) = &tail.stored {
            bytes.resize(bytes.len() + usize::try_from(stored.length).unwrap(), 0);
            stored.file.read_exact_at(&mut bytes[tail.bytes.len()..], 0).unwrap();
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_was_appended_is_there_in_order_and_counted_until_it_goes(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12),
            limit in 0_u64..20_000,
        ) {
            let store = Store::new(limit);
            let spool = Spool::new();
            let mut wanted = Vec::new();
            for block in &blocks {
                let fits = (wanted.len() + block.len()) as u64 <= limit / SHARE;
                prop_assert_eq!(spool.append(&store, block), fits);
                if fits {
                    wanted.extend_from_slice(block);
                }
                prop_assert_eq!(store.used(), wanted.len() as u64);
            }
            let (tail, end) = spool.take();
            prop_assert_eq!(end, None);
            prop_assert_eq!(content(&tail), wanted);
            drop(tail);
            prop_assert_eq!(store.used(), 0);
        }

        #[test]
        fn all_together_never_keep_more_than_the_limit(
            sizes in prop::collection::vec(0_usize..200, 0..40), limit in 0_u64..1000,
        ) {
            let store = Store::new(limit);
            let kept: Vec<_> =
                sizes.iter().filter_map(|size| Stored::copy_of(&store, &vec![0; *size])).collect();
            let sum: u64 = kept.iter().map(Stored::length).sum();
            prop_assert_eq!(store.used(), sum);
            prop_assert!(sum <= limit);
            drop(kept);
            prop_assert_eq!(store.used(), 0);
        }
    }

    #[test]
    fn nothing_comes_behind_the_end_nor_behind_what_was_taken() {
        let store = Store::new(1 << 20);
        let spool = Spool::new();
        assert!(!spool.is_in_use());
        assert!(spool.append(&store, b"one") && spool.is_in_use());
        assert!(spool.end(Outcome::Complete));
        assert!(!spool.append(&store, b"two") && !spool.end(Outcome::Truncated));
        let (tail, end) = spool.take();
        assert_eq!((content(&tail), end), (b"one".to_vec(), Some(Outcome::Complete)));
        assert!(!spool.add(&store, b"two"));
        assert!(!spool.append(&store, b"two") && !spool.end(Outcome::Truncated));
        let (tail, end) = spool.take();
        assert_eq!((content(&tail), end), (Vec::new(), None));
        let empty = Spool::new();
        assert!(empty.end(Outcome::Truncated));
        assert_eq!(empty.take().1, Some(Outcome::Truncated));
    }

    #[test]
    fn what_fits_into_memory_comes_first_and_keeps_its_order() {
        let store = Store::new(1 << 20);
        let spool = Spool::new();
        assert!(spool.add(&store, b"one ") && !spool.is_in_use());
        assert!(!spool.add(&store, &vec![0; TAIL]), "that is too much for memory");
        assert!(spool.append(&store, b"two ") && spool.append(&store, b"three"));
        assert!(!spool.add(&store, b"four"), "it would come before what is stored");
        assert_eq!(content(&spool.take().0), b"one two three");
    }

    #[test]
    fn a_buffer_that_was_taken_back_is_used_again_and_few_are_kept() {
        let store = Store::new(0);
        let tail = |store: &Store| {
            let spool = Spool::new();
            assert!(spool.add(store, b"some"));
            spool.take().0.bytes
        };
        let first = tail(&store);
        let place = first.as_ptr();
        store.take_back(first);
        let second = tail(&store);
        assert_eq!((second.as_ptr(), &second[..]), (place, &b"some"[..]));
        for _ in 0..2 * SPARE {
            store.take_back(vec![0; TAIL]);
        }
        let last = store.buffer();
        store.take_back(Vec::new());
        store.take_back(vec![0; 4]);
        store.take_back(vec![0; 2 * TAIL]);
        assert_eq!(store.spare.lock().unwrap().len(), SPARE - 1);
        store.take_back(last);
        assert_eq!(store.spare.lock().unwrap().len(), SPARE);
    }
}
