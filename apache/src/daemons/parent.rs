//! The worker processes, as httpd's parent sees them.
//!
//! Each configuration that httpd reads for serving is a **generation** here: its sockets, its secrets,
//! and the processes that were started for it. What is kept outlives httpd's pools and configurations
//! (this module's code stays mapped), because processes of an earlier generation serve on while httpd's
//! children of that generation do:
//!
//! - Every process of a generation holds the reading end of a pipe, its **lifeline**; httpd's parent and
//!   the generation's children hold the writing end. When the last of those has closed it, by a restart,
//!   a stop or a crash, the process ends. So no child is ever left without its workers, and no worker
//!   without its httpd.
//! - httpd's parent holds the listening socket as well, so connections wait while a process is replaced.
//!
//! All of it runs on httpd's main thread, where nothing else does.

use super::place::{Place, random, socket_path};
use super::start::{self, lifeline};
use crate::config::{self, ServerConfig};
use crate::status::memory;
use crate::{boundary, child, log};
use httpd_sys::*;
use manifold::daemon::{Address, ProcessGroup, SERVER_STOPS, Workers};
use manifold::{Code, GroupName, Level, Store};
use rustix::process::{Resource, getrlimit};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much longer than shutdown-timeout a process may take before it is killed, when httpd stops.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything that the parent knows.
static PARENT: Mutex<Parent> =
    Mutex::new(Parent { current: None, processes: Vec::new(), count: 0, secrets: BTreeMap::new() });

struct Parent {
    current: Option<Generation>,
    /// All that have not been seen to end, of any generation.
    processes: Vec<Process>,
    /// How many generations there have been.
    count: u64,
    /// Of the latest generation, by socket: one that keeps its name keeps its secret, so that children
    /// of an earlier generation can use it.
    secrets: BTreeMap<PathBuf, [u8; 32]>,
}

/// What was made for one configuration.
struct Generation {
    number: u64,
    /// What its processes wait at.
    lifeline: OwnedFd,
    /// What is held as long as the generation is wanted.
    hold: OwnedFd,
    places: Vec<Place>,
}

/// A process that was started.
struct Process {
    pid: i32,
    generation: u64,
    place: usize,
    path: PathBuf,
    name: GroupName,
    shutdown: Option<Duration>,
    /// It was told to end.
    told: bool,
    /// What APR knows it by. It lives as long as the process is registered.
    record: Box<apr_proc_t>,
}

// SAFETY: the pointers in APR's record are null; httpd's parent has one thread.
unsafe impl Send for Process {}

fn parent() -> MutexGuard<'static, Parent> {
    PARENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the processes of a configuration that httpd is about to serve.
pub(crate) fn begin(pool: *mut apr_pool_t, main: *mut server_rec) -> c_int {
    let begun = boundary::answer(|| {
        // SAFETY: httpd passes the main server, and nothing else looks at its record meanwhile.
        let config = unsafe { config::server(main) };
        if config.daemons.is_empty() {
            return true;
        }
        note_deaths();
        // SAFETY: the pool is that of the configuration; forked programs need not run the cleanup.
        unsafe {
            apr_pool_cleanup_register(
                pool,
                std::ptr::null(),
                Some(end_generation),
                Some(apr_pool_cleanup_null),
            );
        }
        let mut parent = parent();
        match parent.make(main, config) {
            Ok(()) => {
                let places =
                    parent.current.as_ref().map_or(0, |generation| generation.places.len());
                say_if_descriptors_are_few(places);
                (0..places).for_each(|place| parent.start(place));
                if is_one_process() {
                    parent.have_sockets_removed();
                }
                true
            }
            Err(why) => {
                let text =
                    format!("{}: no worker process is started: {why}", Code::WorkerNotStarted);
                log::server(Level::Critical, &text);
                false
            }
        }
    });
    if begun == Some(true) { OK as c_int } else { HTTP_INTERNAL_SERVER_ERROR as c_int }
}

impl Parent {
    fn make(&mut self, main: *mut server_rec, config: &ServerConfig) -> Result<(), String> {
        let (lifeline, hold) = lifeline().map_err(|error| format!("no pipe: {error}"))?;
        let number = self.count;
        self.count += 1;
        let mut places = Vec::new();
        if let Err(why) = self.make_places(&mut places, number, main, config) {
            // Nobody will ever listen there.
            places.iter().for_each(|place| remove_socket(&place.path));
            return Err(why);
        }
        let generation = Generation { number, lifeline, hold, places };
        let secret = |place: &Place| (place.path.clone(), place.orders.secret);
        self.secrets = generation.places.iter().map(secret).collect();
        self.current = Some(generation);
        Ok(())
    }

