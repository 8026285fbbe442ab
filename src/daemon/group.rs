//! What the configuration says about a process group: the options of `WSGIDaemonProcess`.
#![forbid(unsafe_code)]

use crate::{GroupName, paths};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process group: worker processes that are alike, behind one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessGroup {
    /// What `process-group=` and `WSGIProcessGroup` call it.
    pub name: GroupName,
    /// How many processes there are.
    pub processes: NonZeroUsize,
    /// `wsgi.multiprocess`: that was said at all, even if it is one.
    pub multiprocess: bool,
    /// How many threads each interpreter may have. With none the process only runs its preloaded
    /// script, on the main thread.
    pub threads: usize,
    /// How many interpreters an application group has in each process, unless a block says it.
    pub replicas: Option<NonZeroUsize>,
    /// The program that is started.
    #[serde(with = "paths::optional")]
    pub worker: Option<PathBuf>,
    /// What the process looks like in a list of processes.
    pub title: Option<Vec<u8>>,
    /// Who it is, and where.
    pub identity: Identity,
    /// What its Python is told.
    pub python: Python,
    /// What it may use.
    pub resources: Resources,
    /// How it is reached.
    pub socket: Socket,
    /// When it is replaced.
    pub renewal: Renewal,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How responses come back.
    pub response: Response,
    /// Whether `mod_wsgi.server_metrics()` may be called.
    pub server_metrics: bool,
    /// Whose scripts are served.
    pub owner: Owner,
}

/// Who a worker process is, and where. What is `None` stays as it is in the server's parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user's number and, where it has one, name.
    pub user: Option<Id>,
    /// The primary group's.
    pub group: Option<Id>,
    /// Supplementary groups; otherwise those of the user.
    pub supplementary: Option<Vec<u32>>,
    /// The working directory, which is also the first of `sys.path`.
    #[serde(with = "paths::optional")]
    pub home: Option<PathBuf>,
    /// The root directory.
    #[serde(with = "paths::optional")]
    pub chroot: Option<PathBuf>,
    /// The file mode creation mask.
    pub umask: Option<u32>,
}

impl Identity {
    /// The path of a file as the process sees it; `None` where it lies outside of its root directory.
    pub fn path_inside<'a>(&self, path: &'a Path) -> Option<Cow<'a, Path>> {
        match &self.chroot {
            None => Some(Cow::Borrowed(path)),
            Some(root) => Some(Path::new("/").join(path.strip_prefix(root).ok()?).into()),
        }
    }
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// Its number.
    pub number: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// As messages show it.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (number {})", self.number),
            None => write!(f, "#{}", self.number),
        }
    }
}

/// What the Python of a worker process is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// `python-home=`; otherwise the server's.
    #[serde(with = "paths::optional")]
    pub home: Option<PathBuf>,
    /// `python-path=`.
    #[serde(with = "paths::list")]
    pub path: Vec<PathBuf>,
    /// `PYTHON_EGG_CACHE`.
    #[serde(with = "paths::optional")]
    pub eggs: Option<PathBuf>,
    /// `LANG`.
    pub lang: Option<Vec<u8>>,
    /// `LC_ALL` and setlocale(3).
    pub locale: Option<Vec<u8>>,
    /// `sys.setswitchinterval()`.
    pub switch_interval: Option<f64>,
    /// Bytes of each thread's stack.
    pub stack_size: Option<NonZeroUsize>,
}

/// What a worker process may use. What is `None` stays as it is in the server's parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// nice(2) value.
    pub priority: Option<i32>,
    /// Seconds of CPU time, after which it is replaced.
    pub cpu_time: Option<NonZeroU64>,
    /// Bytes of data segment.
    pub memory: Option<NonZeroU64>,
    /// Bytes of address space.
    pub virtual_memory: Option<NonZeroU64>,
}

