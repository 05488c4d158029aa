//! Permissions: the server behaves as every cell of the table in docs/permissions.md documents.
//!
//! How: each row gets a room with one user of each role, a user who is not a member and a banned user. Each of them
//! runs the command of the row, and the answer must equal the cell. After a success, the next user gets a new room.

use crate::support::{Client, Format, Server, User, code, id_of, server, shards, text, unique, wait_until};
use serde_json::{Value, json};

const ROLES: [&str; 7] = ["owner", "admin", "moderator", "member", "read_only", "outsider", "banned"];

/// A room with one user of each role.
struct Setup {
    room: String,
    /// In the order of [`ROLES`].
    actors: Vec<User>,
    member: User,
    admin: User,
    /// A user without any room.
    stranger: User,
    /// Messages of the member, of the admin and of the server, and one of each actor.
    of_member: i64,
    of_admin: i64,
    of_server: i64,
    own: Vec<i64>,
}

impl Setup {
    /// Creates a new room for the same users.
    async fn new(server: &Server, users: &[User]) -> Self {
        let (actors, rest) = users.split_at(ROLES.len());
        let owner = &actors[0];
        let members: Vec<i64> = actors[1..5].iter().chain(&rest[..2]).chain(&actors[6..7]).map(|u| u.id).collect();
        let data = json!({"kind": "public_room", "name": unique("room"), "member_ids": members});
        let room = id_of(&server.ok(owner, "create_conversation", data).await);
        let send_message = async |user: &User| {
            let message = json!({"conversation_id": room, "content": "text"});
            server.ok(user, "send_message", message).await["message_id"].as_i64().unwrap()
        };
        let mut own = Vec::new();
        for (actor, role) in actors.iter().zip(ROLES) {
            own.push(if role == "outsider" { 0 } else { send_message(actor).await });
        }
        let (of_member, of_admin) = (send_message(&rest[0]).await, send_message(&rest[1]).await);
        own[5] = of_member; // a user who is not a member has no message
        for (user, role) in
            [(&actors[1], "admin"), (&actors[2], "moderator"), (&actors[4], "read_only"), (&rest[1], "admin")]
        {
            let data = json!({"conversation_id": room, "user_id": user.id, "role": role});
            server.ok(owner, "set_role", data).await;
        }
        server.ok(owner, "ban_member", json!({"conversation_id": room, "user_id": actors[6].id})).await;
        let page = server.ok(owner, "get_history", json!({"conversation_id": room, "limit": 1})).await;
        let banned = &page["messages"][0];
        assert_eq!(banned["message_type"], "system", "{banned}");
        let of_server = banned["message_id"].as_i64().unwrap();
        let (member, admin, stranger) = (rest[0].clone(), rest[1].clone(), rest[2].clone());
        Self { room, actors: actors.to_vec(), member, admin, stranger, of_member, of_admin, of_server, own }
    }

