//! The dictionary an application is called with (PEP 3333, "environ Variables").

use super::Residents;
use super::residents::dict;
use super::shapes::Shapes;
use crate::Job;
use crate::interp::{Attached, Kept, Object, Raised};
use std::ffi::CStr;

/// What environs are made of, in one interpreter.
pub(super) struct Environs {
    /// Of requests.
    requests: Shapes,
    /// Of hooks.
    hooks: Shapes,
    /// The names of [`GIVEN`].
    given: Vec<Kept>,
    http: Kept,
    https: Kept,
}

/// What is made for each request.
const GIVEN: [&CStr; 8] = [
    c"wsgi.url_scheme",
    c"wsgi.input",
    c"wsgi.errors",
    c"mod_wsgi.request_start",
    c"mod_wsgi.queue_start",
    c"mod_wsgi.daemon_start",
    c"mod_wsgi.application_start",
    c"mod_wsgi.thread_id",
];

/// What every environ of a hook takes from those of requests.
const OF_HOOKS: [&CStr; 4] = [
    c"apache.version",
    c"mod_wsgi.version",
    c"mod_wsgi.process_group",
    c"mod_wsgi.application_group",
];

impl Environs {
    /// Where `base` is what all environs of requests have in common.
    pub(super) fn new<'py>(py: Attached<'py>, base: Object<'py>) -> Result<Self, Raised> {
        let of_hooks = dict(py)?;
        for name in OF_HOOKS {
            if let Some(value) = base.item_named(name) {
                of_hooks.set_item_named(name, &value)?;
            }
        }
        // So that a copy has their places.
        for name in GIVEN {
            base.set_item_named(name, &Object::none(py))?;
        }
        let text = |text: &CStr| Object::latin1(py, text.to_bytes()).map(Kept::new);
        Ok(Self {
            requests: Shapes::new(base),
            hooks: Shapes::new(of_hooks),
            given: GIVEN.into_iter().map(text).collect::<Result<_, _>>()?,
            http: text(c"http")?,
            https: text(c"https")?,
        })
    }

    pub(super) fn release(self, py: Attached<'_>) {
        self.requests.release(py);
        self.hooks.release(py);
        for kept in self.given.into_iter().chain([self.http, self.https]) {
            drop(kept.release(py));
        }
    }
}

/// A new dictionary for this job, and the request's id in it.
pub(super) fn make<'py>(
    py: Attached<'py>,
    residents: &Residents,
    job: &Job,
    input: &Object<'py>,
    errors: &Object<'py>,
) -> Result<(Object<'py>, Object<'py>), Raised> {
    let environs = &residents.environs;
    let environ = environs.requests.environ(py, &job.variables)?;
    let (sent, taken) = job.handed_over;
    // In the order of their names.
    let given: [Object<'py>; GIVEN.len()] = [
        if job.https { &environs.https } else { &environs.http }.get(py),
        input.clone(),
        errors.clone(),
        Object::float(py, seconds(job.received))?,
        Object::float(py, seconds(sent))?,
        Object::float(py, seconds(taken))?,
        Object::float(py, seconds_now())?,
        Object::integer(py, thread_number())?,
    ];
    for (name, value) in environs.given.iter().zip(&given) {
        environ.set_item(&name.get(py), value)?;
    }
    let id = environ.item_named(c"mod_wsgi.request_id");
    let id = id.map_or_else(|| Object::text(py, ""), Ok)?;
    Ok((environ, id))
}

/// A new dictionary for the functions of a hook script.
pub(super) fn of_hook<'py>(
    py: Attached<'py>,
    residents: &Residents,
    job: &Job,
) -> Result<Object<'py>, Raised> {
    residents.environs.hooks.environ(py, &job.variables)
}

/// The time of day in seconds, as `time.time()`.
pub(super) fn seconds_now() -> f64 {
    seconds(now())
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
