//! Lines of a worker process that are about no request: they go to the error log that httpd has handed
//! down as standard error, in the form that httpd's own lines have unless ErrorLogFormat changes it.

use crate::{Events, Level, LogEntry, Sink, Verbosity};
use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest line.
const LINE_LIMIT: usize = 7 * 1024;

struct StandardError(Verbosity);

/// Sends what `tracing` reports to standard error.
pub(crate) fn start(verbosity: Verbosity) {
    // There is no other in a process that has just begun.
    let _ = tracing::subscriber::set_global_default(Events(StandardError(verbosity)));
}

impl Sink for StandardError {
    fn verbosity(&self) -> Verbosity {
        self.0
    }

    fn write(&self, entry: LogEntry) {
        let name = match entry.level {
            Level::Critical => "crit",
            Level::Error => "error",
            Level::Warning => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let (process, thread) = (std::process::id(), thread_id());
        let mut text = String::new();
        for line in entry.text.lines() {
            let (line, _) = line.split_at(line.floor_char_boundary(LINE_LIMIT));
            let time = time();
            writeln!(text, "[{time}] [wsgi:{name}] [pid {process}:tid {thread}] {line}")
                .expect("a String takes all that is written");
        }
        // Whole lines in one piece. Nobody can be told that there is no log.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// The local time as in `Thu Nov 26 14:36:12.065076 2026`.
fn time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or(0);
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both places are ours; it fills the second.
    unsafe { libc::localtime_r(&raw const seconds, local.as_mut_ptr()) };
    // SAFETY: zeroed is a valid value, and it was filled where that could be done.
    let local = unsafe { local.assume_init() };
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let named = |names: &'static [&'static str], number: i32| {
        usize::try_from(number).ok().and_then(|number| names.get(number)).copied().unwrap_or("???")
    };
    format!(
        "{} {} {:02} {:02}:{:02}:{:02}.{:06} {}",
        named(&DAYS, local.tm_wday),
        named(&MONTHS, local.tm_mon),
        local.tm_mday,
        local.tm_hour,
        local.tm_min,
        local.tm_sec,
        now.subsec_micros(),
        local.tm_year + 1900
    )
}
