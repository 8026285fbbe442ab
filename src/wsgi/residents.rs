//! What an interpreter keeps from one request to the next.

use super::environ::Environs;
use super::extensions::Judge;
use super::running::{self, Running};
use super::script::{Failure, Scripts};
use super::search_path::SearchPath;
use super::{errors, hook, input, request};
use crate::gate::Gate;
use crate::interp::ending::{self, ExitFunctions};
use crate::interp::exception::Exception;
use crate::interp::object::release_returned;
use crate::interp::{Attached, Kept, Object, Raised};
use crate::lending::{Lender, Release};
use crate::options::Resolved;
use crate::{GroupName, Script, Settings};
use cpython_sys::*;
use std::cell::{RefCell, RefMut};
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The version of mod_wsgi whose behaviour applications can rely on.
pub const COMPATIBLE_VERSION: (i32, i32, i32) = (6, 1, 1);

/// How long those may take who write what they were lent.
const READING: Duration = Duration::from_secs(1);

/// What belongs to one interpreter, made when it is and released when it ends.
pub(crate) struct Residents {
    pub(super) group: GroupName,
    pub(super) request_class: Kept,
    pub(super) input_class: Kept,
    pub(super) errors_class: Kept,
    /// `wsgi.file_wrapper`, and what finds the file of one.
    pub(super) file_wrapper: Kept,
    pub(super) sendable_file: Kept,
    pub(super) tls_class: Kept,
    /// Formats a traceback without the messages of exceptions.
    pub(super) frames: Kept,
    pub(super) environs: Environs,
    /// `mod_wsgi.RequestTimeout`.
    pub(crate) request_timeout: Kept,
    pub(super) scripts: Scripts,
    pub(super) running: Arc<Running>,
    pub(super) events: Events,
    /// Of what applications have made.
    pub(super) lender: Arc<Lender>,
    exit: ExitFunctions,
    search_path: SearchPath,
    /// Formats a stack, where somebody watches requests.
    format_stack: Option<Kept>,
}

/// Who is told of events, and how.
pub(super) struct Events {
    /// `mod_wsgi.event_callbacks`, a list.
    callbacks: Kept,
    /// What counts requests, a list as well.
    recorders: Kept,
    /// Tells those who have subscribed that the process stops.
    stopping: Kept,
    /// Tells those who have subscribed of a signal.
    signal: Kept,
    /// The class `Observation` of events.py.
    pub(super) observation: Kept,
}

impl Events {
    /// Whether somebody has subscribed, or counts. This is all that a request costs when nobody does.
    pub(super) fn wanted(&self, _py: Attached<'_>) -> bool {
        [&self.callbacks, &self.recorders].into_iter().any(|list| {
            // SAFETY: attached, and events.py has made both as lists.
            unsafe { PyList_GET_SIZE(list.as_ptr()) > 0 }
        })
    }
}

/// Data that only threads attached to its interpreter touch, one at a time.
#[derive(Default)]
pub(super) struct Guarded<T>(RefCell<T>);

