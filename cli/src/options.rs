//! The options. Where mod_wsgi-express has one of the same meaning, it has the same name and default, unless
//! `docs/command-line.md` says otherwise.
#![forbid(unsafe_code)]

use crate::app::App;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which httpd, and which build of this project.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What it stands on")]
pub(crate) struct Where {
    /// httpd's program [environment: MANIFOLD_HTTPD; else the one of apxs, or apache2 or httpd on PATH]
    #[arg(long, value_name = "PROGRAM", global = true)]
    httpd: Option<PathBuf>,
    /// Its apxs, which says where modules are [environment: MANIFOLD_APXS; else on PATH]
    #[arg(long, value_name = "PROGRAM", global = true)]
    apxs: Option<PathBuf>,
    /// The module [environment: MANIFOLD_MODULE; else beside this program, where pip has put it, or among httpd's modules]
    #[arg(long, value_name = "FILE", global = true)]
    module: Option<PathBuf>,
    /// The program manifold-worker [environment: MANIFOLD_WORKER; else beside the module]
    #[arg(long, value_name = "PROGRAM", global = true)]
    worker: Option<PathBuf>,
}

impl Where {
    pub(crate) fn httpd(&self) -> Option<PathBuf> {
        or_variable(self.httpd.as_ref(), "MANIFOLD_HTTPD")
    }

    pub(crate) fn apxs(&self) -> Option<PathBuf> {
        or_variable(self.apxs.as_ref(), "MANIFOLD_APXS")
    }

    pub(crate) fn module(&self) -> Option<PathBuf> {
        or_variable(self.module.as_ref(), "MANIFOLD_MODULE")
    }

    pub(crate) fn worker(&self) -> Option<PathBuf> {
        or_variable(self.worker.as_ref(), "MANIFOLD_WORKER")
    }
}

/// A variable that is set to nothing is not set.
fn or_variable(option: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
    let variable = || std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    option.cloned().or_else(|| variable().map(PathBuf::from))
}

/// Which Python.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Python")]
pub(crate) struct Home {
    /// A virtual environment, or a Python of the version that the module is built for [default: the virtual
    /// environment that this program is in, or the active one, if it fits; else MANIFOLD_PYTHON_HOME, else what
    /// libpython finds]
    #[arg(long, value_name = "DIR")]
    pub(crate) python_home: Option<PathBuf>,
}

/// Which Python, and what it finds.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Python")]
pub(crate) struct Python {
    #[command(flatten)]
    pub(crate) home: Home,
    /// A folder of packages, before those of the Python home; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) python_path: Vec<PathBuf>,
    /// Where the application works; what lies there can be imported [default: the folder of the script or
    /// project, or the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) working_directory: Option<PathBuf>,
    /// The name of the callable [default: application; in a script also handle_request]
    #[arg(long, value_name = "NAME")]
    pub(crate) callable_object: Option<String>,
}

/// Whom httpd's children run as.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "User")]
pub(crate) struct Identity {
    /// As root: the user to run as [default: MANIFOLD_USER, else www-data, apache, daemon or nobody, whoever exists]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// As root: the group to run as [default: the user's]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
}

/// `manifold serve`
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Keep the configuration in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) server_root: Option<PathBuf>,
}

/// `manifold setup`
#[derive(Args, Debug)]
pub(crate) struct Setup {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The folder to write to: a new one, or one that was written to before
    #[arg(long, value_name = "DIR")]
    pub(crate) server_root: PathBuf,
}

/// `manifold check`
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration [default: that of the system's httpd]
    pub(crate) conf: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `manifold doctor`
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The application, as for `serve`: its code is loaded, as httpd's user, to see what it needs
    pub(crate) app: Option<String>,
    /// Say it as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The application group that is configured; '%{GLOBAL}' is the main interpreter
    #[arg(long, value_name = "NAME")]
    pub(crate) application_group: Option<String>,
    /// WSGIPerInterpreterGIL, as it is configured
    #[arg(long, value_enum, default_value_t = Gil::Auto)]
    pub(crate) per_interpreter_gil: Gil,
    /// WSGISocketPrefix, as it is configured [default: that of the system's httpd]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket_prefix: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) python: Python,
    #[command(flatten)]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `manifold module-config`
#[derive(Args, Debug)]
pub(crate) struct ModuleConfig {
    #[command(flatten)]
    pub(crate) python: Home,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `manifold install`
#[derive(Args, Debug)]
pub(crate) struct Install {
    /// Write below this folder instead of /, as for a package
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where module and worker go [default: where httpd has its modules]
    #[arg(long, value_name = "DIR")]
    pub(crate) modules_directory: Option<PathBuf>,
    /// Write over a wsgi.load that somebody else has written
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) at: Where,
}

/// `WSGIPerInterpreterGIL`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gil {
    Auto,
    On,
    Off,
}

