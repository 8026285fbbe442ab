//! The application: whether it can be read, and loads, and where its extension modules have it go.
#![forbid(unsafe_code)]

use super::Patient;
use super::extensions::{Examination, Mode};
use crate::app::App;
use crate::failure::Outcome;
use crate::home::program;
use crate::installation::Version;
use crate::options::{Doctor, Gil};
use crate::user;
use std::path::PathBuf;

pub(super) fn look(patient: &mut Patient, options: &Doctor) -> Outcome<()> {
    let Some(name) = &options.app else {
        patient.skipped("application", "none is named");
        return Ok(());
    };
    let python = &options.python;
    let app =
        App::find(name, python.callable_object.as_deref(), python.working_directory.as_deref());
    let app = match app {
        Ok(app) => app,
        Err(failure) => {
            patient.problem(
                "application",
                failure.to_string(),
                "name a script, a module, or a Django project",
            );
            return Ok(());
        }
    };
    let files = app.files();
    let packages = python.python_path.iter().map(PathBuf::as_path);
    let files: Vec<_> = files.iter().map(PathBuf::as_path).chain(packages).collect();
    if let Some(obstacle) = user::obstacle(patient.user.as_ref(), &files)? {
        let whom = user::called(patient.user.as_ref());
        let found =
            format!("{whom} cannot read {} because of {obstacle} (MNF0004)", app.describe());
        let cure = "let httpd's user pass every folder on the way (chmod o+x) and read the files (chmod -R o+rX), or \
                    put them below /srv";
        patient.problem("application", found, cure);
        return Ok(());
    }
    if patient.has_problems() {
        patient.skipped("extensions", "what is wrong above comes first");
        return Ok(());
    }
    let (Some(installation), Some(linked)) = (&patient.installation, patient.linked) else {
        patient.skipped("extensions", "neither the module nor its Python is known");
        return Ok(());
    };
    let Some(program) = program(patient.home.as_ref(), linked) else {
        patient.skipped(
            "extensions",
            format!("there is no program python{linked} to load the application with"),
        );
        return Ok(());
    };
    let examination = Examination {
        program,
        worker: &installation.worker,
        home: patient.home.as_ref(),
        linked,
        user: patient.user.as_ref(),
        app: &app,
        packages: &python.python_path,
    };
    let whole = match examination.load(Mode::Main) {
        Ok(whole) => whole,
        Err(failure) => {
            let cure = "see where with PYTHONFAULTHANDLER=1 in the environment of this command";
            patient.problem("application", failure.to_string(), cure);
            return Ok(());
        }
    };
    if let Some(error) = &whole.error {
        let found = format!("{} does not load:\n{}", app.describe(), error.trim());
        let cure = match missing_package(error) {
            Some(package) => format!(
                "install what has the module {package} into the Python home that httpd uses: {} -m pip install ...",
                examination.program.display()
            ),
            None => "mend it; the traceback says where".to_owned(),
        };
        patient.problem("application", found, cure);
        return Ok(());
    }
    let place = place_of(&examination, options, linked, &app.name())?;
    patient.ok("application", format!("{} loads", app.describe()));
    patient.extensions = whole.extensions;
    let count = patient.extensions.len();
    let found = match count {
        0 => "no extension module that is not Python's own, or all of Python's own load".to_owned(),
        1 => "one extension module".to_owned(),
        several => format!("{several} extension modules"),
    };
    patient.ok("extensions", found);
    place.tell(patient);
    Ok(())
}

/// Where a group goes.
enum Place {
    Own { without: Vec<String> },
    Shared { because: String, group: String },
    Main { because: String },
    Nowhere { because: String },
    Asked(&'static str),
}

/// What the server will do, by the rules of `docs/interpreters-and-extensions.md`.
fn place_of(
    examination: &Examination<'_>,
    options: &Doctor,
    linked: Version,
    name: &str,
) -> Outcome<Place> {
    if options.application_group.as_deref() == Some("%{GLOBAL}") {
        return Ok(Place::Asked(
            "the main interpreter, as configured: every extension module loads there",
        ));
    }
    let group = options.application_group.clone().unwrap_or_else(|| name.to_owned());
    // An older Python has no other kind.
    let shared = options.per_interpreter_gil == Gil::Off || linked <= Version(3, 12);
    if !shared {
        let own = examination.load(Mode::Own)?;
        let Some(error) = own.error else {
            return Ok(Place::Own { without: own.refused });
        };
        let because = own.refused.first().cloned().unwrap_or(error);
        if options.per_interpreter_gil == Gil::On {
            return Ok(Place::Nowhere { because });
        }
        if !own.shared_works {
            return Ok(Place::Main { because });
        }
        let shared = examination.load(Mode::Shared)?;
        return Ok(match shared.error {
            None => Place::Shared { because, group },
            Some(_) => Place::Main { because: shared.refused.first().cloned().unwrap_or(because) },
        });
    }
    let shared = examination.load(Mode::Shared)?;
    Ok(match shared.error {
        None => Place::Asked("an interpreter that shares the main one's GIL"),
        Some(error) if options.per_interpreter_gil == Gil::Off => {
            Place::Nowhere { because: shared.refused.first().cloned().unwrap_or(error) }
        }
        Some(error) => Place::Main { because: shared.refused.first().cloned().unwrap_or(error) },
    })
}

impl Place {
    fn tell(self, patient: &mut Patient) {
        let main = "have it there from the start, and nothing is tried or loaded twice: application-group=%{GLOBAL}; \
                    one process has one main interpreter, so a second such application needs a process group of its \
                    own (WSGIDaemonProcess)";
        match self {
            Self::Own { without } if without.is_empty() => {
                patient.ok("interpreter", "one with its own GIL (Auto)");
            }
            Self::Own { without } => patient.ok(
                "interpreter",
                format!("one with its own GIL (Auto); it does without {}, which its code allows", without.join(", ")),
            ),
            Self::Shared { because, group } => patient.warning(
                "interpreter",
                format!("Auto moves it to one that shares the main one's GIL, because of {because} (MNF0037)"),
                format!(
                    "have it there from the start: <WSGIInterpreterOptions application-group={group}>\n    \
                     WSGIPerInterpreterGIL Off\n</WSGIInterpreterOptions>"
                ),
            ),
            Self::Main { because } => patient.warning(
                "interpreter",
                format!("Auto moves it to the main interpreter, because of {because} (MNF0037)"),
                main,
            ),
            Self::Nowhere { because } => patient.problem(
                "interpreter",
                format!("it does not load in the sub-interpreter that is configured, because of {because}"),
                main,
            ),
            Self::Asked(which) => patient.ok("interpreter", which),
        }
    }
}

fn missing_package(error: &str) -> Option<&str> {
    let (_, rest) = error.rsplit_once("No module named '")?;
    rest.split('\'').next()
}