// SAFETY: access takes the proof of being attached, so the interpreter's GIL orders it; and no
// borrow lasts over anything that could let the GIL go.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(super) fn borrow(&self, _py: Attached<'_>) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl Residents {
    /// Prepares the interpreter this thread is attached to.
    ///
    /// # Errors
    ///
    /// What Python said.
    pub(crate) fn new(
        py: Attached<'_>,
        group: &GroupName,
        settings: &Settings,
        options: &Resolved,
        gate: Option<&Arc<Gate>>,
    ) -> Result<Self, String> {
        Self::prepare(py, group, settings, options, gate).map_err(|raised| {
            Exception::take(py, raised).traceback().trim_end().replace('\n', " | ")
        })
    }

    fn prepare(
        py: Attached<'_>,
        group: &GroupName,
        settings: &Settings,
        options: &Resolved,
        gate: Option<&Arc<Gate>>,
    ) -> Result<Self, Raised> {
        let bootstrap = module(py, c"_mod_manifold", concat!(include_str!("bootstrap.py"), "\0"))?;
        let judge = match gate {
            Some(gate) => Some(Judge::install(py, gate, options.gil)?),
            None => None,
        };
        let errors_class = errors::class(py)?;
        let stream = errors::stream(&errors_class, None)?;
        let running = Arc::new(Running::default());
        let host = running::host(py, &running, settings)?;
        let sources = sources(py)?;
        let events = bootstrap.attribute(c"prepare")?.call([&host, &sources])?;
        let keep_stdout = Object::boolean(py, settings.keep_stdout);
        bootstrap.attribute(c"redirect")?.call([&stream, &keep_stdout])?;
        if settings.frees_signals {
            bootstrap.attribute(c"free_signals")?.call([])?;
        }
        let name = Object::latin1(py, group.as_bytes())?;
        let process_group = Object::latin1(py, settings.process_group.as_bytes())?;
        let version = versions(py, COMPATIBLE_VERSION)?;

        let attributes = dict(py)?;
        attributes.set_item_named(c"version", &version)?;
        attributes.set_item_named(c"process_group", &process_group)?;
        attributes.set_item_named(c"application_group", &name)?;
        let threads = i64::try_from(settings.interpreter_threads).unwrap_or(i64::MAX);
        attributes.set_item_named(c"threads_per_process", &Object::integer(py, threads)?)?;
        attributes.set_item_named(
            c"maximum_processes",
            &Object::integer(py, settings.processes.into())?,
        )?;
        bootstrap.attribute(c"provide_mod_wsgi")?.call([&attributes, &events, &sources])?;

        let process = match settings.process_group.is_main() {
            true => "httpd child".to_owned(),
            false => format!("worker process of process group '{}'", settings.process_group),
        };
        let shown = Object::text(py, &group.to_string())?;
        let process = Object::text(py, &process)?;
        bootstrap.attribute(c"announce_exit")?.call([&shown, &process])?;

        let search_path = SearchPath::new(settings);
        search_path.add(&bootstrap, &options.python_path)?;
        restrict(py, options, &stream, &process)?;
        if let Some(interval) = options.switch_interval {
            let set = Object::import(py, c"sys")?.attribute(c"setswitchinterval")?;
            set.call([&Object::float(py, interval.seconds)?])?;
        }
        let watched = settings.slow_requests.or(settings.request_timeout).is_some();
        let format_stack = match watched {
            true => {
                let source = concat!(include_str!("stacks.py"), "\0");
                let stacks = module(py, c"_mod_manifold_stacks", source)?;
                Some(Kept::new(stacks.attribute(c"format_stack")?))
            }
            false => None,
        };

        bootstrap.attribute(c"provide_apache")?.call([&apache(py, settings)?])?;

        let base = dict(py)?;
        base.set_item_named(c"wsgi.version", &pair(py, 1, 0)?)?;
        base.set_item_named(c"wsgi.multithread", &Object::boolean(py, settings.multithread))?;
        base.set_item_named(c"wsgi.multiprocess", &Object::boolean(py, settings.multiprocess))?;
        base.set_item_named(c"wsgi.run_once", &Object::boolean(py, settings.run_once))?;
        base.set_item_named(c"wsgi.input_terminated", &Object::boolean(py, true))?;
        base.set_item_named(c"wsgi.file_wrapper", &bootstrap.attribute(c"FileWrapper")?)?;
        base.set_item_named(c"apache.version", &versions(py, settings.server_version)?)?;
        base.set_item_named(c"mod_wsgi.version", &version)?;
        base.set_item_named(c"mod_wsgi.process_group", &process_group)?;
        base.set_item_named(c"mod_wsgi.application_group", &name)?;

        Ok(Self {
            group: group.clone(),
            request_class: Kept::new(request::class(py)?),
            input_class: Kept::new(input::class(py)?),
            errors_class: Kept::new(errors_class),
            file_wrapper: Kept::new(bootstrap.attribute(c"FileWrapper")?),
            sendable_file: Kept::new(bootstrap.attribute(c"sendable_file")?),
            tls_class: Kept::new(hook::class(py)?),
            frames: Kept::new(bootstrap.attribute(c"frames")?),
            environs: Environs::new(py, base)?,
            request_timeout: Kept::new(bootstrap.attribute(c"RequestTimeout")?),
            scripts: Scripts::new(judge),
            running,
            lender: Arc::default(),
            events: Events {
                callbacks: Kept::new(events.attribute(c"event_callbacks")?),
                recorders: Kept::new(events.attribute(c"recorders")?),
                stopping: Kept::new(events.attribute(c"process_stopping")?),
                signal: Kept::new(events.attribute(c"process_signal")?),
                observation: Kept::new(events.attribute(c"Observation")?),
            },
            exit: ExitFunctions {
                join_threads: Kept::new(bootstrap.attribute(c"join_threads")?),
                run_exit_callbacks: Kept::new(bootstrap.attribute(c"run_exit_callbacks")?),
            },
            search_path,
            format_stack,
        })
    }

    /// Whether there is something to tidy up when no client waits for it.
    pub(crate) fn is_untidy(&self) -> bool {
        self.scripts.take_replaced()
    }

    /// By whom much that comes back is released.
    pub(crate) fn release_by(&self, release: impl Release + 'static) {
        self.lender.release_by(release);
    }

    /// Releases what came back.
    pub(crate) fn release_returned(&self, py: Attached<'_>) {
        release_returned(py, &self.lender);
    }

    /// Says that a fresh interpreter can take this one's place.
    pub(crate) fn may_be_replaced(&self, may: bool) {
        self.scripts.replaceable.store(may, Ordering::Relaxed);
    }

    /// Whether a script has changed, so that a fresh interpreter should take this one's place. Asked
    /// once for each time.
    pub(crate) fn take_outdated(&self) -> bool {
        self.scripts.take_outdated()
    }

    /// The scripts that are loaded.
    pub(crate) fn loaded_scripts(&self) -> Vec<Arc<Script>> {
        self.scripts.loaded()
    }

    /// Loads scripts.
    ///
    /// # Errors
    ///
    /// Of the first that cannot be loaded: what to say, and Python's traceback.
    pub(crate) fn load(&self, py: Attached<'_>, scripts: &[Arc<Script>]) -> Result<(), Failure> {
        scripts.iter().try_for_each(|script| self.scripts.load(py, script, &self.group))
    }

    /// Puts lists of directories before everything on `sys.path`, for a group that moves in here.
    pub(crate) fn add_python_path(&self, py: Attached<'_>, lists: &[Vec<PathBuf>]) {
        let added = Object::import(py, c"_mod_manifold")
            .and_then(|bootstrap| self.search_path.add(&bootstrap, lists));
        if let Err(raised) = added {
            self.search_path.tell(&Exception::take(py, raised).summary());
        }
    }

    /// Tidies up.
    pub(crate) fn tidy(&self, py: Attached<'_>) {
        Scripts::collect(py);
    }

    /// The stack of a thread that ends with this frame, as a traceback shows it.
    pub(crate) fn format_stack<'py>(&self, frame: &Object<'py>) -> Result<String, Raised> {
        match &self.format_stack {
            Some(format_stack) => format_stack.get(frame.py()).call([frame])?.to_text(),
            None => Ok(String::new()),
        }
    }

    /// Tells applications that the process stops. Before anything else of the interpreter's end,
    /// since threads may end only because of it.
    pub(crate) fn tell_stopping(&self, py: Attached<'_>, reason: &str) {
        match Object::text(py, reason) {
            Ok(reason) => ending::call(py, &self.events.stopping.get(py), [&reason]),
            Err(raised) => drop(Exception::take(py, raised)),
        }
    }

    /// Tells applications of a signal that the process was sent.
    pub(crate) fn tell_signal(&self, py: Attached<'_>, (name, number): (&str, i32)) {
        let told = Object::text(py, name).and_then(|name| {
            let number = Object::integer(py, number.into())?;
            self.events.signal.get(py).call([&name, &number])
        });
        if let Err(raised) = told {
            let exception = Exception::take(py, raised);
            tracing::warn!("nobody is told of {name}: {}", exception.traceback().trim_end());
        }
    }

    /// What the interpreter's end needs.
    pub(crate) fn exit_functions(&self, py: Attached<'_>) -> ExitFunctions {
        ExitFunctions {
            join_threads: Kept::new(self.exit.join_threads.get(py)),
            run_exit_callbacks: Kept::new(self.exit.run_exit_callbacks.get(py)),
        }
    }

    /// Lets everything go.
    pub(crate) fn release(self, py: Attached<'_>) {
        py.detached(|| self.lender.call_in(READING));
        self.release_returned(py);
        let ExitFunctions { join_threads, run_exit_callbacks } = self.exit;
        for kept in [join_threads, run_exit_callbacks, self.events.stopping] {
            drop(kept.release(py));
        }
        for kept in [self.file_wrapper, self.sendable_file] {
            drop(kept.release(py));
        }
        for kept in [self.request_class, self.input_class, self.errors_class, self.tls_class] {
            drop(kept.release(py));
        }
        drop(self.frames.release(py));
        self.environs.release(py);
        if let Some(kept) = self.format_stack {
            drop(kept.release(py));
        }
        for kept in [self.request_timeout, self.events.observation] {
            drop(kept.release(py));
        }
        for kept in [self.events.callbacks, self.events.recorders, self.events.signal] {
            drop(kept.release(py));
        }
        self.running.release(py);
        self.scripts.release(py);
    }
}

