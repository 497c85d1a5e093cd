//! Reading a journal, up to the first line that is not intact.

use call::Event;

use super::{CRC, Header, VERSION, checked};

/// A journal as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    pub header: Header,
    pub events: Vec<Event>,
    /// Bytes of intact lines; recovery cuts the file off after them.
    pub whole: usize,
    /// What is wrong with the line after them, if there is one.
    pub torn: Option<String>,
}

/// Reads a journal up to the first line that is not intact.
///
/// # Errors
/// If the header cannot be read: then it is not known whose journal it is.
pub fn read(bytes: &[u8]) -> Result<Journal, String> {
    let mut lines = Lines { bytes, at: 0, number: 0, checksums: None };
    let first = lines.next().ok_or("the file is empty")?;
    let header = first.and_then(|l| {
        serde_json::from_str::<Header>(&l).map_err(|e| format!("the first line is no header: {e}"))
    })?;
    if header.journal == 0 || header.journal > VERSION {
        return Err(format!(
            "the journal is of version {}, and this program knows up to {VERSION}",
            header.journal
        ));
    }
    let mut journal = Journal { header, events: vec![], whole: lines.at, torn: None };
    while let Some(line) = lines.next() {
        let event = line.and_then(|l| serde_json::from_str::<Event>(&l).map_err(|e| e.to_string()));
        match event {
            Ok(event) => journal.events.push(event),
            Err(e) => {
                journal.torn = Some(format!("line {}: {e}", lines.number));
                break;
            }
        }
        journal.whole = lines.at;
    }
    Ok(journal)
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    number: usize,
    /// Whether the lines have checksums: the first line decides.
    checksums: Option<bool>,
}

impl Lines<'_> {
    /// The next line, with its checksum verified. Skips blank lines, and comments (`//`) in journals
    /// written by hand.
    fn next(&mut self) -> Option<Result<String, String>> {
        loop {
            let rest = &self.bytes[self.at..];
            if rest.is_empty() {
                return None;
            }
            let end = rest.iter().position(|b| *b == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            self.at += end.map_or(rest.len(), |e| e + 1);
            self.number += 1;
            // The next event would be appended to this unfinished line.
            if end.is_none() && self.checksums == Some(true) {
                return Some(Err("it does not end".into()));
            }
            let Ok(line) = std::str::from_utf8(line) else {
                return Some(Err("not UTF-8".into()));
            };
            let line = line.trim();
            if !line.is_empty() && !line.starts_with("//") {
                let has = line.starts_with(CRC);
                if *self.checksums.get_or_insert(has) && !has {
                    return Some(Err("there is no checksum".into()));
                }
                return Some(checked(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line;
    use super::*;
    use call::{Fact, Moment, RoomFacts, Settings};

    fn header() -> Header {
        Header {
            journal: VERSION,
            call_id: "id".into(),
            room: RoomFacts { sid: "RM_1".into(), name: "room".into() },
            ordinal: 2,
            settings: Settings { end_grace_ms: 7, ..Settings::default() },
        }
    }

    fn event(ms: i64) -> Event {
        let text = "a \"b\"\n{\u{1f600}".into();
        let fact = Fact::Chat { identity: "caller".into(), text, words: None };
        Event { at: Moment::from_millis(ms), fact }
    }

    fn three() -> Vec<u8> {
        let mut bytes = line(&header());
        (1..=3).for_each(|n| bytes.extend(line(&event(n))));
        bytes
    }

    #[test]
    fn a_journal_that_was_written_is_read() {
        let j = read(&three()).unwrap();
        assert_eq!((j.header, j.events), (header(), vec![event(1), event(2), event(3)]));
        assert_eq!((j.whole, j.torn), (three().len(), None));
    }

    #[test]
    fn wherever_a_journal_is_torn_the_lines_before_are_kept() {
        let bytes = three();
        let ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in ends[0]..bytes.len() {
            let j = read(&bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            assert_eq!(j.events.len(), whole, "cut at {cut}");
            assert_eq!(j.torn.is_some(), !ends.contains(&cut));
        }
        for cut in 0..ends[0] - 1 {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_byte_ends_the_journal_there() {
        let bytes = three();
        let second = line(&header()).len() + line(&event(1)).len();
        for at in second..second + line(&event(2)).len() - 1 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x15;
            let j = read(&bad).unwrap();
            // If the byte becomes a line feed, one line becomes two, and both are bad.
            assert_eq!(j.events, [event(1)], "byte {at}");
            assert_eq!(j.whole, second);
        }
    }

    #[test]
    fn journals_written_by_hand_need_no_checksums() {
        let text = "// a comment\n\
            {\"journal\":1,\"call_id\":\"x\",\"room\":{\"sid\":\"RM\",\"name\":\"r\"},\"ordinal\":0}\n\n\
            {\"at\":5,\"what\":\"blind\"}\n";
        let j = read(text.as_bytes()).unwrap();
        assert_eq!(j.header.settings, Settings::default());
        assert_eq!(j.events, [Event { at: Moment::from_millis(5), fact: Fact::Blind }]);
    }

    #[test]
    fn a_newer_version_is_refused() {
        let text = line(&Header { journal: VERSION + 1, ..header() });
        assert!(read(&text).unwrap_err().contains("version 2"));
        assert!(read(b"").is_err() && read(b"{}").is_err() && read(b"\xff\n").is_err());
    }
}
