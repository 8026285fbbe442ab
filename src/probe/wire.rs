//! What goes over the pipes between a process that asks and its probe: a question as fields, each
//! with its length before it, and an answer as one letter with a text.
#![forbid(unsafe_code)]

use super::{Answer, Question};
use crate::Gil;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A question is not longer than this, so that writing it to an empty pipe never blocks.
pub(super) const LONGEST_QUESTION: usize = 60 * 1024;

/// Of an answer, no more is read than this.
pub(super) const LONGEST_ANSWER: u64 = 16 * 1024;

/// Both ends are of one build for one Python: files may be replaced under a running server.
const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " for Python ");

fn build() -> String {
    format!("{BUILD}{}", cpython_sys::VERSION_TEXT)
}

impl Question {
    pub(super) fn encode(&self) -> Vec<u8> {
        let gil: &[u8] = match self.gil {
            Gil::Own => b"own",
            Gil::Shared => b"shared",
        };
        let home = self.home.as_ref().map_or(&b""[..], |home| home.as_os_str().as_bytes());
        let path = self.path.as_os_str().as_bytes();
        let build = build();
        let mut fields = vec![build.as_bytes(), gil, home, self.name.as_bytes(), path];
        fields.extend(self.search.iter().map(Vec::as_slice));
        let mut text = Vec::new();
        for field in fields {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            text.extend_from_slice(&length.to_le_bytes());
            text.extend_from_slice(field);
        }
        text
    }

    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn decode(mut text: &[u8]) -> Result<Self, String> {
        let mut next = || -> Option<Vec<u8>> {
            let (length, rest) = text.split_first_chunk()?;
            let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            text = rest;
            Some(field.to_vec())
        };
        let cut_off = || "the question is cut off".to_owned();
        let theirs = next().ok_or_else(cut_off)?;
        if theirs != build().as_bytes() {
            return Err(format!(
                "it is version {}, and the server runs {}",
                build(),
                String::from_utf8_lossy(&theirs)
            ));
        }
        let gil = match next().ok_or_else(cut_off)?.as_slice() {
            b"own" => Gil::Own,
            b"shared" => Gil::Shared,
            _ => return Err("the question is for a GIL of no known kind".to_owned()),
        };
        let path_of = |field: Vec<u8>| PathBuf::from(OsString::from_vec(field));
        let home = next().ok_or_else(cut_off)?;
        let name = String::from_utf8(next().ok_or_else(cut_off)?)
            .map_err(|_| "the name of the module is no UTF-8".to_owned())?;
        let path = path_of(next().ok_or_else(cut_off)?);
        let search = std::iter::from_fn(next).collect();
        let home = (!home.is_empty()).then(|| path_of(home));
        Ok(Self { gil, home, name, path, search })
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (letter, text) = match self {
            Self::Loads => (b'+', ""),
            Self::Refused(text) => (b'-', text.as_str()),
            Self::Unable(text) => (b'?', text.as_str()),
        };
        let mut end = text.len().min(LONGEST_ANSWER as usize - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        [&[letter], &text.as_bytes()[..end]].concat()
    }

    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let (letter, text) = text.split_first()?;
        let text = String::from_utf8_lossy(text).into_owned();
        match letter {
            b'+' => Some(Self::Loads),
            b'-' => Some(Self::Refused(text)),
            b'?' => Some(Self::Unable(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..9)
    }

    proptest! {
        #[test]
        fn a_question_arrives_as_it_was_asked(
            own in any::<bool>(), home in bytes(), name in ".{0,9}", path in bytes(),
            search in proptest::collection::vec(bytes(), 0..4),
        ) {
            let gil = if own { Gil::Own } else { Gil::Shared };
            let path_of = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
            let home = (!home.is_empty()).then(|| path_of(home));
            let question = Question { gil, home, name, path: path_of(path), search };
            prop_assert_eq!(Question::decode(&question.encode()), Ok(question));
        }

        #[test]
        fn a_question_that_is_cut_off_or_something_else_is_refused(
            text in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            prop_assert!(Question::decode(&text).is_err());
        }

        #[test]
        fn an_answer_arrives_as_it_was_given(text in ".{0,20}") {
            for answer in [Answer::Loads, Answer::Refused(text.clone()), Answer::Unable(text.clone())] {
                prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
            }
        }
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        let answer = Answer::Refused("\u{e9}".repeat(LONGEST_ANSWER as usize));
        let text = answer.encode();
        assert!(text.len() as u64 <= LONGEST_ANSWER);
        assert!(std::str::from_utf8(&text).is_ok());
    }
}
