//! `wsgi.input`: the request body, asked for as the application reads.

use crate::exchange::Link;
use crate::interp::class::{self, Methods};
use crate::interp::object::{done, os_error, runtime_error, type_error};
use crate::interp::{Attached, Object, Raised};
use crate::{Ahead, Answer};
use cpython_sys::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most that is asked for, and so under way, at once.
const ASK_LIMIT: usize = 256 * 1024;

/// What is asked for when a line is wanted.
const LINE_ASK: usize = 64 * 1024;

/// What an input object holds.
struct Input {
    /// Gone once the request has ended.
    link: RefCell<Option<Arc<Link>>>,
    /// Bytes that came and were not yet read, from `start` on.
    bytes: RefCell<Vec<u8>>,
    start: Cell<usize>,
    progress: Cell<Progress>,
    /// Something was asked for, so a client that waits for `100 Continue` has got it.
    asked: Cell<bool>,
    /// Whether somebody wants to know how long reading takes.
    timed: Cell<bool>,
    traffic: Cell<Traffic>,
}

/// What an application has read, or written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// How often it did.
    pub(super) times: u64,
    pub(super) bytes: u64,
    /// How long it waited for that.
    pub(super) waited: Duration,
}

impl Traffic {
    /// With one time more.
    pub(super) fn and(self, bytes: usize) -> Self {
        Self { times: self.times + 1, bytes: self.bytes + bytes as u64, ..self }
    }

    /// With the time that has passed since `began`, if there was a look at the clock.
    pub(super) fn waited_since(self, began: Option<Instant>) -> Self {
        let more = began.map_or(Duration::ZERO, |began| began.elapsed());
        Self { waited: self.waited + more, ..self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// More may come.
    Open,
    /// A thread waits for more.
    Waiting,
    /// The body has ended.
    Last,
    /// The body could not be read, and never will be.
    Failed,
}

/// Makes the type.
pub(super) fn class(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    let more = [
        PyType_Slot { slot: Py_tp_iter, pfunc: iterate as *mut c_void },
        PyType_Slot { slot: Py_tp_iternext, pfunc: next_line as *mut c_void },
    ];
    class::make::<Input>(py, c"mod_wsgi.Input", METHODS.as_ptr(), &more)
}

/// The input of a request, of which this has come already.
pub(super) fn stream<'py>(
    class: &Object<'py>,
    link: &Arc<Link>,
    Ahead { bytes, last }: Ahead,
) -> Result<Object<'py>, Raised> {
    class::instance(
        class,
        Input {
            link: RefCell::new(Some(Arc::clone(link))),
            bytes: RefCell::new(bytes),
            start: Cell::new(0),
            progress: Cell::new(if last { Progress::Last } else { Progress::Open }),
            asked: Cell::new(false),
            timed: Cell::new(false),
            traffic: Cell::default(),
        },
    )
}

/// From now on, what is read is timed as well as counted.
pub(super) fn time(input: &Object<'_>) {
    // SAFETY: callers pass what `stream` above made.
    let input: &Input = unsafe { class::data(input.as_ptr()) };
    input.timed.set(true);
}

/// What was read so far.
pub(super) fn traffic(input: &Object<'_>) -> Traffic {
    // SAFETY: callers pass what `stream` above made.
    let input: &Input = unsafe { class::data(input.as_ptr()) };
    input.traffic.get()
}

/// The request has ended: further use raises.
pub(super) fn finish(input: &Object<'_>) {
    // SAFETY: callers pass what `stream` above made.
    let input: &Input = unsafe { class::data(input.as_ptr()) };
    input.link.borrow_mut().take();
}

impl Input {
    fn available(&self) -> usize {
        self.bytes.borrow().len() - self.start.get()
    }

    /// Gets more of the body, as much as [`Link::ask`] says; less where it ends.
    fn fill(&self, py: Attached<'_>, at_least: usize, at_most: usize) -> Result<(), Raised> {
        let Some(link) = self.link.borrow().clone() else {
            return Err(runtime_error(py, "wsgi.input was used after its request had ended"));
        };
        match self.progress.get() {
            Progress::Open => {}
            Progress::Last => return Ok(()),
            Progress::Failed => return Err(unreadable(py)),
            Progress::Waiting => {
                return Err(runtime_error(py, "wsgi.input is being read by another thread"));
            }
        }
        self.progress.set(Progress::Waiting);
        self.asked.set(true);
        let began = self.timed.get().then(Instant::now);
        let answer = py.detached(move || link.ask(at_least.min(ASK_LIMIT), at_most.min(ASK_LIMIT)));
        self.traffic.set(self.traffic.get().waited_since(began));
        match answer {
            Ok(Answer::Body { bytes, last }) => {
                self.progress.set(if last { Progress::Last } else { Progress::Open });
                let mut kept = self.bytes.borrow_mut();
                // What was read is dropped here, so this holds no more than is wanted.
                kept.drain(..self.start.replace(0));
                if kept.is_empty() {
                    *kept = bytes;
                } else {
                    kept.extend_from_slice(&bytes);
                }
                Ok(())
            }
            Ok(Answer::Failed | Answer::Variable(_)) | Err(_) => {
                self.progress.set(Progress::Failed);
                Err(unreadable(py))
            }
        }
    }

    /// Whether nothing can come beyond what is here.
    fn ended(&self) -> bool {
        self.progress.get() == Progress::Last
    }

