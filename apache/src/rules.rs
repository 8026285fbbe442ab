//! What the configuration says about how a request is treated: its body, its method, its error
//! pages, its files, and whom to believe about where it came from.
#![forbid(unsafe_code)]

use crate::proxies::{Header, Network, Trust};
use manifold::{GroupName, Timeout};
use std::sync::Arc;

/// The part of a section's record that is about the treatment of requests. `None` leaves a matter
/// to the less specific sections; a list replaces theirs as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// WSGIChunkedRequest.
    pub(crate) chunked_request: Option<bool>,
    /// WSGIErrorOverride.
    pub(crate) error_override: Option<bool>,
    /// WSGIMapHEADToGET.
    pub(crate) map_head: Option<MapHead>,
    /// WSGIEnableSendfile.
    pub(crate) sendfile: Option<bool>,
    /// WSGIPassApacheRequest.
    pub(crate) pass_request: Option<bool>,
    /// WSGIIgnoreActivity.
    pub(crate) ignore_activity: Option<bool>,
    /// WSGIRequestTimeout; `Some(None)` where it is switched off.
    pub(crate) timeout: Option<Option<Timeout>>,
    /// WSGIRestrictProcess.
    pub(crate) process_groups: Option<Arc<Vec<GroupName>>>,
    /// WSGITrustedProxies.
    pub(crate) proxies: Option<Arc<Vec<Network>>>,
    /// WSGITrustedProxyHeaders.
    pub(crate) proxy_headers: Option<Arc<Vec<&'static Header>>>,
}

/// The values of WSGIMapHEADToGET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapHead {
    /// The application sees GET.
    On,
    /// The application sees HEAD.
    Off,
    /// GET where an output filter needs the body to know the headers.
    Auto,
}

impl Rules {
    /// What holds where both sections apply.
    pub(crate) fn merge(&self, more_specific: &Self) -> Self {
        let (base, more) = (self, more_specific);
        Self {
            chunked_request: more.chunked_request.or(base.chunked_request),
            error_override: more.error_override.or(base.error_override),
            map_head: more.map_head.or(base.map_head),
            sendfile: more.sendfile.or(base.sendfile),
            pass_request: more.pass_request.or(base.pass_request),
            ignore_activity: more.ignore_activity.or(base.ignore_activity),
            timeout: more.timeout.or(base.timeout),
            process_groups: more.process_groups.as_ref().or(base.process_groups.as_ref()).cloned(),
            proxies: more.proxies.as_ref().or(base.proxies.as_ref()).cloned(),
            proxy_headers: more.proxy_headers.as_ref().or(base.proxy_headers.as_ref()).cloned(),
        }
    }

    /// Whom to believe, where anybody is to be believed at all.
    pub(crate) fn trust(&self) -> Option<Trust<'_>> {
        let headers = self.proxy_headers.as_deref()?;
        Some(Trust { proxies: self.proxies.as_deref().map(Vec::as_slice), headers })
    }

    /// Whether requests may be for this process group.
    pub(crate) fn allows_process_group(&self, name: &GroupName) -> bool {
        self.process_groups.as_ref().is_none_or(|allowed| allowed.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> impl Strategy<Value = Rules> {
        use MapHead::{Auto, Off, On};
        let map_head = prop::option::of(prop::sample::select(vec![On, Off, Auto]));
        let groups = prop::option::of(prop::collection::vec("[a-c]", 0..3));
        (any::<[Option<bool>; 5]>(), map_head, groups).prop_map(|(flags, map_head, groups)| {
            let name = |group: String| GroupName::new(group.as_bytes());
            Rules {
                chunked_request: flags[0],
                error_override: flags[1],
                map_head,
                sendfile: flags[2],
                pass_request: flags[3],
                ignore_activity: flags[4],
                process_groups: groups
                    .map(|groups| Arc::new(groups.into_iter().map(name).collect())),
                ..Rules::default()
            }
        })
    }

    proptest! {
        #[test]
        fn each_rule_is_the_more_specific_sections_by_itself(a in rules(), b in rules()) {
            let both = a.merge(&b);
            prop_assert_eq!(both.chunked_request, b.chunked_request.or(a.chunked_request));
            prop_assert_eq!(both.error_override, b.error_override.or(a.error_override));
            prop_assert_eq!(both.map_head, b.map_head.or(a.map_head));
            prop_assert_eq!(both.sendfile, b.sendfile.or(a.sendfile));
            prop_assert_eq!(both.pass_request, b.pass_request.or(a.pass_request));
            prop_assert_eq!(both.ignore_activity, b.ignore_activity.or(a.ignore_activity));
            prop_assert_eq!(both.process_groups, b.process_groups.or(a.process_groups));
        }
    }

    #[test]
    fn a_list_replaces_the_less_specific_one_as_a_whole() {
        let list = |names: &[&str]| Rules {
            process_groups: Some(Arc::new(
                names.iter().map(|name| GroupName::new(name.as_bytes())).collect(),
            )),
            ..Rules::default()
        };
        let merged = list(&["a", "b"]).merge(&list(&["c"]));
        assert!(merged.allows_process_group(&GroupName::new(b"c")));
        assert!(!merged.allows_process_group(&GroupName::new(b"a")));
        let kept = merged.merge(&Rules::default());
        assert!(!kept.allows_process_group(&GroupName::new(b"a")));
        assert!(Rules::default().allows_process_group(&GroupName::new(b"a")));
    }
}
