//! Loading a script, once for each interpreter, and finding its callable.

use super::extensions::Judge;
use crate::interp::exception::Exception;
use crate::interp::{Attached, Kept, Object, Raised};
use crate::isolation::Refused;
use crate::{Code, GroupName, Job, Refusal, Reload, Script};
use cpython_sys::*;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The scripts that an interpreter has loaded.
#[derive(Default)]
pub(super) struct Scripts {
    gates: Mutex<HashMap<CString, Arc<Gate>>>,
    /// A module was replaced since garbage was collected last.
    replaced: AtomicBool,
    /// A fresh interpreter can take this one's place.
    pub(super) replaceable: AtomicBool,
    /// A script has changed, and a fresh interpreter should take this one's place.
    outdated: AtomicBool,
    /// What this interpreter refuses, where that is not left to CPython.
    judge: Option<Judge>,
}

/// One script of one interpreter. Whoever comes while it is being loaded waits here, detached;
/// only requests for this script in this interpreter do.
#[derive(Default)]
struct Gate {
    loaded: Mutex<Option<Loaded>>,
}

/// A module that was made from a script.
struct Loaded {
    script: Arc<Script>,
    module: Kept,
    /// When the file had been changed last, in microseconds since 1970.
    modified: Option<i64>,
}

/// Why there is no callable, or what it raised.
#[derive(Debug)]
pub(crate) struct Failure {
    /// A line for the operator.
    pub(crate) refusal: Refusal,
    /// What Python said.
    pub(crate) traceback: String,
    /// What the interpreter has refused, where that is the cause.
    pub(crate) refused: Option<Refused>,
}

impl Failure {
    /// One of which Python has said nothing.
    pub(super) fn new(code: Code, detail: String) -> Self {
        Self { refusal: Refusal::new(code, detail), traceback: String::new(), refused: None }
    }
}

impl Scripts {
    pub(super) fn new(judge: Option<Judge>) -> Self {
        Self { judge, ..Self::default() }
    }

    /// What this interpreter has refused, where that is the cause of an exception.
    pub(super) fn refused(&self, exception: &Exception<'_>) -> Option<Refused> {
        self.judge.as_ref()?.refused(exception)
    }

    /// What was refused since this thread has begun its request, whoever has caught that.
    pub(super) fn refused_lately(&self, py: Attached<'_>) -> Option<Refused> {
        self.judge.as_ref()?.refused_lately(py)
    }

