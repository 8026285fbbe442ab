//! `tracing` events as lines for a log.
#![forbid(unsafe_code)]

use crate::{Level, LogEntry, Source, Verbosity};
use std::fmt::Write;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Where lines go that are about no request.
pub trait Sink: Send + Sync + 'static {
    /// Up to what level they are written.
    fn verbosity(&self) -> Verbosity;

    /// Writes some. It may be called on any thread.
    fn write(&self, entry: LogEntry);
}

/// Sends what `tracing` reports to a sink.
#[derive(Debug)]
pub struct Events<S>(pub S);

impl<S: Sink> Subscriber for Events<S> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What `tracing` calls an error may be critical; it is looked once more below.
        let level = level_of(metadata.level()).map(|level| match level {
            Level::Error => Level::Critical,
            level => level,
        });
        level.is_some_and(|level| self.0.verbosity().admits(level))
    }

    fn event(&self, event: &Event<'_>) {
        let Some(level) = level_of(event.metadata().level()) else { return };
        let mut line = LineBuilder { entry: LogEntry::new(level, ""), fields: String::new() };
        event.record(&mut line);
        let LineBuilder { mut entry, fields } = line;
        entry.text.push_str(&fields);
        if self.0.verbosity().admits(entry.level) {
            self.0.write(entry);
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

fn level_of(level: &tracing::Level) -> Option<Level> {
    match *level {
        tracing::Level::ERROR => Some(Level::Error),
        tracing::Level::WARN => Some(Level::Warning),
        tracing::Level::INFO => Some(Level::Info),
        tracing::Level::DEBUG => Some(Level::Debug),
        tracing::Level::TRACE => None,
    }
}

/// An event as one line: its message, then its fields as `key=value`.
struct LineBuilder {
    entry: LogEntry,
    fields: String,
}

impl Visit for LineBuilder {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.entry.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a String takes all that is written");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "source.file" => {
                self.entry.source = Some(Source { file: value.to_owned(), line: 0 });
            }
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match (field.name(), &mut self.entry.source) {
            ("source.line", Some(source)) => source.line = u32::try_from(value).unwrap_or(0),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match (field.name(), value) {
            // `tracing` has no level above error.
            ("critical", true) => self.entry.level = Level::Critical,
            ("critical", false) => {}
            _ => self.record_debug(field, &value),
        }
    }
}
