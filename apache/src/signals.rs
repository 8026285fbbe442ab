//! Signals that end a process of the prefork MPM, held back while its thread is in our code.
//!
//! prefork ends a child from within the signal's handler, on the thread that was interrupted, in the
//! middle of whatever it did: it runs the pools' cleanups there, and `exit`. Interrupted inside
//! `malloc` or with one of our locks, that thread would never let go of what the interpreters' threads
//! need to come to their end. So in our code these signals wait, but where httpd's own code waits for
//! the client they do not.
//!
//! The other MPMs block them on the threads that serve requests, and nothing is done here.

use crate::child;
use httpd_sys::AP_MPMQ_IS_THREADED;
use manifold::{Code, Event, Peer, Refusal};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a thread that waits for an application looks whether the process is to end.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(100);

/// The process serves requests on its first thread, which takes signals.
static NEEDED: AtomicBool = AtomicBool::new(false);

/// Holds the signals back until it is dropped.
pub(crate) struct Held(Option<libc::sigset_t>);

/// Looks which MPM this is. Called in each child before it serves.
pub(crate) fn init() {
    NEEDED.store(child::mpm(AP_MPMQ_IS_THREADED) == 0, Ordering::Relaxed);
}

/// From now on the signals wait.
pub(crate) fn hold() -> Held {
    Held(NEEDED.load(Ordering::Relaxed).then(|| change(libc::SIG_BLOCK)))
}

/// Lets the signals through while `wait` waits for the client in httpd's code.
pub(crate) fn let_through<R>(wait: impl FnOnce() -> R) -> R {
    let _blocked = NEEDED.load(Ordering::Relaxed).then(|| Held(Some(change(libc::SIG_UNBLOCK))));
    wait()
}

/// What comes next in a conversation; that the process is to end where one of the signals waits.
pub(crate) fn next(conversation: &dyn Peer) -> Event {
    if !NEEDED.load(Ordering::Relaxed) {
        return conversation.next();
    }
    loop {
        match conversation.next_within(LOOK_UP) {
            Some(event) => return event,
            None if is_pending() => {
                let detail = "the process stops before the application has answered";
                return Event::Failed(Refusal::new(Code::Stopping, detail));
            }
            None => {}
        }
    }
}

/// Whether one of the signals waits.
pub(crate) fn is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: it fills the set it is given.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: filled above.
    let is_member = |signal| unsafe { libc::sigismember(pending.as_ptr(), signal) == 1 };
    SIGNALS.into_iter().any(is_member)
}

/// Those for which prefork's handler ends the process. For a graceful stop it only makes a note.
const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGHUP];

/// Blocks or unblocks the signals, and returns the former mask.
fn change(how: libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    let mut former = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in SIGNALS {
        // SAFETY: the set was initialised above, and the number is a signal's.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: both point to sets, the first initialised, the second to be filled.
    unsafe { libc::pthread_sigmask(how, set.as_ptr(), former.as_mut_ptr()) };
    // SAFETY: pthread_sigmask filled it; it fails only for a bad first argument.
    unsafe { former.assume_init() }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(former) = &self.0 {
            // SAFETY: it is a mask that this thread had; a null third argument asks for nothing back.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, former, std::ptr::null_mut()) };
        }
    }
}
