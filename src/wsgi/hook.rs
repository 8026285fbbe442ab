//! Calling functions of a hook script: what decides about access, users, groups and where a
//! request is served.

use super::{Residents, environ, errors, script};
use crate::exchange::{ApplicationEnd, Link};
use crate::interp::class::{self, Methods};
use crate::interp::exception::Exception;
use crate::interp::object::{runtime_error, type_error};
use crate::interp::{Attached, Object, Raised};
use crate::{Call, Code, Job, Refusal, Value};
use cpython_sys::*;
use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::Arc;

/// Calls the functions of a job's script one after the other, with one environ. The first that
/// fails is the last.
pub(super) fn call(
    py: Attached<'_>,
    residents: &Residents,
    end: &ApplicationEnd,
    calls: &[Call],
) -> Result<Vec<Value>, script::Failure> {
    let (script, group) = (end.job().script(), &residents.group);
    let module = residents.scripts.module(py, script, end.job(), group)?;
    let hook = Hook {
        py,
        residents,
        place: format!("script '{}' in application group '{group}'", script.path().display()),
        module,
    };
    let surroundings = Surroundings::new(py, residents, end)
        .map_err(|raised| hook.failure(raised, c"the environ of a hook", false))?;
    let values = calls.iter().map(|call| hook.one(call, &surroundings.environ)).collect();
    surroundings.finish();
    values
}

/// A hook script that is loaded.
struct Hook<'py, 'a> {
    py: Attached<'py>,
    residents: &'a Residents,
    /// Which, for the log.
    place: String,
    module: Object<'py>,
}

impl<'py> Hook<'py, '_> {
    fn one(&self, call: &Call, environ: &Object<'py>) -> Result<Value, script::Failure> {
        let failed = |raised| self.failure(raised, call.function, call.confidential);
        let Some(function) = self.module.attribute_if_any(call.function).map_err(failed)? else {
            if call.optional {
                return Ok(Value::None);
            }
            let name = call.function.to_string_lossy();
            let detail = format!("{} defines no '{name}'; it has to be a function", self.place);
            return Err(script::Failure::new(Code::HookMissing, detail));
        };
        let returned = || {
            let mut arguments = vec![environ.clone()];
            for argument in &call.arguments {
                arguments.push(Object::latin1(self.py, argument)?);
            }
            let returned = function.call_with(&arguments)?;
            if call.names { names(&returned) } else { value(&returned) }
        };
        returned().map_err(failed)
    }

    /// What is logged of an exception.
    fn failure(&self, raised: Raised, what: &CStr, confidential: bool) -> script::Failure {
        let exception = Exception::take(self.py, raised);
        let note =
            if exception.is_system_exit() { " (SystemExit ends no process here)" } else { "" };
        let detail = format!(
            "{}{note} raised by {} of {}",
            exception.class(),
            what.to_string_lossy(),
            self.place
        );
        let traceback = if confidential {
            exception.formatted(Ok(self.residents.frames.get(self.py)))
        } else {
            exception.traceback()
        };
        script::Failure {
            refusal: Refusal::new(Code::HookRaised, detail),
            traceback,
            refused: self.residents.scripts.refused(&exception),
        }
    }
}

/// What a function returned, where it is one thing.
fn value(returned: &Object<'_>) -> Result<Value, Raised> {
    if returned.is_none() {
        return Ok(Value::None);
    }
    if returned.is_exactly(&raw mut PyBool_Type) {
        return Ok(Value::Bool(returned.is_true()?));
    }
    if let Some(bytes) = returned.as_bytes() {
        return Ok(Value::Bytes(bytes.to_vec()));
    }
    if returned.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS) {
        return Ok(returned.to_latin1().map(|text| Value::Text(text.into_owned())).unwrap_or_else(
            |raised| {
                drop(Exception::take(returned.py(), raised));
                Value::Other("str with characters beyond ISO-8859-1".to_owned())
            },
        ));
    }
    Ok(Value::Other(returned.type_name()))
}

