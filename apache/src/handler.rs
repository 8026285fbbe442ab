//! The content handler: from a request to its application, and back.

use crate::body::Body;
use crate::config::DirectoryConfig;
use crate::hooks::dispatch;
use crate::nesting::Nesting;
use crate::request::Request;
use crate::response::{Responder, Sent};
use crate::rules::Rules;
use crate::target::{Target, script_at};
use crate::variables::Variables;
use crate::{boundary, child, daemons, log, naming, process_groups, signals};
use httpd_sys::*;
use manifold::daemon::ProcessGroup;
use manifold::{Answer, Code, Event, GroupName, Job, Level, Peer, Refusal, Reload, Reply, Script};
use std::ffi::{OsStr, c_int};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

/// Content handler hook.
pub(crate) unsafe extern "C" fn handle(raw: *mut request_rec) -> c_int {
    boundary::hook(|| {
        // SAFETY: httpd calls the hook with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        // SAFETY: the record is of this type, and nobody changes it once requests are served.
        let config = unsafe { &*r.configuration().cast::<DirectoryConfig>() };
        match Target::of(r, config) {
            Ok(Some(target)) => answer(r, config, &target),
            Ok(None) => DECLINED,
            Err(status) => status,
        }
    })
}

/// Answers a request by a script.
fn answer(r: Request<'_>, config: &DirectoryConfig, target: &Target<'_>) -> c_int {
    let rules = &config.rules;
    if let Err(status) = check(r, rules, &target.script) {
        return status;
    }
    let options = &target.options;
    let pass_authorization =
        options.pass_authorization.or(config.pass_authorization).unwrap_or(false);
    let variables = Variables::of(r, pass_authorization).under(rules);

    let dispatched = match dispatch::dispatch(r, config, target, &variables) {
        Ok(dispatched) => dispatched,
        Err(status) => return status,
    };
    let script = dispatched.script.unwrap_or_else(|| Arc::clone(&target.script));
    let said = dispatched.process_group.as_ref();
    let process_group = naming::process_group(r, said, options, config, &variables);
    let said = dispatched.application_group.as_ref();
    let application_group = naming::application_group(r, said, options, config, &variables);
    let asked = Asked { script: &script, group: Some(&application_group) };
    if !rules.allows_process_group(&process_group) {
        return refuse(r, &asked, &restricted(&process_group, rules));
    }
    let daemon = match daemon(r, &process_group) {
        Ok(daemon) => daemon,
        Err(refusal) => return refuse(r, &asked, &refusal),
    };
    let seen = match daemon.map(|group| as_seen_by(r, group, target, &script)) {
        None => Seen { script: Arc::clone(&script), file: None },
        Some(Ok(seen)) => seen,
        Some(Err(refusal)) => return refuse(r, &asked, &refusal),
    };
    if rules.pass_request == Some(true) {
        say_that_no_request_is_passed(r);
    }
    let variables = match seen.file {
        None => variables,
        Some(file) => variables.with_file(file),
    };
    let mut body = Body::new(r);
    let ahead = body.ahead();
    let fill = |job: &mut Job| {
        variables.fill(job, &seen.script, target.handler_script);
        job.script = Some(Arc::clone(&seen.script));
        job.reload = config.script_reloading.unwrap_or(Reload::Module);
        job.timeout = rules.timeout.flatten();
        job.is_idle_talk = rules.ignore_activity.unwrap_or(false);
        // Under a root directory of its own the process sees another file there.
        if daemon.is_none_or(|group| group.identity.chroot.is_none()) {
            job.look_at_script(modified(r, &seen.script));
        }
        job.verbosity = log::request_verbosity(r);
        job.ahead = ahead.into();
    };
    if let Some(group) = daemon {
        return answer_by_daemon(&mut body, rules, &asked, group, fill);
    }
    let runtime = match child::runtime() {
        Ok(runtime) => runtime,
        Err(refusal) => return refuse(r, &asked, &refusal),
    };
    let nesting = Nesting::enter();
    let _held = signals::hold();
    match runtime.dispatch(&application_group, nesting.patience(r), fill) {
        Ok(conversation) => {
            let mut responder = Responder::new(r, rules, conversation.store());
            serve(&mut body, &asked, &conversation, &mut responder)
        }
        Err(refusal) => refuse(r, &asked, &refusal),
    }
}

/// The file that the URL of a request stands for. A handler script is another one, the administrator's.
fn file<'r>(r: Request<'r>) -> &'r Path {
    Path::new(OsStr::from_bytes(r.text(r.record().filename)))
}

