//! The conversation about one request: its two ends, and the table of slots they live in.
//!
//! A slot holds what every exchange needs, a channel each way and a job's buffers, and is used
//! again for later ones. Two rules make that safe:
//!
//! - Each end holds the slot until it lets go (is dropped). The last to let go empties the
//!   channels and gives the slot back, so it is never used again early.
//! - Each use has a **generation** of its own, which every message carries. A message of an older
//!   generation is dropped by the receiver.
//!
//! Who may block: the request end waits for replies; the application end waits for room in the
//! channel of replies (at most [`IN_FLIGHT`] are under way) and for body bytes. An end that lets go
//! wakes the other one, so nobody waits for somebody who has left.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

mod application;

pub use application::{ApplicationEnd, Link};

use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, MutexGuard, Receiver, Sender, bounded};
use crate::wait::{For, receive};
use crate::{Answer, Job, LogEntry, Reply, Store};
use slab::Slab;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

/// How many replies may be under way to a request thread that is busy with a slow client.
pub const IN_FLIGHT: usize = 4;

/// The other end has let go: nobody reads what is sent, and nothing more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Who looks at what a request end was sent, where nobody waits for it.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// There may be something. Called by whichever thread has sent it, which may be attached to an
    /// interpreter, so this neither waits nor takes long.
    fn heard(&self);
}

/// All exchanges of a process.
#[derive(Debug)]
pub struct Exchanges {
    table: Mutex<Table>,
    limit: usize,
    interrupted: AtomicBool,
    /// What responses keep for slow clients.
    store: Arc<Store>,
}

#[derive(Debug, Default)]
struct Table {
    live: Slab<Arc<Slot>>,
    spare: Vec<Arc<Slot>>,
    /// The generation of the exchange opened last; no two exchanges have the same.
    generation: u64,
}

/// What exchanges use one after the other.
#[derive(Debug)]
struct Slot {
    /// Of the exchange that has it now.
    generation: AtomicU64,
    /// How many ends still hold it: two, one, and then it is spare.
    holders: AtomicU8,
    /// An interpreter thread has taken the job.
    started: AtomicBool,
    /// The request end has let go.
    request_gone: AtomicBool,
    /// The application end has said how it ended.
    ended: AtomicBool,
    /// Only one thread of an application speaks at a time; others wait here, detached.
    turn: Mutex<()>,
    /// The buffers of a job, while no job uses them.
    job: Mutex<Option<Box<Job>>>,
    replies: Channel<Message>,
    answers: Channel<Option<Answer>>,
}

#[derive(Debug)]
struct Channel<T> {
    sender: Sender<Tagged<T>>,
    receiver: Receiver<Tagged<T>>,
}

#[derive(Debug)]
struct Tagged<T> {
    generation: u64,
    message: T,
}

#[derive(Debug)]
enum Message {
    Reply(Reply),
    /// The application end has let go without having said how it ended.
    Lost,
    /// Look at [`Exchanges::interrupted`].
    Interrupt,
    /// The job waits for a thread again.
    Again,
}

impl Message {
    /// The log entry it carries: what an application has logged is not thrown away.
    fn into_log(self) -> Option<LogEntry> {
        match self {
            Self::Reply(Reply::Log(entry)) => Some(entry),
            _ => None,
        }
    }
}

impl Exchanges {
    /// A table for at most `limit` exchanges at a time, whose responses keep nothing for slow
    /// clients.
    pub fn new(limit: usize) -> Arc<Self> {
        Self::with_store(limit, Store::new(0))
    }

    /// The same, with room for what responses keep.
    pub fn with_store(limit: usize, store: Arc<Store>) -> Arc<Self> {
        let interrupted = AtomicBool::new(false);
        Arc::new(Self { table: Mutex::default(), limit, interrupted, store })
    }

    /// Opens an exchange about the job that `fill` writes, or `None` at the limit.
    pub fn open(
        self: &Arc<Self>,
        fill: impl FnOnce(&mut Job),
    ) -> Option<(RequestEnd, ApplicationEnd)> {
        self.open_with(None, fill)
    }

    /// The same, where somebody listens at the request end.
    pub(crate) fn open_with(
        self: &Arc<Self>,
        listener: Option<Weak<dyn Listener>>,
        fill: impl FnOnce(&mut Job),
    ) -> Option<(RequestEnd, ApplicationEnd)> {
        let (slot, key, generation) = {
            let mut table = self.lock();
            if table.live.len() >= self.limit {
                return None;
            }
            let slot = table.spare.pop().unwrap_or_default();
            table.generation += 1;
            let generation = table.generation;
            slot.open(generation);
            let key = table.live.insert(Arc::clone(&slot));
            (slot, key, generation)
        };
        let hold = |slot| Hold { exchanges: Arc::clone(self), slot, key, generation };
        let request = RequestEnd { hold: hold(Arc::clone(&slot)) };
        let link = Link::new(hold(Arc::clone(&slot)), listener);
        // Both ends are there: should `fill` panic, they let go.
        let mut job = lock(&slot.job).take().unwrap_or_default();
        fill(&mut job);
        Some((request, ApplicationEnd::new(job, link)))
    }

    /// How many exchanges have an end that has not let go.
    pub fn live(&self) -> usize {
        self.lock().live.len()
    }

