//! Bytes of responses that wait for slow clients, outside of any interpreter.
//!
//! What a client is behind with is copied here, twice where need be: by the application's thread when
//! the request thread is busy with the client, and by that one when it can leave the rest to the web
//! server. Then neither waits. It is an anonymous file in memory (`memfd_create`), since that is what
//! a web server can have the kernel send (sendfile). What all responses of a process keep here is
//! bounded by its [`Store`]; where that has no room, they wait.

use crate::spool::Blocks;
use std::ffi::{CStr, c_uint};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One response may have this part of the store at each of its two places, so that some endless ones
/// leave room for others: where the application puts it, and where the request thread does.
const SHARE: u64 = 8;

/// How many bytes a part may have, and how many may follow it in memory, before a store is asked.
pub(crate) const TAIL: usize = 256 << 10;

/// How many buffers for copies of that are kept, since a new one costs a page fault for each page.
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

    /// A buffer of [`TAIL`] bytes, with nothing in it.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(TAIL))
    }

    /// Takes back what followed a part, once it was sent: gives back what was lent, and uses the buffer of the
    /// copies again.
    pub fn reuse(&self, blocks: Blocks) {
        let mut bytes = blocks.into_copies();
        // Only one of ours: a larger one would be kept for good.
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
    /// Nothing yet; `None` where the system has no file to give.
    pub fn nothing(store: &Arc<Store>) -> Option<Self> {
        Some(Self { file: anonymous_file()?, length: 0, store: Arc::clone(store) })
    }

    /// Copies a block, if there is room for it.
    pub(crate) fn copy_of(store: &Arc<Store>, block: &[u8]) -> Option<Self> {
        if block.len() as u64 > store.share() {
            return None;
        }
        let mut stored = Self::nothing(store)?;
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

    proptest! {
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
}