/// What a server is like.
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// A WSGI script, package.module, package.module:callable, or the folder of a Django project
    pub(crate) app: String,

    /// The address to listen on; 0.0.0.0 or :: for all
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = "Addresses")]
    pub(crate) host: String,
    /// The port; 0 takes any free one
    #[arg(long, value_name = "N", default_value_t = 8000, help_heading = "Addresses")]
    pub(crate) port: u16,
    /// The name in links and redirects
    #[arg(long, value_name = "NAME", default_value = "localhost", help_heading = "Addresses")]
    pub(crate) server_name: String,
    /// Serve HTTPS on this port, too
    #[arg(long, value_name = "N", requires = "ssl_certificate_file", help_heading = "Addresses")]
    pub(crate) https_port: Option<u16>,
    /// The certificate, with those between it and its authority (PEM)
    #[arg(long, value_name = "FILE", requires = "https_port", help_heading = "Addresses")]
    pub(crate) ssl_certificate_file: Option<PathBuf>,
    /// Its key [default: in the file of the certificate]
    #[arg(long, value_name = "FILE", requires = "https_port", help_heading = "Addresses")]
    pub(crate) ssl_certificate_key_file: Option<PathBuf>,
    /// Send clients from HTTP to HTTPS
    #[arg(long, requires = "https_port", help_heading = "Addresses")]
    pub(crate) https_only: bool,
    /// Speak HTTP/2 as well
    #[arg(long, help_heading = "Addresses")]
    pub(crate) http2: bool,

    /// The URL path of the application
    #[arg(long, value_name = "PATH", default_value = "/", help_heading = "URLs and files")]
    pub(crate) mount_point: String,
    /// A folder whose files httpd serves; what is no file there goes to the application
    #[arg(long, value_name = "DIR", help_heading = "URLs and files")]
    pub(crate) document_root: Option<PathBuf>,
    /// Serve a file or folder at a URL path; may be repeated
    #[arg(long, num_args = 2, value_names = ["URL", "PATH"], action = clap::ArgAction::Append, help_heading = "URLs and files")]
    pub(crate) url_alias: Vec<String>,
    /// Show httpd's error page instead of what the application says about an error
    #[arg(long, help_heading = "URLs and files")]
    pub(crate) error_override: bool,
    /// Compress text on its way to clients that take it
    #[arg(long, help_heading = "URLs and files")]
    pub(crate) compress_responses: bool,
    /// The largest request body, in bytes; 0 for any
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 10_485_760,
        help_heading = "URLs and files"
    )]
    pub(crate) limit_request_body: u64,
    /// Show httpd's state at /server-status, to this machine only
    #[arg(long, help_heading = "URLs and files")]
    pub(crate) server_status: bool,

    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Processes")]
    pub(crate) processes: u32,
    /// Threads, so requests at once, in each interpreter
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Processes")]
    pub(crate) threads: u32,
    /// Interpreters with a GIL of their own in each process; auto for one for each processor
    #[arg(long, value_name = "N|auto", default_value = "1", value_parser = replicas, help_heading = "Processes")]
    pub(crate) replicas: String,
    /// The interpreter: a name has one of its own; '%{GLOBAL}' is the main one [default: the application's name; with --reload-on-changes '%{GLOBAL}']
    #[arg(long, value_name = "NAME", help_heading = "Processes")]
    pub(crate) application_group: Option<String>,
    /// Run the application inside httpd's own processes
    #[arg(long, help_heading = "Processes")]
    pub(crate) embedded_mode: bool,
    /// httpd's way of making processes and threads [default: event]
    #[arg(long, value_name = "NAME", help_heading = "Processes")]
    pub(crate) server_mpm: Option<Mpm>,
    /// Load the application anew when a file that it was loaded from has changed
    #[arg(long, help_heading = "Processes")]
    pub(crate) reload_on_changes: bool,
    /// Do not even look whether the script has changed
    #[arg(long, conflicts_with = "reload_on_changes", help_heading = "Processes")]
    pub(crate) disable_reloading: bool,

    #[command(flatten)]
    pub(crate) python: Python,
    #[command(flatten)]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) times: Times,

    /// A header by which a proxy in front says what a request was; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Proxies in front")]
    pub(crate) trust_proxy_header: Vec<String>,
    /// The address or network of a proxy that is believed; may be repeated [default: whoever it is]
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "trust_proxy_header",
        help_heading = "Proxies in front"
    )]
    pub(crate) trust_proxy: Vec<String>,

    /// A key of the environ; may be repeated
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], action = clap::ArgAction::Append, help_heading = "More configuration")]
    pub(crate) setenv: Vec<String>,
    /// More of httpd's configuration, read at the end; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "More configuration")]
    pub(crate) include_file: Vec<PathBuf>,
    /// LANG of the application's processes
    #[arg(long, value_name = "NAME", help_heading = "More configuration")]
    pub(crate) lang: Option<String>,
    /// LC_ALL of the application's processes
    #[arg(long, value_name = "NAME", help_heading = "More configuration")]
    pub(crate) locale: Option<String>,

    /// httpd's LogLevel
    #[arg(long, value_name = "LEVEL", default_value = "notice wsgi:info", help_heading = "Logs")]
    pub(crate) log_level: String,
    /// Log requests into a file, too (serve always logs them on the terminal)
    #[arg(long, help_heading = "Logs")]
    pub(crate) access_log: bool,
    /// Log on the terminal that httpd is started from (serve always does)
    #[arg(long, help_heading = "Logs")]
    pub(crate) log_to_terminal: bool,

    #[command(flatten)]
    pub(crate) at: Where,
}

