//! One server's error log, read from its file.

use std::path::PathBuf;

use super::eventually;

/// Lines that no well-behaved child leaves behind, whatever the test was about.
const BAD_ENDS: [&str; 6] = [
    "still did not exit",
    "SIGKILL",
    "exit signal",
    "Segmentation",
    "panicked",
    "Fatal Python error",
];

/// The error log of one server.
pub(crate) struct ErrorLog {
    path: PathBuf,
}

impl ErrorLog {
    pub(super) fn at(path: PathBuf) -> ErrorLog {
        ErrorLog { path }
    }

    /// All of it, as it is now.
    pub(crate) fn text(&self) -> String {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines that contain every one of `words`.
    pub(crate) fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let text = self.text();
        // What is behind the last newline is a line still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let wanted = |line: &&str| words.iter().all(|word| line.contains(word));
        whole.lines().filter(wanted).map(str::to_owned).collect()
    }

    /// Waits for a line that contains every one of `words`, and returns the first such.
    pub(crate) fn wait_for(&self, words: &[&str]) -> String {
        self.wait_for_count(words, 1).remove(0)
    }

    /// Waits until at least `count` lines contain every one of `words`.
    pub(crate) fn wait_for_count(&self, words: &[&str], count: usize) -> Vec<String> {
        eventually(&format!("{count} log lines with {words:?}"), || {
            Some(self.lines_with(words)).filter(|lines| lines.len() >= count)
        })
    }

    /// Lines that say a child crashed, or had to be killed.
    pub(super) fn bad_ends(&self) -> Vec<String> {
        let text = self.text();
        let bad = |line: &&str| BAD_ENDS.iter().any(|word| line.contains(word));
        text.lines().filter(bad).map(str::to_owned).collect()
    }
}
