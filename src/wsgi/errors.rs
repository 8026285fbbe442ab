//! `wsgi.errors`, `sys.stderr` and `sys.stdout`: text streams whose lines become entries of the
//! error log.

use crate::exchange::{ApplicationEnd, Link};
use crate::interp::class::{self, Methods};
use crate::interp::object::{runtime_error, type_error};
use crate::interp::{Attached, Kept, Object, Raised};
use crate::{Level, LogEntry, Verbosity};
use cpython_sys::*;
use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::sync::Arc;

/// How much of a line without an end is held back.
const LINE_LIMIT: usize = 64 * 1024;

/// What a stream object holds.
enum Stream {
    /// `wsgi.errors` of one request; the link is gone once the request has ended.
    Request { link: RefCell<Option<Arc<Link>>>, partial: RefCell<String> },
    /// The interpreter's own: lines belong to the request that the writing thread serves, if any.
    Interpreter,
    /// The `buffer` of a stream, which takes bytes.
    Buffer(Kept),
}

thread_local! {
    /// The request this thread serves.
    static SERVED: RefCell<Option<(Arc<Link>, Verbosity)>> = const { RefCell::new(None) };
    /// The beginning of a line that this thread wrote to an interpreter's stream.
    static PARTIAL: Partial = const { Partial(RefCell::new(String::new())) };
}

/// The beginning of a line. What a thread leaves of one when it ends is logged all the same.
struct Partial(RefCell<String>);

impl Drop for Partial {
    fn drop(&mut self) {
        let rest = self.0.take();
        if !rest.is_empty() {
            LogEntry::new(Level::Error, rest).write_alone();
        }
    }
}

/// While this lives, what the thread writes to `sys.stderr` and `sys.stdout` belongs to a request.
pub(super) struct Served<'py>(Attached<'py>);

impl<'py> Served<'py> {
    pub(super) fn begin(py: Attached<'py>, end: &ApplicationEnd) -> Self {
        let serves = (Arc::clone(end.link()), end.job().verbosity);
        SERVED.with(|served| *served.borrow_mut() = Some(serves));
        Self(py)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        flush_thread(self.0);
        SERVED.with(|served| served.borrow_mut().take());
    }
}

/// Makes the type.
pub(super) fn class(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    let more = [PyType_Slot { slot: Py_tp_getset, pfunc: ATTRIBUTES.as_ptr() }];
    class::make::<Stream>(py, c"mod_wsgi.ErrorLog", METHODS.as_ptr(), &more)
}

/// A stream for a request, or for the interpreter where none is given.
pub(super) fn stream<'py>(
    class: &Object<'py>,
    link: Option<&Arc<Link>>,
) -> Result<Object<'py>, Raised> {
    class::instance(
        class,
        match link {
            None => Stream::Interpreter,
            Some(link) => Stream::Request {
                link: RefCell::new(Some(Arc::clone(link))),
                partial: RefCell::default(),
            },
        },
    )
}

/// A function that logs its text at level info, for our own Python modules. `stream` is the
/// interpreter's own.
pub(super) fn info_function<'py>(stream: &Object<'py>) -> Result<Object<'py>, Raised> {
    class::function(stream, FUNCTIONS.row(0))
}

/// The request has ended: what is left of a line is logged, and further use raises.
pub(super) fn finish(stream: &Object<'_>) {
    // SAFETY: callers pass what `stream` above made.
    let stream_data: &Stream = unsafe { class::data(stream.as_ptr()) };
    stream_data.flush(stream.py());
    if let Stream::Request { link, .. } = stream_data {
        link.borrow_mut().take();
    }
}

/// Hands lines to the error log: with the request they are about, or by themselves.
pub(super) fn log(py: Attached<'_>, link: Option<Arc<Link>>, level: Level, text: String) {
    log_entry(py, link, LogEntry::new(level, text));
}

/// The same for an entry that is made already.
pub(super) fn log_entry(py: Attached<'_>, link: Option<Arc<Link>>, entry: LogEntry) {
    let Some(link) = link else { return entry.write_alone() };
    if let Err(entry) = link.log(entry) {
        py.detached(move || link.log_waiting(entry));
    }
}