/// How the worker processes of a group are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Who owns the socket file; otherwise the server's User.
    pub owner: Option<u32>,
    /// listen(2)'s backlog.
    pub backlog: i32,
    /// Bytes of `SO_SNDBUF`.
    pub send_buffer: Option<NonZeroUsize>,
    /// Bytes of `SO_RCVBUF`.
    pub receive_buffer: Option<NonZeroUsize>,
}

/// When a worker process is replaced by a fresh one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// After so many requests.
    pub maximum_requests: Option<NonZeroU64>,
    /// After so long.
    pub interval: Option<Duration>,
    /// After so long without a request.
    pub inactivity: Option<Duration>,
}

/// How long things may take. `None` is without limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// A request, before its process is replaced.
    pub request: Option<Duration>,
    /// How long a request has after it was interrupted; without it none is.
    pub interrupt: Option<Duration>,
    /// Until a GIL is let go.
    pub deadlock: Option<Duration>,
    /// From the first attempt to load a script until one is loaded.
    pub startup: Option<Duration>,
    /// How long requests under way hold up a graceful stop.
    pub graceful: Duration,
    /// The same where the stop was asked for by SIGUSR1; otherwise as `graceful`.
    pub eviction: Option<Duration>,
    /// How long a stop may take from there.
    pub shutdown: Option<Duration>,
    /// How long the server tries to connect.
    pub connect: Duration,
    /// How long each read or write between server and worker may take; otherwise the server's Timeout.
    pub socket: Option<Duration>,
    /// How long a request may wait before it is started.
    pub queue: Option<Duration>,
    /// How long a write to the client may take meanwhile; otherwise as `socket`.
    pub response: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: None,
            interrupt: None,
            deadlock: Some(Duration::from_secs(300)),
            startup: None,
            graceful: Duration::from_secs(15),
            eviction: None,
            shutdown: Some(Duration::from_secs(5)),
            connect: Duration::from_secs(15),
            socket: None,
            queue: None,
            response: None,
        }
    }
}

/// How responses come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The longest header line in bytes; otherwise 32768.
    pub header_limit: Option<NonZeroUsize>,
    /// After how many bytes the server flushes; otherwise 8 MiB.
    pub buffer: Option<NonZeroUsize>,
    /// How long the server waits for more before it flushes; otherwise 5 ms.
    pub flush_delay: Option<Duration>,
}

/// Whose scripts are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `script-user=`.
    pub user: Option<Id>,
    /// `script-group=`.
    pub group: Option<Id>,
}

impl ProcessGroup {
    /// A group of which nothing is said but its name.
    pub fn new(name: GroupName) -> Self {
        Self {
            name,
            processes: NonZeroUsize::MIN,
            multiprocess: false,
            threads: 15,
            replicas: None,
            worker: None,
            title: None,
            identity: Identity::default(),
            python: Python::default(),
            resources: Resources::default(),
            socket: Socket { owner: None, backlog: 100, send_buffer: None, receive_buffer: None },
            renewal: Renewal::default(),
            timeouts: Timeouts::default(),
            response: Response::default(),
            server_metrics: false,
            owner: Owner::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_that_inside_of_the_root_directory_or_none() {
        let inside = |root: Option<&str>, path| {
            let identity = Identity { chroot: root.map(PathBuf::from), ..Identity::default() };
            identity.path_inside(Path::new(path)).map(|path| path.display().to_string())
        };
        let is = |path: &str| Some(path.to_owned());
        assert_eq!(inside(None, "/srv/app.wsgi"), is("/srv/app.wsgi"));
        assert_eq!(inside(Some("/srv/jail"), "/srv/jail/app.wsgi"), is("/app.wsgi"));
        assert_eq!(inside(Some("/srv/jail/"), "/srv/jail//a/b"), is("/a/b"));
        assert_eq!(inside(Some("/srv/jail"), "/srv/jailed/app.wsgi"), None);
        assert_eq!(inside(Some("/srv/jail"), "/srv/app.wsgi"), None);
        assert_eq!(inside(Some("/"), "/srv/app.wsgi"), is("/srv/app.wsgi"));
    }
}
