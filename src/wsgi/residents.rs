//! What an interpreter keeps from one request to the next.

use super::script::Scripts;
use super::{errors, hook, input, request};
use crate::interp::ending::ExitFunctions;
use crate::interp::exception::Exception;
use crate::interp::{Attached, Kept, Object, Raised};
use crate::{Code, GroupName, Settings};
use cpython_sys::*;
use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

/// How many names of environ keys are kept as Python objects. Header names come from clients, so
/// there has to be an end to it.
const KEY_LIMIT: usize = 512;

/// The version of mod_wsgi whose behaviour applications can rely on.
const COMPATIBLE_VERSION: (i32, i32, i32) = (6, 1, 1);

/// What belongs to one interpreter, made when it is and released when it ends.
pub(crate) struct Residents {
    pub(super) group: GroupName,
    pub(super) request_class: Kept,
    pub(super) input_class: Kept,
    pub(super) errors_class: Kept,
    pub(super) tls_class: Kept,
    /// Formats a traceback without the messages of exceptions.
    pub(super) frames: Kept,
    /// What every environ of this interpreter has in common.
    pub(super) base_environ: Kept,
    pub(super) scripts: Scripts,
    keys: Guarded<HashMap<Box<[u8]>, Kept>>,
    exit: ExitFunctions,
}

/// Data that only threads attached to its interpreter touch, one at a time.
struct Guarded<T>(RefCell<T>);

// SAFETY: access takes the proof of being attached, so the interpreter's GIL orders it; and no
// borrow lasts over anything that could let the GIL go.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    fn borrow(&self, _py: Attached<'_>) -> RefMut<'_, T> {
        self.0.borrow_mut()
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
    ) -> Result<Self, String> {
        Self::prepare(py, group, settings).map_err(|raised| {
            Exception::take(py, raised).traceback().trim_end().replace('\n', " | ")
        })
    }

    fn prepare(py: Attached<'_>, group: &GroupName, settings: &Settings) -> Result<Self, Raised> {
        let bootstrap = bootstrap_module(py)?;
        let errors_class = errors::class(py)?;
        let stream = errors::stream(&errors_class, None)?;
        let name = Object::latin1(py, group.as_bytes())?;
        let version = versions(py, COMPATIBLE_VERSION)?;

        let attributes = dict(py)?;
        attributes.set_item_named(c"version", &version)?;
        attributes.set_item_named(c"process_group", &Object::text(py, "")?)?;
        attributes.set_item_named(c"application_group", &name)?;
        let threads = i64::try_from(settings.interpreter_threads).unwrap_or(i64::MAX);
        attributes.set_item_named(c"threads_per_process", &Object::integer(py, threads)?)?;
        attributes.set_item_named(
            c"maximum_processes",
            &Object::integer(py, settings.processes.into())?,
        )?;
        bootstrap.attribute(c"prepare")?.call([&stream, &attributes])?;

        bootstrap.attribute(c"announce_exit")?.call([&Object::text(py, &group.to_string())?])?;

        if !settings.python_path.is_empty() {
            let list = list(py)?;
            for path in &settings.python_path {
                let path = Object::path(py, path.as_os_str().as_bytes())?;
                list.attribute(c"append")?.call([&path])?;
            }
            let problem = bootstrap.attribute(c"add_python_path")?.call([&list])?;
            if !problem.is_none() {
                tracing::error!("{}: WSGIPythonPath: {}", Code::PathNotAdded, problem.to_text()?);
            }
        }

        let base = dict(py)?;
        base.set_item_named(c"wsgi.version", &pair(py, 1, 0)?)?;
        base.set_item_named(c"wsgi.multithread", &Object::boolean(py, settings.multithread))?;
        base.set_item_named(c"wsgi.multiprocess", &Object::boolean(py, settings.multiprocess))?;
        base.set_item_named(c"wsgi.run_once", &Object::boolean(py, false))?;
        base.set_item_named(c"wsgi.input_terminated", &Object::boolean(py, true))?;
        base.set_item_named(c"wsgi.file_wrapper", &bootstrap.attribute(c"FileWrapper")?)?;
        base.set_item_named(c"apache.version", &versions(py, settings.server_version)?)?;
        base.set_item_named(c"mod_wsgi.version", &version)?;
        base.set_item_named(c"mod_wsgi.process_group", &Object::text(py, "")?)?;
        base.set_item_named(c"mod_wsgi.application_group", &name)?;
        base.set_item_named(c"mod_wsgi.queue_start", &Object::float(py, 0.0)?)?;
        base.set_item_named(c"mod_wsgi.daemon_start", &Object::float(py, 0.0)?)?;

        Ok(Self {
            group: group.clone(),
            request_class: Kept::new(request::class(py)?),
            input_class: Kept::new(input::class(py)?),
            errors_class: Kept::new(errors_class),
            tls_class: Kept::new(hook::class(py)?),
            frames: Kept::new(bootstrap.attribute(c"frames")?),
            base_environ: Kept::new(base),
            scripts: Scripts::default(),
            keys: Guarded(RefCell::default()),
            exit: ExitFunctions {
                join_threads: Kept::new(bootstrap.attribute(c"join_threads")?),
                run_exit_callbacks: Kept::new(bootstrap.attribute(c"run_exit_callbacks")?),
            },
        })
    }

    /// The `str` of an environ key, made once for each name that comes often.
    pub(super) fn key<'py>(&self, py: Attached<'py>, name: &[u8]) -> Result<Object<'py>, Raised> {
        let mut keys = self.keys.borrow(py);
        if let Some(key) = keys.get(name) {
            return Ok(key.get(py));
        }
        let key = Object::latin1(py, name)?;
        if keys.len() < KEY_LIMIT {
            keys.insert(name.into(), Kept::new(key.clone()));
        }
        Ok(key)
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
        let ExitFunctions { join_threads, run_exit_callbacks } = self.exit;
        for kept in [join_threads, run_exit_callbacks] {
            drop(kept.release(py));
        }
        for kept in [self.request_class, self.input_class, self.errors_class, self.tls_class] {
            drop(kept.release(py));
        }
        for kept in [self.frames, self.base_environ] {
            drop(kept.release(py));
        }
        for (_, key) in self.keys.0.into_inner() {
            drop(key.release(py));
        }
        self.scripts.release(py);
    }
}

fn bootstrap_module(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    let source = concat!(include_str!("bootstrap.py"), "\0");
    let name = c"_mod_manifold".as_ptr();
    // SAFETY: attached; both are C strings; it returns a new reference or raises.
    let code = unsafe { Py_CompileString(source.as_ptr().cast(), name, Py_file_input) };
    // SAFETY: see above.
    let code = unsafe { Object::from_owned(py, code) }?;
    // SAFETY: attached; it returns a new reference or raises.
    unsafe { Object::from_owned(py, PyImport_ExecCodeModule(name, code.as_ptr())) }
}

pub(super) fn dict(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    // SAFETY: attached; it returns a new reference or raises.
    unsafe { Object::from_owned(py, PyDict_New()) }
}

fn list(py: Attached<'_>) -> Result<Object<'_>, Raised> {
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
