//! A worker process, and what comes over its socket from who knows its secret, in whole and in pieces.
//! What comes from who does not is in `tests/httpd/daemon/peers.rs`.

use crate::peer::{
    self, ANSWER, ASK, FAILED, HELLO, PART, PROTOCOL, Peer, REFUSED, REQUEST, frame,
};
use crate::worker::{SECRET, Worker};
use std::os::fd::AsFd;
use std::time::Duration;

const APPLICATION: &str = "
def application(environ, start_response):
    start_response('200 OK', [('X-Path', environ['PATH_INFO'])])
    if environ['PATH_INFO'] == '/body':
        return [environ['wsgi.input'].read()]
    return [b'fine']
";

/// That application answers a request on this connection.
#[track_caller]
fn is_served(worker: &Worker, peer: &mut Peer) {
    peer.say(&worker.request("/served"));
    // The last part of the response: a head without a length, no file, and the body.
    let text = |text: &[u8]| [&[text.len() as u8, 0, 0, 0][..], text].concat();
    let head = [
        &[1, 1][..], // it ends, whole; there is a head
        &200_u16.to_le_bytes(),
        &text(b"200 OK"),
    ]
    .concat();
    let (kind, content) = peer.hear().expect("an answer");
    assert_eq!(kind, PART, "{}", String::from_utf8_lossy(&content));
    assert!(content.starts_with(&head), "{content:?}");
    let fields = [text(b"X-Path"), text(b"/served")].concat();
    assert!(content.windows(fields.len()).any(|bytes| bytes == fields), "{content:?}");
    assert!(content.ends_with(b"\0fine"), "{content:?}");
}

#[test]
fn who_knows_the_secret_is_welcome_and_served_again_and_again() {
    let worker = Worker::start(4, APPLICATION);
    let mut peer = worker.known();
    (0..3).for_each(|_| is_served(&worker, &mut peer));
    peer.close();
    assert_eq!(peer.hear_all(), []);
    assert_eq!(worker.lines_with("MNF"), [""; 0]);
}

#[test]
fn what_is_cut_at_any_byte_is_no_request_and_harms_nobody() {
    let worker = Worker::start(4, APPLICATION);
    let mut other = worker.known();
    is_served(&worker, &mut other);
    let request = worker.request("/body");
    let whole = [peer::hello(PROTOCOL, SECRET), request.clone()].concat();
    let page = peer::page();
    for end in 1..=whole.len() {
        let mut peer = worker.peer();
        peer.say_with(&whole[..end], page.as_fd());
        peer.close();
        let heard = peer.hear_all();
        assert!(
            heard.iter().all(|(kind, _)| [peer::WELCOME, ASK].contains(kind)),
            "{end}: {heard:?}"
        );
    }
    // Of the body, of which there is more.
    let answer = frame(ANSWER, b"\0some bytes");
    for end in 0..=answer.len() {
        let mut peer = worker.known();
        peer.say(&request);
        assert_eq!(peer.hear().map(|(kind, _)| kind), Some(ASK));
        peer.say(&answer[..end]);
        peer.close();
        let heard = peer.hear_all();
        assert!(heard.iter().all(|(kind, _)| *kind == ASK), "{end}: {heard:?}");
    }
    is_served(&worker, &mut other);
    is_served(&worker, &mut worker.known());
    assert_eq!(worker.lines_with("MNF0044"), [""; 0]);
}

