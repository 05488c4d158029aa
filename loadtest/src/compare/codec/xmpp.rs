//! XMPP over WebSocket (RFC 7395), for ejabberd: one stanza per message.
//!
//! ```text
//!  Opening ──features──▶ Authenticating ──success──▶ Reopening ──features──▶ Binding ──result──▶ Joining ──▶ Ready
//!  <open/>               <auth> PLAIN                <open/>                 <iq> bind           <presence> per room
//! ```
//!
//! Connection N is user `uN` of [`DOMAIN`], with nickname `cN` in rooms `rROOM` of [`ROOMS_DOMAIN`]. A client has
//! joined a room when the room has sent its subject, which XEP-0045 (7.2.15) puts last. The client sends no initial
//! presence, because the connections have no contacts.
//!
//! A message is a groupchat stanza whose id is its number. XMPP has no acknowledgement of its own. Clients use the
//! room's reflection to the sender as one (XEP-0045, 7.4), and it comes after the archive (MAM) has the message.

use super::{Codec, Frames, Incoming, quote, whole_number};
use crate::setup::account::PASSWORD;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// The server's domain.
pub const DOMAIN: &str = "chat.test";
/// The domain of its rooms.
pub const ROOMS_DOMAIN: &str = "rooms.chat.test";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StreamState {
    Opening,
    Authenticating,
    Reopening,
    Binding,
    Joining,
    Ready,
}

/// One connection.
#[derive(Debug)]
pub struct Xmpp {
    client: u32,
    rooms: Vec<u32>,
    to_join: usize,
    state: StreamState,
}

/// The parts of a stanza that matter here.
#[derive(Default, PartialEq, Eq, Debug)]
struct Stanza {
    name: String,
    kind: String,
    id: String,
    from: String,
    has_subject: bool,
    body: Option<String>,
}

impl Codec for Xmpp {
    const PATH: &'static str = "/ws";
    const SUBPROTOCOL: Option<&'static str> = Some("xmpp");

    fn new(client: u32, rooms: &[u32]) -> Self {
        Self { client, rooms: rooms.to_vec(), to_join: rooms.len(), state: StreamState::Opening }
    }

    fn opened(&mut self, out: &mut impl Frames) {
        out.text(&open());
    }

    fn received(&mut self, message: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) {
        match parse(message) {
            Ok(stanza) => {
                if let Err(reason) = self.stanza(&stanza, out, report) {
                    report(Incoming::Failed(format!("{reason}: {}", quote(message))));
                }
            }
            Err(error) => report(Incoming::Failed(format!("not a stanza ({error}): {}", quote(message)))),
        }
    }

    fn publish(&mut self, room: u32, number: u32, content: &str, out: &mut impl Frames) {
        let content = escape(content);
        out.text(&format!(
            "<message xmlns='jabber:client' type='groupchat' id='{number}' to='r{room}@{ROOMS_DOMAIN}'>\
             <body>{content}</body></message>"
        ));
    }
}