    /// The command of a row for actor number `n`.
    fn command(&self, row: &str, n: usize) -> (&'static str, Value) {
        let room = json!({"conversation_id": self.room});
        let with = |more: Value| {
            let mut data = room.clone();
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            data
        };
        let user = |user: &User| with(json!({"user_id": user.id}));
        let role = |user: &User, role: &str| with(json!({"user_id": user.id, "role": role}));
        let message = |id: i64| with(json!({"message_id": id}));
        match row {
            "send a message" => ("send_message", with(json!({"content": "more text"}))),
            "edit your own message" => {
                ("edit_message", with(json!({"message_id": self.own[n], "content": "new text"})))
            }
            "edit another user's message" => {
                ("edit_message", with(json!({"message_id": self.of_member, "content": "other text"})))
            }
            "delete your own message" => ("delete_message", message(self.own[n])),
            "delete a member's message" => ("delete_message", message(self.of_member)),
            "delete an admin's message" => ("delete_message", message(self.of_admin)),
            "delete a system message" => ("delete_message", message(self.of_server)),
            "edit a system message" => {
                ("edit_message", with(json!({"message_id": self.of_server, "content": "new text"})))
            }
            "pin a message" => ("pin_message", with(json!({"message_id": self.of_member, "pinned": true}))),
            "react" => ("add_reaction", with(json!({"message_id": self.of_member, "emoji": "👍"}))),
            "follow a thread" => ("follow_thread", with(json!({"message_id": self.of_member, "following": true}))),
            "read the history" => ("get_history", room),
            "list the members" => ("list_members", room),
            "list the pins" => ("list_pins", room),
            "mark as read" => ("mark_read", with(json!({"seq": 3}))),
            "invite a user" => ("invite_member", user(&self.stranger)),
            "remove a member" => ("remove_member", user(&self.member)),
            "remove an admin" => ("remove_member", user(&self.admin)),
            "mute a member" => ("mute_member", with(json!({"user_id": self.member.id, "duration_s": 60}))),
            "ban a member" => ("ban_member", user(&self.member)),
            "ban an admin" => ("ban_member", user(&self.admin)),
            "lift a ban" => ("unban_member", user(&self.stranger)),
            "list the bans" => ("list_bans", room),
            "make a member a moderator" => ("set_role", role(&self.member, "moderator")),
            "make a member an admin" => ("set_role", role(&self.member, "admin")),
            "make an admin a member" => ("set_role", role(&self.admin, "member")),
            "transfer the ownership" => ("transfer_ownership", user(&self.member)),
            "rename the room" => ("update_conversation", with(json!({"name": unique("renamed")}))),
            "archive the room" => ("archive_conversation", room),
            "make an invitation link" => ("create_invite", room),
            "list the invitation links" => ("list_invites", room),
            "list the requests to join" => ("list_join_requests", room),
            "decide on a request to join" => {
                ("decide_join_request", with(json!({"user_id": self.stranger.id, "accepted": false})))
            }
            "leave" => ("leave_conversation", room),
            "join the public room" => ("join_conversation", room),
            other => panic!("this test does not know the row {other} of docs/permissions.md"),
        }
    }
}

#[tokio::test]
async fn behaves_as_every_cell_of_the_permission_table() {
    let server = server().await;
    let document = include_str!("../../docs/permissions.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what |"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 25 && rows.iter().all(|row| row.len() == ROLES.len() + 1), "{rows:?}");
    let users = server.register_many(ROLES.len() + 3).await;
    for row in rows {
        let mut setup = Setup::new(server, &users).await;
        for (n, role) in ROLES.into_iter().enumerate() {
            let (kind, data) = setup.command(row[0], n);
            let answer = match server.call(&setup.actors[n], kind, data).await {
                Ok(_) => "yes".to_owned(),
                Err(problem) => code(&problem),
            };
            assert_eq!(answer, row[n + 1], "{} as {role} ({kind})", row[0]);
            if answer == "yes" {
                setup = Setup::new(server, &users).await;
            }
        }
    }
}

