//! Proxies, from the variables that other programs read: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`,
//! in upper or lower case.
//!
//! One rule for everything that goes out: records, LiveKit's API, and all websockets (by CONNECT). Loopback
//! never goes through a proxy. Media (UDP and TCP to LiveKit's media ports) does not either: a proxy for HTTP
//! cannot carry it.
//!
//! Requests choose their proxy in reqwest ([`applied`]), websockets here ([`of`]). Both use the same code of
//! hyper-util with the same values. `tests/it/proxies.rs` shows both.

use std::sync::LazyLock;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{ClientBuilder, NoProxy, Proxy, Url};
use tokio_tungstenite::tungstenite::http::Uri;

/// For `https` and `wss`, for `http` and `ws`, and for all where the first two are not set.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
/// Hosts, domains and networks that no proxy is used for.
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// What is added to them.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// The process's proxies.
static PROXIES: LazyLock<Proxies> =
    LazyLock::new(|| Proxies::read(|name| std::env::var(name).ok()));

struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    none: String,
    matcher: Matcher,
    /// What is wrong with the variables that are used. Their values may hold passwords, so they are not shown.
    mistakes: Vec<String>,
}

impl Proxies {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = variable(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let none = first(NONE).map(|(_, none)| none).unwrap_or_default();
        let none: Vec<&str> = (none.split(|c: char| c == ',' || c.is_whitespace()))
            .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
            .filter(|host| !host.is_empty())
            .collect();
        // The libraries apply it to names only, and not to addresses.
        let nowhere = none.contains(&"*");
        let none = format!("{},{LOOPBACK}", none.join(","));
        let all = first(ALL);
        let chosen = [first(HTTPS).or_else(|| all.clone()), first(HTTP).or(all)];
        let mut mistakes = vec![];
        // Both libraries get the same URL, so that they read the same from it.
        let [https, http] = chosen.map(|chosen| match read(chosen?) {
            Ok(url) => Some(url).filter(|_| !nowhere),
            Err(mistake) => {
                if !mistakes.contains(&mistake) {
                    mistakes.push(mistake);
                }
                None
            }
        });
        let text = |url: &Option<Url>| url.as_ref().map(Url::to_string).unwrap_or_default();
        let matcher =
            Matcher::builder().http(text(&http)).https(text(&https)).no(none.clone()).build();
        Self { http, https, none, matcher, mistakes }
    }

    fn of(&self, url: &Uri) -> Option<Intercept> {
        // The matcher knows only the schemes of HTTP.
        let scheme = match url.scheme_str() {
            Some("ws" | "http") => "http",
            _ => "https",
        };
        let url = Uri::builder().scheme(scheme).authority(url.authority()?.clone());
        self.matcher.intercept(&url.path_and_query("/").build().ok()?)
    }
}

/// Reads the URL of a proxy, which may be without a scheme.
fn read((name, value): (&str, String)) -> Result<Url, String> {
    let full = if value.contains("://") { value } else { format!("http://{value}") };
    match Url::parse(&full) {
        Ok(url) if url.scheme().starts_with("socks") => Err(format!(
            "{name} (from the environment) names a SOCKS proxy; only proxies with http:// or https:// can \
             be used"
        )),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(format!(
            "{name} (from the environment) must be a URL like http://proxy.example.com:3128"
        )),
    }
}

/// The proxy for this URL, if there is one.
pub(super) fn of(url: &Uri) -> Option<Intercept> {
    PROXIES.of(url)
}

/// The proxy for this URL as it may be logged, without user and password.
pub(super) fn shown(url: &str) -> Option<String> {
    let proxy = of(&url.parse().ok()?)?;
    let port = proxy.uri().port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}", proxy.uri().scheme_str()?, proxy.uri().host()?))
}

/// Makes a client use the proxies.
///
/// # Errors
/// If one of them is not a URL: [`mistakes`] names it.
pub(super) fn applied(builder: ClientBuilder) -> reqwest::Result<ClientBuilder> {
    let proxies = &*PROXIES;
    let none = || NoProxy::from_string(&proxies.none);
    let mut builder = builder.no_proxy();
    if let Some(url) = &proxies.http {
        builder = builder.proxy(Proxy::http(url.clone())?.no_proxy(none()));
    }
    if let Some(url) = &proxies.https {
        builder = builder.proxy(Proxy::https(url.clone())?.no_proxy(none()));
    }
    Ok(builder)
}

