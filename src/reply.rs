//! What an interpreter thread says to the request thread.
#![forbid(unsafe_code)]

use crate::{Code, Fields, Spool};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::Arc;

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

/// How many bytes of a body are passed on to the client's connection at once while it may be behind, and
/// how large a response may be that is sent in one message. With a head, or what is put around chunks, it
/// is less than httpd's default FlushMaxThreshold, 64 KiB, which is what waits for a client without a
/// thread. A frame between processes has as many, since what is more would be a small write of its own.
pub const PIECE: usize = 56 << 10;

/// A part of the response. A short response is one part with everything in it, which costs one
/// wake-up; a long one is a head with a first block, more blocks, and an end.
#[derive(Debug, Default)]
pub struct Part {
    /// Status and headers; in the first part only.
    pub head: Option<Head>,
    /// Bytes of the body. Unless the response ends here they are to be sent on at once (PEP 3333:
    /// a block may not be delayed).
    pub body: Vec<u8>,
    /// A part of a file that follows those bytes.
    pub file: Option<FilePart>,
    /// What follows all that, by the time that it is sent: more of the body, and the response's end.
    pub spool: Option<Arc<Spool>>,
    /// How it ended; in the last part only.
    pub end: Option<Outcome>,
}

/// Bytes of a file, which are read when they can be sent. The descriptor shares its position with
/// the application's, so it is to be read at places only (`pread`), never from where it stands.
#[derive(Debug)]
pub struct FilePart {
    /// A regular file.
    pub file: File,
    /// Where the part begins.
    pub start: u64,
    /// How long it is; the file may be shorter by the time it is read.
    pub length: u64,
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
    /// Where in a program they come from, if that is known.
    pub source: Option<Source>,
}

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path of the file.
    pub file: String,
    /// The number of the line.
    pub line: u32,
}

impl LogEntry {
    /// Lines of which it does not matter where they come from.
    pub fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), source: None }
    }

    /// Writes the lines without the request they are about, for whom nobody listens any more.
    pub(crate) fn write_alone(self) {
        let file = self.source.as_ref().map(|source| source.file.as_str());
        let line = self.source.as_ref().map(|source| source.line);
        macro_rules! write {
            ($level:ident, $critical:literal) => {
                for text in self.text.lines() {
                    tracing::event!(
                        tracing::Level::$level,
                        critical = $critical,
                        source.file = file,
                        source.line = line,
                        "{text}"
                    );
                }
            };
        }
        match self.level {
            Level::Critical => write!(ERROR, true),
            Level::Error => write!(ERROR, false),
            Level::Warning => write!(WARN, false),
            Level::Info => write!(INFO, false),
            Level::Debug => write!(DEBUG, false),
        }
    }
}

/// Levels of log entries, as httpd's `LogLevel` names them, with the numbers of syslog(3): less is
/// more serious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something that should wake somebody.
    Critical = 2,
    /// A request failed, or the application wrote to `wsgi.errors`.
    Error = 3,
    /// Something to look at.
    Warning = 4,
    /// Life cycle of interpreters and scripts.
    Info = 6,
    /// For developers.
    Debug = 7,
}

/// Up to what level lines are written: the number of the last one that is, where numbers are those
/// of [`Level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verbosity(pub i32);

impl Verbosity {
    /// Whether lines of this level are written.
    pub fn admits(self, level: Level) -> bool {
        level as i32 <= self.0
    }
}

impl Default for Verbosity {
    /// Everything is written.
    fn default() -> Self {
        Self(i32::MAX)
    }
}
