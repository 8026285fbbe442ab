//! The memory in which the processes of a process group count. httpd's parent makes it before it starts
//! them, so that what one has counted is there after its death, and whoever takes its place goes on
//! from there.
//!
//! A process takes a slot by a word with its number. One whose owner has gone is taken by the next that
//! wants it for the same thing; so there are as many as there have been at a time. What has no slot, since
//! there is none left or its name is too long, is counted in the first one, which is everybody's.

use super::process;
use super::slot::{Kind, Slot};
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many slots there are. Memory is used for those that were taken only.
const SLOTS: usize = 1024;

/// What the memory begins with, so that a process of another version counts nowhere else: a mark, and
/// how long it is.
const MAGIC: u64 = 0x6d6e_665f_7374_0001 ^ ((size_of::<Table>() as u64) << 16);

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

#[repr(C, align(128))]
struct Table {
    magic: AtomicU64,
    /// How many slots were ever taken; the first always is.
    used: AtomicU32,
    slots: [Slot; SLOTS],
}

/// Where a process counts that shares its counters with no other. It is there without a descriptor, and
/// takes no more memory than is used.
static ALONE: MaybeUninit<Table> = MaybeUninit::zeroed();

/// The memory of a process group, as this process sees it.
#[derive(Debug)]
pub struct Segment {
    table: NonNull<Table>,
    /// By which other processes map it.
    descriptor: Option<OwnedFd>,
    /// It is a mapping, which ends with this.
    is_mapped: bool,
}

