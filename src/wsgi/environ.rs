//! The dictionary an application is called with (PEP 3333, "environ Variables").

use super::Residents;
use super::residents::{Guarded, dict};
use super::shapes::Shapes;
use crate::Job;
use crate::interp::{Attached, Kept, Object, Raised};
use std::cell::RefCell;
use std::ffi::CStr;

/// What environs are made of, in one interpreter.
pub(super) struct Environs {
    /// Of requests.
    requests: Guarded<Shapes>,
    /// Of hooks.
    hooks: Guarded<Shapes>,
    /// The names of what is made for each request, as [`Given`] counts them.
    given: [Kept; GIVEN.len()],
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

/// Places in [`GIVEN`].
#[derive(Clone, Copy)]
enum Given {
    UrlScheme,
    Input,
    Errors,
    RequestStart,
    QueueStart,
    DaemonStart,
    ApplicationStart,
    ThreadId,
}

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
        let (none, zero) = (Object::none(py), Object::float(py, 0.0)?);
        for name in GIVEN {
            let unless_given = match name.to_bytes() {
                b"mod_wsgi.queue_start" | b"mod_wsgi.daemon_start" => &zero,
                _ => &none,
            };
            base.set_item_named(name, unless_given)?;
        }
        let text = |text: &CStr| Object::latin1(py, text.to_bytes()).map(Kept::new);
        let [a, b, c, d, e, f, g, h] = GIVEN.map(text);
        Ok(Self {
            requests: Guarded(RefCell::new(Shapes::new(base))),
            hooks: Guarded(RefCell::new(Shapes::new(of_hooks))),
            given: [a?, b?, c?, d?, e?, f?, g?, h?],
            http: text(c"http")?,
            https: text(c"https")?,
        })
    }

    pub(super) fn release(self, py: Attached<'_>) {
        for shapes in [self.requests, self.hooks] {
            shapes.0.into_inner().release(py);
        }
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
    let (environ, id) = environs.requests.borrow(py).environ(py, &job.variables)?;
    let set = |given: Given, value: &Object<'py>| {
        environ.set_item(&environs.given[given as usize].get(py), value)
    };
    let scheme = if job.https { &environs.https } else { &environs.http };
    set(Given::UrlScheme, &scheme.get(py))?;
    set(Given::Input, input)?;
    set(Given::Errors, errors)?;
    set(Given::RequestStart, &Object::float(py, seconds(job.received))?)?;
    if let (sent @ 1.., taken) = job.handed_over {
        set(Given::QueueStart, &Object::float(py, seconds(sent))?)?;
        set(Given::DaemonStart, &Object::float(py, seconds(taken))?)?;
    }
    set(Given::ApplicationStart, &Object::float(py, seconds_now())?)?;
    set(Given::ThreadId, &Object::integer(py, thread_number())?)?;
    let id = id.map_or_else(|| Object::text(py, ""), Ok)?;
    Ok((environ, id))
}

/// A new dictionary for the functions of a hook script.
pub(super) fn of_hook<'py>(
    py: Attached<'py>,
    residents: &Residents,
    job: &Job,
) -> Result<Object<'py>, Raised> {
    let (environ, _) = residents.environs.hooks.borrow(py).environ(py, &job.variables)?;
    Ok(environ)
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
