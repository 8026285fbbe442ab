//! How httpd's parent starts a worker process: by fork and exec, with nothing of its own left open.

use manifold::daemon::SERVE;
use manifold::daemon::descriptor::{COUNTERS, LIFELINE, LISTENER, ORDERS};
use rustix::fs::MemfdFlags;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a worker process is handed down.
pub(super) struct Inheritance<'a> {
    pub(super) orders: &'a [u8],
    pub(super) listener: BorrowedFd<'a>,
    pub(super) lifeline: BorrowedFd<'a>,
    /// The memory it counts in, and what it may look at.
    pub(super) counters: Vec<BorrowedFd<'a>>,
    /// Where its error log is, if that is not the parent's standard error.
    pub(super) error_log: Option<RawFd>,
}

/// Starts a process, and returns its number.
pub(super) fn start(
    program: &Path,
    title: Option<&[u8]>,
    inheritance: &Inheritance<'_>,
) -> io::Result<u32> {
    let orders = in_memory(c"wsgi-orders", inheritance.orders)?;
    // Out of the way of the numbers they are to have.
    let first = [rustix::fd::AsFd::as_fd(&orders), inheritance.listener, inheritance.lifeline];
    let all = first.into_iter().chain(inheritance.counters.iter().copied());
    let numbers = [ORDERS, LISTENER, LIFELINE].into_iter().chain(COUNTERS..);
    let last = LIFELINE + i32::try_from(inheritance.counters.len()).unwrap_or(0);
    let high = all.map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, last + 8));
    let high = high.collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<_> = high.iter().map(AsRawFd::as_raw_fd).zip(numbers).collect();
    let error_log = inheritance.error_log;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    match title {
        None => command.arg("--serve"),
        // All that a list of processes shows is this, so the program is told in another way.
        Some(title) => command.arg0(OsStr::from_bytes(title)).env(SERVE, ""),
    };
    let prepare = move || {
        if let Some(log) = error_log {
            duplicate(log, libc::STDERR_FILENO)?;
        }
        for (from, to) in &wanted {
            duplicate(*from, *to)?;
        }
        close_all_but(last)?;
        allow_signals()
    };
    // SAFETY: between fork and exec it makes system calls only, on numbers that were made before.
    unsafe { command.pre_exec(prepare) };
    // The parent waits for all its processes by itself.
    Ok(command.spawn()?.id())
}

/// Has files removed when all that hold the lifeline have gone, by a process that does nothing else: one
/// that has given root's privileges up cannot.
pub(super) fn remove_in_the_end(paths: &[&Path], lifeline: BorrowedFd<'_>) -> io::Result<()> {
    let names = paths.iter().map(|path| CString::new(path.as_os_str().as_bytes()));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    // SAFETY: httpd's parent has one thread; the new process makes system calls only.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => wait_and_remove(&names, lifeline.as_raw_fd()),
        _ => Ok(()),
    }
}

/// The whole life of that process.
fn wait_and_remove(names: &[CString], lifeline: RawFd) -> ! {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set; the third argument asks for nothing back. Nothing but the
    // end of the others ends this process.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
    let mut wanted = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    if duplicate(lifeline, libc::STDIN_FILENO).is_ok() {
        close_all_above(libc::STDIN_FILENO);
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut wanted, 1, -1) };
        for name in names {
            // SAFETY: a C string.
            unsafe { libc::unlink(name.as_ptr()) };
        }
    }
    // SAFETY: it ends the process.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor above `last`.
fn close_all_above(last: RawFd) {
    let first = u32::try_from(last + 1).expect("a small number");
    // SAFETY: nothing else runs in this process, and nothing here uses them.
    if unsafe { libc::close_range(first, u32::MAX, 0) } != 0 {
        for number in last + 1..most_descriptors() {
            // SAFETY: see above; a number that is not open is refused.
            unsafe { libc::close(number) };
        }
    }
}

/// As many as there may be, as far as one can look at each.
fn most_descriptors() -> i32 {
    // SAFETY: it returns a number.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    i32::try_from(most).unwrap_or(1024).clamp(1024, 65536)
}

/// Makes `to` the same as `from`, and inherited.
fn duplicate(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: both are numbers; what was open as `to` is closed, which nothing uses in this process.
    match unsafe { libc::dup2(from, to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Has every descriptor above `last` closed by exec. What std waits with for exec to fail stays open
/// until then.
fn close_all_but(last: RawFd) -> io::Result<()> {
    let first = u32::try_from(last + 1).expect("a small number");
    // SAFETY: it marks numbers in a process that is about to become another program.
    let marked = unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if marked == 0 {
        return Ok(());
    }
    // Before Linux 5.11: one by one.
    for number in last + 1..most_descriptors() {
        // SAFETY: see above; a number that is not open is refused.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// No signal is blocked in the program, whatever is in httpd's parent.
fn allow_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; the third argument asks for nothing back.
    let set = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file in memory that holds this.
fn in_memory(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// Both ends of a pipe by which processes see that others have gone: one to wait at, one to hold.
pub(super) fn lifeline() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: it fills the array it is given.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just made, and are ours alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}
