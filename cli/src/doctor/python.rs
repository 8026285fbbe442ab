//! The Python that is linked, and the Python home.
#![forbid(unsafe_code)]

use super::Patient;
use crate::failure::Outcome;
use crate::home::{self, Home};
use crate::installation::{Version, linked_python, version_of_library};
use crate::options::Doctor;
use crate::user;
use std::path::{Path, PathBuf};

pub(super) fn look(patient: &mut Patient, options: &Doctor) -> Outcome<()> {
    linked(patient);
    let named = options.python.home.python_home.clone();
    let Some(path) = named.or_else(home::unnamed) else {
        patient.skipped(
            "python-home",
            "none is named (--python-home), and no virtual environment is active",
        );
        return Ok(());
    };
    match Home::look(&path) {
        Err(failure) => patient.problem(
            "python-home",
            failure.to_string(),
            "name the prefix of a Python, or the root of a virtual environment",
        ),
        Ok(home) => check_home(patient, home)?,
    }
    Ok(())
}

fn linked(patient: &mut Patient) {
    let Some(installation) = &patient.installation else { return };
    let library = linked_python(&installation.module);
    let module = library.as_deref().and_then(version_of_library);
    let worker = installation.python().ok();
    let (Some(library), Some(module)) = (library, module) else {
        let found = format!("{} is not linked with a libpython", installation.module.display());
        patient.problem("python", found, "build it anew (scripts/build)");
        return;
    };
    if let Some(worker) = worker.filter(|worker| *worker != module) {
        let found = format!(
            "the module is linked with {library}, and manifold-worker runs Python {worker}"
        );
        patient.problem(
            "python",
            found,
            format!("both belong to one build: let WSGIDaemonWorker (--worker) name the one for Python {module}"),
        );
        return;
    }
    patient.linked = Some(module);
    match module {
        Version(3, 12) => patient.warning(
            "python",
            format!("{library}: all interpreters share one GIL, since modules of this version crash otherwise (MNF0016)"),
            "3.13 and later give each interpreter its own: build with MANIFOLD_PYTHON=python3.14 scripts/build",
        ),
        Version(3, 13) => patient.ok(
            "python",
            format!("{library}: interpreters have their own GIL, and are left as they are when a process ends"),
        ),
        _ => patient.ok("python", format!("{library}: interpreters have their own GIL, and can be replaced")),
    }
}

fn check_home(patient: &mut Patient, home: Home) -> Outcome<()> {
    let Some(linked) = patient.linked else {
        patient.skipped("python-home", "which Python is linked is not known");
        return Ok(());
    };
    let path = home.path.display();
    let kind = if home.made_with.is_some() { "virtual-environment" } else { "python-home" };
    if let Some(problem) = home.problem(linked) {
        let cure = match (&home.made_with, home.versions.first()) {
            (Some(_), _) => format!(
                "make it with that Python and install its packages again: python{linked} -m venv --clear {path}"
            ),
            (None, Some(other)) => format!(
                "the wrong Python is linked, or the wrong one is named. Build the module for this one: \
                 MANIFOLD_PYTHON={path}/bin/python{other} scripts/build; or let WSGIPythonHome name a Python {linked}"
            ),
            (None, None) => {
                format!("let WSGIPythonHome name what python{linked} says of itself: sys.prefix")
            }
        };
        patient.problem(kind, format!("{path}: {problem}"), cure);
        return Ok(());
    }
    if let Some(gone) = home.made_with.as_ref().filter(|program| !program.is_dir()) {
        let found = format!(
            "{path} was made with a Python in {}, which is not there any more",
            gone.display()
        );
        let cure = format!("make it anew: python{linked} -m venv --clear {path}");
        patient.problem(kind, found, cure);
        return Ok(());
    }
    let folders = home.folders(linked);
    let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
    if let Some(obstacle) = user::obstacle(patient.user.as_ref(), &folders)? {
        let whom = user::called(patient.user.as_ref());
        let found = format!("{whom} cannot read {path} because of {obstacle} (MNF0001)");
        patient.problem(kind, found, readable(&home.path, linked));
        return Ok(());
    }
    patient.ok(kind, format!("{path} is of Python {linked}, and readable"));
    patient.home = Some(home);
    Ok(())
}

fn readable(home: &Path, linked: Version) -> String {
    format!(
        "let httpd's user pass every folder on the way (chmod o+x) and read {} (chmod -R o+rX), or make one \
         outside of private folders: python{linked} -m venv /srv/venv",
        home.display()
    )
}