#[test]
fn what_is_no_frame_closes_its_connection_only_and_is_said() {
    let worker = Worker::start(4, APPLICATION);
    let mut other = worker.known();
    is_served(&worker, &mut other);
    let request = worker.request("/");
    let changed = |place: usize, byte: u8| {
        let mut request = request.clone();
        request[place] = byte;
        request
    };
    let longer = |more: &[u8]| frame(REQUEST, &[&request[5..], more].concat());
    let too_long = [&0x0100_0001_u32.to_le_bytes()[..], &[REQUEST]].concat();
    let wrong = [
        (frame(0, b""), "the server sends none of that kind"),
        (frame(255, b"whatever"), "the server sends none of that kind"),
        (frame(PART, b""), "the server sends none of that kind"),
        (too_long, "it is too long"),
        (vec![255; 100], "it is too long"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "it is too long"),
        (frame(REQUEST, b""), "it is cut off"),
        (frame(REQUEST, &request[5..request.len() - 1]), "it is cut off"),
        (longer(b"x"), "it goes on behind its end"),
        // The length of the application group's name, behind how often the request was tried.
        (changed(16, 255), "it is cut off"),
        (frame(ANSWER, b"\x01"), "an answer came that nobody has asked for"),
        (frame(ANSWER, b"\x09"), "its answer is of an unknown kind"),
        (peer::hello(PROTOCOL, SECRET), "it says twice who it is"),
    ];
    for (number, (said, why)) in wrong.iter().enumerate() {
        let mut peer = worker.known();
        peer.say(said);
        assert_eq!(peer.hear_all(), [], "{why}");
        let lines = worker.wait_for_lines("MNF0044", number + 1);
        assert_eq!(lines.len(), number + 1, "{lines:#?}");
        assert!(lines[number].contains(why) && lines[number].contains("'shop'"), "{lines:#?}");
    }
    is_served(&worker, &mut other);
}

#[test]
fn what_is_no_answer_ends_its_request_only() {
    let worker = Worker::start(4, APPLICATION);
    let mut other = worker.known();
    for (said, why) in [
        (worker.request("/"), "a request came while another is under way"),
        (frame(ANSWER, b"\x09"), "its answer is of an unknown kind"),
        (frame(77, b""), "the server sends none of that kind"),
    ] {
        let mut peer = worker.known();
        peer.say(&worker.request("/body"));
        assert_eq!(peer.hear().map(|(kind, _)| kind), Some(ASK));
        peer.say(&said);
        assert_eq!(peer.hear_all(), [], "{why}");
        let lines = worker.wait_for_lines(why, 1);
        assert!(lines[0].contains("MNF0044"), "{lines:#?}");
        is_served(&worker, &mut other);
    }
}

#[test]
fn nothing_of_a_request_that_has_failed_comes_behind_the_word_that_says_so() {
    let application = "
import sys

class Endless:
    blocks = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.blocks += 1
        if self.blocks == 200:
            print('it is ahead', file=sys.stderr, flush=True)
        return b'x' * 65536

    def close(self):
        print('it is over', file=sys.stderr, flush=True)

def application(environ, start_response):
    start_response('200 OK', [('X-Path', environ['PATH_INFO'])])
    return Endless() if environ['PATH_INFO'] == '/endless' else [b'fine']
";
    let worker = Worker::start(1, application);
    let mut peer = worker.known();
    peer.say(&worker.request_within(Duration::from_secs(3), "/endless"));
    // Nobody reads, so most of it is put behind what was sent last. With some read, that is on its way.
    worker.wait_for_lines("it is ahead", 1);
    let mut read = 0;
    while read < 2 << 20 {
        let (kind, content) = peer.hear().expect("more of it");
        assert_eq!(kind, PART, "{}", String::from_utf8_lossy(&content));
        read += content.len();
    }
    worker.wait_for_lines("it is over", 1);
    while peer.hear().expect("a word that it has failed").0 != FAILED {}
    is_served(&worker, &mut peer);
}

