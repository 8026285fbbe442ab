//! The web server's side: connections to the worker processes of a process group, and requests that
//! are served over them.

use super::channel::{Channel, Frame, Lost};
use super::wire::{self, FromWorker};
use super::{Mark, Timeouts};
use crate::scheduling;
use crate::status::{self, Counter, Counters};
use crate::wait::{For, offer_processor};
use crate::wsgi::now;
use crate::{Answer, Code, Event, GroupName, Job, LogEntry, Peer, Refusal, Reply, Store};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use slab::Slab;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where a part of a response has as many bytes as this, the next ones are another part: about what httpd
/// passes on at once.
const TOGETHER: usize = 40 << 10;

/// How long to wait before a connection is tried again that was refused: at first, and later.
const PAUSES: [Duration; 2] = [Duration::from_millis(125), Duration::from_secs(1)];

/// When later begins.
const LATER: Duration = Duration::from_secs(2);

/// How long to wait after a connection that was closed without a word.
const UNWELCOME: Duration = Duration::from_millis(10);

/// The worker processes of a process group, as a process of the web server sees them.
#[derive(Debug)]
pub struct Workers {
    name: GroupName,
    connect: Duration,
    workers: Vec<Worker>,
    /// Who comes first of those that are equally busy.
    turn: AtomicUsize,
    /// What is counted about the process group, if anything.
    counters: Option<Counters>,
    store: Arc<Store>,
    interrupted: AtomicBool,
}

/// Where a worker process is reached, and how it knows the server.
#[derive(Clone)]
pub struct Address {
    /// The path of its socket.
    pub path: PathBuf,
    /// What only the server and this worker know.
    pub secret: [u8; 32],
}

/// Without the secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Worker {
    address: Address,
    /// Requests of this process that are under way there.
    busy: AtomicUsize,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// What was used last is used next.
    idle: Vec<Connection>,
    /// All there are, so that whoever waits can be woken.
    sockets: Slab<Arc<OwnedFd>>,
}

/// A connection with its mark, and buffers for a request.
#[derive(Debug)]
struct Connection {
    channel: Channel,
    mark: Mark,
    /// How many requests were sent.
    number: u64,
    /// How often it was tried to make it, for the request it was made for.
    attempts: u32,
    key: usize,
    /// The worker has welcomed it.
    known: bool,
    /// How long a read may take, as it is set.
    timeout: Option<Duration>,
    job: Job,
    request: Vec<u8>,
    frames: Vec<u8>,
}

impl Workers {
    /// The workers of a group at these addresses. Responses keep what slow clients are behind with in
    /// `store`.
    pub fn new(
        name: GroupName,
        timeouts: &Timeouts,
        addresses: Vec<Address>,
        store: Arc<Store>,
    ) -> Arc<Self> {
        let worker =
            |address| Worker { address, busy: AtomicUsize::new(0), pool: Mutex::default() };
        Arc::new(Self {
            counters: status::of_process_group(&name),
            name,
            connect: timeouts.connect,
            workers: addresses.into_iter().map(worker).collect(),
            turn: AtomicUsize::new(0),
            store,
            interrupted: AtomicBool::new(false),
        })
    }

    /// Hands a request to the least busy worker process; `fill` writes it, and with each read or write
    /// the worker may take `silence`.
    ///
    /// # Errors
    ///
    /// No worker could be reached, or the request is too long. Nothing was started.
    pub fn dispatch(
        self: &Arc<Self>,
        group: &GroupName,
        silence: Duration,
        fill: impl FnOnce(&mut Job),
    ) -> Result<Conversation, Refusal> {
        scheduling::wait_behind_others();
        let began = Instant::now();
        let index = self.choose();
        let mut connection = self.take(index, began)?;
        connection.job.clear();
        fill(&mut connection.job);
        connection.job.handed_over.0 = now();
        connection.request.clear();
        let written = wire::request(&mut connection.request, group, &connection.job);
        if let Err(malformed) = written {
            self.workers[index].give_back(connection);
            let detail = format!("the request cannot be sent to a worker process: {}", malformed.0);
            return Err(Refusal::new(Code::Internal, detail));
        }
        self.workers[index].busy.fetch_add(1, Ordering::Relaxed);
        let talk =
            Talk { index, connection: Some(connection), began, attempts: (0, 0), ended: false };
        let workers = Arc::clone(self);
        let conversation = Conversation { workers, silence, talk: RefCell::new(talk) };
        conversation.send_request();
        Ok(conversation)
    }

