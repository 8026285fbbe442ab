//! The application's end of an exchange: its job, and the link on which it talks.

use super::{Gone, Hold, Listener, Message, lock};
use crate::sync::AtomicBool;
use crate::wait::{For, receive};
use crate::{Answer, Job, LogEntry, Outcome, Part, Reply, Store};
use crossbeam_channel::TrySendError;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError, Weak};
use std::time::Duration;

/// How long lines for the log wait for a request thread that is busy with its client.
const LOG_PATIENCE: Duration = Duration::from_millis(250);

/// The end of the interpreter thread: the job, and the link on which to talk about it.
#[derive(Debug)]
pub struct ApplicationEnd {
    /// There until this is dropped.
    job: Option<Box<Job>>,
    link: Arc<Link>,
}

impl ApplicationEnd {
    pub(super) fn new(job: Box<Job>, link: Arc<Link>) -> Self {
        Self { job: Some(job), link }
    }

    /// What is to be done.
    pub fn job(&self) -> &Job {
        self.job.as_ref().expect("it is taken by nobody else")
    }

    /// Says that a thread has taken the job.
    pub fn start(&self) {
        self.link.start();
        if let Some(started) = &self.job().started {
            started.set();
        }
    }

    /// Says that the job waits for a thread again, elsewhere. Nothing was sent to the client.
    pub(crate) fn wait_again(&self) {
        if let Some(started) = &self.job().started {
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
        if let Some(mut job) = self.job.take() {
            job.clear();
            *lock(&self.link.hold.slot.job) = Some(job);
        }
    }
}

/// The application's half of the conversation. Every method may wait for the request thread, so a
/// thread that is attached to an interpreter detaches first.
#[derive(Debug)]
pub struct Link {
    pub(super) hold: Hold,
    listener: Option<Weak<dyn Listener>>,
    /// The request thread has taken no line for a while.
    held_up: AtomicBool,
}

/// What comes of a reply that is not to wait.
#[derive(Debug)]
enum AtOnce {
    Sent,
    /// There is no room now, or another thread of the application speaks.
    Busy(Reply),
    /// The request end has let go.
    Gone(Reply),
}

impl Link {
    pub(super) fn new(hold: Hold, listener: Option<Weak<dyn Listener>>) -> Arc<Self> {
        Arc::new(Self { hold, listener, held_up: AtomicBool::new(false) })
    }

    pub(super) fn start(&self) {
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

    /// Sends a part of the response that is not its last, without waiting. It comes back where there is
    /// no room now, or another thread of the application speaks.
    ///
    /// # Errors
    ///
    /// The request end has let go.
    pub fn respond_at_once(&self, part: Part) -> Result<Option<Part>, Gone> {
        match self.send_at_once(Reply::Response(part)) {
            AtOnce::Sent => Ok(None),
            AtOnce::Gone(_) => Err(Gone),
            AtOnce::Busy(Reply::Response(part)) => Ok(Some(part)),
            AtOnce::Busy(other) => unreachable!("a part was sent and {other:?} came back"),
        }
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
        match self.send_at_once(last) {
            AtOnce::Busy(last) => Some(last),
            AtOnce::Sent | AtOnce::Gone(_) => None,
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
            let tagged =
                receive(For::Answer, &self.hold.slot.answers.receiver, None).ok_or(Gone)?;
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
        match self.send_at_once(Reply::Log(entry)) {
            AtOnce::Sent => Ok(()),
            AtOnce::Busy(Reply::Log(entry)) | AtOnce::Gone(Reply::Log(entry)) => Err(entry),
            other => unreachable!("a log entry was sent and {other:?} came back"),
        }
    }

    /// Hands over lines for the error log that [`Link::log`] had no room for, and waits for it. So
    /// lines keep their order, and an application that logs faster than the log is written waits. But
    /// not for long: where a slow client holds the request thread up, they are logged without their
    /// request, and from then on no line waits until there is room again.
    pub fn log_waiting(&self, entry: LogEntry) {
        let _turn = lock(&self.hold.slot.turn);
        if self.request_gone() {
            return entry.write_alone();
        }
        let tagged = self.hold.tag(Message::Reply(Reply::Log(entry)));
        let sender = &self.hold.slot.replies.sender;
        let sent = match self.held_up.load(Ordering::Relaxed) {
            true => sender.try_send(tagged).map_err(TrySendError::into_inner),
            false => sender.send_timeout(tagged, LOG_PATIENCE).map_err(|it| it.into_inner()),
        };
        self.held_up.store(sent.is_err(), Ordering::Relaxed);
        match sent {
            Ok(()) => self.tell(),
            Err(refused) => {
                refused.message.into_log().into_iter().for_each(LogEntry::write_alone);
            }
        }
    }

    /// Within a turn as well: a request end that leaves makes room for the one message that may come too
    /// late, not for several.
    fn send_at_once(&self, reply: Reply) -> AtOnce {
        let _turn = match self.hold.slot.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return AtOnce::Busy(reply),
        };
        if self.request_gone() {
            return AtOnce::Gone(reply);
        }
        let tagged = self.hold.tag(Message::Reply(reply));
        let Err(refused) = self.hold.slot.replies.sender.try_send(tagged) else {
            self.tell();
            return AtOnce::Sent;
        };
        match refused.into_inner().message {
            Message::Reply(reply) => AtOnce::Busy(reply),
            other => unreachable!("a reply was sent and {other:?} came back"),
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
