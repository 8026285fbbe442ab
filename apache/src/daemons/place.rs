//! The place of one worker process: its socket, what starts it, and how often that has failed. Whoever
//! fills it is reached in the same way.

use super::listener::listen;
use super::start::{Inheritance, start};
use crate::config::ServerConfig;
use crate::process_groups::DaemonConfig;
use crate::status::memory;
use crate::{child, preload};
use httpd_sys::*;
use manifold::daemon::{Orders, ProcessGroup};
use std::ffi::CStr;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process that has lived shorter than this has died at its start.
const BIRTH: Duration = Duration::from_secs(5);

/// How long a process waits that follows one which has died at its start: twice as long each time, from
/// this to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

pub(super) struct Place {
    pub(super) group: Arc<ProcessGroup>,
    pub(super) path: PathBuf,
    /// There is none as long as the file system has no room for it.
    pub(super) listener: Option<OwnedFd>,
    pub(super) orders: Orders,
    pub(super) program: PathBuf,
    error_log: Option<RawFd>,
    started: Instant,
    /// How many in a row have died at their start, or could not be started at all.
    pub(super) failures: u32,
    /// When it is tried again, where none could be started.
    again: Option<Instant>,
}

impl Place {
    /// Makes the socket; no process is started.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, and will not by waiting.
    pub(super) fn new(
        main: *mut server_rec,
        config: &ServerConfig,
        daemon: &DaemonConfig,
        group: &Arc<ProcessGroup>,
        path: PathBuf,
        secret: [u8; 32],
    ) -> Result<Self, String> {
        let program = group
            .worker
            .clone()
            .or_else(|| config.daemon_worker.clone())
            .or_else(child::worker_beside_the_module)
            .ok_or("the folder of the module is unknown; WSGIDaemonWorker names the program")?;
        let orders = Orders {
            group: (**group).clone(),
            settings: child::settings(config),
            secret,
            connections: child::most_requests() * 2,
            server_user: child::server_user(),
            parent: std::process::id(),
            pause: Duration::ZERO,
            preloads: preload::of_group(main, group),
            seen: Vec::new(),
        };
        let mut place = Self {
            group: Arc::clone(group),
            path,
            listener: None,
            orders,
            program,
            error_log: daemon.host.and_then(|host| error_log(host.record())),
            started: Instant::now(),
            failures: 0,
            again: None,
        };
        match place.listen() {
            // Told where a process is to be started there.
            Err(error) if passes(&error) => {}
            Err(error) => return Err(place.no_socket(&error)),
            Ok(()) => {}
        }
        Ok(place)
    }

    /// Starts a process, and returns its number. Where that fails, it is tried again when
    /// [`Self::is_due`] says so.
    ///
    /// # Errors
    ///
    /// What there is to say about it.
    pub(super) fn start(&mut self, lifeline: BorrowedFd<'_>) -> Result<i32, String> {
        let started = self.try_to_start(lifeline);
        match &started {
            Ok(_) => self.again = None,
            Err(_) => {
                self.failures += 1;
                self.again = Some(Instant::now() + pause(self.failures));
            }
        }
        started
    }

    /// None could be started, and it is time to try again.
    pub(super) fn is_due(&self) -> bool {
        self.again.is_some_and(|again| Instant::now() >= again)
    }

    /// Its process has ended. Returns how long the next one waits.
    pub(super) fn ended(&mut self, well: bool) -> Duration {
        let lived = self.started.elapsed().saturating_sub(self.orders.pause);
        self.failures = if lived < BIRTH && !well { self.failures + 1 } else { 0 };
        pause(self.failures)
    }

