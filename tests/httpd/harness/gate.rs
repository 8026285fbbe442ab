//! What holds applications until the test lets them go.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::eventually;
use super::server::open_to_all;

/// A FIFO at which applications wait until the test opens it, for one byte each.
pub(crate) struct Gate {
    path: PathBuf,
    writer: OnceLock<File>,
}

impl Gate {
    pub(super) fn make(path: PathBuf) -> Gate {
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
        // SAFETY: the name is a C string that lives through the call.
        let made = unsafe { libc::mkfifo(name.as_ptr(), 0o666) };
        assert_eq!(made, 0, "a FIFO at {}", path.display());
        open_to_all(&path, 0o666);
        Gate { path, writer: OnceLock::new() }
    }

    /// Waits until someone stands at the gate.
    pub(crate) fn held(&self) {
        self.writer.get_or_init(|| {
            eventually("someone at the gate", || {
                // Without a reader this fails at once (ENXIO).
                OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path).ok()
            })
        });
    }

    /// Lets everyone pass who is there and who comes later.
    pub(crate) fn open(&self) {
        self.held();
        let mut writer = self.writer.get().expect("someone is there");
        writer.write_all(&[0; 4096]).expect("a pipe takes a page");
    }
}

/// The file that `busy.wsgi` maps: one byte is set there, the other here.
pub(crate) struct Flags {
    file: File,
}

impl Flags {
    pub(super) fn make(path: &Path) -> Flags {
        fs::write(path, [0, 0]).expect("the flags are written");
        open_to_all(path, 0o666);
        let file = OpenOptions::new().read(true).write(true).open(path);
        Flags { file: file.expect("the flags are opened") }
    }

    /// Waits until the computation has begun: from then on its GIL is held.
    pub(crate) fn begun(&self) {
        eventually("the computation has begun", || {
            let mut flags = [0, 0];
            self.file.read_exact_at(&mut flags, 0).ok()?;
            (flags[1] == 1).then_some(())
        });
    }

    /// Ends the computation. In place: a shorter file would be a bus error in who has it mapped.
    pub(crate) fn finish(&self) {
        self.file.write_all_at(&[1], 0).expect("the flag is set");
    }
}
