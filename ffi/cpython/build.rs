//! Turns the linked Python's version into cfgs, and refuses one this project cannot stand on.

use pyo3_build_config::PythonVersion;

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    let python = pyo3_build_config::get();
    // For the run paths of what links this, see DEP_CPYTHON_LIB_DIR in their build scripts.
    if let Some(dir) = python.lib_dir().filter(|dir| !is_of_the_system(dir)) {
        println!("cargo:lib_dir={dir}");
    }
    let name = python.executable().unwrap_or("the Python found");
    if python.is_free_threaded() {
        panic!(
            "{name} is a free-threaded build, which has no GIL to give each interpreter. \
             Set PYO3_PYTHON to a default build of CPython 3.13 or later."
        );
    }
    if python.version() < (PythonVersion { major: 3, minor: 12 }) {
        panic!(
            "{name} is Python {}, which cannot give an interpreter a GIL of its own (PEP 684). \
             Set PYO3_PYTHON to a CPython 3.13 or later with a shared libpython.",
            python.version()
        );
    }
    if !python.shared() {
        panic!(
            "{name} has no shared libpython, and a module inside httpd cannot link a static one. \
             Set PYO3_PYTHON to a Python configured with --enable-shared (scripts/setup finds one)."
        );
    }
}

/// Whether the loader looks there anyway: /usr/lib, /usr/lib64, or Debian's /usr/lib/x86_64-linux-gnu. What is
/// built for such a Python needs no run path, and distributions want none in their packages.
fn is_of_the_system(dir: &str) -> bool {
    let inside = dir.strip_prefix("/usr").unwrap_or(dir).trim_start_matches('/');
    let mut parts = inside.split('/');
    matches!(parts.next(), Some("lib" | "lib64"))
        && parts.next().is_none_or(|name| name.ends_with("-linux-gnu"))
        && parts.next().is_none()
}
