//! A process group with a root directory of its own: which paths are those inside of it.

use super::groups;
use crate::harness::{Server, test_python, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

/// Says where it is, and which file the URL stands for.
const SHOWING: &str = "
import os

def application(environ, start_response):
    start_response('200 OK', [])
    return [f\"{__file__} {environ['SCRIPT_FILENAME']} {'jailed' in os.listdir('/')}\".encode()]

handle_request = application
print('loaded', __file__)
";

/// Copies the standard library of this Python, and the shared libraries that it needs, to where they are
/// found by a process whose root directory is that one. Nothing is mounted: what is deleted with it is a copy.
const COPYING: &str = r#"
import os, shutil, subprocess, sys, sysconfig

jail = sys.argv[1]
left_out = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "ensurepip", "__pycache__",
                                  "site-packages", "dist-packages", "config-*", "*.a")
needed = set()
for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
    if not os.path.isdir(folder):
        continue  # a virtual environment has none of its own
    shutil.copytree(folder, jail + folder, ignore=left_out, dirs_exist_ok=True)
    for where, _, names in os.walk(folder + "/lib-dynload"):
        for name in names:
            said = subprocess.run(["ldd", os.path.join(where, name)], capture_output=True, text=True)
            words = (line.split() for line in said.stdout.splitlines())
            needed.update(line[2] for line in words if len(line) > 2 and line[2].startswith("/"))
for library in needed:
    os.makedirs(jail + os.path.dirname(library), exist_ok=True)
    shutil.copy(library, jail + library)
"#;

/// A directory that Python can have as its root; `None` where this process may not have one.
fn jail() -> Option<TempDir> {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: it takes root to change the root directory");
        return None;
    }
    let root = tempfile::Builder::new().prefix("manifold-").tempdir().expect("a folder");
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let copied = Command::new(test_python()).args(["-c", COPYING]).arg(root.path()).output();
    let copied = copied.expect("the copy is made");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    for name in ["app", "imported", "handler"] {
        write(root.path(), &format!("jailed/{name}.wsgi"), SHOWING);
    }
    Some(root)
}

#[test]
fn paths_of_files_are_those_inside_the_root_directory() {
    let Some(jail) = jail() else { return };
    let root = jail.path().display().to_string();
    let server = Server::start(
        groups(&format!(
            "WSGIDaemonProcess jail chroot={root}\n\
             WSGIScriptAlias /app {root}/jailed/app.wsgi process-group=jail application-group=a\n\
             WSGIImportScript /jailed/imported.wsgi process-group=jail application-group=a\n\
             WSGIScriptAlias /imported {root}/jailed/imported.wsgi process-group=jail \
             application-group=a\n\
             WSGIScriptAlias /outside ${{APPS}}/hello.wsgi process-group=jail\n\
             WSGIHandlerScript handler /jailed/handler.wsgi process-group=jail application-group=a\n\
             Alias /in {root}/jailed\n\
             <LocationMatch \"^/(in|docs)/\">\nSetHandler handler\n</LocationMatch>\n\
             <Location />\nRequire all granted\n</Location>"
        ))
        .with("alias"),
    );
    for loaded in ["/jailed/app.wsgi", "/jailed/imported.wsgi"] {
        server.log().wait_for(&[&format!("loaded {loaded}")]);
    }
    for name in ["app", "imported"] {
        let file = format!("/jailed/{name}.wsgi");
        server.get(&format!("/{name}")).expect(200, &format!("{file} {file} True"));
    }
    let shown = "/jailed/handler.wsgi /jailed/any True";
    server.get("/in/any").expect(200, shown);
    for outside in ["/outside", "/docs/any"] {
        assert_eq!(server.get(outside).status, 500, "{outside}");
        server.log().wait_for(&[":error]", "MNF0053", "'jail'", &format!("chroot={root}")]);
    }
    let loaded = server.log().lines_with(&["loaded /jailed/"]);
    assert_eq!(loaded.len(), 3, "each was loaded once: {loaded:#?}");
    server.stop();
}
