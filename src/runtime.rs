//! The Python runtime of a process: its application groups, from the first to the last request.

use crate::exchange::{ApplicationEnd, Exchanges, Listener, RequestEnd};
use crate::group::{Group, Shared};
use crate::interp::ending::End;
use crate::pool::Limits;
use crate::scheduling;
use crate::status::{self, State};
use crate::{Code, Conversation, GroupName, Job, Patience, Refusal, Settings, Store};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// How many exchanges a process may have at once, for each request thread: requests nest.
const EXCHANGES_PER_THREAD: usize = 16;

/// CPython in this process, and the application groups it serves. There is one in a process, made
/// after the last fork.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    main: Arc<Group>,
    /// CPython could not be started, so nothing can be served.
    refusal: Option<Refusal>,
    groups: RwLock<Groups>,
    exchanges: Arc<Exchanges>,
}

/// The groups that have an interpreter of their own, or will have.
#[derive(Debug, Default)]
struct Groups {
    by_name: HashMap<GroupName, Arc<Group>>,
    /// No more are made.
    closed: bool,
}

/// What [`Runtime::finish`] leaves behind. The process is to go by `_exit` in any case: a thread whose
/// work is done still runs the destructors of what is its own, which must not meet those that `exit`
/// runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing of ours runs any more.
    Nothing,
    /// Daemon threads of applications, which end with the process.
    Daemons,
    /// Threads that should have ended by the deadline.
    Threads,
}

impl Runtime {
    /// Starts CPython on a thread of its own and waits until it has started. Where it cannot be
    /// started, that is logged, and every request is refused with [`Code::PythonNotStarted`].
    pub fn start(settings: Settings) -> Self {
        let store = Store::new(settings.response_buffer);
        Self::start_with_store(settings, store)
    }

    /// The same, with a store that others in the process use as well.
    pub fn start_with_store(settings: Settings, store: Arc<Store>) -> Self {
        let threads = settings.request_threads.max(settings.interpreter_threads);
        let shared = Arc::new(Shared::new(settings));
        let main = Group::start_main(&shared);
        let refusal = main.refusal().map(|refusal| {
            let detail =
                "Python does not run in this process; the critical line of its start says why";
            status::process().enter(State::Failed);
            Refusal::new(refusal.code, detail)
        });
        Self {
            shared,
            main,
            refusal,
            groups: RwLock::default(),
            exchanges: Exchanges::with_store(threads * EXCHANGES_PER_THREAD, store),
        }
    }

    /// Hands a job to an application group; `fill` writes it.
    ///
    /// # Errors
    ///
    /// The group has no room or cannot serve; nothing was started.
    pub fn dispatch(
        &self,
        group: &GroupName,
        patience: Patience,
        fill: impl FnOnce(&mut Job),
    ) -> Result<Conversation, Refusal> {
        scheduling::wait_behind_others();
        self.dispatch_heard(group, patience, None, fill)
    }

