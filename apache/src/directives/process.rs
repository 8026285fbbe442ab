//! Directives about whole processes: which Python, and how many interpreters and threads.

use super::Directive;
use super::runtime::parse;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `WSGIPythonHome directory`: the prefix of a Python installation or virtual environment.
pub(super) fn python_home(directive: &mut Directive<'_>) -> Result<(), String> {
    let path = directive.only("directory")?;
    directive.server().python_home = Some(os_path(path));
    Ok(())
}

/// `WSGIDaemonWorker path`: the program `manifold-worker`.
pub(super) fn daemon_worker(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("path")?;
    let path = os_path(word.clone());
    if !path.is_absolute() {
        return Err(directive.refuse(&word, "the absolute path of a program"));
    }
    directive.server().daemon_worker = Some(path);
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

/// `WSGIResponseBufferLimit bytes`: how much of responses a process may keep for slow clients.
pub(super) fn response_buffer_limit(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("number of bytes")?;
    let bytes = parse(&word).filter(|_| word.iter().all(u8::is_ascii_digit));
    let accepted = "a number of bytes, 0 or more";
    directive.server().response_buffer =
        Some(bytes.ok_or_else(|| directive.refuse(&word, accepted))?);
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

/// A path as httpd gives it.
pub(super) fn os_path(path: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(path))
}

/// A list of paths with colons between them.
pub(super) fn os_paths(list: &[u8]) -> Vec<PathBuf> {
    let paths = list.split(|byte| *byte == b':').filter(|path| !path.is_empty());
    paths.map(|path| os_path(path.to_vec())).collect()
}
