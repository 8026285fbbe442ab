//! A child process from its first to its last moment.
//!
//! `child_init` runs in the child, after the fork: it starts the log thread, Python, and the
//! **keeper**, a thread that carries out what the hooks ask for. Where there are process groups, Python
//! waits for the first request that runs inside httpd. The hooks themselves only set a
//! bit and wake it, because prefork calls them from a signal handler, on a thread that may be in
//! the middle of one of our requests: there no lock may be taken and nothing allocated.
//!
//! | httpd says | the keeper does |
//! |---|---|
//! | `child_stopping`, graceful | nothing: requests under way and queued are served |
//! | `child_stopping`, at once | fails every request that waits, so that httpd can join its threads |
//! | pool cleanup (the threads are joined) | drains, runs `atexit`, ends the interpreters, within [`END_LIMIT`] |
//!
//! Where Python has run the process then ends by `_exit`, as soon as httpd has written its logs: no
//! destructor of a library runs beside a thread that is alive, or that is just ending, which has
//! destructors of its own to run: OpenSSL frees what belongs to a thread there, and to the process in
//! `exit`.

use crate::config::{self, ServerConfig};
use crate::{boundary, daemons, log, preload, signals, status};
use httpd_sys::*;
use manifold::{Code, Gil, Left, Level, Limits, Refusal, Runtime, ServerNames, Settings, Store};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long requests have that are still under way when the child has to go. httpd reminds a child
/// after three seconds, and says so in the log.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// How long applications and interpreters have to come to their end. httpd kills a child that has
/// not gone after nine seconds.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Bits of [`Child::orders`].
const STOP_AT_ONCE: u8 = 1;
const LEAVE: u8 = 2;

/// This child; set once, by `child_init`.
static CHILD: OnceLock<Child> = OnceLock::new();

pub(crate) struct Child {
    settings: Settings,
    store: Arc<Store>,
    /// Otherwise it only passes requests on to worker processes.
    may_run_python: bool,
    runtime: OnceLock<Runtime>,
    orders: AtomicU8,
    /// Wakes the keeper.
    wake: OwnedFd,
    /// The keeper has done what it was asked to do last.
    done: OwnedFd,
    /// The keeper has reached every request, and only waits for what runs.
    underway: AtomicBool,
}

/// Applications are not to run inside httpd: see WSGIRestrictEmbedded.
static RESTRICTED: AtomicBool = AtomicBool::new(false);

/// The Python runtime of this child, for a request.
///
/// # Errors
///
/// There is none in this child, or it is not for requests.
pub(crate) fn runtime() -> Result<&'static Runtime, Refusal> {
    if RESTRICTED.load(Ordering::Relaxed) {
        let detail = "WSGIRestrictEmbedded is on, so httpd's own processes run no Python; name a process \
                      group (process-group= or WSGIProcessGroup), or switch it off";
        return Err(Refusal::new(Code::EmbeddedRestricted, detail));
    }
    runtime_for_hooks()
}

/// The Python runtime of this child, for a hook script.
///
/// # Errors
///
/// There is none in this child.
pub(crate) fn runtime_for_hooks() -> Result<&'static Runtime, Refusal> {
    if let Some(child) = CHILD.get().filter(|child| child.may_run_python) {
        return Ok(child.runtime());
    }
    Err(if RESTRICTED.load(Ordering::Relaxed) {
        let detail = "a hook script is named in .htaccess only, and WSGIRestrictEmbedded is on, so httpd's \
                      own processes run no Python; name a hook script in the server's configuration, or \
                      switch it off";
        Refusal::new(Code::EmbeddedRestricted, detail)
    } else {
        Refusal::new(Code::PythonNotStarted, "Python does not run in this process")
    })
}