    /// The module of a job's script, which is loaded first where it is not yet, or loaded again
    /// where the job wants that and the script has changed. A failed load is not remembered: the
    /// next request tries again.
    pub(super) fn module<'py>(
        &self,
        py: Attached<'py>,
        script: &Arc<Script>,
        job: &Job,
        group: &GroupName,
    ) -> Result<Object<'py>, Failure> {
        let gate = self.gate(script);
        let (mut module, fresh) = gate.module(self, py, script, group)?;
        if job.reload == Reload::Never || fresh || !gate.is_outdated(py, script, job, &module) {
            return Ok(module);
        }
        let replaces = matches!(job.reload, Reload::Interpreter | Reload::Process);
        if replaces && self.replaceable.load(Ordering::Relaxed) {
            // Until it changes once more, this is what the fresh interpreter is about.
            gate.take_for_current(py, script);
            self.outdated.store(true, Ordering::Relaxed);
        } else if job.reload == Reload::Process {
            let detail = format!("script '{}' has changed", script.path().display());
            return Err(Failure::new(Code::ProcessOutdated, detail));
        } else {
            gate.forget(py, &module);
            self.replaced.store(true, Ordering::Relaxed);
            (module, _) = gate.module(self, py, script, group)?;
        }
        Ok(module)
    }

    /// Loads a script, where that has not been done.
    pub(super) fn load(
        &self,
        py: Attached<'_>,
        script: &Arc<Script>,
        group: &GroupName,
    ) -> Result<(), Failure> {
        self.gate(script).module(self, py, script, group).map(drop)
    }

    /// The scripts that are loaded.
    pub(super) fn loaded(&self) -> Vec<Arc<Script>> {
        let gates: Vec<_> = lock(&self.gates).values().cloned().collect();
        // One that is being loaded is not yet; to wait for it could be for ever.
        let loaded = |gate: Arc<Gate>| {
            gate.loaded.try_lock().ok()?.as_ref().map(|loaded| Arc::clone(&loaded.script))
        };
        gates.into_iter().filter_map(loaded).collect()
    }

    /// Whether a script has changed, so that a fresh interpreter should take this one's place. Asked
    /// once for each time.
    pub(super) fn take_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed) && self.outdated.swap(false, Ordering::Relaxed)
    }

    /// Whether a module was replaced, so that [`Self::collect`] is due. Asked once for each time.
    pub(super) fn take_replaced(&self) -> bool {
        // The swap writes, which a request should not have to.
        self.replaced.load(Ordering::Relaxed) && self.replaced.swap(false, Ordering::Relaxed)
    }

    /// Has Python let go of replaced modules, whose functions and dictionary hold each other. Its
    /// own collections count objects, not bytes, and could leave many of them for long.
    pub(super) fn collect(py: Attached<'_>) {
        let collected = Object::import(py, c"gc").and_then(|gc| gc.attribute(c"collect")?.call([]));
        if let Err(raised) = collected {
            let exception = Exception::take(py, raised);
            tracing::debug!("gc.collect() after a reload: {}", exception.summary());
        }
    }

    /// The callable of a job's script.
    pub(super) fn callable<'py>(
        &self,
        py: Attached<'py>,
        script: &Arc<Script>,
        job: &Job,
        group: &GroupName,
    ) -> Result<Object<'py>, Failure> {
        let module = self.module(py, script, job, group)?;
        let place =
            || format!("script '{}' in application group '{group}'", script.path().display());
        let name = script.callable().to_string_lossy();
        let failed = match module.attribute_if_any(script.callable()) {
            Ok(Some(callable)) if callable.is_callable() => return Ok(callable),
            Ok(Some(other)) => {
                let class = other.type_name();
                let detail =
                    format!("'{name}' of {} cannot be called: it is of type {class}", place());
                Failure::new(Code::NoCallable, detail)
            }
            Ok(None) => {
                let detail = format!(
                    "{} defines no '{name}'; define a WSGI application of that name",
                    place()
                );
                Failure::new(Code::NoCallable, detail)
            }
            Err(raised) => {
                let what = "has a callable that cannot be read";
                self.failure(py, raised, Code::NoCallable, &place(), what)
            }
        };
        // It counts as not loaded, so that it can be mended.
        self.gate(script).forget(py, &module);
        Err(failed)
    }

    fn failure(
        &self,
        py: Attached<'_>,
        raised: Raised,
        code: Code,
        place: &str,
        what: &str,
    ) -> Failure {
        let exception = Exception::take(py, raised);
        if exception.is_system_exit() {
            let detail =
                format!("{place} {what}: it raised SystemExit, which ends no process here");
            return Failure::new(code, detail);
        }
        let detail = format!("{place} {what}: {}", exception.summary());
        Failure {
            refusal: Refusal::new(code, detail),
            traceback: exception.traceback(),
            refused: self.refused(&exception),
        }
    }

    fn gate(&self, script: &Script) -> Arc<Gate> {
        let mut gates = lock(&self.gates);
        if let Some(gate) = gates.get(script.module()) {
            return Arc::clone(gate);
        }
        Arc::clone(gates.entry(script.module().clone()).or_default())
    }

    pub(super) fn release(self, py: Attached<'_>) {
        for (_, gate) in self.gates.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let loaded = lock(&gate.loaded).take();
            if let Some(loaded) = loaded {
                drop(loaded.module.release(py));
            }
        }
    }
}

impl Gate {
    /// An uncontended gate costs nothing; a contended one is waited for without the GIL, which its
    /// holder needs.
    fn lock(&self, py: Attached<'_>) -> MutexGuard<'_, Option<Loaded>> {
        match self.loaded.try_lock() {
            Ok(guard) => guard,
            Err(_) => py.detached(|| lock(&self.loaded)),
        }
    }

    /// The module, and whether it had to be loaded for this.
    fn module<'py>(
        &self,
        scripts: &Scripts,
        py: Attached<'py>,
        script: &Arc<Script>,
        group: &GroupName,
    ) -> Result<(Object<'py>, bool), Failure> {
        let mut loaded = self.lock(py);
        if let Some(loaded) = &*loaded {
            return Ok((loaded.module.get(py), false));
        }
        tracing::info!(
            "loading script '{}' into application group '{group}'",
            script.path().display()
        );
        // Asked before the file is read: a change in between is seen as one, not missed.
        let modified = py.detached(|| script.modified());
        STARTUP.begin();
        let module = load(scripts, py, script, modified, group)?;
        STARTUP.succeed();
        let script = Arc::clone(script);
        *loaded = Some(Loaded { script, module: Kept::new(module.clone()), modified });
        Ok((module, true))
    }

