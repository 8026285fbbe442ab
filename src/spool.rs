//! What follows a part of a response: in memory as copies or as lent objects, and behind that in the store.
#![forbid(unsafe_code)]

use crate::lending::{Lender, Lent, Loan};
use crate::store::TAIL;
use crate::{Outcome, Store, Stored};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What follows a part of a response that the request thread has not come to yet. Until it has, more
/// can be put here, and how the response ended: for neither anybody waits, and nobody is woken.
#[derive(Debug)]
pub struct Spool(Mutex<State>);

#[derive(Debug)]
enum State {
    /// More may come.
    Open(Tail),
    /// The response ends behind it.
    Ended(Tail, Outcome),
    /// Nothing can be added any more.
    Taken,
}

/// What a spool holds.
#[derive(Debug, Default)]
pub struct Tail {
    /// The first bytes.
    pub blocks: Blocks,
    /// The bytes behind those, where there are more.
    pub stored: Option<Stored>,
}

/// Bytes in memory, in the order in which the application said them.
///
/// Some may be lent by an interpreter, which waits for them when it ends. So nobody waits for a client
/// while this is there, but makes copies before, and gives them back.
#[derive(Debug, Default)]
pub struct Blocks {
    length: usize,
    order: Vec<Block>,
    /// The bytes of all that are copies, one behind the other.
    copies: Vec<u8>,
    loan: Option<Loan>,
}

#[derive(Clone, Copy, Debug)]
enum Block {
    /// So many bytes of the copies.
    Copied(usize),
    /// The next object of the loan.
    Lent,
}

impl Blocks {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes, in their order.
    pub fn slices(&self) -> impl Iterator<Item = Slice<'_>> {
        let mut copies = &self.copies[..];
        let mut lent = self.loan.iter().flat_map(Loan::blocks);
        self.order.iter().map(move |block| match block {
            Block::Copied(length) => {
                let (bytes, rest) = copies.split_at(*length);
                copies = rest;
                Slice { bytes, is_lent: false }
            }
            Block::Lent => {
                let bytes = lent.next().expect("there is an object for each");
                Slice { bytes, is_lent: true }
            }
        })
    }

    /// Gives back what was lent; nothing is to be sent any more.
    pub fn give_back(&mut self) {
        self.loan = None;
        self.order.clear();
        self.length = 0;
    }

    /// Copies what was lent, and gives it back.
    fn own(&mut self) {
        if self.loan.is_none() {
            return;
        }
        let mut copies = Vec::with_capacity(self.length);
        self.slices().for_each(|slice| copies.extend_from_slice(slice.bytes));
        *self = Self {
            length: self.length,
            order: vec![Block::Copied(self.length)],
            copies,
            loan: None,
        };
    }

    fn copy(&mut self, store: &Store, block: &[u8]) {
        if self.copies.capacity() == 0 {
            self.copies = store.buffer();
        }
        self.copies.extend_from_slice(block);
        self.length += block.len();
        match self.order.last_mut() {
            Some(Block::Copied(length)) => *length += block.len(),
            _ => self.order.push(Block::Copied(block.len())),
        }
    }

    fn lend(&mut self, new_loan: impl FnOnce() -> Loan, length: usize, lent: Lent) {
        self.loan.get_or_insert_with(new_loan).push(lent);
        self.length += length;
        self.order.push(Block::Lent);
    }

    /// What the copies are in.
    pub(crate) fn into_copies(self) -> Vec<u8> {
        self.copies
    }
}

/// Some of the bytes of [`Blocks`].
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Whether an interpreter has lent them.
    pub is_lent: bool,
}

/// What is left to send of bytes in several places, one behind the other.
#[derive(Debug)]
pub struct Unsent<'a> {
    left: usize,
    /// The next ones are the last.
    slices: Vec<Slice<'a>>,
}

