//! What a request thread hands to an interpreter thread. It owns everything it carries, so the
//! request thread may leave at any moment.
#![forbid(unsafe_code)]

use crate::daemon::Started;
use crate::{Fields, Verbosity};
use md5::{Digest, Md5};
use std::ffi::{CStr, CString, OsStr};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One request, as its application will see it.
#[derive(Debug, Default)]
pub struct Job {
    /// CGI variables and `mod_wsgi.*` values that become `str` in the environ (PEP 3333), by name.
    pub variables: Fields,
    /// What of the request's body goes with it. Whoever reads the body takes it out.
    pub ahead: Mutex<Ahead>,
    /// What is to be done with the script.
    pub task: Task,
    /// The script whose callable answers; the request thread sets it before the job is queued.
    pub script: Option<Arc<Script>>,
    /// What to do where the script has changed.
    pub reload: Reload,
    /// When the script's file had been changed last, as [`Job::look_at_script`] has seen it.
    pub(crate) script_modified: Option<i64>,
    /// How long the request may take.
    pub timeout: Option<Timeout>,
    /// When the job was handed over.
    pub(crate) queued: Option<Instant>,
    /// When that time is over; set then as well.
    pub(crate) deadline: Option<Instant>,
    /// Whether `wsgi.url_scheme` is `https`; for a hook, whether the connection is encrypted.
    pub https: bool,
    /// When the server received the request, in microseconds since 1970.
    pub received: i64,
    /// When the server handed it to a worker process, and when that took it; 0 where there is none.
    pub handed_over: (i64, i64),
    /// How often the server tried to connect to a worker process for it, and how often it was sent to a
    /// further one, since one had gone before it began.
    pub attempts: (u32, u32),
    /// It does not count for the time that a worker process has had nothing to do.
    pub is_idle_talk: bool,
    /// Which log lines about this request the server writes.
    pub verbosity: Verbosity,
    /// Where it is noted that the request has started, if its server is another process.
    pub(crate) started: Option<Started>,
}

/// The beginning of a request's body, which was there when the request was handed over; the rest is
/// asked for by [`Reply::Ask`](crate::Reply::Ask). To ask for a short body costs more than to read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// The bytes, [`Ahead::LIMIT`] at most.
    pub bytes: Vec<u8>,
    /// Whether the body ends behind them.
    pub last: bool,
}

impl Ahead {
    /// How many bytes there may be.
    pub const LIMIT: usize = 64 * 1024;
}

/// How long a request may take, from the moment it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// After this the client is told that it took too long, and the application is interrupted.
    pub limit: Duration,
    /// How long the application has to end after that. Then its thread is given up.
    pub grace: Duration,
}

/// What to do where the script of a job has changed since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// Nothing; nobody looks.
    #[default]
    Never,
    /// Load it again in the same interpreter, as a fresh module.
    Module,
    /// Have the interpreter replaced by a fresh one that has loaded it, and go on with what is there
    /// meanwhile. Where an interpreter cannot be replaced, as `Module`.
    Interpreter,
    /// The same; where an interpreter cannot be replaced, refuse the job with
    /// [`crate::Code::ProcessOutdated`], so that another process takes it.
    Process,
}

/// What an interpreter thread does with the script of a job.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// Calls it as a WSGI application, and sends what that answers.
    #[default]
    Serve,
    /// Loads it, so that the first request finds it loaded.
    Load,
    /// Calls functions of it, one after the other, and sends what they return.
    Call(Vec<Call>),
}

/// A function of a hook script, to be called with an environ and these arguments.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub function: &'static CStr,
    /// What it gets after the environ: `str`, one character for each byte.
    pub arguments: Vec<Vec<u8>>,
    /// A script without it says nothing against it: that is [`crate::Value::None`].
    pub optional: bool,
    /// It returns an iterable of names.
    pub names: bool,
    /// It deals with passwords, which the messages of its exceptions may hold: those are not
    /// logged.
    pub confidential: bool,
}

/// Without the arguments, one of which may be a password.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("function", &self.function).finish_non_exhaustive()
    }
}

impl Job {
    /// The script, which every queued job has.
    pub(crate) fn script(&self) -> &Arc<Script> {
        self.script.as_ref().expect("a job is queued with its script")
    }

