//! A worker process from its first to its last moment.
//!
//! httpd's parent starts `manifold-worker --serve` with three descriptors beside the standard ones, and
//! with one thread. It reads its orders, becomes who it is to be, starts Python, loads what is loaded
//! ahead, and serves its socket, until [`Life`] says that it ends.

use super::life::{Life, Order, Reason, State, Step};
use super::orders::{Orders, Preload};
use super::server::Server;
use super::{ProcessGroup, environment, identity, log, settings};
use crate::status::{self, Segment};
use crate::wsgi::STARTUP;
use crate::{
    Answer, Code, Conversation, Event, Left, Limits, LogEntry, Peer, Reply, Runtime, Task,
    allow_descriptors, spawn,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The descriptors that httpd's parent leaves to a worker process, as the first free ones.
pub mod descriptor {
    /// The orders.
    pub const ORDERS: i32 = 3;
    /// The listening socket.
    pub const LISTENER: i32 = 4;
    /// Ends when neither httpd's parent nor one of its children has a use for the process.
    pub const LIFELINE: i32 = 5;
    /// The memory that the process counts in. Behind it are those that it may look at.
    pub const COUNTERS: i32 = 6;
}

/// The signal by which httpd's parent says that it stops at once, or restarts so.
pub const SERVER_STOPS: i32 = libc::SIGQUIT;

/// Signals that mean nothing to the process itself: applications are told of them.
const FOR_APPLICATIONS: [(&str, i32); 2] = [("SIGHUP", libc::SIGHUP), ("SIGUSR2", libc::SIGUSR2)];

/// How long requests under way are waited for when httpd stops at once: as long as in its own processes.
const SERVER_STOPS_LIMIT: Duration = Duration::from_secs(2);

/// How many descriptors a connection takes at most: its socket, what is kept of a response for a slow
/// client, and a file under way.
const DESCRIPTORS: usize = 3;

/// How many descriptors are for all else: the interpreters and what applications open.
const OTHER_DESCRIPTORS: usize = 256;

/// How long a process without shutdown-timeout may take.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// How much later than it should a stop may take until the process goes all the same.
const REAPING: Duration = Duration::from_secs(1);

/// A variable that takes the place of the argument `--serve` where a process has a title instead.
pub const SERVE: &str = "MANIFOLD_WORKER_SERVES";

/// Runs this process as a worker process; returns when it is to exit.
pub fn serve() -> ExitCode {
    // SAFETY: it only looks whether the numbers are descriptors.
    let is_open = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
    // SAFETY: the process has one thread.
    unsafe { std::env::remove_var(SERVE) };
    if ![descriptor::ORDERS, descriptor::LISTENER, descriptor::LIFELINE].into_iter().all(is_open) {
        eprintln!("manifold-worker: --serve is for httpd, which hands descriptors over with it");
        return ExitCode::from(2);
    }
    let [orders, listener, lifeline] =
        [descriptor::ORDERS, descriptor::LISTENER, descriptor::LIFELINE].map(take_descriptor);
    let orders = match Orders::read(File::from(orders)) {
        Ok(orders) => orders,
        Err(why) => {
            log::start(crate::Verbosity::default());
            tracing::error!("{}: a worker process cannot start: {why}", Code::WorkerForeign);
            return ExitCode::FAILURE;
        }
    };
    log::start(orders.settings.verbosity);
    if is_open(descriptor::COUNTERS) {
        let (first, count) = (descriptor::COUNTERS, orders.seen.len());
        let others = (first + 1..).take(count).filter(|number| is_open(*number));
        let others: Vec<_> = others.map(take_descriptor).collect();
        count_in(&orders, &take_descriptor(first), &others);
    }
    match Worker::start(orders, listener, lifeline) {
        Ok(worker) => worker.live(),
        Err(why) => {
            tracing::error!("{}: a worker process cannot start: {why}", Code::WorkerNotStarted);
            ExitCode::FAILURE
        }
    }
}

/// Has the process count where httpd sees it.
fn count_in(orders: &Orders, own: &OwnedFd, others: &[OwnedFd]) {
    let group = &orders.group.name;
    match Segment::of(own) {
        Ok(own) => {
            let seen = orders.seen.iter().zip(others).filter_map(|(name, segment)| {
                Some((name.clone(), Arc::new(Segment::to_read(segment).ok()?)))
            });
            let own = (group.clone(), Arc::new(own));
            status::take_part(group, seen.chain([own]).collect());
        }
        Err(error) => {
            tracing::warn!(
                "{}: nobody sees what this process of process group '{group}' counts: {error}",
                Code::CountersNotMade
            );
        }
    }
}

/// A descriptor that this process has inherited, for itself alone.
fn take_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the caller has found it open, and nothing else in this process knows of it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    // Programs that applications start do not inherit it.
    let _ = rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC);
    descriptor
}

