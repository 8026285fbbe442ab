//! The dictionary an application is called with (PEP 3333, "environ Variables").

use super::Residents;
use crate::Job;
use crate::interp::{Attached, Object, Raised};
use cpython_sys::PyDict_Copy;

/// A new dictionary for this job, and the request's id in it. Values are ISO-8859-1, one character for each byte; two are
/// file names, which come in the encoding that `open` expects.
pub(super) fn make<'py>(
    py: Attached<'py>,
    residents: &Residents,
    job: &Job,
    input: &Object<'py>,
    errors: &Object<'py>,
) -> Result<(Object<'py>, Object<'py>), Raised> {
    let base = residents.base_environ.get(py);
    // SAFETY: attached, and it is a dict; a new reference or an exception.
    let environ = unsafe { Object::from_owned(py, PyDict_Copy(base.as_ptr())) }?;
    let id = add_variables(py, residents, job, &environ)?;
    let set = |name: &[u8], value: &Object<'py>| environ.set_item(&residents.key(py, name)?, value);
    set(b"wsgi.url_scheme", &Object::text(py, if job.https { "https" } else { "http" })?)?;
    set(b"wsgi.input", input)?;
    set(b"wsgi.errors", errors)?;
    set(b"mod_wsgi.request_start", &Object::float(py, seconds(job.received))?)?;
    if let (sent @ 1.., taken) = job.handed_over {
        set(b"mod_wsgi.queue_start", &Object::float(py, seconds(sent))?)?;
        set(b"mod_wsgi.daemon_start", &Object::float(py, seconds(taken))?)?;
    }
    set(b"mod_wsgi.application_start", &Object::float(py, seconds_now())?)?;
    set(b"mod_wsgi.thread_id", &Object::integer(py, thread_number())?)?;
    let id = id.map_or_else(|| Object::text(py, ""), Ok)?;
    Ok((environ, id))
}

/// The time of day in seconds, as `time.time()`.
pub(super) fn seconds_now() -> f64 {
    seconds(now())
}

/// Adds the variables of a job, and returns its `mod_wsgi.request_id`.
pub(super) fn add_variables<'py>(
    py: Attached<'py>,
    residents: &Residents,
    job: &Job,
    environ: &Object<'py>,
) -> Result<Option<Object<'py>>, Raised> {
    let mut id = None;
    for (name, value) in job.variables.iter() {
        let value = match name {
            b"DOCUMENT_ROOT" | b"SCRIPT_FILENAME" => Object::path(py, value)?,
            _ => Object::latin1(py, value)?,
        };
        if name == b"mod_wsgi.request_id" {
            id = Some(value.clone());
        }
        environ.set_item(&residents.key(py, name)?, &value)?;
    }
    Ok(id)
}

/// Microseconds since 1970, as httpd counts.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "a double holds microseconds until the year 2255")]
fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

/// A small number, from 1, that no other thread of the process has.
fn thread_number() -> i64 {
    use std::sync::atomic::{AtomicI64, Ordering};
    static LAST: AtomicI64 = AtomicI64::new(0);
    thread_local!(static NUMBER: i64 = LAST.fetch_add(1, Ordering::Relaxed) + 1);
    NUMBER.with(|number| *number)
}
