//! How the command speaks: plain text, with colours only on a terminal (anstream looks, and honours
//! `NO_COLOR`).
#![forbid(unsafe_code)]

use crate::failure::Failure;
use anstyle::{AnsiColor, Style};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// Why the command ends.
pub(crate) fn complain(failure: &Failure) {
    anstream::eprintln!("{BAD}manifold:{BAD:#} {failure}");
}

/// What is being done.
pub(crate) fn step(text: &str) {
    anstream::eprintln!("{BOLD}==>{BOLD:#} {text}");
}

/// A line of httpd's logs.
pub(crate) fn log_line(line: &str) {
    let style = style_of(line);
    anstream::eprintln!("{style}{line}{style:#}");
}

/// By the level in `[module:level]`, which an error log has in each line; an access log has none.
fn style_of(line: &str) -> Style {
    let Some((_, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] [")) else {
        return DIM;
    };
    let level = rest.split(']').next().and_then(|label| label.rsplit_once(':'));
    match level.map(|(_, level)| level) {
        Some("emerg" | "alert" | "crit" | "error") => BAD,
        Some("warn") => DOUBTFUL,
        _ => Style::new(),
    }
}
