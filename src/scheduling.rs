//! How the kernel shares the processors between threads that compute and threads that answer at once.

use rustix::thread::{SecureComputingMode, secure_computing_mode};
use std::io;
use std::mem;

/// How long a thread may run on while others wait for its processor, in nanoseconds. The kernel's own is
/// 0.7 milliseconds on one processor, 1.4 on two, and 2.8 on eight or more.
const SLICE: u64 = 1_000_000;

/// Asks for short time slices for the calling thread and for all that it will start, if the kernel's are longer.
///
/// A thread that computes keeps its processor for a slice, and small requests beside an application that computes wait
/// for two of them at the 99th percentile. Shorter ones cost the other side: with 0.7 milliseconds what computes had an
/// eighth less of the processors, with 1 a twentieth.
///
/// Slices of a thread's own are Linux's since 6.12 (sched_setattr(2), `Documentation/scheduler/sched-eevdf.rst`);
/// before, nothing changes. Left alone are a thread with a policy other than `SCHED_OTHER` and `SCHED_BATCH`, and all
/// where a seccomp filter is in force, which may end the process for asking.
pub fn shorten_slices() {
    if secure_computing_mode().is_ok_and(|mode| mode == SecureComputingMode::Disabled) {
        // What is not granted is not missed.
        let _ = request(SLICE);
    }
}

fn request(slice: u64) -> io::Result<()> {
    let mut attributes = attributes()?;
    let shares = [libc::SCHED_OTHER, libc::SCHED_BATCH].map(libc::c_int::cast_unsigned);
    if shares.contains(&attributes.sched_policy) && attributes.sched_runtime > slice {
        attributes.sched_runtime = slice;
        // SAFETY: it reads the structure, whose size stands in it, and changes the calling thread only.
        succeeded(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    }
    Ok(())
}

/// Those of the calling thread. `sched_runtime` is its slice, or 0 where the kernel knows of none.
fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: it has integers only, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: it writes to the structure, and not more than `size`.
    succeeded(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn slice() -> u64 {
        attributes().expect("a thread may look").sched_runtime
    }

    fn in_a_thread<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(look).join().expect("it ends")
    }

    #[test]
    fn slices_are_shortened_for_a_thread_and_those_that_it_starts() {
        let usual = slice();
        let short = usual.min(SLICE / 2);
        let found = in_a_thread(move || {
            request(short).expect("a thread may ask");
            (slice(), in_a_thread(slice))
        });
        assert_eq!(found, (short, short));
        assert_eq!(slice(), usual, "those of others stay");
    }

    #[test]
    fn slices_that_are_short_already_stay() {
        let found = in_a_thread(|| {
            request(SLICE / 2).expect("a thread may ask");
            let short = slice();
            shorten_slices();
            (short, slice())
        });
        assert_eq!(found.0, found.1);
    }
}
