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

    fn words(line: &str) -> Vec<String> {
        let mut words = Words::new(line.as_bytes());
        std::iter::from_fn(|| words.word()).map(|word| String::from_utf8(word).unwrap()).collect()
    }

    fn option(line: &str) -> Option<OptionWord> {
        Words::new(line.as_bytes()).option()
    }

    #[test]
    fn words_are_split_at_white_space_outside_quotes() {
        assert_eq!(words(r#"  a "b c" 'd "e' f"#), ["a", "b c", "d \"e", "f"]);
        assert_eq!(words(r#""a \" \\ \n""#), [r#"a " \ \n"#]);
        assert_eq!(words(r#"'' "open"#), ["", "open"]);
        assert!(words("  ").is_empty());
    }

    #[test]
    fn an_option_is_a_name_and_a_value_that_may_be_quoted() {
        let pair = |name: &str, value: &str| Some(OptionWord::Pair(name.into(), value.into()));
        assert_eq!(option("home='/a b' x=y"), pair("home", "/a b"));
        assert_eq!(option("a=b=c"), pair("a", "b=c"));
        assert_eq!(option("a="), pair("a", ""));
        assert_eq!(option("word"), Some(OptionWord::Invalid("word".into())));
        assert_eq!(option("=x"), Some(OptionWord::Invalid("=x".into())));
        assert_eq!(option("a = b"), Some(OptionWord::Invalid("a".into())));
        assert_eq!(option(" "), None);
    }
}