/// Takes from applications what the options say.
fn restrict<'py>(
    py: Attached<'py>,
    options: &Resolved,
    stream: &Object<'py>,
    process: &Object<'py>,
) -> Result<(), Raised> {
    let Resolved { restrict_stdin, restrict_stdout, restrict_signal, .. } = *options;
    if !(restrict_stdin || restrict_stdout || restrict_signal) {
        return Ok(());
    }
    let source = concat!(include_str!("restrict.py"), "\0");
    let module = module(py, c"_mod_manifold_restrict", source)?;
    if restrict_stdin {
        module.attribute(c"restrict_stdin")?.call([])?;
    }
    if restrict_stdout {
        module.attribute(c"restrict_stdout")?.call([])?;
    }
    if restrict_signal {
        let log = errors::info_function(stream)?;
        module.attribute(c"restrict_signal")?.call([&log, process])?;
    }
    Ok(())
}

/// Runs a module of ours; its source ends with a NUL.
pub(crate) fn module<'py>(
    py: Attached<'py>,
    name: &CStr,
    source: &str,
) -> Result<Object<'py>, Raised> {
    let source = CStr::from_bytes_with_nul(source.as_bytes()).expect("one NUL, at its end");
    // SAFETY: attached; both are C strings; it returns a new reference or raises.
    let code = unsafe { Py_CompileString(source.as_ptr(), name.as_ptr(), Py_file_input) };
    // SAFETY: see above.
    let code = unsafe { Object::from_owned(py, code) }?;
    // SAFETY: attached; it returns a new reference or raises.
    unsafe { Object::from_owned(py, PyImport_ExecCodeModule(name.as_ptr(), code.as_ptr())) }
}

