//! The frames between a process of the web server and a worker process: what they look like as bytes.
//!
//! A frame is a length (four bytes, the least significant first), a kind (one byte), and a content of
//! that length. Lengths inside a content are four bytes as well. Nothing is taken on trust: a frame
//! that is too long, cut off, of an unknown kind, or with something left over is refused as a whole,
//! and the connection with it.
//!
//! ```text
//! server                          worker
//!   │ Hello ──────────────────────► │   once: the version, and the secret of this worker
//!   │ ◄──────────────────── Welcome │         or Refused, in words
//!   │ Request ────────────────────► │   one at a time
//!   │ ◄─────────── Ask, Log, Part │
//!   │ Answer ─────────────────────► │   to each Ask
//!   │ ◄──────── a last Part, Failed │
//!   │ ◄───────────────────── Goaway │   at any time outside of a request that has started
//! ```
#![forbid(unsafe_code)]

use crate::{
    Ahead, Answer, Code, Fields, FilePart, GroupName, Head, Job, Level, LogEntry, Outcome, Part,
    Refusal, Reload, Reply, Script, Source, Task, Timeout, Verbosity,
};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Changes with every change of a frame or of what a worker process is told at its start.
pub(crate) const PROTOCOL: u32 = 1;

/// The longest content of a frame.
pub(crate) const LONGEST: usize = 16 << 20;

/// What stands before a content.
pub(crate) const HEADER: usize = 5;

/// Proves that a connection comes from the web server that has started the worker process.
pub(crate) type Secret = [u8; 32];

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

const HELLO: u8 = 1;
const REQUEST: u8 = 2;
const ANSWER: u8 = 3;
const WELCOME: u8 = 16;
const REFUSED: u8 = 17;
const GOAWAY: u8 = 18;
const ASK: u8 = 19;
const LOG: u8 = 20;
const PART: u8 = 21;
const FAILED: u8 = 22;