#[test]
fn who_says_hello_in_another_way_is_refused_in_words() {
    let worker = Worker::start(4, APPLICATION);
    let (page, pipe) = (peer::page(), std::io::pipe().expect("a pipe").0);
    let open = rustix::fs::memfd_create(c"open", rustix::fs::MemfdFlags::ALLOW_SEALING);
    let open = open.expect("a page that could shrink");
    rustix::fs::ftruncate(&open, 4096).expect("it has a size");
    let hello = peer::hello(PROTOCOL, SECRET);
    let number = |number: u32| number.to_le_bytes();
    let of_another = |more: &[u8]| frame(HELLO, &[&number(PROTOCOL + 1)[..], more].concat());
    let older = "it speaks protocol 0, and manifold-worker";
    let newer = "it speaks protocol 2, and manifold-worker";
    let cases = [
        (peer::hello(PROTOCOL, [0; 32]), page.as_fd(), "its secret is another"),
        (peer::hello(0, SECRET), page.as_fd(), older),
        // What follows the number of another protocol may look otherwise.
        (of_another(&SECRET), page.as_fd(), newer),
        (of_another(b""), page.as_fd(), newer),
        (of_another(&[7; 900]), page.as_fd(), newer),
        (frame(HELLO, b""), page.as_fd(), "it is cut off"),
        (frame(HELLO, &[&number(PROTOCOL)[..], &[7; 33]].concat()), page.as_fd(), "behind its end"),
        (frame(HELLO, &[7; 1025]), page.as_fd(), "it is too long"),
        (worker.request("/"), page.as_fd(), "it does not say who it is"),
        (hello.clone(), pipe.as_fd(), "it brings no page"),
        (hello.clone(), open.as_fd(), "it brings no page"),
    ];
    for (said, descriptor, why) in &cases {
        let mut peer = worker.peer();
        peer.say_with(said, *descriptor);
        let heard = peer.hear_all();
        let [(REFUSED, words)] = &heard[..] else { panic!("{why}: {heard:?}") };
        let words = String::from_utf8_lossy(words);
        assert!(words.contains(why), "{words}");
        let cure = "restart httpd so that both are of one version";
        assert_eq!(words.contains("protocol"), words.contains(cure), "{words}");
    }
    let mut without = worker.peer();
    without.say(&hello);
    let [(REFUSED, words)] = &without.hear_all()[..] else { panic!("it is not refused") };
    assert_eq!(words, b"it brings no page");
    assert_eq!(worker.wait_for_lines("MNF0044", cases.len() + 1).len(), cases.len() + 1);
    is_served(&worker, &mut worker.known());
}

#[test]
fn whoever_says_nothing_takes_no_place_and_the_oldest_of_many_has_to_go() {
    let worker = Worker::start(2, APPLICATION);
    let mut silent: Vec<_> = (0..64).map(|_| worker.peer()).collect();
    let mut other = worker.known();
    is_served(&worker, &mut other);
    // It has taken the place of the first, and needs that no more.
    assert_eq!(silent.remove(0).hear_all(), []);
    silent.push(worker.peer());
    is_served(&worker, &mut other);
    assert!(silent.iter().all(|peer| !peer.is_closed()), "there was room for one more");
    // One of them begins to speak, and is heard.
    let mut late = silent.remove(0);
    late.say_with(&peer::hello(PROTOCOL, SECRET), peer::page().as_fd());
    assert_eq!(late.hear(), Some((peer::WELCOME, Vec::new())));
    is_served(&worker, &mut late);
    assert_eq!(worker.lines_with("MNF0044").len(), 1);
    assert!(worker.lines_with("MNF0044")[0].contains("64 connections to process group 'shop'"));
}

#[test]
fn beyond_its_connections_a_worker_takes_no_more_until_one_has_gone() {
    let worker = Worker::start(2, APPLICATION);
    let [mut one, mut two] = [worker.known(), worker.known()];
    for _ in 0..3 {
        let mut third = worker.peer();
        third.say_with(&peer::hello(PROTOCOL, SECRET), peer::page().as_fd());
        assert_eq!(third.hear_all(), [], "it is closed without a word: httpd tries again");
    }
    assert_eq!(worker.wait_for_lines("2 connections already", 1).len(), 1, "said once");
    is_served(&worker, &mut one);
    is_served(&worker, &mut two);
    two.close();
    assert_eq!(two.hear_all(), []);
    is_served(&worker, &mut worker.known());
}