pub(crate) unsafe extern "C" fn init(pool: *mut apr_pool_t, server: *mut server_rec) {
    boundary::quiet(status::memory::init_child);
    boundary::quiet(|| {
        let needs_python = needs_python(server);
        // SAFETY: httpd passes the main server; children change no configuration.
        let config = unsafe { config::server(server) };
        let restricted = config.restrict_embedded == Some(true);
        RESTRICTED.store(restricted, Ordering::Relaxed);
        let may_run_python = !restricted || needs_python;
        if !may_run_python && config.daemons.is_empty() {
            return;
        }
        if let Some(eggs) = &config.python.eggs {
            // SAFETY: the child has this one thread yet; those that httpd and we make come later.
            unsafe { std::env::set_var("PYTHON_EGG_CACHE", eggs) };
        }
        signals::init();
        manifold::scheduling::prepare();
        let log_thread = log::start();
        let settings = settings(config);
        let store = Store::new(settings.response_buffer);
        daemons::init_child(&store);
        let (Some(wake), Some(done)) = (event_descriptor(), event_descriptor()) else {
            let text = format!(
                "{}: no eventfd, so Python is not started: {}; raise the limit on open files (ulimit -n)",
                Code::PythonNotStarted,
                std::io::Error::last_os_error()
            );
            return log::server(Level::Error, &text);
        };
        let child = Child {
            settings,
            store,
            may_run_python,
            runtime: OnceLock::new(),
            orders: AtomicU8::new(0),
            wake,
            done,
            underway: AtomicBool::new(false),
        };
        let child = CHILD.get_or_init(|| child);
        if let Err(error) =
            manifold::spawn("mnf-keeper".to_owned(), move || keep(child, log_thread))
        {
            let text = format!(
                "{}: no keeper thread, this child cannot stop cleanly: {error}",
                Code::NotEnded
            );
            log::server(Level::Error, &text);
            child.orders.store(LEAVE, Ordering::SeqCst);
        }
        // SAFETY: httpd passes the child's pool; forked programs need not run the cleanup.
        unsafe {
            apr_pool_cleanup_register(
                pool,
                std::ptr::null(),
                Some(leave),
                Some(apr_pool_cleanup_null),
            )
        };
        // Last, so that a child that is told to stop meanwhile does that as always.
        if needs_python || !daemons::any() {
            preload::load_all(child.runtime(), server);
        }
    });
    boundary::quiet(manifold::status::process_serves);
}

/// Whether a hook script or an imported one is named in any of the servers.
fn needs_python(mut server: *mut server_rec) -> bool {
    while !server.is_null() {
        // SAFETY: httpd's list of servers does not change in a child, nor do their records.
        if unsafe { config::server(server) }.needs_python {
            return true;
        }
        // SAFETY: see above.
        server = unsafe { (*server).next };
    }
    false
}

/// httpd tells the child to stop. Async-signal-safe.
pub(crate) unsafe extern "C" fn stopping(_pool: *mut apr_pool_t, graceful: c_int) {
    if let Some(child) = CHILD.get()
        && graceful == 0
    {
        child.order(STOP_AT_ONCE);
    }
}

/// httpd clears the child's pool: its threads are joined, and the process is about to exit. As safe in
/// a signal handler, where prefork calls it, as `exit`, which comes next.
unsafe extern "C" fn leave(_: *mut c_void) -> c_int {
    let Some(child) = CHILD.get() else { return 0 };
    if child.orders.load(Ordering::SeqCst) & LEAVE == 0 {
        child.order(LEAVE);
        // prefork may have stopped this very thread in the middle of one of our requests, with a lock
        // held that the keeper needs and that nobody will ever let go.
        let _ = child.wait_until_done(REQUEST_LIMIT)
            // Otherwise a little longer than the keeper takes at most: it says itself what is left.
            || child.underway.load(Ordering::SeqCst)
                && child.wait_until_done(END_LIMIT - REQUEST_LIMIT + Duration::from_secs(1));
    }
    if child.runtime.get().is_some() {
        // Now, since what is registered last runs first: libraries that applications loaded have
        // registered theirs meanwhile.
        // SAFETY: the function stays mapped.
        unsafe { on_exit(exit_at_once, std::ptr::null_mut()) };
    }
    0
}
impl Child {
    /// Python, which the first call starts.
    fn runtime(&self) -> &Runtime {
        self.runtime.get_or_init(|| {
            Runtime::start_with_store(self.settings.clone(), Arc::clone(&self.store))
        })
    }

