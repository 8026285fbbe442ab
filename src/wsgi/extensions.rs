//! The gate in front of extension modules: in an interpreter that may not take them all, what loads
//! them asks first, and what an application has failed by is looked at for a refusal.

use crate::gate::{self, Candidate, Gate};
use crate::interp::class::{self, Methods};
use crate::interp::exception::Exception;
use crate::interp::{Attached, Object, Raised};
use crate::probe::Finding;
use crate::{Gil, isolation::Refused};
use cpython_sys::*;
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many exceptions of a chain are looked at: a chain is as long as an application makes it.
const CHAIN_LIMIT: usize = 64;

/// What an interpreter in front of which there is a gate cannot do, in CPython's words.
const NO_FORK: [&str; 2] = [
    "fork not supported for isolated subinterpreters",
    "preexec_fn not supported within subinterpreters",
];

thread_local! {
    /// The module, and its file, that was refused last since the thread began its request.
    static REFUSED: RefCell<Option<(String, PathBuf)>> = const { RefCell::new(None) };
}

/// Judges the modules of one interpreter.
#[derive(Clone)]
pub(super) struct Judge {
    gate: Arc<Gate>,
    gil: Gil,
    /// Where CPython has its own extension modules.
    standard: PathBuf,
}

static METHODS: Methods<1> = Methods::new([class::end()]);

static FUNCTION: Methods<1> = Methods::new([class::method(
    c"create_dynamic",
    create_dynamic,
    c"create_dynamic(spec, file=None): create an extension module.",
)]);

impl Judge {
    /// Puts a gate where all loaders of extension modules pass.
    pub(super) fn install(py: Attached<'_>, gate: &Arc<Gate>, gil: Gil) -> Result<Self, Raised> {
        let sys = Object::import(py, c"sys")?;
        // Of the Python that runs here, also in a virtual environment.
        let mut standard = path(&sys.attribute(c"base_exec_prefix")?)?;
        standard.push(path(&sys.attribute(c"platlibdir")?)?);
        standard.push(format!("python{VERSION_TEXT}"));
        standard.push("lib-dynload");
        let judge = Self { gate: Arc::clone(gate), gil, standard };
        let class = class::make::<Self>(py, c"mod_wsgi.Gate", METHODS.as_ptr(), &[])?;
        let asked = class::instance(&class, judge.clone())?;
        let loader = Object::import(py, c"_imp")?;
        // A function of C, so that no frame of ours is in the tracebacks of applications.
        let owner = Object::tuple(py, [asked, loader.attribute(c"create_dynamic")?])?;
        let function = class::function(&owner, FUNCTION.row(0))?;
        loader.set_attribute(c"create_dynamic", &function)?;
        Ok(judge)
    }

