//! The reader: text in, sections and attributes out.
//!
//! It checks what the other modules rely on: sizes, no control characters, and ids that are one word
//! and unique. The meaning of attributes is left to the callers.

use std::collections::HashSet;

use crate::limits::{SDP_BYTES, SDP_LINES, SDP_SECTIONS, SDP_TOKEN};

#[derive(Debug, Default, Clone)]
pub(crate) struct Sdp {
    /// a= lines of the session, without the `a=`.
    session: Vec<String>,
    pub(crate) media: Vec<Section>,
}

/// One m= section.
#[derive(Debug, Default, Clone)]
pub(crate) struct Section {
    /// "audio", "video", "application", or any other word of the peer.
    pub(crate) kind: String,
    pub(crate) port: u16,
    pub(crate) proto: String,
    pub(crate) fmts: Vec<String>,
    /// a= lines, without the `a=`.
    pub(crate) attrs: Vec<String>,
}

/// The parameters of a peer's transport, each from the session or from the first section that has it.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: String,
    /// "actpass" if the peer names none.
    pub(crate) setup: String,
    /// The peer only answers checks (RFC 8445 §2.5).
    pub(crate) ice_lite: bool,
}

/// `(line, what is wrong with it)`
pub(crate) type Bad = (String, String);

fn bad<T>(line: &str, why: impl Into<String>) -> Result<T, Bad> {
    const SHOWN: usize = 120;
    Err((line.chars().take(SHOWN).collect(), why.into()))
}

fn find<'a>(attrs: &'a [String], key: &str) -> Option<&'a str> {
    attrs.iter().find_map(|a| {
        let rest = a.strip_prefix(key)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
    })
}

impl Section {
    pub(crate) fn attr(&self, key: &str) -> Option<&str> {
        find(&self.attrs, key)
    }

    pub(crate) fn is_app(&self) -> bool {
        self.kind == "application"
    }

    /// The section's id; "" if it has none.
    pub(crate) fn mid(&self) -> &str {
        self.attr("mid").unwrap_or("")
    }

    pub(crate) fn rejected(&self) -> bool {
        self.port == 0 && self.attr("bundle-only").is_none()
    }

    pub(crate) fn direction(&self) -> &'static str {
        ["sendonly", "recvonly", "inactive"]
            .into_iter()
            .find(|d| self.attr(d).is_some())
            .unwrap_or("sendrecv")
    }

    pub(crate) fn remote_sends(&self) -> bool {
        !self.rejected() && matches!(self.direction(), "sendonly" | "sendrecv")
    }

    /// `(stream, track)` of the first a=msid line.
    pub(crate) fn msid(&self) -> Option<(&str, &str)> {
        let mut it = self.attr("msid")?.split(' ');
        let stream = it.next().filter(|s| !s.is_empty() && *s != "-")?;
        Some((stream, it.next().unwrap_or(stream)))
    }

    fn read(line: &str, value: &str) -> Result<Section, Bad> {
        let mut it = value.split_whitespace();
        let Some(kind) = it.next() else { return bad(line, "empty m= line") };
        let port = it.next().and_then(|p| p.split('/').next()?.parse().ok());
        let Some(port) = port else { return bad(line, "bad port") };
        let Some(proto) = it.next() else { return bad(line, "no protocol") };
        let fmts = it.map(str::to_owned).collect();
        Ok(Section { kind: kind.into(), port, proto: proto.into(), fmts, attrs: vec![] })
    }
}