    /// Wakes every request end, now and from now on: [`RequestEnd::next`] says [`Next::Interrupted`].
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        for (_, slot) in &self.lock().live {
            let generation = slot.generation.load(Ordering::Relaxed);
            // A full channel wakes its reader as well, which then looks at the flag.
            let _ =
                slot.replies.sender.try_send(Tagged { generation, message: Message::Interrupt });
            // A request end that has left meanwhile may have made room before this took it.
            if slot.request_gone.load(Ordering::SeqCst) {
                slot.replies.drain().filter_map(Message::into_log).for_each(LogEntry::write_alone);
            }
        }
    }

    /// Whether [`Exchanges::interrupt`] was called.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(0),
            holders: AtomicU8::new(0),
            started: AtomicBool::new(false),
            request_gone: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            turn: Mutex::default(),
            job: Mutex::default(),
            replies: Channel::new(IN_FLIGHT),
            answers: Channel::new(1),
        }
    }
}

impl Slot {
    /// Makes a spare slot that of a new exchange. The table's lock, which both this and giving
    /// back happen under, orders these writes.
    fn open(&self, generation: u64) {
        debug_assert_eq!(self.holders.load(Ordering::Relaxed), 0, "a slot in use was opened");
        self.generation.store(generation, Ordering::Relaxed);
        self.started.store(false, Ordering::Relaxed);
        self.request_gone.store(false, Ordering::Relaxed);
        self.ended.store(false, Ordering::Relaxed);
        self.holders.store(2, Ordering::Relaxed);
    }
}

impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self { sender, receiver }
    }

    /// What is in it, taken out.
    fn drain(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).map(|tagged| tagged.message)
    }
}

/// An end's hold on its slot. Dropping it lets go.
#[derive(Debug)]
struct Hold {
    exchanges: Arc<Exchanges>,
    slot: Arc<Slot>,
    key: usize,
    generation: u64,
}

impl Hold {
    fn tag<T>(&self, message: T) -> Tagged<T> {
        Tagged { generation: self.generation, message }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // AcqRel: what the other end did with the slot happened before it is emptied here.
        if self.slot.holders.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut table = self.exchanges.lock();
        let slot = table.live.remove(self.key);
        debug_assert!(Arc::ptr_eq(&slot, &self.slot), "a slot was given back twice");
        // Under the lock, since `Exchanges::interrupt` sends to live slots under it.
        let late: Vec<_> = slot.replies.drain().filter_map(Message::into_log).collect();
        slot.answers.drain().for_each(drop);
        table.spare.push(slot);
        drop(table);
        late.into_iter().for_each(LogEntry::write_alone);
    }
}

/// The end of the thread that serves the client.
#[derive(Debug)]
pub struct RequestEnd {
    hold: Hold,
}

/// What [`RequestEnd::next`] met.
#[derive(Debug)]
pub enum Next {
    /// The application says something.
    Reply(Reply),
    /// The time is over and the application has said nothing.
    Timeout,
    /// The application end was lost: its thread panicked, or the job was thrown away.
    Lost,
    /// The process stops, and no more waiting is wanted.
    Interrupted,
}

impl RequestEnd {
    /// Waits for the next reply, no longer than `timeout` where one is given.
    pub fn next(&self, timeout: Option<Duration>) -> Next {
        let receiver = &self.hold.slot.replies.receiver;
        self.next_of(|| receive(For::Answer, receiver, timeout))
    }

    /// The next reply that is there; [`Next::Timeout`] where none is.
    pub(crate) fn try_next(&self) -> Next {
        self.next_of(|| self.hold.slot.replies.receiver.try_recv().ok())
    }

    /// The next reply of those that `receive` finds, until that finds none.
    fn next_of(&self, receive: impl Fn() -> Option<Tagged<Message>>) -> Next {
        loop {
            if self.hold.exchanges.interrupted() {
                return Next::Interrupted;
            }
            // The slot keeps a sender, so the channel is never disconnected.
            let Some(tagged) = receive() else { return Next::Timeout };
            if tagged.generation != self.hold.generation {
                continue;
            }
            match tagged.message {
                Message::Reply(reply) => return Next::Reply(reply),
                Message::Lost => return Next::Lost,
                Message::Again => return Next::Timeout,
                Message::Interrupt => {}
            }
        }
    }

    /// What the application has logged by now and was not yet heard. Anything else that it has said is
    /// dropped, so this is for the end.
    pub fn logged(&self) -> impl Iterator<Item = LogEntry> {
        self.hold.slot.replies.drain().filter_map(Message::into_log)
    }

    /// What responses of this process keep for slow clients.
    pub fn store(&self) -> &Arc<Store> {
        &self.hold.exchanges.store
    }

    /// Answers a question.
    pub fn answer(&self, answer: Answer) {
        // There is room: the application asks one thing at a time.
        let _ = self.hold.slot.answers.sender.try_send(self.hold.tag(Some(answer)));
    }

    /// Whether an interpreter thread has taken the job.
    pub fn started(&self) -> bool {
        self.hold.slot.started.load(Ordering::Acquire)
    }
}

impl Drop for RequestEnd {
    fn drop(&mut self) {
        let slot = &self.hold.slot;
        slot.request_gone.store(true, Ordering::SeqCst);
        // In this order: an application that still saw us here now finds room for what it sends,
        // and one that waits for an answer gets this one.
        self.logged().for_each(LogEntry::write_alone);
        let _ = slot.answers.sender.try_send(self.hold.tag(None));
    }
}

/// The data behind our locks is right at every step, so a panic elsewhere does not poison it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
