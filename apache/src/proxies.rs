//! What trusted proxies say about the request that they pass on, and what becomes of the same
//! headers when somebody else sends them (WSGITrustedProxies, WSGITrustedProxyHeaders).
//!
//! A pure function: from what the directives say, the peer's address and the request's headers, to
//! what changes in the environ.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

/// A header by which a proxy can say something, and what it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    name: &'static str,
    /// Its key in the environ.
    pub(crate) variable: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A list of addresses, to which each proxy adds its peer.
    ClientList,
    Client,
    Host,
    Server,
    Port,
    Mount,
    /// `http` or `https`.
    Scheme,
    /// On or off.
    Secure,
}

/// What is said: of each, the directive's headers are believed and all others removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Category {
    Client,
    Host,
    Server,
    Port,
    Mount,
    Scheme,
}

const fn header(name: &'static str, variable: &'static str, kind: Kind) -> Header {
    Header { name, variable, kind }
}

/// All that are known.
static HEADERS: [Header; 15] = [
    header("X-Forwarded-For", "HTTP_X_FORWARDED_FOR", Kind::ClientList),
    header("X-Client-IP", "HTTP_X_CLIENT_IP", Kind::Client),
    header("X-Real-IP", "HTTP_X_REAL_IP", Kind::Client),
    header("X-Forwarded-Host", "HTTP_X_FORWARDED_HOST", Kind::Host),
    header("X-Host", "HTTP_X_HOST", Kind::Host),
    header("X-Forwarded-Server", "HTTP_X_FORWARDED_SERVER", Kind::Server),
    header("X-Forwarded-Port", "HTTP_X_FORWARDED_PORT", Kind::Port),
    header("X-Script-Name", "HTTP_X_SCRIPT_NAME", Kind::Mount),
    header("X-Forwarded-Script-Name", "HTTP_X_FORWARDED_SCRIPT_NAME", Kind::Mount),
    header("X-Forwarded-Proto", "HTTP_X_FORWARDED_PROTO", Kind::Scheme),
    header("X-Forwarded-Scheme", "HTTP_X_FORWARDED_SCHEME", Kind::Scheme),
    header("X-Scheme", "HTTP_X_SCHEME", Kind::Scheme),
    header("X-Forwarded-HTTPS", "HTTP_X_FORWARDED_HTTPS", Kind::Secure),
    header("X-Forwarded-SSL", "HTTP_X_FORWARDED_SSL", Kind::Secure),
    header("X-HTTPS", "HTTP_X_HTTPS", Kind::Secure),
];

impl Header {
    /// The header of that name, in any case, if it is one that a proxy says something by.
    pub(crate) fn find(name: &[u8]) -> Option<&'static Self> {
        HEADERS.iter().find(|header| header.name.as_bytes().eq_ignore_ascii_case(name))
    }

    fn category(&self) -> Category {
        match self.kind {
            Kind::ClientList | Kind::Client => Category::Client,
            Kind::Host => Category::Host,
            Kind::Server => Category::Server,
            Kind::Port => Category::Port,
            Kind::Mount => Category::Mount,
            Kind::Scheme | Kind::Secure => Category::Scheme,
        }
    }
}

/// An address, or all that begin with the same bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `10.0.0.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `10.1` (the first bytes) or the same in IPv6.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let (address, given) = match address.parse::<IpAddr>() {
            Ok(address) => (address, width(address)),
            Err(_) => first_bytes(address)?,
        };
        let bits = match mask {
            None => given,
            Some(mask) => match mask.parse::<IpAddr>() {
                Ok(mask) if mask.is_ipv4() && address.is_ipv4() => contiguous(number(mask))?,
                Ok(_) => return None,
                Err(_) if mask.bytes().all(|byte| byte.is_ascii_digit()) => mask.parse().ok()?,
                Err(_) => return None,
            },
        };
        (bits <= width(address)).then_some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mine = self.address.to_canonical();
        // Written as IPv6, an IPv4 network has 96 bits more.
        let bits = self.bits.saturating_sub(width(self.address) - width(mine));
        let differ = number(address) ^ number(mine);
        let ignored = width(mine) - bits;
        address.is_ipv4() == mine.is_ipv4() && (ignored == 128 || differ >> ignored == 0)
    }
}

/// `10` or `10.1.`: the first bytes of an IPv4 address, and how many bits they are.
fn first_bytes(text: &str) -> Option<(IpAddr, u32)> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let count = u32::try_from(text.split('.').count()).ok().filter(|count| *count < 4)?;
    let rest = ".0".repeat(4 - count as usize);
    Some((format!("{text}{rest}").parse().ok()?, 8 * count))
}