    /// Waits until the keeper is done, or the limit is over. Async-signal-safe.
    fn wait_until_done(&self, limit: Duration) -> bool {
        let mut done = libc::pollfd { fd: self.done.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let left = c_int::try_from(left).unwrap_or(c_int::MAX);
            // SAFETY: one valid entry.
            match unsafe { libc::poll(&raw mut done, 1, left) } {
                // httpd's parent sends SIGTERM to a child that is on its way already.
                -1 if std::io::Error::last_os_error().kind() == ErrorKind::Interrupted => {}
                ready => return ready == 1,
            }
        }
    }

    /// Asks the keeper for something. Async-signal-safe.
    fn order(&self, bit: u8) {
        self.orders.fetch_or(bit, Ordering::SeqCst);
        signal(&self.wake);
    }
}

/// The keeper thread.
fn keep(child: &'static Child, log_thread: Option<JoinHandle<()>>) {
    loop {
        wait(&child.wake);
        let orders = child.orders.load(Ordering::SeqCst);
        let now = Instant::now();
        let limits = Limits { requests: now + REQUEST_LIMIT, everything: now + END_LIMIT };
        if orders & STOP_AT_ONCE != 0 {
            daemons::interrupt();
            if let Some(runtime) = child.runtime.get() {
                runtime.interrupt(limits);
            }
        }
        child.underway.store(true, Ordering::SeqCst);
        if orders & LEAVE != 0 {
            let left = child.runtime.get().map_or(Left::Nothing, |runtime| runtime.finish(limits));
            if left == Left::Threads {
                tracing::warn!(
                    "{}: requests that are under way have {} s, and atexit callbacks and threads that are no \
                     daemons {} s, when a child stops; some took longer, and the child goes without them",
                    Code::NotEnded,
                    REQUEST_LIMIT.as_secs(),
                    END_LIMIT.as_secs()
                );
            }
            log::close();
            if let Some(thread) = log_thread {
                let _ = thread.join();
            }
            return signal(&child.done);
        }
    }
}

