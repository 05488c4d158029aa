//! People: moderation, profiles, blocking, sessions and notifications.

use crate::person::{Person, create_room, join_room, quoted};
use crate::support::{PASSWORD, PATIENCE, Server, User, server, unique};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Ada, who owns a room, Bob, who is a member, their users and the room. Both have it open.
pub(crate) async fn two_in_a_room(server: &Server) -> (Person, Person, User, User, String) {
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(server, "", "bob", "Bob Martin").await;
    let room = create_room(&mut ada, "workshop").await;
    join_room(&mut bob, &room).await;
    let (ada_user, bob_user) = (ada.token(server).await, bob.token(server).await);
    (ada, bob, ada_user, bob_user, room)
}

impl Person {
    /// Opens a member's profile from the list of members, which is open.
    async fn card_of(&mut self, user: &User) {
        self.click(&format!("#members [data-member='{}']", user.id)).await;
        self.browser.wait_for(&format!("document.querySelector(\"#profile[data-user='{}']\")", user.id)).await;
    }

    async fn has_role(&mut self, user: &User, role: &str) {
        let shown = format!("document.querySelector(\"#members [data-member='{}']\")", user.id);
        let text = format!("({shown}?.querySelector('.role')?.textContent ?? 'member') === {}", quoted(role));
        self.browser.wait_for(&format!("{shown} && {text}")).await;
    }

    /// Opens a tab of the account dialog.
    pub(crate) async fn account(&mut self, tab: &str) {
        self.click("#me").await;
        self.click("#account-open").await;
        self.click(&format!("#account-{tab}")).await;
    }
}

/// When the mute of a member ends, according to the server.
async fn muted_until(server: &Server, asks: &User, room: &str, member: &User) -> String {
    let page = server.ok(asks, "list_members", json!({"conversation_id": room})).await;
    let row = page["members"].as_array().unwrap().iter().find(|row| row["id"] == member.id).unwrap().clone();
    row["muted_until"].as_str().unwrap_or_default().to_owned()
}