    /// Takes `count` bytes of those that are here.
    fn take<'py>(&self, py: Attached<'py>, count: usize) -> Result<Object<'py>, Raised> {
        let start = self.start.get();
        let taken = Object::bytes(py, &self.bytes.borrow()[start..start + count])?;
        self.start.set(start + count);
        self.traffic.set(self.traffic.get().and(count));
        Ok(taken)
    }

    /// `read`: blocks until there are `limit` bytes or the body ends.
    fn read<'py>(&self, py: Attached<'py>, limit: Option<usize>) -> Result<Object<'py>, Raised> {
        self.check(py)?;
        let limit = limit.unwrap_or(usize::MAX);
        if limit == 0 && !self.asked.get() {
            // Nothing is wanted but that the client begins to send.
            self.fill(py, 0, 0)?;
        }
        while self.available() < limit && !self.ended() {
            let missing = limit - self.available();
            self.fill(py, missing, missing)?;
        }
        self.take(py, limit.min(self.available()))
    }

    /// `readline`: up to and with a line feed, no more than `limit` bytes.
    fn read_line<'py>(
        &self,
        py: Attached<'py>,
        limit: Option<usize>,
    ) -> Result<Object<'py>, Raised> {
        self.check(py)?;
        let limit = limit.unwrap_or(usize::MAX);
        let mut searched = 0;
        loop {
            let available = self.available();
            let found = {
                let bytes = self.bytes.borrow();
                let unread = &bytes[self.start.get()..];
                unread[searched..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map(|at| searched + at + 1)
            };
            match found {
                Some(end) => return self.take(py, end.min(limit)),
                None if available >= limit || self.ended() => {
                    return self.take(py, available.min(limit));
                }
                None => {
                    searched = available;
                    self.fill(py, 1, LINE_ASK)?;
                }
            }
        }
    }

    /// Whether it may still be used; the body's end has to be found out first otherwise.
    fn check(&self, py: Attached<'_>) -> Result<(), Raised> {
        if self.link.borrow().is_none() || self.progress.get() == Progress::Failed {
            return self.fill(py, 0, 0);
        }
        Ok(())
    }
}

fn unreadable(py: Attached<'_>) -> Raised {
    os_error(
        py,
        "the request body could not be read: the client has gone, or was too slow, or broke HTTP",
    )
}

static METHODS: Methods<5> = Methods::new([
    class::method(
        c"read",
        read,
        c"read(size=-1): that many bytes, or all; fewer only at the end of the body.",
    ),
    class::method(
        c"readline",
        readline,
        c"readline(size=-1): a line with its end, or that many bytes of it.",
    ),
    class::method(
        c"readlines",
        readlines,
        c"readlines(hint=-1): lines, until they hold that many bytes.",
    ),
    class::method(c"close", close, c"close(): nothing; the body belongs to the server."),
    class::end(),
]);

unsafe extern "C" fn read(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, input: &Input, arguments| {
        input.read(py, size(py, arguments)?)
    })
}

unsafe extern "C" fn readline(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, input: &Input, arguments| {
        input.read_line(py, size(py, arguments)?)
    })
}

unsafe extern "C" fn readlines(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, input: &Input, arguments| {
        let hint = size(py, arguments)?.filter(|hint| *hint > 0).unwrap_or(usize::MAX);
        // SAFETY: attached; a new reference or an exception.
        let lines = unsafe { Object::from_owned(py, PyList_New(0)) }?;
        let mut total = 0;
        while total < hint {
            let line = input.read_line(py, None)?;
            let length = line.as_bytes().map_or(0, <[u8]>::len);
            if length == 0 {
                break;
            }
            total = total.saturating_add(length);
            // SAFETY: attached, and both are live objects, the first a list.
            done(unsafe { PyList_Append(lines.as_ptr(), line.as_ptr()) })?;
        }
        Ok(lines)
    })
}

unsafe extern "C" fn close(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, _: &Input, _| Ok(Object::none(py)))
}

unsafe extern "C" fn iterate(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython calls this attached, with a live object.
    unsafe { Py_NewRef(this) }
}

unsafe extern "C" fn next_line(this: *mut PyObject) -> *mut PyObject {
    let mut ended = false;
    let line = class::call(this, std::ptr::null_mut(), 0, |py, input: &Input, _| {
        let line = input.read_line(py, None)?;
        ended = line.as_bytes().is_none_or(<[u8]>::is_empty);
        Ok(line)
    });
    if ended {
        // Null without an exception is how an iterator says that it is exhausted.
        // SAFETY: CPython calls this attached, and the reference is ours.
        unsafe { Py_XDECREF(line) };
        return std::ptr::null_mut();
    }
    line
}

/// The optional size argument; negative and `None` mean no limit.
fn size(py: Attached<'_>, arguments: &[Object<'_>]) -> Result<Option<usize>, Raised> {
    match arguments {
        [] => Ok(None),
        [size] if size.is_none() => Ok(None),
        [size] => {
            // SAFETY: attached, and it is a live object; -1 may be an exception.
            let size = unsafe { PyNumber_AsSsize_t(size.as_ptr(), PyExc_OverflowError) };
            // SAFETY: attached.
            if size == -1 && !unsafe { PyErr_Occurred() }.is_null() {
                return Err(Raised);
            }
            Ok(usize::try_from(size).ok())
        }
        _ => Err(type_error(py, "at most one argument is taken, the size")),
    }
}
