//! The worker process's end of a connection: requests come in, one at a time, and what their
//! applications say goes out.
//!
//! No thread waits at a connection. The server's thread reads what has come. What goes out is written by
//! the thread that has it, which is mostly the one that has called the application: that saves waking
//! another. Where the socket has no room the rest waits until the server's thread sees that there is
//! some, and the application with it, beyond the bound of its exchange.
#![forbid(unsafe_code)]

use super::channel::{Channel, Input, Lost, Output};
use super::server::Server;
use super::wire::{self, FromServer, LONGEST};
use super::{Mark, Started};
use crate::exchange::Listener;
use crate::queue::PATIENCE;
use crate::wsgi::now;
use crate::{
    Answer, Code, Conversation, Event, FilePart, GroupName, Head, Job, Outcome, PIECE, Part, Peer,
    Refusal, Reload, Reply, Stored, Tail, Unsent,
};
use rustix::event::epoll;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Connection {
    server: Arc<Server>,
    /// What it is called among those that are waited for.
    key: u64,
    /// It does not block.
    socket: UnixStream,
    /// Whether its request has started.
    mark: Arc<Mark>,
    /// The server's thread alone reads.
    reading: Mutex<Reading>,
    /// Never held while anybody waits.
    writing: Mutex<Writing>,
}

#[derive(Debug)]
struct Reading {
    input: Input,
    job: Job,
}

#[derive(Debug)]
struct Writing {
    state: State,
    /// How many requests have come.
    number: u64,
    /// The number of the request that has asked for something, until that was answered.
    asked: Option<u64>,
    /// No request is taken after the one that is under way.
    last: bool,
    output: Output,
    /// What follows, out of a file in memory.
    behind: Option<Behind>,
    /// It is waited for until the socket has room.
    waits: bool,
}

#[derive(Debug)]
enum State {
    /// The next request is waited for.
    Idle,
    /// A request is under way.
    Busy(Request),
    /// The connection is of no more use.
    Closed,
}

#[derive(Debug)]
struct Request {
    /// Until it has said its last word.
    conversation: Option<Conversation>,
    /// When its times are to be looked after.
    look: Instant,
    /// It is request-timeout of the process group that it has to keep to.
    by_group: bool,
    is_idle_talk: bool,
    /// Nothing comes behind what waits to be sent.
    ended: bool,
}

#[derive(Debug)]
struct Behind {
    stored: Stored,
    done: u64,
    end: Option<Outcome>,
}

/// What a connection has for the server's thread to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// A request has begun, whose times are to be looked after from then on.
    Began(Instant),
    /// The connection is of no more use.
    Lost,
}