/// Reads what stands before a content, which may have `longest` bytes: its length and its kind.
pub(crate) fn header(bytes: [u8; HEADER], longest: usize) -> Result<(usize, u8)> {
    let [a, b, c, d, kind] = bytes;
    match u32::from_le_bytes([a, b, c, d]) as usize {
        length if length <= longest => Ok((length, kind)),
        _ => Err(Malformed("it is too long")),
    }
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromServer {
    /// First of all.
    Hello(Secret),
    /// The same of another version, whose first number is that of its protocol as well.
    OtherProtocol(u32),
    /// A request for this application group; it was written into the job.
    Request(GroupName),
    /// To [`Reply::Ask`].
    Answer(Answer),
}

/// What a worker process says.
#[derive(Debug)]
pub(crate) enum FromWorker {
    /// The server is known.
    Welcome,
    /// It is not, for this reason.
    Refused(String),
    /// No request is taken on this connection any more; one that was sent has not started.
    Goaway,
    /// The application says something.
    Reply(Reply),
    /// The request cannot be answered by the application any more.
    Failed(Refusal),
}

/// Appends a frame of that kind, whose content `write` appends. Where it would be too long nothing is.
fn frame(to: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let start = to.len();
    to.extend_from_slice(&[0, 0, 0, 0, kind]);
    write(to);
    let length = to.len() - start - HEADER;
    if length > LONGEST {
        to.truncate(start);
        return Err(Malformed("it would be too long"));
    }
    to[start..start + 4].copy_from_slice(&small(length));
    Ok(())
}

pub(crate) fn hello(to: &mut Vec<u8>, secret: &Secret) {
    let written = frame(to, HELLO, |to| {
        to.extend_from_slice(&PROTOCOL.to_le_bytes());
        to.extend_from_slice(secret);
    });
    written.expect("it is short");
}

/// Says in the frame of a request how often it was tried: see [`Job::attempts`].
pub(crate) fn set_attempts(frame: &mut [u8], (connects, sent_again): (u32, u32)) {
    let [first, second] = [connects, sent_again].map(u32::to_le_bytes);
    if let Some(place) = frame.get_mut(HEADER..HEADER + 8) {
        place[..4].copy_from_slice(&first);
        place[4..].copy_from_slice(&second);
    }
}

/// # Errors
///
/// The request is too long for a frame.
pub(crate) fn request(to: &mut Vec<u8>, group: &GroupName, job: &Job) -> Result<()> {
    debug_assert_eq!(job.task, Task::Serve, "hook scripts run in the server");
    frame(to, REQUEST, |to| {
        to.extend_from_slice(&job.attempts.0.to_le_bytes());
        to.extend_from_slice(&job.attempts.1.to_le_bytes());
        text(to, group.as_bytes());
        let script = job.script();
        text(to, script.path_bytes());
        text(to, script.callable().to_bytes());
        text(to, script.module().to_bytes());
        to.push(match job.reload {
            Reload::Never => 0,
            Reload::Module => 1,
            Reload::Interpreter => 2,
            Reload::Process => 3,
        });
        match job.script_modified {
            None => to.push(0),
            Some(modified) => {
                to.push(1);
                to.extend_from_slice(&modified.to_le_bytes());
            }
        }
        match job.timeout {
            None => to.push(0),
            Some(Timeout { limit, grace }) => {
                to.push(1);
                duration(to, limit);
                duration(to, grace);
            }
        }
        to.push(job.https.into());
        to.extend_from_slice(&job.received.to_le_bytes());
        to.extend_from_slice(&job.handed_over.0.to_le_bytes());
        to.push(job.is_idle_talk.into());
        to.extend_from_slice(&job.verbosity.0.to_le_bytes());
        fields(to, &job.variables);
        let ahead = job.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        to.push(ahead.last.into());
        text(to, &ahead.bytes);
    })
}

/// # Errors
///
/// More bytes than a frame holds.
pub(crate) fn answer(to: &mut Vec<u8>, answer: &Answer) -> Result<()> {
    frame(to, ANSWER, |to| match answer {
        Answer::Body { bytes, last } => {
            to.push(if *last { 1 } else { 0 });
            to.extend_from_slice(bytes);
        }
        Answer::Failed => to.push(2),
        Answer::Variable(None) => to.push(3),
        Answer::Variable(Some(value)) => {
            to.push(4);
            to.extend_from_slice(value);
        }
    })
}

pub(crate) fn welcome(to: &mut Vec<u8>) {
    frame(to, WELCOME, |_| {}).expect("it is empty");
}

pub(crate) fn refused(to: &mut Vec<u8>, why: &str) {
    frame(to, REFUSED, |to| to.extend_from_slice(why.as_bytes())).expect("it is short");
}

pub(crate) fn goaway(to: &mut Vec<u8>) {
    frame(to, GOAWAY, |_| {}).expect("it is empty");
}

pub(crate) fn ask(to: &mut Vec<u8>, at_least: usize, at_most: usize) {
    let written = frame(to, ASK, |to| {
        // More is never answered than a frame holds.
        to.extend_from_slice(&small(at_least.min(LONGEST / 2)));
        to.extend_from_slice(&small(at_most.min(LONGEST / 2)));
    });
    written.expect("it is short");
}

/// Lines for the log; of very long ones what a frame holds.
pub(crate) fn log(to: &mut Vec<u8>, entry: &LogEntry) {
    let mut end = entry.text.len().min(LONGEST / 2);
    while !entry.text.is_char_boundary(end) {
        end -= 1;
    }
    let written = frame(to, LOG, |to| {
        to.push(entry.level as u8);
        match entry.source.as_ref().filter(|source| source.file.len() < LONGEST / 4) {
            None => to.push(0),
            Some(Source { file, line }) => {
                to.push(1);
                text(to, file.as_bytes());
                to.extend_from_slice(&line.to_le_bytes());
            }
        }
        to.extend_from_slice(&entry.text.as_bytes()[..end]);
    });
    written.expect("its parts are bounded");
}

/// A part of a response: its head, these bytes, so many bytes of a file from some place, and its end.
/// The file goes along as a descriptor. A spool is not part of it.
///
/// # Errors
///
/// The head is too long for a frame.
pub(crate) fn part<'a>(
    to: &mut Vec<u8>,
    head: Option<&Head>,
    body: impl IntoIterator<Item = &'a [u8]>,
    file: Option<(u64, u64)>,
    end: Option<Outcome>,
) -> Result<()> {
    frame(to, PART, |to| {
        match end {
            None => to.push(0),
            Some(Outcome::Complete) => to.push(1),
            Some(Outcome::Truncated) => to.push(2),
            Some(Outcome::Failed(code)) => {
                to.push(3);
                to.extend_from_slice(&(code as u16).to_le_bytes());
            }
        }
        match head {
            None => to.push(0),
            Some(Head { status, status_line, headers, content_length }) => {
                to.push(1);
                to.extend_from_slice(&status.to_le_bytes());
                text(to, status_line);
                match content_length {
                    None => to.push(0),
                    Some(length) => {
                        to.push(1);
                        to.extend_from_slice(&length.to_le_bytes());
                    }
                }
                fields(to, headers);
            }
        }
        match file {
            None => to.push(0),
            Some((start, length)) => {
                to.push(1);
                to.extend_from_slice(&start.to_le_bytes());
                to.extend_from_slice(&length.to_le_bytes());
            }
        }
        body.into_iter().for_each(|bytes| to.extend_from_slice(bytes));
    })
}

