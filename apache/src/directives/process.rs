//! Directives about whole processes: which Python, and how many interpreters and threads.

use super::Directive;
use crate::config::OwnGil;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `WSGIPythonHome directory`: the prefix of a Python installation or virtual environment.
pub(super) fn python_home(directive: &mut Directive<'_>) -> Result<(), String> {
    let path = directive.only("directory")?;
    directive.server().python_home = Some(PathBuf::from(OsString::from_vec(path)));
    Ok(())
}

/// `WSGIPythonPath directory[:directory...]`: what comes first on `sys.path`.
pub(super) fn python_path(directive: &mut Directive<'_>) -> Result<(), String> {
    let list = directive.only("list of directories")?;
    let paths = list.split(|byte| *byte == b':').filter(|path| !path.is_empty());
    directive.server().python_path =
        paths.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).collect();
    Ok(())
}

/// `WSGIPerInterpreterGIL On|Off|Auto`: whether a sub-interpreter has a GIL of its own.
pub(super) fn own_gil(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("value")?;
    let value = match word.to_ascii_lowercase().as_slice() {
        b"auto" => OwnGil::Auto,
        b"on" => OwnGil::On,
        b"off" => OwnGil::Off,
        _ => return Err(directive.refuse(&word, "On, Off or Auto")),
    };
    directive.server().own_gil = Some(value);
    Ok(())
}

/// `WSGIInterpreterThreads number`: how many threads an interpreter may have.
pub(super) fn interpreter_threads(directive: &mut Directive<'_>) -> Result<(), String> {
    let number = directive.number(1)?;
    directive.server().interpreter_threads = Some(number);
    Ok(())
}

/// `WSGIInterpreterLimit number`: how many interpreters a process may have, the main one included.
pub(super) fn interpreter_limit(directive: &mut Directive<'_>) -> Result<(), String> {
    let number = directive.number(2)?;
    directive.server().interpreter_limit = Some(number);
    Ok(())
}

/// `WSGICaseSensitivity On|Off`: whether paths that differ in case only are different scripts.
pub(super) fn case_sensitivity(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().case_sensitivity = Some(flag);
    Ok(())
}

/// `WSGIRestrictEmbedded On|Off`: whether httpd's own processes run no Python.
pub(super) fn restrict_embedded(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().restrict_embedded = Some(flag);
    Ok(())
}