#[tokio::test]
async fn refuses_role_commands_in_direct_conversations_and_sends_after_a_block() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let data = json!({"kind": "direct", "member_ids": [bob.id]});
    let direct = id_of(&server.ok(&ann, "create_conversation", data).await);
    let place = json!({"conversation_id": direct});
    let data_for = |user: &User| json!({"conversation_id": direct, "user_id": user.id});
    for (kind, data) in [
        ("invite_member", data_for(&eve)),
        ("remove_member", data_for(&bob)),
        ("mute_member", data_for(&bob)),
        ("ban_member", data_for(&bob)),
        ("leave_conversation", place.clone()),
        ("archive_conversation", place.clone()),
    ] {
        assert_eq!(code(&server.call(&ann, kind, data).await.unwrap_err()), "forbidden", "{kind}");
    }
    let message = json!({"conversation_id": direct, "content": "hello"});
    let sent = server.ok(&ann, "send_message", message.clone()).await;
    server.ok(&bob, "pin_message", json!({"message_id": sent["message_id"], "pinned": true})).await;
    let like = json!({"message_id": sent["message_id"], "emoji": "👍"});
    for (blocker, other) in [(&ann, &bob), (&bob, &ann)] {
        server.ok(blocker, "block_user", json!({"user_id": other.id})).await;
        for sender in [&ann, &bob] {
            assert_eq!(code(&server.call(sender, "send_message", message.clone()).await.unwrap_err()), "blocked");
            assert_eq!(code(&server.call(sender, "add_reaction", like.clone()).await.unwrap_err()), "blocked");
            let group = json!({"kind": "group", "member_ids": [ann.id, bob.id]});
            assert_eq!(code(&server.call(sender, "create_conversation", group).await.unwrap_err()), "blocked");
        }
        let listed = server.ok(blocker, "list_blocks", json!({})).await;
        assert_eq!(listed["users"][0]["id"], other.id);
        server.ok(blocker, "unblock_user", json!({"user_id": other.id})).await;
        server.ok(other, "send_message", message.clone()).await;
    }
    assert_eq!(code(&server.call(&ann, "block_user", json!({"user_id": ann.id})).await.unwrap_err()), "bad_request");
}

#[tokio::test]
async fn sends_no_typing_and_no_read_marker_after_a_block() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let data = json!({"kind": "direct", "member_ids": [bob.id]});
    let direct = id_of(&server.ok(&ann, "create_conversation", data).await);
    let place = json!({"conversation_id": direct});
    let sent = server.ok(&bob, "send_message", json!({"conversation_id": direct, "content": "hello"})).await;
    let mark = json!({"conversation_id": direct, "seq": sent["seq"]});
    let mut of_ann = Client::all(server, &ann, Format::Json).await;
    let mut of_bob = Client::all(server, &bob, Format::MessagePack).await;
    of_ann.send("typing", place.clone()).await;
    assert_eq!(of_bob.event("typing").await["user_id"], json!(ann.id));
    let read_seqs = async |user: &User| {
        let page = server.ok(user, "list_members", place.clone()).await;
        let members = page["members"].as_array().unwrap();
        members.iter().map(|m| (m["id"].clone(), m["read_seq"].clone())).collect::<Vec<_>>()
    };
    assert!(read_seqs(&bob).await.iter().all(|(_, seq)| seq.is_number()));

    server.ok(&ann, "block_user", json!({"user_id": bob.id})).await;
    for user in [&ann, &bob] {
        // Over HTTP nothing slows typing down, so each command is judged.
        assert_eq!(code(&server.call(user, "typing", place.clone()).await.unwrap_err()), "blocked");
        server.ok(user, "mark_read", mark.clone()).await;
        for (member, seq) in read_seqs(user).await {
            assert_eq!(seq.is_number(), member == json!(user.id), "the marker of {member}");
        }
    }
    of_bob.send("typing", place.clone()).await;
    of_bob.ok("mark_read", json!({"conversation_id": direct, "seq": 2})).await;
    for (client, user) in [(&mut of_ann, &ann), (&mut of_bob, &bob)] {
        for event in client.drain().await {
            assert_ne!(event["type"], "typing", "{event}");
            assert!(event["type"] != "read_updated" || event["data"]["user_id"] == json!(user.id), "{event}");
        }
    }

    server.ok(&ann, "unblock_user", json!({"user_id": bob.id})).await;
    server.ok(&bob, "typing", place.clone()).await;
    assert_eq!(of_ann.event("typing").await["user_id"], json!(bob.id));
    assert!(read_seqs(&ann).await.iter().all(|(_, seq)| seq.is_number()));
}

