//! How an interpreter is brought to its end within a bound, whatever its applications left behind.

use super::exception::Exception;
use super::{Attached, Interpreter, Kept, Object, ThreadState};
use crate::spawn::spawn;
use cpython_sys::CAN_END_INTERPRETERS;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::sync::Arc;
use std::time::Instant;

/// What an interpreter's end left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Nothing.
    Gone,
    /// The interpreter, which this CPython cannot end; no thread has anything to do in it.
    Parked,
    /// Daemon threads of its applications, which may run at any moment.
    Daemons,
    /// Threads that should have ended by the deadline.
    Late,
}

/// The functions of our Python modules that an end needs.
pub(crate) struct ExitFunctions {
    /// Waits for the threads that applications made and did not mark as daemons.
    pub(crate) join_threads: Kept,
    /// Calls what was registered with `atexit`.
    pub(crate) run_exit_callbacks: Kept,
}

/// Waits, until the deadline, for the threads that applications made and did not mark as daemons; then
/// calls what they registered with `atexit`. Returns whether those threads have ended.
///
/// The waiting happens on a thread of its own: a thread that never ends would otherwise keep the
/// `atexit` callbacks from being called at all.
pub(crate) fn wind_up(
    name: &str,
    interpreter: &Arc<Interpreter>,
    state: &mut ThreadState,
    functions: ExitFunctions,
    deadline: Instant,
) -> bool {
    let ExitFunctions { join_threads, run_exit_callbacks } = functions;
    // Half of the time for threads, so that callbacks have the rest however that goes.
    let now = Instant::now();
    let threads = now + deadline.saturating_duration_since(now) / 2;
    let (ended, joined) = bounded::<()>(1);
    let joiner = Arc::clone(interpreter);
    let started = spawn(format!("mnf-join-{name}"), move || {
        if let Some(mut state) = joiner.thread_state() {
            state.attach(|py| call(py, &join_threads.release(py), []));
        }
        drop(ended);
    });
    let joined =
        started.is_ok() && joined.recv_deadline(threads) == Err(RecvTimeoutError::Disconnected);
    state.attach(|py| call(py, &run_exit_callbacks.release(py), []));
    joined
}

/// Ends a sub-interpreter in which `state` is the only one left, where this CPython can, and says
/// whether it is gone.
pub(crate) fn end(state: ThreadState) -> bool {
    if CAN_END_INTERPRETERS {
        // SAFETY: the caller is the owner thread, and no other state is left.
        unsafe { state.end_interpreter() };
        return true;
    }
    state.abandon();
    false
}

/// Gives the memory back to the system that an interpreter has freed which was ended in a process that
/// goes on.
///
/// glibc has up to eight heaps for each core, among which it divides threads. Every interpreter has threads
/// of its own, and the heaps would keep what each of them has freed: after 40 replacements of one with
/// Flask, under load, that was some 35 MiB on two cores.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks what it works on.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(crate) fn call<'py, const N: usize>(
    py: Attached<'py>,
    function: &Object<'py>,
    arguments: [&Object<'py>; N],
) {
    if let Err(raised) = function.call(arguments) {
        let exception = Exception::take(py, raised);
        tracing::warn!("at the end of an interpreter: {}", exception.traceback().trim_end());
    }
}
