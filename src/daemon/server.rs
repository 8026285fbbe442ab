//! The worker process's side of its connections: one thread each, which is to an application what a
//! request thread of the web server is.

use super::channel::{Channel, Lost};
use super::strangers::Strangers;
use super::wire::{self, FromServer, Secret};
use super::{Mark, ProcessGroup};
use crate::conversation::queued_too_long;
use crate::wsgi::now;
use crate::{
    Answer, Code, Conversation, Event, FilePart, GroupName, Head, Job, Outcome, Part, Patience,
    Peer, Refusal, Reload, Reply, Runtime, Stored, Timeout, spawn,
};
use slab::Slab;
use std::fs::File;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an application has to end a request after it was interrupted, unless interrupt-timeout says
/// so.
const INTERRUPTED: Duration = Duration::from_secs(5);

/// How much of what was put behind a part goes into one frame.
const PIECE: usize = 256 * 1024;

/// The longest line of a response's head, unless the configuration says otherwise.
const HEADER_LINE: usize = 32 * 1024;

/// The connections of a worker process.
#[derive(Debug)]
pub(crate) struct Server {
    runtime: Runtime,
    group: GroupName,
    secret: Secret,
    queue_timeout: Option<Duration>,
    request_timeout: Option<Timeout>,
    header_line: usize,
    connections: Mutex<Connections>,
    limit: usize,
    /// After which one the process is to be replaced.
    last_request: Option<u64>,
    /// Has somebody look at `activity`.
    wake: fn(),
    /// What the process has been doing.
    pub(crate) activity: Activity,
}

#[derive(Debug, Default)]
struct Connections {
    all: Slab<Arc<Connection>>,
    /// No more are taken.
    closed: bool,
    /// There was no place for one, which was said.
    full: bool,
}

/// Counts of requests.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    active: AtomicUsize,
    served: AtomicU64,
    /// Milliseconds from `since` to when a request last began or ended.
    last: AtomicU64,
    /// A request has taken too long.
    late: AtomicBool,
    /// A script has changed that was loaded.
    outdated: AtomicBool,
}

/// A connection as others see it.
#[derive(Debug)]
struct Connection {
    socket: UnixStream,
    /// Whether its request has started.
    mark: Arc<Mark>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next request is waited for.
    Idle,
    Busy,
    /// No more requests are taken.
    Closed,
}

