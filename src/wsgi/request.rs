//! `start_response` and `write`: how an application says what it answers (PEP 3333).

use super::input::Traffic;
use crate::exchange::{Gone, Link};
use crate::header::{self, HeaderError};
use crate::interp::class::{self, Methods};
use crate::interp::object::{os_error, release_returned, runtime_error, type_error, value_error};
use crate::interp::{Attached, Kept, Object, Raised};
use crate::lending::{self, Lender};
use crate::{Fields, Head, Part, Spool, Store};
use cpython_sys::*;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of a block that is under way in one message.
const PIECE: usize = crate::store::TAIL;

/// What is larger than this is not kept for a slow client.
const LARGE: usize = 1 << 20;

/// Room for a header, in bytes: most are shorter.
const HEADER: usize = 48;

/// How long a client may be behind until the rest of a block is put aside, which costs a copy. The
/// request thread waits for less.
const MOMENT: Duration = Duration::from_millis(50);

/// A request as its application answers it; `self` of `start_response` and `write`.
pub(super) struct Request {
    /// Gone once the request has ended.
    link: RefCell<Option<Arc<Link>>>,
    /// What `start_response` was given, until it is sent.
    head: RefCell<Option<Head>>,
    head_sent: Cell<bool>,
    /// What Content-Length allows to be sent yet.
    allowance: Cell<Option<u64>>,
    /// How many bytes came beyond that.
    excess: Cell<u64>,
    /// What can be put behind the part that was sent last.
    spool: RefCell<Option<Arc<Spool>>>,
    lender: Arc<Lender>,
    over_http2: bool,
    /// The status that was sent.
    status: Cell<Option<u16>>,
    traffic: Cell<Traffic>,
    /// The `Observation` of events.py, where somebody has subscribed; gone once the request ends.
    observation: RefCell<Option<Kept>>,
}

/// What is to be sent of a `bytes` object.
struct Block<'a, 'py> {
    object: &'a Object<'py>,
    bytes: &'a [u8],
}

impl Block<'_, '_> {
    /// Whether the object can be lent: that pays, and to release one runs no code of the application, as
    /// it could for a subclass.
    fn is_lendable(&self) -> bool {
        self.bytes.len() >= lending::LEAST && self.object.is_exactly(&raw mut PyBytes_Type)
    }

    /// Whether it is lent only while it is sent: what a slow client has not come to then is copied, so that
    /// the client does not keep all of it.
    fn is_large(&self) -> bool {
        self.object.as_bytes().is_some_and(|all| all.len() > LARGE)
    }
}

/// Why a block was not sent.
pub(super) enum SendError {
    /// The client has gone; nothing is wrong with the application.
    Gone,
    /// An exception is set.
    Raised(Raised),
}

impl From<Raised> for SendError {
    fn from(raised: Raised) -> Self {
        Self::Raised(raised)
    }
}

/// Makes the type.
pub(super) fn class(py: Attached<'_>) -> Result<Object<'_>, Raised> {
    class::make::<Request>(py, c"mod_wsgi.Request", NO_METHODS.as_ptr(), &[])
}

/// The request that `link` belongs to.
pub(super) fn new<'py>(
    class: &Object<'py>,
    link: &Arc<Link>,
    lender: &Arc<Lender>,
    over_http2: bool,
) -> Result<Object<'py>, Raised> {
    class::instance(
        class,
        Request {
            link: RefCell::new(Some(Arc::clone(link))),
            head: RefCell::new(None),
            head_sent: Cell::new(false),
            allowance: Cell::new(None),
            excess: Cell::new(0),
            spool: RefCell::new(None),
            lender: Arc::clone(lender),
            over_http2,
            status: Cell::new(None),
            traffic: Cell::default(),
            observation: RefCell::new(None),
        },
    )
}

/// `start_response` for the application of this request.
pub(super) fn start_response<'py>(request: &Object<'py>) -> Result<Object<'py>, Raised> {
    class::function(request, FUNCTIONS.row(0))
}

/// The data of a request object.
pub(super) fn get<'a>(request: &'a Object<'_>) -> &'a Request {
    // SAFETY: callers pass what `new` above made.
    unsafe { class::data(request.as_ptr()) }
}

