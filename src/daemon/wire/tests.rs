//! Frames arrive as they were sent, and nothing else is taken for one.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// The kind and content of the one frame that there is.
fn only(bytes: &[u8]) -> (u8, &[u8]) {
    let (start, content) = bytes.split_first_chunk().expect("a header");
    let (length, kind) = header(*start, LONGEST).expect("a frame");
    assert_eq!(content.len(), length, "the length is that of the content");
    (kind, content)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    bytes().prop_map(|mut line| {
        line.retain(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
        line
    })
}

fn packed(
    name: impl Strategy<Value = Vec<u8>>,
    value: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = Fields> {
    vec((name, value), 0..8).prop_map(|list| {
        let mut fields = Fields::default();
        list.iter().for_each(|(name, value)| fields.push(name, value));
        fields
    })
}

fn time() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn job() -> impl Strategy<Value = Job> {
    let reload = prop::sample::select(
        [Reload::Never, Reload::Module, Reload::Interpreter, Reload::Process].as_slice(),
    );
    let reload = (reload, prop::option::of(any::<i64>()));
    let timeout = prop::option::of((time(), time()));
    let script = (line(), line());
    let attempts = any::<(u32, u32)>();
    let ahead = (bytes(), any::<bool>()).prop_map(|(bytes, last)| Ahead { bytes, last });
    let rest = (any::<bool>(), any::<i64>(), any::<i64>(), any::<bool>(), any::<i32>(), attempts);
    (packed(bytes(), bytes()), script, reload, timeout, rest, ahead).prop_map(
        |(
            variables,
            (path, callable),
            (reload, script_modified),
            timeout,
            (https, received, sent, is_idle_talk, verbosity, attempts),
            ahead,
        )| Job {
            variables,
            ahead: ahead.into(),
            script: Some(Arc::new(Script::new(&path, &callable).unwrap())),
            reload,
            script_modified,
            timeout: timeout.map(|(limit, grace)| Timeout { limit, grace }),
            https,
            received,
            handed_over: (sent, 0),
            attempts,
            is_idle_talk,
            verbosity: Verbosity(verbosity),
            ..Job::default()
        },
    )
}

fn outcome() -> impl Strategy<Value = Option<Outcome>> {
    let code = prop::sample::select(Code::ALL);
    prop_oneof![
        Just(None),
        Just(Some(Outcome::Complete)),
        Just(Some(Outcome::Truncated)),
        code.prop_map(|code| Some(Outcome::Failed(code))),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    (200_u16..1000, line(), packed(line(), line()), prop::option::of(any::<u64>())).prop_map(
        |(status, status_line, headers, content_length)| Head {
            status,
            status_line,
            headers,
            content_length,
        },
    )
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (bytes(), any::<bool>()).prop_map(|(bytes, last)| Answer::Body { bytes, last }),
        Just(Answer::Failed),
        prop::option::of(bytes()).prop_map(Answer::Variable),
    ]
}

fn entry() -> impl Strategy<Value = LogEntry> {
    let levels = [Level::Critical, Level::Error, Level::Warning, Level::Info, Level::Debug];
    let source = (".{0,9}", any::<u32>()).prop_map(|(file, line)| Source { file, line });
    (prop::sample::select(levels.to_vec()), ".{0,40}", prop::option::of(source))
        .prop_map(|(level, text, source)| LogEntry { level, text, source })
}

fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut to = Vec::new();
    make(&mut to);
    to
}

/// Every frame that a worker process sends.
fn worker_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(made(welcome)),
        Just(made(goaway)),
        ".{0,20}".prop_map(|why| made(|to| refused(to, &why))),
        (0_usize..100, any::<usize>()).prop_map(|(a, b)| made(|to| ask(to, a, b))),
        entry().prop_map(|entry| made(|to| log(to, &entry))),
        (prop::option::of(head()), bytes(), outcome()).prop_map(|(head, body, end)| made(|to| {
            part(to, head.as_ref(), [&body[..]], None, end).unwrap()
        })),
        ".{0,20}".prop_map(|why| made(|to| failed(to, &Refusal::new(Code::Stopping, &*why)))),
    ]
}