#[tokio::test]
async fn ends_the_invitations_of_members_who_may_no_longer_invite() {
    let server = server().await;
    let people = server.register_many(7).await;
    let (owner, stranger) = (&people[0], &people[6]);
    let room = server.room(&people[..6].iter().collect::<Vec<_>>()).await;
    let about = |user: &User| json!({"conversation_id": room, "user_id": user.id});
    let with_role = |user: &User, role: &str| {
        let mut data = about(user);
        data["role"] = json!(role);
        data
    };
    let mut links = Vec::new();
    for user in &people[1..6] {
        server.ok(owner, "set_role", with_role(user, "admin")).await;
        let made = server.ok(user, "create_invite", json!({"conversation_id": room})).await;
        links.push(json!({"code": made["invite"]["code"]}));
    }
    server.ok(owner, "ban_member", about(&people[1])).await;
    server.ok(owner, "remove_member", about(&people[2])).await;
    server.ok(&people[3], "leave_conversation", json!({"conversation_id": room})).await;
    server.ok(owner, "set_role", with_role(&people[4], "member")).await;
    server.ok(owner, "set_role", with_role(&people[5], "moderator")).await;
    for (link, what) in links[..4].iter().zip(["banned", "removed", "has left", "demoted"]) {
        let refusal = server.call(stranger, "join_by_invite", link.clone()).await.expect_err(what);
        assert_eq!(code(&refusal), "not_found", "{what}");
    }
    let listed = server.ok(owner, "list_invites", json!({"conversation_id": room})).await;
    let codes: Vec<_> = listed["invites"].as_array().unwrap().iter().map(|invite| &invite["code"]).collect();
    assert_eq!(codes, [&links[4]["code"]]);
    // An invitation stays ended when its creator returns to the role.
    server.ok(owner, "set_role", with_role(&people[4], "admin")).await;
    let refusal = server.call(stranger, "join_by_invite", links[3].clone()).await.unwrap_err();
    assert_eq!(code(&refusal), "not_found");
    // An invitation that a member left behind before an upgrade.
    let database = server.database().await;
    let number: i64 = room.split_once('_').unwrap().1.parse().unwrap();
    let insert = "INSERT INTO conversation_invites (code, mutation_id, conversation_id, created_by) \
                  VALUES ('left-behind-' || $1::bigint, -$1, $1, $2)";
    database.execute(insert, &[&number, &people[3].id]).await.unwrap();
    let old = json!({"code": format!("left-behind-{number}")});
    assert_eq!(code(&server.call(stranger, "join_by_invite", old).await.unwrap_err()), "not_found");
    server.ok(stranger, "join_by_invite", links[4].clone()).await;
}

#[tokio::test]
async fn limits_invitation_links_by_uses_and_time() {
    let server = server().await;
    let people = server.register_many(4).await;
    let room = server.room(&[&people[0]]).await;
    let place = json!({"conversation_id": room});
    let made = server.ok(&people[0], "create_invite", json!({"conversation_id": room, "max_uses": 2})).await;
    let link = json!({"code": made["invite"]["code"]});
    assert_eq!(made["invite"]["uses"], 0);
    for guest in &people[1..3] {
        let joined = server.ok(guest, "join_by_invite", link.clone()).await;
        assert_eq!(joined["conversation"]["id"], json!(room));
        server.ok(guest, "join_by_invite", link.clone()).await; // a member who uses the link again does not count
    }
    assert_eq!(code(&server.call(&people[3], "join_by_invite", link.clone()).await.unwrap_err()), "not_found");
    let listed = server.ok(&people[0], "list_invites", place.clone()).await;
    assert_eq!(listed["invites"][0]["uses"], 2);

    let made = server.ok(&people[0], "create_invite", place.clone()).await;
    let second = json!({"code": made["invite"]["code"]});
    let revoked = json!({"conversation_id": room, "code": second["code"]});
    server.ok(&people[0], "revoke_invite", revoked).await;
    assert_eq!(code(&server.call(&people[3], "join_by_invite", second).await.unwrap_err()), "not_found");

    let made = server.ok(&people[0], "create_invite", json!({"conversation_id": room, "expires_in_s": 1})).await;
    let third = json!({"code": made["invite"]["code"]});
    let expired = format!("SELECT now() > '{}'::timestamptz", text(&made["invite"]["expires_at"]));
    wait_until(&server.database().await, &expired).await;
    assert_eq!(code(&server.call(&people[3], "join_by_invite", third).await.unwrap_err()), "not_found");
}

