//! A Python home: the prefix of an installation, or the root of a virtual environment.
#![forbid(unsafe_code)]

use crate::failure::{Outcome, fail};
use crate::installation::Version;
use crate::options;
use std::path::{Path, PathBuf};

/// A folder that can be `WSGIPythonHome`.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    /// Of a virtual environment: the folder of the program that it was made with, as `pyvenv.cfg` says.
    pub(crate) made_with: Option<PathBuf>,
    /// Every version that the folder has a library of.
    pub(crate) versions: Vec<Version>,
}

impl Home {
    /// What a folder says of itself.
    pub(crate) fn look(path: &Path) -> Outcome<Self> {
        let path = crate::user::absolute(path)?;
        if !path.is_dir() {
            return fail(format!("there is no folder {}", path.display()));
        }
        let notes = std::fs::read_to_string(path.join("pyvenv.cfg")).ok();
        let note = |key: &str| {
            let lines = notes.iter().flat_map(|notes| notes.lines());
            let mut values = lines.filter_map(|line| line.split_once('='));
            values.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
        };
        let said =
            note("version").or_else(|| note("version_info")).and_then(|text| Version::parse(&text));
        let versions = match said {
            Some(version) => vec![version],
            None => versions_below(&path),
        };
        Ok(Self { made_with: note("home").map(PathBuf::from), versions, path })
    }

    /// The one that the options name, the virtual environment if it fits, `MANIFOLD_PYTHON_HOME`, or none: then
    /// libpython knows its own.
    pub(crate) fn choose(options: &options::Home, linked: Version) -> Outcome<Option<Self>> {
        if let Some(path) = &options.python_home {
            let home = Self::look(path)?;
            if let Some(problem) = home.problem(linked) {
                return fail(format!("--python-home {}: {problem}", path.display()));
            }
            return Ok(Some(home));
        }
        let environment = virtual_environment().and_then(|path| Self::look(&path).ok());
        if let Some(active) = environment {
            match active.problem(linked) {
                None => return Ok(Some(active)),
                Some(problem) => crate::terminal::step(&format!(
                    "the virtual environment {} is left out: {problem}",
                    active.path.display()
                )),
            }
        }
        variable("MANIFOLD_PYTHON_HOME").map(|path| Self::look(&path)).transpose()
    }

    /// Why a module that is linked with this Python cannot use it.
    pub(crate) fn problem(&self, linked: Version) -> Option<String> {
        if self.versions.contains(&linked) {
            return None;
        }
        let have = match &*self.versions {
            [] => "is no Python home: it has neither pyvenv.cfg nor lib/pythonX.Y".to_owned(),
            several => {
                let several: Vec<_> = several.iter().map(Version::to_string).collect();
                let kind = if self.made_with.is_some() {
                    "a virtual environment"
                } else {
                    "an installation"
                };
                format!("it is {kind} of Python {}", several.join(", "))
            }
        };
        Some(format!("{have}, and the module is built for Python {linked}"))
    }

    /// The program to ask about packages, of the version.
    fn program(&self, linked: Version) -> Option<PathBuf> {
        let names =
            [format!("bin/python{linked}"), "bin/python3".to_owned(), "bin/python".to_owned()];
        names.iter().map(|name| self.path.join(name)).find(|path| path.is_file())
    }

    /// All that has to be readable for Python to start.
    pub(crate) fn folders(&self, linked: Version) -> Vec<PathBuf> {
        let library = self.path.join("lib").join(format!("python{linked}"));
        let base = self.made_with.as_ref().and_then(|program| program.parent());
        let base = base.map(|base| base.join("lib").join(format!("python{linked}")).join("os.py"));
        [self.path.clone(), library].into_iter().chain(self.made_with.clone()).chain(base).collect()
    }
}

/// The home that nobody has to name.
pub(crate) fn unnamed() -> Option<PathBuf> {
    virtual_environment().or_else(|| variable("MANIFOLD_PYTHON_HOME"))
}

/// The one that this program is installed in, as for that environment's Python; or the active one.
fn virtual_environment() -> Option<PathBuf> {
    crate::wheel::environment().or_else(|| variable("VIRTUAL_ENV"))
}

/// A variable that is set to nothing is not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The program to load an application with, as httpd does: of the home, or on `PATH`.
pub(crate) fn program(home: Option<&Home>, linked: Version) -> Option<PathBuf> {
    let own = home.and_then(|home| home.program(linked));
    own.or_else(|| crate::httpd::search(format!("python{linked}").as_ref()))
}

fn versions_below(home: &Path) -> Vec<Version> {
    let libraries = ["lib", "lib64"].into_iter().filter_map(|name| home.join(name).read_dir().ok());
    let names = libraries.flatten().flatten().filter(|entry| entry.path().join("os.py").is_file());
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut versions: Vec<_> =
        names.filter_map(|name| Version::parse(name.strip_prefix("python")?)).collect();
    versions.sort();
    versions.dedup();
    versions
}