/// When a script had been changed last, where httpd has looked at it for this request, since it is the file
/// that the URL stands for.
fn modified(r: Request<'_>, script: &Script) -> Option<i64> {
    let record = r.record();
    let seen = &record.finfo;
    let is_known = seen.filetype == APR_REG && seen.valid & APR_FINFO_MTIME as apr_int32_t != 0;
    (is_known && r.text(record.filename) == script.path_bytes()).then_some(seen.mtime)
}

/// The process group that serves a request, unless httpd does.
///
/// # Errors
///
/// There is none of that name for this server, or it does not serve such files.
fn daemon<'r>(r: Request<'r>, name: &GroupName) -> Result<Option<&'r ProcessGroup>, Refusal> {
    if name.is_main() {
        return Ok(None);
    }
    let group = &process_groups::find(r, name)?.group;
    group.owner.admit(file(r))?;
    Ok(Some(group))
}

/// What answers a request, as the process sees it that runs it.
struct Seen {
    script: Arc<Script>,
    /// The file that the URL stands for, where that is another path there.
    file: Option<PathBuf>,
}

/// What a process sees of a request that its root directory makes another: the paths of files. That of a
/// handler script is taken as it was configured.
fn as_seen_by(
    r: Request<'_>,
    group: &ProcessGroup,
    target: &Target<'_>,
    script: &Arc<Script>,
) -> Result<Seen, Refusal> {
    let Some(root) = &group.identity.chroot else {
        return Ok(Seen { script: Arc::clone(script), file: None });
    };
    let outside = || {
        let detail = format!(
            "'{}' lies outside of chroot={} of process group '{}'",
            file(r).display(),
            root.display(),
            group.name
        );
        Refusal::new(Code::OutsideChroot, detail)
    };
    let file = group.identity.path_inside(file(r)).ok_or_else(outside)?.into_owned();
    let script = match target.handler_script {
        Some(_) => Arc::clone(script),
        None => {
            let path = file.as_os_str().as_bytes();
            Arc::new(script_at(r, path, script.callable().to_bytes()).map_err(|_| outside())?)
        }
    };
    Ok(Seen { script, file: Some(file) })
}

/// Answers a request by a process of a process group.
fn answer_by_daemon(
    body: &mut Body<'_>,
    rules: &Rules,
    asked: &Asked<'_>,
    group: &ProcessGroup,
    fill: impl FnOnce(&mut Job),
) -> c_int {
    let r = body.request();
    let Some(workers) = daemons::workers(&group.name) else {
        let detail =
            format!("this process knows of no processes of process group '{}'", group.name);
        return refuse(r, asked, &Refusal::new(Code::Internal, detail));
    };
    let silence = group.timeouts.socket.unwrap_or_else(|| r.timeout());
    let application_group = asked.group.cloned().unwrap_or_default();
    let _held = signals::hold();
    let conversation = match workers.dispatch(&application_group, silence, fill) {
        Ok(conversation) => conversation,
        Err(refusal) => return refuse(r, asked, &refusal),
    };
    let mut responder = Responder::of_process_group(r, rules, conversation.store());
    let status = serve(body, asked, &conversation, &mut responder);
    // What answers in place of the application may need the connection to the worker.
    drop(conversation);
    responder.finish(status)
}

/// What a request asked for, as a line about it ends; httpd adds the client.
pub(crate) struct Asked<'a> {
    pub(crate) script: &'a Script,
    /// `None` as long as that was not asked.
    pub(crate) group: Option<&'a GroupName>,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (script '{}'", self.script.path().display())?;
        match self.group {
            Some(group) => write!(f, ", application group '{group}')"),
            None => f.write_str(")"),
        }
    }
}