impl Request {
    /// Whether status and headers are on their way, and an error page is no longer possible.
    pub(super) fn head_sent(&self) -> bool {
        self.head_sent.get()
    }

    /// The head where nothing was sent yet; it counts as sent from now on.
    ///
    /// # Errors
    ///
    /// `start_response` was not called.
    pub(super) fn take_head(&self, py: Attached<'_>) -> Result<Option<Head>, Raised> {
        if self.head_sent.get() {
            return Ok(None);
        }
        match self.head.take() {
            Some(head) => {
                // Neither has a body, whatever its Content-Length is about.
                let bodiless = matches!(head.status, 204 | 304);
                self.allowance.set(head.content_length.filter(|_| !bodiless));
                self.head_sent.set(true);
                self.status.set(Some(head.status));
                Ok(Some(head))
            }
            None => Err(runtime_error(
                py,
                "the application returned data without calling start_response()",
            )),
        }
    }

    /// The status that was sent.
    pub(super) fn status(&self) -> Option<u16> {
        self.status.get()
    }

    /// What was sent so far.
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// Counts one block that was sent with the response's end.
    pub(super) fn count(&self, bytes: usize) {
        self.traffic.set(self.traffic.get().and(bytes));
    }

    /// From now on somebody is told what the application does.
    pub(super) fn observe(&self, observation: &Object<'_>) {
        *self.observation.borrow_mut() = Some(Kept::new(observation.clone()));
    }

