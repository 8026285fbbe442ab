//! One interpreter, and the thread states by which threads attach to it.

use super::{Attached, Attachment, Object, attached};
use crate::Gil;
use cpython_sys::*;
use std::ptr::NonNull;
use std::sync::Arc;

/// An interpreter: the main one, or a sub-interpreter (PEP 734).
#[derive(Debug)]
pub(crate) struct Interpreter {
    raw: NonNull<PyInterpreterState>,
    gil: Gil,
}

// SAFETY: the pointer is only given to functions that any thread may call while the interpreter
// lives: PyThreadState_New takes CPython's own lock, the others demand an attached thread.
unsafe impl Send for Interpreter {}
// SAFETY: see above.
unsafe impl Sync for Interpreter {}

impl Interpreter {
    /// The interpreter that `state` is a thread of.
    pub(crate) fn of(state: &ThreadState, gil: Gil) -> Self {
        // SAFETY: the state is live; its interpreter is set for its whole life and never null.
        let raw =
            unsafe { NonNull::new_unchecked(PyThreadState_GetInterpreter(state.raw.as_ptr())) };
        Self { raw, gil }
    }

    pub(crate) fn gil(&self) -> Gil {
        self.gil
    }

    /// The number by which CPython's own tools call it.
    pub(crate) fn id(&self) -> i64 {
        // SAFETY: the interpreter lives as long as its owner thread, which outlives this.
        unsafe { PyInterpreterState_GetID(self.raw.as_ptr()) }
    }

    /// A state for the current thread, or `None` where there is no memory for one.
    pub(crate) fn thread_state(&self) -> Option<ThreadState> {
        // SAFETY: the interpreter lives: its owner waits for its other threads before it ends it.
        NonNull::new(unsafe { PyThreadState_New(self.raw.as_ptr()) }).map(ThreadState::new)
    }

    /// How many threads have a state in this interpreter, ours and those its applications made.
    pub(crate) fn thread_states(&self, _py: Attached<'_>) -> usize {
        // SAFETY: attached, so no thread of this interpreter ends its state meanwhile.
        let mut state = unsafe { PyInterpreterState_ThreadHead(self.raw.as_ptr()) };
        let mut count = 0;
        while !state.is_null() {
            count += 1;
            // SAFETY: see above.
            state = unsafe { PyThreadState_Next(state) };
        }
        count
    }
}

impl Interpreter {
    /// The frames that its other threads are in, at most `most`.
    pub(crate) fn other_frames<'py>(
        &self,
        py: Attached<'py>,
        but: ThreadHandle,
        most: usize,
    ) -> Vec<Object<'py>> {
        let mut frames = Vec::new();
        // SAFETY: attached, so no thread of this interpreter ends its state meanwhile.
        let mut state = unsafe { PyInterpreterState_ThreadHead(self.raw.as_ptr()) };
        while let Some(raw) = NonNull::new(state).filter(|_| frames.len() < most) {
            let handle = ThreadHandle(raw);
            if handle != but {
                // SAFETY: the state is live, of the interpreter that this thread is attached to.
                frames.extend(unsafe { handle.frame(py) });
            }
            // SAFETY: see above.
            state = unsafe { PyThreadState_Next(state) };
        }
        frames
    }
}

/// What makes a thread one of an interpreter's. It is used on the thread it was made for, and
/// detached whenever [`ThreadState::attach`] is not running.
#[derive(Debug)]
pub(crate) struct ThreadState {
    raw: NonNull<PyThreadState>,
    /// By which others see whether it is attached, if anybody asked for that.
    attachment: Option<Arc<Attachment>>,
}

/// The address of a thread state, by which other threads of its interpreter may look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadHandle(NonNull<PyThreadState>);

// SAFETY: it is an address; whoever follows it has to promise that the state is there.
unsafe impl Send for ThreadHandle {}
// SAFETY: see above.
unsafe impl Sync for ThreadHandle {}

impl ThreadHandle {
    /// The frame that the thread is in, if it is in Python code at all.
    ///
    /// # Safety
    ///
    /// The state is live, and of the interpreter that this thread is attached to.
    pub(crate) unsafe fn frame<'py>(&self, py: Attached<'py>) -> Option<Object<'py>> {
        // SAFETY: the caller's promise; only threads that hold the GIL change their frames, and
        // this thread does; it returns a new reference, or null without an exception.
        let frame = unsafe { PyThreadState_GetFrame(self.0.as_ptr()) };
        // SAFETY: see above.
        unsafe { Object::from_owned(py, frame.cast()) }.ok()
    }
}

