//! Calling the application and sending what it returns.

use super::input::Traffic;
use super::request::{Request, SendError};
use super::running::Place;
use super::{Residents, environ, errors, extensions, file, hook, input, request, script};
use crate::exchange::ApplicationEnd;
use crate::interp::attached::GilWaits;
use crate::interp::exception::Exception;
use crate::interp::object::type_error;
use crate::interp::{Attached, Object, Raised};
use crate::isolation::Refused;
use crate::status::tally::{self, Tally};
use crate::{Code, FilePart, Level, Outcome, PIECE, Part, Reply, Task};
use cpython_sys::*;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// What has become of a job.
pub(crate) enum Served {
    /// It was carried out.
    Done {
        /// The last message about it, which is the caller's to send; where it was sent already,
        /// there is none.
        last: Option<Reply>,
        /// What the interpreter has refused, where it failed by that.
        refused: Option<Refused>,
    },
    /// Its script does not load in this interpreter, because the interpreter has refused something.
    /// Nobody was told.
    NotLoaded(Refused, script::Failure),
}

/// Carries out a job.
pub(crate) fn serve(py: Attached<'_>, residents: &Residents, end: &ApplicationEnd) -> Served {
    let _served = errors::Served::begin(py, end);
    extensions::begin();
    let refused = Cell::new(None);
    let carried_out = match &end.job().task {
        Task::Serve => answer(py, residents, end, &refused).map(|last| last.map(Reply::Response)),
        Task::Load => load(py, residents, end).map(|last| Some(Reply::Response(last))),
        Task::Call(calls) => {
            hook::call(py, residents, end, calls).map(|values| Some(Reply::Returned(values)))
        }
    };
    match carried_out {
        Ok(last) => Served::Done { last, refused: refused.take() },
        Err(mut failure) => match failure.refused.take() {
            Some(refused) if failure.refusal.code == Code::ScriptNotExecuted => {
                Served::NotLoaded(refused, failure)
            }
            // Somebody else serves it.
            refused if failure.refusal.code == Code::ProcessOutdated => {
                let end = Some(Outcome::Failed(Code::ProcessOutdated));
                let last = Reply::Response(Part { end, ..Part::default() });
                Served::Done { last: Some(last), refused }
            }
            refused => Served::Done { last: Some(fail(py, end, &failure)), refused },
        },
    }
}

/// Logs why a job could not be carried out, and returns the last message about it.
pub(crate) fn fail(py: Attached<'_>, end: &ApplicationEnd, failure: &script::Failure) -> Reply {
    let text = format!("{}\n{}", failure.refusal, failure.traceback.trim_end());
    tally::failed(&text);
    tally::answered(Tally { status: failure.refusal.code.status(), ..Tally::default() });
    errors::log(py, Some(Arc::clone(end.link())), Level::Error, text);
    let end = Some(Outcome::Failed(failure.refusal.code));
    Reply::Response(Part { end, ..Part::default() })
}

/// Loads the script.
fn load(
    py: Attached<'_>,
    residents: &Residents,
    end: &ApplicationEnd,
) -> Result<Part, script::Failure> {
    let (script, group) = (end.job().script(), &residents.group);
    residents.scripts.module(py, script, end.job(), group)?;
    Ok(Part { end: Some(Outcome::Complete), ..Part::default() })
}

/// Serves one request, from the environ to `close()`.
fn answer(
    py: Attached<'_>,
    residents: &Residents,
    end: &ApplicationEnd,
    refused: &Cell<Option<Refused>>,
) -> Result<Option<Part>, script::Failure> {
    let (script, group) = (end.job().script(), &residents.group);
    let application = residents.scripts.callable(py, script, end.job(), group)?;
    let answering = match Answering::new(py, residents, end) {
        Ok(answering) => answering,
        Err(raised) => {
            let status = Code::ApplicationRaised.status();
            tally::answered(Tally { status, ..Tally::default() });
            return Ok(Some(failed(py, residents, end, (raised, false), None, refused)));
        }
    };
    let answered =
        answering.observe(application).and_then(|application| answering.run(&application));
    let last = answered.unwrap_or_else(|failure| {
        let observation = answering.request().observation(py);
        failed(py, residents, end, failure, observation.as_ref(), refused)
    });
    // Frameworks catch what their views raise, and answer for them.
    let status = answering.request().status();
    if status.is_some_and(|status| status >= 500) {
        refused.set(refused.take().or_else(|| residents.scripts.refused_lately(py)));
    }
    tally::answered(answering.tally(&last));
    answering.finish();
    Ok(answering.tell_finished(last))
}