    /// Who tells.
    pub(super) fn observation<'py>(&self, py: Attached<'py>) -> Option<Object<'py>> {
        self.observation.borrow().as_ref().map(|kept| kept.get(py))
    }

    /// Tells no more.
    pub(super) fn take_observation<'py>(&self, py: Attached<'py>) -> Option<Object<'py>> {
        self.observation.borrow_mut().take().map(|kept| kept.release(py))
    }

    /// How much of `length` bytes Content-Length lets through; the rest is dropped.
    pub(super) fn allow(&self, length: usize) -> usize {
        let Some(allowance) = self.allowance.get() else {
            return length;
        };
        let allowed = allowance.min(length as u64);
        self.allowance.set(Some(allowance - allowed));
        self.excess.set(self.excess.get() + length as u64 - allowed);
        usize::try_from(allowed).expect("it is no more than a length")
    }

    /// How much of a file of `length` bytes is to be sent: to its end, or as many as Content-Length
    /// says. Where the head has none, it gets that of the file.
    pub(super) fn allow_file(&self, head: &mut Head, length: u64) -> u64 {
        if matches!(head.status, 204 | 304) {
            return 0;
        }
        let Some(allowance) = self.allowance.get() else {
            head.headers.push(b"Content-Length", length.to_string().as_bytes());
            head.content_length = Some(length);
            return length;
        };
        let allowed = allowance.min(length);
        self.allowance.set(Some(allowance - allowed));
        allowed
    }

    /// How many bytes Content-Length still promises.
    pub(super) fn missing(&self) -> u64 {
        self.allowance.get().unwrap_or(0)
    }

    /// How many bytes were dropped, because Content-Length had been reached.
    pub(super) fn excess(&self) -> u64 {
        self.excess.get()
    }

    /// Sends the bytes of a `bytes` object, and waits while the client is slow.
    pub(super) fn send(&self, object: &Object<'_>, bytes: &[u8]) -> Result<(), SendError> {
        let py = object.py();
        let Some(link) = self.link.borrow().clone() else {
            return Err(runtime_error(py, "write() was called after its request had ended").into());
        };
        let head = self.take_head(py)?;
        let block = Block { object, bytes: &bytes[..self.allow(bytes.len())] };
        if link.request_gone() {
            return Err(SendError::Gone);
        }
        if block.bytes.is_empty() && head.is_none() {
            return Ok(());
        }
        let began = self.observation.borrow().is_some().then(Instant::now);
        let sent = self.send_block(py, &link, head, &block);
        self.traffic.set(self.traffic.get().and(block.bytes.len()).waited_since(began));
        sent.map_err(|_: Gone| SendError::Gone)
    }

    /// Sends a block, behind what was sent last where the request thread has not come to that yet, and
    /// otherwise in pieces. Where that is busy with a slow client, the rest is put into the store, behind
    /// the piece that was sent last. Where there is no room for it, this waits.
    fn send_block(
        &self,
        py: Attached<'_>,
        link: &Link,
        head: Option<Head>,
        block: &Block<'_, '_>,
    ) -> Result<(), Gone> {
        let last = self.spool.borrow().clone();
        if last.is_some_and(|last| self.put_behind(py, &last, link.store(), block)) {
            return Ok(());
        }
        release_returned(py, &self.lender);
        if !block.is_large() {
            return self.send_pieces(py, link, head, block, |_| ());
        }
        let mut under_way = Vec::new();
        let sent = self.send_pieces(py, link, head, block, |spool| {
            under_way.retain(|spool| Arc::strong_count(spool) > 1);
            under_way.push(Arc::clone(spool));
        });
        py.detached(|| under_way.iter().for_each(|spool| spool.own()));
        sent
    }

    /// Sends a block in pieces, each of which begins a spool that `begun` is told of.
    fn send_pieces(
        &self,
        py: Attached<'_>,
        link: &Link,
        mut head: Option<Head>,
        block: &Block<'_, '_>,
        mut begun: impl FnMut(&Arc<Spool>),
    ) -> Result<(), Gone> {
        let is_lendable = block.is_lendable();
        let mut bytes = block.bytes;
        loop {
            let (piece, rest) = bytes.split_at(bytes.len().min(PIECE));
            let spool = Spool::new();
            let body = match is_lendable && self.lend(&spool, block.object, piece) {
                true => Vec::new(),
                false => piece.to_vec(),
            };
            begun(&spool);
            let last = self.spool.replace(Some(Arc::clone(&spool)));
            let part = Part { head: head.take(), body, spool: Some(spool), ..Part::default() };
            // Mostly there is room, and others who stand in line for the GIL get it soon enough.
            if let Some(part) = link.respond_at_once(part)?
                && let Some(part) = py.detached(|| link.respond_within(part, MOMENT))?
            {
                if let Some(last) = last
                    && py.detached(|| last.append(link.store(), bytes))
                {
                    *self.spool.borrow_mut() = Some(last);
                    return Ok(());
                }
                py.detached(|| link.respond(part))?;
            }
            if rest.is_empty() {
                return Ok(());
            }
            bytes = rest;
        }
    }

    /// Puts a block behind what was sent last. `false` where the request thread has come to that, or it is
    /// too much.
    fn put_behind(
        &self,
        py: Attached<'_>,
        last: &Arc<Spool>,
        store: &Arc<Store>,
        block: &Block<'_, '_>,
    ) -> bool {
        let bytes = block.bytes;
        let put = match block.is_lendable() && !block.is_large() {
            true => self.lend(last, block.object, bytes),
            false => last.add(store, bytes),
        };
        put || last.is_in_use() && py.detached(|| last.append(store, bytes))
    }

    /// The bytes of an object that are all of a body: a copy, or a spool that they are lent to.
    pub(super) fn whole(&self, object: &Object<'_>, bytes: &[u8]) -> (Vec<u8>, Option<Arc<Spool>>) {
        if !(Block { object, bytes }).is_lendable() {
            return (bytes.to_vec(), None);
        }
        let spool = Spool::new();
        self.lend(&spool, object, bytes);
        (Vec::new(), Some(spool))
    }

    fn lend(&self, spool: &Arc<Spool>, object: &Object<'_>, bytes: &[u8]) -> bool {
        spool.lend(&self.lender, bytes.len(), || object.lend(bytes))
    }

    /// Says how the response ended behind what was sent last, if the request thread has not taken
    /// that yet. Nothing is to be said then any more.
    pub(super) fn end_behind(&self, link: &Link, last: &Part) -> bool {
        let (spool, Part { end, .. }) = (self.spool.take(), last);
        let ended = spool.zip(*end).is_some_and(|(spool, outcome)| spool.end(outcome));
        if ended {
            link.set_ended();
        }
        ended
    }

    /// The request has ended: further use raises.
    pub(super) fn finish(&self) {
        self.link.borrow_mut().take();
        self.head.borrow_mut().take();
    }

    fn start<'py>(
        &self,
        py: Attached<'py>,
        status: &Object<'py>,
        headers: &Object<'py>,
        exc_info: Option<&Object<'py>>,
    ) -> Result<(), Raised> {
        if self.link.borrow().is_none() {
            return Err(runtime_error(
                py,
                "start_response() was called after its request had ended",
            ));
        }
        if let Some(observation) = self.observation(py) {
            let none = Object::none(py);
            let exc_info = exc_info.unwrap_or(&none);
            observation.attribute(c"responding")?.call([status, headers, exc_info])?;
        }
        if !headers.is_instance_of(Py_TPFLAGS_LIST_SUBCLASS) {
            return Err(type_error(
                py,
                &format!("headers must be a list, not {}", headers.type_name()),
            ));
        }
        match exc_info.filter(|exc_info| !exc_info.is_none()) {
            Some(exc_info) if !exc_info.is_instance_of(Py_TPFLAGS_TUPLE_SUBCLASS) => {
                return Err(runtime_error(
                    py,
                    "exc_info must be a tuple as sys.exc_info() returns it",
                ));
            }
            Some(exc_info) if self.head_sent.get() => return Err(reraise(py, exc_info)),
            None if self.head_sent.get() => {
                return Err(runtime_error(
                    py,
                    "start_response() was called after headers were sent",
                ));
            }
            _ => {}
        }
        *self.head.borrow_mut() = Some(head(py, status, headers, self.over_http2)?);
        Ok(())
    }
}

