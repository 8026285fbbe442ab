//! Interpreters and their threads: who makes them, who may use them, who ends them.
//!
//! - [`attached`]: the proof that this thread may touch Python objects of one interpreter.
//! - [`attachment`]: whether another thread has the GIL.
//! - [`object`]: references that live no longer than that proof.
//! - [`interpreter`]: one interpreter, its thread states, and what is kept in it.
//! - [`startup`]: CPython itself, and how interpreters are made.
//! - [`ending`]: how one is brought to its end within a bound.
//! - [`exception`]: what a Python exception says.
//! - [`class`]: types that are written in Rust.

pub(crate) mod attached;
pub(crate) mod attachment;
pub(crate) mod class;
pub(crate) mod ending;
pub(crate) mod exception;
pub(crate) mod interpreter;
pub(crate) mod object;
pub(crate) mod startup;

pub(crate) use attached::Attached;
pub(crate) use attachment::Attachment;
pub(crate) use interpreter::{Interpreter, ThreadHandle, ThreadState};
pub(crate) use object::{Kept, Object, Raised};
