//! Where this program is when pip has installed it: in the folder of programs of a virtual environment, or of a
//! Python, among whose packages are the module and the worker program.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// The package that has the two.
const PACKAGE: &str = "mod_manifold";

/// The virtual environment that this program is in.
pub(crate) fn environment() -> Option<PathBuf> {
    prefix().filter(|prefix| prefix.join("pyvenv.cfg").is_file())
}

/// The package's folder, for each Python that has it. An installation can be of several versions, as
/// /usr/local and ~/.local are, and a virtual environment is of one.
pub(crate) fn packages() -> Vec<PathBuf> {
    let mut found: Vec<_> = prefix().iter().flat_map(|prefix| below(prefix)).collect();
    // lib64 is lib in virtual environments.
    found.sort();
    found.dedup();
    found
}

/// The folder above `bin`.
fn prefix() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?.canonicalize().ok()?;
    let folder = own.parent()?;
    (folder.file_name()? == "bin").then(|| folder.parent().map(Path::to_owned))?
}

fn below(prefix: &Path) -> Vec<PathBuf> {
    let libraries =
        ["lib", "lib64"].into_iter().filter_map(|name| prefix.join(name).read_dir().ok());
    let pythons = libraries.flatten().flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with("python3."))
    });
    // Debian's own Python has packages that its packages do not bring in a folder of another name.
    let folders = pythons.flat_map(|python| {
        ["site-packages", "dist-packages"].map(|name| python.path().join(name).join(PACKAGE))
    });
    folders.filter_map(|folder| folder.canonicalize().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_package_is_found_once_in_each_python_of_a_prefix() {
        let at = tempfile::tempdir().expect("a folder");
        let at = at.path().canonicalize().expect("it is there");
        let packages = [
            at.join("lib/python3.13/site-packages/mod_manifold"),
            at.join("lib/python3.14/dist-packages/mod_manifold"),
        ];
        for folder in &packages {
            create_dir_all(folder).expect("a folder");
        }
        create_dir_all(at.join("lib/python3.15/site-packages/flask")).expect("a folder");
        create_dir_all(at.join("lib/ruby/site-packages/mod_manifold")).expect("a folder");
        symlink("lib", at.join("lib64")).expect("a link");
        let mut found = below(&at);
        found.sort();
        found.dedup();
        assert_eq!(found, packages);
    }
}
