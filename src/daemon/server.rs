//! What a worker process serves: connections of the web server's processes. One thread accepts them,
//! and one reads from all of them.
#![forbid(unsafe_code)]

use super::ProcessGroup;
use super::activity::Activity;
use super::channel::Channel;
use super::connection::{Connection, Heard};
use super::mark::Mark;
use super::strangers::Strangers;
use super::wire::Secret;
use crate::conversation::queued_too_long;
use crate::exchange::Listener;
use crate::wait::{For, offer_processor};
use crate::{Conversation, GroupName, Job, Patience, Refusal, Runtime, Timeout};
use rustix::event::{Timespec, epoll};
use slab::Slab;
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an application has to end a request after it was interrupted, unless interrupt-timeout says
/// so.
const INTERRUPTED: Duration = Duration::from_secs(5);

/// The longest line of a response's head, unless the configuration says otherwise.
const HEADER_LINE: usize = 32 * 1024;

/// How many connections that have something to say are heard at a time.
const EVENTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Server {
    runtime: Runtime,
    group: GroupName,
    secret: Secret,
    queue_timeout: Option<Duration>,
    request_timeout: Option<Timeout>,
    /// How long httpd may take nothing of what it is sent.
    response_timeout: Option<Duration>,
    header_line: usize,
    connections: Mutex<Connections>,
    /// Where it is waited for all of them.
    epoll: OwnedFd,
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

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Server {
    /// Takes at most `limit` connections at a time.
    ///
    /// # Errors
    ///
    /// There is no descriptor to wait with.
    pub(crate) fn new(
        runtime: Runtime,
        group: &ProcessGroup,
        secret: Secret,
        limit: usize,
        wake: fn(),
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            runtime,
            group: group.name.clone(),
            secret,
            queue_timeout: group.timeouts.queue,
            request_timeout: request_timeout(group),
            response_timeout: group.timeouts.response.or(group.timeouts.socket),
            header_line: group.response.header_limit.map_or(HEADER_LINE, Into::into),
            connections: Mutex::default(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            limit,
            last_request: group.renewal.maximum_requests.map(NonZeroU64::get),
            wake,
            activity: Activity::new(),
        }))
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(super) fn group(&self) -> &GroupName {
        &self.group
    }

    pub(super) fn header_line(&self) -> usize {
        self.header_line
    }

    pub(super) fn response_timeout(&self) -> Option<Duration> {
        self.response_timeout
    }

    pub(super) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Accepts connections until `stop` is readable. What has not been accepted then waits for the next
    /// process. The listener is non-blocking, since it is not this process's alone.
    pub(crate) fn accept(self: &Arc<Self>, listener: &UnixListener, stop: &OwnedFd) {
        let mut strangers = Strangers::new(self.group.clone(), self.secret);
        let mut fails = false;
        loop {
            let [stops, comes] = strangers.wait([stop.as_fd(), listener.as_fd()]);
            if stops {
                return;
            }
            if comes {
                match listener.accept() {
                    Ok((socket, _)) => {
                        fails = false;
                        strangers.add(socket);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => {
                        if !std::mem::replace(&mut fails, true) {
                            tracing::error!(
                                "connections of httpd are not accepted: {error}; said once until one is"
                            );
                        }
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

    /// Takes a connection of the web server. It does not block.
    fn take(self: &Arc<Self>, channel: Channel, mark: Mark) {
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
        let place = connections.all.vacant_entry();
        let key = place.key() as u64;
        let connection = Connection::new(self, key, channel, mark);
        let data = epoll::EventData::new_u64(key);
        // It is told by whoever hears it first, as all is that goes out.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        match epoll::add(&self.epoll, connection.socket(), data, flags) {
            Ok(()) => drop(place.insert(connection)),
            Err(error) => tracing::error!("a connection cannot be waited for: {error}"),
        }
    }

    /// Hears all connections, until the process ends.
    pub(crate) fn listen(self: &Arc<Self>) -> ! {
        let mut events = Vec::with_capacity(EVENTS);
        // When the times of requests are to be looked after.
        let mut look: Option<Instant> = None;
        loop {
            let left = look.map(|look| look.saturating_duration_since(Instant::now()));
            let limit = left.and_then(|left| Timespec::try_from(left).ok());
            events.clear();
            // Interrupted: whoever waits will wait again.
            let mut wait = |limit: Option<&Timespec>| {
                let room = rustix::buffer::spare_capacity(&mut events);
                matches!(epoll::wait(&self.epoll, room, limit), Ok(1..))
            };
            if !offer_processor(For::Socket, || wait(Some(&AT_ONCE))) {
                wait(limit.as_ref());
            }
            for event in &events {
                if let Heard::Began(at) = self.hear(*event) {
                    look = Some(look.map_or(at, |look| look.min(at)));
                }
            }
            let now = Instant::now();
            if look.is_some_and(|look| now >= look) {
                look = self.all().iter().filter_map(|connection| connection.look(now)).min();
            }
        }
    }

    fn hear(&self, event: epoll::Event) -> Heard {
        let (key, flags) = (event.data.u64(), event.flags);
        let place = usize::try_from(key).expect("it was made of one");
        // Others of the same events may have had it forgotten.
        let Some(connection) = self.connections().all.get(place).map(Arc::clone) else {
            return Heard::Nothing;
        };
        if flags.contains(epoll::EventFlags::OUT) {
            connection.resume();
        }
        if flags == epoll::EventFlags::OUT {
            return Heard::Nothing;
        }
        let heard = connection.hear();
        if heard == Heard::Lost {
            // In this order: whoever sees that it is closed finds its place free.
            self.connections().all.try_remove(place);
            let _ = epoll::delete(&self.epoll, connection.socket());
            connection.lose();
        }
        heard
    }

    /// Hands a request to its application group; the listener is told what comes.
    pub(super) fn dispatch(
        &self,
        group: &GroupName,
        listener: Weak<dyn Listener>,
        job: &mut Job,
    ) -> Result<Conversation, Refusal> {
        let patience = match self.queue_timeout {
            None => Patience::Endless,
            Some(limit) => match limit.checked_sub(since(job.received)) {
                Some(left) => Patience::Queue(left, limit),
                None => return Err(queued_too_long(group, limit)),
            },
        };
        job.timeout = job.timeout.or(self.request_timeout);
        // The buffers of the slot's job are ours for the next request.
        let fill = |slot: &mut Job| std::mem::swap(slot, job);
        self.runtime.dispatch_heard(group, patience, Some(listener), fill)
    }

    /// A request has ended.
    pub(super) fn count_end(&self, is_idle_talk: bool) {
        if Some(self.activity.end(is_idle_talk)) == self.last_request {
            (self.wake)();
        }
    }

    /// A request takes longer than it may.
    pub(super) fn tell_late(&self) {
        self.activity.set_late();
        (self.wake)();
    }

    /// A script has changed, which was noted, so another process is to take this one's place.
    pub(super) fn tell_outdated(&self) {
        self.close();
        (self.wake)();
    }

    /// Takes no more requests. Those that have started go on; others are sent elsewhere.
    pub(crate) fn close(&self) {
        self.connections().closed = true;
        self.all().iter().for_each(|connection| connection.close());
    }

    /// How many requests have started and not ended.
    pub(crate) fn started(&self) -> usize {
        self.all().iter().filter(|connection| connection.is_serving()).count()
    }

    /// Connections are locked without the lock on their table.
    fn all(&self) -> Vec<Arc<Connection>> {
        self.connections().all.iter().map(|(_, connection)| Arc::clone(connection)).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
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