impl Sdp {
    /// # Errors
    /// Text that is not a session description, or is larger than `limits` allows.
    pub(crate) fn parse(text: &str) -> Result<Sdp, Bad> {
        if text.len() > SDP_BYTES {
            return bad(text, format!("longer than {SDP_BYTES} bytes"));
        }
        let mut out = Sdp::default();
        let mut mids = HashSet::new();
        let mut lines = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
        let first = lines.next().unwrap_or_default();
        if !first.starts_with("v=") {
            return bad(first, "expected v=0");
        }
        for (n, line) in lines.enumerate() {
            if n >= SDP_LINES {
                return bad(line, format!("more than {SDP_LINES} lines"));
            }
            if line.contains(char::is_control) {
                return bad(line, "control character");
            }
            let Some((key, value)) = line.split_once('=') else {
                return bad(line, "expected <type>=<value>");
            };
            let sections = out.media.len();
            match (key, out.media.last_mut()) {
                ("m", _) if sections >= SDP_SECTIONS => {
                    return bad(line, format!("more than {SDP_SECTIONS} sections"));
                }
                ("m", _) => out.media.push(Section::read(line, value)?),
                ("a", Some(m)) => m.attrs.push(value.to_owned()),
                ("a", None) => out.session.push(value.to_owned()),
                _ if key.len() != 1 => return bad(line, "expected a one-letter type"),
                _ => {}
            }
        }
        for m in out.media.iter().filter(|m| !m.rejected()) {
            let mid = m.mid();
            if mid.len() > SDP_TOKEN || mid.contains(char::is_whitespace) {
                return bad(mid, "a section's id must be one short word");
            }
            if !mid.is_empty() && !mids.insert(mid) {
                return bad(mid, "two sections with this id");
            }
        }
        Ok(out)
    }

    fn attr(&self, key: &str) -> Option<&str> {
        let used = || self.media.iter().filter(|m| !m.rejected());
        find(&self.session, key).or_else(|| used().find_map(|m| m.attr(key)))
    }

    /// # Errors
    /// Says which part is missing or unusable.
    pub(crate) fn transport(&self) -> Result<Transport, &'static str> {
        let word = |key| self.attr(key).filter(|v| is_word(v)).map(str::to_owned);
        Ok(Transport {
            ufrag: word("ice-ufrag").ok_or("no usable a=ice-ufrag")?,
            pwd: word("ice-pwd").ok_or("no usable a=ice-pwd")?,
            fingerprint: self.fingerprint().ok_or("no usable a=fingerprint of sha-256")?,
            setup: self.attr("setup").unwrap_or("actpass").into(),
            ice_lite: self.attr("ice-lite").is_some(),
        })
    }

    /// The peer's sha-256 fingerprint, which is the only kind that we compare. A peer may name several kinds.
    fn fingerprint(&self) -> Option<String> {
        let used = self.media.iter().filter(|m| !m.rejected()).flat_map(|m| &m.attrs);
        self.session.iter().chain(used).find_map(|a| {
            let (hash, value) = a.strip_prefix("fingerprint:")?.split_once(' ')?;
            let hex = |b: &str| b.len() == 2 && b.chars().all(|c| c.is_ascii_hexdigit());
            let ok = hash.eq_ignore_ascii_case("sha-256")
                && value.len() == 32 * 3 - 1
                && value.split(':').all(hex);
            ok.then(|| format!("sha-256 {value}"))
        })
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = &str> {
        let all = self.session.iter().chain(self.media.iter().flat_map(|m| &m.attrs));
        all.filter(|a| a.starts_with("candidate:")).map(String::as_str)
    }

    /// The data section.
    pub(crate) fn app(&self) -> Option<&Section> {
        self.media.iter().find(|m| m.is_app() && !m.rejected())
    }
}