/// The texts of our other Python modules, by name.
fn sources(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    let sources = dict(py)?;
    sources.set_item_named(c"events", &Object::text(py, include_str!("events.py"))?)?;
    sources.set_item_named(c"log_handler", &Object::text(py, include_str!("log_handler.py"))?)?;
    sources.set_item_named(c"metrics", &Object::text(py, include_str!("metrics.py"))?)?;
    Ok(sources)
}

/// What the module `apache` says.
fn apache<'py>(py: Attached<'py>, settings: &Settings) -> Result<Object<'py>, Raised> {
    let names = &settings.server_names;
    let apache = dict(py)?;
    apache.set_item_named(c"version", &versions(py, settings.server_version)?)?;
    apache.set_item_named(c"description", &Object::text(py, &names.description)?)?;
    apache.set_item_named(c"build_date", &Object::text(py, &names.build_date)?)?;
    apache.set_item_named(c"mpm_name", &Object::text(py, &names.mpm)?)?;
    let (processes, threads) = (settings.processes.into(), names.threads.into());
    apache.set_item_named(c"maximum_processes", &Object::integer(py, processes)?)?;
    apache.set_item_named(c"threads_per_process", &Object::integer(py, threads)?)?;
    Ok(apache)
}

pub(super) fn dict(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    // SAFETY: attached; it returns a new reference or raises.
    unsafe { Object::from_owned(py, PyDict_New()) }
}

pub(super) fn list(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    // SAFETY: attached; it returns a new reference or raises.
    unsafe { Object::from_owned(py, PyList_New(0)) }
}

fn pair(py: Attached<'_>, first: i64, second: i64) -> Result<Object<'_>, Raised> {
    let (first, second) = (Object::integer(py, first)?, Object::integer(py, second)?);
    // SAFETY: attached; the tuple takes references of its own to both.
    unsafe { Object::from_owned(py, PyTuple_Pack(2, first.as_ptr(), second.as_ptr())) }
}

fn versions(
    py: Attached<'_>,
    (major, minor, patch): (i32, i32, i32),
) -> Result<Object<'_>, Raised> {
    let [major, minor, patch] = [major, minor, patch].map(|part| Object::integer(py, part.into()));
    let (major, minor, patch) = (major?, minor?, patch?);
    // SAFETY: attached; the tuple takes references of its own to all three.
    unsafe {
        Object::from_owned(py, PyTuple_Pack(3, major.as_ptr(), minor.as_ptr(), patch.as_ptr()))
    }
}
