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

use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, MutexGuard, Receiver, Sender, bounded};
use crate::{Answer, Job, LogEntry, Outcome, Part, Reply, Store};
use crossbeam_channel::TrySendError;
use slab::Slab;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError, Weak};
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
    job: Mutex<Box<Job>>,
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
        let link = Arc::new(Link { hold: hold(Arc::clone(&slot)), listener });
        // Both ends are there: should `fill` panic, they let go.
        let mut job = std::mem::take(&mut *lock(&slot.job));
        fill(&mut job);
        Some((request, ApplicationEnd { job, link }))
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
        self.next_of(|| match timeout {
            Some(timeout) => receiver.recv_timeout(timeout).ok(),
            None => receiver.recv().ok(),
        })
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

/// The end of the interpreter thread: the job, and the link on which to talk about it.
#[derive(Debug)]
pub struct ApplicationEnd {
    job: Box<Job>,
    link: Arc<Link>,
}

impl ApplicationEnd {
    /// What is to be done.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Says that a thread has taken the job.
    pub fn start(&self) {
        self.link.start();
        if let Some(started) = &self.job.started {
            started.set();
        }
    }

    /// Says that the job waits for a thread again, elsewhere. Nothing was sent to the client.
    pub(crate) fn wait_again(&self) {
        if let Some(started) = &self.job.started {
            started.clear();
        }
        self.link.wait_again();
    }

    /// The application's half of the conversation. The slot is held until every clone is gone.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for ApplicationEnd {
    fn drop(&mut self) {
        self.job.clear();
        *lock(&self.link.hold.slot.job) = std::mem::take(&mut self.job);
    }
}

/// The application's half of the conversation. Every method may wait for the request thread, so a
/// thread that is attached to an interpreter detaches first.
#[derive(Debug)]
pub struct Link {
    hold: Hold,
    listener: Option<Weak<dyn Listener>>,
}

impl Link {
    fn start(&self) {
        self.hold.slot.started.store(true, Ordering::Release);
    }

    fn wait_again(&self) {
        self.hold.slot.started.store(false, Ordering::Release);
        // Where there is no room, what fills it wakes the request end just as well.
        let message = self.hold.tag(Message::Again);
        let _ = self.hold.slot.replies.sender.try_send(message);
        self.tell();
    }

    /// Something was sent.
    fn tell(&self) {
        if let Some(listener) = self.listener.as_ref().and_then(Weak::upgrade) {
            listener.heard();
        }
    }

    /// Whether the request end has let go.
    pub fn request_gone(&self) -> bool {
        self.hold.slot.request_gone.load(Ordering::SeqCst)
    }

    /// What responses of this process keep for slow clients.
    pub fn store(&self) -> &Arc<Store> {
        &self.hold.exchanges.store
    }

    /// How the response ended is part of what was sent already.
    pub fn set_ended(&self) {
        self.hold.slot.ended.store(true, Ordering::Relaxed);
    }