fn is_word(v: &str) -> bool {
    !v.is_empty() && v.len() <= SDP_TOKEN && !v.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    const HASH: &str = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

    fn ice() -> String {
        format!("a=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 {HASH}\r\n")
    }

    #[test]
    fn garbage_is_refused_with_the_line_that_is_wrong() {
        let why = |text: &str| Sdp::parse(text).map(|_| ()).unwrap_err();
        let table = [
            ("", "", "expected v=0"),
            ("\r\n\r\n", "", "expected v=0"),
            ("hello", "hello", "expected v=0"),
            ("m=audio 9 X 0\r\nv=0", "m=audio 9 X 0", "expected v=0"),
            ("v=0\r\nhello", "hello", "expected <type>=<value>"),
            ("v=0\r\nab=c", "ab=c", "expected a one-letter type"),
            ("v=0\r\n=c", "=c", "expected a one-letter type"),
            ("v=0\r\nm=", "m=", "empty m= line"),
            ("v=0\r\nm=audio", "m=audio", "bad port"),
            ("v=0\r\nm=audio 65536 X 0", "m=audio 65536 X 0", "bad port"),
            ("v=0\r\nm=audio 9", "m=audio 9", "no protocol"),
            ("v=0\r\na=x\ra=ice-lite", "a=x\ra=ice-lite", "control character"),
            ("v=0\r\na=x\0", "a=x\0", "control character"),
            ("v=0\r\nm=audio 9 X\r\na=mid:1 2", "1 2", "a section's id must be one short word"),
            (
                "v=0\r\nm=audio 9 X\r\na=mid:1\r\nm=video 9 X\r\na=mid:1",
                "1",
                "two sections with this id",
            ),
        ];
        for (text, line, what) in table {
            assert_eq!(why(text), (line.to_owned(), what.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn descriptions_that_are_too_large_are_refused() {
        let why = |text: &str| Sdp::parse(text).map(|_| ()).unwrap_err().1;
        assert!(why(&format!("v=0\r\na={}", "x".repeat(SDP_BYTES))).contains("bytes"));
        assert!(why(&("v=0\r\n".to_owned() + &"a=\n".repeat(SDP_LINES + 1))).contains("lines"));
        let sections = "m=audio 9 X 0\r\n".repeat(SDP_SECTIONS + 1);
        assert!(why(&format!("v=0\r\n{sections}")).contains("sections"));
    }

    #[test]
    fn transport_comes_from_the_session_or_the_first_section_in_use() {
        let section = |port, extra: &str| format!("m=audio {port} X 0\r\n{extra}");
        let ice = ice();
        let other = ice.replace("ufrag:u", "ufrag:other");
        let read = |text: &str| Sdp::parse(&format!("{HEAD}{text}")).unwrap().transport();
        let ufrag = |text: &str| read(text).map(|t| t.ufrag);
        assert_eq!(ufrag(&format!("{ice}{}", section(9, &other))), Ok("u".into()));
        assert_eq!(ufrag(&(section(0, &other) + &section(9, &ice))), Ok("u".into()));
        assert_eq!(ufrag(&section(9, "")), Err("no usable a=ice-ufrag"));
        let two_words = ice.replace("ufrag:u", "ufrag:u v");
        assert_eq!(ufrag(&section(9, &two_words)), Err("no usable a=ice-ufrag"));
        let t = read(&section(9, &ice)).unwrap();
        assert_eq!((t.setup.as_str(), t.ice_lite), ("actpass", false));
        assert!(read(&format!("a=ice-lite\r\n{}", section(9, &ice))).unwrap().ice_lite);
    }

    #[test]
    fn the_sha_256_fingerprint_is_taken_of_several() {
        let read = |line: &str| {
            let text = format!("{HEAD}{}", ice().replace("a=fingerprint", line));
            Sdp::parse(&text).unwrap().transport().map(|t| t.fingerprint)
        };
        let right = format!("sha-256 {HASH}");
        assert_eq!(read("a=fingerprint:md5 00:11\r\na=fingerprint"), Ok(right.clone()));
        assert_eq!(read("a=fingerprint:sha-256 00:11\r\na=fingerprint"), Ok(right.clone()));
        assert_eq!(read(&format!("a=fingerprint:SHA-256 {HASH}\r\na=x")), Ok(right));
        assert!(read("a=fingerprint:md5 00:11\r\na=x").is_err());
        assert!(read("a=x").is_err());
    }

    #[test]
    fn a_section_says_whether_the_peer_sends_and_under_which_name() {
        let read = |attrs: &str| {
            let text = format!("{HEAD}m=audio 9 X 0\r\n{attrs}");
            Sdp::parse(&text).unwrap().media.remove(0)
        };
        assert!(read("").remote_sends() && read("a=sendonly\n").remote_sends());
        assert!(!read("a=recvonly\n").remote_sends() && !read("a=inactive\n").remote_sends());
        assert_eq!(read("a=msid:PA_x|ST TR_1\n").msid(), Some(("PA_x|ST", "TR_1")));
        assert_eq!(read("a=msid:alone\n").msid(), Some(("alone", "alone")));
        assert_eq!(read("a=msid:- TR_1\n").msid(), None);
        assert_eq!(read("a=msid:\n").msid(), None);
        assert_eq!(read("a=midnight:1\n").mid(), "");
    }

    #[test]
    fn candidates_are_found_in_the_session_and_in_all_sections() {
        let text = format!("{HEAD}a=candidate:1\r\nm=audio 0 X 0\r\na=candidate:2\r\n");
        let sdp = Sdp::parse(&text).unwrap();
        assert_eq!(sdp.candidates().collect::<Vec<_>>(), ["candidate:1", "candidate:2"]);
    }
}
