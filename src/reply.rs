//! What an interpreter thread says to the request thread.
#![forbid(unsafe_code)]

use crate::{Code, Fields};

/// One message of the conversation about a request, from its application.
#[derive(Debug)]
pub enum Reply {
    /// The application waits for bytes of the request body.
    Ask {
        /// Answer when this many bytes are there, or at the body's end; at once where it is 0.
        at_least: usize,
        /// Never answer with more.
        at_most: usize,
    },
    /// A hook script waits for the value of a variable of the encrypted connection.
    AskVariable(Vec<u8>),
    /// Lines for the error log, about this request.
    Log(LogEntry),
    /// The next part of the response.
    Response(Part),
    /// What the functions of a hook script returned, in the order they were called; nothing more
    /// comes.
    Returned(Vec<Value>),
}

/// What a function of a hook script returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `None`, or there is no such function and need not be.
    None,
    /// `True` or `False`, not what merely counts as one.
    Bool(bool),
    /// A `str`, one byte for each character.
    Text(Vec<u8>),
    /// A `bytes`.
    Bytes(Vec<u8>),
    /// The names of an iterable, where one was asked for.
    Names(Vec<Vec<u8>>),
    /// Something else, described for the log.
    Other(String),
}

impl Value {
    /// What it is, for the log: its type and never its content.
    pub fn describe(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Bool(true) => "True",
            Self::Bool(false) => "False",
            Self::Text(text) if text.is_empty() => "an empty str",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Names(_) => "names",
            Self::Other(what) => what,
        }
    }
}

/// A part of the response. A short response is one part with everything in it, which costs one
/// wake-up; a long one is a head with a first block, more blocks, and an end.
#[derive(Debug, Default)]
pub struct Part {
    /// Status and headers; in the first part only.
    pub head: Option<Head>,
    /// Bytes of the body. Unless the response ends here they are to be sent on at once (PEP 3333:
    /// a block may not be delayed).
    pub body: Vec<u8>,
    /// How it ended; in the last part only.
    pub end: Option<Outcome>,
}

/// Status and headers of a response, as the application gave them, checked (see [`crate::header`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code, 200 to 999.
    pub status: u16,
    /// Code and reason, as in `404 Not Found`.
    pub status_line: Vec<u8>,
    /// All headers in their order, duplicates kept. The bytes are ISO-8859-1.
    pub headers: Fields,
    /// The value of the Content-Length header, if there is one.
    pub content_length: Option<u64>,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was sent.
    Complete,
    /// Nothing was sent: the client should get an error page with the code's status.
    Failed(Code),
    /// The head was sent and the rest cannot be: the client must be able to see that.
    Truncated,
}

/// Lines for the error log.
#[derive(Debug)]
pub struct LogEntry {
    /// How serious they are.
    pub level: Level,
    /// One or more lines, separated by line feeds.
    pub text: String,
}

impl LogEntry {
    /// Writes the lines without the request they are about, for whom nobody listens any more.
    pub(crate) fn write_alone(self) {
        for line in self.text.lines() {
            match self.level {
                Level::Error => tracing::error!("{line}"),
                Level::Warning => tracing::warn!("{line}"),
                Level::Info => tracing::info!("{line}"),
                Level::Debug => tracing::debug!("{line}"),
            }
        }
    }
}

/// Levels of log entries, as httpd's `LogLevel` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A request failed, or the application wrote to `wsgi.errors`.
    Error,
    /// Something to look at.
    Warning,
    /// Life cycle of interpreters and scripts.
    Info,
    /// For developers.
    Debug,
}
