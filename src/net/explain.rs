//! Errors of libraries in words that an operator knows, with what to do.

use std::error::Error;

use reqwest::Url;

use super::proxy;

/// Another program than LiveKit has answered.
pub(crate) const NO_LIVEKIT: &str = "this is no LiveKit server";

/// The settings that an advice names.
struct Named {
    url: &'static str,
    /// What makes an unknown certificate trusted.
    trust: &'static str,
    /// What presents a certificate of ours.
    own: &'static str,
    /// It takes our posts: its status says something about our settings.
    takes_posts: bool,
}

const ENDPOINT: Named = Named {
    url: "CALL_HISTORY_ENDPOINT",
    trust: "let CALL_HISTORY_ENDPOINT_CA_FILE name a file with",
    own: "set CALL_HISTORY_ENDPOINT_CERT_FILE and _KEY_FILE",
    takes_posts: true,
};
const EVENTS: Named = Named { url: "CALL_HISTORY_EVENTS_ENDPOINT", ..ENDPOINT };
const LIVEKIT: Named = Named {
    url: "LIVEKIT_URL",
    trust: "add to the system's certificates, or to the file that SSL_CERT_FILE names,",
    own: "connections to LiveKit cannot present one",
    takes_posts: false,
};

/// An error of a connection to the endpoint.
pub(crate) fn endpoint(error: String, url: &Url) -> String {
    explained(error, &ENDPOINT, url.as_str())
}

/// An error of a post to the endpoint. `signed`: whether the post had a signature.
pub(crate) fn refusal(error: String, url: &Url, signed: bool) -> String {
    let unsigned = !signed && error.contains("answered 401");
    let error = endpoint(error, url);
    if unsigned { format!("{error}; it was not signed: JWT_SECRET is not set") } else { error }
}

/// An error of a connection to the endpoint of live events.
pub(crate) fn events(error: String, url: &Url) -> String {
    explained(error, &EVENTS, url.as_str())
}

/// An error of a connection to LiveKit.
pub(crate) fn livekit(error: String, url: &str) -> String {
    explained(error, &LIVEKIT, url)
}

/// An error and its causes.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Some libraries repeat their cause.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn explained(error: String, named: &Named, url: &str) -> String {
    let error = with_the_day(error);
    let Some(proxy) = proxy::shown(url) else {
        return match advice(&error, named) {
            Some(advice) => format!("{error} ({advice})"),
            None => error,
        };
    };
    let advice = if error.contains("answered 407") || error.contains("proxy authorization required")
    {
        Some(
            "the proxy asks for a user and password; set them in the proxy's variable: \
             http://user:password@host:port"
                .into(),
        )
    } else if error.contains("tunnel error: unsuccessful") {
        Some(
            "the proxy refuses connections to this host and port; allow them there, or add the host to \
             NO_PROXY"
                .into(),
        )
    } else if error.contains("Connection refused") || error.contains("failed to lookup address") {
        Some(
            "the proxy itself is not there: check its host and port in the proxy's variable".into(),
        )
    } else if ["answered 403", "answered 502", "answered 503"].iter().any(|a| error.contains(a)) {
        let mut who =
            "the proxy itself may have answered: ask who runs it whether this host is allowed"
                .to_owned();
        if let Some(advice) = advice(&error, named) {
            who = format!("{who}; if it was the server: {advice}");
        }
        Some(who)
    } else {
        advice(&error, named)
    };
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    format!("{error} (through the proxy {proxy}{advice})")
}

/// The TLS library gives the end of an expired certificate in Unix seconds, beside other numbers.
fn with_the_day(error: String) -> String {
    let day = || {
        let (before, _) = error.split_once("certificate expired")?;
        let (_, after) = error.split_once("not valid after ")?;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        let ended = chrono::DateTime::from_timestamp(digits.parse().ok()?, 0)?;
        Some(format!("{before}certificate expired on {}", ended.format("%Y-%m-%d")))
    };
    day().unwrap_or(error)
}