    /// What of the request's body goes with it, and has not been taken yet.
    pub(crate) fn take_ahead(&self) -> Ahead {
        std::mem::take(&mut *self.ahead.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks whether the script has changed, so that the interpreter's thread need not: for a request
    /// thread that sees the same files. `seen` is when its file had been changed last, in microseconds
    /// since 1970, where somebody has looked for this request already.
    pub fn look_at_script(&mut self, seen: Option<i64>) {
        let script = self.script.as_ref().filter(|script| script.path.is_absolute());
        self.script_modified = match self.reload {
            Reload::Never => None,
            _ => seen.or_else(|| script.and_then(|script| script.modified())),
        };
    }

    /// Empties the job and keeps its memory, and its script, which the next job mostly has as well.
    pub(crate) fn clear(&mut self) {
        self.variables.clear();
        self.take_ahead();
        self.task = Task::Serve;
        self.reload = Reload::Never;
        self.script_modified = None;
        self.timeout = None;
        self.queued = None;
        self.deadline = None;
        self.https = false;
        self.received = 0;
        self.handed_over = (0, 0);
        self.attempts = (0, 0);
        self.is_idle_talk = false;
        self.verbosity = Verbosity::default();
        self.started = None;
    }
}

/// A script file and the name in it that answers requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    path: PathBuf,
    callable: CString,
    module: CString,
}

impl Script {
    /// The script at `path`, whose `callable` answers. A relative path is later resolved against
    /// the directory of the process.
    ///
    /// # Errors
    ///
    /// Either text holds a NUL byte.
    pub fn new(path: &[u8], callable: &[u8]) -> Result<Self, std::ffi::NulError> {
        CString::new(path)?;
        Ok(Self {
            path: PathBuf::from(OsStr::from_bytes(path)),
            callable: CString::new(callable)?,
            module: module_name(path),
        })
    }

    /// A script of which everything is known.
    ///
    /// # Errors
    ///
    /// One of the texts holds a NUL byte.
    pub(crate) fn from_parts(
        path: &[u8],
        callable: &[u8],
        module: &[u8],
    ) -> Result<Self, std::ffi::NulError> {
        CString::new(path)?;
        Ok(Self {
            path: PathBuf::from(OsStr::from_bytes(path)),
            callable: CString::new(callable)?,
            module: CString::new(module)?,
        })
    }

    /// Whether it is the script that [`Script::from_parts`] makes of these.
    pub(crate) fn is_of(&self, path: &[u8], callable: &[u8], module: &[u8]) -> bool {
        self.path_bytes() == path
            && self.callable.to_bytes() == callable
            && self.module.to_bytes() == module
    }

    /// The same script where paths that differ in case only are one module.
    pub fn case_insensitive(&self) -> Self {
        Self {
            path: self.path.clone(),
            callable: self.callable.clone(),
            module: module_name(&self.path_bytes().to_ascii_lowercase()),
        }
    }

    /// The same script, where another name in it answers.
    ///
    /// # Errors
    ///
    /// The name holds a NUL byte.
    pub fn with_callable(&self, callable: &[u8]) -> Result<Self, std::ffi::NulError> {
        Ok(Self {
            path: self.path.clone(),
            callable: CString::new(callable)?,
            module: self.module.clone(),
        })
    }

    /// When the file was changed last, in microseconds since 1970.
    pub(crate) fn modified(&self) -> Option<i64> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some(metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1_000)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file is, as it was given.
    pub fn path_bytes(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    /// The name of the module it is loaded as: `_mod_wsgi_` and the MD5 of its path, in lower-case
    /// hexadecimal, so that one file is one module in an interpreter however it is reached.
    pub(crate) fn module(&self) -> &CString {
        &self.module
    }

    /// The name of the module attribute that is called.
    pub fn callable(&self) -> &CString {
        &self.callable
    }
}

fn module_name(path: &[u8]) -> CString {
    let mut module = String::from("_mod_wsgi_");
    for byte in Md5::digest(path) {
        write!(module, "{byte:02x}").expect("a String takes all that is written");
    }
    CString::new(module).expect("digits hold no NUL")
}

#[cfg(test)]
mod tests {
    use super::{Call, Script};

    #[test]
    fn a_password_is_not_printed() {
        let arguments = vec![b"me".to_vec(), b"secret".to_vec()];
        let call = Call { function: c"check_password", arguments, ..Call::default() };
        assert_eq!(format!("{call:?}"), "Call { function: \"check_password\", .. }");
    }

    #[test]
    fn without_case_paths_that_differ_in_it_are_one_module() {
        let script = |path: &[u8]| Script::new(path, b"application").unwrap();
        let (lower, upper) = (script(b"/srv/app.wsgi"), script(b"/srv/App.wsgi"));
        assert_ne!(lower.module(), upper.module());
        let folded = upper.case_insensitive();
        assert_eq!(folded.module(), lower.module());
        assert_eq!(folded.path(), upper.path());
    }

    #[test]
    fn a_module_is_named_after_the_md5_of_its_path() {
        let script = Script::new(b"/srv/app.wsgi", b"application").unwrap();
        assert_eq!(script.module().to_str().unwrap(), "_mod_wsgi_295f8766fc4bd953ab4cd252da58a6a3");
        assert!(Script::new(b"/srv/\0", b"application").is_err());
    }
}