/// The names of an iterable. A `str` or `bytes` is a name and no list of names: its characters are
/// not what was meant.
fn names(returned: &Object<'_>) -> Result<Value, Raised> {
    let py = returned.py();
    match value(returned)? {
        Value::Other(_) => {}
        single => return Ok(single),
    }
    // SAFETY: attached, and it is a live object; a new reference or an exception.
    let iterator = unsafe { Object::from_owned(py, PyObject_GetIter(returned.as_ptr())) }?;
    let mut names = Vec::new();
    loop {
        // SAFETY: attached, and it is an iterator; null means its end, or an exception.
        let name = unsafe { PyIter_Next(iterator.as_ptr()) };
        // SAFETY: see above.
        let Ok(name) = (unsafe { Object::from_owned(py, name) }) else {
            // SAFETY: attached.
            let ended = unsafe { PyErr_Occurred() }.is_null();
            return if ended { Ok(Value::Names(names)) } else { Err(Raised) };
        };
        match value(&name)? {
            Value::Text(name) | Value::Bytes(name) => names.push(name),
            other => {
                let what = other.describe();
                return Ok(Value::Other(format!("{} with {what} in it", returned.type_name())));
            }
        }
    }
}

/// What the functions of one job are called with.
struct Surroundings<'py> {
    environ: Object<'py>,
    errors: Object<'py>,
    tls: Object<'py>,
}

impl<'py> Surroundings<'py> {
    fn new(py: Attached<'py>, residents: &Residents, end: &ApplicationEnd) -> Result<Self, Raised> {
        let job: &Job = end.job();
        let errors = errors::stream(&residents.errors_class.get(py), Some(end.link()))?;
        let tls = Tls { link: RefCell::new(Some(Arc::clone(end.link()))), https: job.https };
        let tls = class::instance(&residents.tls_class.get(py), tls)?;
        let environ = environ::of_hook(py, residents, job)?;
        environ.set_item_named(c"wsgi.errors", &errors)?;
        for (index, name) in [c"mod_ssl.is_https", c"mod_ssl.var_lookup"].into_iter().enumerate() {
            environ.set_item_named(name, &class::function(&tls, FUNCTIONS.row(index))?)?;
        }
        Ok(Self { environ, errors, tls })
    }

    /// From now on, using what belongs to the request raises.
    fn finish(&self) {
        errors::finish(&self.errors);
        // SAFETY: `new` above made it.
        let tls: &Tls = unsafe { class::data(self.tls.as_ptr()) };
        tls.link.borrow_mut().take();
    }
}

/// What is known of the connection's encryption; `self` of the functions below.
struct Tls {
    /// Gone once the request has ended.
    link: RefCell<Option<Arc<Link>>>,
    https: bool,
}

/// Makes the type.
pub(super) fn class(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    class::make::<Tls>(py, c"mod_wsgi.Tls", NO_METHODS.as_ptr(), &[])
}

static NO_METHODS: Methods<1> = Methods::new([class::end()]);

static FUNCTIONS: Methods<2> = Methods::new([
    class::method(c"is_https", is_https, c"is_https(): whether the connection is encrypted."),
    class::method(
        c"var_lookup",
        var_lookup,
        c"var_lookup(name): the value of a variable of mod_ssl, or None.",
    ),
]);

unsafe extern "C" fn is_https(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, tls: &Tls, arguments| match arguments {
        [] => Ok(Object::boolean(py, tls.https)),
        _ => Err(type_error(py, "is_https() takes no arguments")),
    })
}

unsafe extern "C" fn var_lookup(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, tls: &Tls, arguments| {
        let [name] = arguments else {
            return Err(type_error(py, "var_lookup() takes one argument"));
        };
        if !name.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS) {
            let message = format!("a variable's name must be str, not {}", name.type_name());
            return Err(type_error(py, &message));
        }
        let name = name.to_latin1()?.into_owned();
        let over = || runtime_error(py, "var_lookup() was called after its request had ended");
        let Some(link) = tls.link.borrow().clone() else {
            return Err(over());
        };
        match py.detached(move || link.ask_variable(name)) {
            Ok(Some(value)) => Object::latin1(py, &value),
            Ok(None) => Ok(Object::none(py)),
            Err(_) => Err(over()),
        }
    })
}
