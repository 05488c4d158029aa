//! Bots in the web client: created, given tokens and commands, added to conversations, and deleted in the dialog.
//!
//! How: the test signs in with the token that the page shows, and the conversation shows what the bot writes.

use crate::integrations::FRONT;
use crate::person::{Person, create_room};
use crate::support::{Server, User, code, unique};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The server of this module, where a user can have two bots, and commands can have addresses.
fn host() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(2, &[("limits.max_bots_per_user", "2"), ("features.webhooks", "true")]))
}

impl Person {
    async fn my_bots(&mut self) {
        self.click("#me").await;
        self.click("#my-integrations").await;
        self.click("#integrations-bots").await;
        self.is_ready("bot-list").await;
    }

    /// Creates a bot in the open dialog; its tokens are shown.
    async fn creates_bot(&mut self, name: &str, username: &str) {
        self.click("#new-bot:not([hidden])").await;
        self.fill("#bot-name", name).await;
        self.fill("#bot-username", username).await;
        self.click("#bot-form [type=submit]").await;
        self.is_ready("bot-token-list").await;
    }

    /// Creates a token in the open dialog of a bot.
    async fn creates_token(&mut self, name: &str) -> String {
        self.click("#new-token").await;
        self.fill("#token-name", name).await;
        self.click("#token-form [type=submit]").await;
        let token = self.value("#bot-token").await;
        self.click("#done").await;
        self.reads("#bot-token-list", name).await;
        token
    }
}

