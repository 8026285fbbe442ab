//! Directives about whole processes: which Python, and how many interpreters and threads.

use super::{Record, run};
use crate::config::OwnGil;
use httpd_sys::cmd_parms;
use std::ffi::{OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `WSGIPythonHome directory`: the prefix of a Python installation or virtual environment.
pub(super) unsafe extern "C" fn python_home(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let path = directive.only("directory")?;
            directive.server().python_home = Some(PathBuf::from(OsString::from_vec(path)));
            Ok(())
        })
    }
}

/// `WSGIPythonPath directory[:directory...]`: what comes first on `sys.path`.
pub(super) unsafe extern "C" fn python_path(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let list = directive.only("list of directories")?;
            let paths = list.split(|byte| *byte == b':').filter(|path| !path.is_empty());
            directive.server().python_path =
                paths.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))).collect();
            Ok(())
        })
    }
}

/// `WSGIPerInterpreterGIL On|Off|Auto`: whether a sub-interpreter has a GIL of its own.
pub(super) unsafe extern "C" fn own_gil(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let word = directive.only("value")?;
            let value = match word.to_ascii_lowercase().as_slice() {
                b"auto" => OwnGil::Auto,
                b"on" => OwnGil::On,
                b"off" => OwnGil::Off,
                _ => return Err(directive.refuse(&word, "On, Off or Auto")),
            };
            directive.server().own_gil = Some(value);
            Ok(())
        })
    }
}

/// `WSGIInterpreterThreads number`: how many threads an interpreter may have.
pub(super) unsafe extern "C" fn interpreter_threads(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let number = directive.number(1)?;
            directive.server().interpreter_threads = Some(number);
            Ok(())
        })
    }
}

/// `WSGIInterpreterLimit number`: how many interpreters a process may have, the main one included.
pub(super) unsafe extern "C" fn interpreter_limit(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let number = directive.number(2)?;
            directive.server().interpreter_limit = Some(number);
            Ok(())
        })
    }
}

/// `WSGIRestrictEmbedded On|Off`: whether httpd's own processes run no Python.
pub(super) unsafe extern "C" fn restrict_embedded(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let flag = directive.on_off()?;
            directive.server().restrict_embedded = Some(flag);
            Ok(())
        })
    }
}