struct Worker {
    server: Arc<Server>,
    life: Life,
    born: Instant,
    lifeline: OwnedFd,
    signals: &'static OwnedFd,
    stop_accepting: Arc<OwnedFd>,
    shutdown: Duration,
    name: String,
    /// When it was looked last whether every GIL can be had, and how long one could not.
    probed: Instant,
    locked: Duration,
}

impl Worker {
    fn start(orders: Orders, listener: OwnedFd, lifeline: OwnedFd) -> Result<Self, String> {
        std::thread::sleep(orders.pause);
        let born = Instant::now();
        let group = &orders.group;
        let account = identity::take_on(group, orders.server_user)?;
        // SAFETY: nothing has made another thread yet.
        if let Some(warning) = unsafe { environment::set_up(group, &account) } {
            tracing::warn!("{warning}");
        }
        identity::die_with_parent(orders.parent)?;
        let signals =
            hear_signals().map_err(|error| format!("no signals can be heard: {error}"))?;
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        let stop_accepting = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)
            .map(Arc::new)
            .map_err(|error| failed("no eventfd", error.into()))?;
        let connections = connections(group, orders.connections);
        let runtime = Runtime::start(settings::settings(&orders.settings, group));
        let server = Server::new(runtime, group, orders.secret, connections, wake)
            .map_err(|error| failed("connections cannot be waited for", error))?;
        let ears = Arc::clone(&server);
        spawn("mnf-listen".to_owned(), move || ears.listen())
            .map_err(|error| failed("no thread to hear connections", error))?;
        let (also, stop) = (Arc::clone(&server), Arc::clone(&stop_accepting));
        let listener = UnixListener::from(listener);
        let is_script = group.threads == 0;
        let preloads = orders.preloads.clone();
        let begin = move || {
            if is_script {
                status::process_serves();
            }
            load_ahead(also.runtime(), &preloads);
            status::process_serves();
            if is_script {
                // It was the process. Nobody connects to one without threads.
                FINISHED.store(true, Ordering::SeqCst);
                wake();
            } else {
                also.accept(&listener, &stop);
            }
        };
        spawn("mnf-accept".to_owned(), begin)
            .map_err(|error| failed("no thread to accept connections", error))?;
        let shutdown = group.timeouts.shutdown.unwrap_or(LONG);
        Ok(Self {
            server,
            life: Life::new(&group.renewal, &group.timeouts),
            born,
            lifeline,
            signals,
            stop_accepting,
            shutdown,
            name: group.name.to_string(),
            probed: born,
            locked: Duration::ZERO,
        })
    }

    /// Waits for the end, and brings it about.
    fn live(mut self) -> ExitCode {
        tracing::info!("a worker process of process group '{}' serves requests", self.name);
        let mut fades = None;
        let reason = loop {
            let order = self.wait();
            self.probe_gils();
            let state = self.state();
            match self.life.step(&state, order) {
                Step::Serve => {}
                Step::Fade(reason, limit) => {
                    if fades.replace(reason) != Some(reason) {
                        tracing::info!(
                            "a worker process of process group '{}' ends when its requests have, in \
                             {} s at most: {reason}",
                            self.name,
                            limit.as_secs_f64()
                        );
                    }
                }
                Step::End(reason) => break reason,
            }
        };
        self.end(reason)
    }

    /// Waits until something is to be looked at.
    fn wait(&self) -> Option<Order> {
        let limit = self.life.look_again(&self.state());
        let limit = limit.min(self.life.probe_interval().unwrap_or(limit));
        let limit = Timespec::try_from(limit).expect("a short time");
        let mut wanted =
            [PollFd::new(self.signals, PollFlags::IN), PollFd::new(&self.lifeline, PollFlags::IN)];
        // Interrupted by a signal: that is seen below.
        let _ = rustix::event::poll(&mut wanted, Some(&limit));
        let orphaned = !wanted[1].revents().is_empty();
        let _ = rustix::io::read(self.signals, &mut [0; 8]);
        let heard = HEARD.swap(0, Ordering::SeqCst);
        let is_heard = |signal: i32| heard & 1 << signal != 0;
        for signal in FOR_APPLICATIONS.into_iter().filter(|(_, number)| is_heard(*number)) {
            self.server.runtime().tell_signal(signal);
        }
        if is_heard(libc::SIGTERM) || is_heard(libc::SIGINT) {
            Some(Order::Terminate)
        } else if orphaned || is_heard(SERVER_STOPS) {
            Some(Order::Orphaned)
        } else if is_heard(libc::SIGUSR1) {
            Some(Order::Evict)
        } else if is_heard(libc::SIGXCPU) {
            Some(Order::CpuTime)
        } else {
            None
        }
    }

    /// From time to time, looks whether every GIL can be had.
    fn probe_gils(&mut self) {
        let Some(interval) = self.life.probe_interval() else { return };
        if self.probed.elapsed() >= interval {
            self.probed = Instant::now();
            self.locked = self.server.runtime().probe_gils();
        }
    }

    fn state(&self) -> State {
        let activity = &self.server.activity;
        State {
            age: self.born.elapsed(),
            active: activity.active(),
            started: self.server.started(),
            served: activity.served(),
            quiet: activity.quiet_for(),
            late: activity.is_late(),
            outdated: activity.is_outdated(),
            trying: STARTUP.trying_for(),
            locked: self.locked,
            finished: FINISHED.load(Ordering::SeqCst),
        }
    }

    fn end(self, reason: Reason) -> ExitCode {
        tracing::info!("a worker process of process group '{}' ends: {reason}", self.name);
        status::process_drains();
        let deadline = Instant::now() + self.shutdown;
        let reaper = move || {
            std::thread::sleep((deadline + REAPING).saturating_duration_since(Instant::now()));
            leave(1);
        };
        // Without one, what applications leave behind may hold the process up.
        let _ = spawn("mnf-reaper".to_owned(), reaper);
        let _ = rustix::io::write(&*self.stop_accepting, &1_u64.to_ne_bytes());
        self.server.close();
        self.server.runtime().set_shutdown_reason(reason.name());
        let requests = match reason {
            Reason::ServerGone => deadline.min(Instant::now() + SERVER_STOPS_LIMIT),
            _ => deadline,
        };
        let limits = Limits { requests, everything: deadline };
        self.server.runtime().stop_taking(limits);
        let left = self.server.runtime().finish(limits);
        // What the last responses were is still being sent.
        while self.server.activity.active() > 0 && Instant::now() < requests {
            std::thread::sleep(Duration::from_millis(5));
        }
        if left == Left::Threads {
            tracing::warn!(
                "{}: a worker process of process group '{}' goes without what did not end within \
                 shutdown-timeout ({} s)",
                Code::NotEnded,
                self.name,
                self.shutdown.as_secs_f64()
            );
        }
        // No destructor runs under threads that are left.
        leave(0)
    }
}

