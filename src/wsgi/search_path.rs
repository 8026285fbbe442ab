//! What the configuration puts on `sys.path`.

use super::residents::list;
use crate::interp::{Object, Raised};
use crate::{Code, Settings};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How the `sys.path` of an interpreter is added to.
pub(super) struct SearchPath {
    /// What comes before all that is added.
    first: Option<PathBuf>,
    /// Where directories are configured.
    options: &'static str,
}

impl SearchPath {
    pub(super) fn new(settings: &Settings) -> Self {
        let options = match settings.process_group.is_main() {
            true => "WSGIPythonPath",
            false => "python-path= of WSGIDaemonProcess, or WSGIPythonPath",
        };
        Self { first: settings.first_on_path.clone(), options }
    }

    /// Puts lists of directories before everything on `sys.path`, one after the other, and the
    /// first of all before them.
    pub(super) fn add(&self, bootstrap: &Object<'_>, lists: &[Vec<PathBuf>]) -> Result<(), Raised> {
        let py = bootstrap.py();
        for paths in lists {
            let list = list(py)?;
            for path in paths {
                let path = Object::path(py, path.as_os_str().as_bytes())?;
                list.attribute(c"append")?.call([&path])?;
            }
            let problem = bootstrap.attribute(c"add_python_path")?.call([&list])?;
            if !problem.is_none() {
                self.tell(&problem.to_text()?);
            }
        }
        if let Some(first) = &self.first {
            let first = Object::path(py, first.as_os_str().as_bytes())?;
            bootstrap.attribute(c"put_first")?.call([&first])?;
        }
        Ok(())
    }

    /// Says that a directory cannot be added.
    pub(super) fn tell(&self, problem: &str) {
        tracing::error!("{}: {}: {problem}", Code::PathNotAdded, self.options);
    }
}
