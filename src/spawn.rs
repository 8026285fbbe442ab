//! How every thread of ours is made.

use crate::{Settings, scheduling};
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

/// Stack of a thread, whatever the server gives its own: deep recursion in an application must not
/// depend on `ThreadStackSize`.
const STACK_BYTES: usize = 8 << 20;

/// Starts a thread on which no asynchronous signal is ever delivered: httpd stops and restarts its
/// children by signals, and one that such a thread took would be lost.
///
/// # Errors
///
/// The system has no more threads or memory to give.
pub fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with_stack(name, STACK_BYTES, body)
}

/// The same for a thread of an interpreter, whose stack is as large as the settings say.
pub(crate) fn spawn_for_interpreter<T: Send + 'static>(
    settings: &Settings,
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let bytes = settings.stack_size.map_or(STACK_BYTES, NonZeroUsize::get);
    spawn_with_stack(name, bytes, body)
}

fn spawn_with_stack<T: Send + 'static>(
    name: String,
    bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread inherits its maker's mask, so there is no moment in which it could take a signal.
    let mask = block_asynchronous_signals();
    let set_policy = scheduling::of_new_thread();
    let started = std::thread::Builder::new().name(name).stack_size(bytes).spawn(move || {
        set_policy();
        body()
    });
    // SAFETY: `mask` is the mask this thread had; a null third argument asks for nothing back.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) };
    started
}

/// Blocks every signal but those a thread raises by its own fault, and returns the former mask.
fn block_asynchronous_signals() -> libc::sigset_t {
    let mut blocked = MaybeUninit::uninit();
    let mut former = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set it is given.
    unsafe { libc::sigfillset(blocked.as_mut_ptr()) };
    for fault in
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP]
    {
        // SAFETY: the set was initialised above, and the number is a signal's.
        unsafe { libc::sigdelset(blocked.as_mut_ptr(), fault) };
    }
    // SAFETY: both point to sets, the first initialised, the second to be filled.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), former.as_mut_ptr()) };
    // SAFETY: pthread_sigmask filled it; it fails only for a bad first argument.
    unsafe { former.assume_init() }
}