/// How many connections the process takes, of so many that httpd may make: as many as there are
/// descriptors for.
fn connections(group: &ProcessGroup, wanted: usize) -> usize {
    let all = wanted * DESCRIPTORS + OTHER_DESCRIPTORS;
    let Err(allowed) = allow_descriptors(all) else { return wanted };
    let room = allowed - OTHER_DESCRIPTORS.min(allowed / 2);
    let fewer = (room / DESCRIPTORS).clamp(1, wanted.max(1));
    tracing::warn!(
        "{}: a worker process of process group '{}' may have {allowed} files open, and {wanted} \
         connections of httpd may take {all}: it takes no more than {fewer}, and further requests wait \
         for one of them. Raise the hard limit with which httpd is started (ulimit -H -n, or LimitNOFILE= \
         in systemd's unit)",
        Code::FewDescriptors,
        group.name
    );
    fewer
}

/// Ends the process, without destructors.
fn leave(status: i32) -> ! {
    // SAFETY: it ends the process.
    unsafe { libc::_exit(status) }
}

/// Loads what is loaded before the first request, into all replicas, and waits for it. A failure is
/// logged; the first request tries again.
fn load_ahead(runtime: &Runtime, preloads: &[Preload]) {
    let mut loading = Vec::new();
    for preload in preloads {
        let Ok(script) = preload.script() else { continue };
        let started = runtime.dispatch_to_each(&preload.group, |job| {
            job.task = Task::Load;
            job.script = Some(Arc::clone(&script));
        });
        match started {
            Ok(conversations) => loading.extend(conversations),
            Err(refusal) => tracing::error!("{refusal}"),
        }
    }
    loading.iter().for_each(wait_for_load);
}

