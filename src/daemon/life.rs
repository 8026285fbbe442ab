//! When a worker process ends, and how.
#![forbid(unsafe_code)]

use super::{Renewal, Timeouts};
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// What has been going on in a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// How old it is.
    pub(crate) age: Duration,
    /// How many requests are under way.
    pub(crate) active: usize,
    /// How many of those have started. Another process can serve the others.
    pub(crate) started: usize,
    /// How many have ended.
    pub(crate) served: u64,
    /// For how long none has begun or ended.
    pub(crate) quiet: Duration,
    /// A request has taken too long.
    pub(crate) late: bool,
    /// A script has changed that was loaded.
    pub(crate) outdated: bool,
    /// For how long it was tried in vain to load a first script.
    pub(crate) trying: Option<Duration>,
    /// For how long some GIL could not be had.
    pub(crate) locked: Duration,
    /// The script that is the process has ended.
    pub(crate) finished: bool,
}

/// What others want of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGUSR1.
    Evict,
    /// SIGXCPU.
    CpuTime,
    /// The server stops, or has gone, or has no use for the process any more.
    Orphaned,
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Signal,
    Eviction,
    Graceful,
    CpuTime,
    MaximumRequests(NonZeroU64),
    Interval(Duration),
    Inactivity(Duration),
    RequestTimeout,
    Startup(Duration),
    Deadlock(Duration),
    ScriptReload,
    ScriptEnded,
    ServerGone,
}

/// What a process does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It serves requests.
    Serve,
    /// It serves requests until none is under way, but no longer than this from when it was first
    /// said; then it ends.
    Fade(Reason, Duration),
    /// It ends.
    End(Reason),
}

/// The rules by which a process lives.
#[derive(Debug)]
pub(crate) struct Life {
    renewal: Renewal,
    timeouts: Timeouts,
    /// Why it fades, and at what age it ends then.
    fading: Option<(Reason, Duration)>,
}

impl Life {
    pub(crate) fn new(renewal: &Renewal, timeouts: &Timeouts) -> Self {
        Self { renewal: renewal.clone(), timeouts: timeouts.clone(), fading: None }
    }

    /// What the process does next, given what it was told since it was last asked.
    pub(crate) fn step(&mut self, state: &State, order: Option<Order>) -> Step {
        match order {
            Some(Order::Terminate) => return Step::End(Reason::Signal),
            Some(Order::Orphaned) => return Step::End(Reason::ServerGone),
            Some(Order::Evict) => {
                let (reason, limit) = match self.timeouts.eviction {
                    Some(limit) => (Reason::Eviction, limit),
                    None => (Reason::Graceful, self.timeouts.graceful),
                };
                self.fade(reason, limit, state);
            }
            Some(Order::CpuTime) => self.fade(Reason::CpuTime, self.timeouts.graceful, state),
            None => {}
        }
        if let Some(reason) = self.is_over(state) {
            return Step::End(reason);
        }
        if let Some(reason) = self.is_due(state) {
            self.fade(reason, self.timeouts.graceful, state);
        }
        match self.fading {
            None => Step::Serve,
            Some((reason, until)) if state.started == 0 || state.age >= until => Step::End(reason),
            Some((reason, until)) => Step::Fade(reason, until.saturating_sub(state.age)),
        }
    }

    /// Why it ends at once.
    fn is_over(&self, state: &State) -> Option<Reason> {
        let reached =
            |limit: Option<Duration>, time: Duration| limit.filter(|limit| time >= *limit);
        if state.outdated {
            return Some(Reason::ScriptReload);
        }
        if state.finished {
            return Some(Reason::ScriptEnded);
        }
        if let Some(limit) = reached(self.timeouts.deadlock, state.locked) {
            return Some(Reason::Deadlock(limit));
        }
        if let Some(limit) = state.trying.and_then(|time| reached(self.timeouts.startup, time)) {
            return Some(Reason::Startup(limit));
        }
        let idle = state.active == 0;
        let limit = reached(self.renewal.inactivity, state.quiet).filter(|_| idle)?;
        Some(Reason::Inactivity(limit))
    }

    fn is_due(&self, state: &State) -> Option<Reason> {
        if state.late {
            return Some(Reason::RequestTimeout);
        }
        if let Some(limit) = self.renewal.maximum_requests
            && state.served >= limit.get()
        {
            return Some(Reason::MaximumRequests(limit));
        }
        let limit = self.renewal.interval.filter(|limit| state.age >= *limit)?;
        Some(Reason::Interval(limit))
    }

    /// The first reason counts.
    fn fade(&mut self, reason: Reason, limit: Duration, state: &State) {
        self.fading.get_or_insert((reason, state.age + limit));
    }

    /// In how long to look again, if nothing happens before.
    pub(crate) fn look_again(&self, state: &State) -> Duration {
        const OFTEN: Duration = Duration::from_millis(50);
        const SELDOM: Duration = Duration::from_millis(500);
        if self.fading.is_some() || self.renewal.maximum_requests.is_some() {
            return OFTEN;
        }
        let until_old = self.renewal.interval.map(|limit| limit.saturating_sub(state.age));
        let until_idle = self.renewal.inactivity.map(|limit| limit.saturating_sub(state.quiet));
        let until_given_up = self.timeouts.startup.zip(state.trying);
        let until_given_up = until_given_up.map(|(limit, time)| limit.saturating_sub(time));
        let soonest = until_old.into_iter().chain(until_idle).chain(until_given_up).min();
        soonest.unwrap_or(SELDOM).clamp(OFTEN, SELDOM)
    }