    fn make_places(
        &self,
        places: &mut Vec<Place>,
        number: u64,
        main: *mut server_rec,
        config: &ServerConfig,
    ) -> Result<(), String> {
        for (index, daemon) in config.daemons.iter().enumerate() {
            let group = Arc::new(daemon.resolved()?);
            for process in 0..group.processes.get() {
                let path = socket_path(config, number, index + 1, process);
                let secret = self.secrets.get(&path).copied().map_or_else(random, Ok)?;
                places.push(Place::new(main, config, daemon, &group, path, secret)?);
            }
        }
        Ok(())
    }

    /// Starts a process for a place. Where that fails it says so, and httpd's parent tries again.
    fn start(&mut self, index: usize) {
        let Some(generation) = &mut self.current else { return };
        let number = generation.number;
        let place = &mut generation.places[index];
        let pid = match place.start(generation.lifeline.as_fd()) {
            Ok(pid) => pid,
            Err(why) => {
                let text =
                    format!("{}: {why}; httpd tries again within 30 s", Code::WorkerNotStarted);
                return log::server(Level::Critical, &text);
            }
        };
        // SAFETY: all zero is a record of a process without pipes.
        let mut record: Box<apr_proc_t> = Box::new(unsafe { std::mem::zeroed() });
        record.pid = pid;
        let process = Process {
            pid,
            generation: number,
            place: index,
            path: place.path.clone(),
            name: place.group.name.clone(),
            shutdown: place.group.timeouts.shutdown,
            told: false,
            record,
        };
        let record: *mut apr_proc_t = (&raw const *process.record).cast_mut();
        // SAFETY: the record lives in `self.processes` until it is unregistered; httpd's process pool
        // outlives every configuration. The number of the process is what the callback is told.
        unsafe {
            apr_proc_other_child_register(
                record,
                Some(maintain),
                pid as usize as *mut c_void,
                std::ptr::null_mut(),
                (*(*ap_server_conf).process).pool,
            );
        }
        self.processes.push(process);
    }

    /// Fills the places for which no process could be started, where it is time to.
    fn try_again(&mut self) {
        let places = self.current.iter().flat_map(|generation| generation.places.iter());
        let due: Vec<_> = places
            .enumerate()
            .filter(|(_, place)| place.is_due())
            .map(|(index, _)| index)
            .collect();
        due.into_iter().for_each(|index| self.start(index));
    }

    /// Has the sockets' files removed when this process has gone, which may not be root then any more.
    fn have_sockets_removed(&self) {
        let Some(generation) = &self.current else { return };
        let paths: Vec<_> = generation.places.iter().map(|place| place.path.as_path()).collect();
        if let Err(error) = start::remove_in_the_end(&paths, generation.lifeline.as_fd()) {
            let text = format!("the sockets of worker processes will stay behind: {error}");
            log::server(Level::Warning, &text);
        }
    }

    /// httpd's children are ended at once, and so are all processes: requests are not waited for.
    fn order_end(&mut self) {
        for process in self.processes.iter_mut().filter(|process| !process.told) {
            process.told = true;
            // SAFETY: a child of this process that it has not yet waited for, so the number is its own.
            unsafe { libc::kill(process.pid, SERVER_STOPS) };
        }
    }

    /// A process has ended.
    fn ended(&mut self, pid: i32, status: c_int, may_start: bool) {
        let Some(position) = self.processes.iter().position(|process| process.pid == pid) else {
            return;
        };
        let process = self.processes.swap_remove(position);
        let is_current = |generation: &&mut Generation| generation.number == process.generation;
        let Some(generation) = self.current.as_mut().filter(is_current) else {
            // Of an earlier configuration: its socket has no further use, unless the name has.
            if !self.secrets.contains_key(&process.path) {
                remove_socket(&process.path);
            }
            return;
        };
        let place = &mut generation.places[process.place];
        let (level, how) = match process.told {
            // It may have had no time to become one that knows the signal.
            true => (Level::Info, "has ended".to_owned()),
            false => describe(pid, status),
        };
        let pause = place.ended(level == Level::Info);
        if level != Level::Info {
            memory::worker_died(&process.name);
        }
        let next = match (may_start, pause) {
            (false, _) => "httpd stops".to_owned(),
            (true, Duration::ZERO) => "another one is started".to_owned(),
            (true, pause) => format!("another one starts in {} s", pause.as_secs_f64()),
        };
        let text = format!(
            "{}worker process {pid}{} of process group '{}' {how}; {next}",
            if level == Level::Info { String::new() } else { format!("{}: ", Code::WorkerDied) },
            // It may be another program than it should be.
            match place.failures {
                0 => String::new(),
                _ => format!(" ('{}')", place.program.display()),
            },
            process.name
        );
        log::server(level, &text);
        if may_start {
            self.start(process.place);
        }
    }
}