/// Logs what the application raised, and returns the last part of a response that failed by it.
fn failed<'py>(
    py: Attached<'py>,
    residents: &Residents,
    end: &ApplicationEnd,
    (raised, head_sent): Failure,
    observation: Option<&Object<'py>>,
    refused: &Cell<Option<Refused>>,
) -> Part {
    let exception = Exception::take(py, raised);
    refused.set(residents.scripts.refused(&exception));
    tell_raised(py, observation, &exception);
    let timeout = exception.is(&residents.request_timeout.get(py));
    let code = if timeout { Code::RequestTimeout } else { Code::ApplicationRaised };
    let what = if exception.is_system_exit() { " (SystemExit ends no process here)" } else { "" };
    let mut text = format!(
        "{code}: {}{what} raised by script '{}' in application group '{}'",
        exception.class(),
        end.job().script().path().display(),
        residents.group,
    );
    tally::failed(&text);
    if !timeout {
        text = format!("{text}\n{}", exception.traceback().trim_end());
    }
    let level = if timeout { Level::Info } else { Level::Error };
    errors::log(py, Some(Arc::clone(end.link())), level, text);
    let outcome = if head_sent { Outcome::Truncated } else { Outcome::Failed(code) };
    Part { end: Some(outcome), ..Part::default() }
}

/// Tells those who have subscribed what an application has raised.
fn tell_raised<'py>(
    py: Attached<'py>,
    observation: Option<&Object<'py>>,
    exception: &Exception<'py>,
) {
    let Some(observation) = observation else { return };
    let told = observation.attribute(c"raised").and_then(|told| told.call([exception.object()]));
    if let Err(raised) = told {
        ignore(py, raised);
    }
}

/// Logs what was raised while subscribers were told of something that has happened already.
fn ignore(py: Attached<'_>, raised: Raised) {
    let exception = Exception::take(py, raised);
    let text = format!("raised while an event was told: {}", exception.traceback().trim_end());
    errors::log(py, errors::served(), Level::Error, text);
}

/// What went wrong, and whether the head had been sent by then.
type Failure = (Raised, bool);

/// A request while its application answers it.
struct Answering<'py, 'a> {
    py: Attached<'py>,
    residents: &'a Residents,
    end: &'a ApplicationEnd,
    place: Place<'py, 'a>,
    /// What this thread had used of the processor at the beginning, where somebody wants to know.
    began: Cell<ProcessorTime>,
    request: Object<'py>,
    start_response: Object<'py>,
    input: Object<'py>,
    errors: Object<'py>,
    environ: Object<'py>,
}

impl<'py, 'a> Answering<'py, 'a> {
    fn new(
        py: Attached<'py>,
        residents: &'a Residents,
        end: &'a ApplicationEnd,
    ) -> Result<Self, Raised> {
        let protocol = end.job().variables.get(b"SERVER_PROTOCOL");
        let over_http2 = protocol.is_some_and(|protocol| protocol.starts_with(b"HTTP/2"));
        residents.release_returned(py);
        let class = residents.request_class.get(py);
        let request = request::new(&class, end.link(), &residents.lender, over_http2)?;
        let start_response = request::start_response(&request)?;
        let ahead = end.job().take_ahead();
        let input = input::stream(&residents.input_class.get(py), end.link(), ahead)?;
        let errors = errors::stream(&residents.errors_class.get(py), Some(end.link()))?;
        let (environ, id) = environ::make(py, residents, end.job(), &input, &errors)?;
        let place = residents.running.enter(id);
        let began = Cell::default();
        Ok(Self {
            py,
            residents,
            end,
            place,
            began,
            request,
            start_response,
            input,
            errors,
            environ,
        })
    }

    fn request(&self) -> &Request {
        request::get(&self.request)
    }

    /// The status that the client gets.
    fn status(&self, last: &Part) -> u16 {
        self.request().status().unwrap_or(match last.end {
            Some(Outcome::Failed(code)) => code.status(),
            _ => Code::ApplicationRaised.status(),
        })
    }

    fn tally(&self, last: &Part) -> Tally {
        Tally {
            status: self.status(last),
            bytes_in: input::traffic(&self.input).bytes,
            bytes_out: self.request().traffic().bytes,
        }
    }

