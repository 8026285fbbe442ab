//! The httpd of this machine: its program, version, modules, and what is compiled in. All of it is asked from
//! the program itself and from apxs, where that is installed.
#![forbid(unsafe_code)]

use crate::failure::{During as _, Outcome, fail};
use crate::options::Where;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The oldest that the module runs in: `child_stopping` came with it.
pub(crate) const OLDEST: (u32, u32, u32) = (2, 4, 49);

/// Where a login of an ordinary user may not look.
const MORE_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/apache2/bin",
    "/usr/bin",
    "/opt/homebrew/bin",
];

/// Where distributions keep modules, for an httpd without apxs.
const MODULE_FOLDERS: [&str; 5] = [
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
    "/usr/lib64/apache2",
    "/usr/local/apache2/modules",
];

/// The multi-processing modules, best first.
const MPMS: [&str; 3] = ["event", "worker", "prefork"];

/// An httpd that is installed.
#[derive(Debug)]
pub(crate) struct Httpd {
    pub(crate) program: PathBuf,
    /// `Apache/2.4.71 (Debian)`
    pub(crate) banner: String,
    pub(crate) version: (u32, u32, u32),
    /// Where its modules are.
    pub(crate) modules: PathBuf,
    /// Where its configuration is: `HTTPD_ROOT`.
    pub(crate) root: PathBuf,
    /// The name of its main configuration file, below the root or absolute.
    pub(crate) configuration: PathBuf,
    compiled_in: Vec<String>,
}

/// How a module comes into the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Module {
    CompiledIn,
    File(PathBuf),
    Missing(PathBuf),
}

impl Httpd {
    /// Where the options, the environment or `PATH` have it.
    pub(crate) fn find(at: &Where) -> Outcome<Self> {
        let apxs = match &at.apxs() {
            Some(apxs) => match search(apxs.as_os_str()) {
                Some(apxs) => Some(apxs),
                None => {
                    return fail(format!("--apxs (MANIFOLD_APXS): there is no {}", apxs.display()));
                }
            },
            None => search("apxs".as_ref()).or_else(|| search("apxs2".as_ref())),
        };
        let ask = |name: &str| {
            apxs.as_ref().and_then(|apxs| said_by(Command::new(apxs).args(["-q", name])))
        };
        let program = match &at.httpd() {
            Some(httpd) => match search(httpd.as_os_str()) {
                Some(httpd) => httpd,
                None => {
                    return fail(format!(
                        "--httpd (MANIFOLD_HTTPD): there is no {}",
                        httpd.display()
                    ));
                }
            },
            None => {
                // The one that belongs to apxs, where both are there.
                let own = ask("SBINDIR").zip(ask("PROGNAME"));
                let own = own.map(|(folder, name)| Path::new(&folder).join(name));
                let found = own.filter(|own| own.is_file());
                match found
                    .or_else(|| search("apache2".as_ref()))
                    .or_else(|| search("httpd".as_ref()))
                {
                    Some(program) => program,
                    None => {
                        return fail(
                            "httpd is not found: neither apxs nor apache2 nor httpd is on PATH. Install it \
                             (Debian, Ubuntu: apt-get install apache2; Fedora: dnf install httpd), or name \
                             its program by --httpd or MANIFOLD_HTTPD",
                        );
                    }
                }
            }
        };
        let settings = said(Command::new(&program).arg("-V"))?;
        let Some(banner) = after(&settings, "Server version: ").map(str::to_owned) else {
            return fail(format!("{} is no httpd: it does not answer to -V", program.display()));
        };
        let root =
            PathBuf::from(after(&settings, "-D HTTPD_ROOT=").unwrap_or("/").trim_matches('"'));
        let modules = ask("LIBEXECDIR").map(PathBuf::from).or_else(|| {
            let own = root.join("modules");
            let usual = MODULE_FOLDERS.iter().map(PathBuf::from);
            usual.chain([own]).find(|folder| {
                folder.join("mod_mpm_event.so").is_file() || folder.join("mod_mime.so").is_file()
            })
        });
        let Some(modules) = modules else {
            return fail(format!(
                "the modules of {} are not found: install apxs (Debian, Ubuntu: apache2-dev; Fedora: \
                 httpd-devel), or name it by --apxs or MANIFOLD_APXS",
                program.display()
            ));
        };
        let compiled_in = said(Command::new(&program).arg("-l"))?;
        let compiled_in = compiled_in.lines().filter_map(|line| line.trim().strip_suffix(".c"));
        Ok(Self {
            version: version_in(&banner),
            configuration: after(&settings, "-D SERVER_CONFIG_FILE=")
                .unwrap_or("conf/httpd.conf")
                .trim_matches('"')
                .into(),
            compiled_in: compiled_in.map(str::to_owned).collect(),
            program,
            banner,
            modules,
            root,
        })
    }