    fn try_to_start(&mut self, lifeline: BorrowedFd<'_>) -> Result<i32, String> {
        if self.listener.is_none() {
            self.listen().map_err(|error| self.no_socket(&error))?;
        }
        let listener = self.listener.as_ref().expect("it was made");
        self.started = Instant::now();
        // A program that could not be started at all has waited already.
        self.orders.pause =
            if self.again.is_some() { Duration::ZERO } else { pause(self.failures) };
        let counters = memory::inheritance(&self.group.name, self.group.server_metrics);
        let seen = if counters.own.is_some() { &counters.others[..] } else { &[] };
        self.orders.seen = seen.iter().map(|(name, _)| name.clone()).collect();
        let orders = self.orders.encode();
        let inheritance = Inheritance {
            orders: &orders,
            listener: listener.as_fd(),
            lifeline,
            counters: counters
                .own
                .iter()
                .chain(seen.iter().map(|(_, segment)| segment))
                .map(AsFd::as_fd)
                .collect(),
            error_log: self.error_log,
        };
        match start(&self.program, self.group.title.as_deref(), &inheritance) {
            Ok(pid) => Ok(i32::try_from(pid).unwrap_or(0)),
            Err(error) => Err(format!(
                "'{}' cannot be started for process group '{}': {error}; it is looked for beside the \
                 module, or where WSGIDaemonWorker or worker= says{}",
                self.program.display(),
                self.group.name,
                match error.kind() {
                    io::ErrorKind::PermissionDenied =>
                        ", and with SELinux it has to be labelled bin_t",
                    _ => "",
                }
            )),
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        let listener = listen(&self.path, &self.group.socket, self.orders.server_user)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn no_socket(&self, error: &io::Error) -> String {
        let cure = match passes(error) {
            true => "make room on its file system, or name another place by WSGISocketPrefix",
            false => "WSGISocketPrefix names another place",
        };
        format!(
            "the socket '{}' of process group '{}' cannot be made: {error}; {cure}",
            self.path.display(),
            self.group.name
        )
    }
}

/// Whether something cannot be made now and may be later: a file system is full.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// How long to wait after so many deaths at the start.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        more => LONGEST_PAUSE.min(FIRST_PAUSE.saturating_mul(1 << (more - 1).min(16))),
    }
}

/// A secret.
pub(super) fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

/// `prefix.pid.generation.id.sock`, or without rotation `prefix.pid.uUID.id.sock`. Further processes of a
/// group have their number behind the group's.
pub(super) fn socket_path(
    config: &ServerConfig,
    generation: u64,
    id: usize,
    process: usize,
) -> PathBuf {
    let prefix = config.python.socket_prefix.clone().unwrap_or_else(default_prefix);
    let mut path = prefix.as_os_str().as_bytes().to_vec();
    let mut end = format!(".{}.", std::process::id());
    match config.python.socket_rotation {
        // SAFETY: it returns a number.
        Some(false) => write!(end, "u{}", unsafe { libc::getuid() }),
        _ => write!(end, "{generation}"),
    }
    .and_then(|()| write!(end, ".{id}"))
    .and_then(|()| if process > 0 { write!(end, ".{process}") } else { Ok(()) })
    .and_then(|()| write!(end, ".sock"))
    .expect("a String takes all that is written");
    path.extend_from_slice(end.as_bytes());
    PathBuf::from(std::ffi::OsStr::from_bytes(&path))
}

/// `wsgi` in httpd's directory for files of run time.
fn default_prefix() -> PathBuf {
    // SAFETY: httpd's process pool lives as long as it does; the name is a literal.
    let path =
        unsafe { ap_runtime_dir_relative((*(*ap_server_conf).process).pool, c"wsgi".as_ptr()) };
    if path.is_null() {
        return PathBuf::from("wsgi");
    }
    // SAFETY: a C string of that pool.
    PathBuf::from(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// The error log of a virtual host that has its own.
fn error_log(server: *mut server_rec) -> Option<RawFd> {
    // SAFETY: httpd's server records and their logs live as long as the configuration.
    let file = unsafe { (*server).error_log };
    if file.is_null() {
        return None;
    }
    let mut number = -1;
    // SAFETY: the file is open; it fills the place it is given.
    let status = unsafe { apr_os_file_get(&raw mut number, file) };
    (status == 0 && number >= 0).then_some(number)
}
