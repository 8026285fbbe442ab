//! What was built of this project and is to be used: the module, and the worker program beside it.
#![forbid(unsafe_code)]

use crate::failure::{Outcome, fail};
use crate::home::Home;
use crate::httpd::{Httpd, text_of};
use crate::options::Where;
use crate::wheel;
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
    /// Where the options or the environment have it, or beside this program, where pip has put it, or among
    /// httpd's modules.
    pub(crate) fn find(at: &Where, httpd: &Httpd) -> Outcome<Self> {
        let module = match &at.module() {
            Some(module) if module.is_file() => module.clone(),
            Some(module) => {
                return fail(format!(
                    "--module (MANIFOLD_MODULE): there is no file {}",
                    module.display()
                ));
            }
            None => find_module(httpd)?,
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
        if let Some(version) = version {
            return Ok(version);
        }
        if let Some(library) = missing_python(&said) {
            return fail(without_library(&self.worker, library));
        }
        fail(format!(
            "{} does not say which Python it runs: {}. It belongs beside the module; \
             --worker or MANIFOLD_WORKER says where else it is",
            self.worker.display(),
            said.trim()
        ))
    }
}

fn find_module(httpd: &Httpd) -> Outcome<PathBuf> {
    let in_folder = |folder: &Path| {
        MODULE_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file())
    };
    let own = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok());
    if let Some(module) = own.as_deref().and_then(Path::parent).and_then(in_folder) {
        return Ok(module);
    }
    let packages = wheel::packages();
    let installed: Vec<_> = packages.iter().filter_map(|folder| in_folder(folder)).collect();
    match &*installed {
        [] => {}
        [module] => return Ok(module.clone()),
        several => {
            let several: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            return fail(format!(
                "the module is installed for several Pythons, {}: name one by --module or MANIFOLD_MODULE, or \
                 install it into a virtual environment and run the manifold there",
                several.join(" and ")
            ));
        }
    }
    in_folder(&httpd.modules).map_or_else(
        || {
            fail(format!(
                "the module is found neither beside this program nor as mod_manifold.so in {}: \
                 name it by --module or MANIFOLD_MODULE",
                httpd.modules.display()
            ))
        },
        Ok,
    )
}

/// The libpython that the loader has not found, by what it says.
fn missing_python(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("error while loading shared libraries: ")?;
    let (library, _) = rest.split_once(": ")?;
    library.starts_with("libpython").then_some(library)
}

/// What to do about that. Many Pythons have no such library: their program contains it.
fn without_library(worker: &Path, library: &str) -> String {
    let name = library.split(".so").next().unwrap_or(library);
    let mut text = format!(
        "{} does not run, because {library} is not found. It is the shared library of the Python that this was \
         built for",
        worker.display()
    );
    let environment = wheel::environment().and_then(|path| Home::look(&path).ok());
    let Some((environment, program)) =
        environment.and_then(|home| Some((home.path.clone(), home.made_with?)))
    else {
        return text + &format!(". Install it (Debian, Ubuntu: apt-get install {name})");
    };
    let mut libraries = ["lib", "lib64"].iter().filter_map(|lib| Some(program.parent()?.join(lib)));
    match libraries.find(|folder| folder.join(library).is_file()) {
        Some(folder) => {
            text += &format!(
                ", and not the one in {}, which the virtual environment {} was made with. Build it for that one: \
                 MANIFOLD_PYTHON={}/{} scripts/package wheel",
                folder.display(),
                environment.display(),
                program.display(),
                name.trim_start_matches("lib")
            );
        }
        None => {
            text += &format!(
                ", and the Python in {}, which the virtual environment {} was made with, has none: it is a static \
                 build. Install the library (Debian, Ubuntu: apt-get install {name}), or make the environment \
                 with a Python that was configured with --enable-shared, and build for that one",
                program.display(),
                environment.display()
            );
        }
    }
    text
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

    #[test]
    fn a_libpython_that_the_loader_misses_is_told_from_other_failures() {
        let said = "manifold-worker: error while loading shared libraries: libpython3.13.so.1.0: cannot open \
                    shared object file: No such file or directory\n";
        assert_eq!(missing_python(said), Some("libpython3.13.so.1.0"));
        assert_eq!(missing_python(&said.replace("libpython3.13", "libm")), None);
        assert_eq!(missing_python("Permission denied (os error 13)"), None);
    }
}