    /// `mod_<name>`.
    pub(crate) fn module(&self, name: &str) -> Module {
        let inside = match name.strip_prefix("mpm_") {
            Some(mpm) => self.compiled_in.iter().any(|file| file == mpm),
            None => self.compiled_in.iter().any(|file| *file == format!("mod_{name}")),
        };
        let file = self.modules.join(format!("mod_{name}.so"));
        match (inside, file.is_file()) {
            (true, _) => Module::CompiledIn,
            (false, true) => Module::File(file),
            (false, false) => Module::Missing(file),
        }
    }

    /// The multi-processing module to use: the one that is compiled in, or the one that is wanted, or the
    /// best there is.
    pub(crate) fn mpm(&self, wanted: Option<&str>) -> Outcome<&'static str> {
        let inside = MPMS.into_iter().find(|mpm| self.compiled_in.iter().any(|file| file == mpm));
        let there = |mpm: &&str| {
            self.module(&format!("mpm_{mpm}"))
                != Module::Missing(self.modules.join(format!("mod_mpm_{mpm}.so")))
        };
        match (inside, wanted) {
            (Some(inside), Some(wanted)) if inside != wanted => fail(format!(
                "--server-mpm {wanted}: {} has the MPM {inside} compiled in, and can have no other",
                self.program.display()
            )),
            (Some(inside), _) => Ok(inside),
            (None, wanted) => {
                let mut possible = MPMS.into_iter().filter(there);
                let found = possible.find(|mpm| wanted.is_none_or(|wanted| wanted == *mpm));
                found.map_or_else(
                    || {
                        fail(format!(
                            "{} has no mod_mpm_{}.so",
                            self.modules.display(),
                            wanted.unwrap_or("event")
                        ))
                    },
                    Ok,
                )
            }
        }
    }

    /// Runs `httpd -t` with these arguments; all it says, and whether it accepts the configuration.
    pub(crate) fn test(&self, arguments: &[&OsStr]) -> Outcome<(bool, String)> {
        let mut command = Command::new(&self.program);
        command.arg("-t").args(arguments);
        let output =
            command.output().during(|| format!("{} cannot be run", self.program.display()))?;
        Ok((output.status.success(), text_of(&output)))
    }

    /// `2.4.71`
    pub(crate) fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }
}

/// All that a program has said.
pub(crate) fn text_of(output: &Output) -> String {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// A program by its path, or by its name on `PATH` and where system programs are.
pub(crate) fn search(name: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn said(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_owned();
    let output = command.output().during(|| format!("{} cannot be run", program.display()))?;
    Ok(text_of(&output))
}

fn said_by(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim)
}

fn version_in(banner: &str) -> (u32, u32, u32) {
    let numbers = banner.split('/').nth(1).unwrap_or_default();
    let numbers = numbers.split([' ', '-']).next().unwrap_or_default();
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_banner_whatever_stands_behind_it() {
        assert_eq!(version_in("Apache/2.4.71 (Debian)"), (2, 4, 71));
        assert_eq!(version_in("Apache/2.4.49"), (2, 4, 49));
        assert_eq!(version_in("Apache/2.5.1-dev (Unix)"), (2, 5, 1));
    }
}
