//! Jobs that call functions of a script instead of serving a request.

use crate::harness::{Folder, runtime};
use manifold::{
    Answer, Call, Code, Event, GroupName, Outcome, Patience, Peer, Reply, Script, Task, Value,
};
use std::sync::Arc;

/// All that was heard in a conversation.
#[derive(Debug, Default)]
struct Heard {
    values: Option<Vec<Value>>,
    failed: Option<Code>,
    log: String,
}

/// Has these functions called, and answers every question about a variable with its name, doubled.
fn call(script: &Arc<Script>, calls: Vec<Call>) -> Heard {
    let conversation = runtime()
        .dispatch(&GroupName::new(b"calls"), Patience::Endless, |job| {
            job.task = Task::Call(calls);
            job.variables.push(b"NAME", b"caf\xe9");
            job.script = Some(Arc::clone(script));
        })
        .expect("it is taken");
    let mut heard = Heard::default();
    loop {
        match conversation.next() {
            Event::Reply(Reply::Log(entry)) => heard.log += &entry.text,
            Event::Reply(Reply::AskVariable(name)) => {
                conversation.answer(Answer::Variable(Some([&name[..], &name[..]].concat())));
            }
            Event::Reply(Reply::Returned(values)) => {
                heard.values = Some(values);
                return heard;
            }
            Event::Reply(Reply::Response(part)) => {
                let Some(Outcome::Failed(code)) = part.end else { panic!("{part:?}") };
                heard.failed = Some(code);
                return heard;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn function(function: &'static std::ffi::CStr) -> Call {
    Call { function, ..Call::default() }
}

#[test]
fn each_function_returns_one_value_in_the_order_of_the_calls() {
    let folder = Folder::new();
    let script = folder.script(
        "calls.py",
        "def first(environ, *arguments):\n    return ascii((environ['NAME'], *arguments))\n\n\n\
         def second(environ):\n    return environ['mod_ssl.var_lookup']('ab') + 'c'\n\n\n\
         def third(environ):\n    return True\n\n\n\
         def names(environ):\n    return ['a', b'b']\n\n\n\
         def number(environ):\n    return 1\n",
    );
    let arguments = vec![b"\xff".to_vec(), Vec::new()];
    let heard = call(
        &script,
        vec![
            Call { arguments, ..function(c"first") },
            Call { optional: true, ..function(c"missing") },
            function(c"second"),
            function(c"third"),
            Call { names: true, ..function(c"names") },
            function(c"names"),
            function(c"number"),
        ],
    );
    let expected = [
        Value::Text(br"('caf\xe9', '\xff', '')".to_vec()),
        Value::None,
        Value::Text(b"ababc".to_vec()),
        Value::Bool(true),
        Value::Names(vec![b"a".to_vec(), b"b".to_vec()]),
        Value::Other("list".to_owned()),
        Value::Other("int".to_owned()),
    ];
    assert_eq!(heard.values.as_deref(), Some(&expected[..]), "{heard:?}");
}

#[test]
fn the_first_function_that_fails_is_the_last_that_is_called() {
    let folder = Folder::new();
    let script = folder.script(
        "failing.py",
        "def fails(environ, what=''):\n    raise LookupError('not ' + what)\n\n\n\
         def after(environ):\n    open('FOLDER/after', 'w').close()\n",
    );
    let heard = call(&script, vec![function(c"fails"), function(c"after")]);
    assert_eq!((heard.values, heard.failed), (None, Some(Code::HookRaised)));
    assert!(heard.log.contains("LookupError: not"), "{}", heard.log);
    assert_eq!(folder.text("after"), None);

    let arguments = vec![b"this".to_vec()];
    let secret = Call { arguments, confidential: true, ..function(c"fails") };
    let heard = call(&script, vec![secret]);
    assert_eq!(heard.failed, Some(Code::HookRaised));
    assert!(heard.log.contains("in fails") && !heard.log.contains("not this"), "{}", heard.log);

    let heard = call(&script, vec![function(c"missing"), function(c"after")]);
    assert_eq!(heard.failed, Some(Code::HookMissing));
    assert!(heard.log.contains("defines no 'missing'"), "{}", heard.log);
    assert_eq!(folder.text("after"), None);
}
