//! What a process is to do, fully resolved.
#![forbid(unsafe_code)]

use crate::Verbosity;
use std::path::PathBuf;

/// Settings of a process that runs applications. They do not change while it lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sys.prefix` of a Python installation, or the root of a virtual environment. Without it
    /// CPython looks for itself.
    pub python_home: Option<PathBuf>,
    /// Directories that come first on `sys.path`, with what their `.pth` files name.
    pub python_path: Vec<PathBuf>,
    /// What GIL the interpreter of an application group gets.
    pub gil: Gil,
    /// How many threads an interpreter may have: as many as requests can wait at once.
    pub interpreter_threads: usize,
    /// How many interpreters the process may have, the main one included.
    pub interpreter_limit: usize,
    /// How many requests may wait for one application group.
    pub queue_limit: usize,
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

/// What GIL the interpreter of an application group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gil {
    /// One of its own (PEP 684).
    Own,
    /// The main interpreter's, as in all Pythons before 3.12.
    Shared,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            python_home: None,
            python_path: Vec::new(),
            gil: if cpython_sys::OWN_GIL_IS_SAFE { Gil::Own } else { Gil::Shared },
            interpreter_threads: 1,
            interpreter_limit: 64,
            queue_limit: 64,
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