    /// Raises where the module of this spec may not be loaded here.
    fn ask<'py>(&self, spec: &Object<'py>) -> Result<(), Raised> {
        let py = spec.py();
        let (name, origin) = (spec.attribute(c"name")?, spec.attribute(c"origin")?);
        let is_text = |object: &Object<'py>| object.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS);
        if !is_text(&name) || !is_text(&origin) {
            return Ok(()); // CPython says what is wrong with them
        }
        let (name_text, path) = (name.to_text()?, path(&origin)?);
        let finding = match self.judge(py, self.gil, &name_text, &path) {
            finding if *finding == Finding::Loads => return Ok(()),
            finding => finding,
        };
        tracing::debug!("extension module '{name_text}' is refused: {finding}");
        REFUSED.replace(Some((name_text.clone(), path)));
        let message = Object::text(py, &gate::refusal(&name_text))?;
        // SAFETY: attached; three live objects; it raises.
        unsafe { PyErr_SetImportError(message.as_ptr(), name.as_ptr(), origin.as_ptr()) };
        Err(Raised)
    }

    fn judge(&self, py: Attached<'_>, gil: Gil, name: &str, path: &Path) -> Arc<Finding> {
        let candidate = Candidate { gil, name, path };
        if let Some(known) = py.detached(|| self.gate.known(&candidate, &self.standard)) {
            return known;
        }
        let search = search(py).unwrap_or_else(|raised| {
            drop(Exception::take(py, raised));
            Vec::new()
        });
        py.detached(|| self.gate.find_out(&candidate, search))
    }

    /// What of this interpreter's limits an exception tells, if it tells of any.
    pub(super) fn refused<'py>(&self, exception: &Exception<'py>) -> Option<Refused> {
        let py = exception.object().py();
        let mut seen = Vec::new();
        let mut next = vec![exception.object().clone()];
        while let Some(exception) = next.pop() {
            if seen.contains(&exception.as_ptr()) || seen.len() == CHAIN_LIMIT {
                continue;
            }
            seen.push(exception.as_ptr());
            // What is raised "from None" has a context all the same.
            for link in [c"__context__", c"__cause__"] {
                match exception.attribute_if_any(link) {
                    Ok(Some(link)) if !link.is_none() => next.push(link),
                    Ok(_) => {}
                    Err(raised) => drop(Exception::take(py, raised)),
                }
            }
            match self.refused_by(&exception) {
                Ok(Some(refused)) => return Some(refused),
                Ok(None) => {}
                Err(raised) => drop(Exception::take(py, raised)),
            }
        }
        None
    }

    fn refused_by(&self, exception: &Object<'_>) -> Result<Option<Refused>, Raised> {
        // SAFETY: exception types live as long as the interpreter.
        let (import_error, runtime_error) = unsafe { (PyExc_ImportError, PyExc_RuntimeError) };
        let is = |class| {
            // SAFETY: attached, and both are live objects.
            unsafe { PyErr_GivenExceptionMatches(exception.as_ptr(), class) != 0 }
        };
        if is(runtime_error) {
            let text = text_of(exception)?;
            return Ok(NO_FORK.contains(&text.as_str()).then_some(Refused::Fork));
        }
        if !is(import_error) {
            return Ok(None);
        }
        let text = text_of(exception)?;
        let Some(module) = gate::refused_module(&text) else { return Ok(None) };
        let origin = exception.attribute(c"path")?;
        let py = exception.py();
        // CPython's own refusal has no path; whatever it is about is judged with caution.
        if origin.is_none() {
            let (module, why) = (module.to_owned(), text.clone());
            return Ok(Some(Refused::Extension { module, why, shared_works: false }));
        }
        Ok(Some(self.describe(py, module, &path(&origin)?)))
    }

    fn describe(&self, py: Attached<'_>, module: &str, path: &Path) -> Refused {
        let why = self.judge(py, self.gil, module, path).to_string();
        let shared_works =
            self.gil == Gil::Own && *self.judge(py, Gil::Shared, module, path) == Finding::Loads;
        Refused::Extension { module: module.to_owned(), why, shared_works }
    }

    /// What was refused on this thread since [`begin`], whoever has caught it.
    pub(super) fn refused_lately(&self, py: Attached<'_>) -> Option<Refused> {
        let (module, path) = REFUSED.take()?;
        Some(self.describe(py, &module, &path))
    }
}

/// A request begins on this thread.
pub(super) fn begin() {
    REFUSED.take();
}

fn text_of(exception: &Object<'_>) -> Result<String, Raised> {
    // SAFETY: attached, and it is a live object; a new reference or an exception.
    unsafe { Object::from_owned(exception.py(), PyObject_Str(exception.as_ptr())) }?.to_text()
}

/// A path as the file system has it.
fn path(text: &Object<'_>) -> Result<PathBuf, Raised> {
    // SAFETY: attached; a new reference or an exception.
    let bytes = unsafe { Object::from_owned(text.py(), PyUnicode_EncodeFSDefault(text.as_ptr())) }?;
    Ok(PathBuf::from(OsString::from_vec(bytes.as_bytes().unwrap_or_default().to_vec())))
}

/// `sys.path`, as bytes.
fn search(py: Attached<'_>) -> Result<Vec<Vec<u8>>, Raised> {
    let list = Object::import(py, c"sys")?.attribute(c"path")?;
    // SAFETY: attached, and it is a live object; -1 is an exception.
    let length = unsafe { PySequence_Size(list.as_ptr()) };
    let mut search = Vec::new();
    for index in 0..length {
        let entry = list.item(index)?;
        if entry.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS) {
            search.push(path(&entry)?.into_os_string().into_vec());
        }
    }
    if length < 0 { Err(Raised) } else { Ok(search) }
}

/// `_imp.create_dynamic` with a gate in front of it; `this` is a tuple of a [`Judge`] and of what
/// CPython has there.
unsafe extern "C" fn create_dynamic(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    callback(|| {
        // SAFETY: CPython calls functions on attached threads.
        let py = unsafe { Attached::assume() };
        let item = |index| {
            // SAFETY: the function was made with a tuple of two.
            let item = unsafe { PyTuple_GetItem(this, index) };
            // SAFETY: the tuple keeps it.
            unsafe { Object::from_borrowed(py, item) }
        };
        let (asked, loader) = (item(0), item(1));
        if count > 0 {
            // SAFETY: CPython passes `count` live objects.
            let spec = unsafe { Object::from_borrowed(py, *arguments) };
            // SAFETY: it is an instance of the class made for Judge.
            let judge = unsafe { class::data::<Judge>(asked.as_ptr()) };
            if judge.ask(&spec).is_err() {
                return std::ptr::null_mut();
            }
        }
        let count = count.unsigned_abs();
        // SAFETY: attached; CPython passes `count` live objects; a new reference or an exception.
        unsafe {
            PyObject_Vectorcall(
                loader.as_ptr(),
                arguments.cast_const(),
                count,
                std::ptr::null_mut(),
            )
        }
    })
}