    /// The same for a thread that does not wait for one conversation alone: the listener is told when
    /// there may be something.
    pub(crate) fn dispatch_heard(
        &self,
        group: &GroupName,
        patience: Patience,
        listener: Option<Weak<dyn Listener>>,
        fill: impl FnOnce(&mut Job),
    ) -> Result<Conversation, Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let group = self.group(group)?;
        let (request, application) = self.open(listener, |job| {
            fill(job);
            let now = Instant::now();
            job.queued = Some(now);
            job.deadline = job.timeout.map(|timeout| now + timeout.limit);
        })?;
        let job = application.job();
        let deadline = job.deadline.zip(job.timeout.map(|timeout| timeout.limit));
        let waiting = group.submit(application)?;
        Ok(Conversation::new(request, group, patience, deadline, waiting))
    }

    /// Hands a job to every replica of an application group, for what each of them has to do once,
    /// such as loading a script; `fill` writes each.
    ///
    /// # Errors
    ///
    /// The group cannot serve, or has no room.
    pub fn dispatch_to_each(
        &self,
        group: &GroupName,
        fill: impl Fn(&mut Job),
    ) -> Result<Vec<Conversation>, Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let group = self.group(group)?;
        let ends = group.submit_to_each(|| self.open(None, &fill))?;
        let conversation =
            |end| Conversation::new(end, Arc::clone(&group), Patience::Endless, None, 0);
        Ok(ends.into_iter().map(conversation).collect())
    }

    fn open(
        &self,
        listener: Option<Weak<dyn Listener>>,
        fill: impl FnOnce(&mut Job),
    ) -> Result<(RequestEnd, ApplicationEnd), Refusal> {
        self.exchanges.open_with(listener, fill).ok_or_else(|| {
            let detail = format!("{} requests are in this process already", self.exchanges.live());
            Refusal::new(Code::QueueFull, detail)
        })
    }

    /// Fails every request that waits and takes no more, for a process that stops at once. Safe to
    /// call again.
    pub fn interrupt(&self, limits: Limits) {
        self.exchanges.interrupt();
        self.stop_taking(limits);
    }

    /// Takes no more requests and throws away those that no thread has taken; those under way go on.
    /// To be called before [`Runtime::finish`], where another process can serve them.
    pub fn stop_taking(&self, limits: Limits) {
        for group in self.close().iter().chain([&self.main]) {
            group.close(limits);
            group.discard();
        }
    }

    /// Takes no more requests, waits for those under way, calls what applications registered with
    /// `atexit`, and ends the interpreters, all of it within limits; those given first hold.
    pub fn finish(&self, limits: Limits) -> Left {
        if let Some(watchdog) = self.shared.watchdog() {
            watchdog.stop();
        }
        let subinterpreters = self.close();
        for group in subinterpreters.iter().chain([&self.main]) {
            group.close(limits);
        }
        let ends = subinterpreters.iter().map(|group| group.wait_for_end());
        let worst = ends.max().unwrap_or(End::Gone);
        self.shared.tell_others_gone(worst == End::Gone);
        match worst.max(self.main.wait_for_end()) {
            End::Gone | End::Parked => Left::Nothing,
            End::Daemons => Left::Daemons,
            End::Late => Left::Threads,
        }
    }

    /// Why the process stops, which applications are told when it does. The first reason holds.
    pub fn set_shutdown_reason(&self, reason: &'static str) {
        self.shared.set_shutdown_reason(reason);
    }

    /// Has applications told of a signal that the process was sent, by its name and number. Returns at
    /// once.
    pub fn tell_signal(&self, signal: (&'static str, i32)) {
        self.groups_there_are().iter().for_each(|group| group.tell_signal(signal));
    }

    /// Has the GIL of every interpreter taken once, and returns at once: with the longest time for which
    /// one has been waited for since an earlier call.
    pub fn probe_gils(&self) -> Duration {
        let groups = self.groups_there_are();
        groups.iter().map(|group| group.probe_gils()).max().unwrap_or_default()
    }

    fn groups_there_are(&self) -> Vec<Arc<Group>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.by_name.values().chain([&self.main]).cloned().collect()
    }

    fn group(&self, name: &GroupName) -> Result<Arc<Group>, Refusal> {
        if name.is_main() {
            self.shared.main_holder().get_or_init(|| name.clone());
            return Ok(Arc::clone(&self.main));
        }
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.by_name.get(name) {
            return Ok(Arc::clone(group));
        }
        drop(groups);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.by_name.get(name) {
            return Ok(Arc::clone(group));
        }
        if groups.closed {
            return Err(Refusal::new(
                Code::Stopping,
                "the process stops and takes no more requests",
            ));
        }
        let group = Group::new(name.clone(), &self.shared);
        // The main interpreter is one of those that the limit counts.
        let limit = self.shared.settings().interpreter_limit;
        let others = groups.by_name.values().map(|group| group.replicas()).sum::<usize>() + 1;
        let wanted = group.replicas();
        if others + wanted > limit {
            let too_many = others + wanted - limit;
            return Err(Refusal::new(
                Code::InterpreterLimit,
                format!(
                    "application group '{name}' would need {too_many} interpreter{} more than \
                     WSGIInterpreterLimit ({limit}) allows; raise it, or give the scripts a fixed \
                     application group",
                    if too_many == 1 { "" } else { "s" }
                ),
            ));
        }
        groups.by_name.insert(name.clone(), Arc::clone(&group));
        Ok(group)
    }

    /// From now on no group is made; returns those there are, but for the main interpreter's.
    fn close(&self) -> Vec<Arc<Group>> {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.closed = true;
        groups.by_name.values().cloned().collect()
    }
}
