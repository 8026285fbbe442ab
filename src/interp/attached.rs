//! The proof that this thread is attached to an interpreter, and may touch its objects.

use super::Object;
use cpython_sys::{
    PyEval_RestoreThread, PyEval_SaveThread, PyThreadState, PyThreadState_SetAsyncExc,
};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Proof that the current thread is attached to an interpreter: holds its GIL and may touch its
/// objects for `'py`. It cannot leave the thread, nor the closure it was given to, and `'py` is
/// different for each, so an object of one interpreter cannot be handed to another.
#[derive(Clone, Copy)]
pub(crate) struct Attached<'py> {
    /// Not `Send`.
    thread: PhantomData<*mut ()>,
    /// Neither longer nor shorter than it says.
    interpreter: PhantomData<fn(&'py ()) -> &'py ()>,
}

/// Compiles only as long as the token, and so every object, is not `Send`: otherwise the call is
/// ambiguous.
const _: fn() = || {
    trait IfSend<Which> {
        fn ambiguous() {}
    }
    impl<T> IfSend<()> for T {}
    impl<T: Send> IfSend<u8> for T {}
    <Attached<'static> as IfSend<_>>::ambiguous();
};

impl<'py> Attached<'py> {
    /// The proof, from a caller that knows.
    ///
    /// # Safety
    ///
    /// The current thread is attached to an interpreter throughout `'py`, but for calls of
    /// [`Attached::detached`].
    pub(crate) unsafe fn assume() -> Self {
        Self { thread: PhantomData, interpreter: PhantomData }
    }

    /// Has an exception of this class raised in a thread of this interpreter, as soon as it runs Python
    /// code; or none, if it has not been raised yet.
    pub(crate) fn interrupt(self, thread: libc::c_long, class: Option<&Object<'py>>) {
        let class = class.map_or(std::ptr::null_mut(), |class| class.as_ptr());
        // SAFETY: attached; it takes a reference of its own, and knows no thread that has gone.
        unsafe { PyThreadState_SetAsyncExc(thread, class) };
    }

    /// Lets the interpreter go while `wait` runs: for everything that may wait. `wait` can capture
    /// no Python object, since those are not `Send`.
    pub(crate) fn detached<R>(self, wait: impl FnOnce() -> R + Send) -> R {
        struct Reattach(*mut PyThreadState);
        impl Drop for Reattach {
            fn drop(&mut self) {
                // SAFETY: the state was this thread's a moment ago and has not been ended since:
                // an interpreter ends only after the threads that were made for it.
                unsafe { attach(self.0) }
            }
        }
        // SAFETY: the token proves that this thread is attached.
        let _reattach = Reattach(unsafe { PyEval_SaveThread() });
        wait()
    }
}

/// How often this thread has attached, and how long it has waited for the GIL then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GilWaits {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

thread_local! {
    /// All of this thread.
    static ALL: Cell<GilWaits> = const { Cell::new(GilWaits { count: 0, time: Duration::ZERO }) };
    /// What it was when it was taken last; `None` while nobody wants to know.
    static TAKEN: Cell<Option<GilWaits>> = const { Cell::new(None) };
}

impl GilWaits {
    /// Returns what was counted since the last time, and goes on counting, or stops.
    pub(crate) fn take(go_on: bool) -> Self {
        let all = Self::all();
        TAKEN.replace(go_on.then_some(all)).map_or_else(Self::default, |taken| all.since(taken))
    }

    /// Counts from now on, unless that is done already.
    pub(crate) fn start() {
        TAKEN.set(Some(TAKEN.get().unwrap_or_else(Self::all)));
    }

    /// All of this thread.
    pub(crate) fn all() -> Self {
        ALL.get()
    }

    /// What came after an earlier one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { count: self.count - earlier.count, time: self.time - earlier.time }
    }
}

/// Attaches this thread, and waits for the GIL first.
///
/// # Safety
///
/// The state is live, this thread's, and detached.
pub(super) unsafe fn attach(state: *mut PyThreadState) {
    let began = Instant::now();
    // SAFETY: the caller's promise.
    unsafe { PyEval_RestoreThread(state) };
    let waits = ALL.get();
    ALL.set(GilWaits { count: waits.count + 1, time: waits.time + began.elapsed() });
}
