//! `python manage.py runmanifold`, of a project that django-admin makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Serving, folder, open_to_all, run, variable, write};

const URLS: &str = "\
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

def hello(request):
    return HttpResponse(f'{settings.SETTINGS_MODULE} {settings.BASE_DIR}')

urlpatterns = [path('', hello)]
";

/// A project with the command among its applications; the virtual environment's Python runs its manage.py.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = folder();
        let admin = variable("MANIFOLD_TEST_VENV").join("bin/django-admin");
        run(Command::new(admin).args(["startproject", "mysite"]).arg(folder.path())).expect_ok();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/manifold_django");
        for file in [
            "__init__.py",
            "management/__init__.py",
            "management/commands/__init__.py",
            "management/commands/runmanifold.py",
        ] {
            let text = std::fs::read_to_string(package.join(file)).expect("a file of the package");
            write(folder.path(), &format!("manifold_django/{file}"), &text);
        }
        write(folder.path(), "mysite/urls.py", URLS);
        write(folder.path(), "mysite/other.py", "from mysite.settings import *\n");
        let settings = folder.path().join("mysite/settings.py");
        let text = std::fs::read_to_string(&settings).expect("its settings");
        std::fs::write(&settings, text + "\nINSTALLED_APPS += ['manifold_django']\n")
            .expect("its settings are written");
        for (inside, mode) in
            [("mysite", 0o755), ("manage.py", 0o755), ("mysite/settings.py", 0o644)]
        {
            open_to_all(&folder.path().join(inside), mode);
        }
        Self { folder }
    }

    fn manage(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(variable("MANIFOLD_TEST_VENV").join("bin/python"));
        command.arg("-B").arg(self.folder.path().join("manage.py")).args(arguments);
        // Where it works must not matter, nor what whoever runs the tests has in the environment.
        command.current_dir("/").env_remove("VIRTUAL_ENV").env_remove("DJANGO_SETTINGS_MODULE");
        command.env("MANIFOLD", program());
        command
    }
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_manifold"))
}

#[test]
fn runmanifold_serves_the_project_that_manage_py_belongs_to() {
    let project = Project::new();
    let serving = Serving::spawn(project.manage(&["runmanifold", "--port", "0"]));
    let folder = project.folder.path().display().to_string();
    assert_eq!(serving.get("/"), format!("mysite.settings {folder}"));
    let (status, log) = serving.end(libc::SIGTERM);
    assert!(status.success(), "{log}");
}

#[test]
fn runmanifold_serves_with_the_settings_that_are_named() {
    let project = Project::new();
    let arguments = ["runmanifold", "--settings", "mysite.other", "--port", "0"];
    let serving = Serving::spawn(project.manage(&arguments));
    let page = serving.get("/");
    assert!(page.starts_with("mysite.other "), "{page}");
}

#[test]
fn runmanifold_serves_a_project_that_fails_its_checks_only_if_they_are_skipped() {
    let project = Project::new();
    let wrong = "from mysite.settings import *\nLANGUAGES = [('no language', 'None')]\n";
    write(project.folder.path(), "mysite/wrong.py", wrong);
    let arguments = ["runmanifold", "--settings", "mysite.wrong", "--port", "0"];
    let said = run(&mut project.manage(&arguments));
    said.expect_failure("SystemCheckError");
    let serving = Serving::spawn(project.manage(&[&arguments[..], &["--skip-checks"]].concat()));
    let page = serving.get("/");
    assert!(page.starts_with("mysite.wrong "), "{page}");
}

#[test]
fn runmanifold_says_what_is_missing() {
    let project = Project::new();
    let said = run(&mut project.manage(&["runmanifold", "--no-such-option"]));
    said.expect_failure("unexpected argument '--no-such-option'");
    let said = run(project.manage(&["runmanifold"]).env("MANIFOLD", "/no/such/program"));
    said.expect_failure("MANIFOLD names /no/such/program, which is no program");
    let said = run(project.manage(&["runmanifold"]).env_remove("MANIFOLD").env("PATH", "/nowhere"));
    said.expect_failure("there is no program manifold");
}
