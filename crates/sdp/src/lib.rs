//! Reads session descriptions (RFC 8866): text in, sections and attributes out.
//!
//! Both ends of this repository use it: `libwebrtc` reads what a server sends, `livekit-devserver`
//! reads what clients send. The text is untrusted. The reader checks what its users rely on: sizes, no
//! control characters, and section ids that are one word and unique. It never panics. The meaning of
//! most attributes is left to the callers.

use std::collections::HashSet;

/// Bytes of one session description. A section of a LiveKit offer is 1 to 4 kB.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Lines of one session description.
const MAX_LINES: usize = 50_000;
/// Media sections of one session description; a section lives as long as its connection.
const MAX_SECTIONS: usize = 1024;
/// Length of a section's id, and of ICE credentials (RFC 8839 §5.4 says 256).
pub const MAX_TOKEN: usize = 256;

/// What this crate reads of a session description.
#[derive(Debug, Default, Clone)]
pub struct Sdp {
    /// a= lines of the session, without the `a=`.
    session: Vec<String>,
    /// The m= sections, in their order.
    pub media: Vec<Section>,
}

/// One m= section.
#[derive(Debug, Default, Clone)]
pub struct Section {
    /// "audio", "video", "application", or any other word of the peer.
    pub kind: String,
    /// 0: not used, unless the section is bundle-only.
    pub port: u16,
    pub proto: String,
    /// The payload types, or the word after the protocol.
    pub fmts: Vec<String>,
    /// a= lines, without the `a=`.
    pub attrs: Vec<String>,
}

/// The parameters of a peer's transport, each from the session or from the first section that has it.
#[derive(Debug, Clone)]
pub struct Transport {
    pub ufrag: String,
    pub pwd: String,
    /// "sha-256 " and 32 bytes in hexadecimal, with colons.
    pub fingerprint: String,
    /// "actpass" if the peer names none.
    pub setup: String,
    /// The peer only answers checks (RFC 8445 §2.5).
    pub ice_lite: bool,
}

/// `(line, what is wrong with it)`
pub type Bad = (String, String);

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
    /// The value of `a=key:value`, or "" for a bare `a=key`.
    pub fn attr(&self, key: &str) -> Option<&str> {
        find(&self.attrs, key)
    }

    /// The section of the data channels.
    pub fn is_app(&self) -> bool {
        self.kind == "application"
    }

    /// The section's id; "" if it has none.
    pub fn mid(&self) -> &str {
        self.attr("mid").unwrap_or("")
    }

    /// The section is switched off: port 0, and it is not bundle-only.
    pub fn rejected(&self) -> bool {
        self.port == 0 && self.attr("bundle-only").is_none()
    }

    fn direction(&self) -> &'static str {
        ["sendonly", "recvonly", "inactive"]
            .into_iter()
            .find(|d| self.attr(d).is_some())
            .unwrap_or("sendrecv")
    }

    /// The peer will send in this section.
    pub fn sends(&self) -> bool {
        !self.rejected() && matches!(self.direction(), "sendonly" | "sendrecv")
    }

    /// The peer will take what we send in this section.
    pub fn receives(&self) -> bool {
        !self.rejected() && matches!(self.direction(), "recvonly" | "sendrecv")
    }

    /// `(stream, track)` of the first a=msid line.
    pub fn msid(&self) -> Option<(&str, &str)> {
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
    /// Text that is not a session description, or is larger than the limits allow.
    pub fn parse(text: &str) -> Result<Sdp, Bad> {
        if text.len() > MAX_BYTES {
            return bad(text, format!("longer than {MAX_BYTES} bytes"));
        }
        let mut out = Sdp::default();
        let mut mids = HashSet::new();
        let mut lines = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
        let first = lines.next().unwrap_or_default();
        if !first.starts_with("v=") {
            return bad(first, "expected v=0");
        }
        for (n, line) in lines.enumerate() {
            if n >= MAX_LINES {
                return bad(line, format!("more than {MAX_LINES} lines"));
            }
            if line.contains(char::is_control) {
                return bad(line, "control character");
            }
            let Some((key, value)) = line.split_once('=') else {
                return bad(line, "expected <type>=<value>");
            };
            let sections = out.media.len();
            match (key, out.media.last_mut()) {
                ("m", _) if sections >= MAX_SECTIONS => {
                    return bad(line, format!("more than {MAX_SECTIONS} sections"));
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
            if mid.len() > MAX_TOKEN || mid.contains(char::is_whitespace) {
                return bad(mid, "a section's id must be one short word");
            }
            if !mid.is_empty() && !mids.insert(mid) {
                return bad(mid, "two sections with this id");
            }
        }
        Ok(out)
    }

    /// The attribute of the session, or of the first section in use that has it.
    fn attr(&self, key: &str) -> Option<&str> {
        let used = || self.media.iter().filter(|m| !m.rejected());
        find(&self.session, key).or_else(|| used().find_map(|m| m.attr(key)))
    }

    /// # Errors
    /// Says which part is missing or unusable.
    pub fn transport(&self) -> Result<Transport, &'static str> {
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

    /// All a=candidate lines, without the `a=`.
    pub fn candidates(&self) -> impl Iterator<Item = &str> {
        let all = self.session.iter().chain(self.media.iter().flat_map(|m| &m.attrs));
        all.filter(|a| a.starts_with("candidate:")).map(String::as_str)
    }

    /// The data section.
    pub fn app(&self) -> Option<&Section> {
        self.media.iter().find(|m| m.is_app() && !m.rejected())
    }
}

fn is_word(v: &str) -> bool {
    !v.is_empty() && v.len() <= MAX_TOKEN && !v.contains(char::is_whitespace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
        assert!(why(&format!("v=0\r\na={}", "x".repeat(MAX_BYTES))).contains("bytes"));
        assert!(why(&("v=0\r\n".to_owned() + &"a=\n".repeat(MAX_LINES + 1))).contains("lines"));
        let sections = "m=audio 9 X 0\r\n".repeat(MAX_SECTIONS + 1);
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
        assert!(read("").sends() && read("").receives() && read("a=sendonly\n").sends());
        assert!(read("a=recvonly\n").receives() && !read("a=sendonly\n").receives());
        assert!(!read("a=recvonly\n").sends() && !read("a=inactive\n").sends());
        assert_eq!(read("a=msid:PA_x|ST TR_1\n").msid(), Some(("PA_x|ST", "TR_1")));
        assert_eq!(read("a=msid:alone\n").msid(), Some(("alone", "alone")));
        assert_eq!(read("a=msid:- TR_1\n").msid(), None);
        assert_eq!(read("a=msid:\n").msid(), None);
        assert_eq!(read("a=midnight:1\n").mid(), "");
    }

    #[test]
    fn a_section_with_port_zero_neither_sends_nor_receives_unless_it_is_bundled() {
        let read = |text: &str| Sdp::parse(&format!("{HEAD}{text}")).unwrap().media.remove(0);
        let off = read("m=audio 0 X 0\r\na=sendrecv\r\n");
        assert!(off.rejected() && !off.sends() && !off.receives());
        let bundled = read("m=audio 0 X 0\r\na=bundle-only\r\n");
        assert!(!bundled.rejected() && bundled.sends() && bundled.receives());
    }

    #[test]
    fn candidates_are_found_in_the_session_and_in_all_sections() {
        let text = format!("{HEAD}a=candidate:1\r\nm=audio 0 X 0\r\na=candidate:2\r\n");
        let sdp = Sdp::parse(&text).unwrap();
        assert_eq!(sdp.candidates().collect::<Vec<_>>(), ["candidate:1", "candidate:2"]);
    }
}
