//! Real threads talk about many exchanges at once, leave early, and keep links that others let go
//! of. What an exchange says follows from its number alone, so each end can check every byte that
//! the other sent.

use super::watchdog::Watchdog;
use super::{block, last, number, open};
use crate::exchange::{ApplicationEnd, Exchanges, Gone, Link, Next, RequestEnd};
use crate::{Answer, Level, LogEntry, Reply};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How many threads there are of either side.
const THREADS: u64 = 4;

/// How many exchanges each request thread opens.
const EXCHANGES: u64 = 1500;

/// SplitMix64: the same numbers in every run, which is all that is asked of them.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What an application does with one exchange, and when an end leaves before its time.
struct Plan {
    number: u64,
    words: Vec<Word>,
    /// After how many words the request end leaves.
    request_leaves: Option<usize>,
    /// After how many words the application end leaves; without having started where it is none.
    application_leaves: Option<usize>,
    /// Whether another thread gets a link, to let go of it at some time.
    keepsake: bool,
}

#[derive(Clone, Copy)]
enum Word {
    Block(usize),
    Log(usize),
    Ask(usize),
}

impl Plan {
    fn of(number: u64) -> Self {
        let mut numbers = Numbers(number);
        // Most are short, some are longer than the channel by far.
        let length = match numbers.below(8) {
            0 => numbers.below(60),
            _ => numbers.below(6),
        };
        let words = (0..length)
            .map(|_| {
                let size = match numbers.below(16) {
                    0 => numbers.below(40_000),
                    _ => numbers.below(300),
                };
                let size = usize::try_from(size).expect("it is small");
                match numbers.below(4) {
                    0 => Word::Ask(size),
                    1 => Word::Log(size),
                    _ => Word::Block(size),
                }
            })
            .collect();
        let mut leaves = || {
            let after = usize::try_from(numbers.below(length + 1)).expect("it is small");
            numbers.once_in(5).then_some(after)
        };
        Self {
            number,
            words,
            request_leaves: leaves(),
            application_leaves: leaves(),
            keepsake: numbers.once_in(4),
        }
    }

    /// The bytes of a word: those of another exchange, and of another word, are different.
    fn bytes(&self, word: usize, size: usize) -> Vec<u8> {
        let stamp = Numbers(self.number << 8 | word as u64).next().to_le_bytes();
        (0..size).map(|at| stamp[at % 8].wrapping_add((at / 8) as u8)).collect()
    }

    /// A line for the error log.
    fn line(&self, word: usize, size: usize) -> String {
        format!("{} {word} {}", self.number, "x".repeat(size))
    }
}

