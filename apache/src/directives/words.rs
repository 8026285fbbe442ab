//! The words and options that a directive's line consists of.
#![forbid(unsafe_code)]

/// What is left of a directive's line.
#[derive(Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

/// `name=value`, or what stands where that should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OptionWord {
    /// An option.
    Pair(Vec<u8>, Vec<u8>),
    /// A word that is none.
    Invalid(Vec<u8>),
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// What is left of the line, which is then empty.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next word of the directive `name`, which has to be there and not be empty.
    pub(super) fn required(&mut self, name: &str, what: &str) -> Result<Vec<u8>, String> {
        match self.word() {
            Some(word) if !word.is_empty() => Ok(word),
            Some(_) => Err(format!("{name}: the {what} is empty")),
            None => Err(format!("{name}: the {what} is missing")),
        }
    }

    /// The only word that the directive `name` may have.
    pub(super) fn only(mut self, name: &str, what: &str) -> Result<Vec<u8>, String> {
        let word = self.required(name, what)?;
        match self.word() {
            None => Ok(word),
            Some(more) => Err(format!(
                "{name} takes one argument, the {what}; '{}' is one too many (put quotes around an argument with spaces)",
                String::from_utf8_lossy(&more)
            )),
        }
    }

    /// The next word. Quotes of either kind keep white space in it; inside them a backslash takes
    /// the meaning from a quote or a backslash.
    pub(super) fn word(&mut self) -> Option<Vec<u8>> {
        self.skip_space();
        if self.rest.is_empty() { None } else { Some(self.value()) }
    }

    /// The next option. Its value may be quoted as a word may.
    pub(super) fn option(&mut self) -> Option<OptionWord> {
        self.skip_space();
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace());
        let end = end.unwrap_or(self.rest.len());
        if end == 0 || self.rest.get(end) != Some(&b'=') {
            return Some(OptionWord::Invalid(self.value()));
        }
        let name = self.rest[..end].to_vec();
        self.rest = &self.rest[end + 1..];
        Some(OptionWord::Pair(name, self.value()))
    }

    /// Everything to the next white space, or to the closing quote.
    fn value(&mut self) -> Vec<u8> {
        let Some(quote) = self.rest.first().copied().filter(|byte| matches!(byte, b'"' | b'\''))
        else {
            let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return value.to_vec();
        };
        let mut value = Vec::new();
        let mut index = 1;
        while let Some(&byte) = self.rest.get(index) {
            index += 1;
            match self.rest.get(index) {
                Some(&next) if byte == b'\\' && (next == quote || next == b'\\') => {
                    value.push(next);
                    index += 1;
                }
                _ if byte == quote => break,
                _ => value.push(byte),
            }
        }
        self.rest = &self.rest[index..];
        value
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &[u8]) -> Vec<Vec<u8>> {
        let mut words = Words::new(line);
        std::iter::from_fn(|| words.word()).collect()
    }

    fn options(line: &[u8]) -> Vec<OptionWord> {
        let mut words = Words::new(line);
        std::iter::from_fn(|| words.option()).collect()
    }

    /// A word as one would write it so that it is read back.
    fn quoted(word: &[u8], quote: u8) -> Vec<u8> {
        let mut text = vec![quote];
        for byte in word {
            if *byte == quote || *byte == b'\\' {
                text.push(b'\\');
            }
            text.push(*byte);
        }
        text.push(quote);
        text
    }

    /// A word, quoted where it has to be or where `quote` says so.
    fn written(word: &[u8], quote: Option<u8>) -> Vec<u8> {
        let bare = !word.is_empty()
            && !word.iter().any(u8::is_ascii_whitespace)
            && !matches!(word[0], b'"' | b'\'');
        match quote {
            None if bare => word.to_vec(),
            _ => quoted(word, quote.unwrap_or(b'"')),
        }
    }

    /// Bytes of which many mean something in a line.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let special = prop::sample::select(b"\"'\\= \t\nab".as_slice());
        prop::collection::vec(prop_oneof![3 => special, 1 => any::<u8>()], 0..24)
    }

    fn quote() -> impl Strategy<Value = Option<u8>> {
        prop::sample::select([None, Some(b'"'), Some(b'\'')].as_slice())
    }

    fn space() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b" \t".as_slice()), 1..4)
    }

    proptest! {
        #[test]
        fn words_that_were_written_are_read_back(
            line in prop::collection::vec((text(), quote(), space()), 0..6)
        ) {
            let wanted: Vec<_> = line.iter().map(|(word, _, _)| word.clone()).collect();
            let parts = line.iter().flat_map(|(word, quote, space)| [written(word, *quote), space.clone()]);
            prop_assert_eq!(words(&parts.collect::<Vec<_>>().concat()), wanted);
        }

        #[test]
        fn options_that_were_written_are_read_back(
            line in prop::collection::vec(("[^=\\s\\p{C}]{1,8}", text(), quote(), space()), 0..6)
        ) {
            let wanted: Vec<_> = line
                .iter()
                .map(|(name, value, _, _)| OptionWord::Pair(name.clone().into(), value.clone()))
                .collect();
            let parts = line.iter().flat_map(|(name, value, quote, space)| {
                let value = if value.is_empty() && quote.is_none() { Vec::new() } else { written(value, *quote) };
                [name.clone().into_bytes(), b"=".to_vec(), value, space.clone()]
            });
            prop_assert_eq!(options(&parts.collect::<Vec<_>>().concat()), wanted);
        }

        #[test]
        fn any_line_is_read_to_its_end(line in text(), choices in any::<u32>()) {
            let mut words = Words::new(&line);
            for turn in 0.. {
                let before = words.rest.len();
                let more = match choices >> (turn % 32) & 1 {
                    0 => words.word().is_some(),
                    _ => words.option().is_some(),
                };
                if !more {
                    break;
                }
                prop_assert!(words.rest.len() < before, "a word was read from nothing");
            }
            prop_assert!(words.rest.is_empty());
        }

        #[test]
        fn a_word_without_a_name_and_an_equals_sign_is_no_option(line in text()) {
            let first = line.trim_ascii_start();
            let name = first.iter().take_while(|byte| **byte != b'=' && !byte.is_ascii_whitespace());
            let name = name.count();
            match Words::new(&line).option() {
                None => prop_assert!(first.is_empty()),
                Some(OptionWord::Pair(read, _)) => {
                    prop_assert_eq!((&read[..], first.get(name)), (&first[..name], Some(&b'=')));
                    prop_assert!(name > 0);
                }
                Some(OptionWord::Invalid(word)) => {
                    prop_assert!(name == 0 || first.get(name) != Some(&b'='));
                    prop_assert_eq!(Some(word), Words::new(&line).word());
                }
            }
        }
    }

    #[test]
    fn quotes_are_as_in_httpds_own_directives() {
        assert_eq!(
            words(br#"  a "b c" 'd "e' f"g h""#),
            [&b"a"[..], b"b c", b"d \"e", b"f\"g", b"h\""]
        );
        assert_eq!(words(br#""a \" \\ \n" "b"c"#), [&br#"a " \ \n"#[..], b"b", b"c"]);
        assert_eq!(words(br#"'' "open"#), [&b""[..], b"open"]);
    }

    #[test]
    fn an_option_is_a_name_and_a_value_without_space_between() {
        let pair = |name: &str, value: &str| OptionWord::Pair(name.into(), value.into());
        let invalid = |word: &str| OptionWord::Invalid(word.into());
        assert_eq!(options(b"home='/a b' a=b=c"), [pair("home", "/a b"), pair("a", "b=c")]);
        assert_eq!(options(b"a = b"), [invalid("a"), invalid("="), invalid("b")]);
    }
}
