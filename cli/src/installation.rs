//! What was built of this project and is to be used: the module, and the worker program beside it.
#![forbid(unsafe_code)]

use crate::failure::{Outcome, fail};
use crate::httpd::{Httpd, text_of};
use crate::options::Where;
use object::elf::DT_NEEDED;
use object::read::elf::{Dyn as _, ElfFile64};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As a build calls it, and as it is called where it is installed.
const MODULE_NAMES: [&str; 2] = ["libmod_manifold.so", "mod_manifold.so"];

/// The program's name.
pub(crate) const WORKER: &str = "manifold-worker";

/// Major and minor number of a Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The first two numbers of `3.13` or `3.13.0+`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
        Some(Self(major, minor.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Module and worker.
#[derive(Debug)]
pub(crate) struct Installation {
    pub(crate) module: PathBuf,
    pub(crate) worker: PathBuf,
}

impl Installation {
    /// Where the options or the environment have it, or beside this program, or among httpd's modules.
    pub(crate) fn find(at: &Where, httpd: &Httpd) -> Outcome<Self> {
        let module = match &at.module() {
            Some(module) if module.is_file() => module.clone(),
            Some(module) => {
                return fail(format!(
                    "--module (MANIFOLD_MODULE): there is no file {}",
                    module.display()
                ));
            }
            None => {
                let own = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok());
                let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
                let folders = beside.into_iter().chain([httpd.modules.clone()]);
                let mut files =
                    folders.flat_map(|folder| MODULE_NAMES.map(|name| folder.join(name)));
                match files.find(|file| file.is_file()) {
                    Some(module) => module,
                    None => {
                        return fail(format!(
                            "the module is found neither beside this program nor as mod_manifold.so in {}: \
                             name it by --module or MANIFOLD_MODULE",
                            httpd.modules.display()
                        ));
                    }
                }
            }
        };
        let module = crate::user::absolute(&module)?;
        let worker = match &at.worker() {
            Some(worker) => crate::user::absolute(worker)?,
            None => module.with_file_name(WORKER),
        };
        Ok(Self { module, worker })
    }

    /// Whether the module finds the worker by itself.
    pub(crate) fn worker_is_beside(&self) -> bool {
        self.worker == self.module.with_file_name(WORKER)
    }

    /// The Python that the worker runs, by its own account.
    pub(crate) fn python(&self) -> Outcome<Version> {
        let output = Command::new(&self.worker).arg("--version").output();
        let said = match &output {
            Ok(output) => text_of(output),
            Err(error) => error.to_string(),
        };
        let version = said.trim().rsplit_once("Python ").and_then(|(_, text)| Version::parse(text));
        version.map_or_else(
            || {
                fail(format!(
                    "{} does not say which Python it runs: {}. It belongs beside the module; \
                     --worker or MANIFOLD_WORKER says where else it is",
                    self.worker.display(),
                    said.trim()
                ))
            },
            Ok,
        )
    }
}

/// The libpython that a module is linked with, as its file says.
pub(crate) fn linked_python(module: &Path) -> Option<String> {
    let data = std::fs::read(module).ok()?;
    let file = ElfFile64::<object::Endianness>::parse(data.as_slice()).ok()?;
    let (sections, endian) = (file.elf_section_table(), file.endian());
    let (entries, strings) = sections.dynamic(endian, data.as_slice()).ok()??;
    let strings = sections.strings(endian, data.as_slice(), strings).ok()?;
    let needed = entries.iter().filter(|entry| entry.tag32(endian) == Some(DT_NEEDED));
    let names = needed.filter_map(|entry| entry.string(endian, strings).ok());
    let mut names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    names.find(|name| name.starts_with("libpython"))
}

/// `libpython3.13.so.1.0` is 3.13.
pub(crate) fn version_of_library(name: &str) -> Option<Version> {
    Version::parse(name.strip_prefix("libpython")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_far_as_they_are_compared() {
        assert_eq!(Version::parse("3.13.0+"), Some(Version(3, 13)));
        assert_eq!(Version::parse("3.15"), Some(Version(3, 15)));
        assert_eq!(Version::parse("three"), None);
        assert_eq!(version_of_library("libpython3.13.so.1.0"), Some(Version(3, 13)));
        assert_eq!(version_of_library("libpython3.14t.so.1.0"), Some(Version(3, 14)));
    }
}