/// Whether a mute that began between `before` and now ends after `seconds`; `None` means that it has no end.
fn is_muted_for(seconds: Option<u64>, before: OffsetDateTime, until: &str) -> bool {
    let Some(seconds) = seconds else { return until.starts_with("9999") };
    let Ok(until) = OffsetDateTime::parse(until, &Rfc3339) else { return false };
    let began = until - Duration::from_secs(seconds);
    began > before - Duration::from_millis(1) && began <= OffsetDateTime::now_utc()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_sets_roles_mutes_removes_and_bans() {
    let server = server().await;
    let (mut ada, mut bob, ada_user, bob_user, room) = two_in_a_room(server).await;
    ada.click("#show-details").await;
    bob.click("#show-details").await;

    for role in ["moderator", "read-only", "member"] {
        ada.card_of(&bob_user).await;
        if role == "moderator" {
            ada.picture("web-card.png", 1_280, 800, "light").await;
            ada.picture("web-card-phone-dark.png", 360, 740, "dark").await;
            ada.browser.appear(1_280, 800, "light").await;
        }
        ada.click(&format!("#profile [data-role={}]", role.replace('-', "_"))).await;
        ada.has_role(&bob_user, role).await;
        bob.has_role(&bob_user, role).await;
        let may_write = format!("document.querySelector('.composer form').hidden === {}", role == "read-only");
        bob.browser.wait_for(&may_write).await;
    }

    for (button, text) in [("600", "10 minutes"), ("3600", "1 hour"), ("86400", "1 day"), ("forever", "Until unmuted")]
    {
        let before = OffsetDateTime::now_utc();
        ada.card_of(&bob_user).await;
        ada.reads(&format!("#mutes [data-mute='{button}']"), text).await;
        ada.click(&format!("#mutes [data-mute='{button}']")).await;
        let seconds = button.parse().ok();
        while !is_muted_for(seconds, before, &muted_until(server, &ada_user, &room, &bob_user).await) {
            assert!(OffsetDateTime::now_utc() - before < PATIENCE, "{button}: the server does not know");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    bob.browser.wait_for("document.querySelector('.composer form').hidden").await;
    bob.reads(".composer .refusal", "muted").await;
    ada.card_of(&bob_user).await;
    ada.reads("#profile .facts", "a moderator unmutes them").await;
    ada.picture("web-muted.png", 1_280, 800, "dark").await;
    ada.picture("web-muted-phone.png", 360, 740, "light").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.click("#unmute").await;
    bob.browser.wait_for("!document.querySelector('.composer form').hidden").await;
    bob.say("I may speak again").await;
    ada.sees("I may speak again").await;

    ada.card_of(&bob_user).await;
    ada.click("#remove-member").await;
    ada.confirm().await;
    bob.browser.wait_for("location.hash === '#/' && !document.querySelector('#rooms a')").await;
    join_room(&mut bob, &room).await;
    ada.has_role(&bob_user, "member").await;

    ada.card_of(&bob_user).await;
    ada.click("#ban").await;
    ada.fill("#ban-reason", "Sold <b>courses</b>").await;
    ada.picture("web-ban.png", 1_280, 800, "light").await;
    ada.picture("web-ban-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.confirm().await;
    bob.browser.wait_for("location.hash === '#/' && !document.querySelector('#rooms a')").await;
    ada.browser.wait_for("document.querySelectorAll('#members li').length === 1").await;
    let refused = server.call(&bob_user, "join_conversation", json!({"conversation_id": room})).await.unwrap_err();
    assert_eq!(refused["code"], "banned");
    ada.click("#bans").await;
    ada.reads("#banned", "Bob Martin").await;
    ada.reads("#banned", "Sold <b>courses</b>").await;
    ada.click(&format!("#banned [data-unban='{}']", bob_user.id)).await;
    ada.reads("dialog", "No one is banned").await;
    ada.close_dialog().await;
    join_room(&mut bob, &room).await;
    ada.has_role(&bob_user, "member").await;

    // Bob becomes the owner and uses his new role.
    ada.card_of(&bob_user).await;
    ada.click("#make-owner").await;
    ada.confirm().await;
    bob.click("#show-details").await;
    bob.has_role(&bob_user, "owner").await;
    ada.has_role(&bob_user, "owner").await;
    bob.click("#archive").await;
    bob.confirm().await;
    ada.reads(".composer .refusal", "archived").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shows_profile_changes_to_others() {
    let server = server().await;
    let (mut ada, mut bob, _, bob_user, _) = two_in_a_room(server).await;
    bob.say("who am I?").await;
    ada.sees("who am I?").await;

    let picture = json!({"avatar_url": format!("{}/web/icon.svg", server.base_url)});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&bob_user.token), Some(&picture)).await.0, 200);
    bob.account("profile").await;
    bob.browser.wait_for("document.getElementById('edit-name')?.value === 'Bob Martin'").await;
    bob.browser.evaluate("document.getElementById('edit-name').select()").await;
    bob.fill("#edit-name", "Robert C. Martin").await;
    bob.fill("#edit-bio", "Writes <i>clean</i> code").await;
    bob.picture("web-account.png", 1_280, 800, "light").await;
    bob.picture("web-account-phone-dark.png", 360, 740, "dark").await;
    bob.browser.appear(1_280, 800, "light").await;
    bob.click("#save-profile").await;
    bob.reads("#me", "Robert C. Martin").await;
    bob.reads("#messages .message .name-button", "Robert C. Martin").await;
    bob.close_dialog().await;

    // The new name and picture appear everywhere at once.
    ada.reads("#messages .message .name-button", "Robert C. Martin").await;
    ada.browser.wait_for("document.querySelector('#messages .avatar img')?.naturalWidth > 0").await;
    ada.reads("#messages .system", "Robert C. Martin").await;
    ada.click("#messages .message .name-button").await;
    ada.reads("#profile-name", "Robert C. Martin").await;
    ada.browser.wait_for("document.querySelector('#profile .avatar img')?.naturalWidth > 0").await;
    ada.reads("#profile-bio", "Writes <i>clean</i> code").await;

    // The profile opens a direct conversation.
    ada.click("#write-to").await;
    ada.reads("#title", "Robert C. Martin").await;
    ada.say("psst").await;
    bob.reads("#direct", "Ada Lovelace").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hides_messages_of_blocked_users_until_they_are_opened() {
    let server = server().await;
    let (mut ada, mut bob, _, bob_user, _) = two_in_a_room(server).await;
    for text in ["buy my course", "only today"] {
        bob.say(text).await;
        ada.sees(text).await;
    }
    ada.click("#messages .message .name-button").await;
    ada.click("#block").await;
    ada.confirm().await;
    ada.reads("#messages .hidden-messages", "2 messages").await;
    ada.browser.wait_for("!document.getElementById('messages').innerText.includes('my course')").await;
    bob.say("third time lucky").await;
    ada.reads("#messages .hidden-messages", "3 messages").await;
    ada.picture("web-blocked.png", 1_280, 800, "light").await;
    ada.click("#messages .hidden-messages button").await;
    ada.sees("my course").await;
    ada.sees("third time lucky").await;

    // The block survives a reload, and the account dialog removes it.
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.reads("#messages .hidden-messages", "3 messages").await;
    ada.account("blocked").await;
    ada.reads("#blocked", "Bob Martin").await;
    ada.click(&format!("#blocked [data-unblock='{}']", bob_user.id)).await;
    ada.reads("#blocked", "You haven't blocked anyone").await;
    ada.close_dialog().await;
    ada.sees("my course").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_ends_sessions() {
    let server = server().await;
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let mut elsewhere = Person::sign_in(server, &ada.name, PASSWORD).await;
    ada.account("security").await;
    ada.browser.wait_for("document.querySelectorAll('#sessions li').length === 2").await;
    ada.click("#sessions [data-revoke]").await;
    ada.browser.wait_for("document.querySelectorAll('#sessions li').length === 1").await;
    elsewhere.reads("#sign-error", "Your session has ended").await;

    // A new password ends the other sessions too.
    let other = ada.token(server).await;
    let fresh = "a much better one";
    ada.fill("#current-password", "not this one").await;
    ada.fill("#new-password", fresh).await;
    ada.click("#save-password").await;
    ada.reads("#account .error:not([hidden])", "wrong").await;
    ada.browser.evaluate("document.getElementById('current-password').select()").await;
    ada.fill("#current-password", PASSWORD).await;
    ada.click("#save-password").await;
    ada.browser.wait_for("document.getElementById('current-password').value === ''").await;
    let (status, _) = server.post("/auth/refresh", None, &json!({"refresh_token": other.refresh_token})).await;
    assert_eq!(status, 401);
    ada.browser.wait_for("document.querySelectorAll('#sessions li').length === 1").await;

    let mut elsewhere = Person::sign_in(server, &ada.name, fresh).await;
    ada.click("#sign-out-everywhere").await;
    ada.click("dialog:last-of-type button.primary.bad").await;
    ada.browser.wait_for("document.getElementById('sign')").await;
    elsewhere.reads("#sign-error", "Your session has ended").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifies_only_when_switched_on_and_hidden() {
    let server = server().await;
    let (mut ada, _bob, ada_user, bob_user, room) = two_in_a_room(server).await;
    let dm = json!({"kind": "direct", "member_ids": [ada_user.id]});
    let dm = crate::support::id_of(&server.ok(&bob_user, "create_conversation", dm).await);
    // The browser draws notifications outside the page. This records them instead.
    let fake = "window.shown = []; window.Notification = class { static permission = 'granted'; \
                static async requestPermission() { return 'granted'; } \
                constructor(title, { body }) { window.shown.push(`${title}: ${body}`); } }; \
                Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });";
    ada.browser.evaluate(fake).await;
    let tell = async |conversation: &str, text: &str| {
        server.ok(&bob_user, "send_message", json!({"conversation_id": conversation, "content": text})).await
    };
    tell(&dm, "notifications are off").await;
    ada.reads(&format!("#direct a[href='#/{dm}'] .badge"), "1").await;
    ada.browser.wait_for("document.title.startsWith('(')").await;

    ada.click("#me").await;
    ada.browser.wait_for("document.getElementById('notifications')?.checked === false").await;
    ada.click("#notifications").await;
    ada.browser.wait_for("localStorage.getItem('veza.notifications') === 'on'").await;
    tell(&room, "not for Ada in particular").await;
    tell(&room, &format!("but this is, @{}", ada.name)).await;
    tell(&dm, "and this").await;
    ada.browser.wait_for("window.shown.length >= 2").await;
    let expected = json!([format!("Bob Martin · workshop: but this is, @{}", ada.name), "Bob Martin: and this"]);
    let mut shown = ada.browser.evaluate("window.shown").await;
    shown.as_array_mut().unwrap().sort_by_key(|text| !text.as_str().unwrap().contains("workshop"));
    assert_eq!(shown, expected);
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_a_picture_when_its_avatar_is_scrolled_into_view() {
    let server = server().await;
    let (owner, gone) = (server.register_as(&unique("ada")).await, server.register_as(&unique("gone")).await);
    let profile = json!({"avatar_url": format!("{}/web/icon.svg", server.base_url)});
    let (status, answer) = server.request(Method::PATCH, "/users/me", Some(&gone.token), Some(&profile)).await;
    assert_eq!(status, 200, "{answer}");
    let room = server.room(&[&owner, &gone]).await;
    for n in 0..120 {
        // The first message is above the visible part.
        let who = if n == 0 { &gone } else { &owner };
        let content = format!("line {n}");
        server.ok(who, "send_message", json!({"conversation_id": room, "content": content})).await;
    }
    server.ok(&gone, "leave_conversation", json!({"conversation_id": room})).await;

    let mut ada = Person::sign_in(server, &owner.name, PASSWORD).await;
    ada.browser.evaluate(&format!("void (location.hash = '#/{room}')")).await;
    ada.sees("line 119").await;
    let asked = format!(
        "performance.getEntriesByType('resource').filter(({{name}}) => name.endsWith('/users/{}')).length",
        gone.id
    );
    // Presence arrives after the members. A request that came too early would have been sent by then.
    ada.browser.wait_for("document.querySelector('#me .presence.online')").await;
    ada.browser.evaluate("new Promise((done) => setTimeout(done, 500))").await;
    assert_eq!(ada.browser.evaluate(&asked).await, 0, "the avatar is not visible yet");
    let top = "(document.querySelector('.scroller').scrollTop = 0, document.querySelector('#messages .beginning'))";
    ada.browser.wait_for(top).await;
    let picture = format!("document.querySelector('#messages [data-profile=\"{}\"] img')?.naturalWidth > 0", gone.id);
    ada.browser.wait_for(&picture).await;
    ada.browser.evaluate("void (location.hash = '#/')").await;
    ada.browser.wait_for("!document.querySelector('#messages .message')").await;
    ada.browser.evaluate(&format!("void (location.hash = '#/{room}')")).await;
    ada.browser.wait_for(top).await;
    ada.browser.wait_for(&picture).await;
    assert_eq!(ada.browser.evaluate(&asked).await, 1, "a known picture is not requested again");
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_can_switch_off_pictures_from_other_servers() {
    let server = server().await;
    let (mut ada, mut bob, ada_user, bob_user, _) = two_in_a_room(server).await;
    // Requests to this other server are paused, so the picture never arrives.
    let elsewhere = "https://pictures.example/bob.png";
    ada.browser.call("Fetch.enable", json!({"patterns": [{"urlPattern": "https://pictures.example/*"}]})).await;
    for (user, url) in [(&ada_user, format!("{}/web/icon.svg", server.base_url)), (&bob_user, elsewhere.to_owned())] {
        let profile = json!({"avatar_url": url});
        let (status, answer) = server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&profile)).await;
        assert_eq!(status, 200, "{answer}");
    }
    bob.say("do you see me?").await;
    ada.sees("do you see me?").await;
    let from_elsewhere = format!("document.querySelectorAll('.avatar img[src=\"{elsewhere}\"]').length");
    let own = "document.querySelector('#me .avatar img')?.naturalWidth > 0";
    ada.click("#show-details").await;
    // Beside the message, and in the list of members.
    ada.browser.wait_for(&format!("{own} && {from_elsewhere} === 2")).await;

    ada.account("security").await;
    ada.browser.wait_for("document.getElementById('pictures')?.checked").await;
    ada.click("#pictures").await;
    ada.picture("web-pictures.png", 1_280, 800, "light").await;
    ada.picture("web-pictures-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    ada.close_dialog().await;
    ada.browser.wait_for(&format!("{own} && {from_elsewhere} === 0")).await;

    // The device remembers the setting and sends no request to that server.
    ada.browser.call("Page.reload", json!({})).await;
    ada.is_up_to_date(0).await;
    ada.sees("do you see me?").await;
    ada.click("#show-details").await;
    ada.card_of(&bob_user).await;
    ada.reads("#profile .facts", "Joined Veza").await; // the whole profile has arrived
    let asked = format!("performance.getEntriesByType('resource').some(({{name}}) => name === '{elsewhere}')");
    ada.browser.wait_for(&format!("{own} && {from_elsewhere} === 0 && !{asked}")).await;
    ada.close_dialog().await;
    ada.account("security").await;
    ada.browser.wait_for("document.getElementById('pictures')?.checked === false").await;
    ada.click("#pictures").await;
    ada.browser.wait_for(&format!("{from_elsewhere} === 2")).await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_consent_before_somebody_adds_the_user() {
    // Signing up solves a proof of work.
    let settings = [("security.registration_proof", "proof_of_work"), ("security.registration_difficulty", "12")];
    let server = Server::start(1, &settings);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    let mut bob = Person::sign_up(&server, "", "bob", "Bob Martin").await;
    let (ada_user, bob_user) = (ada.token(&server).await, bob.token(&server).await);
    ada.account("profile").await;
    ada.browser.wait_for("document.getElementById('edit-name')?.value === 'Ada Lovelace'").await;
    let choice = "document.getElementById('edit-group-invitations')";
    ada.browser.wait_for(&format!("{choice}.value === 'everyone'")).await;
    ada.browser.evaluate(&format!("void ({choice}.value = 'nobody')")).await;
    ada.click("#save-profile").await;
    ada.browser.wait_for("!document.getElementById('save-profile').disabled").await;
    ada.close_dialog().await;

    let mut groups = Vec::new();
    for name in ["book club", "get rich"] {
        let data = json!({"kind": "group", "name": name, "member_ids": [ada_user.id]});
        let created = server.ok(&bob_user, "create_conversation", data).await;
        groups.push(created["conversation"]["id"].as_str().unwrap().to_owned());
        ada.reads("#invitations", name).await;
    }
    ada.reads("#invitations", "From Bob Martin").await;
    ada.picture("web-invitations.png", 1_280, 800, "light").await;
    ada.picture("web-invitations-phone-dark.png", 360, 740, "dark").await;
    ada.browser.appear(1_280, 800, "light").await;
    // The open invitations are there after a reload too.
    ada.browser.call("Page.reload", json!({})).await;
    ada.reads("#invitations", "get rich").await;
    ada.click(&format!("#invitations [data-invitation='{}'] .decline", groups[1])).await;
    ada.browser.wait_for("!document.getElementById('invitations').innerText.includes('get rich')").await;
    ada.click(&format!("#invitations [data-invitation='{}'] .accept", groups[0])).await;
    ada.reads("#title", "book club").await;
    ada.browser.wait_for("document.getElementById('invitations').childElementCount === 0").await;
    ada.say("hello").await;
    bob.go(&groups[0]).await;
    bob.sees("hello").await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}
