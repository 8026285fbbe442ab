//! What exchanges and queues are built on when `scripts/loom` tries every order of steps: loom's own
//! locks and atomics, and what loom does not have. Only tests in `orders` may use it, inside
//! `loom::model`.
//!
//! The code of `exchange.rs` and `queue.rs` is the real one. What stands in for something else:
//!
//! - Channels are queues behind a lock. All of them have room for one message, so that they are
//!   full after one step and not after four.
//! - Time passes at once: a wait with a timeout is over when there is nothing to receive.
//! - `AtomicU8`, which counts the holders of a slot, also checks that whoever lets go last sees
//!   what the others had done by the time they let go.
//! - `Arc` is not modelled, so a test must not rely on the order in which clones of a link go.

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use loom::sync::Condvar;
use loom::sync::atomic::AtomicUsize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// How many messages a channel has room for.
const ROOM: usize = 1;

#[derive(Debug)]
struct Queue<T> {
    messages: Mutex<VecDeque<T>>,
    changed: Condvar,
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Queue<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Queue<T>>);

pub(crate) fn bounded<T>(_capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue { messages: Mutex::default(), changed: Condvar::new() });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.messages.lock().expect("no thread panicked")
    }

    fn wait<'a>(&self, messages: MutexGuard<'a, VecDeque<T>>) -> MutexGuard<'a, VecDeque<T>> {
        self.changed.wait(messages).expect("no thread panicked")
    }
}

impl<T> Sender<T> {
    /// As if the time were over at once.
    pub(crate) fn send_timeout(&self, message: T, _: Duration) -> Result<(), TrySendError<T>> {
        self.try_send(message)
    }

    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut messages = self.0.lock();
        while messages.len() == ROOM {
            messages = self.0.wait(messages);
        }
        messages.push_back(message);
        self.0.changed.notify_all();
        Ok(())
    }

    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut messages = self.0.lock();
        if messages.len() == ROOM {
            return Err(TrySendError::Full(message));
        }
        messages.push_back(message);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let mut messages = self.0.lock();
        loop {
            if let Some(message) = messages.pop_front() {
                self.0.changed.notify_all();
                return Ok(message);
            }
            messages = self.0.wait(messages);
        }
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let message = self.0.lock().pop_front();
        self.0.changed.notify_all();
        message.ok_or(TryRecvError::Empty)
    }

    pub(crate) fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        self.try_recv().map_err(|_| RecvTimeoutError::Timeout)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// As [`Receiver::recv`], or [`Receiver::recv_timeout`].
pub(crate) fn receive_asleep<T>(receiver: &Receiver<T>, limit: Option<Duration>) -> Option<T> {
    match limit {
        None => receiver.recv().ok(),
        Some(limit) => receiver.recv_timeout(limit).ok(),
    }
}

/// The holders of a slot, two at most. Each leaves a note before it lets go, in a way that orders
/// nothing by itself; the last one must find all of them.
#[derive(Debug)]
pub(crate) struct AtomicU8 {
    count: AtomicUsize,
    leaving: AtomicUsize,
    notes: [AtomicBool; 2],
}

impl AtomicU8 {
    pub(crate) fn new(count: u8) -> Self {
        Self {
            count: AtomicUsize::new(count.into()),
            leaving: AtomicUsize::new(0),
            notes: [AtomicBool::new(false), AtomicBool::new(false)],
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u8 {
        self.count.load(order).try_into().expect("it is small")
    }

    pub(crate) fn store(&self, count: u8, order: Ordering) {
        self.leaving.store(0, Ordering::Relaxed);
        for note in &self.notes {
            note.store(false, Ordering::Relaxed);
        }
        self.count.store(count.into(), order);
    }

    pub(crate) fn fetch_sub(&self, count: u8, order: Ordering) -> u8 {
        let place = self.leaving.fetch_add(1, Ordering::Relaxed);
        self.notes[place].store(true, Ordering::Relaxed);
        let before = self.count.fetch_sub(count.into(), order);
        if before == 1 {
            let found = |note: &AtomicBool| note.load(Ordering::Relaxed);
            assert!(
                self.notes.iter().all(found),
                "the last to let go does not see what the other end did"
            );
        }
        before.try_into().expect("it is small")
    }
}
