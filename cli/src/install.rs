//! `manifold module-config` and `manifold install`: how this httpd gets the module.
#![forbid(unsafe_code)]

use crate::failure::{During as _, Outcome, fail};
use crate::home::Home;
use crate::httpd::Httpd;
use crate::installation::{Installation, WORKER};
use crate::options::{Install, ModuleConfig};
use crate::terminal::step;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the module is called where it is installed.
const MODULE: &str = "mod_manifold.so";

/// By this a file is known as written by this.
const MARK: &str = "# Written by manifold install.";

/// What an administrator may want to say, once for the whole server.
const SETTINGS: &str = "\
# docs/directives has a page for each directive. What follows is the default, or an example.

# The virtual environment of applications, of the Python that the module is built for:
#WSGIPythonHome /srv/venv

# An application in processes of its own, where it can have another user and another Python:
#WSGIDaemonProcess shop user=shop python-home=/srv/shop/venv threads=15
#WSGIScriptAlias /shop /srv/shop/app.wsgi process-group=shop application-group=shop
";

/// `manifold module-config`
pub(crate) fn print_config(options: &ModuleConfig) -> Outcome<ExitCode> {
    let httpd = Httpd::find(&options.at)?;
    let installation = Installation::find(&options.at, &httpd)?;
    let home = Home::choose(&options.python, installation.python()?)?;
    println!("LoadModule wsgi_module \"{}\"", installation.module.display());
    if !installation.worker_is_beside() {
        println!("WSGIDaemonWorker \"{}\"", installation.worker.display());
    }
    if let Some(home) = home {
        println!("WSGIPythonHome \"{}\"", home.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// `manifold install`
pub(crate) fn install(options: &Install) -> Outcome<ExitCode> {
    let httpd = Httpd::find(&options.at)?;
    let installation = Installation::find(&options.at, &httpd)?;
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let modules = options.modules_directory.clone().unwrap_or_else(|| httpd.modules.clone());
    let place = Place { root, force: options.force };

    let module = modules.join(MODULE);
    let load = format!("LoadModule wsgi_module {}\n", module.display());
    place.copy(&installation.module, &module)?;
    place.copy(&installation.worker, &modules.join(WORKER))?;

    // Debian's httpd has its modules' configurations in one folder, Fedora's in another.
    let debian = httpd.root.join("mods-available");
    let fedora = httpd.root.join("conf.modules.d");
    let is_debian = debian.is_dir() || httpd.configuration == Path::new("apache2.conf");
    if is_debian {
        place.write(&debian.join("wsgi.load"), &format!("{MARK}\n{load}"))?;
        place.write_once(&debian.join("wsgi.conf"), &format!("{MARK}\n{SETTINGS}"))?;
        step("a2enmod wsgi && apache2ctl configtest && apache2ctl graceful has httpd load it");
    } else if fedora.is_dir() || options.root.is_some() {
        place.write(&fedora.join("10-wsgi.conf"), &format!("{MARK}\n{load}"))?;
        place.write_once(&httpd.root.join("conf.d/wsgi.conf"), &format!("{MARK}\n{SETTINGS}"))?;
        step("apachectl configtest && apachectl graceful has httpd load it");
    } else {
        step(&format!("{} has this to load it:", httpd.root.join(&httpd.configuration).display()));
        print!("{load}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where files go.
struct Place<'a> {
    root: &'a Path,
    force: bool,
}

impl Place<'_> {
    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file of this build.
    fn copy(&self, from: &Path, to: &Path) -> Outcome<()> {
        if !from.is_file() {
            return fail(format!(
                "there is no {} to install: build it (scripts/build)",
                from.display()
            ));
        }
        let to = self.inside(to);
        if from.canonicalize().ok() == to.canonicalize().ok() {
            return Ok(()); // this is the installed one
        }
        let text = fs::read(from).during(|| format!("{} cannot be read", from.display()))?;
        put(&to, &text, 0o755)
    }

    /// A file that is written anew each time, but not over one of somebody else's.
    fn write(&self, path: &Path, text: &str) -> Outcome<()> {
        let path = self.inside(path);
        match fs::read_to_string(&path) {
            Ok(there) if !there.starts_with(MARK) && !self.force => fail(format!(
                "{} is there, and not written by this: it may be mod_wsgi's, whose package should go first. \
                 --force writes over it",
                path.display()
            )),
            _ => put(&path, text.as_bytes(), 0o644),
        }
    }

    /// A file that belongs to the administrator as soon as it is there.
    fn write_once(&self, path: &Path, text: &str) -> Outcome<()> {
        let path = self.inside(path);
        if path.exists() {
            step(&format!("{} is left as it is", path.display()));
            return Ok(());
        }
        put(&path, text.as_bytes(), 0o644)
    }
}

/// By renaming: the older file may be in use.
fn put(path: &Path, text: &[u8], mode: u32) -> Outcome<()> {
    let cannot = || format!("{} cannot be written", path.display());
    let done = (|| {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let file = tempfile::NamedTempFile::new_in(folder)?;
        fs::write(file.path(), text)?;
        fs::set_permissions(file.path(), Permissions::from_mode(mode))?;
        file.persist(path).map_err(|error| error.error).map(drop)
    })();
    match done {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => fail(format!(
            "{}: {error}. Run this as root, or name another place by --root",
            cannot()
        )),
        done => {
            done.during(cannot)?;
            anstream::println!("{}", path.display());
            Ok(())
        }
    }
}