impl Server {
    /// The application group.
    pub(crate) fn interpreter(&self, app: &App) -> String {
        match &self.application_group {
            Some(name) => name.clone(),
            None if self.reload_on_changes => "%{GLOBAL}".to_owned(),
            None => app.name(),
        }
    }
}

/// How long things may take, in seconds.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Timeouts, in seconds; 0 is none")]
pub(crate) struct Times {
    /// A request, until its process is replaced
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) request_timeout: u32,
    /// Waiting for a thread
    #[arg(long, value_name = "S", default_value_t = 45)]
    pub(crate) queue_timeout: u32,
    /// Each read or write on a connection
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) socket_timeout: u32,
    /// Reaching a worker process
    #[arg(long, value_name = "S", default_value_t = 15)]
    pub(crate) connect_timeout: u32,
    /// Loading the application, until its process is replaced
    #[arg(long, value_name = "S", default_value_t = 15)]
    pub(crate) startup_timeout: u32,
    /// A GIL that is not let go, until its process is replaced
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) deadlock_timeout: u32,
    /// Requests under way, at a graceful stop
    #[arg(long, value_name = "S", default_value_t = 15)]
    pub(crate) graceful_timeout: u32,
    /// The same where a process was asked to go by SIGUSR1
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) eviction_timeout: u32,
    /// A stop, after that
    #[arg(long, value_name = "S", default_value_t = 5)]
    pub(crate) shutdown_timeout: u32,
    /// No request, until a process is replaced
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) inactivity_timeout: u32,
    /// The life of a process
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) restart_interval: u32,
    /// Requests, until a process is replaced
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) maximum_requests: u32,
}

/// A multi-processing module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mpm {
    Event,
    Worker,
    Prefork,
}

impl Mpm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Worker => "worker",
            Self::Prefork => "prefork",
        }
    }
}

fn replicas(text: &str) -> Result<String, String> {
    match text.parse::<u32>() {
        Ok(1..=1024) => Ok(text.to_owned()),
        _ if text.eq_ignore_ascii_case("auto") => Ok("auto".to_owned()),
        _ => Err("a number from 1 to 1024, or auto".to_owned()),
    }
}