/// Every frame that the server sends.
fn server_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Secret>().prop_map(|secret| {
            let mut to = Vec::new();
            hello(&mut to, &secret);
            to
        }),
        (bytes(), job()).prop_map(|(group, job)| {
            let mut to = Vec::new();
            request(&mut to, &GroupName::new(&group), &job).unwrap();
            to
        }),
        any_answer().prop_map(|given| {
            let mut to = Vec::new();
            answer(&mut to, &given).unwrap();
            to
        }),
    ]
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(group in bytes(), sent in job()) {
        let (mut frame, mut got) = (Vec::new(), Job::default());
        let group = GroupName::new(&group);
        request(&mut frame, &group, &sent).unwrap();
        let (kind, content) = only(&frame);
        prop_assert_eq!(from_server(kind, content, &mut got), Ok(FromServer::Request(group)));
        // All that there is of a job, which has no equality of its own.
        prop_assert_eq!(format!("{got:?}"), format!("{sent:?}"));
    }

    #[test]
    fn an_answer_arrives_as_it_was_given(given in any_answer()) {
        let mut frame = Vec::new();
        answer(&mut frame, &given).unwrap();
        let (kind, content) = only(&frame);
        prop_assert_eq!(from_server(kind, content, &mut Job::default()), Ok(FromServer::Answer(given)));
    }

    #[test]
    fn a_part_arrives_as_it_was_sent(
        head in prop::option::of(head()), body in bytes(), end in outcome(),
    ) {
        let mut frame = Vec::new();
        part(&mut frame, head.as_ref(), [&body[..]], None, end).unwrap();
        let (kind, content) = only(&frame);
        let Ok(FromWorker::Reply(Reply::Response(got))) = from_worker(kind, content, &mut VecDeque::new()) else {
            return Err(TestCaseError::fail("no part"));
        };
        prop_assert_eq!((got.head, got.body, got.end), (head, body, end));
    }

    #[test]
    fn lines_arrive_as_they_were_written(sent in entry()) {
        let mut frame = Vec::new();
        log(&mut frame, &sent);
        let (kind, content) = only(&frame);
        let Ok(FromWorker::Reply(Reply::Log(got))) = from_worker(kind, content, &mut VecDeque::new()) else {
            return Err(TestCaseError::fail("no lines"));
        };
        prop_assert_eq!((got.level, got.text, got.source), (sent.level, sent.text, sent.source));
    }

    #[test]
    fn a_frame_that_is_cut_at_any_byte_is_no_other_frame(
        from_them in worker_frame(), from_us in server_frame(),
    ) {
        let (kind, content) = only(&from_them);
        prop_assert!(from_worker(kind, content, &mut VecDeque::new()).is_ok());
        // What ends in free text is shorter by that, and still one; all else is refused.
        for end in 0..content.len() {
            if let Ok(FromWorker::Reply(Reply::Response(part))) = from_worker(kind, &content[..end], &mut VecDeque::new()) {
                let Ok(FromWorker::Reply(Reply::Response(whole))) = from_worker(kind, content, &mut VecDeque::new()) else {
                    return Err(TestCaseError::fail("another kind of frame"));
                };
                prop_assert_eq!((&part.head, part.end), (&whole.head, whole.end));
                prop_assert!(whole.body.starts_with(&part.body));
            }
        }
        let (kind, content) = only(&from_us);
        prop_assert!(from_server(kind, content, &mut Job::default()).is_ok());
        for end in 0..content.len() {
            let cut = from_server(kind, &content[..end], &mut Job::default());
            prop_assert!(!matches!(cut, Ok(FromServer::Request(_) | FromServer::Hello(..))));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in 0_u8..40, content in vec(any::<u8>(), 0..200)) {
        let _ = from_worker(kind, &content, &mut VecDeque::new());
        let _ = from_server(kind, &content, &mut Job::default());
    }
}

#[test]
fn what_is_too_long_is_refused_at_both_ends() {
    let mut to = b"before".to_vec();
    let bytes = vec![0; LONGEST];
    assert!(answer(&mut to, &Answer::Body { bytes, last: true }).is_err());
    assert_eq!(to, b"before", "nothing is left of it");
    let [a, b, c, d] = u32::try_from(LONGEST + 1).unwrap().to_le_bytes();
    assert!(header([a, b, c, d, ANSWER], LONGEST).is_err());
}

#[test]
fn a_head_whose_lines_break_is_refused() {
    let mut headers = Fields::default();
    headers.push(b"X-A", b"1\r\nX-B: 2");
    let head = Head { status: 200, status_line: b"200 OK".to_vec(), headers, content_length: None };
    let mut frame = Vec::new();
    part(&mut frame, Some(&head), [], None, None).unwrap();
    let (kind, content) = only(&frame);
    assert!(from_worker(kind, content, &mut VecDeque::new()).is_err());
}

#[test]
fn a_frame_with_something_behind_its_end_is_refused() {
    let mut frame = Vec::new();
    goaway(&mut frame);
    let (kind, _) = only(&frame);
    assert!(from_worker(kind, b"", &mut VecDeque::new()).is_ok());
    assert!(from_worker(kind, b"x", &mut VecDeque::new()).is_err());
}

#[test]
fn a_part_of_a_file_comes_with_its_file_and_of_nothing_else() {
    let mut frame = Vec::new();
    part(&mut frame, None, [&b"before"[..]], Some((2, 3)), Some(Outcome::Complete)).unwrap();
    let (kind, content) = only(&frame);
    let read = |descriptor: Option<OwnedFd>| {
        let mut descriptors: VecDeque<_> = descriptor.into_iter().collect();
        from_worker(kind, content, &mut descriptors)
    };
    let file = tempfile::tempfile().unwrap();
    let Ok(FromWorker::Reply(Reply::Response(part))) = read(Some(file.into())) else {
        panic!("no part");
    };
    let file = part.file.expect("a file");
    assert_eq!((&part.body[..], file.start, file.length), (&b"before"[..], 2, 3));
    assert!(read(None).is_err(), "a file that did not come");
    let (pipe, _other) = std::io::pipe().unwrap();
    assert!(read(Some(pipe.into())).is_err(), "a pipe, from which one could wait for ever");
}
