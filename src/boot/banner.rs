//! The text that `make run` prints when the server is ready.
//!
//! The commands can be pasted any number of times: Ada registers the first time, and signs in after that.

use std::net::SocketAddr;

/// The address, and the first steps to try.
pub(super) fn text(address: SocketAddr, internal: Option<SocketAddr>) -> String {
    format!(
        concat!(
            "\nVeza Chat Server is ready: http://{address}   (WebSocket: ws://{address}/ws)\n\n",
            "Open http://{address} in a browser to chat. Or sign in, make a room and say hello from here:\n\n",
            "  ada() {{ curl -sf http://{address}/auth/$1 ",
            r#"-d '{{"login":"ada","username":"ada","email":"ada@example.org","#,
            r#""password":"correct horse battery"}}'; }}"#,
            "\n",
            r#"  TOKEN=$( (ada register || ada login) | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#,
            "\n",
            r#"  ROOM=$(curl -s http://{address}/api/commands -H "authorization: Bearer $TOKEN" "#,
            r#"-d '{{"type":"create_conversation","data":{{"kind":"public_room","name":"lobby"}}}}' "#,
            r#"| sed 's/.*"id":"\(room_[0-9]*\)".*/\1/')"#,
            "\n",
            r#"  curl -s http://{address}/api/commands -H "authorization: Bearer $TOKEN" "#,
            r#"-d '{{"type":"send_message","data":{{"conversation_id":"'$ROOM'","content":"hello"}}}}'"#,
            "\n\nWatch it work: http://{dashboard}/dashboard   Ctrl-C stops it."
        ),
        address = address,
        dashboard = internal.unwrap_or(address)
    )
}