impl<'a> Unsent<'a> {
    /// The bytes of a part, and what follows them in memory.
    pub fn of(body: &'a [u8], blocks: &'a Blocks) -> Self {
        let mut slices = Vec::with_capacity(1 + blocks.order.len());
        slices.push(Slice { bytes: body, is_lent: false });
        slices.extend(blocks.slices());
        slices.reverse();
        Self { left: body.len() + blocks.len(), slices }
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether none are left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next bytes, at most `limit` of them.
    pub fn piece(&mut self, limit: usize) -> impl Iterator<Item = Slice<'a>> {
        let mut left = limit;
        std::iter::from_fn(move || {
            let slice = self.next(left)?;
            left -= slice.bytes.len();
            Some(slice)
        })
    }

    /// Passes the bytes on for as long as they are taken, which is said each time.
    pub fn take_while(&mut self, mut is_taken: impl FnMut(&[u8]) -> bool) {
        while let Some(slice) = self.slices.pop_if(|slice| is_taken(slice.bytes)) {
            self.left -= slice.bytes.len();
        }
    }

    /// The next bytes that lie together, at most `limit` of them.
    fn next(&mut self, limit: usize) -> Option<Slice<'a>> {
        let next = self.slices.pop_if(|_| limit > 0)?;
        let (bytes, rest) = next.bytes.split_at(next.bytes.len().min(limit));
        if !rest.is_empty() {
            self.slices.push(Slice { bytes: rest, ..next });
        }
        self.left -= bytes.len();
        Some(Slice { bytes, ..next })
    }
}