fn wait_for_load(conversation: &Conversation) {
    loop {
        match conversation.next() {
            Event::Reply(Reply::Log(entry)) => LogEntry::write_alone(entry),
            Event::Reply(Reply::AskVariable(_)) => conversation.answer(Answer::Variable(None)),
            // A script that is being loaded has no request to ask about.
            Event::Reply(Reply::Ask { .. }) => conversation.answer(Answer::Failed),
            Event::Reply(Reply::Response(_) | Reply::Returned(_)) => return,
            Event::Failed(refusal) => return tracing::error!("{refusal}"),
        }
    }
}

/// The script of a process without threads has ended.
static FINISHED: AtomicBool = AtomicBool::new(false);

/// Has the main thread look what has changed.
fn wake() {
    let one = 1_u64;
    // SAFETY: eight bytes are written; the descriptor is open as long as the process lives.
    unsafe { libc::write(WAKE.load(Ordering::SeqCst), (&raw const one).cast(), 8) };
}

/// Signals that have come, as bits of their numbers.
static HEARD: AtomicU32 = AtomicU32::new(0);

/// What wakes the main thread.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Has signals noted. Handlers, and not a mask: programs that applications start would inherit that.
fn hear_signals() -> io::Result<&'static OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    // It lives as long as the process, since a handler may run at any time.
    let wake: &'static OwnedFd = Box::leak(Box::new(rustix::event::eventfd(0, flags)?));
    WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
    let ours = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGXCPU, SERVER_STOPS];
    for signal in ours.into_iter().chain(FOR_APPLICATIONS.map(|(_, number)| number)) {
        // SAFETY: all bits zero is a valid sigaction, with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler is async-signal-safe and stays.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(wake)
}

/// Async-signal-safe.
extern "C" fn note_signal(signal: i32) {
    HEARD.fetch_or(1 << signal, Ordering::SeqCst);
    let one = 1_u64;
    // SAFETY: write(2) may be called in a handler, but leaves errno to whoever was interrupted.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKE.load(Ordering::SeqCst), (&raw const one).cast(), 8);
        *libc::__errno_location() = errno;
    }
}