/// Says so where a child of httpd may not have as many descriptors open as it may need. It raises its
/// soft limit by itself.
fn say_if_descriptors_are_few(workers: usize) {
    let wanted = super::descriptors(workers);
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if most >= wanted as u64 {
        return;
    }
    let text = format!(
        "{}: a child of httpd may have {most} files open, and connections of {} threads to {workers} worker \
         processes may take {wanted}; where they are used up, requests get 503. Raise the hard limit with \
         which httpd is started (ulimit -H -n, or LimitNOFILE= in systemd's unit)",
        Code::FewDescriptors,
        child::request_threads()
    );
    log::server(Level::Warning, &text);
}

/// Whether the process serves requests by itself (httpd -X).
fn is_one_process() -> bool {
    // SAFETY: the names are literals.
    let is_defined = |name: &CStr| unsafe { ap_exists_config_define(name.as_ptr()) } != 0;
    is_defined(c"DEBUG") || is_defined(c"ONE_PROCESS")
}

/// APR tells of a process that was registered.
unsafe extern "C" fn maintain(reason: c_int, data: *mut c_void, status: c_int) {
    boundary::quiet(|| {
        if reason == APR_OC_REASON_RESTART as c_int {
            // httpd waits for its children, not gracefully.
            return parent().order_end();
        }
        if reason != APR_OC_REASON_DEATH as c_int && reason != APR_OC_REASON_LOST as c_int {
            return;
        }
        // APR has taken the record out of its entry, and would follow it at the next death.
        // SAFETY: it looks for this pointer among its entries, and follows it nowhere.
        unsafe { apr_proc_other_child_unregister(data) };
        let pid = c_int::try_from(data as usize).unwrap_or(0);
        parent().ended(pid, status, !is_stopping());
    });
}

/// Whether httpd is about to stop, or to read its configuration again.
fn is_stopping() -> bool {
    child::mpm(AP_MPMQ_MPM_STATE) == AP_MPMQ_STOPPING as c_int
}

/// httpd's parent looks after what it does from time to time: each ten seconds.
pub(crate) unsafe extern "C" fn look_after(_: *mut apr_pool_t, _: *mut server_rec) -> c_int {
    boundary::quiet(|| parent().try_again());
    DECLINED
}

/// httpd drops a configuration.
unsafe extern "C" fn end_generation(_: *mut c_void) -> c_int {
    boundary::quiet(|| {
        let mut parent = parent();
        // Its hold goes with it. The sockets' files stay for children that are still at work, and go
        // with the processes.
        if let Some(generation) = parent.current.take() {
            let filled = |place: &Place| parent.processes.iter().any(|one| one.path == place.path);
            generation
                .places
                .iter()
                .filter(|place| !filled(place))
                .for_each(|place| remove_socket(&place.path));
        }
        // SAFETY: it takes a number and returns one.
        let state = unsafe { ap_state_query(AP_SQ_MAIN_STATE as c_int) };
        if state == AP_SQ_MS_EXITING as c_int {
            parent.order_end();
            wait_for_all(&mut parent.processes);
        }
    });
    0
}