/// The bits of an IPv4 mask, which has none set behind one that is not.
fn contiguous(mask: u128) -> Option<u32> {
    let mask = u32::try_from(mask).ok()?;
    let ones = mask.leading_ones();
    (ones == mask.count_ones()).then_some(ones)
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Whom to believe, and about what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust<'c> {
    /// The proxies; `None` for whoever it is.
    pub(crate) proxies: Option<&'c [Network]>,
    /// The headers that they set.
    pub(crate) headers: &'c [&'static Header],
}

/// What changes in the environ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Variables that are removed.
    pub(crate) removed: Vec<&'static str>,
    /// Variables that get another value.
    pub(crate) set: Vec<(&'static str, Vec<u8>)>,
    /// Whether the client speaks HTTPS, where a proxy says so.
    pub(crate) https: Option<bool>,
}

impl Rewrite {
    /// Whether a variable does not stay as it is.
    pub(crate) fn touches(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| removed.as_bytes() == name)
            || self.set.iter().any(|(set, _)| set.as_bytes() == name)
    }
}

impl Trust<'_> {
    /// What becomes of a request from `peer`, whose headers `value` knows by their variables.
    pub(crate) fn rewrite<'h>(
        &self,
        peer: &[u8],
        value: impl Fn(&'static str) -> Option<&'h [u8]>,
    ) -> Rewrite {
        let mut rewrite = Rewrite::default();
        let trusted = match self.proxies {
            None => true,
            Some(_) => address(peer).is_some_and(|peer| self.is_proxy(peer)),
        };
        // What nobody vouches for is not there.
        for header in &HEADERS {
            let spoken_for = self.headers.iter().any(|named| named.category() == header.category());
            if spoken_for && !(trusted && self.headers.contains(&header)) {
                rewrite.removed.push(header.variable);
            }
        }
        if trusted {
            self.believe(&mut rewrite, value);
        }
        rewrite
    }

    /// Takes over what the trusted headers say; of several that say the same thing, the one that
    /// was named first.
    fn believe<'h>(&self, rewrite: &mut Rewrite, value: impl Fn(&'static str) -> Option<&'h [u8]>) {
        let mut said = Vec::new();
        for header in self.headers {
            let Some(value) = value(header.variable) else { continue };
            if said.contains(&header.category()) {
                continue;
            }
            let (variable, word) = match header.kind {
                Kind::ClientList => match self.client(value) {
                    Some((client, rest)) => {
                        if rest != value {
                            rewrite.set.push((header.variable, rest.to_vec()));
                        }
                        ("REMOTE_ADDR", Some(client))
                    }
                    None => {
                        if self.proxies.is_some() {
                            rewrite.removed.push(header.variable);
                        }
                        continue;
                    }
                },
                Kind::Client => ("REMOTE_ADDR", address_text(value.trim_ascii())),
                Kind::Host => ("HTTP_HOST", last(value).filter(|name| is_host(name))),
                Kind::Server => ("SERVER_NAME", last(value).filter(|name| is_host(name))),
                Kind::Port => ("SERVER_PORT", last(value).filter(|port| is_port(port))),
                Kind::Mount => ("SCRIPT_NAME", mount_point(value)),
                Kind::Scheme | Kind::Secure => {
                    let https = match header.kind {
                        Kind::Scheme => choice(value, &[b"https"], &[b"http"]),
                        _ => choice(value, &[b"on", b"true", b"1"], &[b"off", b"false", b"0"]),
                    };
                    if https.is_some() {
                        said.push(Category::Scheme);
                        rewrite.https = https;
                    }
                    continue;
                }
            };
            // What makes no sense is as if it had not been said.
            let Some(word) = word else { continue };
            said.push(header.category());
            rewrite.set.push((variable, word.to_vec()));
            if header.kind == Kind::Mount {
                rewrite.set.push(("mod_wsgi.mount_point", word.to_vec()));
            }
        }
    }

    /// The client in a list to which each proxy has added its peer, and the list from there on.
    ///
    /// What is left of an address that is no proxy's was written by that client, and says nothing.
    fn client<'h>(&self, list: &'h [u8]) -> Option<(&'h [u8], &'h [u8])> {
        if self.proxies.is_none() {
            let first = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let first = first.into_iter().find(|element| !element.is_empty())?;
            return Some((address_text(first)?, list));
        }
        let mut found = None;
        let mut end = list.len();
        loop {
            let start = list[..end].iter().rposition(|byte| *byte == b',').map_or(0, |at| at + 1);
            let element = list[start..end].trim_ascii();
            if !element.is_empty() {
                let Some(text) = address_text(element) else { break };
                found = Some((text, list[start..].trim_ascii()));
                if !address(text).is_some_and(|address| self.is_proxy(address)) {
                    break;
                }
            }
            if start == 0 {
                break;
            }
            end = start - 1;
        }
        found
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.is_some_and(|proxies| proxies.iter().any(|proxy| proxy.contains(address)))
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An address without the port and the brackets that some proxies write around it.
fn address_text(text: &[u8]) -> Option<&[u8]> {
    let bare = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or(text);
    if address(bare).is_some() {
        return Some(bare);
    }
    std::str::from_utf8(text).ok()?.parse::<SocketAddr>().ok()?;
    let end = text.iter().rposition(|byte| *byte == b':')?;
    let host = &text[..end];
    Some(host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host))
}