    /// How many worker processes there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Wakes whoever waits for a worker, now and from now on: the process stops at once.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            for (_, socket) in &worker.pool().sockets {
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            }
        }
    }

    /// The least busy one.
    fn choose(&self) -> usize {
        let count = self.workers.len();
        let first = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..count)
            .map(|step| (first + step) % count)
            .min_by_key(|index| self.workers[*index].busy.load(Ordering::Relaxed))
            .expect("a group has a worker")
    }

    fn take(&self, index: usize, began: Instant) -> Result<Connection, Refusal> {
        let idle = self.workers[index].pool().idle.pop();
        idle.map_or_else(|| self.connect(index, began), Ok)
    }

    /// Connects to a worker. While it is replaced, connections wait for the next one; where there is
    /// no socket yet, or no room in its backlog, this tries again for a while.
    fn connect(&self, index: usize, began: Instant) -> Result<Connection, Refusal> {
        let worker = &self.workers[index];
        let mut attempts = 0;
        loop {
            attempts += 1;
            if self.interrupted.load(Ordering::SeqCst) {
                return Err(stopping());
            }
            let left = self.connect.saturating_sub(began.elapsed());
            self.note(Counter::Connects);
            let error = match worker.connect(left.max(Duration::from_millis(1))) {
                // It was not there yet for `interrupt`.
                Ok(connection) if self.interrupted.load(Ordering::SeqCst) => {
                    worker.discard(connection, false);
                    return Err(stopping());
                }
                Ok(connection) => return Ok(Connection { attempts, ..connection }),
                Err(error) => error,
            };
            let passes = matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted
            );
            let left = self.connect.saturating_sub(began.elapsed());
            if !passes || left.is_zero() {
                return Err(self.unreachable(index, &error.to_string()));
            }
            let pause = PAUSES[usize::from(began.elapsed() >= LATER)];
            std::thread::sleep(pause.min(left));
        }
    }

    fn note(&self, counter: Counter) {
        if let Some(counters) = &self.counters {
            counters.add(counter, 1);
        }
    }

    fn unreachable(&self, index: usize, why: &str) -> Refusal {
        Refusal::new(
            Code::WorkerUnreachable,
            format!(
                "no worker process of process group '{}' took the request within connect-timeout ({} s; \
                 socket '{}'): {why}; the lines about its start say whether it runs, WSGISocketPrefix \
                 says where the socket is",
                self.name,
                self.connect.as_secs_f64(),
                self.workers[index].address.path.display(),
            ),
        )
    }
}

impl Worker {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, limit: Duration) -> io::Result<Connection> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.address.path)?)?;
        let (mark, page) = Mark::new()?;
        let mut frames = Vec::new();
        wire::hello(&mut frames, &self.address.secret);
        let channel = Channel::new(UnixStream::from(socket));
        let greeted = channel.send_with(&frames, Some(page.as_fd()));
        greeted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let also = Arc::new(channel.socket().as_fd().try_clone_to_owned()?);
        let key = self.pool().sockets.insert(also);
        Ok(Connection {
            channel,
            mark,
            number: 0,
            attempts: 0,
            key,
            known: false,
            timeout: None,
            job: Job::default(),
            request: Vec::new(),
            frames,
        })
    }

    /// Keeps a connection for the next request.
    fn give_back(&self, connection: Connection) {
        self.pool().idle.push(connection);
    }

    /// A connection is of no more use, and those that nobody uses are as old as it.
    fn discard(&self, connection: Connection, stale: bool) {
        let mut pool = self.pool();
        pool.sockets.remove(connection.key);
        let idle = if stale { std::mem::take(&mut pool.idle) } else { Vec::new() };
        for other in &idle {
            pool.sockets.remove(other.key);
        }
        drop(pool);
        // Closed without the lock.
        drop((connection, idle));
    }
}

/// A request that a worker process serves. Dropping it before its end tells the worker that nobody
/// listens any more.
#[derive(Debug)]
pub struct Conversation {
    workers: Arc<Workers>,
    silence: Duration,
    /// One thread serves a request, so nobody else borrows it meanwhile.
    talk: RefCell<Talk>,
}

