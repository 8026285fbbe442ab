//! Where a worker process notes that a request has started, so that the server knows it even of a
//! process that was killed.
//!
//! It is one word in a page that both map, for each connection: noting costs no system call and wakes
//! nobody. The word is the number of the request on that connection which has started last; both sides
//! count. Only a request that has not started may be sent again, whatever its method. So what a thread
//! notes late, of a request that the server has given up, is not taken for the next one. The page cannot
//! shrink, so touching it never faults.

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A word that two processes share.
#[derive(Debug)]
pub(crate) struct Mark(NonNull<AtomicU64>);

// SAFETY: it is an atomic word in a mapping that lives as long as this does.
unsafe impl Send for Mark {}
// SAFETY: see above.
unsafe impl Sync for Mark {}

impl Mark {
    /// A clear word, and the descriptor by which another process maps it.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let page = rustix::fs::memfd_create(c"wsgi-started", flags)?;
        rustix::fs::ftruncate(&page, PAGE as u64)?;
        rustix::fs::fcntl_add_seals(&page, SEALS)?;
        Ok((Self::map(&page)?, page))
    }

    /// The word behind a descriptor that another process has sent.
    pub(crate) fn of(page: &OwnedFd) -> io::Result<Self> {
        let length = u64::try_from(rustix::fs::fstat(page)?.st_size).unwrap_or(0);
        if length != PAGE as u64 || !rustix::fs::fcntl_get_seals(page)?.contains(SEALS) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sealed page"));
        }
        Self::map(page)
    }

    fn map(page: &OwnedFd) -> io::Result<Self> {
        let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: no address is asked for, so the mapping takes the place of none.
        let place = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), PAGE, access, shared, page.as_fd(), 0)
        }?;
        Ok(Self(NonNull::new(place.cast()).expect("nothing is mapped at 0")))
    }

    /// Notes that the request of this number has started.
    pub(crate) fn set(&self, number: u64) {
        self.word().fetch_max(number, Ordering::SeqCst);
    }

    /// Takes that back.
    pub(crate) fn clear(&self, number: u64) {
        // Where a later one has started, nothing says that this one has.
        let _ = self.word().compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether the request of this number has started.
    pub(crate) fn is_set(&self, number: u64) -> bool {
        self.word().load(Ordering::SeqCst) == number
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping is aligned to a page, as long as one, and lives until `drop`; any bits
        // are a number.
        unsafe { self.0.as_ref() }
    }
}

/// Where it is noted that one request has started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) mark: Arc<Mark>,
    /// Which one it is on its connection; the first is 1.
    pub(crate) number: u64,
}

impl Started {
    pub(crate) fn set(&self) {
        self.mark.set(self.number);
    }

    pub(crate) fn clear(&self) {
        self.mark.clear(self.number);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping, and nothing else refers to it.
        let unmapped = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), PAGE) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_see_the_same_word() {
        let (ours, page) = Mark::new().unwrap();
        let theirs = Mark::of(&page).unwrap();
        drop(page);
        assert!(!ours.is_set(1) && !theirs.is_set(1));
        theirs.set(1);
        assert!(ours.is_set(1) && !ours.is_set(2));
        ours.clear(1);
        assert!(!theirs.is_set(1));
    }

    #[test]
    fn a_request_that_was_given_up_says_nothing_about_the_next_one() {
        let (mark, _) = Mark::new().unwrap();
        mark.set(1);
        assert!(!mark.is_set(2), "it has not started");
        mark.set(2);
        mark.set(1);
        mark.clear(1);
        assert!(mark.is_set(2), "it has started");
    }

    #[test]
    fn a_page_that_could_shrink_is_refused() {
        let page = rustix::fs::memfd_create(c"open", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&page, PAGE as u64).unwrap();
        assert!(Mark::of(&page).is_err());
        rustix::fs::fcntl_add_seals(&page, SEALS).unwrap();
        assert!(Mark::of(&page).is_ok());
        assert!(rustix::fs::ftruncate(&page, 0).is_err());
    }
}