/// Checks what an application gave to `start_response`.
fn head<'py>(
    py: Attached<'py>,
    status: &Object<'py>,
    headers: &Object<'py>,
    over_http2: bool,
) -> Result<Head, Raised> {
    let status_line = native_string(py, status, "status")?;
    let code =
        header::status_code(&status_line).map_err(|error| invalid(py, error, &status_line))?;
    let status_line = status_line.into_owned();
    // SAFETY: attached, and it is a list.
    let count = unsafe { PyList_GET_SIZE(headers.as_ptr()) }.unsigned_abs();
    let fields = Fields::with_capacity(count, count * HEADER);
    let mut head = Head { status: code, status_line, headers: fields, ..Head::default() };
    let mut index = 0;
    // The list can change while names and values are looked at, so its length is asked each time.
    // SAFETY: attached, and it is a list.
    while index < unsafe { PyList_GET_SIZE(headers.as_ptr()) } {
        // SAFETY: attached, it is a list, and the index is within it; the reference is the list's.
        let pair = unsafe { PyList_GET_ITEM(headers.as_ptr(), index) };
        // SAFETY: see above.
        let pair = unsafe { Object::from_borrowed(py, pair) };
        let [name, value] = name_and_value(py, &pair)?;
        let name = native_string(py, &name, "header name")?;
        let value = native_string(py, &value, "header value")?;
        header::check_header(&name, &value).map_err(|error| invalid(py, error, &name))?;
        if over_http2 {
            header::check_over_http2(&name, &value).map_err(|error| invalid(py, error, &name))?;
        }
        if name.eq_ignore_ascii_case(b"Content-Length") {
            let length =
                header::content_length(&value).map_err(|error| invalid(py, error, &value))?;
            head.content_length = Some(length);
        }
        head.headers.push(&name, &value);
        index += 1;
    }
    Ok(head)
}

fn name_and_value<'py>(py: Attached<'py>, pair: &Object<'py>) -> Result<[Object<'py>; 2], Raised> {
    if !pair.is_instance_of(Py_TPFLAGS_TUPLE_SUBCLASS) {
        return Err(type_error(
            py,
            &format!("each header must be a tuple, not {}", pair.type_name()),
        ));
    }
    // SAFETY: attached, and it is a tuple.
    let length = unsafe { PyTuple_GET_SIZE(pair.as_ptr()) };
    if length != 2 {
        let message =
            format!("each header must be a tuple of a name and a value, not of {length} items");
        return Err(value_error(py, &message));
    }
    Ok([0, 1].map(|index| {
        // SAFETY: attached, and the tuple has two items, which it keeps.
        let item = unsafe { PyTuple_GET_ITEM(pair.as_ptr(), index) };
        // SAFETY: see above.
        unsafe { Object::from_borrowed(py, item) }
    }))
}