/// Keeps links that their exchanges' own threads have done with, for a while.
fn keep(links: &Receiver<Arc<Link>>) {
    let mut kept = VecDeque::new();
    loop {
        match links.recv_timeout(Duration::from_millis(1)) {
            Ok(link) => kept.push_back(link),
            Err(RecvTimeoutError::Timeout) => drop(kept.pop_front()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if kept.len() > THREADS as usize {
            let oldest = kept.pop_front().expect("there are some");
            let late = LogEntry::new(Level::Debug, String::new());
            // Whoever reads it knows an empty line; where nobody does, it comes back.
            drop(oldest.log(late));
        }
    }
}

/// Reads one exchange to its end, or leaves where its plan says so.
fn request(plan: &Plan, end: RequestEnd) {
    let mut heard = 0;
    loop {
        if plan.request_leaves == Some(heard) {
            return;
        }
        match end.next(None) {
            Next::Reply(Reply::Log(entry)) if entry.text.is_empty() => {}
            Next::Reply(Reply::Log(entry)) => {
                // The ones before it that found no room are missing.
                let word = entry.text.split(' ').nth(1).and_then(|n| n.parse().ok());
                let word: usize = word.expect("a line names its word");
                let skipped = &plan.words[heard..word];
                assert!(skipped.iter().all(|word| matches!(word, Word::Log(_))));
                let Word::Log(size) = plan.words[word] else {
                    panic!("a line that nobody wrote");
                };
                assert_eq!(entry.text, plan.line(word, size));
                heard = word + 1;
            }
            Next::Reply(Reply::Ask { at_least, at_most }) => {
                heard += logs(plan, heard);
                let Word::Ask(size) = plan.words[heard] else {
                    panic!("a question that nobody asked");
                };
                assert_eq!((at_least, at_most), (heard, size));
                end.answer(Answer::Body {
                    bytes: plan.bytes(heard, size),
                    last: plan.number.is_multiple_of(2),
                });
                heard += 1;
            }
            Next::Reply(Reply::Response(part)) if part.end.is_some() => {
                heard += logs(plan, heard);
                assert_eq!(heard, plan.words.len(), "it ended early");
                assert_eq!(plan.application_leaves, None);
                return;
            }
            Next::Reply(Reply::Response(part)) => {
                heard += logs(plan, heard);
                let Word::Block(size) = plan.words[heard] else {
                    panic!("a block that nobody sent");
                };
                assert!(part.body == plan.bytes(heard, size), "of another exchange");
                heard += 1;
            }
            Next::Lost => {
                heard += logs(plan, heard);
                assert!(plan.application_leaves.is_some_and(|at| at >= heard || {
                    // Lines between the last word heard and the end may have found no room.
                    plan.words[at..heard].iter().all(|w| matches!(w, Word::Log(_)))
                }));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// How many lines for the log come next in the plan; they are heard only where there was room.
fn logs(plan: &Plan, from: usize) -> usize {
    let rest = &plan.words[from..];
    rest.iter().take_while(|w| matches!(w, Word::Log(_))).count()
}

/// Plays the application of one exchange.
fn application(plan: &Plan, end: &ApplicationEnd, keeper: &Sender<Arc<Link>>) {
    if plan.keepsake {
        let kept = keeper.send(Arc::clone(end.link()));
        assert!(kept.is_ok(), "there is a keeper");
    }
    if plan.application_leaves == Some(0) {
        return;
    }
    end.link().start();
    match say(plan, end.link()) {
        Ok(()) => {}
        Err(Gone) => {
            assert!(plan.request_leaves.is_some(), "its request end is there");
            assert!(end.link().request_gone());
        }
    }
}

fn say(plan: &Plan, link: &Link) -> Result<(), Gone> {
    for (index, word) in plan.words.iter().enumerate() {
        if plan.application_leaves == Some(index) {
            return Ok(());
        }
        match *word {
            Word::Block(size) => link.respond(block(plan.bytes(index, size)))?,
            Word::Log(size) => {
                let entry = LogEntry::new(Level::Info, plan.line(index, size));
                if let Err(entry) = link.log(entry) {
                    assert_eq!(entry.text, plan.line(index, size));
                }
            }
            Word::Ask(size) => {
                let Answer::Body { bytes, last } = link.ask(index, size)? else {
                    panic!("nobody refuses");
                };
                assert!(bytes == plan.bytes(index, size), "of another exchange");
                assert_eq!(last, plan.number.is_multiple_of(2));
            }
        }
    }
    if plan.application_leaves.is_none() {
        link.respond(last())?;
    }
    Ok(())
}

#[test]
fn no_byte_gets_lost_or_into_another_exchange_however_the_ends_come_and_go() {
    let _watchdog = Watchdog::start("exchanges that come and go");
    // Fewer than there are ends and keepsakes at times, so that opening is refused as well.
    let exchanges = Exchanges::new(2 * THREADS as usize);
    let (queue, jobs) = bounded::<ApplicationEnd>(THREADS as usize);
    let (keeper, links) = bounded(THREADS as usize);
    let numbers = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| keep(&links));
        for _ in 0..THREADS {
            let (jobs, keeper) = (jobs.clone(), keeper.clone());
            scope.spawn(move || {
                for end in jobs {
                    let plan = Plan::of(number(&end));
                    application(&plan, &end, &keeper);
                }
            });
        }
        drop(keeper);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EXCHANGES {
                        let plan = Plan::of(numbers.fetch_add(1, Ordering::Relaxed));
                        let (request_end, application_end) = loop {
                            if let Some(ends) = open(&exchanges, plan.number) {
                                break ends;
                            }
                            thread::yield_now();
                        };
                        queue.send(application_end).expect("there is a receiver");
                        request(&plan, request_end);
                    }
                });
            }
        });
        // All are over: the threads of the applications have nothing more to wait for.
        drop(queue);
    });
    assert_eq!(exchanges.live(), 0);
    let slots = exchanges.lock().spare.len();
    assert!(slots <= 2 * THREADS as usize, "{slots} slots");
}

#[test]
fn a_request_end_that_leaves_frees_every_thread_that_waits_for_it() {
    let _watchdog = Watchdog::start("applications of many threads");
    let exchanges = Exchanges::new(1);
    for round in 0..300 {
        let (request, application) = open(&exchanges, round).expect("the last one is over");
        let link = application.link();
        thread::scope(|scope| {
            scope.spawn(|| while link.respond(block(vec![0; 10])) == Ok(()) {});
            scope.spawn(|| while link.ask(1, 1).is_ok() {});
            for _ in 0..6 {
                scope.spawn(|| {
                    let entry = || LogEntry::new(Level::Debug, String::new());
                    while !link.request_gone() {
                        drop(link.log(entry()));
                    }
                });
            }
            for _ in 0..round % 7 {
                if let Next::Reply(Reply::Ask { .. }) = request.next(None) {
                    request.answer(Answer::Failed);
                }
            }
            drop(request);
        });
    }
    assert_eq!(exchanges.live(), 0);
}

#[test]
fn an_interrupt_ends_every_wait_of_every_request_end() {
    let _watchdog = Watchdog::start("interrupted exchanges");
    for round in 0..200 {
        let exchanges = Exchanges::new(THREADS as usize);
        let mut applications = Vec::new();
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (request, application) = open(&exchanges, number).expect("room");
                applications.push(application);
                scope.spawn(move || while !matches!(request.next(None), Next::Interrupted) {});
            }
            for application in &applications {
                scope.spawn(move || {
                    // Some channels are full, some have something in them, some have nothing.
                    for _ in 0..(round + number(application)) % 9 {
                        if application.link().respond(block(Vec::new())).is_err() {
                            return;
                        }
                    }
                });
            }
            exchanges.interrupt();
            exchanges.interrupt();
        });
        drop(applications);
        assert_eq!(exchanges.live(), 0);
    }
}

#[test]
fn interrupts_keep_no_application_waiting_for_a_request_end_that_has_left() {
    let _watchdog = Watchdog::start("interrupted applications");
    for round in 0..3000 {
        let exchanges = Exchanges::new(1);
        let (request, application) = open(&exchanges, round).expect("room");
        thread::scope(|scope| {
            scope.spawn(|| while application.link().respond(block(Vec::new())) == Ok(()) {});
            scope.spawn(|| {
                for _ in 0..30 {
                    exchanges.interrupt();
                }
            });
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            drop(request);
        });
    }
}