/// What has to be right before an application sees a request.
fn check(r: Request<'_>, rules: &Rules, script: &Script) -> Result<(), c_int> {
    let asked = Asked { script, group: None };
    let refused = |status: u32, text: &str| {
        log::request(r, Level::Error, &format!("{}: {text}{asked}", Code::BodyRefused));
        Err(status as c_int)
    };
    let record = r.record();
    if record.used_path_info == AP_REQ_REJECT_PATH_INFO as c_int
        && !r.text(record.path_info).is_empty()
    {
        let text = "AcceptPathInfo is off, and there is a path behind the script's";
        log::request(r, Level::Error, &format!("{}: {text}{asked}", Code::ScriptRefused));
        return Err(HTTP_NOT_FOUND as c_int);
    }
    if let Some(coding) = r.header(c"Transfer-Encoding") {
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return refused(HTTP_NOT_IMPLEMENTED, "only the transfer coding 'chunked' is known");
        }
        if rules.chunked_request != Some(true) {
            return refused(
                HTTP_LENGTH_REQUIRED,
                "the request body has no Content-Length (it is chunked), and WSGIChunkedRequest is off",
            );
        }
    }
    if let Some(length) = r.header(c"Content-Length") {
        let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse::<i64>().ok());
        let Some(length) = length.filter(|length| *length >= 0) else {
            return refused(HTTP_BAD_REQUEST, "Content-Length is not a number");
        };
        // SAFETY: httpd keeps the request alive for the hook.
        let limit = unsafe { ap_get_limit_req_body(r.raw()) };
        if limit > 0 && length > limit {
            return refused(
                HTTP_REQUEST_ENTITY_TOO_LARGE,
                "the request body is larger than LimitRequestBody",
            );
        }
    }
    Ok(())
}

/// Serves the conversation with the application until it has ended.
fn serve(
    body: &mut Body<'_>,
    asked: &Asked<'_>,
    conversation: &dyn Peer,
    responder: &mut Responder<'_>,
) -> c_int {
    let r = body.request();
    if body.is_answered() {
        responder.drop_the_rest();
    }
    loop {
        let event = match responder.patience() {
            None => signals::next(conversation),
            Some(patience) => match conversation.next_within(patience) {
                Some(event) => event,
                None => match responder.push() {
                    Sent::Ended(status) => return status,
                    _ => continue,
                },
            },
        };
        match event {
            Event::Reply(Reply::Ask { at_least, at_most }) => {
                conversation.answer(body.read(at_least, at_most));
                if body.is_answered() {
                    responder.drop_the_rest();
                }
            }
            Event::Reply(Reply::Log(entry)) => log::entry(r, &entry),
            // Only hook scripts have a use for these.
            Event::Reply(Reply::AskVariable(_)) => conversation.answer(Answer::Variable(None)),
            Event::Reply(Reply::Returned(_)) => {
                return responder.fail().unwrap_or_else(|| fail(r, Code::Internal));
            }
            Event::Reply(Reply::Response(part)) => match responder.send(part) {
                Sent::More => {}
                Sent::Ended(status) => {
                    // Behind a part that had the response's end in it.
                    conversation.logged().iter().for_each(|entry| log::entry(r, entry));
                    return status;
                }
                // The body's trouble explains the application's: the client gets its status.
                Sent::Failed(code) => return body.refusal().unwrap_or_else(|| fail(r, code)),
            },
            Event::Failed(refusal) => {
                log::request(r, severity(&refusal), &format!("{refusal}{asked}"));
                return responder.fail().unwrap_or_else(|| fail(r, refusal.code));
            }
        }
    }
}

fn restricted(process_group: &GroupName, rules: &Rules) -> Refusal {
    let allowed: Vec<_> = rules
        .process_groups
        .iter()
        .flat_map(|list| list.iter().map(GroupName::to_string))
        .collect();
    let detail = format!(
        "process group '{process_group}' is asked for, and WSGIRestrictProcess allows only: {}",
        allowed.join(" ")
    );
    Refusal::new(Code::ProcessRestricted, detail)
}

/// Says once in each child why WSGIPassApacheRequest has no effect.
fn say_that_no_request_is_passed(r: Request<'_>) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let text = format!(
            "{}: WSGIPassApacheRequest is on, but the environ gets no apache.request_rec: \
             applications run on threads of their own, and httpd's request record may be used by \
             the thread that serves the request only",
            Code::NoRequestRecord
        );
        log::request(r, Level::Warning, &text);
    });
}

fn refuse(r: Request<'_>, asked: &Asked<'_>, refusal: &Refusal) -> c_int {
    log::request(r, severity(refusal), &format!("{refusal}{asked}"));
    fail(r, refusal.code)
}

/// A stop that was asked for is no error.
pub(crate) fn severity(refusal: &Refusal) -> Level {
    if refusal.code == Code::Stopping { Level::Info } else { Level::Error }
}

/// The status of a request that fails before anything was sent.
fn fail(r: Request<'_>, code: Code) -> c_int {
    let status = code.status();
    if u32::from(status) == HTTP_SERVICE_UNAVAILABLE {
        // SAFETY: the request's table is live, and both texts are literals.
        unsafe {
            apr_table_setn(r.record().err_headers_out, c"Retry-After".as_ptr(), c"1".as_ptr())
        };
    }
    c_int::from(status)
}
