//! What a process is to do, fully resolved.
#![forbid(unsafe_code)]

use crate::{OptionsTable, Verbosity};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a process that runs applications. They do not change while it lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sys.prefix` of a Python installation, or the root of a virtual environment. Without it
    /// CPython looks for itself.
    pub python_home: Option<PathBuf>,
    /// What CPython is told when it starts.
    pub python: PythonSettings,
    /// The program `manifold-worker`, which tries extension modules.
    pub worker: Option<PathBuf>,
    /// What interpreters are to be like.
    pub options: OptionsTable,
    /// Whether interpreters are brought to their end with the process: threads joined, `atexit`
    /// callbacks called.
    pub destroy_interpreters: bool,
    /// How long a request may run before a line says so.
    pub slow_requests: Option<Duration>,
    /// The shortest time that [`crate::Job::timeout`] gives requests; without it nobody looks whether
    /// they keep to theirs.
    pub request_timeout: Option<Duration>,
    /// How many threads of the server hand requests over.
    pub request_threads: usize,
    /// How many threads an interpreter may have.
    pub interpreter_threads: usize,
    /// How many interpreters the process may have, the main one included.
    pub interpreter_limit: usize,
    /// How many requests may wait for one application group.
    pub queue_limit: usize,
    /// How many bytes of responses the process may keep for slow clients.
    pub response_buffer: u64,
    /// How many processes like this one the server may have, for `mod_wsgi.maximum_processes`.
    pub processes: i32,
    /// `wsgi.multithread`.
    pub multithread: bool,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// Version of the web server, `apache.version` in the environ.
    pub server_version: (i32, i32, i32),
    /// What the web server calls itself, for the module `apache`.
    pub server_names: ServerNames,
    /// Which log lines that are about no request the server writes.
    pub verbosity: Verbosity,
    /// Leave `sys.stdout` to the terminal: somebody looks at a server that runs in the foreground.
    pub keep_stdout: bool,
}

/// What the web server calls itself.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    /// `apache.description`, as in the Server header.
    pub description: String,
    /// `apache.build_date`.
    pub build_date: String,
    /// `apache.mpm_name`.
    pub mpm: String,
    /// `apache.threads_per_process`.
    pub threads: i32,
}

/// What CPython is told when it starts, and all its interpreters with it. The defaults leave
/// everything to CPython, and so to the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PythonSettings {
    /// `python -O`: 0, 1 or 2.
    pub optimize: Option<u8>,
    /// `python -W`, the least important first.
    pub warnings: Vec<String>,
    /// What hashes of `str` and `bytes` depend on.
    pub hash_seed: Option<HashSeed>,
    /// `python -B`: no `.pyc` file is written.
    pub dont_write_bytecode: bool,
}

/// What hashes of `str` and `bytes` depend on, as `PYTHONHASHSEED` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashSeed {
    /// Another one in each process, whatever the environment says.
    Random,
    /// This one. 0 switches the dependence off.
    Fixed(u32),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            python_home: None,
            python: PythonSettings::default(),
            worker: None,
            options: OptionsTable::default(),
            destroy_interpreters: true,
            slow_requests: None,
            request_timeout: None,
            request_threads: 1,
            interpreter_threads: 1,
            interpreter_limit: 64,
            queue_limit: 64,
            response_buffer: 256 << 20,
            processes: 1,
            multithread: true,
            multiprocess: false,
            server_version: (0, 0, 0),
            server_names: ServerNames::default(),
            verbosity: Verbosity::default(),
            keep_stdout: false,
        }
    }
}