impl Stream {
    /// Whether it may still be used.
    fn check(&self, py: Attached<'_>) -> Result<(), Raised> {
        match self {
            Self::Request { link, .. } if link.borrow().is_none() => {
                Err(runtime_error(py, "wsgi.errors was used after its request had ended"))
            }
            _ => Ok(()),
        }
    }

    /// Takes text, and logs the lines that are complete.
    fn write(&self, py: Attached<'_>, text: &str) {
        match self {
            Self::Request { link, partial } => {
                let lines = take_lines(&mut partial.borrow_mut(), text);
                let link = link.borrow().clone();
                if let Some(lines) = lines {
                    log(py, link, Level::Error, lines);
                }
            }
            Self::Interpreter => {
                let lines = PARTIAL.with(|partial| take_lines(&mut partial.0.borrow_mut(), text));
                if let Some(lines) = lines {
                    log(py, served(), Level::Error, lines);
                }
            }
            Self::Buffer(_) => unreachable!("a buffer writes to its stream"),
        }
    }

    fn flush(&self, py: Attached<'_>) {
        match self {
            Self::Request { link, partial } => {
                let rest = std::mem::take(&mut *partial.borrow_mut());
                let link = link.borrow().clone();
                if !rest.is_empty() {
                    log(py, link, Level::Error, rest);
                }
            }
            Self::Interpreter => flush_thread(py),
            Self::Buffer(_) => {}
        }
    }
}

/// Logs what this thread has written of a line to an interpreter's stream.
pub(super) fn flush_thread(py: Attached<'_>) {
    let rest = PARTIAL.with(|partial| partial.0.take());
    if !rest.is_empty() {
        log(py, served(), Level::Error, rest);
    }
}

/// The request that this thread serves.
pub(super) fn served() -> Option<Arc<Link>> {
    SERVED.with(|served| served.borrow().as_ref().map(|(link, _)| Arc::clone(link)))
}

/// Which log lines the server writes about that request.
pub(super) fn served_verbosity() -> Option<Verbosity> {
    SERVED.with(|served| served.borrow().as_ref().map(|(_, verbosity)| *verbosity))
}

/// Adds text to what is held back, and returns the lines that are complete.
fn take_lines(partial: &mut String, text: &str) -> Option<String> {
    partial.push_str(text);
    let end = match partial.rfind('\n') {
        Some(end) => end + 1,
        None if partial.len() > LINE_LIMIT => partial.len(),
        None => return None,
    };
    let rest = partial.split_off(end);
    Some(std::mem::replace(partial, rest))
}

static METHODS: Methods<19> = Methods::new([
    class::method(c"write", write, c"write(text): add text to the error log, line by line."),
    class::method(c"writelines", writelines, c"writelines(lines): write each."),
    class::method(c"flush", flush, c"flush(): log what has been written of a line."),
    class::method(c"close", flush, c"close(): flush; the log stays open."),
    class::method(c"fileno", fileno, c"fileno(): raises OSError, there is no descriptor."),
    class::method(c"isatty", no, c"isatty(): False."),
    class::method(c"readable", no, c"readable(): False."),
    class::method(c"seekable", no, c"seekable(): False."),
    class::method(c"writable", yes, c"writable(): True."),
    class::method_with_keywords(
        c"reconfigure",
        reconfigure,
        c"reconfigure(**options): nothing; the log is UTF-8, written line by line.",
    ),
    class::method(c"read", unsupported, c"read(): raises io.UnsupportedOperation."),
    class::method(c"readline", unsupported, c"readline(): raises io.UnsupportedOperation."),
    class::method(c"seek", unsupported, c"seek(): raises io.UnsupportedOperation."),
    class::method(c"tell", unsupported, c"tell(): raises io.UnsupportedOperation."),
    class::method(c"truncate", unsupported, c"truncate(): raises io.UnsupportedOperation."),
    class::method(c"detach", unsupported, c"detach(): raises io.UnsupportedOperation."),
    class::method(c"__enter__", enter, c"The stream itself."),
    class::method(c"__exit__", leave, c"Flushes."),
    class::end(),
]);

