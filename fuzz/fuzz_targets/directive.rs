//! The line of a directive. The first byte says, a bit for each turn, whether a word or an option
//! is asked for.
#![no_main]

#[path = "../../apache/src/directives/words.rs"]
mod words;

use libfuzzer_sys::fuzz_target;
use words::{OptionWord, Words};

fuzz_target!(|input: &[u8]| {
    let Some((choices, line)) = input.split_first() else { return };
    let mut words = Words::new(line);
    // Each turn takes a byte at least, so more turns than bytes would be turns for ever.
    for turn in 0..=line.len() {
        let taken =
            if choices >> (turn % 8) & 1 == 0 { word(&mut words) } else { option(&mut words) };
        if !taken {
            assert!(words.word().is_none() && words.option().is_none(), "there was an end");
            first_is_the_same_either_way(line);
            return;
        }
    }
    panic!("the line has no end");
});

fn word(words: &mut Words<'_>) -> bool {
    words.word().is_some()
}

fn option(words: &mut Words<'_>) -> bool {
    match words.option() {
        Some(OptionWord::Pair(name, _)) => {
            assert!(!name.is_empty());
            assert!(!name.iter().any(|byte| *byte == b'=' || byte.is_ascii_whitespace()));
            true
        }
        Some(OptionWord::Invalid(_)) => true,
        None => false,
    }
}

/// What is no option is the word that stands there. A bare option is a word with its name, `=` and
/// its value.
fn first_is_the_same_either_way(line: &[u8]) {
    let word = Words::new(line).word();
    match Words::new(line).option() {
        None => assert_eq!(word, None),
        Some(OptionWord::Invalid(other)) => assert_eq!(word, Some(other)),
        Some(OptionWord::Pair(name, value)) => {
            let start = line.trim_ascii_start();
            assert!(start.starts_with(&name) && start[name.len()] == b'=');
            let quoted = |text: &[u8]| matches!(text.first(), Some(b'"' | b'\''));
            if !quoted(start) && !quoted(&start[name.len() + 1..]) {
                assert_eq!(word, Some([&name[..], b"=", &value].concat()));
            }
        }
    }
}