impl ThreadState {
    fn new(raw: NonNull<PyThreadState>) -> Self {
        Self { raw, attachment: None }
    }

    pub(super) fn raw(&self) -> NonNull<PyThreadState> {
        self.raw
    }

    /// By what other threads see whether this one has the GIL. The first of a process takes it once.
    pub(crate) fn attachment(&mut self) -> Arc<Attachment> {
        if let Some(attachment) = &self.attachment {
            return Arc::clone(attachment);
        }
        let attachment = Attachment::of(self);
        self.attachment = Some(Arc::clone(&attachment));
        attachment
    }

    /// The state is about to go.
    fn forget_attachment(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            attachment.forget();
        }
    }

    /// By what other threads may look at it.
    pub(crate) fn handle(&self) -> ThreadHandle {
        ThreadHandle(self.raw)
    }

    /// By what CPython knows the current thread, for [`Attached::interrupt`].
    pub(crate) fn ident(&self) -> libc::c_long {
        // SAFETY: it takes nothing. CPython's number of a thread is this one on Linux.
        let ident = unsafe { libc::pthread_self() };
        libc::c_long::from_ne_bytes(ident.to_ne_bytes())
    }

    /// Takes over the state that the current thread is attached by, and detaches.
    ///
    /// # Safety
    ///
    /// The thread is attached, and nothing else will end this state.
    pub(crate) unsafe fn take_current() -> Self {
        // SAFETY: the caller's promise; it fails fatally rather than return null.
        let raw = unsafe { NonNull::new_unchecked(PyEval_SaveThread()) };
        Self::new(raw)
    }

    /// Runs `body` attached to the interpreter, waiting for its GIL first.
    pub(crate) fn attach<R>(&mut self, body: impl for<'py> FnOnce(Attached<'py>) -> R) -> R {
        struct Detach;
        impl Drop for Detach {
            fn drop(&mut self) {
                // SAFETY: the thread was attached below, and every detached() has come back.
                unsafe { PyEval_SaveThread() };
            }
        }
        // SAFETY: the state is live, this thread's, and detached.
        unsafe { attached::attach(self.raw.as_ptr()) };
        let _detach = Detach;
        // SAFETY: attached from here until the guard is dropped, and the closure cannot keep it.
        body(unsafe { Attached::assume() })
    }

    /// Ends the interpreter with its last thread state, this one.
    ///
    /// # Safety
    ///
    /// The state is the only one left in a sub-interpreter, and this is the thread that made it.
    pub(crate) unsafe fn end_interpreter(mut self) {
        self.forget_attachment();
        // SAFETY: the state is live, this thread's, and detached.
        unsafe { PyEval_RestoreThread(self.raw.as_ptr()) };
        // SAFETY: the caller's promise.
        unsafe { Py_EndInterpreter(self.raw.as_ptr()) };
        std::mem::forget(self);
    }

    /// Finalises CPython; returns whether that went well.
    ///
    /// # Safety
    ///
    /// This is the main interpreter's first state, on the thread that started CPython, and no
    /// other interpreter lives.
    pub(crate) unsafe fn finalize(mut self) -> bool {
        self.forget_attachment();
        // SAFETY: the state is live, this thread's, and detached.
        unsafe { PyEval_RestoreThread(self.raw.as_ptr()) };
        std::mem::forget(self);
        // SAFETY: the caller's promise.
        unsafe { Py_FinalizeEx() == 0 }
    }

    /// Leaves the state as it is, for an interpreter that stays until the process goes.
    pub(crate) fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for ThreadState {
    fn drop(&mut self) {
        self.forget_attachment();
        // SAFETY: the state is live, this thread's, and detached.
        unsafe { PyEval_RestoreThread(self.raw.as_ptr()) };
        // SAFETY: attached by this very state.
        unsafe { PyThreadState_Clear(self.raw.as_ptr()) };
        // SAFETY: attached, and cleared; it detaches as well.
        unsafe { PyThreadState_DeleteCurrent() };
    }
}
