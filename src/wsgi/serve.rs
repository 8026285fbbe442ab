//! Calling the application and sending what it returns.

use super::request::{Request, SendError};
use super::{Residents, environ, errors, hook, input, request, script};
use crate::exchange::ApplicationEnd;
use crate::interp::exception::Exception;
use crate::interp::object::type_error;
use crate::interp::{Attached, Object, Raised};
use crate::{Code, Level, Outcome, Part, Reply, Task};
use cpython_sys::*;
use std::sync::Arc;

/// A response that is whole and no larger than this is sent in one message.
const WHOLE_LIMIT: usize = 64 * 1024;

/// Carries out a job, and returns the last message about it. That is the caller's to send, after
/// it has detached.
pub(crate) fn serve(py: Attached<'_>, residents: &Residents, end: &ApplicationEnd) -> Reply {
    let _served = errors::Served::begin(py, end.link());
    let carried_out = match &end.job().task {
        Task::Serve => answer(py, residents, end).map(Reply::Response),
        Task::Load => load(py, residents, end).map(Reply::Response),
        Task::Call(calls) => hook::call(py, residents, end, calls).map(Reply::Returned),
    };
    carried_out.unwrap_or_else(|(refusal, traceback)| {
        let text = format!("{refusal}\n{}", traceback.trim_end());
        errors::log(py, Some(Arc::clone(end.link())), Level::Error, text);
        let end = Some(Outcome::Failed(refusal.code));
        Reply::Response(Part { end, ..Part::default() })
    })
}

/// Loads the script.
fn load(
    py: Attached<'_>,
    residents: &Residents,
    end: &ApplicationEnd,
) -> Result<Part, script::Failure> {
    let (script, group) = (end.job().script(), residents.group.to_string());
    residents.scripts.module(py, script, end.job(), &group)?;
    Ok(Part { end: Some(Outcome::Complete), ..Part::default() })
}

/// Serves one request, from the environ to `close()`.
fn answer(
    py: Attached<'_>,
    residents: &Residents,
    end: &ApplicationEnd,
) -> Result<Part, script::Failure> {
    let (script, group) = (end.job().script(), residents.group.to_string());
    let application = residents.scripts.callable(py, script, end.job(), &group)?;
    let answered = Answering::new(py, residents, end).and_then(|answering| {
        let last = answering.run(&application);
        answering.finish();
        last
    });
    Ok(answered.unwrap_or_else(|(raised, head_sent)| {
        let exception = Exception::take(py, raised);
        let what =
            if exception.is_system_exit() { " (SystemExit ends no process here)" } else { "" };
        let header = format!(
            "{}: {}{what} raised by script '{}' in application group '{group}'",
            Code::ApplicationRaised,
            exception.class(),
            script.path().display(),
        );
        errors::log(
            py,
            Some(Arc::clone(end.link())),
            Level::Error,
            format!("{header}\n{}", exception.traceback().trim_end()),
        );
        if head_sent {
            Part { end: Some(Outcome::Truncated), ..Part::default() }
        } else {
            Part { end: Some(Outcome::Failed(Code::ApplicationRaised)), ..Part::default() }
        }
    }))
}

/// What went wrong, and whether the head had been sent by then.
type Failure = (Raised, bool);

/// A request while its application answers it.
struct Answering<'py, 'a> {
    py: Attached<'py>,
    end: &'a ApplicationEnd,
    request: Object<'py>,
    start_response: Object<'py>,
    input: Object<'py>,
    errors: Object<'py>,
    environ: Object<'py>,
}

impl<'py, 'a> Answering<'py, 'a> {
    fn new(
        py: Attached<'py>,
        residents: &Residents,
        end: &'a ApplicationEnd,
    ) -> Result<Self, Failure> {
        let make = || {
            let request = request::new(&residents.request_class.get(py), end.link())?;
            let start_response = request::start_response(&request)?;
            let input = input::stream(&residents.input_class.get(py), end.link())?;
            let errors = errors::stream(&residents.errors_class.get(py), Some(end.link()))?;
            let environ = environ::make(py, residents, end.job(), &input, &errors)?;
            Ok(Self { py, end, request, start_response, input, errors, environ })
        };
        make().map_err(|raised| (raised, false))
    }

    fn request(&self) -> &Request {
        request::get(&self.request)
    }

    /// Calls the application, sends what it returns, and calls `close()` exactly once.
    fn run(&self, application: &Object<'py>) -> Result<Part, Failure> {
        let returned = application
            .call([&self.environ, &self.start_response])
            .map_err(|raised| (raised, self.request().head_sent()))?;
        if let Some(whole) = self.whole(&returned) {
            return whole.map_err(|raised| (raised, false));
        }
        let sent = self.iterate(&returned);
        // What iterating raised is put aside: close() runs whatever happened.
        let sent = sent.map_err(|raised| Exception::take(self.py, raised));
        self.close(&returned);
        match sent {
            Ok(()) => self.last_part().map_err(|raised| (raised, self.request().head_sent())),
            Err(exception) => Err((exception.restore(), self.request().head_sent())),
        }
    }