static FUNCTIONS: Methods<2> = Methods::new([
    class::method(c"info", info, c"info(text): log the lines of a text at level info."),
    class::end(),
]);

unsafe extern "C" fn info(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, arguments| {
        let [text] = arguments else {
            return Err(type_error(py, "info() takes one argument"));
        };
        log(py, served(), Level::Info, text.to_text()?);
        Ok(Object::none(py))
    })
}

unsafe extern "C" fn write(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: CPython calls the methods of this type with its instances, attached.
    class::call(this, arguments, count, |py, stream: &Stream, arguments| {
        let [text] = arguments else {
            return Err(type_error(py, "write() takes one argument"));
        };
        write_object(py, stream, text)?;
        let length = if let Stream::Buffer(_) = stream {
            // What a memoryview calls its length may be a number of greater items.
            bytes_of(py, text)?.as_bytes().map_or(0, <[u8]>::len)
        } else {
            // SAFETY: attached, and write_object saw that it is a str.
            unsafe { PyUnicode_GetLength(text.as_ptr()) }.unsigned_abs()
        };
        Object::integer(py, i64::try_from(length).unwrap_or(i64::MAX))
    })
}

/// The bytes of a bytes-like object.
fn bytes_of<'py>(py: Attached<'py>, data: &Object<'py>) -> Result<Object<'py>, Raised> {
    // SAFETY: attached, and it is a live object.
    if unsafe { PyObject_CheckBuffer(data.as_ptr()) } == 0 {
        let message = format!("a bytes-like object is required, not '{}'", data.type_name());
        return Err(type_error(py, &message));
    }
    // SAFETY: attached; a new reference or an exception.
    unsafe { Object::from_owned(py, PyBytes_FromObject(data.as_ptr())) }
}

fn write_object<'py>(py: Attached<'py>, stream: &Stream, text: &Object<'py>) -> Result<(), Raised> {
    if let Stream::Buffer(owner) = stream {
        let owner = owner.get(py);
        let bytes = bytes_of(py, text)?;
        let bytes = bytes.as_bytes().unwrap_or_default();
        // SAFETY: a buffer keeps the stream it belongs to, which is of this type.
        let owner: &Stream = unsafe { class::data(owner.as_ptr()) };
        owner.check(py)?;
        owner.write(py, &String::from_utf8_lossy(bytes));
        return Ok(());
    }
    stream.check(py)?;
    if !text.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS) {
        return Err(type_error(
            py,
            &format!("write() argument must be str, not {}", text.type_name()),
        ));
    }
    stream.write(py, &text.to_text()?);
    Ok(())
}

unsafe extern "C" fn writelines(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, stream: &Stream, arguments| {
        let [lines] = arguments else {
            return Err(type_error(py, "writelines() takes one argument"));
        };
        // SAFETY: attached; a new reference or an exception.
        let iterator = unsafe { Object::from_owned(py, PyObject_GetIter(lines.as_ptr())) }?;
        loop {
            // SAFETY: attached, and it is an iterator; null means the end, or an exception.
            let line = unsafe { PyIter_Next(iterator.as_ptr()) };
            // SAFETY: see above.
            match unsafe { Object::from_owned(py, line) } {
                Ok(line) => write_object(py, stream, &line)?,
                // SAFETY: attached.
                Err(Raised) if unsafe { PyErr_Occurred() }.is_null() => {
                    return Ok(Object::none(py));
                }
                Err(Raised) => return Err(Raised),
            }
        }
    })
}

unsafe extern "C" fn flush(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, stream: &Stream, _| {
        stream.check(py)?;
        stream.flush(py);
        Ok(Object::none(py))
    })
}

unsafe extern "C" fn fileno(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, _| {
        Err(raise_unsupported(py, "the error log has no file descriptor"))
    })
}

unsafe extern "C" fn unsupported(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, _| {
        Err(raise_unsupported(py, "the error log is a stream that can be written to only"))
    })
}

