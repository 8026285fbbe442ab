//! httpd's error log: entries about a request, entries about none, and `tracing` events.
//!
//! `LogLevel` and `LogLevel wsgi:...` decide what is written. Events come from threads that may
//! not call httpd, so they travel over a bounded queue to one thread that does nothing else; what
//! finds the queue full is dropped, counted, and said.

use crate::request::Request;
use crate::wsgi_module;
use crossbeam_channel::{Receiver, Sender, bounded};
use httpd_sys::*;
use manifold::{Code, Events, Level, LogEntry, Sink, Source, Verbosity};
use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

/// How many lines may wait for the log thread.
const QUEUE: usize = 4096;

/// The longest line httpd writes whole, less what it puts before ours.
const LINE_LIMIT: usize = 7 * 1024;

/// The way to the log thread of this child; closed when the child leaves.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    lines: RwLock<Option<Sender<Line>>>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Line {
    level: c_int,
    text: String,
    place: Place,
}

/// What `ErrorLogFormat %F` prints: of an absolute path the file's name only.
struct Place {
    file: CString,
    line: c_int,
}

impl Default for Place {
    fn default() -> Self {
        Self { file: FILE.to_owned(), line: 0 }
    }
}

impl Place {
    fn of(source: &Source) -> Option<Self> {
        let file = CString::new(source.file.as_str()).ok()?;
        Some(Self { file, line: c_int::try_from(source.line).unwrap_or(0) })
    }
}

/// Up to what level lines about a request are written.
pub(crate) fn request_verbosity(r: Request<'_>) -> Verbosity {
    // SAFETY: httpd keeps the request alive for the hook.
    Verbosity(unsafe { ap_get_request_module_loglevel(r.raw(), wsgi_module.index()) })
}

/// Up to what level lines about no request are written.
pub(crate) fn server_verbosity() -> Verbosity {
    // SAFETY: the server record outlives every child's threads, and is only read.
    Verbosity(unsafe { ap_get_server_module_loglevel(ap_server_conf, wsgi_module.index()) })
}

/// Writes an entry of ours about a request, each of its lines by itself.
pub(crate) fn request(r: Request<'_>, level: Level, text: &str) {
    entry(r, &LogEntry::new(level, text));
}

/// Writes an entry about a request, each of its lines by itself.
pub(crate) fn entry(r: Request<'_>, entry: &LogEntry) {
    let LogEntry { level, text, source } = entry;
    let index = wsgi_module.index();
    let place = source.as_ref().and_then(Place::of).unwrap_or_default();
    for line in lines(text) {
        // SAFETY: httpd keeps the request alive for the hook; the format is a literal and the
        // texts are C strings.
        unsafe {
            ap_log_rerror_(
                place.file.as_ptr(),
                place.line,
                index,
                number(*level),
                0,
                r.raw(),
                c"%s".as_ptr(),
                line.as_ptr(),
            );
        }
    }
}

/// Writes an entry about no request. For httpd's own threads.
pub(crate) fn server(level: Level, text: &str) {
    write(&Line { level: number(level), text: text.to_owned(), ..Line::default() });
}

/// Writes an entry about a virtual host. For httpd's own threads.
pub(crate) fn of_server(server: *const server_rec, entry: LogEntry) {
    let place = entry.source.as_ref().and_then(Place::of).unwrap_or_default();
    write_to(server, &Line { level: number(entry.level), text: entry.text, place });
}

/// Starts the log thread of this child, and sends it what `tracing` reports.
pub(crate) fn start() -> Option<JoinHandle<()>> {
    let (sender, receiver) = bounded(QUEUE);
    let log = Log { lines: RwLock::new(Some(sender)), dropped: AtomicU64::new(0) };
    if LOG.set(log).is_err() {
        return None;
    }
    // A second subscriber is refused; there is none in a child that was just forked.
    let _ = tracing::subscriber::set_global_default(Events(LogThread));
    match manifold::spawn("mnf-log".to_owned(), move || write_lines(&receiver)) {
        Ok(thread) => Some(thread),
        Err(error) => {
            server(Level::Error, &format!("{}: no log thread: {error}", Code::LogDropped));
            None
        }
    }
}

/// Lets the log thread write what is queued, and end.
pub(crate) fn close() {
    if let Some(log) = LOG.get() {
        log.lines.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn write_lines(lines: &Receiver<Line>) {
    for line in lines {
        write(&line);
        let dropped = LOG.get().map_or(0, |log| log.dropped.swap(0, Ordering::Relaxed));
        if dropped > 0 {
            let text = format!(
                "{}: {dropped} log lines were dropped; they came too fast",
                Code::LogDropped
            );
            write(&Line { level: number(Level::Warning), text, ..Line::default() });
        }
    }
}

fn write(entry: &Line) {
    // SAFETY: httpd sets it before any child starts, and it stays.
    write_to(unsafe { ap_server_conf }, entry);
}

fn write_to(server: *const server_rec, entry: &Line) {
    let index = wsgi_module.index();
    for line in lines(&entry.text) {
        // SAFETY: the server record outlives every child's threads; the format is a literal and
        // the texts are C strings; ap_log_error may be called on any thread.
        unsafe {
            ap_log_error_(
                entry.place.file.as_ptr(),
                entry.place.line,
                index,
                entry.level,
                0,
                server,
                c"%s".as_ptr(),
                line.as_ptr(),
            );
        }
    }
}

/// The source file of lines that come from nowhere in a program.
const FILE: &std::ffi::CStr = c"mod_manifold";

/// The lines of a text as C strings, none longer than httpd writes.
fn lines(text: &str) -> impl Iterator<Item = CString> {
    text.lines().flat_map(|line| {
        let mut rest = line;
        let mut pieces = Vec::with_capacity(1);
        loop {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(LINE_LIMIT));
            let piece: Vec<u8> = piece.bytes().filter(|byte| *byte != 0).collect();
            pieces.push(CString::new(piece).expect("NUL bytes were removed"));
            if more.is_empty() {
                return pieces;
            }
            rest = more;
        }
    })
}

fn number(level: Level) -> c_int {
    (match level {
        Level::Critical => APLOG_CRIT,
        Level::Error => APLOG_ERR,
        Level::Warning => APLOG_WARNING,
        Level::Info => APLOG_INFO,
        Level::Debug => APLOG_DEBUG,
    }) as c_int
}

/// The log thread, for what `tracing` reports.
struct LogThread;

impl Sink for LogThread {
    fn verbosity(&self) -> Verbosity {
        server_verbosity()
    }

    fn write(&self, entry: LogEntry) {
        let Some(log) = LOG.get() else { return };
        let place = entry.source.as_ref().and_then(Place::of).unwrap_or_default();
        let line = Line { level: number(entry.level), text: entry.text, place };
        let lines = log.lines.read().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*lines else { return };
        if sender.try_send(line).is_err() {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