unsafe extern "C" {
    /// glibc's `on_exit(3)`.
    fn on_exit(function: unsafe extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// The first thing that `exit` runs, and so the only one.
unsafe extern "C" fn exit_at_once(status: c_int, _: *mut c_void) {
    // SAFETY: it ends the process; httpd's logs were written when its pools were cleared.
    unsafe { libc::_exit(status) };
}

/// What the configuration and the MPM make of [`Settings`].
pub(crate) fn settings(config: &ServerConfig) -> Settings {
    let threads = usize::try_from(mpm_threads()).unwrap_or(1);
    let defaults = Settings::default();
    if Gil::default() == Gil::Shared && config.python.wants_own_gil() {
        let text = format!(
            "{}: interpreters share one GIL: under a GIL of their own, standard modules of Python {} crash; \
             use Python 3.13 or later, or say WSGIPerInterpreterGIL Off",
            Code::SharedGil,
            manifold::PYTHON_VERSION
        );
        log::server(Level::Warning, &text);
    }
    Settings {
        python_home: config.python_home.clone(),
        python: config.python.start.clone(),
        worker: config.daemon_worker.clone().or_else(worker_beside_the_module),
        options: config.python.table(),
        destroy_interpreters: config.python.destroy_interpreter.unwrap_or(true),
        slow_requests: config.python.slow_requests,
        request_timeout: config.python.request_timeout,
        request_threads: threads,
        interpreter_threads: config.interpreter_threads.unwrap_or(threads),
        server_metrics: config.python.server_metrics == Some(true),
        interpreter_limit: config.interpreter_limit.unwrap_or(defaults.interpreter_limit),
        queue_limit: Settings::queue_limit_for(threads),
        response_buffer: config.response_buffer.unwrap_or(defaults.response_buffer),
        processes: mpm(AP_MPMQ_MAX_DAEMONS),
        multithread: threads > 1,
        multiprocess: mpm(AP_MPMQ_MAX_DAEMONS) > 1,
        server_version: server_version(),
        server_names: server_names(),
        verbosity: log::server_verbosity(),
        frees_signals: mpm(AP_MPMQ_IS_THREADED) != 0,
        // SAFETY: the name is a literal; httpd -X defines it.
        keep_stdout: unsafe { ap_exists_config_define(c"DEBUG".as_ptr()) } != 0,
        ..defaults
    }
}

/// `manifold-worker` in the folder from which httpd has loaded this module.
pub(crate) fn worker_beside_the_module() -> Option<PathBuf> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let address = (worker_beside_the_module as fn() -> Option<PathBuf>) as *const c_void;
    // SAFETY: the address is one of this module's code, and the structure is filled on success.
    if unsafe { libc::dladdr(address, found.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: filled; the name is a C string that lives as long as the module stays mapped.
    let module = unsafe { CStr::from_ptr((*found.as_ptr()).dli_fname) };
    let folder = Path::new(OsStr::from_bytes(module.to_bytes())).parent()?;
    Some(folder.join("manifold-worker"))
}

/// The user that httpd's children run as, where it was started as root.
pub(crate) fn server_user() -> Option<u32> {
    // SAFETY: httpd writes it while it reads its configuration, on the thread that asks here.
    let user = unsafe { ap_unixd_config.user_id };
    nix::unistd::geteuid().is_root().then_some(user)
}

/// How many requests httpd may serve at a time.
pub(crate) fn most_requests() -> usize {
    let processes = usize::try_from(mpm(AP_MPMQ_HARD_LIMIT_DAEMONS)).unwrap_or(1).max(1);
    processes * request_threads()
}

/// How many threads of a child of httpd serve requests.
pub(crate) fn request_threads() -> usize {
    usize::try_from(mpm_threads()).unwrap_or(1)
}

/// A property of the MPM; 0 where it does not know it.
pub(crate) fn mpm(property: u32) -> c_int {
    let mut value = 0;
    // SAFETY: the MPM is loaded, and the place for the answer is ours.
    let status = unsafe { ap_mpm_query(property as c_int, &raw mut value) };
    if status == 0 { value } else { 0 }
}

fn server_version() -> (i32, i32, i32) {
    let mut version = ap_version_t { major: 0, minor: 0, patch: 0, add_string: std::ptr::null() };
    // SAFETY: it fills the structure it is given.
    unsafe { ap_get_server_revision(&raw mut version) };
    (version.major, version.minor, version.patch)
}

/// What httpd calls itself.
fn server_names() -> ServerNames {
    let text = |text: *const c_char| {
        if text.is_null() {
            return String::new();
        }
        // SAFETY: httpd's own texts end with a NUL and are not changed once it serves.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    // SAFETY: each takes nothing and returns a text.
    let [description, build_date, mpm] =
        unsafe { [ap_get_server_description(), ap_get_server_built(), ap_show_mpm()] }.map(text);
    ServerNames { description, build_date, mpm, threads: mpm_threads() }
}

fn mpm_threads() -> c_int {
    mpm(AP_MPMQ_MAX_THREADS).max(1)
}

/// A descriptor that is readable once it was signalled, and that no forked program inherits.
fn event_descriptor() -> Option<OwnedFd> {
    // SAFETY: it takes numbers only.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    // SAFETY: the descriptor was just made, and is ours alone.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Async-signal-safe.
fn signal(event: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: eight bytes are read; a counter that is full is signalled already.
    unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

fn wait(event: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: eight bytes are written; no signal is delivered to the keeper.
    unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}