/// Raises `io.UnsupportedOperation`, which is an `OSError` and a `ValueError`: programs that look
/// whether a stream can do something expect one or the other.
fn raise_unsupported(py: Attached<'_>, message: &str) -> Raised {
    let raised = Object::import(py, c"io")
        .and_then(|module| module.attribute(c"UnsupportedOperation"))
        .and_then(|class| class.call([&Object::text(py, message)?]));
    match raised {
        Ok(exception) => {
            // SAFETY: attached, it is an exception, and the reference is given away.
            unsafe { PyErr_SetRaisedException(exception.into_ptr()) };
            Raised
        }
        Err(raised) => raised,
    }
}

unsafe extern "C" fn reconfigure(
    this: *mut PyObject,
    _: *const *mut PyObject,
    _: Py_ssize_t,
    _: *mut PyObject,
) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Ok(Object::none(py)))
}

unsafe extern "C" fn enter(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, _| {
        // SAFETY: it is the live object whose method is called.
        Ok(unsafe { Object::from_borrowed(py, this) })
    })
}

unsafe extern "C" fn leave(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, stream: &Stream, _| {
        stream.flush(py);
        Ok(Object::none(py))
    })
}

unsafe extern "C" fn no(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, _| Ok(Object::boolean(py, false)))
}

unsafe extern "C" fn yes(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Stream, _| Ok(Object::boolean(py, true)))
}

/// Attributes that text streams have.
struct Attributes<const N: usize>([PyGetSetDef; N]);

// SAFETY: the rows hold pointers to literals and functions, and nobody writes to them.
unsafe impl<const N: usize> Sync for Attributes<N> {}

impl<const N: usize> Attributes<N> {
    const fn as_ptr(&'static self) -> *mut c_void {
        (&raw const self.0).cast_mut().cast()
    }
}

static ATTRIBUTES: Attributes<10> = Attributes([
    attribute(c"encoding", encoding),
    attribute(c"errors", error_handler),
    attribute(c"closed", closed),
    attribute(c"name", name),
    attribute(c"mode", mode),
    attribute(c"newlines", newlines),
    attribute(c"line_buffering", line_buffering),
    attribute(c"write_through", write_through),
    attribute(c"buffer", buffer),
    attribute_end(),
]);

const fn attribute(name: &'static CStr, get: getter) -> PyGetSetDef {
    PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    }
}

const fn attribute_end() -> PyGetSetDef {
    PyGetSetDef {
        name: std::ptr::null(),
        get: None,
        set: None,
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    }
}

unsafe extern "C" fn encoding(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Object::text(py, "utf-8"))
}

unsafe extern "C" fn error_handler(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Object::text(py, "replace"))
}

unsafe extern "C" fn closed(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Ok(Object::boolean(py, false)))
}

unsafe extern "C" fn mode(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Object::text(py, "w"))
}

unsafe extern "C" fn newlines(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Ok(Object::none(py)))
}

unsafe extern "C" fn line_buffering(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Ok(Object::boolean(py, true)))
}

unsafe extern "C" fn write_through(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| Ok(Object::boolean(py, false)))
}

unsafe extern "C" fn name(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, stream: &Stream, _| {
        Object::text(
            py,
            if matches!(stream, Stream::Request { .. }) { "<wsgi.errors>" } else { "<stderr>" },
        )
    })
}

unsafe extern "C" fn buffer(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    class::call(this, std::ptr::null_mut(), 0, |py, _: &Stream, _| {
        // SAFETY: it is the live object whose attribute is asked for.
        let owner = unsafe { Object::from_borrowed(py, this) };
        // SAFETY: an instance keeps its type alive.
        let class = unsafe { Object::from_borrowed(py, Py_TYPE(this).cast()) };
        // The reference is never given back by hand: the instance's end drops it, see Drop.
        class::instance(&class, Stream::Buffer(Kept::new(owner)))
    })
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Buffer(owner) = self {
            // SAFETY: instances are deallocated on attached threads, and the reference is theirs.
            unsafe { Py_DECREF(owner.as_ptr()) };
        }
    }
}
