//! Which extension modules may be loaded into interpreters of this process beside the main one.
//!
//! Each is judged once for each kind of GIL, before this process has touched its file: a
//! single-phase module that CPython refuses has run its initialisation by then, and some are broken
//! from then on in every interpreter. What CPython itself brings along is judged by a list, all
//! else by a [`probe`].

use crate::probe::{self, Finding, Question};
use crate::{Code, Gil, Settings};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// How many findings are kept.
const LIMIT: usize = 4096;

/// What is known in a process about extension modules. Nothing is locked while a probe runs: two
/// groups that meet a module at the same time ask about it twice.
#[derive(Debug)]
pub(crate) struct Gate {
    worker: Option<PathBuf>,
    home: Option<PathBuf>,
    findings: Mutex<HashMap<File, Arc<Finding>>>,
    blind: Once,
}

/// A file as it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    shared: bool,
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl File {
    /// `None` where there is no such file: CPython will say so itself.
    fn look(gil: Gil, path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            shared: gil == Gil::Shared,
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// A module that is about to be loaded.
pub(crate) struct Candidate<'a> {
    /// The GIL of the interpreter that it is for.
    pub(crate) gil: Gil,
    /// Its full name.
    pub(crate) name: &'a str,
    /// Its file.
    pub(crate) path: &'a Path,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            worker: settings.worker.clone(),
            home: settings.python_home.clone(),
            findings: Mutex::default(),
            blind: Once::new(),
        })
    }

    /// What is known of a module without a probe.
    pub(crate) fn known(&self, candidate: &Candidate<'_>, standard: &Path) -> Option<Arc<Finding>> {
        if candidate.path.parent() == Some(standard) {
            return Some(Arc::new(judge_standard(candidate)));
        }
        let Some(file) = File::look(candidate.gil, candidate.path) else {
            return Some(Arc::new(Finding::Loads));
        };
        self.lock().get(&file).cloned()
    }

    /// Has a probe try the module, and keeps what it finds. `search` is `sys.path`. It waits for
    /// seconds where a module hangs.
    pub(crate) fn find_out(&self, candidate: &Candidate<'_>, search: Vec<Vec<u8>>) -> Arc<Finding> {
        // Before it is tried: a file that changes meanwhile is another one.
        let file = File::look(candidate.gil, candidate.path);
        let question = Question {
            gil: candidate.gil,
            home: self.home.clone(),
            name: candidate.name.to_owned(),
            path: candidate.path.to_owned(),
            search,
        };
        let finding = Arc::new(match &self.worker {
            Some(worker) => probe::ask(worker, &question),
            None => Finding::Unknown("manifold-worker was not found beside the module".to_owned()),
        });
        tracing::info!(
            "extension module '{}' ({}), tried for interpreters with {}: {finding}",
            candidate.name,
            candidate.path.display(),
            match candidate.gil {
                Gil::Own => "their own GIL",
                Gil::Shared => "a shared GIL",
            },
        );
        match (&*finding, file) {
            // What is wrong may pass: no process could be made, say.
            (Finding::Unknown(why), _) => self.blind.call_once(|| {
                tracing::warn!(
                    "{}: extension module '{}' could not be tried in a process of its own, so it is \
                     taken for one that loads in the main interpreter only, as is every other: {why}; \
                     the User of httpd's children must be able to run the program that \
                     WSGIDaemonWorker names",
                    Code::NoProbe,
                    candidate.name
                );
            }),
            (_, Some(file)) => {
                let mut findings = self.lock();
                if findings.len() >= LIMIT {
                    findings.clear();
                }
                findings.insert(file, Arc::clone(&finding));
            }
            (_, None) => {}
        }
        finding
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<File, Arc<Finding>>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a module in CPython's own folder.
fn judge_standard(candidate: &Candidate<'_>) -> Finding {
    if candidate.gil == Gil::Own && cpython_sys::is_refused_with_own_gil(candidate.name) {
        return Finding::Refused(refusal(candidate.name));
    }
    Finding::Loads
}

/// CPython's words.
pub(crate) fn refusal(name: &str) -> String {
    format!("module {name} does not support loading in subinterpreters")
}

/// The module that these words are about.
pub(crate) fn refused_module(text: &str) -> Option<&str> {
    text.strip_prefix("module ")?.strip_suffix(" does not support loading in subinterpreters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Gate::new(&Settings::default())
    }

    fn candidate<'a>(gil: Gil, path: &'a Path) -> Candidate<'a> {
        Candidate { gil, name: "speed", path }
    }

    #[test]
    fn the_words_of_a_refusal_name_its_module() {
        assert_eq!(refused_module(&refusal("a.b")), Some("a.b"));
        assert_eq!(refused_module("No module named 'a.b'"), None);
    }

    #[test]
    fn a_finding_holds_until_the_file_is_another_and_for_one_kind_of_gil() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("speed.so");
        std::fs::write(&path, "one").expect("a file");
        let (gate, elsewhere) = (gate(), Path::new("/elsewhere"));
        let own = candidate(Gil::Own, &path);
        assert_eq!(gate.known(&own, elsewhere), None);
        let file = File::look(Gil::Own, &path).expect("it is there");
        gate.lock().insert(file, Arc::new(Finding::Hung));
        assert_eq!(gate.known(&own, elsewhere).as_deref(), Some(&Finding::Hung));
        assert_eq!(gate.known(&candidate(Gil::Shared, &path), elsewhere), None);
        std::fs::write(folder.path().join("new"), "two").expect("a file");
        std::fs::rename(folder.path().join("new"), &path).expect("it is replaced");
        assert_eq!(gate.known(&own, elsewhere), None);
    }

    #[test]
    fn what_no_probe_could_try_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("speed.so");
        std::fs::write(&path, "one").expect("a file");
        let (gate, own) = (gate(), candidate(Gil::Own, &path));
        assert!(matches!(&*gate.find_out(&own, Vec::new()), Finding::Unknown(_)));
        assert_eq!(gate.known(&own, Path::new("/elsewhere")), None);
    }

    #[test]
    fn there_is_an_end_to_findings() {
        // A probe that ends without an answer.
        let settings = Settings { worker: Some("/bin/true".into()), ..Settings::default() };
        let gate = Gate::new(&settings);
        let file =
            |inode| File { shared: false, path: PathBuf::new(), device: 1, inode, changed: (0, 0) };
        gate.lock().extend((0..LIMIT as u64).map(|inode| (file(inode), Arc::new(Finding::Loads))));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("speed.so");
        std::fs::write(&path, "one").expect("a file");
        gate.find_out(&candidate(Gil::Own, &path), Vec::new());
        assert_eq!(gate.lock().len(), 1);
    }
}
