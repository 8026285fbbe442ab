//! The fenced blocks of the documentation, for tests that do what a page says.
//!
//! Behind the language, an info string has words after commas, which mdBook and GitHub pass over: `file=app.wsgi` is
//! the name under which a page has its reader save a block, `id=node` is what a test calls it.

use std::fs;
use std::path::{Path, PathBuf};

/// A block between fences.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The page, from the top of the repository.
    pub(crate) page: String,
    /// The line of its first fence.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) words: Vec<String>,
    pub(crate) text: String,
}

impl Block {
    /// Whether a word stands in the info string.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// The value of a word `name=value`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.words.iter().filter_map(|word| word.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Where it is, for a message.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// The top of the repository.
pub(crate) fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = here.ancestors().find(|folder| folder.join("docs/SUMMARY.md").is_file());
    top.expect("the documentation is above the tests").to_owned()
}

/// The blocks of a page, which is named from the top of the repository.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let path = top().join(page);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        // One that belongs to an item of a list is moved in.
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let mut words = info.split(',').map(str::to_owned);
        let language = words.next().unwrap_or_default();
        let inside = lines.by_ref().map(|(_, line)| line.get(indent..).unwrap_or_default());
        let inside: Vec<_> = inside.take_while(|line| *line != "```").collect();
        blocks.push(Block {
            page: page.to_owned(),
            line: number + 1,
            language,
            words: words.collect(),
            text: inside.join("\n") + "\n",
        });
    }
    blocks
}

/// The block of a page that has this word.
pub(crate) fn block(page: &str, word: &str) -> Block {
    let found: Vec<_> = blocks(page).into_iter().filter(|block| block.has(word)).collect();
    let [block] = &found[..] else { panic!("{page} has {} blocks with {word}", found.len()) };
    block.clone()
}

/// All pages of the documentation, from the top of the repository.
pub(crate) fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder)).expect("a folder of the documentation") {
            let entry = entry.expect("an entry");
            let inside = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(inside);
            } else if inside.ends_with(".md") {
                pages.push(inside);
            }
        }
    }
    pages.sort();
    pages
}