#[derive(Debug)]
struct Talk {
    index: usize,
    connection: Option<Connection>,
    began: Instant,
    /// See [`Job::attempts`].
    attempts: (u32, u32),
    /// The last word was heard, so the connection may be used again.
    ended: bool,
}

/// What came of waiting.
enum Heard {
    Frame(FromWorker),
    Nothing,
    Lost(Lost),
}

impl Conversation {
    /// Sends the request on the connection there is. Where that fails, waiting for an answer does too.
    fn send_request(&self) {
        let mut talk = self.talk.borrow_mut();
        let Talk { connection, attempts, .. } = &mut *talk;
        if let Some(connection) = connection {
            attempts.0 += std::mem::take(&mut connection.attempts);
            wire::set_attempts(&mut connection.request, *attempts);
            connection.number += 1;
            let _ = connection.channel.send(&connection.request);
        }
    }

    fn wait(&self, limit: Option<Duration>) -> Option<Event> {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            match self.hear(until) {
                Heard::Nothing => return None,
                Heard::Frame(FromWorker::Reply(reply)) => {
                    if let Reply::Response(part) = &reply {
                        self.talk.borrow_mut().ended |= part.end.is_some();
                    }
                    return Some(Event::Reply(reply));
                }
                Heard::Frame(FromWorker::Failed(refusal)) => {
                    self.talk.borrow_mut().ended = true;
                    return Some(Event::Failed(refusal));
                }
                Heard::Frame(FromWorker::Welcome) => {
                    if let Some(connection) = &mut self.talk.borrow_mut().connection {
                        connection.known = true;
                    }
                }
                Heard::Frame(FromWorker::Refused(why)) => return Some(self.foreign(&why)),
                Heard::Frame(FromWorker::Goaway) => {
                    if let Some(failed) = self.lost(Lost::Closed) {
                        return Some(failed);
                    }
                }
                Heard::Lost(lost) => {
                    if let Some(failed) = self.lost(lost) {
                        return Some(failed);
                    }
                }
            }
        }
    }

    fn hear(&self, until: Option<Instant>) -> Heard {
        let mut talk = self.talk.borrow_mut();
        let began = talk.began;
        let Some(connection) = &mut talk.connection else { return Heard::Lost(Lost::Closed) };
        let silence = match connection.known {
            true => self.silence,
            // A worker that does not even start is given up sooner.
            false => self.workers.connect.saturating_sub(began.elapsed()),
        };
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            if !connection.channel.is_ready(left.min(silence)) {
                return if left < silence { Heard::Nothing } else { Heard::Lost(Lost::TimedOut) };
            }
        }
        if let Err(error) = connection.set_timeout(silence) {
            return Heard::Lost(Lost::Failed(error));
        }
        match connection.receive() {
            Ok(frame) => Heard::Frame(frame),
            Err(lost) => Heard::Lost(lost),
        }
    }

    /// The connection is of no more use. A request that has not started goes to another one.
    fn lost(&self, lost: Lost) -> Option<Event> {
        let mut talk = self.talk.borrow_mut();
        let (index, began) = (talk.index, talk.began);
        let Some(mut connection) = talk.connection.take() else {
            return Some(Event::Failed(self.explain(index, &lost, true, true)));
        };
        let (started, known) = (connection.mark.is_set(connection.number), connection.known);
        let request = std::mem::take(&mut connection.request);
        let worker = &self.workers.workers[index];
        // Those that lie idle are of the same process, and it has gone.
        worker.discard(connection, known);
        if self.workers.interrupted.load(Ordering::SeqCst) {
            return Some(Event::Failed(stopping()));
        }
        if started || !matches!(lost, Lost::Closed) {
            return Some(Event::Failed(self.explain(index, &lost, started, known)));
        }
        if began.elapsed() >= self.workers.connect {
            let why = "its processes end before they start it";
            return Some(Event::Failed(self.workers.unreachable(index, why)));
        }
        if !known {
            // A worker that has no room, or is about to go, is not to be asked without end.
            std::thread::sleep(UNWELCOME);
        }
        let next = self.workers.choose();
        let mut connection = match self.workers.take(next, began) {
            Ok(connection) => connection,
            Err(refusal) => return Some(Event::Failed(refusal)),
        };
        self.workers.note(Counter::Resent);
        connection.request = request;
        worker.busy.fetch_sub(1, Ordering::Relaxed);
        self.workers.workers[next].busy.fetch_add(1, Ordering::Relaxed);
        talk.attempts.1 += 1;
        (talk.index, talk.connection) = (next, Some(connection));
        drop(talk);
        self.send_request();
        None
    }

    fn explain(&self, index: usize, lost: &Lost, started: bool, known: bool) -> Refusal {
        let name = &self.workers.name;
        let foreign = |what: &str| {
            let detail = format!(
                "a worker process of process group '{name}' has sent what is no frame: {what}"
            );
            Refusal::new(Code::WorkerForeign, detail)
        };
        match lost {
            Lost::TimedOut if !known => {
                self.workers.unreachable(index, "it does not start, or dies at its start")
            }
            Lost::TimedOut => Refusal::new(
                Code::WorkerSilent,
                format!(
                    "process group '{name}' has said nothing for socket-timeout ({} s): {}",
                    self.silence.as_secs_f64(),
                    match started {
                        true => "its application is still busy with the request",
                        false => "no thread became free for the request",
                    }
                ),
            ),
            Lost::Closed => Refusal::new(
                Code::WorkerLost,
                format!(
                    "the worker process of process group '{name}' has gone in the middle of the request, \
                     or has given it up; httpd's line about its end, or its own, says how",
                ),
            ),
            Lost::Malformed(malformed) => foreign(malformed.0),
            Lost::Failed(error) => foreign(&error.to_string()),
        }
    }

    fn foreign(&self, why: &str) -> Event {
        self.talk.borrow_mut().ended = false;
        Event::Failed(Refusal::new(
            Code::WorkerForeign,
            format!("process group '{}' refuses httpd's connection: {why}", self.workers.name),
        ))
    }
}

