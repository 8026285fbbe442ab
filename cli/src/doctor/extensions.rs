//! Loads the application by a Python of its own, as httpd's user, and has `manifold-worker --probe` try each
//! extension module, as the module does in httpd. What is refused there is refused here, so that it shows
//! whether the application can do without.
#![forbid(unsafe_code)]

use crate::app::App;
use crate::failure::{During as _, Outcome, fail};
use crate::home::Home;
use crate::installation::Version;
use crate::server_root;
use crate::user::User;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What runs in that Python.
const SCRIPT: &str = include_str!("examine.py");

/// What the worker program and this one were built from.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Python's own modules that refuse an interpreter with its own GIL, whatever its version:
/// `is_refused_with_own_gil` in `ffi/cpython/src/version.rs` has the same.
const REFUSED_OF_PYTHONS: [&str; 14] = [
    "_testcapi",
    "_curses",
    "_curses_panel",
    "_tkinter",
    "readline",
    "_testbuffer",
    "_testclinic",
    "_testclinic_limited",
    "_testexternalinspection",
    "_testimportmultiple",
    "_testlimitedcapi",
    "_testsinglephase",
    "_xxtestfuzz",
    "xxlimited_35",
];

/// An extension module, and where it loads.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Extension {
    pub(crate) name: String,
    path: String,
    own: Verdict,
    shared: Verdict,
}

/// What a probe said.
#[derive(Debug, Deserialize, Serialize)]
struct Verdict {
    state: Answer,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Loads,
    Refused,
    Crashed,
    Unknown,
}

impl Extension {
    /// For people.
    pub(crate) fn verdict(&self) -> String {
        match (self.own.state, self.shared.state) {
            (Answer::Loads, _) => "own GIL".to_owned(),
            (Answer::Crashed, Answer::Loads) => {
                format!("shared GIL; crashes with its own ({})", self.own.text)
            }
            (_, Answer::Loads) => "shared GIL".to_owned(),
            (Answer::Unknown, _) => format!("not known: {}", self.own.text),
            (_, Answer::Crashed) => {
                format!("main interpreter only; crashes in others ({})", self.shared.text)
            }
            (Answer::Crashed, _) => {
                format!("main interpreter only; crashes in others ({})", self.own.text)
            }
            _ => "main interpreter only".to_owned(),
        }
    }
}

/// Which interpreter is imitated.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Main,
    Own,
    Shared,
}

/// What came of it.
#[derive(Debug, Deserialize)]
pub(super) struct Load {
    /// The traceback of an application that did not load.
    pub(super) error: Option<String>,
    /// Modules that were refused, the first one that mattered in front.
    pub(super) refused: Vec<String>,
    /// Whether that one loads in interpreters that share a GIL.
    pub(super) shared_works: bool,
    /// Every extension module that was loaded, but for Python's own.
    pub(super) extensions: Vec<Extension>,
}

/// All that it takes.
pub(super) struct Examination<'a> {
    pub(super) program: PathBuf,
    pub(super) worker: &'a Path,
    pub(super) home: Option<&'a Home>,
    pub(super) linked: Version,
    pub(super) user: Option<&'a User>,
    pub(super) app: &'a App,
    pub(super) packages: &'a [PathBuf],
}

impl Examination<'_> {
    /// Loads the application once.
    pub(super) fn load(&self, mode: Mode) -> Outcome<Load> {
        let orders = serde_json::json!({
            "mode": mode,
            "handler": server_root::handler(self.app, "/", false)?,
            "worker": self.worker,
            "build": format!("{BUILD} for Python {}", self.linked),
            "home": self.home.map(|home| &home.path),
            "packages": self.packages,
            "refused_of_pythons": REFUSED_OF_PYTHONS,
        });
        let mut command = Command::new(&self.program);
        // Nothing of the folder that this is run in, and no files beside the sources.
        command.args(["-P", "-B", "-c", SCRIPT]).current_dir(&self.app.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            user.runs(&mut command);
        }
        let cannot = || format!("{} cannot be run", self.program.display());
        let mut child = command.spawn().during(cannot)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read any more says why by how it ends.
            let _ = stdin.write_all(orders.to_string().as_bytes());
        }
        let output = child.wait_with_output().during(cannot)?;
        match serde_json::from_slice(&output.stdout) {
            Ok(load) => Ok(load),
            Err(_) => fail(format!(
                "loading {} in {} ended without an answer ({}):\n{}",
                self.app.describe(),
                self.program.display(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_own_modules_that_are_refused_are_those_of_the_module() {
        let source = include_str!("../../../ffi/cpython/src/version.rs");
        let (_, body) =
            source.split_once("fn is_refused_with_own_gil").expect("the function is there");
        let body = body.split("\n}\n").next().expect("it ends");
        let theirs: Vec<_> = body.split('"').skip(1).step_by(2).collect();
        assert_eq!(theirs, REFUSED_OF_PYTHONS);
    }
}