    /// Tells those who have subscribed that the request starts, if there are any, and returns the
    /// application that they want to answer it.
    fn observe(&self, application: Object<'py>) -> Result<Object<'py>, Failure> {
        if !self.residents.events.wanted(self.py) {
            GilWaits::take(false);
            return Ok(application);
        }
        GilWaits::start();
        input::time(&self.input);
        self.began.set(ProcessorTime::of_this_thread());
        let tell = || {
            let class = self.residents.events.observation.get(self.py);
            let (connects, sent_again) = self.end.job().attempts;
            let [connects, sent_again] = [connects, sent_again].map(|it| count(self.py, it.into()));
            let attempts = Object::tuple(self.py, [connects?, sent_again?])?;
            let data = self.place.data()?;
            let observation = class.call([&application, &self.environ, &data, &attempts])?;
            self.request().observe(&observation);
            observation.attribute(c"take_application")?.call([])
        };
        tell().map_err(|raised| (raised, false))
    }

    /// Where somebody has subscribed: sends the last part, so that the client need not wait for
    /// those who are told then that the request has finished. Otherwise it is the caller's to send.
    fn tell_finished(&self, last: Part) -> Option<Part> {
        let link = self.end.link();
        let say = |last: Part| (!self.request().end_behind(link, &last)).then_some(last);
        let Some(observation) = self.request().take_observation(self.py) else {
            return say(last);
        };
        let status = self.status(&last);
        let finish = environ::seconds_now();
        let used = ProcessorTime::of_this_thread().since(self.began.get());
        let waits = GilWaits::take(true);
        errors::flush_thread(self.py);
        if let Some(last) = say(last) {
            // A request end that has let go does not want to know.
            let _ = self.py.detached(|| link.respond(last));
        }
        let tell = || {
            let py = self.py;
            let traffic = |traffic: Traffic| {
                Object::tuple(
                    py,
                    [
                        count(py, traffic.times)?,
                        count(py, traffic.bytes)?,
                        time(py, traffic.waited)?,
                    ],
                )
            };
            let processor = Object::tuple(py, [time(py, used.user)?, time(py, used.system)?])?;
            let waits = Object::tuple(py, [count(py, waits.count)?, time(py, waits.time)?])?;
            observation.attribute(c"finished")?.call([
                &Object::integer(py, status.into())?,
                &Object::float(py, finish)?,
                &traffic(input::traffic(&self.input))?,
                &traffic(self.request().traffic())?,
                &processor,
                &waits,
            ])
        };
        if let Err(raised) = tell() {
            ignore(self.py, raised);
        }
        None
    }

    /// Calls the application, sends what it returns, and calls `close()` exactly once.
    fn run(&self, application: &Object<'py>) -> Result<Part, Failure> {
        let returned = application
            .call([&self.environ, &self.start_response])
            .map_err(|raised| (raised, self.request().head_sent()))?;
        if let Some(whole) = self.whole(&returned) {
            return whole.map_err(|raised| (raised, false));
        }
        if let Some(file) = self.file(&returned) {
            // What is sent is a descriptor of our own, so this is the end for the application.
            let file = file.map_err(|raised| Exception::take(self.py, raised));
            self.close(&returned);
            return file.map_err(|exception| (exception.restore(), false));
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
            if body.len() + bytes.len() > PIECE {
                return None;
            }
            if length == 1 {
                return Some(self.request().take_head(self.py).map(|head| {
                    let bytes = &bytes[..self.request().allow(bytes.len())];
                    self.request().count(bytes.len());
                    let (body, spool) = self.request().whole(&block, bytes);
                    Part { head, body, spool, end: Some(self.outcome()), ..Part::default() }
                }));
            }
            body.extend_from_slice(bytes);
        }
        Some(self.request().take_head(self.py).map(|head| {
            body.truncate(self.request().allow(body.len()));
            self.request().count(body.len());
            Part { head, body, end: Some(self.outcome()), ..Part::default() }
        }))
    }

    /// The whole response in one part, where the application returned a `wsgi.file_wrapper` of a
    /// regular file and nothing was sent before.
    fn file(&self, returned: &Object<'py>) -> Option<Result<Part, Raised>> {
        if self.request().head_sent() {
            return None;
        }
        let file::Sendable { file, start, length } =
            file::sendable(self.py, self.residents, returned)?;
        Some(self.request().take_head(self.py).map(|mut head| {
            let head_to_send = head.as_mut().expect("nothing was sent before");
            let length = self.request().allow_file(head_to_send, length);
            self.request().count(usize::try_from(length).unwrap_or(usize::MAX));
            let file = (length > 0).then_some(FilePart { file, start, length });
            Part { head, file, end: Some(self.outcome()), ..Part::default() }
        }))
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
            match self.request().send(&block, bytes) {
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
            tell_raised(self.py, self.request().observation(self.py).as_ref(), &exception);
            let header =
                format!("{}: {} raised by close()", Code::ApplicationRaised, exception.class());
            let text = format!("{header}\n{}", exception.traceback().trim_end());
            errors::log(self.py, Some(Arc::clone(self.end.link())), Level::Error, text);
        }
    }

    fn last_part(&self) -> Result<Part, Raised> {
        let head = self.request().take_head(self.py)?;
        Ok(Part { head, end: Some(self.outcome()), ..Part::default() })
    }

    /// Whether as many bytes came as Content-Length promised, where a body is sent at all.
    fn outcome(&self) -> Outcome {
        let log = |code: Code, text: String| {
            errors::log(
                self.py,
                Some(Arc::clone(self.end.link())),
                Level::Error,
                format!(
                    "{code}: the response of script '{}' in application group '{}' {text}",
                    self.end.job().script().path().display(),
                    self.residents.group
                ),
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

/// What a thread has used of the processor.
#[derive(Clone, Copy, Default)]
struct ProcessorTime {
    user: Duration,
    system: Duration,
}

impl ProcessorTime {
    fn of_this_thread() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: it fills the structure, which is valid as zeros as well.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        let duration = |time: libc::timeval| {
            let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
            seconds + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Self { user: duration(usage.ru_utime), system: duration(usage.ru_stime) }
    }

    fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

fn count(py: Attached<'_>, value: u64) -> Result<Object<'_>, Raised> {
    Object::integer(py, i64::try_from(value).unwrap_or(i64::MAX))
}

fn time(py: Attached<'_>, value: Duration) -> Result<Object<'_>, Raised> {
    Object::float(py, value.as_secs_f64())
}