impl Connection {
    /// The next frame. Bytes of a response that have come by now are one part, up to a bound.
    fn receive(&mut self) -> Result<FromWorker, Lost> {
        offer_processor(For::Socket, || self.channel.is_ready(Duration::ZERO));
        let mut frame = read(self.channel.receive()?)?;
        let FromWorker::Reply(Reply::Response(part)) = &mut frame else { return Ok(frame) };
        // With a head it stays as it is: httpd would tell the length or not, as the threads happen to run.
        if part.head.is_some() || part.file.is_some() {
            return Ok(frame);
        }
        while part.end.is_none() && part.body.len() < TOGETHER {
            let Some(more) = self.channel.receive_if(wire::is_bytes) else { break };
            let FromWorker::Reply(Reply::Response(more)) = read(more)? else { break };
            part.body.extend_from_slice(&more.body);
            part.end = more.end;
        }
        Ok(frame)
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        if self.timeout != Some(timeout) {
            let timeout = timeout.max(Duration::from_millis(1));
            self.channel.socket().set_read_timeout(Some(timeout))?;
            self.channel.socket().set_write_timeout(Some(timeout))?;
            self.timeout = Some(timeout);
        }
        Ok(())
    }
}

impl Peer for Conversation {
    fn next(&self) -> Event {
        self.wait(None).expect("it waits for ever")
    }

    fn next_within(&self, limit: Duration) -> Option<Event> {
        self.wait(Some(limit))
    }

    fn answer(&self, answer: Answer) {
        let mut talk = self.talk.borrow_mut();
        let Some(connection) = &mut talk.connection else { return };
        connection.frames.clear();
        if wire::answer(&mut connection.frames, &answer).is_err() {
            connection.frames.clear();
            wire::answer(&mut connection.frames, &Answer::Failed).expect("it is short");
        }
        // Where this fails, waiting for what comes next does too.
        let _ = connection.channel.send(&connection.frames);
    }

    fn logged(&self) -> Vec<LogEntry> {
        // A worker sends them before the end.
        Vec::new()
    }

    fn store(&self) -> &Arc<Store> {
        &self.workers.store
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let talk = self.talk.get_mut();
        let worker = &self.workers.workers[talk.index];
        worker.busy.fetch_sub(1, Ordering::Relaxed);
        if let Some(connection) = talk.connection.take() {
            match talk.ended {
                true => worker.give_back(connection),
                false => worker.discard(connection, false),
            }
        }
    }
}

fn read(frame: Frame<'_>) -> Result<FromWorker, Lost> {
    Ok(wire::from_worker(frame.kind, frame.content, frame.descriptors)?)
}

fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the process stops before the application has answered")
}