/// What is wrong with the process's variables, without their values.
pub(crate) fn mistakes() -> Vec<String> {
    PROXIES.mistakes.clone()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        Some(proxies.of(&url.parse().unwrap())?.uri().to_string())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_websockets_have_that_of_http() {
        let p = proxies(&[("HTTP_PROXY", "http://a:1"), ("https_proxy", "b:2")]);
        for (url, proxy) in [
            ("http://example.com/x", "http://a:1/"),
            ("ws://example.com:7880/agent", "http://a:1/"),
            ("https://example.com", "http://b:2/"),
            ("wss://example.com/rtc?x=1", "http://b:2/"),
        ] {
            assert_eq!(of(&p, url).as_deref(), Some(proxy), "{url}");
        }
        let p = proxies(&[("ALL_PROXY", "http://c:3"), ("HTTPS_PROXY", "http://b:2")]);
        assert_eq!(of(&p, "ws://example.com").as_deref(), Some("http://c:3/"));
        assert_eq!(of(&p, "wss://example.com").as_deref(), Some("http://b:2/"));
        assert!(of(&proxies(&[]), "wss://example.com").is_none());
    }

    #[test]
    fn loopback_and_excepted_hosts_are_reached_directly() {
        let none = "internal.example.com, .corp,10.0.0.0/8,192.0.2.7";
        let p = proxies(&[("ALL_PROXY", "http://a:1"), ("NO_PROXY", none)]);
        for direct in [
            "http://localhost:8080",
            "ws://127.0.0.2:7880",
            "http://[::1]:80",
            "https://internal.example.com",
            "https://a.internal.example.com",
            "https://x.corp",
            "wss://10.1.2.3",
            "wss://192.0.2.7",
        ] {
            assert!(of(&p, direct).is_none(), "{direct}");
        }
        for through in ["https://notinternal.example.com", "wss://192.0.2.8", "http://localhosts"] {
            assert!(of(&p, through).is_some(), "{through}");
        }
        let all = proxies(&[("ALL_PROXY", "http://a:1"), ("NO_PROXY", "*")]);
        assert!(of(&all, "https://example.com").is_none());
    }

    #[test]
    fn everything_is_reached_directly_where_no_proxy_is_a_star() {
        let p = proxies(&[("ALL_PROXY", "http://a:1"), ("NO_PROXY", "x.test, *")]);
        for direct in ["https://example.com", "ws://10.0.0.5:7880", "http://[2001:db8::1]:80"] {
            assert!(of(&p, direct).is_none(), "{direct}");
        }
    }

    #[test]
    fn user_and_password_are_sent_to_the_proxy_and_not_shown() {
        // An address of mail as user, a password with an at-sign, blanks at the end.
        for (proxy, credentials) in [
            ("http://me:se%40cret@a:1", "me:se@cret"),
            ("http://me@corp.test:secret@a:1", "me@corp.test:secret"),
            ("http://me:p@ss^|{}@a:1 \n", "me:p@ss^|{}"),
            ("me:secret@a:1", "me:secret"),
        ] {
            let p = proxies(&[("ALL_PROXY", proxy)]);
            let to = p.of(&"wss://example.com".parse().unwrap()).unwrap();
            assert_eq!(to.uri().to_string(), "http://a:1/", "{proxy}");
            let expected = format!("Basic {}", BASE64.encode(credentials));
            assert_eq!(to.basic_auth().unwrap(), &*expected, "{proxy}");
            assert!(p.mistakes.is_empty(), "{proxy}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_named_without_its_value() {
        let mistakes = |value: &str| proxies(&[("HTTPS_PROXY", value)]).mistakes;
        for right in ["", " ", "http://a:1", "a:1", "https://me:secret@a", "10.0.0.1:3128"] {
            assert!(mistakes(right).is_empty(), "{right}");
        }
        for wrong in ["://secret", "http://", "ftp://secret", "socks5://secret:1", "secret:port"] {
            let said = mistakes(wrong);
            assert_eq!(said.len(), 1, "{wrong}");
            assert!(said[0].starts_with("HTTPS_PROXY ") && !said[0].contains("secret"), "{said:?}");
        }
        // What is not used is not looked at.
        let used = [("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "a:1"), ("ALL_PROXY", "socks5://b:2")];
        assert!(proxies(&used).mistakes.is_empty());
        assert_eq!(proxies(&used[2..]).mistakes.len(), 1, "once, though it stands for two");
    }
}