// SAFETY: it is a table of atomic words that lives as long as this does.
unsafe impl Send for Segment {}
// SAFETY: see above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Memory for the processes of a group.
    ///
    /// # Errors
    ///
    /// There is no descriptor, or no memory.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(c"wsgi-status", flags)?;
        // Whoever may only look cannot open it once more to write, by /proc/self/fd.
        rustix::fs::fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(&memory, size_of::<Table>() as u64)?;
        rustix::fs::fcntl_add_seals(&memory, SEALS)?;
        let mut segment = Self::map(&memory, ProtFlags::READ | ProtFlags::WRITE)?;
        segment.table().magic.store(MAGIC, Ordering::Relaxed);
        segment.table().used.store(1, Ordering::Release);
        segment.descriptor = Some(memory);
        Ok(segment)
    }

    /// The counters of a process that is alone with them: the same ones each time.
    pub(super) fn alone() -> Self {
        let table = NonNull::from(&ALONE).cast();
        let segment = Self { table, descriptor: None, is_mapped: false };
        segment.table().used.fetch_max(1, Ordering::Release);
        segment
    }

    /// The memory that another process has made and passed on.
    ///
    /// # Errors
    ///
    /// It is not such memory, or of another version.
    pub(crate) fn of(memory: &OwnedFd) -> io::Result<Self> {
        Self::open(memory, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// The same for a process that may only look.
    ///
    /// # Errors
    ///
    /// See [`Self::of`].
    pub(crate) fn to_read(memory: &OwnedFd) -> io::Result<Self> {
        Self::open(memory, ProtFlags::READ)
    }

    fn open(memory: &OwnedFd, access: ProtFlags) -> io::Result<Self> {
        let foreign =
            || io::Error::new(io::ErrorKind::InvalidInput, "not counters of this version");
        let length = u64::try_from(rustix::fs::fstat(memory)?.st_size).unwrap_or(0);
        if length != size_of::<Table>() as u64
            || !rustix::fs::fcntl_get_seals(memory)?.contains(SEALS)
        {
            return Err(foreign());
        }
        let segment = Self::map(memory, access)?;
        if segment.table().magic.load(Ordering::Relaxed) == MAGIC {
            Ok(segment)
        } else {
            Err(foreign())
        }
    }

    fn map(memory: &OwnedFd, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: no address is asked for, so the mapping takes the place of none.
        let place = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Table>(),
                access,
                MapFlags::SHARED,
                memory.as_fd(),
                0,
            )
        }?;
        let table = NonNull::new(place.cast()).expect("nothing is mapped at 0");
        Ok(Self { table, descriptor: None, is_mapped: true })
    }

    /// The descriptor by which a process of the group maps it, and one by which others may only look.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub fn descriptors(&self) -> io::Result<(BorrowedFd<'_>, OwnedFd)> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it was made elsewhere");
        let descriptor = self.descriptor.as_ref().ok_or_else(missing)?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(descriptor));
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let reader = rustix::fs::open(path, flags, Mode::empty())?;
        Ok((descriptor.as_fd(), reader))
    }

    /// The slot of everybody.
    pub(super) fn others(&self) -> &Slot {
        &self.table().slots[0]
    }

    /// Those that were ever taken, without the first.
    pub(super) fn slots(&self) -> &[Slot] {
        let used = self.table().used.load(Ordering::Acquire) as usize;
        &self.table().slots[1..used.clamp(1, SLOTS)]
    }

    pub(super) fn slot(&self, index: usize) -> &Slot {
        &self.table().slots[index]
    }

    /// Takes a slot for this process, and returns its number; 0, which is everybody's, where there is
    /// none.
    pub(super) fn claim(&self, kind: Kind, name: &[u8]) -> usize {
        if name.len() > Slot::NAME {
            return 0;
        }
        let me = std::process::id();
        for (index, slot) in self.slots().iter().enumerate() {
            if slot.kind.load(Ordering::Acquire) != kind as u32 || slot.name.get() != name {
                continue;
            }
            let owner = slot.owner.load(Ordering::Acquire);
            let is_free =
                owner == 0 || !process::is_alive(owner, slot.born.load(Ordering::Relaxed));
            let (taken, seen) = (Ordering::AcqRel, Ordering::Relaxed);
            if is_free && slot.owner.compare_exchange(owner, me, taken, seen).is_ok() {
                slot.born.store(process::born(), Ordering::Relaxed);
                slot.begin();
                return index + 1;
            }
        }
        let more = |used: u32| ((used as usize) < SLOTS).then(|| used + 1);
        let (taken, seen) = (Ordering::AcqRel, Ordering::Acquire);
        let Ok(index) = self.table().used.fetch_update(taken, seen, more) else { return 0 };
        // Whatever others have written to the word, it is no place outside of the table.
        let index = (index as usize).clamp(1, SLOTS - 1);
        let slot = self.slot(index);
        slot.owner.store(me, Ordering::Relaxed);
        slot.born.store(process::born(), Ordering::Relaxed);
        slot.begin();
        slot.name.set(name);
        slot.kind.store(kind as u32, Ordering::Release);
        index
    }

    /// Gives a slot back.
    pub(super) fn release(&self, index: usize) {
        if index > 0 {
            let (me, given) = (std::process::id(), Ordering::AcqRel);
            // Somebody else's, where this process was taken for dead.
            let _ = self.slot(index).owner.compare_exchange(me, 0, given, Ordering::Relaxed);
        }
    }

    fn table(&self) -> &Table {
        // SAFETY: a mapping is aligned to a page, as long as a table, sealed at that length, and lives
        // until `drop`, and `ALONE` is a table for ever; any bits are one, those of zeroes too, and
        // whoever only looks maps it without the right to write.
        unsafe { self.table.as_ref() }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if !self.is_mapped {
            return;
        }
        // SAFETY: `map` made this mapping, and nothing else refers to it.
        let unmapped =
            unsafe { rustix::mm::munmap(self.table.as_ptr().cast(), size_of::<Table>()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::slot::{Counter, Gauge};

    #[test]
    fn what_one_process_counts_another_sees_which_may_only_look() {
        let ours = Segment::new().unwrap();
        let (writer, reader) = ours.descriptors().unwrap();
        let theirs = Segment::of(&writer.try_clone_to_owned().unwrap()).unwrap();
        let watcher = Segment::to_read(&reader).unwrap();
        assert!(Segment::of(&reader).is_err(), "it could write");
        let mode = rustix::fs::fstat(&reader).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o600, "another user could open it to write");
        let index = theirs.claim(Kind::Group, b"shop");
        theirs.slot(index).add(Counter::Requests, 3);
        for segment in [&ours, &watcher] {
            let [slot] = segment.slots() else { panic!("there is one") };
            assert_eq!((slot.name.shown().as_str(), slot.counted(Counter::Requests)), ("shop", 3));
        }
    }

    #[test]
    fn whoever_takes_the_place_of_a_dead_process_goes_on_from_what_it_has_counted() {
        let segment = Segment::new().unwrap();
        let index = segment.claim(Kind::Replica, b"shop");
        let slot = segment.slot(index);
        slot.add(Counter::Requests, 7);
        slot.set(Gauge::Serving, 2);
        assert_ne!(segment.claim(Kind::Replica, b"shop"), index, "its owner lives");
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        slot.owner.store(dead.id(), Ordering::SeqCst);
        dead.wait().unwrap();
        assert_eq!(segment.claim(Kind::Replica, b"shop"), index);
        assert_eq!((slot.counted(Counter::Requests), slot.gauge(Gauge::Serving)), (7, 0));
        segment.release(index);
        assert_ne!(segment.claim(Kind::Replica, b"news"), index, "its figures are another's");
        assert_eq!(segment.claim(Kind::Replica, b"shop"), index);
    }

    #[test]
    fn what_does_not_fit_is_counted_as_others() {
        let segment = Segment::new().unwrap();
        assert_eq!(segment.claim(Kind::Group, &[b'x'; 4096]), 0);
        for number in 1..SLOTS {
            assert_eq!(segment.claim(Kind::Group, number.to_string().as_bytes()), number);
        }
        assert_eq!(segment.claim(Kind::Group, b"one more"), 0);
        assert_eq!(segment.slots().len(), SLOTS - 1);
        segment.release(0);
        // A program that writes what it likes harms nobody but its own figures.
        segment.table().used.store(u32::MAX, Ordering::SeqCst);
        assert_eq!(segment.slots().len(), SLOTS - 1);
        assert_eq!(segment.claim(Kind::Group, b"another"), 0);
    }

    #[test]
    fn memory_that_is_no_such_is_refused() {
        let memory = rustix::fs::memfd_create(c"other", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memory, size_of::<Table>() as u64).unwrap();
        assert!(Segment::of(&memory).is_err(), "it could shrink");
        rustix::fs::fcntl_add_seals(&memory, SEALS).unwrap();
        assert!(Segment::of(&memory).is_err(), "nobody has made a table of it");
    }
}