    /// Whether the file has changed or gone since this module was made of it, or the module's own
    /// `reload_required(resource)` says that it has to be loaded again.
    fn is_outdated<'py>(
        &self,
        py: Attached<'py>,
        script: &Script,
        job: &Job,
        module: &Object<'py>,
    ) -> bool {
        let remembered = self.lock(py).as_ref().and_then(|loaded| loaded.modified);
        // A request that has seen the file as it was before says nothing against a module that was made
        // of it since.
        if job.script_modified.is_none() || job.script_modified != remembered {
            let now = py.detached(|| script.modified());
            if now != remembered {
                return true;
            }
        }
        let resource = job.variables.get(b"SCRIPT_FILENAME").unwrap_or_default();
        let asked =
            module.attribute_if_any(c"reload_required").and_then(|function| match function {
                Some(function) => function.call([&Object::path(py, resource)?])?.is_true(),
                None => Ok(false),
            });
        asked.unwrap_or_else(|raised| {
            let exception = Exception::take(py, raised);
            tracing::error!(
                "{}: reload_required() of script '{}' raised, which counts as no: {}",
                Code::ApplicationRaised,
                script.path().display(),
                exception.summary()
            );
            false
        })
    }

    /// Takes the module for one that was made of the file as it is now.
    fn take_for_current(&self, py: Attached<'_>, script: &Script) {
        let now = py.detached(|| script.modified());
        if let Some(loaded) = &mut *self.lock(py) {
            loaded.modified = now;
        }
    }

    /// Has the script loaded again, unless somebody else already has.
    fn forget<'py>(&self, py: Attached<'py>, module: &Object<'py>) {
        let forgotten = self.lock(py).take_if(|loaded| loaded.module.as_ptr() == module.as_ptr());
        if let Some(loaded) = forgotten {
            // Requests that still run in the old module keep it.
            drop(loaded.module.release(py));
        }
    }
}

/// How this process's first attempts to load a script go.
pub(crate) static STARTUP: Startup =
    Startup { began: OnceLock::new(), succeeded: AtomicBool::new(false) };

pub(crate) struct Startup {
    began: OnceLock<Instant>,
    succeeded: AtomicBool,
}

impl Startup {
    fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    fn succeed(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// For how long it was tried without success, as long as there was none.
    pub(crate) fn trying_for(&self) -> Option<Duration> {
        if self.succeeded.load(Ordering::Relaxed) {
            return None;
        }
        self.began.get().map(Instant::elapsed)
    }
}

/// Reads, compiles and runs the script as a new module.
fn load<'py>(
    scripts: &Scripts,
    py: Attached<'py>,
    script: &Script,
    modified: Option<i64>,
    group: &GroupName,
) -> Result<Object<'py>, Failure> {
    let path = script.path();
    let place = format!("script '{}' in application group '{group}'", path.display());
    let source = py.detached(|| std::fs::read(path)).map_err(|error| {
        let hint = if path.is_relative() {
            "; the path is relative, and httpd's directory is no place to look"
        } else {
            ""
        };
        let detail = format!("{place} could not be read: {error}{hint}");
        Failure::new(Code::ScriptNotCompiled, detail)
    })?;
    let code = compile(py, script, &source).map_err(|raised| {
        scripts.failure(py, raised, Code::ScriptNotCompiled, &place, "could not be compiled")
    })?;
    execute(py, script, modified, &code).map_err(|raised| {
        scripts.failure(py, raised, Code::ScriptNotExecuted, &place, "could not be executed")
    })
}

fn compile<'py>(py: Attached<'py>, script: &Script, source: &[u8]) -> Result<Object<'py>, Raised> {
    // From bytes, so that the coding cookie is honoured.
    Object::import(py, c"builtins")?.attribute(c"compile")?.call([
        &Object::bytes(py, source)?,
        &Object::path(py, script.path().as_os_str().as_bytes())?,
        &Object::text(py, "exec")?,
        // No flags, and none inherited from whoever called.
        &Object::integer(py, 0)?,
        &Object::boolean(py, true),
    ])
}

fn execute<'py>(
    py: Attached<'py>,
    script: &Script,
    modified: Option<i64>,
    code: &Object<'py>,
) -> Result<Object<'py>, Raised> {
    let name = Object::latin1(py, script.module().as_bytes())?;
    // SAFETY: attached; it returns a new reference or raises.
    let module = unsafe { Object::from_owned(py, PyModule_NewObject(name.as_ptr())) }?;
    module.set_attribute(c"__file__", &Object::path(py, script.path().as_os_str().as_bytes())?)?;
    if let Some(modified) = modified {
        module.set_attribute(c"__mtime__", &Object::integer(py, modified)?)?;
    }
    let namespace = module.attribute(c"__dict__")?;
    namespace.set_item_named(c"__builtins__", &Object::import(py, c"builtins")?)?;
    let modules = Object::import(py, c"sys")?.attribute(c"modules")?;
    modules.set_item(&name, &module)?;
    // SAFETY: attached; all three are live objects; it returns a new reference or raises.
    let result = unsafe { PyEval_EvalCode(code.as_ptr(), namespace.as_ptr(), namespace.as_ptr()) };
    // SAFETY: see above.
    if let Err(raised) = unsafe { Object::from_owned(py, result) } {
        let exception = Exception::take(py, raised);
        if modules.attribute(c"pop")?.call([&name, &Object::none(py)]).is_err() {
            // SAFETY: attached; what the script raised matters more than what sys.modules did.
            unsafe { PyErr_Clear() };
        }
        return Err(exception.restore());
    }
    Ok(module)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