fn advice(error: &str, named: &Named) -> Option<String> {
    let Named { url, trust, own, takes_posts } = named;
    if *takes_posts && let Some(advice) = of_an_answer(error, url) {
        return Some(advice);
    }
    // LiveKit answers a registration with 101 or 401. A plain web server speaks an older HTTP or knows no such path.
    let foreign = [
        "HTTP version must be 1.1",
        "answered 200",
        "answered 404",
        "answered 405",
        "answered 501",
    ];
    if !takes_posts && foreign.iter().any(|mark| error.contains(mark)) {
        return Some(format!("{NO_LIVEKIT}: check host, port and path in {url}"));
    }
    let advice = [
        (
            "UnknownIssuer",
            format!(
                "the certificate is signed by an authority that is not trusted here; {trust} the authority's \
                 certificate, or the server's own"
            ),
        ),
        (
            "BadSignature",
            format!(
                "the certificate is signed by an authority of the same name as a trusted one, but with \
                 another key; {trust} the authority's certificate, or the server's own"
            ),
        ),
        (
            "CaUsedAsEndEntity",
            format!("the server's certificate is self-signed; {trust} exactly this certificate"),
        ),
        (
            "certificate expired",
            "its owner must renew it; or is this machine's clock wrong?".into(),
        ),
        (
            "not valid yet",
            "the server's certificate is not valid yet; check this machine's clock".into(),
        ),
        (
            "not valid for name",
            format!("the server's certificate is for another name; check the host in {url}"),
        ),
        ("CertificateRequired", format!("the server asks for a client certificate; {own}")),
        (
            "InvalidContentType",
            format!(
                "the server does not speak TLS; should {url} begin without the s: http:// or ws://?"
            ),
        ),
        (
            "Connection refused",
            format!(
                "nothing listens there: check host and port in {url}, and that the server runs"
            ),
        ),
        (
            "failed to lookup address",
            format!("the name is not known here: check the host in {url}, and this machine's DNS"),
        ),
        (
            "No route to host",
            format!("check the host in {url}, and routes and firewalls on the way"),
        ),
        (NO_LIVEKIT, format!("check host, port and path in {url}")),
    ];
    advice.into_iter().find(|(mark, _)| error.contains(mark)).map(|(_, advice)| advice)
}

/// What the status of an answer to our post says.
fn of_an_answer(error: &str, url: &str) -> Option<String> {
    let advice = match error {
        e if e.contains("answered 401") => {
            "the signature or a key is not accepted: JWT_SECRET must be the secret with which the endpoint checks \
             it; a gateway's key belongs in CALL_HISTORY_ENDPOINT_HEADERS"
        }
        e if e.contains("answered 403") => {
            "the request is not allowed: check JWT_SECRET, and CALL_HISTORY_ENDPOINT_HEADERS for a gateway's key"
        }
        e if e.contains("answered 404") => {
            return Some(format!("nothing takes posts at this path: check {url}"));
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_named_with_its_last_day() {
        let error = "invalid peer certificate: certificate expired: verification time 1795752969 (UNIX), but \
                     certificate is not valid after 1706659200 (89093769 seconds ago)";
        let url: Url = "https://localhost:1/".parse().unwrap();
        let text = endpoint(error.into(), &url);
        assert!(
            text.starts_with("invalid peer certificate: certificate expired on 2024-01-31 ("),
            "{text}"
        );
        let other = "certificate expired".to_owned();
        assert!(endpoint(other, &url).starts_with("certificate expired ("));
    }

    #[test]
    fn a_refused_signature_is_told_from_none() {
        let url: Url = "http://localhost:1/".parse().unwrap();
        let of = |status: &str, signed| refusal(format!("answered {status}"), &url, signed);
        assert!(of("401", false).ends_with("; it was not signed: JWT_SECRET is not set"));
        for text in [of("401", true), of("500", false)] {
            assert!(!text.contains("not signed"), "{text}");
        }
    }
}