impl Connection {
    pub(super) fn new(server: &Arc<Server>, key: u64, channel: Channel, mark: Mark) -> Arc<Self> {
        let (socket, input) = channel.into_parts();
        let mut output = Output::default();
        wire::welcome(output.frames());
        let writing = Writing {
            state: State::Idle,
            number: 0,
            asked: None,
            last: false,
            output,
            behind: None,
            // For the welcome.
            waits: true,
        };
        Arc::new(Self {
            server: Arc::clone(server),
            key,
            socket,
            mark: Arc::new(mark),
            reading: Mutex::new(Reading { input, job: Job::default() }),
            writing: Mutex::new(writing),
        })
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether its request has started and not ended.
    pub(super) fn is_serving(&self) -> bool {
        let writing = self.writing();
        matches!(writing.state, State::Busy(_)) && self.mark.is_set(writing.number)
    }

    /// Takes no more requests, and says so where none is under way.
    pub(super) fn close(&self) {
        let mut writing = self.writing();
        writing.last = true;
        if matches!(writing.state, State::Idle) {
            wire::goaway(writing.output.frames());
            // Whoever reads nothing sees the end all the same.
            let _ = writing.output.flush(&self.socket);
            self.shut(&mut writing);
        }
    }

    /// Hears what has come.
    pub(super) fn hear(self: &Arc<Self>) -> Heard {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { input, job } = &mut *reading;
        let mut heard = Heard::Nothing;
        loop {
            job.clear();
            let frame = match input.receive(&self.socket, LONGEST) {
                Ok(frame) => wire::from_server(frame.kind, frame.content, job),
                Err(Lost::TimedOut) => return heard,
                // The server's process has ended, or has no use for the connection.
                Err(Lost::Closed) => return Heard::Lost,
                Err(Lost::Malformed(malformed)) => Err(malformed),
                Err(Lost::Failed(error)) => return self.foreign(&error.to_string()),
            };
            match frame {
                Ok(FromServer::Request(group)) => match self.begin(&group, job) {
                    Ok(at) => heard = Heard::Began(at),
                    Err(why) => return self.foreign(why),
                },
                Ok(FromServer::Answer(answer)) => {
                    if let Err(why) = self.answer(answer) {
                        return self.foreign(why);
                    }
                }
                Ok(_) => return self.foreign("it says twice who it is"),
                Err(malformed) => return self.foreign(malformed.0),
            }
            if input.is_empty() {
                return heard;
            }
        }
    }

    fn foreign(&self, what: &str) -> Heard {
        tracing::error!(
            "{}: a frame that process group '{}' was sent is wrong: {what}; the connection is closed",
            Code::WorkerForeign,
            self.server.group()
        );
        Heard::Lost
    }

    /// Hands a request to its application group.
    fn begin(self: &Arc<Self>, group: &GroupName, job: &mut Job) -> Result<Instant, &'static str> {
        let now_is = Instant::now();
        let is_idle_talk = job.is_idle_talk;
        let number = {
            let mut writing = self.writing();
            match writing.state {
                State::Idle => {}
                State::Busy(_) => return Err("a request came while another is under way"),
                // It crosses the word that says so.
                State::Closed => return Ok(now_is),
            }
            self.server.activity.begin(is_idle_talk);
            writing.state = State::Busy(Request {
                conversation: None,
                look: now_is + PATIENCE,
                by_group: job.timeout.is_none(),
                is_idle_talk,
                ended: false,
            });
            writing.number += 1;
            writing.number
        };
        if self.server.activity.is_outdated() {
            let mut writing = self.writing();
            self.send_elsewhere(&mut writing);
            self.go_on(writing);
            return Ok(now_is);
        }
        job.started = Some(Started { mark: Arc::clone(&self.mark), number });
        job.handed_over.1 = now();
        // The whole application is loaded anew: by a fresh interpreter, or else by another process.
        if job.reload != Reload::Never {
            job.reload = Reload::Process;
        }
        // The application may have answered before this returns, and nobody may hold the lock that it
        // answers under.
        let listener = Arc::downgrade(self) as Weak<dyn Listener>;
        let dispatched = self.server.dispatch(group, listener, job);
        let mut writing = self.writing();
        let mut look = now_is + PATIENCE;
        match (dispatched, &mut writing.state) {
            (Ok(conversation), State::Busy(request)) => {
                look = now_is + conversation.patience();
                request.look = look;
                request.conversation = Some(conversation);
            }
            (Err(refusal), _) => self.fail(&mut writing, &refusal),
            (Ok(_), _) => {}
        }
        self.go_on(writing);
        Ok(look)
    }