impl Xmpp {
    fn stanza(
        &mut self,
        stanza: &Stanza,
        out: &mut impl Frames,
        report: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), &'static str> {
        match (stanza.name.as_str(), self.state) {
            ("open", StreamState::Opening | StreamState::Reopening) => {}
            ("features", StreamState::Opening) => {
                let credentials = STANDARD.encode(format!("\0u{}\0{PASSWORD}", self.client));
                out.text(&format!(
                    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{credentials}</auth>"
                ));
                self.state = StreamState::Authenticating;
            }
            ("success", StreamState::Authenticating) => {
                out.text(&open());
                self.state = StreamState::Reopening;
            }
            ("features", StreamState::Reopening) => {
                out.text(
                    "<iq xmlns='jabber:client' type='set' id='bind'>\
                     <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>loadtest</resource></bind></iq>",
                );
                self.state = StreamState::Binding;
            }
            ("iq", StreamState::Binding) if stanza.kind == "result" => {
                self.state = StreamState::Joining;
                for room in &self.rooms {
                    out.text(&format!(
                        "<presence xmlns='jabber:client' to='r{room}@{ROOMS_DOMAIN}/c{}'>\
                         <x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
                        self.client
                    ));
                }
                self.joined(0, report);
            }
            ("presence", StreamState::Joining | StreamState::Ready) if stanza.kind != "error" => {}
            ("message", StreamState::Joining) if stanza.has_subject && stanza.body.is_none() => self.joined(1, report),
            ("message", StreamState::Joining | StreamState::Ready) => return self.message(stanza, report),
            ("failure", _) => return Err("the server refused to log the user in"),
            ("close", _) => return Err("the server closed the stream"),
            ("error", _) => return Err("the server reported a stream error"),
            _ => return Err("unexpected"),
        }
        Ok(())
    }

    fn joined(&mut self, count: usize, report: &mut impl FnMut(Incoming<'_>)) {
        self.to_join = self.to_join.saturating_sub(count);
        if self.to_join == 0 {
            self.state = StreamState::Ready;
            report(Incoming::Ready);
        }
    }

    fn message(&self, stanza: &Stanza, report: &mut impl FnMut(Incoming<'_>)) -> Result<(), &'static str> {
        let published = || whole_number(stanza.id.as_bytes()).ok_or("a message with an id that is no number");
        match (stanza.kind.as_str(), &stanza.body) {
            ("error", _) => report(Incoming::Refused(published()?, "error".to_owned())),
            ("groupchat", Some(body)) => {
                let (room, nickname) = occupant(&stanza.from).ok_or("a message from no room")?;
                if nickname == self.client {
                    report(Incoming::Acked(published()?));
                }
                report(Incoming::Delivered { room, content: body.as_bytes() });
            }
            ("groupchat", None) => {}
            _ => return Err("an unexpected kind of message"),
        }
        Ok(())
    }
}

fn open() -> String {
    format!("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{DOMAIN}' version='1.0'/>")
}

/// Room and connection of `r7@rooms.chat.test/c5`.
fn occupant(from: &str) -> Option<(u32, u32)> {
    let (room, nickname) = from.split_once('/')?;
    let room = room.strip_prefix('r')?.strip_suffix(ROOMS_DOMAIN)?.strip_suffix('@')?;
    Some((room.parse().ok()?, nickname.strip_prefix('c')?.parse().ok()?))
}

fn parse(message: &[u8]) -> Result<Stanza, String> {
    let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    let mut stanza = Stanza::default();
    let (mut depth, mut in_body) = (0, false);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(element) => {
                in_body = stanza.enter(depth, &element)?;
                depth += 1;
            }
            Event::Empty(element) => {
                stanza.enter(depth, &element)?;
            }
            Event::End(_) => {
                depth -= 1;
                in_body = false;
            }
            Event::Text(text) if in_body => {
                stanza.body.get_or_insert_default().push_str(&text);
            }
            Event::GeneralRef(reference) if in_body => {
                let body = stanza.body.get_or_insert_default();
                match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(character) => body.push(character),
                    None => body.push_str(
                        resolve_predefined_entity(&reference)
                            .ok_or_else(|| format!("an unknown entity {}", &*reference))?,
                    ),
                }
            }
            Event::Eof if stanza.name.is_empty() || depth > 0 => return Err("it ends early".to_owned()),
            Event::Eof => return Ok(stanza),
            _ => {}
        }
    }
}

