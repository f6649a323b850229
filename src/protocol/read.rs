//! Readers over HTTP: what `GET /api/sync/changes` asks for, and how a stream of events is written.

use serde::{Deserialize, Serialize};

use super::client::SubscribeMessage;
use super::error::Problem;
use crate::limits;
use crate::names::Channel;

/// How long a reader stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stay {
    /// It takes a page and goes.
    No,
    /// A page that says nothing new waits until there is more to say, at most so many seconds.
    UntilNews(u64),
    /// It streams until somebody ends it.
    Always,
}

/// What a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The channel.
    pub channel: Channel,
    /// Where the reader's copy ends.
    pub cursor: Option<String>,
    /// The view that came with the cursor.
    pub view: Option<String>,
    /// Rows and deleted keys on a page.
    pub limit: usize,
    /// Whether to say who changed the rows, and when.
    pub meta: bool,
    /// A token of the channel, made by the app's backend.
    pub token: Option<String>,
    /// How long it stays.
    pub stay: Stay,
}

impl ReadRequest {
    /// Reads a query. A stream that goes on names its last event: its id is cursor and view, and
    /// counts for more than those that the query began with.
    ///
    /// # Errors
    /// `malformed` or `invalid`, with the parameter that is wrong.
    pub fn from_query(
        query: impl Fn(&str) -> Option<String>,
        streams: bool,
        last_event_id: Option<&str>,
    ) -> Result<Self, Problem> {
        let invalid = |what: String| Problem::invalid("channel", what);
        let channel = query("channel").ok_or_else(|| invalid("is missing".to_owned()))?;
        let channel = Channel::parse(&channel).map_err(|error| invalid(error.to_string()))?;
        let (cursor, view) = match last_event_id.filter(|id| streams && !id.is_empty()) {
            Some(id) => {
                let parts = id.split_once(';');
                let (cursor, view) =
                    parts.ok_or_else(|| Problem::malformed("Last-Event-ID is none of ours"))?;
                (Some(cursor.to_owned()), Some(view.to_owned()))
            }
            None => (query("cursor"), query("view")),
        };
        let limit = number(&query, "limit", 1, limits::PAGE_MAX as u64)?;
        let wait = number(&query, "wait", 0, limits::WAIT_SECONDS)?.unwrap_or(0);
        let meta = match query("meta").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Problem::malformed("meta must be true or false")),
        };
        Ok(Self {
            channel,
            cursor: cursor.filter(|cursor| !cursor.is_empty()),
            view,
            limit: limit.map_or(limits::PAGE_DEFAULT, |limit| limit as usize),
            meta,
            token: query("channelToken"),
            stay: match (streams, wait) {
                (true, _) => Stay::Always,
                (false, 0) => Stay::No,
                (false, seconds) => Stay::UntilNews(seconds),
            },
        })
    }

    /// The request as text, for its way to the object.
    ///
    /// # Errors
    /// Only if the encoder fails, which it does not for these types.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads what [`Self::to_json`] has written.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The same as a subscription.
    pub(crate) fn message(&self) -> SubscribeMessage<'_> {
        SubscribeMessage {
            id: None,
            channel: self.channel.clone(),
            cursor: self.cursor.as_deref().map(Into::into),
            view: self.view.as_deref().map(Into::into),
            limit: self.limit,
            meta: self.meta,
            since: None,
            token: self.token.as_deref().map(Into::into),
            raw: "",
        }
    }
}

/// A whole number of the query within bounds.
fn number(
    query: impl Fn(&str) -> Option<String>,
    name: &'static str,
    least: u64,
    most: u64,
) -> Result<Option<u64>, Problem> {
    let Some(text) = query(name) else {
        return Ok(None);
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    match number.filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::malformed(format!(
            "{name} must be {least} to {most}"
        ))),
    }
}

