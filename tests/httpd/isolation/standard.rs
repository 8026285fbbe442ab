//! The extension modules of CPython itself, which a list judges.

use super::{Script, ask, serve};
use crate::harness::{config_test, test_venv};
use std::path::Path;

/// Asks about each module twice: by its file, and by another name of that, which takes a probe.
/// Answers with those that are judged differently, and with how many there are of each kind.
const BOTH_WAYS: &str = r#"import _imp, importlib.machinery, importlib.util, os, sys, tempfile
folder = f"{sys.base_exec_prefix}/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}/lib-dynload"
elsewhere = tempfile.mkdtemp()
def refused(name, path):
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    try:
        _imp.create_dynamic(importlib.util.spec_from_file_location(name, path, loader=loader))
    except ImportError as error:
        return "does not support loading in subinterpreters" in str(error)
    except Exception:
        pass
    return False
different, kinds = [], {True: 0, False: 0}
for file in sorted(os.listdir(folder)):
    name = file.partition(".")[0]
    os.symlink(f"{folder}/{file}", f"{elsewhere}/{file}")
    tried, known = refused(name, f"{elsewhere}/{file}"), refused(name, f"{folder}/{file}")
    kinds[known] += 1
    if tried != known:
        different.append((name, tried))
answer = different, min(kinds.values()) > 0"#;

#[test]
fn the_list_says_of_each_module_what_a_probe_says() {
    let script = Script { name: "standard", imports: "", serve: BOTH_WAYS };
    let server = serve(Path::new(&test_venv()), "", &[script]);
    assert_eq!(ask(&server, "standard"), ("own".to_owned(), "([], True)".to_owned()));
}

#[test]
fn the_program_that_probes_is_named_by_its_absolute_path() {
    assert!(config_test("WSGIDaemonWorker /usr/lib/manifold-worker").ok);
    for wrong in ["manifold-worker", "", "/a /b"] {
        let test = config_test(&format!("WSGIDaemonWorker {wrong}"));
        assert!(!test.ok && test.said.contains("WSGIDaemonWorker"), "{wrong}: {}", test.said);
    }
}