#[tokio::test]
async fn keeps_mutes_and_roles_across_leave_and_join() {
    let server = server().await;
    let people = server.register_many(3).await;
    let members: Vec<i64> = people[1..].iter().map(|user| user.id).collect();
    let data = json!({"kind": "public_room", "name": unique("strict"), "member_ids": members});
    let room = id_of(&server.ok(&people[0], "create_conversation", data).await);
    let place = json!({"conversation_id": room});
    let muted = json!({"conversation_id": room, "user_id": people[1].id});
    server.ok(&people[0], "mute_member", muted).await;
    let reading = json!({"conversation_id": room, "user_id": people[2].id, "role": "read_only"});
    server.ok(&people[0], "set_role", reading).await;
    for (user, expected) in people[1..].iter().zip(["muted", "read_only"]) {
        for _ in 0..2 {
            let message = json!({"conversation_id": room, "content": "let me speak"});
            assert_eq!(code(&server.call(user, "send_message", message).await.unwrap_err()), expected);
            server.ok(user, "leave_conversation", place.clone()).await;
            server.ok(user, "join_conversation", place.clone()).await;
        }
    }
    let lifted = json!({"conversation_id": room, "user_id": people[1].id, "duration_s": 0});
    server.ok(&people[0], "mute_member", lifted).await;
    server.ok(&people[1], "send_message", json!({"conversation_id": room, "content": "at last"})).await;
}

#[tokio::test]
async fn refuses_moderation_in_archived_rooms_and_settings_of_groups_by_members() {
    let server = server().await;
    let people = server.register_many(3).await;
    let room = server.room(&[&people[0], &people[1], &people[2]]).await;
    let data_for = |user: &User, more: Value| {
        let mut data = json!({"conversation_id": room, "user_id": user.id});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    server.ok(&people[0], "set_role", data_for(&people[1], json!({"role": "admin"}))).await;
    server.ok(&people[0], "archive_conversation", json!({"conversation_id": room})).await;
    for (kind, more) in
        [("mute_member", json!({})), ("ban_member", json!({})), ("set_role", json!({"role": "moderator"}))]
    {
        let refused = server.call(&people[1], kind, data_for(&people[2], more)).await.unwrap_err();
        assert_eq!(code(&refused), "read_only", "{kind}");
    }
    server.ok(&people[0], "archive_conversation", json!({"conversation_id": room, "archived": false})).await;
    // An owner is never muted, since no one could unmute them.
    server.ok(&people[0], "mute_member", data_for(&people[2], json!({}))).await;
    let refused = server.call(&people[2], "invite_member", data_for(&people[1], json!({}))).await.unwrap_err();
    assert_eq!(code(&refused), "muted");
    server.ok(&people[0], "transfer_ownership", data_for(&people[2], json!({}))).await;
    server.ok(&people[2], "send_message", json!({"conversation_id": room, "content": "mine now"})).await;

    let members: Vec<i64> = people[1..].iter().map(|user| user.id).collect();
    let data = json!({"kind": "group", "name": "friends", "member_ids": members});
    let group = id_of(&server.ok(&people[0], "create_conversation", data).await);
    server.ok(&people[1], "update_conversation", json!({"conversation_id": group, "name": "best friends"})).await;
    let slow = json!({"conversation_id": group, "slow_mode_s": 60});
    assert_eq!(code(&server.call(&people[1], "update_conversation", slow).await.unwrap_err()), "forbidden");
}
