//! Whether an extension module loads in a sub-interpreter, asked of a process that nobody misses.
//!
//! CPython finds out by trying, and a refused module may be broken for the whole process from then
//! on; one that was never meant for several interpreters may as well crash. So `manifold-worker
//! --probe` tries it: each question has a process of its own, which ends with its answer.
//!
//! This is the side that asks; [`worker`] is the one that answers.

mod wire;
pub(crate) mod worker;

use crate::Gil;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a module may take to load.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The kind of interpreters.
    pub(crate) gil: Gil,
    /// `sys.prefix`, or the root of a virtual environment.
    pub(crate) home: Option<PathBuf>,
    /// The full name of the module.
    pub(crate) name: String,
    /// Its file.
    pub(crate) path: PathBuf,
    /// `sys.path`, for other packages that it needs.
    pub(crate) search: Vec<Vec<u8>>,
}

/// What a probe that lives to answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The module loads in two such interpreters, as far as CPython is concerned; what it says
    /// itself, about a package that is missing say, is another matter.
    Loads,
    /// It does not, and this was raised.
    Refused(String),
    /// The probe could not try.
    Unable(String),
}

/// What is known of a module after a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It loads in more than one interpreter of this kind.
    Loads,
    /// It does not; what was raised.
    Refused(String),
    /// The probe did not survive it; how it ended.
    Crashed(String),
    /// The probe had not answered when it was given up.
    Hung,
    /// No probe could be run; why.
    Unknown(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loads => f.write_str("it loads"),
            Self::Refused(text) => f.write_str(text),
            Self::Crashed(how) => write!(f, "a process that tried it ended by {how}"),
            Self::Hung => {
                write!(
                    f,
                    "a process that tried it had not loaded it after {} s",
                    PATIENCE.as_secs()
                )
            }
            Self::Unknown(why) => write!(f, "it could not be tried in a process of its own: {why}"),
        }
    }
}

/// Asks a process of its own. It waits, `PATIENCE` at most.
pub(crate) fn ask(worker: &Path, question: &Question) -> Finding {
    let unknown = |what: &str, error: &dyn fmt::Display| {
        Finding::Unknown(format!("{} {what}: {error}", worker.display()))
    };
    let text = question.encode();
    if text.len() > wire::LONGEST_QUESTION {
        return Finding::Unknown("sys.path is too long".to_owned());
    }
    // Without anything to run between fork and exec, so that it is posix_spawn; signals that are
    // blocked on this thread are not in the process. Our descriptors are close-on-exec.
    let mut command = Command::new(worker);
    command.arg("--probe").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let process = match command.spawn() {
        Ok(process) => process,
        Err(error) => return unknown("could not be started", &error),
    };
    let mut process = Reaped(process);
    if let Some(mut stdin) = process.0.stdin.take() {
        // One that does not read any more says why by how it ends.
        let _ = stdin.write_all(&text);
    }
    let answer = match process.0.stdout.take() {
        Some(stdout) => read_until(stdout, Instant::now() + PATIENCE),
        None => Ok(Some(Vec::new())),
    };
    match answer {
        Ok(Some(text)) => match Answer::decode(&text) {
            Some(Answer::Loads) => Finding::Loads,
            Some(Answer::Refused(text)) => Finding::Refused(text),
            Some(Answer::Unable(text)) => unknown("could not try it", &text),
            None => match process.0.wait() {
                Ok(status) => Finding::Crashed(describe(status)),
                // The application waits for every child there is (os.waitpid(-1)), ours included.
                Err(_) => Finding::Crashed("something that is not known".to_owned()),
            },
        },
        Ok(None) => Finding::Hung,
        Err(error) => unknown("could not be listened to", &error),
    }
}

/// A process that is gone, and waited for, when this is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // One that has ended already is none to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that comes, or `None` where it has not ended by the deadline.
fn read_until(mut pipe: ChildStdout, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid entry.
        match unsafe { libc::poll(&raw mut ready, 1, milliseconds) } {
            0 => return Ok(None),
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
            _ => {}
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(Some(text)),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if text.len() as u64 > wire::LONGEST_ANSWER {
            return Ok(Some(text));
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(libc::SIGSEGV) => "signal 11 (SIGSEGV)".to_owned(),
        Some(libc::SIGABRT) => "signal 6 (SIGABRT)".to_owned(),
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}
