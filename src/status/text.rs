//! A text in shared memory, replaced now and then by one process and read by others.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a reader tries again that finds the text being changed.
const ATTEMPTS: usize = 8;

/// At most `WORDS` times eight bytes. Readers wait for nobody: they see a text as it was written, or
/// none while it is changed.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Text<const WORDS: usize> {
    /// Odd while somebody writes.
    sequence: AtomicU32,
    length: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Text<WORDS> {
    /// How long it may be.
    pub(super) const LENGTH: usize = WORDS * 8;

    /// Replaces the text; what is too long is cut. Where somebody else writes, theirs stands.
    pub(super) fn set(&self, text: &[u8]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        let (now, odd) = (Ordering::Acquire, sequence.wrapping_add(1));
        if sequence % 2 == 1
            || self.sequence.compare_exchange(sequence, odd, now, Ordering::Relaxed).is_err()
        {
            return;
        }
        fence(Ordering::Release);
        let text = &text[..text.len().min(Self::LENGTH)];
        for (word, bytes) in self.words.iter().zip(text.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        self.length.store(u32::try_from(text.len()).unwrap_or(0), Ordering::Relaxed);
        self.sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// The bytes, which whoever shares the memory may have made anything.
    pub(super) fn get(&self) -> Vec<u8> {
        for _ in 0..ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            let length = self.length.load(Ordering::Relaxed) as usize;
            let mut bytes: Vec<u8> = self
                .words
                .iter()
                .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
                .collect();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                bytes.truncate(length);
                return bytes;
            }
        }
        Vec::new()
    }

    /// The same as text.
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.get()).into_owned()
    }

    /// Sets it free, where a process has died while it wrote.
    pub(super) fn free(&self) {
        self.sequence.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text<4> {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Text { sequence: AtomicU32::new(0), length: AtomicU32::new(0), words }
    }

    #[test]
    fn a_text_is_read_as_it_was_written_and_cut_where_it_is_too_long() {
        let text = text();
        assert_eq!(text.shown(), "");
        for written in ["", "a", "eight by", "something longer"] {
            text.set(written.as_bytes());
            assert_eq!(text.shown(), written);
        }
        text.set(&[b'x'; 100]);
        assert_eq!(text.get(), [b'x'; 32]);
    }

    #[test]
    fn a_process_that_dies_while_it_writes_leaves_no_text_until_somebody_takes_its_place() {
        let text = text();
        text.set(b"before");
        text.sequence.fetch_add(1, Ordering::SeqCst);
        assert_eq!(text.shown(), "");
        text.set(b"ignored");
        assert_eq!(text.shown(), "");
        text.free();
        text.set(b"after");
        assert_eq!(text.shown(), "after");
    }

    #[test]
    fn whatever_is_in_the_memory_can_be_read() {
        let text = text();
        text.set(&[0xff, 0xfe, 0]);
        text.length.store(u32::MAX, Ordering::SeqCst);
        assert_eq!(text.get().len(), 32);
        assert!(text.shown().starts_with('\u{fffd}'));
    }
}