    /// How often to look whether every GIL can be had.
    pub(crate) fn probe_interval(&self) -> Option<Duration> {
        const OFTEN: Duration = Duration::from_millis(50);
        const SELDOM: Duration = Duration::from_secs(30);
        self.timeouts.deadlock.map(|limit| (limit / 10).clamp(OFTEN, SELDOM))
    }
}

impl Reason {
    /// What `process_stopping` is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signal | Self::ServerGone => "shutdown_signal",
            Self::Eviction => "eviction_signal",
            Self::Graceful => "graceful_signal",
            Self::CpuTime => "cpu_time_limit",
            Self::MaximumRequests(_) => "maximum_requests",
            Self::Interval(_) => "restart_interval",
            Self::Inactivity(_) => "inactivity_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::Startup(_) => "startup_timeout",
            Self::Deadlock(_) => "deadlock_timeout",
            Self::ScriptReload => "script_reload",
            Self::ScriptEnded => "",
        }
    }
}

/// For the log.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("it was told to by a signal"),
            Self::Eviction | Self::Graceful => f.write_str("it was told to by SIGUSR1"),
            Self::CpuTime => f.write_str("it has used up cpu-time-limit"),
            Self::MaximumRequests(limit) => write!(f, "it has served maximum-requests={limit}"),
            Self::Interval(limit) => {
                write!(f, "it is older than restart-interval={}", limit.as_secs_f64())
            }
            Self::Inactivity(limit) => {
                write!(f, "it has had nothing to do for inactivity-timeout={}", limit.as_secs_f64())
            }
            Self::RequestTimeout => f.write_str("a request took longer than request-timeout"),
            Self::Startup(limit) => {
                write!(f, "it has loaded no script within startup-timeout={}", limit.as_secs_f64())
            }
            Self::Deadlock(limit) => write!(
                f,
                "a GIL was not let go for deadlock-timeout={}: native code waits or computes with it",
                limit.as_secs_f64()
            ),
            Self::ScriptReload => f.write_str("a script has changed"),
            Self::ScriptEnded => f.write_str("its script has ended"),
            Self::ServerGone => f.write_str("the httpd that has started it has gone or restarted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn life(renewal: Renewal) -> Life {
        Life::new(&renewal, &Timeouts::default())
    }

    fn busy(age: u32, served: u64) -> State {
        State { age: SECOND * age, active: 1, started: 1, served, ..State::default() }
    }

    #[test]
    fn nothing_ends_a_process_of_which_nothing_is_said() {
        let mut life = life(Renewal::default());
        for age in [0, 1000, 1_000_000] {
            assert_eq!(life.step(&busy(age, u64::from(age)), None), Step::Serve);
            let idle = State { active: 0, quiet: SECOND * age, ..busy(age, 9) };
            assert_eq!(life.step(&idle, None), Step::Serve);
        }
    }

    #[test]
    fn a_signal_ends_it_at_once_whatever_it_does() {
        for order in [Order::Terminate, Order::Orphaned] {
            let mut life = life(Renewal::default());
            assert_eq!(
                life.step(&busy(1, 0), Some(Order::Evict)),
                Step::Fade(Reason::Graceful, SECOND * 15)
            );
            assert!(matches!(life.step(&busy(2, 0), Some(order)), Step::End(_)));
        }
    }

    #[test]
    fn after_its_last_request_it_ends_when_none_is_under_way_or_the_time_is_over() {
        let limit = NonZeroU64::new(3).unwrap();
        let renewal = Renewal { maximum_requests: Some(limit), ..Renewal::default() };
        let mut life = life(renewal);
        assert_eq!(life.step(&busy(0, 2), None), Step::Serve);
        let reason = Reason::MaximumRequests(limit);
        assert_eq!(life.step(&busy(1, 3), None), Step::Fade(reason, SECOND * 15));
        assert_eq!(life.step(&busy(9, 5), None), Step::Fade(reason, SECOND * 7));
        let idle = State { started: 0, ..busy(9, 5) };
        assert_eq!(life.step(&idle, None), Step::End(reason));
        assert_eq!(life.step(&busy(16, 6), None), Step::End(reason));
    }

    #[test]
    fn it_ends_where_it_has_been_idle_for_long_and_not_while_a_request_is_under_way() {
        let renewal = Renewal { inactivity: Some(SECOND * 5), ..Renewal::default() };
        let mut life = life(renewal);
        let state = |active, quiet| State { active, quiet: SECOND * quiet, ..busy(100, 1) };
        assert_eq!(life.step(&state(0, 4), None), Step::Serve);
        assert_eq!(life.step(&state(1, 50), None), Step::Serve);
        assert_eq!(life.step(&state(0, 5), None), Step::End(Reason::Inactivity(SECOND * 5)));
    }

    #[test]
    fn the_first_reason_counts() {
        let renewal = Renewal { interval: Some(SECOND), ..Renewal::default() };
        let mut life = life(renewal);
        assert!(matches!(life.step(&busy(2, 0), None), Step::Fade(Reason::Interval(_), _)));
        let late = State { late: true, ..busy(3, 0) };
        assert!(matches!(
            life.step(&late, Some(Order::CpuTime)),
            Step::Fade(Reason::Interval(_), _)
        ));
    }
}