/// The bot that signs in with a token.
fn signed_in(username: &str, token: &str) -> User {
    User { id: 0, name: username.to_owned(), token: token.to_owned(), refresh_token: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_gets_a_token_writes_where_it_was_added_and_ends_with_its_owners_click() {
    let server = host();
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "builds").await;
    ada.my_bots().await;
    ada.reads("#bot-list", "No bots yet").await;
    ada.pictures("web-bots-empty").await;

    // A refusal is shown at its field.
    let (own_name, username) = (ada.name.clone(), unique("helper"));
    ada.click("#new-bot").await;
    ada.fill("#bot-name", "Build helper").await;
    ada.fill("#bot-username", &own_name).await;
    ada.is_refused("bot-form", "username", "This name is taken").await;
    ada.overwrite("#bot-username", "here").await;
    ada.is_refused("bot-form", "username", "This name is reserved").await;
    ada.pictures("web-bot-refused").await;
    ada.overwrite("#bot-username", &username).await;
    ada.fill("#bot-bio", "Builds what was pushed").await;
    ada.click("#bot-form [type=submit]").await;
    ada.reads("#bot-token-list", "No tokens yet").await;

    // A token for a conversation needs the bot there.
    ada.click("#bot-places").await;
    ada.reads("#bot-place-list", "It isn't in any of your conversations yet").await;
    ada.choose("#bot-conversation", &room).await;
    ada.pictures("web-bot-conversations").await;
    ada.click("#bot-place [type=submit]").await;
    ada.reads("#bot-place-list", "builds").await;
    ada.click("#bot-tokens").await;
    ada.click("#new-token").await;
    ada.fill("#token-name", "build server").await;
    ada.click("#token-everywhere").await;
    ada.is_refused("token-form", "conversation_ids", "Choose at least one conversation").await;
    ada.click(&format!("#token-form input[value={room}]")).await;
    ada.pictures("web-bot-token-form").await;
    ada.click("#token-form [type=submit]").await;
    let token = ada.value("#bot-token").await;
    assert!(token.starts_with("veza_bot_"), "{token}");
    ada.pictures("web-bot-token").await;
    ada.click("#done").await;
    ada.reads("#bot-token-list", "build server").await;
    ada.reads("#bot-token-list", "not used yet").await;
    ada.pictures("web-bot-tokens").await;
    let bot = signed_in(&username, &token);
    server.ok(&bot, "send_message", json!({"conversation_id": room, "content": "the build is green"})).await;
    ada.sees("the build is green").await;
    ada.reads("#messages .message .bot", "BOT").await;
    let refused = server.call(&bot, "create_conversation", json!({"kind": "group", "member_ids": []})).await;
    assert_eq!(code(&refused.unwrap_err()).as_str(), "forbidden", "the token may not manage");

    // Its profile, and its message shows the new name beside the badge.
    ada.click("#bot-profile").await;
    ada.overwrite("#bot-name", "Builder").await;
    ada.pictures("web-bot").await;
    ada.click("#bot-profile-form [type=submit]").await;
    ada.reads("#messages .message", "Builder").await;

    // Revoked, the token ends at once.
    ada.click("#bot-tokens").await;
    ada.click("#bot-token-list [data-do=revoke]").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    ada.reads("#bot-token-list", "No tokens yet").await;
    let message = json!({"conversation_id": room, "content": "after the end"});
    assert_eq!(code(&server.call(&bot, "send_message", message).await.unwrap_err()).as_str(), "unauthenticated");
    ada.escape().await;
    ada.pictures("web-bots").await;

    // The limit is two bots. Deleting a bot makes room.
    ada.creates_bot("Second", &unique("second")).await;
    ada.escape().await;
    ada.click("#new-bot:not([hidden])").await;
    ada.fill("#bot-name", "Third").await;
    ada.fill("#bot-username", &unique("third")).await;
    ada.click("#bot-form [type=submit]").await;
    ada.reads("#bot-form .error:not([hidden])", "You have as many bots as you can").await;
    ada.escape().await;
    ada.click(&format!("#bot-list [data-bot={username}] [data-do=manage]")).await;
    ada.click("#delete-bot").await;
    ada.reads(FRONT, "it leaves its conversations").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    ada.browser.wait_for("document.querySelectorAll('#bot-list > li').length === 1").await;
    ada.escape().await;
    ada.reads("#about", "1 member").await;
    ada.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_saved_as_a_list_and_shown_where_the_bot_is() {
    let server = host();
    let mut ada = Person::sign_up(server, "", "ada", "Ada Lovelace").await;
    let room = create_room(&mut ada, "builds").await;
    ada.my_bots().await;
    let username = unique("helper");
    ada.creates_bot("Build helper", &username).await;
    ada.creates_token("build server").await;
    ada.click("#bot-commands").await;
    ada.reads("#no-commands", "No commands yet").await;
    ada.click("#add-command").await;
    let last = |part: &str| format!("#command-rows li:last-child [data-part={part}]");
    ada.fill(&last("name"), "/dep loy").await;
    ada.fill(&last("usage"), "<service>").await;
    ada.fill(&last("description"), "Deploys a service").await;
    ada.is_refused("commands-form", "name-0", "A command has letters").await;
    ada.overwrite(&last("name"), "/deploy").await;
    ada.click("#add-command").await;
    ada.fill(&last("name"), "Deploy").await;
    ada.fill(&last("description"), "Shows what runs").await;
    ada.is_refused("commands-form", "name-1", "Another command has this name").await;
    ada.pictures("web-bot-commands-refused").await;
    ada.overwrite(&last("name"), "status").await;
    ada.fill(&last("url"), "http://10.0.0.1/veza").await;
    ada.is_refused("commands-form", "url-1", "This address isn't on the internet").await;
    ada.overwrite(&last("url"), "https://deploy.example.org/veza").await;
    ada.click("#commands-form [type=submit]").await;
    let secret = ada.value("#command-secret").await;
    ada.pictures("web-bot-command-secret").await;
    ada.click("#done").await;
    ada.click("#rotate-command-secret").await;
    ada.click(&format!("{FRONT} .primary.bad")).await;
    let rotated = ada.value("#command-secret").await;
    assert!(secret.starts_with("whsec_") && rotated.starts_with("whsec_") && secret != rotated);
    ada.click("#done").await;
    ada.pictures("web-bot-commands").await;
    ada.escape().await;
    ada.escape().await;

    // In the conversation: nothing until the bot is added. The bot of an incoming webhook is listed beside it.
    let owner = ada.token(server).await;
    let webhook = json!({"conversation_id": room, "name": "Weather"});
    let (status, _) = server.request(Method::POST, "/incoming-webhooks", Some(&owner.token), Some(&webhook)).await;
    assert_eq!(status, 201);
    ada.reads("#about", "2 members").await;
    ada.integrations_here().await;
    ada.click("#integrations-bots").await;
    ada.reads("#offered-commands", "No bot offers commands here").await;
    ada.click(&format!("#bot-list [data-bot={username}] [data-do=member]")).await;
    ada.reads("#offered-commands", "/deploy <service>").await;
    ada.reads("#offered-commands", "/status").await;
    ada.reads("#bot-list", "2 commands").await;
    ada.reads("#other-bots", "Weather").await;
    ada.pictures("web-bots-here").await;
    ada.click(&format!("#bot-list [data-bot={username}] [data-do=member]")).await;
    ada.reads("#offered-commands", "No bot offers commands here").await;

    // A row that is removed is gone after saving.
    ada.click("#bot-list [data-do=manage]").await;
    ada.click("#bot-commands").await;
    ada.click("#command-rows li:first-child .icon-button").await;
    ada.click("#commands-form [type=submit]").await;
    ada.reads("#toasts", "Saved").await;
    let (_, answer) = server.request(Method::GET, "/bots", Some(&owner.token), None).await;
    let path = format!("/bots/{}/commands", answer["bots"][0]["user_id"]);
    let (_, answer) = server.request(Method::GET, &path, Some(&owner.token), None).await;
    let names: Vec<&Value> = answer["commands"].as_array().unwrap().iter().map(|command| &command["name"]).collect();
    assert_eq!(names, ["status"]);
    ada.has_no_complaints();
}