impl Spool {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Open(Tail::default()))))
    }

    /// Whether the client is so far behind that something was put into the store, and still is.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(&*self.lock(), State::Open(Tail { stored: Some(_), .. }))
    }

    /// Puts a copy of a block behind what is there, in memory. `false` where the request thread has come
    /// to it, or that would be too much.
    pub(crate) fn add(&self, store: &Store, block: &[u8]) -> bool {
        self.add_by(block.len(), |blocks| blocks.copy(store, block))
    }

    /// The same with a block that an interpreter lends.
    pub(crate) fn lend(
        self: &Arc<Self>,
        lender: &Arc<Lender>,
        length: usize,
        lend: impl FnOnce() -> Lent,
    ) -> bool {
        let new_loan = || Loan::new(lender, Arc::downgrade(self));
        self.add_by(length, |blocks| blocks.lend(new_loan, length, lend()))
    }

    fn add_by(&self, length: usize, add: impl FnOnce(&mut Blocks)) -> bool {
        match &mut *self.lock() {
            State::Open(Tail { blocks, stored: None }) if blocks.len() + length <= TAIL => {
                add(blocks);
                true
            }
            _ => false,
        }
    }

    /// Puts a block behind what is there, in the store. `false` where the request thread has come to it,
    /// or there is no room.
    pub(crate) fn append(&self, store: &Arc<Store>, block: &[u8]) -> bool {
        match &mut *self.lock() {
            State::Open(Tail { stored: Some(stored), .. }) => stored.append(block),
            State::Open(Tail { stored: none, .. }) => {
                *none = Stored::copy_of(store, block);
                none.is_some()
            }
            State::Ended(..) | State::Taken => false,
        }
    }

    /// Says how the response ended. `false` where the request thread has come to this.
    pub(crate) fn end(&self, outcome: Outcome) -> bool {
        let mut state = self.lock();
        let State::Open(tail) = &mut *state else { return false };
        *state = State::Ended(mem::take(tail), outcome);
        true
    }

    /// Copies what was lent, where the request thread has not come to it.
    pub(crate) fn own(&self) {
        match &mut *self.lock() {
            State::Open(tail) | State::Ended(tail, _) => tail.blocks.own(),
            State::Taken => {}
        }
    }

    /// What is there, and how the response ended, if it has.
    pub fn take(&self) -> (Tail, Option<Outcome>) {
        let mut state = self.lock();
        let (mut tail, end) = match mem::replace(&mut *state, State::Taken) {
            State::Open(tail) => (tail, None),
            State::Ended(tail, outcome) => (tail, Some(outcome)),
            State::Taken => (Tail::default(), None),
        };
        // Before the lock is let go: an interpreter that ends waits for what it does not find here.
        tail.blocks.loan.iter_mut().for_each(Loan::begin);
        (tail, end)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lending::Release;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn returned(lender: &Lender) -> Vec<usize> {
        lender.returned().map(|object| object.addr().get()).collect()
    }

    fn content(tail: &Tail) -> Vec<u8> {
        let mut bytes =
            tail.blocks.slices().fold(Vec::new(), |so_far, slice| [&so_far, slice.bytes].concat());
        assert_eq!(bytes.len(), tail.blocks.len());
        if let Some(stored) = &tail.stored {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(stored.length()).unwrap(), 0);
            stored.read_at(&mut bytes[start..], 0).unwrap();
        }
        bytes
    }

    /// How a block comes into a spool.
    #[derive(Clone, Copy, Debug)]
    enum Way {
        Copy,
        Lend,
        Store,
    }

    proptest! {
        #[test]
        fn what_was_put_there_is_there_in_order_and_all_is_given_back(
            blocks in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..400), prop::sample::select(vec![Way::Copy, Way::Lend, Way::Store])),
                0..12,
            ),
            limit in 0_u64..20_000,
            owned in any::<bool>(),
            piece in 1_usize..500,
        ) {
            let (store, lender, spool) = (Store::new(limit), Arc::new(Lender::default()), Spool::new());
            let (mut wanted, mut stored, mut objects) = (Vec::new(), 0, Vec::new());
            for (index, (block, way)) in blocks.iter().enumerate() {
                let fits = match way {
                    Way::Store => stored + block.len() as u64 <= limit / 8,
                    _ => !spool.is_in_use(),
                };
                let put = match way {
                    Way::Copy => spool.add(&store, block),
                    Way::Lend => spool.lend(&lender, block.len(), || Lent::number(index + 1, block)),
                    Way::Store => spool.append(&store, block),
                };
                prop_assert_eq!(put, fits);
                match way {
                    Way::Store if fits => stored += block.len() as u64,
                    Way::Lend if fits => objects.push(index + 1),
                    _ => {}
                }
                if fits {
                    wanted.extend_from_slice(block);
                }
                prop_assert_eq!(store.used(), stored);
            }
            if owned {
                spool.own();
                prop_assert_eq!(returned(&lender), objects.clone());
            }
            let (tail, end) = spool.take();
            prop_assert_eq!(end, None);
            prop_assert_eq!(content(&tail), wanted.clone());
            let mut rest = Unsent::of(b"body", &tail.blocks);
            let mut read = Vec::new();
            while let Some(Slice { bytes, .. }) = rest.next(piece) {
                prop_assert!(bytes.len() <= piece);
                read.extend_from_slice(bytes);
                prop_assert_eq!(rest.len(), 4 + tail.blocks.len() - read.len());
            }
            prop_assert_eq!(&read, &[b"body", &wanted[..tail.blocks.len()]].concat());
            prop_assert_eq!(returned(&lender), Vec::<usize>::new());
            drop(tail);
            prop_assert_eq!(returned(&lender), if owned { Vec::new() } else { objects });
            prop_assert_eq!(store.used(), 0);
        }
    }

    #[test]
    fn a_buffer_of_copies_is_used_again() {
        let store = Store::new(0);
        let blocks = |block: &[u8]| {
            let spool = Spool::new();
            assert!(spool.add(&store, block));
            spool.take().0.blocks
        };
        let place = |blocks: &Blocks| blocks.copies.as_ptr();
        let (first, second) = (blocks(b"first"), blocks(b"second"));
        let places = [place(&second), place(&first)];
        assert_ne!(places[0], places[1]);
        [first, second].into_iter().for_each(|blocks| store.reuse(blocks));
        let again = [blocks(b"third"), blocks(b"fourth"), blocks(b"fifth")];
        assert_eq!([place(&again[0]), place(&again[1])], places);
        assert!(!places.contains(&place(&again[2])));
        assert_eq!(again[1].copies, b"fourth");
        store.reuse(Blocks { copies: vec![0; 2 * TAIL], ..Blocks::default() });
        assert_eq!(blocks(b"sixth").copies.capacity(), TAIL, "a larger one would be kept for good");
    }

    #[test]
    fn what_is_lent_is_copied_before_anybody_waits_and_gone_from_what_is_read() {
        let (store, lender) = (Store::new(0), Arc::new(Lender::default()));
        let spools = [Spool::new(), Spool::new(), Spool::new()];
        for (object, spool) in (1..).zip(&spools) {
            assert!(spool.add(&store, b"copied "));
            assert!(spool.lend(&lender, 4, || Lent::number(object, b"lent")));
        }
        assert!(spools[1].end(Outcome::Complete));
        let (mut tail, _) = spools[2].take();
        let is_lent = tail.blocks.slices().map(|slice| slice.is_lent);
        assert_eq!(is_lent.collect::<Vec<_>>(), [false, true]);
        lender.call_in(Duration::ZERO);
        assert_eq!(returned(&lender), [1, 2], "the third is read");
        tail.blocks.own();
        assert_eq!((returned(&lender), content(&tail)), (vec![3], b"copied lent".to_vec()));
        for spool in &spools[..2] {
            assert_eq!(content(&spool.take().0), b"copied lent");
        }
        assert_eq!(returned(&lender), Vec::<usize>::new());
    }

    #[test]
    fn an_interpreter_waits_for_those_who_read() {
        let lender = Arc::new(Lender::default());
        let spool = Spool::new();
        assert!(spool.lend(&lender, 4, || Lent::number(1, b"lent")));
        let (tail, _) = spool.take();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(tail);
        });
        lender.call_in(Duration::from_secs(60));
        assert_eq!(returned(&lender), [1]);
        reader.join().unwrap();
    }

    #[derive(Debug, Default)]
    struct Told(Arc<AtomicUsize>);

    impl Release for Told {
        fn release_soon(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn much_that_came_back_is_released_soon_and_little_is_not() {
        let (lender, told) = (Arc::new(Lender::default()), Arc::new(AtomicUsize::new(0)));
        lender.release_by(Told(Arc::clone(&told)));
        let block = vec![0; 64 << 10];
        let lend = |object| {
            assert!(Spool::new().lend(&lender, block.len(), || Lent::number(object, &block)));
            told.load(Ordering::Relaxed)
        };
        // Its spool has gone at once, so it has come back.
        let after: Vec<_> = (1..=32).map(lend).collect();
        assert_eq!((after[14], after[15], after[31]), (0, 1, 1), "said once");
        assert_eq!(returned(&lender).len(), 32);
        assert_eq!([lend(1), returned(&lender).len()], [1, 1], "little again");
        let after: Vec<_> = (1..=16).map(lend).collect();
        assert_eq!(after[14..], [1, 2]);
    }

    #[test]
    fn spools_that_have_gone_are_forgotten() {
        let lender = Arc::new(Lender::default());
        for object in 1..1000 {
            assert!(Spool::new().lend(&lender, 4, || Lent::number(object, b"lent")));
            assert!(lender.entered() <= 16);
        }
        assert_eq!(returned(&lender), (1..1000).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_comes_behind_the_end_nor_behind_what_was_taken() {
        let store = Store::new(1 << 20);
        let spool = Spool::new();
        assert!(!spool.is_in_use());
        assert!(spool.append(&store, b"one") && spool.is_in_use());
        assert!(spool.end(Outcome::Complete));
        assert!(!spool.append(&store, b"two") && !spool.end(Outcome::Truncated));
        let (tail, end) = spool.take();
        assert_eq!((content(&tail), end), (b"one".to_vec(), Some(Outcome::Complete)));
        assert!(!spool.add(&store, b"two"));
        assert!(!spool.append(&store, b"two") && !spool.end(Outcome::Truncated));
        let (tail, end) = spool.take();
        assert_eq!((content(&tail), end), (Vec::new(), None));
        let empty = Spool::new();
        assert!(empty.end(Outcome::Truncated));
        assert_eq!(empty.take().1, Some(Outcome::Truncated));
    }

    #[test]
    fn what_fits_into_memory_comes_first_and_keeps_its_order() {
        let store = Store::new(1 << 20);
        let spool = Spool::new();
        assert!(spool.add(&store, b"one ") && !spool.is_in_use());
        assert!(!spool.add(&store, &vec![0; TAIL]), "that is too much for memory");
        assert!(spool.append(&store, b"two ") && spool.append(&store, b"three"));
        assert!(!spool.add(&store, b"four"), "it would come before what is stored");
        assert_eq!(content(&spool.take().0), b"one two three");
    }
}