/// Waits for all processes to end, those that still serve an earlier configuration as well.
fn wait_for_all(processes: &mut Vec<Process>) {
    let limit =
        |process: &Process| process.shutdown.unwrap_or(Duration::from_secs(3600)) + PATIENCE;
    let deadline = Instant::now() + processes.iter().map(limit).max().unwrap_or_default();
    while !processes.is_empty() {
        processes.retain(|process| !has_ended(process, 0));
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for process in processes.drain(..) {
        // SAFETY: see above.
        unsafe { libc::kill(process.pid, libc::SIGKILL) };
        has_ended(&process, 1);
    }
}

/// Whether a process has ended, whose socket goes with it; with `wait` it is waited for.
fn has_ended(process: &Process, wait: c_int) -> bool {
    let options = if wait == 0 { libc::WNOHANG } else { 0 };
    let mut status = 0;
    // SAFETY: it fills the place it is given.
    let ended = unsafe { libc::waitpid(process.pid, &raw mut status, options) } != 0;
    if ended {
        remove_socket(&process.path);
    }
    ended
}

fn remove_socket(path: &Path) {
    // It may be gone already.
    let _ = std::fs::remove_file(path);
}

/// The groups for a child of httpd, which takes no connections and starts no processes.
pub(super) fn leave_to_child(store: &Arc<Store>) -> HashMap<GroupName, Arc<Workers>> {
    ignore_deaths();
    let mut parent = parent();
    // They are the parent's; this process only forgets them.
    parent.processes.drain(..).for_each(std::mem::forget);
    let Some(generation) = parent.current.take() else { return HashMap::new() };
    let Generation { lifeline, hold, places, .. } = generation;
    drop(lifeline);
    // Held until this child has ended, however it does.
    std::mem::forget(hold);
    let mut addresses: HashMap<GroupName, (Arc<ProcessGroup>, Vec<Address>)> = HashMap::new();
    for Place { group, path, listener, orders, .. } in places {
        // Connections to a socket that nobody accepts at any more are to fail.
        drop(listener);
        let of_group = addresses.entry(group.name.clone()).or_insert_with(|| (group, Vec::new()));
        of_group.1.push(Address { path, secret: orders.secret });
    }
    let workers = |(name, (group, addresses)): (GroupName, (Arc<ProcessGroup>, Vec<Address>))| {
        (name.clone(), Workers::new(name, &group.timeouts, addresses, Arc::clone(store)))
    };
    addresses.into_iter().map(workers).collect()
}

// --- how processes have died ------------------------------------------------------------------------

/// What the signal about a death says that APR does not pass on: whether it was a signal. The last few,
/// each as number, kind and status.
static DEATHS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static NEXT_DEATH: AtomicU64 = AtomicU64::new(0);

/// Has deaths noted. That a handler runs also wakes httpd's parent, which otherwise looks once in a second.
fn note_deaths() {
    // SAFETY: all bits zero is a valid sigaction, with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction =
        note_death as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NOCLDSTOP;
    // SAFETY: the handler is async-signal-safe, and its code stays mapped.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
}

/// As it is without this module, for a child of httpd.
fn ignore_deaths() {
    // SAFETY: it sets back what `note_deaths` has set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Async-signal-safe.
extern "C" fn note_death(_: c_int, information: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes what is known of the signal; of SIGCHLD, it has these.
    let (pid, kind, status) =
        unsafe { ((*information).si_pid(), (*information).si_code, (*information).si_status()) };
    let index = NEXT_DEATH.fetch_add(1, Ordering::Relaxed) as usize % DEATHS.len();
    DEATHS[index].store(pack(pid, kind, status), Ordering::Relaxed);
}

fn pack(pid: i32, kind: i32, status: i32) -> u64 {
    u64::from(pid.cast_unsigned()) << 32
        | u64::from(kind.cast_unsigned() & 0xff) << 16
        | u64::from(status.cast_unsigned() & 0xffff)
}

/// How a process has ended, and how serious that is.
fn describe(pid: i32, status: c_int) -> (Level, String) {
    let noted = DEATHS.iter().map(|death| death.load(Ordering::Relaxed));
    let noted = noted.into_iter().find(|death| (death >> 32) as i32 == pid);
    let kind = noted.map(|death| ((death >> 16) & 0xff) as i32);
    let status = noted.map_or(status, |death| (death & 0xffff) as c_int);
    match (kind, status) {
        (Some(libc::CLD_KILLED | libc::CLD_DUMPED), signal) => {
            (Level::Error, format!("was killed by signal {signal}{}", name_of(signal)))
        }
        (_, 0) => (Level::Info, "has ended".to_owned()),
        (Some(_), status) => (Level::Error, format!("has ended with exit status {status}")),
        // More deaths at once than there were signals.
        (None, status) => (Level::Error, format!("has ended by exit status or signal {status}")),
    }
}

fn name_of(signal: c_int) -> String {
    // SAFETY: it returns a text for any number, which is copied before the next call.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    format!(" ({})", unsafe { CStr::from_ptr(text) }.to_string_lossy())
}
