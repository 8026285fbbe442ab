//! What a process is to do, fully resolved.
#![forbid(unsafe_code)]

use crate::{GroupName, OptionsTable, Verbosity, paths};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a process that runs applications. They do not change while it lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The process group that the process is of: the server's own, or one that has a name.
    pub process_group: GroupName,
    /// `sys.prefix` of a Python installation, or the root of a virtual environment. Without it
    /// CPython looks for itself.
    #[serde(with = "paths::optional")]
    pub python_home: Option<PathBuf>,
    /// The first of `sys.path` in every interpreter.
    #[serde(with = "paths::optional")]
    pub first_on_path: Option<PathBuf>,
    /// What CPython is told when it starts.
    pub python: PythonSettings,
    /// The program `manifold-worker`, which tries extension modules.
    #[serde(with = "paths::optional")]
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
    /// Whether applications may ask for the counters of the whole server.
    pub server_metrics: bool,
    /// How many threads of the server hand requests over.
    pub request_threads: usize,
    /// How many threads an interpreter may have.
    pub interpreter_threads: usize,
    /// Bytes of the stack of each of them; otherwise 8 MiB.
    pub stack_size: Option<NonZeroUsize>,
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
    /// `wsgi.run_once`: the process serves one request.
    pub run_once: bool,
    /// Version of the web server, `apache.version` in the environ.
    pub server_version: (i32, i32, i32),
    /// What the web server calls itself, for the module `apache`.
    pub server_names: ServerNames,
    /// Which log lines that are about no request the server writes.
    pub verbosity: Verbosity,
    /// Leave `sys.stdout` to the terminal: somebody looks at a server that runs in the foreground.
    pub keep_stdout: bool,
    /// The main thread waits for signals, so that no other gets one that it lets through: programs that
    /// applications start begin with no signal blocked.
    pub frees_signals: bool,
}

/// What the web server calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashSeed {
    /// Another one in each process, whatever the environment says.
    Random,
    /// This one. 0 switches the dependence off.
    Fixed(u32),
}

impl Settings {
    /// How many requests may wait for one application group, where nothing else is said.
    pub fn queue_limit_for(threads: usize) -> usize {
        threads.saturating_mul(2).max(64)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process_group: GroupName::default(),
            python_home: None,
            first_on_path: None,
            python: PythonSettings::default(),
            worker: None,
            options: OptionsTable::default(),
            destroy_interpreters: true,
            slow_requests: None,
            request_timeout: None,
            server_metrics: false,
            request_threads: 1,
            interpreter_threads: 1,
            stack_size: None,
            interpreter_limit: 64,
            queue_limit: Self::queue_limit_for(1),
            response_buffer: 256 << 20,
            processes: 1,
            multithread: true,
            multiprocess: false,
            run_once: false,
            server_version: (0, 0, 0),
            server_names: ServerNames::default(),
            verbosity: Verbosity::default(),
            keep_stdout: false,
            frees_signals: false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::options::tests::table;
    use proptest::option;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    /// A path of any bytes that a path may have.
    fn path() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec(1_u8.., 0..9).prop_map(|bytes| OsString::from_vec(bytes).into())
    }

    fn name() -> impl Strategy<Value = GroupName> {
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| GroupName::new(&bytes))
    }

    fn time() -> impl Strategy<Value = Option<Duration>> {
        option::of((any::<u64>(), 0_u32..1_000_000_000).prop_map(|(s, ns)| Duration::new(s, ns)))
    }

    fn python() -> impl Strategy<Value = PythonSettings> {
        let seed = prop_oneof![Just(HashSeed::Random), any::<u32>().prop_map(HashSeed::Fixed)];
        let warnings = prop::collection::vec(any::<String>(), 0..3);
        (option::of(0_u8..3), warnings, option::of(seed), any::<bool>()).prop_map(
            |(optimize, warnings, hash_seed, dont_write_bytecode)| PythonSettings {
                optimize,
                warnings,
                hash_seed,
                dont_write_bytecode,
            },
        )
    }

    fn server_names() -> impl Strategy<Value = ServerNames> {
        (any::<String>(), any::<String>(), any::<String>(), any::<i32>()).prop_map(
            |(description, build_date, mpm, threads)| ServerNames {
                description,
                build_date,
                mpm,
                threads,
            },
        )
    }

    /// Settings of all kinds, whether or not a configuration could say them.
    pub(crate) fn settings() -> impl Strategy<Value = Settings> {
        let some_paths = || prop::collection::vec(path(), 0..3);
        let paths = (option::of(path()), option::of(path()), option::of(path()), some_paths());
        let flags = any::<[bool; 7]>();
        let numbers = (any::<[usize; 4]>(), option::of(1_usize..), any::<u64>(), any::<i32>());
        let server = (any::<(i32, i32, i32)>(), server_names(), any::<i32>().prop_map(Verbosity));
        (name(), paths, python(), table(), flags, (time(), time()), numbers, server).prop_map(
            |(process_group, paths, python, mut options, flags, times, numbers, server)| {
                let (python_home, first_on_path, worker, python_path) = paths;
                options.base.python_path = python_path;
                let ([request_threads, interpreter_threads, interpreter_limit, queue_limit], ..) =
                    numbers;
                let (_, stack_size, response_buffer, processes) = numbers;
                let (slow_requests, request_timeout) = times;
                let (server_version, server_names, verbosity) = server;
                let [destroy_interpreters, multithread, multiprocess, run_once, ..] = flags;
                let [.., server_metrics, keep_stdout, frees_signals] = flags;
                Settings {
                    process_group,
                    python_home,
                    first_on_path,
                    python,
                    worker,
                    options,
                    destroy_interpreters,
                    slow_requests,
                    request_timeout,
                    server_metrics,
                    request_threads,
                    interpreter_threads,
                    stack_size: stack_size.and_then(NonZeroUsize::new),
                    interpreter_limit,
                    queue_limit,
                    response_buffer,
                    processes,
                    multithread,
                    multiprocess,
                    run_once,
                    server_version,
                    server_names,
                    verbosity,
                    keep_stdout,
                    frees_signals,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn settings_arrive_as_they_were_sent(settings in settings()) {
            let sent = postcard::to_stdvec(&settings).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Settings>(&sent).unwrap(), settings);
        }
    }
}