    /// Sends a part of the response, waiting for room.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn respond(&self, part: Part) -> Result<(), Gone> {
        if part.end.is_some() {
            self.hold.slot.ended.store(true, Ordering::Relaxed);
        }
        let _turn = lock(&self.hold.slot.turn);
        self.send(Message::Reply(Reply::Response(part)))
    }

    /// Sends a part of the response that is not its last, waiting for room for no longer than `limit`.
    /// Where there was none, the part comes back.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn respond_within(&self, part: Part, limit: Duration) -> Result<Option<Part>, Gone> {
        let _turn = lock(&self.hold.slot.turn);
        if self.request_gone() {
            return Err(Gone);
        }
        let tagged = self.hold.tag(Message::Reply(Reply::Response(part)));
        let Err(refused) = self.hold.slot.replies.sender.send_timeout(tagged, limit) else {
            self.tell();
            return Ok(None);
        };
        match refused.into_inner().message {
            Message::Reply(Reply::Response(part)) => Ok(Some(part)),
            other => unreachable!("a part was sent and {other:?} came back"),
        }
    }

    /// Says how the response ended, where no part has said it yet.
    pub fn end(&self, outcome: Outcome) {
        let part = Part { end: Some(outcome), ..Part::default() };
        // A request end that has let go does not want to know.
        let _ = self.respond(part);
    }

    /// Sends the last message of an exchange.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn conclude(&self, last: Reply) -> Result<(), Gone> {
        self.hold.slot.ended.store(true, Ordering::Relaxed);
        let _turn = lock(&self.hold.slot.turn);
        self.send(Message::Reply(last))
    }

    /// Sends the last message of an exchange, without waiting. It comes back where there is no room
    /// now, or another thread of the application speaks.
    pub fn conclude_at_once(&self, last: Reply) -> Option<Reply> {
        self.hold.slot.ended.store(true, Ordering::Relaxed);
        let _turn = match self.hold.slot.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Some(last),
        };
        if self.request_gone() {
            return None;
        }
        let tagged = self.hold.tag(Message::Reply(last));
        let Err(refused) = self.hold.slot.replies.sender.try_send(tagged) else {
            self.tell();
            return None;
        };
        match refused.into_inner().message {
            Message::Reply(last) => Some(last),
            other => unreachable!("a reply was sent and {other:?} came back"),
        }
    }

    /// Asks for bytes of the body and waits for them.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn ask(&self, at_least: usize, at_most: usize) -> Result<Answer, Gone> {
        self.question(Reply::Ask { at_least, at_most })
    }

    /// Asks for a variable of the encrypted connection and waits for its value.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn ask_variable(&self, name: Vec<u8>) -> Result<Option<Vec<u8>>, Gone> {
        match self.question(Reply::AskVariable(name))? {
            Answer::Variable(value) => Ok(value),
            Answer::Body { .. } | Answer::Failed => Ok(None),
        }
    }

    fn question(&self, question: Reply) -> Result<Answer, Gone> {
        let _turn = lock(&self.hold.slot.turn);
        self.send(Message::Reply(question))?;
        loop {
            let tagged = self.hold.slot.answers.receiver.recv().map_err(|_| Gone)?;
            if tagged.generation == self.hold.generation {
                return tagged.message.ok_or(Gone);
            }
        }
    }

    /// Hands over lines for the error log, without waiting.
    ///
    /// # Errors
    ///
    /// The request thread is busy or has gone, or another thread of the application speaks; the
    /// entry comes back.
    pub fn log(&self, entry: LogEntry) -> Result<(), LogEntry> {
        // Within a turn as well: a request end that leaves makes room for the one message that may
        // come too late, not for several.
        let _turn = match self.hold.slot.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(entry),
        };
        if self.request_gone() {
            return Err(entry);
        }
        let tagged = self.hold.tag(Message::Reply(Reply::Log(entry)));
        let Err(refused) = self.hold.slot.replies.sender.try_send(tagged) else {
            self.tell();
            return Ok(());
        };
        match refused.into_inner().message {
            Message::Reply(Reply::Log(entry)) => Err(entry),
            other => unreachable!("a log entry was sent and {other:?} came back"),
        }
    }

    /// Hands over lines for the error log that [`Link::log`] had no room for, and waits for it. So
    /// lines keep their order, and an application that logs faster than the log is written waits.
    pub fn log_waiting(&self, entry: LogEntry) {
        let _turn = lock(&self.hold.slot.turn);
        if self.request_gone() {
            return entry.write_alone();
        }
        let tagged = self.hold.tag(Message::Reply(Reply::Log(entry)));
        match self.hold.slot.replies.sender.send(tagged) {
            Ok(()) => self.tell(),
            Err(refused) => {
                refused.into_inner().message.into_log().into_iter().for_each(LogEntry::write_alone);
            }
        }
    }

    fn send(&self, message: Message) -> Result<(), Gone> {
        if self.request_gone() {
            return Err(Gone);
        }
        self.hold.slot.replies.sender.send(self.hold.tag(message)).map_err(|_| Gone)?;
        self.tell();
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.hold.slot.ended.load(Ordering::Relaxed) || self.request_gone() {
            return;
        }
        // Nothing else will come, so waiting for room is waiting for the reader only.
        let lost = self.hold.tag(Message::Lost);
        if let Err(TrySendError::Full(lost)) = self.hold.slot.replies.sender.try_send(lost) {
            let _ = self.hold.slot.replies.sender.send(lost);
        }
        self.tell();
    }
}

/// The data behind our locks is right at every step, so a panic elsewhere does not poison it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