pub(crate) fn failed(to: &mut Vec<u8>, refusal: &Refusal) {
    let written = frame(to, FAILED, |to| {
        to.extend_from_slice(&(refusal.code as u16).to_le_bytes());
        to.extend_from_slice(refusal.detail().as_bytes());
    });
    written.expect("refusals are short");
}

/// Reads a frame that the server has sent; a request is written into `job`, which was cleared.
pub(crate) fn from_server(kind: u8, content: &[u8], job: &mut Job) -> Result<FromServer> {
    let mut rest = Rest(content);
    let frame = match kind {
        HELLO => match rest.number()? {
            PROTOCOL => FromServer::Hello(*rest.chunk()?),
            other => {
                rest.take_all();
                FromServer::OtherProtocol(other)
            }
        },
        REQUEST => FromServer::Request(read_request(&mut rest, job)?),
        ANSWER => FromServer::Answer(match rest.byte()? {
            last @ (0 | 1) => Answer::Body { bytes: rest.take_all().to_vec(), last: last == 1 },
            2 => Answer::Failed,
            3 => Answer::Variable(None),
            4 => Answer::Variable(Some(rest.take_all().to_vec())),
            _ => return Err(Malformed("its answer is of an unknown kind")),
        }),
        _ => return Err(Malformed("the server sends none of that kind")),
    };
    rest.finish()?;
    Ok(frame)
}

fn read_request(rest: &mut Rest<'_>, job: &mut Job) -> Result<GroupName> {
    job.attempts = (u32::from_le_bytes(*rest.chunk()?), u32::from_le_bytes(*rest.chunk()?));
    let group = GroupName::new(rest.text()?);
    let (path, callable, module) = (rest.text()?, rest.text()?, rest.text()?);
    if !job.script.as_ref().is_some_and(|script| script.is_of(path, callable, module)) {
        let script = Script::from_parts(path, callable, module);
        job.script = Some(Arc::new(script.map_err(|_| Malformed("its script has a NUL"))?));
    }
    job.reload = match rest.byte()? {
        0 => Reload::Never,
        1 => Reload::Module,
        2 => Reload::Interpreter,
        3 => Reload::Process,
        _ => return Err(Malformed("it reloads in an unknown way")),
    };
    if rest.flag()? {
        job.script_modified = Some(i64::from_le_bytes(*rest.chunk()?));
    }
    if rest.flag()? {
        job.timeout = Some(Timeout { limit: rest.duration()?, grace: rest.duration()? });
    }
    job.https = rest.flag()?;
    job.received = i64::from_le_bytes(*rest.chunk()?);
    job.handed_over.0 = i64::from_le_bytes(*rest.chunk()?);
    job.is_idle_talk = rest.flag()?;
    job.verbosity = Verbosity(i32::from_le_bytes(*rest.chunk()?));
    rest.fields(&mut job.variables)?;
    let ahead = job.ahead.get_mut().unwrap_or_else(PoisonError::into_inner);
    ahead.last = rest.flag()?;
    let bytes = rest.text()?;
    if bytes.len() > Ahead::LIMIT {
        return Err(Malformed("more of its body goes with it than may"));
    }
    ahead.bytes.extend_from_slice(bytes);
    Ok(group)
}

/// Whether a frame is a part of a response with neither a head nor a file, that fails in no way.
pub(crate) fn is_bytes(kind: u8, content: &[u8]) -> bool {
    kind == PART && matches!(content, [0..=2, 0, 0, ..])
}