    fn answer(&self, answer: Answer) -> Result<(), &'static str> {
        let mut writing = self.writing();
        let asked = writing.asked.take().ok_or("an answer came that nobody has asked for")?;
        // A request may have failed while it was waited for.
        if let State::Busy(Request { conversation: Some(conversation), .. }) = &writing.state
            && asked == writing.number
        {
            conversation.answer(answer);
        }
        Ok(())
    }

    /// Looks after the times of a request, if it is time; says when that is to be done next.
    pub(super) fn look(&self, now: Instant) -> Option<Instant> {
        let mut writing = self.writing();
        let stuck = writing.output.stuck_since();
        let State::Busy(request) = &mut writing.state else { return None };
        let limit = self.server.response_timeout();
        let taken_by = limit.map(|limit| stuck.unwrap_or(now) + limit);
        if taken_by.is_some_and(|taken_by| now >= taken_by) {
            self.say_not_taken();
            self.shut(&mut writing);
            return None;
        }
        let sooner = |next: Instant| taken_by.into_iter().fold(next, Instant::min);
        let Some(conversation) = &request.conversation else { return taken_by };
        if now < request.look {
            return Some(sooner(request.look));
        }
        match conversation.look(now) {
            Ok(next) => {
                request.look = next;
                Some(sooner(next))
            }
            Err(refusal) => {
                self.fail(&mut writing, &refusal);
                self.go_on(writing);
                None
            }
        }
    }

    fn say_not_taken(&self) {
        tracing::error!(
            "{}: a response of process group '{}' is cut off: httpd has taken nothing of it for \
             response-socket-timeout ({} s), as its client does not read; raise it for clients that are \
             slower",
            Code::ResponseNotTaken,
            self.server.group(),
            self.server.response_timeout().unwrap_or_default().as_secs_f64()
        );
    }

    /// The socket may have room again.
    pub(super) fn resume(&self) {
        self.go_on(self.writing());
    }

    /// Sends what there is to be sent.
    fn go_on(&self, mut writing: MutexGuard<'_, Writing>) {
        let outdated = match self.write(&mut writing) {
            Ok(outdated) => outdated,
            Err(_) => {
                self.shut(&mut writing);
                false
            }
        };
        // Others are locked for what follows.
        drop(writing);
        if outdated {
            self.server.tell_outdated();
        }
    }

    /// Sends what there is to be sent, until there is nothing or no room. Whether the process is to be
    /// replaced, since a script has changed.
    fn write(&self, writing: &mut Writing) -> Result<bool, Lost> {
        let mut outdated = false;
        loop {
            let more = self.fill(writing, &mut outdated)?;
            if !writing.output.flush(&self.socket)? {
                self.wait_for_room(writing, true);
                return Ok(outdated);
            }
            self.wait_for_room(writing, false);
            if !more {
                break;
            }
        }
        if let State::Busy(Request { ended: true, is_idle_talk, .. }) = writing.state {
            self.end(writing, is_idle_talk);
        }
        Ok(outdated)
    }

    /// Has what comes next written into frames. Whether there may be more after that was sent.
    fn fill(&self, writing: &mut Writing, outdated: &mut bool) -> Result<bool, Lost> {
        while !writing.output.is_full() {
            if writing.behind.is_some() {
                self.fill_from_behind(writing)?;
                continue;
            }
            let State::Busy(request) = &mut writing.state else { return Ok(false) };
            let Some(conversation) = request.conversation.take_if(|_| !request.ended) else {
                return Ok(false);
            };
            let Some(event) = conversation.try_next() else {
                request.conversation = Some(conversation);
                return Ok(false);
            };
            *outdated |= self.pass(writing, conversation, event)?;
        }
        Ok(true)
    }

    /// Writes what the application has said. Whether the process is to be replaced.
    fn pass(
        &self,
        writing: &mut Writing,
        conversation: Conversation,
        event: Event,
    ) -> Result<bool, Lost> {
        let frames = writing.output.frames();
        match event {
            Event::Reply(Reply::Ask { at_least, at_most }) => {
                wire::ask(frames, at_least, at_most);
                writing.asked = Some(writing.number);
            }
            Event::Reply(Reply::Log(entry)) => wire::log(frames, &entry),
            // Only hook scripts have a use for these, and they run in the server.
            Event::Reply(Reply::AskVariable(_)) => conversation.answer(Answer::Variable(None)),
            Event::Reply(Reply::Response(Part {
                end: Some(Outcome::Failed(Code::ProcessOutdated)),
                ..
            })) => {
                self.mark.clear(writing.number);
                // Before the server hears of it: it may be back sooner than its connections are closed.
                self.server.activity.set_outdated();
                self.send_elsewhere(writing);
                return Ok(true);
            }
            Event::Reply(Reply::Response(part)) => {
                return self.pass_part(writing, conversation, part).map(|()| false);
            }
            Event::Reply(Reply::Returned(_)) => {
                let refusal = Refusal::new(Code::Internal, "a value was returned for a request");
                self.fail(writing, &refusal);
                return Ok(false);
            }
            Event::Failed(refusal) => {
                self.fail(writing, &refusal);
                return Ok(false);
            }
        }
        if let State::Busy(request) = &mut writing.state {
            request.conversation = Some(conversation);
        }
        Ok(false)
    }

    /// Writes a part, and has what was put behind it follow.
    fn pass_part(
        &self,
        writing: &mut Writing,
        conversation: Conversation,
        mut part: Part,
    ) -> Result<(), Lost> {
        if let Some(refusal) = part.head.as_ref().and_then(|head| self.check(head)) {
            self.fail(writing, &refusal);
            return Ok(());
        }
        let (tail, mut end) = part.spool.take().map_or_else(Default::default, |spool| spool.take());
        let Tail { blocks, stored } = tail;
        let ends = part.end.or(end).is_some();
        // With a head it is not: httpd would tell the length or not, as the threads happen to run.
        if stored.is_some() {
            end = part.end.take().or(end);
        } else if part.head.is_none() {
            part.end = part.end.or(end.take());
        }
        let output = &mut writing.output;
        if ends {
            conversation.logged().iter().for_each(|entry| wire::log(output.frames(), entry));
        }
        let place = part.file.as_ref().map(|FilePart { start, length, .. }| (*start, *length));
        let mut head = part.head.as_ref();
        let mut unsent = Unsent::of(&part.body, &blocks);
        loop {
            let is_last = unsent.len() <= PIECE;
            let (place, end) = (place.filter(|_| is_last), part.end.filter(|_| is_last));
            let piece = unsent.piece(PIECE).map(|slice| slice.bytes);
            wire::part(output.frames(), head.take(), piece, place, end)?;
            if is_last {
                break;
            }
        }
        conversation.store().reuse(blocks);
        if let Some(FilePart { file, .. }) = part.file {
            output.attach(OwnedFd::from(file));
        }
        match stored {
            Some(stored) => writing.behind = Some(Behind { stored, done: 0, end }),
            None if end.is_some() => wire::part(output.frames(), None, [], None, end)?,
            None => {}
        }
        if let State::Busy(request) = &mut writing.state {
            request.ended = ends;
            request.conversation = (!ends).then_some(conversation);
        }
        Ok(())
    }

    /// Writes a piece of what the application has put behind a part.
    fn fill_from_behind(&self, writing: &mut Writing) -> Result<(), Lost> {
        let Some(Behind { stored, done, end }) = &mut writing.behind else { return Ok(()) };
        let left = stored.length() - *done;
        let mut piece = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
        stored.read_at(&mut piece, *done)?;
        *done += piece.len() as u64;
        let is_last = *done == stored.length();
        let end = end.filter(|_| is_last);
        wire::part(writing.output.frames(), None, [&piece[..]], None, end)?;
        if is_last {
            writing.behind = None;
        }
        Ok(())
    }

    /// Says that there is no response, and that the request is over with this.
    fn fail(&self, writing: &mut Writing, refusal: &Refusal) {
        let State::Busy(request) = &mut writing.state else { return };
        let started = self.mark.is_set(writing.number);
        // Of WSGIRequestTimeout the process takes care by itself.
        if refusal.code == Code::RequestTimeout && request.by_group && started {
            self.server.tell_late();
        }
        if (refusal.code == Code::Stopping || writing.last) && !started {
            return self.send_elsewhere(writing);
        }
        request.ended = true;
        // From now on the application speaks to nobody, and nothing of this request comes behind its end.
        request.conversation = None;
        writing.behind = None;
        wire::failed(writing.output.frames(), refusal);
    }

    /// Another process can still serve the request.
    fn send_elsewhere(&self, writing: &mut Writing) {
        writing.last = true;
        wire::goaway(writing.output.frames());
        if let State::Busy(request) = &mut writing.state {
            request.ended = true;
            request.conversation = None;
        }
    }

    /// All of a response was sent.
    fn end(&self, writing: &mut Writing, is_idle_talk: bool) {
        writing.state = State::Idle;
        self.server.count_end(is_idle_talk);
        if writing.last {
            self.shut(writing);
        }
    }

    /// Closes the connection; the server's thread sees that and forgets it.
    pub(super) fn lose(&self) {
        self.shut(&mut self.writing());
    }

    fn shut(&self, writing: &mut Writing) {
        if let State::Busy(request) = std::mem::replace(&mut writing.state, State::Closed) {
            self.server.count_end(request.is_idle_talk);
        }
        writing.behind = None;
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Has the server's thread see when the socket has room, or not any more.
    fn wait_for_room(&self, writing: &mut Writing, waits: bool) {
        if std::mem::replace(&mut writing.waits, waits) == waits {
            return;
        }
        let room = if waits { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(self.key);
        let flags = epoll::EventFlags::IN | room;
        // It fails where the connection was forgotten already.
        let _ = epoll::modify(self.server.epoll(), &self.socket, data, flags);
    }

    /// What is wrong with the lines of a head.
    fn check(&self, head: &Head) -> Option<Refusal> {
        let limit = self.server.header_line();
        let long = |(name, value): &(&[u8], &[u8])| name.len() + value.len() + 2 > limit;
        let (name, value) = head.headers.iter().find(long)?;
        Some(Refusal::new(
            Code::HeaderTooLong,
            format!(
                "the header line '{}' of the response has {} bytes, and header-buffer-size of process \
                 group '{}' allows {limit}; send less, or raise it",
                String::from_utf8_lossy(&name[..name.len().min(100)]),
                name.len() + value.len() + 2,
                self.server.group()
            ),
        ))
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        // What is written is whole frames at every step.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Connection {
    fn heard(&self) {
        self.go_on(self.writing());
    }
}
