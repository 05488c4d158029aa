//! Rooms and threads: system messages, discovering and leaving rooms, requests to join private rooms, unread replies in
//! followed threads, and features that a server has switched off.

use crate::person::{Person, create_room, join_room};
use crate::support::{PASSWORD, Server, id_of, server, unique};
use serde_json::json;

const LINES: &str = "[...document.querySelectorAll('#messages .system')].map((line) => line.innerText.trim())";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_membership_changes_in_the_users_language() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "?format=json", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "station").await;
    // The room is not open. System messages do not count as unread.
    ada.go("").await;
    join_room(&mut bob, &room).await;
    bob.say("the first word").await;
    ada.browser.wait_for("document.querySelector('#rooms .badge')?.textContent === '1'").await;
    ada.go(&room).await;
    ada.sees("the first word").await;
    assert_eq!(ada.browser.evaluate(LINES).await, json!(["Bob Martin joined"]));
    let reader = ada.token(server).await;
    let carol = server.register_as(&crate::support::unique("carol")).await;
    server.ok(&reader, "invite_member", json!({"conversation_id": room, "user_id": carol.id})).await;
    server.ok(&reader, "remove_member", json!({"conversation_id": room, "user_id": carol.id})).await;
    let expected = json!([
        "Bob Martin joined".to_owned(),
        format!("Ada Lovelace added {}", carol.name),
        format!("Ada Lovelace removed {}", carol.name)
    ]);
    ada.browser
        .wait_for(&format!("JSON.stringify({LINES}) === {}", crate::person::quoted(&expected.to_string())))
        .await;
    assert_eq!(
        bob.browser.evaluate("document.querySelectorAll('#messages .system button.icon-button').length").await,
        0
    );
    ada.picture("web-system.png", 1_280, 800, "light").await;
    ada.picture("web-system-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    bob.speaks("fr").await;
    let french = json!([
        "Bob Martin a rejoint la conversation".to_owned(),
        format!("Ada Lovelace a ajouté {}", carol.name),
        format!("Ada Lovelace a retiré {}", carol.name)
    ]);
    bob.browser.wait_for(&format!("JSON.stringify({LINES}) === {}", crate::person::quoted(&french.to_string()))).await;

    // A moderator can delete a system message.
    ada.click("#messages .system [data-do=delete]").await;
    ada.click("dialog button.primary.bad").await;
    for person in [&mut ada, &mut bob] {
        person.browser.wait_for(&format!("{LINES}.length === 2")).await;
        person.has_no_complaints();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folds_many_joins_into_one_line_that_opens() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "launch").await;
    ada.say("welcome, all").await;
    let mut names = Vec::new();
    for n in 0..7 {
        let user = server.register_as(&unique("guest")).await;
        server.ok(&user, "join_conversation", json!({"conversation_id": room})).await;
        names.push(format!("{} joined", user.name));
        if n == 4 {
            let shown = json!(names).to_string(); // five are not folded
            ada.browser.wait_for(&format!("JSON.stringify({LINES}) === {}", crate::person::quoted(&shown))).await;
        }
    }
    let last = names[6].trim_end_matches(" joined");
    ada.reads("#messages .system.folded", &format!("{last} and 6 others joined")).await;
    assert_eq!(ada.browser.evaluate(&format!("{LINES}.length")).await, 1);
    ada.picture("web-folded.png", 1_280, 800, "light").await;
    ada.picture("web-folded-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click("#messages .system.folded button").await;
    let shown = crate::person::quoted(&json!(names).to_string());
    ada.browser.wait_for(&format!("JSON.stringify({LINES}) === {shown}")).await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discover_pages_through_all_rooms_and_searches_them() {
    let server = Server::start(2, &[]);
    let owner = server.register_as(&unique("owner")).await;
    for n in 0..55 {
        let data = json!({"kind": "public_room", "name": format!("{} {n}", if n == 7 { "needle" } else { "hay" })});
        server.ok(&owner, "create_conversation", data).await;
    }
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    ada.click("#discover").await;
    let count = |n: u32| format!("document.querySelectorAll('#public-rooms [data-room]').length === {n}");
    ada.browser.wait_for(&count(50)).await;
    ada.picture("web-discover.png", 1_280, 800, "light").await;
    ada.picture("web-discover-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click("#more-rooms:not([hidden])").await;
    ada.browser.wait_for(&format!("{} && document.getElementById('more-rooms').hidden", count(55))).await;
    let distinct =
        "new Set([...document.querySelectorAll('#public-rooms [data-room]')].map((b) => b.dataset.room)).size";
    assert_eq!(ada.browser.evaluate(distinct).await, 55);
    ada.fill("#find-rooms", "needle").await;
    ada.browser.wait_for(&count(1)).await;
    ada.reads("#public-rooms", "needle 7").await;
    ada.fill("#find-rooms", " nowhere").await;
    ada.reads("#public-rooms", "No rooms match").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_owner_transfers_the_room_or_archives_it() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let carol = server.register_as(&unique("carol")).await;
    let room = create_room(&mut ada, "garden").await;
    server.ok(&carol, "join_conversation", json!({"conversation_id": room})).await;
    join_room(&mut bob, &room).await;
    ada.click("#show-details").await;
    ada.browser.wait_for("document.querySelectorAll('#members li').length === 3").await;
    ada.click("#leave").await;
    // The longest-standing member is offered first. Ada chooses Bob.
    ada.browser.wait_for(&format!("document.getElementById('new-owner')?.value === '{}'", carol.id)).await;
    ada.picture("web-hand-over.png", 1_280, 800, "light").await;
    ada.picture("web-hand-over-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    let bob_user = bob.token(server).await;
    ada.browser.evaluate(&format!("void (document.getElementById('new-owner').value = '{}')", bob_user.id)).await;
    ada.confirm().await;
    ada.browser.wait_for("location.hash === '#/' && !document.querySelector('#rooms a')").await;
    let record = server.ok(&bob_user, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(record["conversation"]["owner_id"], bob_user.id);
    assert_eq!(record["conversation"]["archived"], false);

    // Bob is the last member: the dialog says what happens.
    server.ok(&carol, "leave_conversation", json!({"conversation_id": room})).await;
    bob.click("#show-details").await;
    bob.browser.wait_for("document.querySelectorAll('#members li').length === 1").await;
    bob.click("#leave").await;
    bob.reads("dialog", "archived for good").await;
    bob.close_dialog().await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_a_private_room_by_request() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    // A name that is wider than a phone.
    let name = "Bob Bartholomew Montgomery-Featherstonehaugh";
    let mut bob = Person::sign_up(server, "?format=json", "bob", name).await;
    ada.click("#new").await;
    ada.fill("#room-name", "council").await;
    ada.click("#room-private").await;
    ada.click("#create").await;
    ada.browser.wait_for("document.getElementById('title')").await;
    let room = ada.browser.evaluate("location.hash.slice(2)").await.as_str().unwrap().to_owned();

    // By the room's address.
    bob.click("#discover").await;
    bob.browser.wait_for("document.getElementById('public-rooms')?.dataset.ready").await;
    bob.fill("#room-by-address", &room).await;
    bob.click("#join-by-address").await;
    bob.browser.wait_for("!document.querySelector('dialog')").await;
    let text = format!("I bring <b>cake</b>{}", "e".repeat(120));
    bob.fill("#request-text", &text).await;
    bob.picture("web-ask.png", 1_280, 800, "light").await;
    bob.picture("web-ask-phone-dark.png", 360, 740, "dark").await;
    bob.browser.appear(1_280, 800, "light").await;
    bob.click("#request").await;
    bob.browser.wait_for("document.getElementById('requested')").await;

    ada.browser.wait_for("document.getElementById('request-count')?.textContent === '1'").await;
    ada.click("#show-details").await;
    let shown = "document.querySelector('#requests blockquote')?.textContent";
    ada.browser.wait_for(&format!("{shown} === {}", crate::person::quoted(&text))).await;
    ada.picture("web-requests.png", 1_280, 800, "light").await;
    ada.picture("web-requests-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    // The request survives a reload on both sides. Then it is cancelled, made again and declined.
    for person in [&mut ada, &mut bob] {
        person.browser.call("Page.reload", json!({})).await;
        person.is_up_to_date(0).await;
    }
    ada.browser.wait_for("document.getElementById('request-count')?.textContent === '1'").await;
    bob.click("#cancel-request").await;
    ada.browser.wait_for("!document.getElementById('request-count')").await;
    bob.click("#request").await;
    ada.click("#show-details").await;
    ada.click("#requests [data-do=decline]").await;
    bob.browser.wait_for("document.getElementById('toasts').innerText.includes('declined')").await;
    ada.browser.wait_for("!document.getElementById('request-count') && !document.getElementById('requests')").await;

    bob.click("#request").await;
    ada.click("#requests [data-do=accept]").await;
    bob.browser.wait_for("document.getElementById('title')?.textContent === 'council'").await;
    bob.say("here is the cake").await;
    ada.sees("here is the cake").await;
    ada.browser.wait_for(&format!("JSON.stringify({LINES}).includes('Ada Lovelace added {name}')")).await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_requests_from_before_the_connection() {
    let server = Server::start(2, &[]);
    let (ada_user, carol) = (server.register_as(&unique("ada")).await, server.register_as(&unique("carol")).await);
    let mut rooms = Vec::new();
    for n in 0..3 {
        let data = json!({"kind": "private_room", "name": format!("council {n}")});
        rooms.push(id_of(&server.ok(&ada_user, "create_conversation", data).await));
    }
    let ask = async |room: &str| server.ok(&carol, "request_to_join", json!({"conversation_id": room})).await;
    ask(&rooms[0]).await;
    ask(&rooms[1]).await;
    let counted = |expected: [bool; 3]| {
        let shown = |(room, is_shown)| {
            let count = format!("document.querySelector('#rooms a[href=\"#/{room}\"] .asked')?.textContent");
            format!("{count} === {}", if is_shown { "'1'" } else { "undefined" })
        };
        rooms.iter().zip(expected).map(shown).collect::<Vec<_>>().join(" && ")
    };

    // No room is open.
    let mut ada = Person::sign_in(&server, &ada_user.name, PASSWORD).await;
    ada.browser.wait_for(&counted([true, true, false])).await;
    ada.picture("web-asked.png", 1_280, 800, "light").await;

    // Changes during a lost connection are known afterwards.
    ada.browser.call("Network.enable", json!({})).await;
    ada.browser.call("Network.setBlockedURLs", json!({"urls": ["*ws-ticket*"]})).await;
    server.kill9();
    ada.has_noticed_the_cut().await;
    server.start_again();
    server.ok(&carol, "cancel_join_request", json!({"conversation_id": rooms[0]})).await;
    ask(&rooms[2]).await;
    ada.browser.call("Network.setBlockedURLs", json!({"urls": []})).await;
    ada.browser.wait_for(&counted([false, true, true])).await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_unread_replies_of_followed_threads() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "?format=json", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "workshop").await;
    join_room(&mut bob, &room).await;
    ada.say("Shall we meet on Thursday?").await;
    bob.sees("Thursday").await;
    bob.click("#messages [data-do=thread]").await;
    for (n, text) in ["Friday is better", "or Saturday"].iter().enumerate() {
        bob.fill("#reply", text).await;
        bob.press("Enter", 13).await;
        ada.browser.wait_for(&format!("document.querySelector('#threads .badge')?.textContent === '{}'", n + 1)).await;
    }
    // Another window of Ada shows the same.
    let mut elsewhere = Person::sign_in(server, &ada.name, crate::support::PASSWORD).await;
    elsewhere.browser.wait_for("document.querySelector('#threads .badge')?.textContent === '2'").await;

    ada.click("#threads").await;
    ada.browser.wait_for("document.querySelector('#panel .found.unread .badge')?.textContent === '2'").await;
    ada.picture("web-threads.png", 1_280, 800, "light").await;
    ada.picture("web-threads-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click("#panel .found").await;
    ada.browser.wait_for("document.querySelector('#panel .divider')").await;
    for person in [&mut ada, &mut elsewhere] {
        person.browser.wait_for("document.querySelector('#threads .badge')?.textContent === ''").await;
    }
    // Replies in an open thread are read at once. An unfollowed thread has no unread count.
    bob.fill("#reply", "Sunday it is").await;
    bob.press("Enter", 13).await;
    ada.browser.wait_for("document.getElementById('panel').innerText.includes('Sunday it is')").await;
    let reader = ada.token(server).await;
    let read = async || {
        let threads = server.ok(&reader, "list_threads", json!({})).await;
        threads["threads"].as_array().unwrap().iter().all(|thread| thread["unread_count"] == 0)
    };
    let began = std::time::Instant::now();
    while !read().await {
        assert!(began.elapsed() < crate::support::PATIENCE, "the server does not learn that the thread was read");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ada.click("#follow").await;
    ada.browser.wait_for("document.getElementById('follow')?.getAttribute('aria-pressed') === 'false'").await;
    elsewhere.click("#threads").await;
    elsewhere.browser.wait_for("document.getElementById('panel').innerText.includes('follow any threads')").await;
    for person in [&mut ada, &mut bob, &mut elsewhere] {
        person.has_no_complaints();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hides_features_that_are_switched_off() {
    let names = ["message_reactions", "pinned_messages", "user_mentions", "message_threads"];
    let keys = names.map(|name| format!("features.{name}"));
    let settings: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "false")).collect();
    let server = Server::start(2, &settings);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    create_room(&mut ada, "plain").await;
    ada.say("a message").await;
    ada.sees("a message").await;
    ada.browser.wait_for("document.querySelector('#messages [data-do=edit]')").await;
    let offered = "[...document.querySelectorAll('#messages .tools .emoji, #messages [data-do=thread], \
                   #messages [data-do=pin], #show-pins, #mentions, #threads')].filter((one) => !one.hidden).length";
    assert_eq!(ada.browser.evaluate(offered).await, 0);
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_no_read_receipts_when_they_are_off() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let (reader, other) = (ada.token(server).await, bob.token(server).await);
    let data = json!({"kind": "direct", "member_ids": [other.id]});
    let dm = id_of(&server.ok(&reader, "create_conversation", data).await);
    ada.go(&dm).await;
    bob.go(&dm).await;
    ada.say("do you see this?").await;
    ada.browser.wait_for("document.querySelector('#messages .seen')").await;

    bob.click("#me").await;
    bob.click("#account-open").await;
    bob.browser.wait_for("document.getElementById('edit-receipts')?.checked").await;
    bob.click("#edit-receipts").await;
    bob.click("#save-profile").await;
    bob.browser.wait_for("document.getElementById('toasts').innerText.includes('Saved')").await;
    bob.click("dialog header button").await;
    ada.say("and this?").await;
    bob.sees("and this?").await;
    let read = async || {
        let answer = server.ok(&other, "get_conversation", json!({"conversation_id": dm})).await;
        answer["conversation"]["unread_count"] == 0
    };
    let began = std::time::Instant::now();
    while !read().await {
        assert!(began.elapsed() < crate::support::PATIENCE, "the server does not learn that Bob has read it");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // A reaction arrives after any read receipt that was sent before.
    let emoji = "[...document.querySelectorAll('#messages .message')].at(-1)?.querySelector('.tools .emoji')";
    bob.browser.wait_for(&format!("((e) => e && (e.click(), true))({emoji})")).await;
    ada.browser.wait_for("document.querySelector('#messages .reaction')").await;
    assert_eq!(ada.browser.evaluate("document.querySelectorAll('#messages .seen').length").await, 0);
    ada.has_no_complaints();
    bob.has_no_complaints();
}
