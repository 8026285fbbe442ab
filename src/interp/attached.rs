//! The proof that this thread is attached to an interpreter, and may touch its objects.

use cpython_sys::{PyEval_RestoreThread, PyEval_SaveThread};
use std::marker::PhantomData;

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

    /// Lets the interpreter go while `wait` runs: for everything that may wait. `wait` can capture
    /// no Python object, since those are not `Send`.
    pub(crate) fn detached<R>(self, wait: impl FnOnce() -> R + Send) -> R {
        struct Reattach(*mut cpython_sys::PyThreadState);
        impl Drop for Reattach {
            fn drop(&mut self) {
                // SAFETY: the state was this thread's a moment ago and has not been ended since:
                // an interpreter ends only after the threads that were made for it.
                unsafe { PyEval_RestoreThread(self.0) }
            }
        }
        // SAFETY: the token proves that this thread is attached.
        let _reattach = Reattach(unsafe { PyEval_SaveThread() });
        wait()
    }
}
