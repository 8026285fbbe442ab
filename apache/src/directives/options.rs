//! What is said about interpreters: for all of them at the top, and for some in
//! `<WSGIInterpreterOptions>`. A directive that may stand in both is one function here.

use super::process::os_paths;
use super::runtime::parse;
use super::words::{OptionWord, Words};
use super::{Directive, parse_on_off, refusal};
use crate::config::{ScopedOptions, SpokenOptions};
use crate::selectors::GroupRule;
use httpd_sys::ap_directive_t;
use manifold::{GroupName, OwnGil};
use std::ffi::CStr;
use std::num::{NonZeroU64, NonZeroUsize};

/// More than any machine has processors.
pub(super) const MOST_REPLICAS: usize = 1024;

/// What sets an option, of what stands behind its directive.
type Set = fn(&mut SpokenOptions, &str, Words<'_>) -> Result<(), String>;

/// The directives that may stand in a block.
const INSIDE: [(&str, Set); 10] = [
    ("WSGIPerInterpreterGIL", own_gil),
    ("WSGIReplicas", replicas),
    ("WSGIInterpreterMaximumRequests", maximum_requests),
    ("WSGIFreeThreading", free_threading),
    ("WSGISwitchInterval", switch_interval),
    ("WSGIPythonPath", python_path),
    ("WSGIQueueLimit", queue_limit),
    ("WSGIRestrictStdin", restrict_stdin),
    ("WSGIRestrictStdout", restrict_stdout),
    ("WSGIRestrictSignal", restrict_signal),
];

/// One of them at the top.
pub(super) fn for_all(directive: &mut Directive<'_>) -> Result<(), String> {
    let (_, set) =
        INSIDE.iter().find(|(name, _)| *name == directive.name).expect("a row of INSIDE");
    let (name, words) = (directive.name, Words::new(directive.words.take_rest()));
    let options = &mut directive.server().python.options;
    set(options, name, words)?;
    if options.free_threading == Some(true) && name == "WSGIFreeThreading" {
        directive.note(NOT_FREE);
    }
    Ok(())
}

const NOT_FREE: &str = "has no effect: this Python is no free-threaded build; each application group \
                        has an interpreter with a GIL of its own instead";

/// `<WSGIInterpreterOptions [process-group=name] [application-group=name]>`.
pub(super) fn block(directive: &mut Directive<'_>) -> Result<(), String> {
    let line = directive.words.take_rest().trim_ascii_end();
    let Some(line) = line.strip_suffix(b">") else {
        return Err(format!("<{}: the closing '>' is missing", directive.name));
    };
    let mut block = selectors(directive, line)?;
    // SAFETY: httpd's parameters are live for the call, and so is the tree of directives.
    let mut child = unsafe { (*(*directive.parameters).directive).first_child };
    while !child.is_null() {
        // SAFETY: see above.
        let inner = unsafe { &*child };
        if let Err(refusal) = set_inside(directive, &mut block, inner) {
            // So that the message names this line, and not that of the block.
            // SAFETY: see above; httpd reads it when the directive has returned.
            unsafe { (*directive.parameters).err_directive = child };
            return Err(refusal);
        }
        child = inner.next;
    }
    directive.server().python.blocks.push(block);
    Ok(())
}

fn selectors(directive: &Directive<'_>, line: &[u8]) -> Result<ScopedOptions, String> {
    let accepted = "process-group=name and application-group=name";
    let mut block = ScopedOptions::default();
    let mut words = Words::new(line);
    while let Some(option) = words.option() {
        let (name, value) = match option {
            OptionWord::Pair(name, value) => (name, value),
            OptionWord::Invalid(word) => {
                let what = format!("a selector (name=value); accepted are {accepted}");
                return Err(directive.refuse(&word, &what));
            }
        };
        let selector = match name.to_ascii_lowercase().as_slice() {
            b"process-group" => &mut block.process_group,
            b"application-group" => &mut block.application_group,
            _ => {
                return Err(
                    directive.refuse(&name, &format!("a selector; accepted are {accepted}"))
                );
            }
        };
        let shown = String::from_utf8_lossy(&name);
        if value.is_empty() {
            return Err(format!("{}: {shown}= is empty; it needs a name", directive.name));
        }
        if selector.is_some() {
            return Err(format!("{}: {shown}= is there twice", directive.name));
        }
        *selector = Some(match GroupRule::parse(&value) {
            GroupRule::Fixed(name) => name,
            // Another form has no request here to be about: it is a name.
            _ => GroupName::new(&value),
        });
    }
    Ok(block)
}

/// Carries out a directive inside a block.
fn set_inside(
    directive: &mut Directive<'_>,
    block: &mut ScopedOptions,
    inner: &ap_directive_t,
) -> Result<(), String> {
    // SAFETY: httpd keeps a directive's name and arguments as C strings.
    let given = unsafe { CStr::from_ptr(inner.directive) }.to_string_lossy();
    // SAFETY: see above.
    let arguments = unsafe { CStr::from_ptr(inner.args) }.to_bytes();
    let known = INSIDE.iter().find(|(name, _)| name.eq_ignore_ascii_case(&given));
    let Some((name, set)) = known else {
        let accepted = INSIDE.map(|(name, _)| name).join(", ");
        return Err(format!(
            "{given} is not accepted in <{}>; accepted are {accepted}",
            directive.name
        ));
    };
    set(&mut block.options, name, Words::new(arguments))?;
    if *name == "WSGIFreeThreading" && block.options.free_threading == Some(true) {
        let what = if block.application_group.is_some() {
            "in a block with application-group= is ignored: it is about whole processes"
        } else {
            NOT_FREE
        };
        directive.note_about(name, what);
    }
    Ok(())
}

/// `WSGIPerInterpreterGIL On|Off|Auto`: whether a sub-interpreter has a GIL of its own.
fn own_gil(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    let word = words.only(name, "value")?;
    options.own_gil = Some(match word.to_ascii_lowercase().as_slice() {
        b"auto" => OwnGil::Auto,
        b"on" => OwnGil::On,
        b"off" => OwnGil::Off,
        _ => return Err(refusal(name, &word, "On, Off or Auto")),
    });
    Ok(())
}

/// `WSGIReplicas number|Auto`: how many interpreters serve an application group.
fn replicas(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    let word = words.only(name, "number")?;
    let number = match word.eq_ignore_ascii_case(b"auto") {
        true => Some(processors()),
        false => parse::<NonZeroUsize>(&word).filter(|number| number.get() <= MOST_REPLICAS),
    };
    let accepted = format!("Auto or a number from 1 to {MOST_REPLICAS}");
    options.replicas = Some(number.ok_or_else(|| refusal(name, &word, &accepted))?);
    Ok(())
}

/// `WSGIInterpreterMaximumRequests number`: after how many an interpreter is replaced.
fn maximum_requests(
    options: &mut SpokenOptions,
    name: &str,
    words: Words<'_>,
) -> Result<(), String> {
    let word = words.only(name, "number")?;
    let number = parse::<NonZeroU64>(&word);
    options.maximum_requests =
        Some(number.ok_or_else(|| refusal(name, &word, "a number from 1 upwards"))?);
    Ok(())
}

/// How many threads can run at once, by the affinity and the control groups of this process.
pub(super) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// `WSGIFreeThreading On|Off`: read, and without effect on a build that has a GIL.
fn free_threading(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    options.free_threading = Some(on_off(name, words)?);
    Ok(())
}

/// `WSGISwitchInterval seconds`: when a thread that wants the GIL asks for it.
fn switch_interval(
    options: &mut SpokenOptions,
    name: &str,
    words: Words<'_>,
) -> Result<(), String> {
    let word = words.only(name, "number of seconds")?;
    // CPython counts microseconds, in 32 bits on some systems.
    let seconds = parse::<f64>(&word).filter(|seconds| (1e-6..=4000.0).contains(seconds));
    let accepted = "a number of seconds from 0.000001 to 4000";
    options.switch_interval = Some(seconds.ok_or_else(|| refusal(name, &word, accepted))?);
    Ok(())
}

/// `WSGIPythonPath directory[:directory...]`: what comes first on `sys.path`.
fn python_path(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    options.python_path = os_paths(&words.only(name, "list of directories")?);
    Ok(())
}

/// `WSGIQueueLimit number`: how many requests may wait for an application group.
fn queue_limit(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    let word = words.only(name, "number")?;
    let number = parse(&word).filter(|number| (1..=65_536).contains(number));
    let accepted = "a number from 1 to 65536";
    options.queue_limit = Some(number.ok_or_else(|| refusal(name, &word, accepted))?);
    Ok(())
}

/// `WSGIRestrictStdin On|Off`: whether `sys.stdin` raises.
fn restrict_stdin(options: &mut SpokenOptions, name: &str, words: Words<'_>) -> Result<(), String> {
    options.restrict_stdin = Some(on_off(name, words)?);
    Ok(())
}

/// `WSGIRestrictStdout On|Off`: whether `sys.stdout` raises.
fn restrict_stdout(
    options: &mut SpokenOptions,
    name: &str,
    words: Words<'_>,
) -> Result<(), String> {
    options.restrict_stdout = Some(on_off(name, words)?);
    Ok(())
}

/// `WSGIRestrictSignal On|Off`: whether signal handlers are not registered.
fn restrict_signal(
    options: &mut SpokenOptions,
    name: &str,
    words: Words<'_>,
) -> Result<(), String> {
    options.restrict_signal = Some(on_off(name, words)?);
    Ok(())
}

fn on_off(name: &str, words: Words<'_>) -> Result<bool, String> {
    let word = words.only(name, "value")?;
    parse_on_off(&word).ok_or_else(|| refusal(name, &word, "On or Off"))
}
