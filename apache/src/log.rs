//! httpd's error log: entries about a request, entries about none, and `tracing` events.
//!
//! `LogLevel` and `LogLevel wsgi:...` decide what is written. Events come from threads that may
//! not call httpd, so they travel over a bounded queue to one thread that does nothing else; what
//! finds the queue full is dropped, counted, and said.

use crate::request::Request;
use crate::wsgi_module;
use crossbeam_channel::{Receiver, Sender, bounded};
use httpd_sys::*;
use manifold::{Code, Level, LogEntry, Source, Verbosity};
use std::ffi::{CString, c_int};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

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
    let _ = tracing::subscriber::set_global_default(Events);
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

/// Sends `tracing` events to the log thread.
struct Events;

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What `tracing` calls an error may be critical; httpd looks once more.
        let level = event_level(metadata.level());
        let level = if level == number(Level::Error) { number(Level::Critical) } else { level };
        level <= server_verbosity().0
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let mut line =
            LineBuilder { level: event_level(event.metadata().level()), ..LineBuilder::default() };
        event.record(&mut line);
        line.text.push_str(&line.fields);
        let place = line.source.as_ref().and_then(Place::of).unwrap_or_default();
        let lines = log.lines.read().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*lines else { return };
        if sender.try_send(Line { level: line.level, text: line.text, place }).is_err() {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // Spans are not used: what a line is about stands in the line.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn event_level(level: &tracing::Level) -> c_int {
    match *level {
        tracing::Level::ERROR => number(Level::Error),
        tracing::Level::WARN => number(Level::Warning),
        tracing::Level::INFO => number(Level::Info),
        tracing::Level::DEBUG => number(Level::Debug),
        tracing::Level::TRACE => APLOG_TRACE1 as c_int,
    }
}

/// An event as one line: its message, then its fields as `key=value`.
#[derive(Default)]
struct LineBuilder {
    level: c_int,
    text: String,
    fields: String,
    source: Option<Source>,
}

impl Visit for LineBuilder {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a String takes all that is written");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "source.file" => self.source = Some(Source { file: value.to_owned(), line: 0 }),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match (field.name(), &mut self.source) {
            ("source.line", Some(source)) => source.line = u32::try_from(value).unwrap_or(0),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match (field.name(), value) {
            // `tracing` has no level above error.
            ("critical", true) => self.level = APLOG_CRIT as c_int,
            ("critical", false) => {}
            _ => self.record_debug(field, &value),
        }
    }
}
