//! WSGITelemetryService and WSGITelemetryOptions: their grammar, and what takes their place.

use super::Directive;
use super::runtime::parse;
use super::words::OptionWord;

/// What to use instead.
const INSTEAD: &str = "is read, but there is no telemetry socket here: use WSGISlowRequests, the events \
                       of the mod_wsgi module, or mod_status";

/// The options that telemetry has.
const FLAG: &[u8] = b"CaptureUserAgent";

/// `WSGITelemetryService unix:/path [interval=seconds]`.
pub(super) fn service(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.required("address of the service")?;
    let path = word.strip_prefix(b"unix:");
    if !path.is_some_and(|path| path.starts_with(b"/")) {
        return Err(directive.refuse(&word, "unix: and the absolute path of a socket"));
    }
    while let Some(option) = directive.words.option() {
        let value = match option {
            OptionWord::Pair(name, value) if name == b"interval" => value,
            OptionWord::Pair(word, _) | OptionWord::Invalid(word) => {
                return Err(directive.refuse(&word, "an option; accepted is interval="));
            }
        };
        if !parse::<f64>(&value).is_some_and(|seconds| seconds.is_finite() && seconds >= 0.5) {
            return Err(directive.refuse(&value, "a number of seconds, 0.5 or more (interval=)"));
        }
    }
    directive.note(INSTEAD);
    Ok(())
}

/// `WSGITelemetryOptions [+|-]flag ...|None|All`.
pub(super) fn options(directive: &mut Directive<'_>) -> Result<(), String> {
    let accepted = "CaptureUserAgent, None or All";
    let first = directive.required("options")?;
    let is_signed = |word: &[u8]| matches!(word.first(), Some(b'+' | b'-'));
    let signed = is_signed(&first);
    let mut count = 0;
    let mut whole = false;
    let mut next = Some(first);
    while let Some(word) = next {
        if is_signed(&word) != signed {
            let what = format!(
                "{}: '{}' mixes options with + or - and options without; use one form",
                directive.name,
                String::from_utf8_lossy(&word)
            );
            return Err(what);
        }
        match if signed { &word[1..] } else { &word[..] } {
            b"" => {
                return Err(directive
                    .refuse(&word, &format!("an option; a name follows the sign, {accepted}")));
            }
            name if name.eq_ignore_ascii_case(FLAG) => {}
            name if !signed && is_whole(name) => whole = true,
            _ => {
                return Err(directive.refuse(&word, &format!("an option; accepted are {accepted}")));
            }
        }
        count += 1;
        next = directive.words.word();
    }
    if whole && count > 1 {
        return Err(format!("{}: None and All stand alone", directive.name));
    }
    directive.note(INSTEAD);
    Ok(())
}

fn is_whole(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"None") || name.eq_ignore_ascii_case(b"All")
}
