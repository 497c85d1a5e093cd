//! Proxies, from the variables that other programs read: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`,
//! in upper or lower case.
//!
//! One rule for everything that goes out: records, LiveKit's API, and all websockets (by CONNECT). Loopback
//! never goes through a proxy. Media (UDP and TCP to LiveKit's media ports) does not either: a proxy for HTTP
//! cannot carry it.

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
    http: Option<String>,
    https: Option<String>,
    none: String,
    matcher: Matcher,
}

impl Proxies {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 2]| {
            names.iter().find_map(|name| variable(name).filter(|v| !v.trim().is_empty()))
        };
        let all = first(ALL);
        let (http, https) = (first(HTTP).or_else(|| all.clone()), first(HTTPS).or(all));
        let none = first(NONE).map_or_else(|| LOOPBACK.into(), |none| format!("{none},{LOOPBACK}"));
        let matcher = Matcher::builder()
            .http(http.clone().unwrap_or_default())
            .https(https.clone().unwrap_or_default())
            .no(none.clone())
            .build();
        Self { http, https, none, matcher }
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

/// The proxy for this URL, if there is one.
pub(super) fn of(url: &Uri) -> Option<Intercept> {
    PROXIES.of(url)
}

/// The proxy for this URL as it may be logged, without user and password.
pub(super) fn shown(url: &str) -> Option<String> {
    let proxy = of(&url.parse().ok()?)?;
    Some(proxy.uri().to_string().trim_end_matches('/').to_owned())
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
        builder = builder.proxy(Proxy::http(url)?.no_proxy(none()));
    }
    if let Some(url) = &proxies.https {
        builder = builder.proxy(Proxy::https(url)?.no_proxy(none()));
    }
    Ok(builder)
}

/// What is wrong with the process's variables. The values may hold passwords, so they are not shown.
pub(crate) fn mistakes() -> Vec<String> {
    mistakes_in(|name| std::env::var(name).ok())
}

fn mistakes_in(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let wrong = |name: &&str| {
        let value = variable(name)?;
        let value = value.trim();
        let with_scheme =
            if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        match Url::parse(&with_scheme) {
            _ if value.is_empty() => None,
            Ok(url) if url.scheme().starts_with("socks") => Some(format!(
                "{name} (from the environment) names a SOCKS proxy; only proxies with http:// or https:// \
                 can be used"
            )),
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => None,
            _ => Some(format!(
                "{name} (from the environment) must be a URL like http://proxy.example.com:3128"
            )),
        }
    };
    [HTTPS, HTTP, ALL].as_flattened().iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
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
    fn user_and_password_are_sent_to_the_proxy_and_not_shown() {
        let p = proxies(&[("ALL_PROXY", "http://me:se%40cret@a:1")]);
        let proxy = p.of(&"wss://example.com".parse().unwrap()).unwrap();
        assert_eq!(proxy.uri().to_string(), "http://a:1/");
        assert_eq!(proxy.basic_auth().unwrap(), "Basic bWU6c2VAY3JldA==");
    }

    #[test]
    fn what_is_no_proxy_is_named_without_its_value() {
        let mistakes =
            |value: &str| mistakes_in(|name| (name == "HTTPS_PROXY").then(|| value.to_owned()));
        for right in ["", " ", "http://a:1", "a:1", "https://me:secret@a", "10.0.0.1:3128"] {
            assert!(mistakes(right).is_empty(), "{right}");
        }
        for wrong in ["://secret", "http://", "ftp://secret", "socks5://secret:1", "secret:port"] {
            let said = mistakes(wrong);
            assert_eq!(said.len(), 1, "{wrong}");
            assert!(said[0].starts_with("HTTPS_PROXY ") && !said[0].contains("secret"), "{said:?}");
        }
    }
}