    /// The whole response in one part, where the application returned a list or tuple of a few
    /// bytes and nothing was sent before. Neither has a `close()`.
    fn whole(&self, returned: &Object<'py>) -> Option<Result<Part, Raised>> {
        let list = returned.is_exactly(&raw mut PyList_Type);
        if self.request().head_sent() || !(list || returned.is_exactly(&raw mut PyTuple_Type)) {
            return None;
        }
        // SAFETY: attached, and it is a list or a tuple.
        let length = unsafe { PySequence_Size(returned.as_ptr()) };
        let mut body = Vec::new();
        for index in 0..length {
            // SAFETY: attached, a list or a tuple, and the index is within it, since nothing of
            // the application runs meanwhile; a new reference.
            let block = unsafe {
                Object::from_owned(self.py, PySequence_GetItem(returned.as_ptr(), index))
            };
            let Ok(block) = block else {
                return Some(Err(Raised));
            };
            let bytes = block.as_bytes()?;
            if body.len() + bytes.len() > WHOLE_LIMIT {
                return None;
            }
            body.extend_from_slice(bytes);
        }
        let head = match self.request().take_head(self.py) {
            Ok(head) => head,
            Err(raised) => return Some(Err(raised)),
        };
        body.truncate(self.request().allow(body.len()));
        Some(Ok(Part { head, body, end: Some(self.outcome()) }))
    }

    /// Sends each block as it comes.
    fn iterate(&self, returned: &Object<'py>) -> Result<(), Raised> {
        // SAFETY: attached, and it is a live object; a new reference or an exception.
        let iterator = unsafe { Object::from_owned(self.py, PyObject_GetIter(returned.as_ptr())) }?;
        loop {
            // SAFETY: attached, and it is an iterator; null means its end, or an exception.
            let block = unsafe { PyIter_Next(iterator.as_ptr()) };
            // SAFETY: see above.
            let Ok(block) = (unsafe { Object::from_owned(self.py, block) }) else {
                // SAFETY: attached.
                let ended = unsafe { PyErr_Occurred() }.is_null();
                return if ended { Ok(()) } else { Err(Raised) };
            };
            let Some(bytes) = block.as_bytes() else {
                let message =
                    format!("the application must yield bytes, not {}", block.type_name());
                return Err(type_error(self.py, &message));
            };
            if bytes.is_empty() {
                continue;
            }
            match self.request().send(self.py, bytes) {
                Ok(()) => {}
                // The client has gone: nobody wants the rest, and nothing is wrong.
                Err(SendError::Gone) => return Ok(()),
                Err(SendError::Raised(raised)) => return Err(raised),
            }
        }
    }

    fn close(&self, returned: &Object<'py>) {
        let closed = returned.attribute_if_any(c"close").and_then(|close| match close {
            Some(close) => close.call([]).map(drop),
            None => Ok(()),
        });
        if let Err(raised) = closed {
            let exception = Exception::take(self.py, raised);
            let header =
                format!("{}: {} raised by close()", Code::ApplicationRaised, exception.class());
            let text = format!("{header}\n{}", exception.traceback().trim_end());
            errors::log(self.py, Some(Arc::clone(self.end.link())), Level::Error, text);
        }
    }

    fn last_part(&self) -> Result<Part, Raised> {
        let head = self.request().take_head(self.py)?;
        Ok(Part { head, body: Vec::new(), end: Some(self.outcome()) })
    }

    /// Whether as many bytes came as Content-Length promised, where a body is sent at all.
    fn outcome(&self) -> Outcome {
        let log = |code: Code, text: String| {
            errors::log(
                self.py,
                Some(Arc::clone(self.end.link())),
                Level::Error,
                format!("{code}: the response {text}"),
            );
        };
        let (missing, excess) = (self.request().missing(), self.request().excess());
        if excess > 0 {
            let text = format!("has {excess} bytes beyond its Content-Length, which were not sent");
            log(Code::ResponseLong, text);
        }
        let bodiless = self.end.job().variables.get(b"REQUEST_METHOD") == Some(b"HEAD");
        if missing == 0 || bodiless || self.end.link().request_gone() {
            return Outcome::Complete;
        }
        log(Code::ResponseShort, format!("ended {missing} bytes short of its Content-Length"));
        Outcome::Truncated
    }

    /// From now on, using what belongs to the request raises.
    fn finish(&self) {
        self.request().finish();
        input::finish(&self.input);
        errors::finish(&self.errors);
    }
}