/// The lines of a server-sent event whose data is a message. White space in a row may break lines;
/// readers join them again.
#[must_use]
pub fn event_lines(message: &str) -> String {
    let mut lines = String::with_capacity(message.len() + 16);
    if message.is_empty() {
        return lines;
    }
    for line in message.split(['\r', '\n']) {
        lines.push_str("data: ");
        lines.push_str(line);
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    fn read(query: &[(&str, &str)]) -> Result<ReadRequest, Problem> {
        read_stream(query, false, None)
    }

    fn read_stream(
        query: &[(&str, &str)],
        streams: bool,
        last: Option<&str>,
    ) -> Result<ReadRequest, Problem> {
        let get = |name: &str| {
            let found = query.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        ReadRequest::from_query(get, streams, last)
    }

    const TODOS: (&str, &str) = ("channel", "todos");

    #[test]
    fn a_query_needs_nothing_but_its_channel() {
        let request = read(&[TODOS, ("more", "1")]).unwrap();
        assert_eq!(request.limit, limits::PAGE_DEFAULT);
        assert_eq!((request.stay, request.meta), (Stay::No, false));
        assert_eq!(
            (request.cursor, request.view, request.token),
            (None, None, None)
        );
        for query in [&[][..], &[("channel", "")]] {
            let problem = read(query).unwrap_err();
            assert_eq!(problem.code, Code::Invalid);
            assert_eq!(problem.field.as_deref(), Some("channel"));
        }
    }

    #[test]
    fn numbers_hold_at_their_bounds_and_not_past_them() {
        let limit = |text: &str| read(&[TODOS, ("limit", text)]).map(|request| request.limit);
        assert_eq!((limit("1"), limit("1000")), (Ok(1), Ok(limits::PAGE_MAX)));
        let wait = |text: &str| read(&[TODOS, ("wait", text)]).map(|request| request.stay);
        assert_eq!(wait("0"), Ok(Stay::No));
        assert_eq!(wait("25"), Ok(Stay::UntilNews(limits::WAIT_SECONDS)));
        for bad in ["0", "1001", "", "-1", "+1", "1.5", "1e2", "ten"] {
            assert_eq!(limit(bad).unwrap_err().code, Code::Malformed, "{bad}");
        }
        for bad in ["26", "", "-1", "2.5", "99999999999999999999"] {
            assert_eq!(wait(bad).unwrap_err().code, Code::Malformed, "{bad}");
        }
        let meta = |text: &str| read(&[TODOS, ("meta", text)]).map(|request| request.meta);
        assert_eq!((meta("true"), meta("false")), (Ok(true), Ok(false)));
        assert_eq!(meta("1").unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn the_id_of_a_streams_last_event_goes_before_its_query() {
        let query = [TODOS, ("cursor", "e.1"), ("view", "v"), ("wait", "5")];
        let place = |streams, last| {
            let request = read_stream(&query, streams, last).unwrap();
            let texts = [request.cursor, request.view].map(Option::unwrap_or_default);
            (texts.join(" "), request.stay)
        };
        assert_eq!(
            place(true, Some("e.7;w")),
            ("e.7 w".to_owned(), Stay::Always)
        );
        assert_eq!(place(true, Some("")), ("e.1 v".to_owned(), Stay::Always));
        let waits = ("e.1 v".to_owned(), Stay::UntilNews(5));
        assert_eq!(place(false, Some("e.7;w")), waits, "no stream");
        let foreign = read_stream(&query, true, Some("17")).unwrap_err();
        assert_eq!(foreign.code, Code::Malformed);
    }

    #[test]
    fn a_request_crosses_to_the_object_unchanged() {
        let query = [
            ("channel", "ünï \"q\""),
            ("cursor", "e.1"),
            ("view", "\u{0}"),
            ("channelToken", "t"),
            ("meta", "true"),
            ("wait", "3"),
        ];
        let request = read(&query).unwrap();
        let json = request.to_json().unwrap();
        assert_eq!(ReadRequest::from_json(&json), Some(request));
        assert_eq!(ReadRequest::from_json("{}"), None);
    }

    #[test]
    fn an_event_has_a_line_for_each_line_of_its_data() {
        assert_eq!(event_lines("{\"a\":1}"), "data: {\"a\":1}\n");
        assert_eq!(
            event_lines("[1,\n2,\r\n3]"),
            "data: [1,\ndata: 2,\ndata: \ndata: 3]\n"
        );
        assert_eq!(event_lines(""), "");
    }
}
