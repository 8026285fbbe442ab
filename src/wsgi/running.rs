//! The requests that an interpreter's applications answer right now, and what the built-in module
//! `mod_wsgi` asks about them and of the log.

use super::errors;
use super::residents::{Guarded, dict};
use crate::interp::class::{self, Methods};
use crate::interp::object::{runtime_error, type_error};
use crate::interp::{Attached, Kept, Object, Raised};
use crate::status::Snapshot;
use crate::{Level, LogEntry, Settings, Source, Verbosity};
use cpython_sys::*;
use slab::Slab;
use std::cell::Cell;
use std::sync::Arc;

/// The requests of one interpreter.
#[derive(Default)]
pub(super) struct Running(Guarded<Slab<Entry>>);

struct Entry {
    /// `mod_wsgi.request_id`.
    id: Kept,
    /// What `mod_wsgi.request_data()` has returned, once it was called.
    data: Option<Kept>,
}

thread_local! {
    /// Where the request that this thread serves is in its interpreter's table.
    static KEY: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A request's place in the table. It gives the place up, and lets the request's data go.
pub(super) struct Place<'py, 'a> {
    py: Attached<'py>,
    running: &'a Running,
    key: usize,
}

impl Running {
    /// Notes the request that this thread serves from now on.
    pub(super) fn enter<'py>(&self, id: Object<'py>) -> Place<'py, '_> {
        let py = id.py();
        let key = self.0.borrow(py).insert(Entry { id: Kept::new(id), data: None });
        KEY.set(Some(key));
        Place { py, running: self, key }
    }

    /// The data of the request under `key`, made when it is asked for first.
    fn data<'py>(&self, py: Attached<'py>, key: usize) -> Result<Object<'py>, Raised> {
        if let Some(data) = self.0.borrow(py).get(key).and_then(|entry| entry.data.as_ref()) {
            return Ok(data.get(py));
        }
        let made = dict(py)?;
        if let Some(entry) = self.0.borrow(py).get_mut(key) {
            entry.data = Some(Kept::new(made.clone()));
        }
        Ok(made)
    }

    /// All of them: a new dict of their data by their ids.
    fn all<'py>(&self, py: Attached<'py>) -> Result<Object<'py>, Raised> {
        let all = dict(py)?;
        let keys: Vec<_> =
            self.0.borrow(py).iter().map(|(key, entry)| (key, entry.id.get(py))).collect();
        for (key, id) in keys {
            all.set_item(&id, &self.data(py, key)?)?;
        }
        Ok(all)
    }

    pub(super) fn release(&self, py: Attached<'_>) {
        let entries: Vec<_> = self.0.borrow(py).drain().collect();
        entries.into_iter().for_each(|entry| entry.release(py));
    }
}

impl Entry {
    fn release(self, py: Attached<'_>) {
        drop(self.id.release(py));
        if let Some(data) = self.data {
            drop(data.release(py));
        }
    }
}

impl<'py> Place<'py, '_> {
    /// `mod_wsgi.request_data()` of this request.
    pub(super) fn data(&self) -> Result<Object<'py>, Raised> {
        self.running.data(self.py, self.key)
    }
}

impl Drop for Place<'_, '_> {
    fn drop(&mut self) {
        KEY.set(None);
        let entry = self.running.0.borrow(self.py).try_remove(self.key);
        // After the table was let go: what the data's end runs may look into it.
        if let Some(entry) = entry {
            entry.release(self.py);
        }
    }
}

/// What the Python modules of `src/wsgi` ask of Rust.
struct Host {
    running: Arc<Running>,
    verbosity: Verbosity,
    /// Whether applications may ask for the counters of the whole server.
    server_metrics: bool,
}

/// The object they ask.
pub(super) fn host<'py>(
    py: Attached<'py>,
    running: &Arc<Running>,
    settings: &Settings,
) -> Result<Object<'py>, Raised> {
    let class = class::make::<Host>(py, c"mod_wsgi.Host", METHODS.as_ptr(), &[])?;
    let Settings { verbosity, server_metrics, .. } = *settings;
    class::instance(&class, Host { running: Arc::clone(running), verbosity, server_metrics })
}

static METHODS: Methods<6> = Methods::new([
    class::method(
        c"request_data",
        request_data,
        c"request_data(): a dict for the request that this thread serves, and gone with it.",
    ),
    class::method(c"active_requests", active_requests, c"A new dict: data by id of the request."),
    class::method(c"verbosity", verbosity, c"The last level that this thread's log has."),
    class::method(
        c"server_metrics",
        server_metrics,
        c"What the counters of the server say, as JSON; None where this process may not ask.",
    ),
    class::method(c"log", log, c"log(level, text, file, line): add to the error log."),
    class::end(),
]);

unsafe extern "C" fn request_data(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, host: &Host, arguments| match (arguments, KEY.get()) {
        ([], Some(key)) => host.running.data(py, key),
        ([], None) => Err(runtime_error(py, "this thread serves no request")),
        _ => Err(type_error(py, "request_data() takes no arguments")),
    })
}

unsafe extern "C" fn active_requests(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, host: &Host, _| host.running.all(py))
}

unsafe extern "C" fn verbosity(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, host: &Host, _| {
        let verbosity = errors::served_verbosity().unwrap_or(host.verbosity);
        Object::integer(py, verbosity.0.into())
    })
}

unsafe extern "C" fn server_metrics(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, host: &Host, _| match host.server_metrics {
        true => Object::text(py, &py.detached(|| Snapshot::take().json())),
        false => Ok(Object::none(py)),
    })
}

unsafe extern "C" fn log(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Host, arguments| {
        let [level, text, file, line] = arguments else {
            return Err(type_error(py, "log() takes a level, a text, a file and a line"));
        };
        let level = match level.to_integer()? {
            ..=2 => Level::Critical,
            3 => Level::Error,
            4 => Level::Warning,
            5 | 6 => Level::Info,
            7.. => Level::Debug,
        };
        let source = match file.is_none() {
            true => None,
            false => Some(Source {
                file: file.to_text()?,
                line: u32::try_from(line.to_integer()?).unwrap_or(0),
            }),
        };
        let entry = LogEntry { level, text: text.to_text()?, source };
        errors::log_entry(py, errors::served(), entry);
        Ok(Object::none(py))
    })
}