/// Reads a frame that a worker process has sent; a file is taken from `descriptors`.
pub(crate) fn from_worker(
    kind: u8,
    content: &[u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> Result<FromWorker> {
    let mut rest = Rest(content);
    let frame = match kind {
        WELCOME => FromWorker::Welcome,
        REFUSED => FromWorker::Refused(rest.take_words()),
        GOAWAY => FromWorker::Goaway,
        ASK => FromWorker::Reply(Reply::Ask {
            at_least: rest.size(LONGEST / 2)?,
            at_most: rest.size(LONGEST / 2)?,
        }),
        LOG => FromWorker::Reply(Reply::Log(LogEntry {
            level: match rest.byte()? {
                2 => Level::Critical,
                3 => Level::Error,
                4 => Level::Warning,
                6 => Level::Info,
                7 => Level::Debug,
                _ => return Err(Malformed("its level is unknown")),
            },
            source: match rest.flag()? {
                false => None,
                true => Some(Source {
                    file: String::from_utf8_lossy(rest.text()?).into_owned(),
                    line: rest.number()?,
                }),
            },
            text: rest.take_words(),
        })),
        PART => FromWorker::Reply(Reply::Response(read_part(&mut rest, descriptors)?)),
        FAILED => FromWorker::Failed(Refusal::new(rest.code()?, rest.take_words())),
        _ => return Err(Malformed("a worker process sends none of that kind")),
    };
    rest.finish()?;
    Ok(frame)
}

fn read_part(rest: &mut Rest<'_>, descriptors: &mut VecDeque<OwnedFd>) -> Result<Part> {
    let end = match rest.byte()? {
        0 => None,
        1 => Some(Outcome::Complete),
        2 => Some(Outcome::Truncated),
        3 => Some(Outcome::Failed(rest.code()?)),
        _ => return Err(Malformed("its end is of an unknown kind")),
    };
    let head = match rest.flag()? {
        false => None,
        true => Some(read_head(rest)?),
    };
    let file = match rest.flag()? {
        false => None,
        true => Some(read_file(rest, descriptors)?),
    };
    Ok(Part { head, body: rest.take_all().to_vec(), file, end, ..Part::default() })
}

fn read_file(rest: &mut Rest<'_>, descriptors: &mut VecDeque<OwnedFd>) -> Result<FilePart> {
    let [start, length] = [*rest.chunk()?, *rest.chunk()?].map(u64::from_le_bytes);
    let file = File::from(descriptors.pop_front().ok_or(Malformed("its file did not come"))?);
    // Reading from anything else could wait for ever.
    if !file.metadata().is_ok_and(|file| file.is_file()) {
        return Err(Malformed("its file is none"));
    }
    start.checked_add(length).ok_or(Malformed("its file is longer than any"))?;
    Ok(FilePart { file, start, length })
}

fn read_head(rest: &mut Rest<'_>) -> Result<Head> {
    let status = u16::from_le_bytes(*rest.chunk()?);
    if !(200..1000).contains(&status) {
        return Err(Malformed("its status is none"));
    }
    let status_line = rest.text()?.to_vec();
    let content_length = match rest.flag()? {
        false => None,
        true => Some(u64::from_le_bytes(*rest.chunk()?)),
    };
    let mut headers = Fields::default();
    rest.fields(&mut headers)?;
    let is_line = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if !is_line(&status_line)
        || !headers.iter().all(|(name, value)| is_line(name) && is_line(value))
    {
        return Err(Malformed("a line of its head breaks"));
    }
    Ok(Head { status, status_line, headers, content_length })
}

fn small(number: usize) -> [u8; 4] {
    // What does not fit makes a frame that is too long anyway.
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&small(text.len()));
    to.extend_from_slice(text);
}

fn duration(to: &mut Vec<u8>, duration: Duration) {
    to.extend_from_slice(&u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).to_le_bytes());
}

fn fields(to: &mut Vec<u8>, fields: &Fields) {
    to.extend_from_slice(&small(fields.iter().len()));
    for (name, value) in fields.iter() {
        text(to, name);
        text(to, value);
    }
}

/// What is left of a content.
struct Rest<'a>(&'a [u8]);

const CUT_OFF: Malformed = Malformed("it is cut off");

impl<'a> Rest<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(chunk)
    }

    fn byte(&mut self) -> Result<u8> {
        self.chunk().map(|[byte]| *byte)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither on nor off")),
        }
    }

    fn number(&mut self) -> Result<u32> {
        self.chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn size(&mut self, limit: usize) -> Result<usize> {
        match self.number()? as usize {
            size if size <= limit => Ok(size),
            _ => Err(Malformed("it asks for too much")),
        }
    }

    fn duration(&mut self) -> Result<Duration> {
        self.chunk().map(|bytes| Duration::from_micros(u64::from_le_bytes(*bytes)))
    }

    fn code(&mut self) -> Result<Code> {
        let number = u16::from_le_bytes(*self.chunk()?);
        let known = Code::ALL.iter().copied().find(|code| *code as u16 == number);
        known.ok_or(Malformed("its code is unknown"))
    }

    fn text(&mut self) -> Result<&'a [u8]> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(text)
    }

    fn fields(&mut self, fields: &mut Fields) -> Result<()> {
        for _ in 0..self.number()? {
            fields.push(self.text()?, self.text()?);
        }
        Ok(())
    }

    fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn take_words(&mut self) -> String {
        String::from_utf8_lossy(self.take_all()).into_owned()
    }

    fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("it goes on behind its end")) }
    }
}