impl Stanza {
    /// An element begins; true when it is the stanza's body.
    fn enter(&mut self, depth: usize, element: &BytesStart<'_>) -> Result<bool, String> {
        let name = element.local_name();
        if depth > 0 {
            self.has_subject |= depth == 1 && name.as_ref() == "subject";
            let is_body = depth == 1 && name.as_ref() == "body";
            if is_body {
                self.body = Some(String::new());
            }
            return Ok(is_body);
        }
        name.as_ref().clone_into(&mut self.name);
        for (key, value) in [("type", &mut self.kind), ("id", &mut self.id), ("from", &mut self.from)] {
            let attribute = element.try_get_attribute(key).map_err(|error| error.to_string())?;
            if let Some(attribute) = attribute {
                *value = attribute
                    .normalized_value(XmlVersion::Implicit1_0)
                    .map_err(|error| error.to_string())?
                    .into_owned();
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Written, receive};
    use super::*;

    fn said(xmpp: &mut Xmpp, out: &mut Written, message: &str) -> Vec<String> {
        receive(xmpp, out, message.as_bytes())
    }

    fn ready(client: u32) -> Xmpp {
        Xmpp { state: StreamState::Ready, ..Xmpp::new(client, &[7]) }
    }

    #[test]
    fn logs_in_binds_joins_and_is_ready_after_the_last_subject() {
        let (mut xmpp, mut out) = (Xmpp::new(5, &[0, 7]), Written::default());
        xmpp.opened(&mut out);
        assert!(out.take()[0].starts_with("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='chat.test'"));
        assert_eq!(said(&mut xmpp, &mut out, "<open id='1' from='chat.test'/>"), [""; 0]);
        said(&mut xmpp, &mut out, "<stream:features xmlns:stream='s'><mechanisms/></stream:features>");
        // printf '\0u5\0load-Test_7-harbour-evening' | base64
        let auth = out.take();
        assert!(auth[0].contains("mechanism='PLAIN'>AHU1AGxvYWQtVGVzdF83LWhhcmJvdXItZXZlbmluZw==<"), "{auth:?}");
        said(&mut xmpp, &mut out, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        said(&mut xmpp, &mut out, "<open/>");
        said(&mut xmpp, &mut out, "<stream:features/>");
        assert!(out.take()[1].contains("<resource>"));
        assert_eq!(said(&mut xmpp, &mut out, "<iq type='result' id='bind'><bind/></iq>"), [""; 0]);
        let joins = out.take();
        assert!(joins.len() == 2 && joins[1].contains("to='r7@rooms.chat.test/c5'"), "{joins:?}");
        said(&mut xmpp, &mut out, "<presence from='r0@rooms.chat.test/c5'><x><status code='110'/></x></presence>");
        let subject = "<message from='r0@rooms.chat.test' type='groupchat'><subject/></message>";
        assert_eq!(said(&mut xmpp, &mut out, subject), [""; 0]);
        assert_eq!(said(&mut xmpp, &mut out, &subject.replace("r0", "r7")), ["ready"]);
    }

    #[test]
    fn takes_a_reflection_as_acknowledgement_and_delivery() {
        let (mut xmpp, mut out) = (ready(5), Written::default());
        xmpp.publish(7, 3, "a<b & c", &mut out);
        assert_eq!(
            out.take(),
            ["<message xmlns='jabber:client' type='groupchat' id='3' to='r7@rooms.chat.test'>\
              <body>a&lt;b &amp; c</body></message>"]
        );
        let reflection = "<message xml:lang='en' to='u5@chat.test/x' from='r7@rooms.chat.test/c5' \
                          type='groupchat' id='3'>\
            <archived by='r7@rooms.chat.test' id='16'/><stanza-id id='16'/><body>a&lt;b &amp; c&#33;</body></message>";
        assert_eq!(said(&mut xmpp, &mut out, reflection), ["acked 3", "delivered in 7: a<b & c!"]);
        let others = reflection.replace("/c5'", "/c6'");
        assert_eq!(said(&mut xmpp, &mut out, &others), ["delivered in 7: a<b & c!"]);
    }

    #[test]
    fn ignores_a_body_in_a_nested_element() {
        let forwarded = "<message from='r7@rooms.chat.test/c6' type='groupchat' id='1'>\
            <x><body>inner</body></x><body>outer</body></message>";
        assert_eq!(said(&mut ready(5), &mut Written::default(), forwarded), ["delivered in 7: outer"]);
    }

    #[test]
    fn reports_refusals_and_garbage() {
        let refusal = "<message type='error' id='3' from='r7@rooms.chat.test'><error type='wait'/></message>";
        assert_eq!(said(&mut ready(5), &mut Written::default(), refusal), ["refused 3: error"]);
        for message in [
            "<failure/>",
            "<close/>",
            "<presence type='error' from='r7@rooms.chat.test/c5'/>",
            "<message type='groupchat' from='x' id='1'><body>b</body></message>",
            "<message>",
            "text",
            "",
            "<a></b>",
        ] {
            let reports = said(&mut ready(5), &mut Written::default(), message);
            assert!(reports.len() == 1 && reports[0].starts_with("failed"), "{message}: {reports:?}");
        }
    }
}