/// The bytes of PEP 3333's native string: one for each character.
fn native_string<'a, 'py>(
    py: Attached<'py>,
    text: &'a Object<'py>,
    what: &str,
) -> Result<Cow<'a, [u8]>, Raised> {
    if !text.is_instance_of(Py_TPFLAGS_UNICODE_SUBCLASS) {
        return Err(type_error(py, &format!("{what} must be str, not {}", text.type_name())));
    }
    text.to_latin1()
}

/// Raises the exception that an application passed on, with its traceback.
fn reraise<'py>(py: Attached<'py>, exc_info: &Object<'py>) -> Raised {
    // SAFETY: attached, and it is a tuple.
    let length = unsafe { PyTuple_GET_SIZE(exc_info.as_ptr()) };
    if length != 3 {
        return runtime_error(py, "exc_info must have three items, as sys.exc_info() returns it");
    }
    // SAFETY: attached, and the tuple has three items, which it keeps.
    let value = unsafe { PyTuple_GET_ITEM(exc_info.as_ptr(), 1) };
    // SAFETY: see above.
    let value = unsafe { Object::from_borrowed(py, value) };
    if !value.is_instance_of(Py_TPFLAGS_BASE_EXC_SUBCLASS) {
        return runtime_error(py, "exc_info holds no exception");
    }
    // SAFETY: attached, it is an exception, and the reference is given away.
    unsafe { PyErr_SetRaisedException(value.into_ptr()) };
    Raised
}

fn invalid(py: Attached<'_>, error: HeaderError, given: &[u8]) -> Raised {
    value_error(py, &format!("{error}; got {:?}", String::from_utf8_lossy(given)))
}

static NO_METHODS: Methods<1> = Methods::new([class::end()]);

static FUNCTIONS: Methods<2> = Methods::new([
    class::method_with_keywords(
        c"start_response",
        start_response_function,
        c"start_response(status, headers, exc_info=None): begin the response; returns write().",
    ),
    class::method(c"write", write_function, c"write(data): send bytes at once."),
]);

unsafe extern "C" fn start_response_function(
    this: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    keywords: *mut PyObject,
) -> *mut PyObject {
    // Null, or a tuple of the names of the arguments after the positional ones.
    let named = match keywords.is_null() {
        true => 0,
        // SAFETY: a live tuple.
        false => unsafe { PyTuple_GET_SIZE(keywords) },
    };
    class::call(this, arguments.cast_mut(), count + named, |py, request: &Request, arguments| {
        let (status, headers, exc_info) = match arguments {
            [status, headers] if named == 0 => (status, headers, None),
            [status, headers, exc_info] if named == 0 || is_exc_info(keywords) => {
                (status, headers, Some(exc_info))
            }
            _ => {
                let message = "start_response() takes a status, headers and exc_info=None";
                return Err(type_error(py, message));
            }
        };
        request.start(py, status, headers, exc_info)?;
        // SAFETY: it is the live owner of this function.
        let owner = unsafe { Object::from_borrowed(py, this) };
        class::function(&owner, FUNCTIONS.row(1))
    })
}

/// Whether the only keyword is `exc_info`.
fn is_exc_info(keywords: *mut PyObject) -> bool {
    // SAFETY: a live tuple of one str, which it keeps.
    let name = unsafe { PyTuple_GET_ITEM(keywords, 0) };
    // SAFETY: attached, and it is a str.
    let equal = unsafe { PyUnicode_CompareWithASCIIString(name, c"exc_info".as_ptr()) };
    equal == 0
}

unsafe extern "C" fn write_function(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: Py_ssize_t,
) -> *mut PyObject {
    class::call(this, arguments, count, |py, request: &Request, arguments| {
        let [data] = arguments else {
            return Err(type_error(py, "write() takes one argument"));
        };
        let Some(bytes) = data.as_bytes() else {
            return Err(type_error(
                py,
                &format!("write() argument must be bytes, not {}", data.type_name()),
            ));
        };
        match request.send(data, bytes) {
            Ok(()) => Ok(Object::none(py)),
            Err(SendError::Raised(raised)) => Err(raised),
            Err(SendError::Gone) => Err(os_error(py, "the client has closed the connection")),
        }
    })
}
