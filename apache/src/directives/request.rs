//! The directives that say how requests are treated: their bodies, methods, error pages and files,
//! and which proxies are believed.

use super::Directive;
use super::runtime::parse;
use crate::config::DirectoryConfig;
use crate::proxies::{Header, Network};
use crate::rules::{MapHead, Rules};
use manifold::{GroupName, Timeout};
use std::sync::Arc;
use std::time::Duration;

/// `WSGIChunkedRequest On|Off`: whether request bodies may come in chunks.
pub(super) fn chunked_request(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.rules().chunked_request = Some(value);
    Ok(())
}

/// `WSGIErrorOverride On|Off`: whether httpd's error pages replace the application's.
pub(super) fn error_override(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.rules().error_override = Some(value);
    Ok(())
}

/// `WSGIMapHEADToGET On|Off|Auto`: whether an application sees HEAD as GET.
pub(super) fn map_head_to_get(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("value")?;
    let value = match word.to_ascii_lowercase().as_slice() {
        b"auto" => MapHead::Auto,
        b"on" => MapHead::On,
        b"off" => MapHead::Off,
        _ => return Err(directive.refuse(&word, "On, Off or Auto")),
    };
    directive.rules().map_head = Some(value);
    Ok(())
}

/// `WSGIEnableSendfile On|Off`: whether the kernel may send files by itself.
pub(super) fn enable_sendfile(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.rules().sendfile = Some(value);
    Ok(())
}

/// `WSGITrustedProxyHeaders name...`: the headers by which a trusted proxy says who the client is.
/// Headers that say nothing of that kind are ignored, as mod_wsgi does.
pub(super) fn trusted_proxy_headers(directive: &mut Directive<'_>) -> Result<(), String> {
    let names = directive.all("name of a header")?;
    let known = names.iter().filter_map(|name| Header::find(name));
    Arc::make_mut(directive.rules().proxy_headers.get_or_insert_default()).extend(known);
    Ok(())
}

/// `WSGITrustedProxies address[/mask]...`: the proxies whose headers are believed.
pub(super) fn trusted_proxies(directive: &mut Directive<'_>) -> Result<(), String> {
    let mut networks = Vec::new();
    for word in directive.all("address of a proxy")? {
        let accepted = "an IP address, or a network as in 10.0.0.0/8 or 2001:db8::/32";
        networks.push(Network::parse(&word).ok_or_else(|| directive.refuse(&word, accepted))?);
    }
    Arc::make_mut(directive.rules().proxies.get_or_insert_default()).extend(networks);
    Ok(())
}

/// `WSGIPassApacheRequest On|Off`: accepted; no application gets httpd's request record.
pub(super) fn pass_apache_request(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.rules().pass_request = Some(value);
    Ok(())
}

/// `WSGIRequestTimeout seconds [seconds]`: how long a request may take, and how long it has to end once
/// it is interrupted.
pub(super) fn request_timeout(directive: &mut Directive<'_>) -> Result<(), String> {
    let words = directive.all("number of seconds")?;
    let accepted = "a number of seconds from 0.1 to 100000000, or Off";
    let seconds = |directive: &Directive<'_>, word: &[u8]| {
        let number = parse::<f64>(word).filter(|number| (0.1..=1e8).contains(number));
        number.map(Duration::from_secs_f64).ok_or_else(|| directive.refuse(word, accepted))
    };
    let timeout = match &words[..] {
        [word] if word.eq_ignore_ascii_case(b"off") => None,
        [word] => Some(Timeout { limit: seconds(directive, word)?, grace: GRACE }),
        [word, grace] => {
            Some(Timeout { limit: seconds(directive, word)?, grace: seconds(directive, grace)? })
        }
        [_, _, other, ..] => {
            return Err(directive.refuse(other, "expected; there are two numbers at most"));
        }
        [] => unreachable!("there is a first word"),
    };
    directive.rules().timeout = Some(timeout);
    let shortest = &mut directive.server().python.request_timeout;
    *shortest = shortest.iter().copied().chain(timeout.map(|timeout| timeout.limit)).min();
    Ok(())
}

/// How long an interrupted request has to end, where nothing is said.
const GRACE: Duration = Duration::from_secs(5);

/// `WSGIIgnoreActivity On|Off`: whether requests leave a daemon process's idle time alone.
pub(super) fn ignore_activity(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.rules().ignore_activity = Some(value);
    Ok(())
}

/// `WSGIRestrictProcess name...`: the only process groups that requests may be for.
pub(super) fn restrict_process(directive: &mut Directive<'_>) -> Result<(), String> {
    let names = directive.all("name of a process group")?;
    let groups = names.iter().map(|name| match &name[..] {
        b"%{GLOBAL}" => GroupName::default(),
        name => GroupName::new(name),
    });
    Arc::make_mut(directive.rules().process_groups.get_or_insert_default()).extend(groups);
    Ok(())
}

impl Directive<'_> {
    fn rules(&mut self) -> &mut Rules {
        let DirectoryConfig { rules, .. } = self.section();
        rules
    }
}
