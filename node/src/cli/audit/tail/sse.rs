//! Server-sent events as bytes arrive (WHATWG HTML, section 9.2): lines, however they end and wherever they are cut, into events.
//!
//! An event without data is given too where it has an id, since it moves the reader's place. Knows nothing of entries.

use crate::output::{Exit, stop};

/// Bytes of one event that are gathered; the largest entry is far below.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its name; empty where it has none.
    pub event: String,
    /// Its id.
    pub id: Option<String>,
    /// Its data, lines joined.
    pub data: String,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    message: Message,
    has_data: bool,
    /// The last byte was a carriage return: a line feed right after belongs to it.
    after_return: bool,
}

impl Parser {
    /// Takes bytes as they came, and gives the events that end in them.
    ///
    /// # Errors
    /// An event of more than 16 MiB.
    pub fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Message>> {
        let mut messages = Vec::new();
        for byte in bytes {
            let is_rest = std::mem::replace(&mut self.after_return, *byte == b'\r') && *byte == b'\n';
            match byte {
                b'\n' if is_rest => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.message.data.len() > EVENT_BYTES_MAX {
                return Err(stop(Exit::Failed, "the node sent an event of more than 16 MiB"));
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.has_data = false;
            let message = std::mem::take(&mut self.message);
            return (message != Message::default()).then_some(message);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.message.event = value.to_owned(),
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // Comments have an empty field.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, id: Option<&str>, data: &str) -> Message {
        Message { event: event.into(), id: id.map(str::to_owned), data: data.into() }
    }

    #[test]
    fn events_are_read_however_their_lines_end_and_wherever_they_are_cut() {
        let lines = [
            ": hello",
            "",
            ": alive",
            "id: c1",
            "",
            "id:c2",
            "event: entry",
            "data: {\"a\": 1}",
            "data",
            "",
            "data: cut",
        ];
        let expected = [message("", Some("c1"), ""), message("entry", Some("c2"), "{\"a\": 1}\n")];
        for end in ["\n", "\r\n", "\r"] {
            let text = lines.join(end);
            for size in 1..text.len() {
                let mut parser = Parser::default();
                let feed = |chunk| parser.feed(chunk).expect("small");
                let found: Vec<Message> = text.as_bytes().chunks(size).flat_map(feed).collect();
                assert_eq!(found, expected, "{end:?} by {size}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1024 * 1024];
        assert!((0..17).any(|_| parser.feed(&chunk).is_err()));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let letters = b"\r\n:id\xff\0 data";
        for seed in 0..2_000u32 {
            let bytes = seed.wrapping_mul(2_654_435_761).to_le_bytes();
            let bytes = bytes.map(|byte| letters[usize::from(byte) % letters.len()]);
            let _ = Parser::default().feed(&bytes.repeat(3));
        }
    }
}
