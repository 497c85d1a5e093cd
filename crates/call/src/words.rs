//! How words are counted: as LiveKit's agents count them (docs/contract.md §4.5).
//!
//! White space separates words. Each Chinese, Japanese or Thai character is a word of its own. A
//! word of punctuation only does not count.

/// The number of words in `text`.
pub fn count(text: &str) -> u32 {
    let mut words = 0u32;
    // Whether the word being read has anything in it but punctuation.
    let mut in_word = false;
    for c in text.chars() {
        if stands_alone(c) {
            words = words.saturating_add(1 + u32::from(in_word));
            in_word = false;
        } else if c.is_whitespace() {
            words = words.saturating_add(u32::from(in_word));
            in_word = false;
        } else if !is_punctuation(c) {
            in_word = true;
        }
    }
    words.saturating_add(u32::from(in_word))
}

/// Scripts that are written without spaces.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{3134f}' // Han
        | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' // Kana
        | '\u{0e00}'..='\u{0e7f}' // Thai
    )
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(c,
        '\u{00a1}' | '\u{00a7}' | '\u{00ab}' | '\u{00b6}' | '\u{00b7}' | '\u{00bb}' | '\u{00bf}'
        | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}'
        | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}'
        | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}'
        | '\u{ff5b}'..='\u{ff65}'
    )
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn words_are_counted_as_livekit_counts_them() {
        for (text, words) in [
            ("", 0),
            ("   \n\t", 0),
            ("hello", 1),
            ("hello I want a table", 5),
            ("goodbye ", 1),
            ("well - you know …", 3),
            ("it's twenty-two, right?", 3),
            ("... !!! ?", 0),
            ("+1 555 123", 3),
            ("你好世界", 4),
            ("你好, world", 3),
            ("こんにちは。", 5),
            ("สวัสดี", 6),
            ("안녕 하세요", 2),
        ] {
            assert_eq!(count(text), words, "{text:?}");
        }
    }
}