impl Server {
    /// Takes at most `limit` connections at a time.
    pub(crate) fn new(
        runtime: Runtime,
        group: &ProcessGroup,
        secret: Secret,
        limit: usize,
        wake: fn(),
    ) -> Arc<Self> {
        let activity = Activity {
            since: Instant::now(),
            active: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            last: AtomicU64::new(0),
            late: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
        };
        Arc::new(Self {
            runtime,
            group: group.name.clone(),
            secret,
            queue_timeout: group.timeouts.queue,
            request_timeout: request_timeout(group),
            header_line: group.response.header_limit.map_or(HEADER_LINE, Into::into),
            connections: Mutex::default(),
            limit,
            last_request: group.renewal.maximum_requests.map(NonZeroU64::get),
            wake,
            activity,
        })
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Accepts connections until `stop` is readable. What has not been accepted then waits for the next
    /// process. The listener is non-blocking, since it is not this process's alone.
    pub(crate) fn accept(self: &Arc<Self>, listener: &UnixListener, stop: &OwnedFd) {
        let mut strangers = Strangers::new(self.group.clone(), self.secret);
        loop {
            let [stops, comes] = strangers.wait([stop.as_fd(), listener.as_fd()]);
            if stops {
                return;
            }
            if comes {
                match listener.accept() {
                    Ok((socket, _)) => strangers.add(socket),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::error!("a connection could not be accepted: {error}");
                        // Descriptors or memory may be there again in a moment.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            for (channel, mark) in strangers.hear() {
                self.take(channel, mark);
            }
        }
    }

    /// Takes a connection of the web server.
    fn take(self: &Arc<Self>, channel: Channel, mark: Mark) {
        let socket = channel.socket();
        let taken = socket.set_nonblocking(false).and_then(|()| socket.try_clone());
        let Ok(also) = taken else { return };
        let (mark, state) = (Arc::new(mark), Mutex::new(State::Idle));
        let connection = Arc::new(Connection { socket: also, mark, state });
        let key = {
            let mut connections = self.connections();
            if connections.closed {
                return;
            }
            if connections.all.len() >= self.limit {
                if !std::mem::replace(&mut connections.full, true) {
                    tracing::error!(
                        "process group '{}' has {} connections already and takes no more",
                        self.group,
                        self.limit
                    );
                }
                return;
            }
            connections.full = false;
            connections.all.insert(Arc::clone(&connection))
        };
        let server = Arc::clone(self);
        let attend = move || {
            server.attend(channel, &connection);
            server.connections().all.remove(key);
        };
        if let Err(error) = spawn("mnf-request".to_owned(), attend) {
            tracing::error!("no thread for a connection: {error}");
            self.connections().all.remove(key);
        }
    }

    /// Takes no more requests. Those that have started go on; others are sent elsewhere.
    pub(crate) fn close(&self) {
        let all: Vec<_> = {
            let mut connections = self.connections();
            connections.closed = true;
            connections.all.iter().map(|(_, connection)| Arc::clone(connection)).collect()
        };
        all.iter().for_each(|connection| connection.close());
    }

    /// How many requests have started and not ended.
    pub(crate) fn started(&self) -> usize {
        let connections = self.connections();
        connections.all.iter().filter(|(_, connection)| connection.is_serving()).count()
    }

    fn is_closed(&self) -> bool {
        self.connections().closed
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the requests of a connection.
    fn attend(&self, mut channel: Channel, connection: &Connection) {
        let mark = &connection.mark;
        let (mut job, mut frames) = (Job::default(), Vec::new());
        wire::welcome(&mut frames);
        if channel.send(&frames).is_err() {
            return;
        }
        loop {
            job.clear();
            let group = match channel.receive() {
                Ok(frame) => match wire::from_server(frame.kind, frame.content, &mut job) {
                    Ok(FromServer::Request(group)) => group,
                    Ok(_) => return self.say_foreign("no request came where one should"),
                    Err(malformed) => return self.say_foreign(malformed.0),
                },
                Err(lost) => return self.say_lost(&lost),
            };
            if !connection.begin() {
                return;
            }
            let is_idle_talk = job.is_idle_talk;
            self.activity.begin(is_idle_talk);
            job.mark = Some(Arc::clone(mark));
            job.handed_over.1 = now();
            if job.reload == Reload::Module {
                job.reload = Reload::Process;
            }
            let mut exchange = Exchange {
                server: self,
                channel: &mut channel,
                frames: &mut frames,
                by_group: job.timeout.is_none(),
            };
            let goes_on = exchange.serve(&group, &mut job, mark);
            if Some(self.activity.end(is_idle_talk)) == self.last_request {
                (self.wake)();
            }
            if !goes_on || !connection.end() {
                return;
            }
        }
    }

    fn say_foreign(&self, what: &str) {
        tracing::error!(
            "{}: a frame that process group '{}' was sent is wrong: {what}; the connection is closed",
            Code::WorkerForeign,
            self.group
        );
    }

    fn say_lost(&self, lost: &Lost) {
        match lost {
            // The server's process has ended, or has no use for the connection.
            Lost::Closed | Lost::TimedOut => {}
            Lost::Malformed(malformed) => self.say_foreign(malformed.0),
            Lost::Failed(error) => self.say_foreign(&error.to_string()),
        }
    }
}

impl Connection {
    fn is_serving(&self) -> bool {
        *self.state() == State::Busy && self.mark.is_set()
    }

    /// A request has come; `false` where none is taken any more.
    fn begin(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Closed => false,
            _ => {
                *state = State::Busy;
                true
            }
        }
    }

    /// A request has ended; `false` where no other is taken.
    fn end(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Closed => false,
            _ => {
                *state = State::Idle;
                true
            }
        }
    }

    /// Takes no more requests, and says so where none is under way.
    fn close(&self) {
        let former = std::mem::replace(&mut *self.state(), State::Closed);
        if former == State::Idle {
            let mut frames = Vec::new();
            wire::goaway(&mut frames);
            // Whoever reads nothing sees the end all the same.
            let _ = rustix::net::send(&self.socket, &frames, rustix::net::SendFlags::NOSIGNAL);
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activity {
    fn begin(&self, is_idle_talk: bool) {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.note(is_idle_talk);
    }

    /// Returns how many have ended.
    fn end(&self, is_idle_talk: bool) -> u64 {
        let served = self.served.fetch_add(1, Ordering::SeqCst) + 1;
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.note(is_idle_talk);
        served
    }

    fn note(&self, is_idle_talk: bool) {
        if is_idle_talk {
            return;
        }
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How many requests are under way.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// How many requests have ended.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Whether a request has taken longer than request-timeout.
    pub(crate) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Whether a script has changed that was loaded.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// For how long no request has begun or ended that counts.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.since
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// One request on a connection.
struct Exchange<'a> {
    server: &'a Server,
    channel: &'a mut Channel,
    frames: &'a mut Vec<u8>,
    /// It is request-timeout of the process group that the request has to keep to.
    by_group: bool,
}

/// What becomes of a conversation.
enum Goes {
    On,
    /// The response has ended; the next request may come.
    Ended,
    /// The connection is of no more use.
    Away,
}

impl Exchange<'_> {
    /// Serves a request; whether another may come on this connection.
    fn serve(&mut self, group: &GroupName, job: &mut Job, mark: &Mark) -> bool {
        let conversation = match self.dispatch(group, job) {
            Ok(conversation) => conversation,
            Err(refusal) => return self.fail(&refusal, mark),
        };
        loop {
            match self.hear(&conversation, mark) {
                Goes::On => {}
                Goes::Ended => return true,
                Goes::Away => return false,
            }
        }
    }

    fn dispatch(&self, group: &GroupName, job: &mut Job) -> Result<Conversation, Refusal> {
        let patience = match self.server.queue_timeout {
            None => Patience::Endless,
            Some(limit) => match limit.checked_sub(since(job.received)) {
                Some(left) => Patience::Queue(left, limit),
                None => return Err(queued_too_long(group, limit)),
            },
        };
        job.timeout = job.timeout.or(self.server.request_timeout);
        // The buffers of the slot's job are ours for the next request.
        self.server.runtime.dispatch(group, patience, |slot| std::mem::swap(slot, job))
    }

    fn hear(&mut self, conversation: &Conversation, mark: &Mark) -> Goes {
        self.frames.clear();
        match conversation.next() {
            Event::Reply(Reply::Ask { at_least, at_most }) => {
                wire::ask(self.frames, at_least, at_most);
                let Some(answer) = self.send().ok().and_then(|()| self.hear_answer()) else {
                    return Goes::Away;
                };
                conversation.answer(answer);
                Goes::On
            }
            // Only hook scripts have a use for these, and they run in the server.
            Event::Reply(Reply::AskVariable(_)) => {
                conversation.answer(Answer::Variable(None));
                Goes::On
            }
            Event::Reply(Reply::Log(entry)) => {
                wire::log(self.frames, &entry);
                self.send().map_or(Goes::Away, |()| Goes::On)
            }
            Event::Reply(Reply::Response(Part {
                end: Some(Outcome::Failed(Code::ProcessOutdated)),
                ..
            })) => self.send_elsewhere(mark),
            Event::Reply(Reply::Response(part)) => self.pass(part, conversation),
            Event::Reply(Reply::Returned(_)) => {
                let refusal = Refusal::new(Code::Internal, "a value was returned for a request");
                if self.fail(&refusal, mark) { Goes::Ended } else { Goes::Away }
            }
            Event::Failed(refusal) => {
                // Of WSGIRequestTimeout the process has taken care by itself.
                if refusal.code == Code::RequestTimeout && self.by_group && mark.is_set() {
                    self.server.activity.late.store(true, Ordering::Relaxed);
                    (self.server.wake)();
                }
                if self.fail(&refusal, mark) { Goes::Ended } else { Goes::Away }
            }
        }
    }

    /// The process is to be replaced before this request is served.
    fn send_elsewhere(&mut self, mark: &Mark) -> Goes {
        self.server.activity.outdated.store(true, Ordering::Relaxed);
        self.server.close();
        (self.server.wake)();
        mark.clear();
        wire::goaway(self.frames);
        let _ = self.send();
        Goes::Away
    }

    /// Waits for what the server answers to a question; `None` where the connection is of no more use.
    fn hear_answer(&mut self) -> Option<Answer> {
        let read = self.channel.receive().and_then(|frame| {
            Ok(wire::from_server(frame.kind, frame.content, &mut Job::default())?)
        });
        match read {
            Ok(FromServer::Answer(answer)) => return Some(answer),
            Ok(_) => self.server.say_foreign("no answer came where one should"),
            Err(lost) => self.server.say_lost(&lost),
        }
        None
    }

    /// Says that there is no response; whether another request may come.
    fn fail(&mut self, refusal: &Refusal, mark: &Mark) -> bool {
        self.frames.clear();
        let stops = refusal.code == Code::Stopping || self.server.is_closed();
        if stops && !mark.is_set() {
            // Another process can still serve it.
            wire::goaway(self.frames);
            let _ = self.send();
            return false;
        }
        wire::failed(self.frames, refusal);
        self.send().is_ok()
    }

    /// Passes a part on, and what was put behind it.
    fn pass(&mut self, mut part: Part, conversation: &Conversation) -> Goes {
        let (stored, behind) = part.spool.take().map_or((None, None), |spool| spool.take());
        let ends = part.end.or(behind).is_some();
        if ends {
            for entry in conversation.logged() {
                wire::log(self.frames, &entry);
            }
        }
        let passed = self.write(&part, stored, behind);
        match passed.and_then(|()| self.send()) {
            Err(_) => Goes::Away,
            Ok(()) if ends => Goes::Ended,
            Ok(()) => Goes::On,
        }
    }

    fn write(
        &mut self,
        part: &Part,
        stored: Option<Stored>,
        behind: Option<Outcome>,
    ) -> Result<(), Lost> {
        if let Some(refusal) = part.head.as_ref().and_then(|head| self.check(head)) {
            wire::failed(self.frames, &refusal);
            self.send()?;
            return Err(Lost::Closed);
        }
        match &part.file {
            None => wire::part(self.frames, part.head.as_ref(), &part.body, None, part.end)?,
            Some(FilePart { file, start, length }) => {
                let place = Some((*start, *length));
                wire::part(self.frames, part.head.as_ref(), &part.body, place, part.end)?;
                self.channel.send_with(self.frames, Some(file.as_fd()))?;
                self.frames.clear();
            }
        }
        if let Some(stored) = stored {
            self.write_stored(&stored)?;
        }
        if behind.is_some() {
            wire::part(self.frames, None, b"", None, behind)?;
        }
        Ok(())
    }

    /// Sends what the application has put behind a part.
    fn write_stored(&mut self, stored: &Stored) -> Result<(), Lost> {
        let file = File::from(stored.file().try_clone_to_owned()?);
        let mut piece = vec![0; PIECE.min(usize::try_from(stored.length()).unwrap_or(PIECE))];
        let mut done = 0;
        while done < stored.length() {
            let read = file.read_at(&mut piece, done)?;
            wire::part(self.frames, None, &piece[..read], None, None)?;
            self.send()?;
            done += read as u64;
        }
        Ok(())
    }

    /// What is wrong with the lines of a head.
    fn check(&self, head: &Head) -> Option<Refusal> {
        let limit = self.server.header_line;
        let long = |(name, value): &(&[u8], &[u8])| name.len() + value.len() + 2 > limit;
        let (name, value) = head.headers.iter().find(long)?;
        Some(Refusal::new(
            Code::HeaderTooLong,
            format!(
                "the header line '{}' of the response has {} bytes, and header-buffer-size of process \
                 group '{}' allows {limit}; send less, or raise it",
                String::from_utf8_lossy(&name[..name.len().min(100)]),
                name.len() + value.len() + 2,
                self.server.group
            ),
        ))
    }

    /// Sends what was written.
    fn send(&mut self) -> Result<(), Lost> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let sent = self.channel.send(self.frames);
        self.frames.clear();
        self.frames.shrink_to(PIECE);
        sent
    }
}

/// How long a request may take: `request-timeout`, and more with more threads, since those left serve
/// the others. Then its application is interrupted, the client is told, and the process is replaced.
fn request_timeout(group: &ProcessGroup) -> Option<Timeout> {
    #[expect(clippy::cast_precision_loss, reason = "a number of threads")]
    let factor = 1.0 + (group.threads.max(1) as f64).ln();
    let limit = group.timeouts.request?.mul_f64(factor);
    Some(Timeout { limit, grace: group.timeouts.interrupt.unwrap_or(INTERRUPTED) })
}

/// How long ago that many microseconds since 1970 were over.
fn since(received: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_micros(u64::try_from(received).unwrap_or(0));
    SystemTime::now().duration_since(then).unwrap_or(Duration::ZERO)
}