/// The last element of a list: what the nearest proxy has added, if it adds at all.
fn last(list: &[u8]) -> Option<&[u8]> {
    let elements = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.into_iter().rfind(|element| !element.is_empty())
}

fn is_host(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]%".contains(byte))
}

fn is_port(port: &[u8]) -> bool {
    let digits = port.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(port).ok().and_then(|port| port.parse::<u16>().ok());
    digits && number.is_some_and(|number| number > 0)
}

/// A path, which does not end in a slash (PEP 3333); the site's root is the empty one.
fn mount_point(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let end = value.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let absolute = value.is_empty() || value.starts_with(b"/");
    (absolute && !value.iter().any(u8::is_ascii_control)).then_some(&value[..end])
}

/// Whether the last element of a list is one of the words that mean yes, or of those for no.
fn choice(list: &[u8], yes: &[&[u8]], no: &[&[u8]]) -> Option<bool> {
    let word = last(list)?;
    let is_in = |words: &[&[u8]]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is_in(yes) { Some(true) } else { is_in(no).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    type Headers = HashMap<&'static str, Vec<u8>>;

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| Network::parse(text.as_bytes()).expect(text)).collect()
    }

    fn named(names: &[&str]) -> Vec<&'static Header> {
        names.iter().map(|name| Header::find(name.as_bytes()).expect(name)).collect()
    }

    fn rewrite(proxies: Option<&[&str]>, names: &[&str], peer: &str, sent: &Headers) -> Rewrite {
        let proxies = proxies.map(networks);
        let trust = Trust { proxies: proxies.as_deref(), headers: &named(names) };
        trust.rewrite(peer.as_bytes(), |name| sent.get(name).map(Vec::as_slice))
    }

    fn value<'a>(rewrite: &'a Rewrite, name: &str) -> Option<&'a str> {
        let found = rewrite.set.iter().find(|(set, _)| *set == name)?;
        Some(std::str::from_utf8(&found.1).expect("text"))
    }

    fn one(name: &'static str, value: &str) -> Headers {
        Headers::from([(name, value.as_bytes().to_vec())])
    }

    /// REMOTE_ADDR and what is left of the list, for a peer that is a proxy.
    fn client(proxies: Option<&[&str]>, list: &str) -> (Option<String>, Option<String>) {
        let sent = one("HTTP_X_FORWARDED_FOR", list);
        let result = rewrite(proxies, &["X-Forwarded-For"], "10.0.0.1", &sent);
        let get = |name| value(&result, name).map(str::to_owned);
        (get("REMOTE_ADDR"), get("HTTP_X_FORWARDED_FOR"))
    }

    #[test]
    fn networks_of_every_form() {
        let contains = |network: &str, address: &str| {
            networks(&[network])[0].contains(address.parse().expect(address))
        };
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/255.255.0.0", "10.0.9.9"));
        assert!(contains("10.1", "10.1.2.3") && !contains("10.1", "10.2.2.3"));
        assert!(contains("10.", "10.1.2.3"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:9::1") && !contains("2001:db8::/32", "::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"), "IPv4 in an IPv6 socket");
        assert!(contains("::ffff:10.0.0.0/104", "10.1.1.1"));
        for bad in [
            "",
            "proxy.test",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/255.0.255.0",
            "::1/129",
            "::1/255.0.0.0",
            "1.2.3.4.5",
            "256.1",
            "10.0.0.1/+8",
            "1..2",
            "/8",
        ] {
            assert_eq!(Network::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_client_is_left_of_the_proxies() {
        let text = |text: &str| Some(text.to_owned());
        let proxies: Option<&[&str]> = Some(&["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(client(proxies, "1.1.1.1"), (text("1.1.1.1"), None));
        assert_eq!(client(proxies, "1.1.1.1, 10.0.0.9"), (text("1.1.1.1"), None));
        assert_eq!(
            client(proxies, "9.9.9.9, 1.1.1.1 ,10.0.0.9,fd00::1"),
            (text("1.1.1.1"), text("1.1.1.1 ,10.0.0.9,fd00::1"))
        );
        assert_eq!(client(proxies, "10.0.0.7, 10.0.0.9"), (text("10.0.0.7"), None));
        assert_eq!(client(proxies, "2001:db8::1"), (text("2001:db8::1"), None));
        assert_eq!(client(proxies, "[2001:db8::1]:443"), (text("2001:db8::1"), None));
        assert_eq!(client(proxies, "1.1.1.1:80"), (text("1.1.1.1"), None));
        // What is no address ends the walk: the proxy behind it is the last thing known.
        assert_eq!(client(proxies, "evil, 10.0.0.9"), (text("10.0.0.9"), text("10.0.0.9")));
        assert_eq!(client(proxies, "unknown"), (None, None));
        assert_eq!(client(proxies, " , ,"), (None, None));
        // Without a list of proxies the first one is believed.
        assert_eq!(client(None, " ,9.9.9.9, 1.1.1.1"), (text("9.9.9.9"), None));
        assert_eq!(client(None, "evil, 1.1.1.1"), (None, None));
    }

    #[test]
    fn each_category_goes_where_it_belongs() {
        let said = |name: &'static str, text: &str| {
            let header = HEADERS.iter().find(|header| header.variable == name).expect(name);
            rewrite(None, &[header.name], "1.1.1.1", &one(name, text))
        };
        for (name, text, variable, wanted) in [
            ("HTTP_X_CLIENT_IP", "2.2.2.2", "REMOTE_ADDR", Some("2.2.2.2")),
            ("HTTP_X_REAL_IP", " ::1 ", "REMOTE_ADDR", Some("::1")),
            ("HTTP_X_REAL_IP", "x", "REMOTE_ADDR", None),
            ("HTTP_X_FORWARDED_HOST", "shop.test:8443", "HTTP_HOST", Some("shop.test:8443")),
            ("HTTP_X_HOST", "evil.test, shop.test", "HTTP_HOST", Some("shop.test")),
            ("HTTP_X_HOST", "a/b", "HTTP_HOST", None),
            ("HTTP_X_FORWARDED_SERVER", "edge.test", "SERVER_NAME", Some("edge.test")),
            ("HTTP_X_FORWARDED_PORT", "8443", "SERVER_PORT", Some("8443")),
            ("HTTP_X_FORWARDED_PORT", "0", "SERVER_PORT", None),
            ("HTTP_X_FORWARDED_PORT", "+80", "SERVER_PORT", None),
            ("HTTP_X_FORWARDED_PORT", "65536", "SERVER_PORT", None),
            ("HTTP_X_SCRIPT_NAME", "/shop/", "SCRIPT_NAME", Some("/shop")),
            ("HTTP_X_SCRIPT_NAME", "/", "SCRIPT_NAME", Some("")),
            ("HTTP_X_FORWARDED_SCRIPT_NAME", "/a", "mod_wsgi.mount_point", Some("/a")),
            ("HTTP_X_FORWARDED_SCRIPT_NAME", "a", "SCRIPT_NAME", None),
        ] {
            assert_eq!(value(&said(name, text), variable), wanted, "{name}: {text}");
        }
        for name in ["PROTO", "SCHEME"].map(|name| format!("HTTP_X_FORWARDED_{name}")) {
            let name = HEADERS.iter().find(|header| header.variable == name).unwrap().variable;
            assert_eq!(said(name, "HTTPS").https, Some(true));
            assert_eq!(said(name, "http").https, Some(false));
            assert_eq!(said(name, "ftp").https, None);
        }
        for name in ["HTTP_X_FORWARDED_HTTPS", "HTTP_X_FORWARDED_SSL", "HTTP_X_HTTPS"] {
            assert_eq!(["On", "true", "1"].map(|word| said(name, word).https), [Some(true); 3]);
            assert_eq!(["off", "False", "0"].map(|word| said(name, word).https), [Some(false); 3]);
            assert_eq!(said(name, "perhaps").https, None);
        }
    }

    #[test]
    fn of_two_that_say_the_same_thing_the_first_named_is_believed() {
        let sent = Headers::from([
            ("HTTP_X_REAL_IP", b"2.2.2.2".to_vec()),
            ("HTTP_X_CLIENT_IP", b"3.3.3.3".to_vec()),
        ]);
        let result = rewrite(None, &["X-Client-IP", "X-Real-IP"], "1.1.1.1", &sent);
        assert_eq!(value(&result, "REMOTE_ADDR"), Some("3.3.3.3"));
    }

    fn some_headers() -> impl Strategy<Value = Vec<&'static Header>> {
        prop::sample::subsequence(HEADERS.iter().collect::<Vec<_>>(), 0..HEADERS.len())
    }

    fn some_values() -> impl Strategy<Value = Headers> {
        let value = prop_oneof![
            any::<Vec<u8>>(),
            "[0-9.:a-f, ]{0,40}".prop_map(String::into_bytes),
            "(https|on|/a|8080|shop.test|1.2.3.4)".prop_map(String::into_bytes),
        ];
        let name =
            prop::sample::select(HEADERS.iter().map(|header| header.variable).collect::<Vec<_>>());
        prop::collection::hash_map(name, value, 0..10)
    }

    proptest! {
        #[test]
        fn a_stranger_changes_nothing_and_none_of_the_named_headers_stays(
            headers in some_headers(), sent in some_values(), peer in any::<[u8; 4]>()
        ) {
            prop_assume!(peer[0] != 10);
            let proxies = networks(&["10.0.0.0/8"]);
            let trust = Trust { proxies: Some(&proxies), headers: &headers };
            let peer = IpAddr::from(peer).to_string();
            let result = trust.rewrite(peer.as_bytes(), |name| sent.get(name).map(Vec::as_slice));
            prop_assert_eq!((&result.set, result.https), (&Vec::new(), None));
            for header in &HEADERS {
                let spoken_for = headers.iter().any(|named| named.category() == header.category());
                prop_assert_eq!(result.touches(header.variable.as_bytes()), spoken_for);
            }
        }

        #[test]
        fn what_a_header_outside_the_list_says_has_no_effect(
            headers in some_headers(), sent in some_values(), spoofed in some_values()
        ) {
            let trust = Trust { proxies: None, headers: &headers };
            let mut both = sent.clone();
            both.extend(spoofed.into_iter().filter(|(name, _)| {
                !headers.iter().any(|header| header.variable == *name)
            }));
            let get = |from: &Headers| {
                let from = from.clone();
                let from: &'static Headers = Box::leak(Box::new(from));
                trust.rewrite(b"1.1.1.1", |name| from.get(name).map(Vec::as_slice))
            };
            prop_assert_eq!(get(&sent), get(&both));
        }

        #[test]
        fn what_a_client_writes_into_the_list_changes_nothing(
            written in any::<Vec<u8>>(), client in any::<[u8; 4]>(), hops in 0..4_u8
        ) {
            prop_assume!(client[0] != 10);
            let client = IpAddr::from(client).to_string();
            let hops: String = (0..hops).map(|hop| format!(", 10.0.0.{hop}")).collect();
            let honest = format!("{client}{hops}");
            let list = [&written[..], b",", honest.as_bytes()].concat();
            let sent = Headers::from([("HTTP_X_FORWARDED_FOR", list)]);
            let result = rewrite(Some(&["10.0.0.0/8"]), &["X-Forwarded-For"], "10.0.0.1", &sent);
            prop_assert_eq!(value(&result, "REMOTE_ADDR"), Some(&client[..]));
            prop_assert_eq!(value(&result, "HTTP_X_FORWARDED_FOR"), Some(&honest[..]));
        }

        #[test]
        fn what_is_set_is_always_well_formed(headers in some_headers(), sent in some_values()) {
            let trust = Trust { proxies: None, headers: &headers };
            let result = trust.rewrite(b"1.1.1.1", |name| sent.get(name).map(Vec::as_slice));
            for (name, value) in &result.set {
                let good = match *name {
                    "REMOTE_ADDR" => address(value).is_some(),
                    "SERVER_PORT" => is_port(value),
                    "SCRIPT_NAME" | "mod_wsgi.mount_point" =>
                        value.is_empty() || value[0] == b'/' && !value.ends_with(b"/"),
                    _ => !value.is_empty() && is_host(value),
                };
                prop_assert!(good, "{name}: {value:?}");
            }
        }
    }
}
