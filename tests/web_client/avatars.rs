//! The own picture: chosen, refused, dropped, replaced and removed in the account dialog, and shown to others at once.
//!
//! How: a file is made in the page and given to the hidden field, or to a drop.

use crate::files::{MAKERS, start};
use crate::people::two_in_a_room;
use crate::person::Person;
use crate::support::wait_until;
use serde_json::json;

impl Person {
    /// Chooses a file as the own picture. `file` is an expression in JavaScript.
    async fn chooses_picture(&mut self, file: &str) {
        self.browser.wait_for("document.querySelector('#choose-picture:not([disabled])')").await;
        self.browser.evaluate(&format!("{MAKERS} made.choose('picture-file', [{file}])")).await;
    }

    /// The addresses of the uploaded pictures that an element shows, once they have loaded.
    async fn pictures_in(&mut self, selector: &str, count: usize) -> Vec<String> {
        let images = format!("[...document.querySelectorAll('{selector} .avatar img')].filter((i) => i.naturalWidth)");
        self.browser.wait_for(&format!("{images}.length === {count}")).await;
        let paths = self.browser.evaluate(&format!("{images}.map((image) => new URL(image.src).pathname)")).await;
        paths.as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chosen_picture_is_shown_to_everybody_until_it_is_removed() {
    let server = start();
    let (mut ada, mut bob, ..) = two_in_a_room(&server).await;
    bob.say("who am I?").await;
    ada.sees("who am I?").await;
    bob.account("profile").await;
    bob.reads("#picture-status", "up to 5 MB").await;
    assert_eq!(bob.browser.evaluate("document.getElementById('remove-picture').hidden").await, true);

    // What is no picture is refused, with a reason.
    bob.chooses_picture("made.text('note.txt', 100)").await;
    bob.reads("#picture-error:not([hidden])", "Choose a JPEG, PNG, WebP or GIF").await;
    bob.chooses_picture("new File([new Uint8Array(6000000)], 'large.png', {type: 'image/png'})").await;
    bob.reads("#picture-error:not([hidden])", "too large").await;
    bob.chooses_picture("new File(['hello'], 'wrong.png', {type: 'image/png'})").await;
    bob.reads("#picture-error:not([hidden])", "text/plain").await;
    bob.chooses_picture("made.bytes('cut.png', 'image/png', '89504e470d0a1a0a')").await;
    bob.reads("#picture-error:not([hidden])", "can't be read").await;
    bob.picture("web-own-picture-refused.png", 1_280, 800, "light").await;

    bob.chooses_picture("made.picture('me.png', 900, 600, 20)").await;
    bob.reads("#picture-status", "was changed").await;
    assert_eq!(bob.browser.evaluate("document.getElementById('picture-error').hidden").await, true);
    let first = bob.pictures_in("#own-picture", 1).await.remove(0);
    assert!(first.starts_with("/avatars/"), "{first}");
    bob.picture("web-own-picture.png", 1_280, 800, "light").await;
    bob.picture("web-own-picture-phone-dark.png", 360, 740, "dark").await;
    bob.browser.appear(1_280, 800, "light").await;
    // Beside the message, in the profile, and beside the own name, without a reload. The name beside it is its text.
    assert_eq!(ada.pictures_in("#messages", 1).await, [first.as_str()]);
    assert_eq!(bob.pictures_in("#me", 1).await, [first.as_str()]);
    let alt = "document.querySelector('#messages .avatar img').alt";
    assert_eq!(ada.browser.evaluate(alt).await, "");
    ada.click("#messages .message .name-button").await;
    assert_eq!(ada.pictures_in("#profile", 1).await, [first.as_str()]);
    ada.close_dialog().await;

    // The other fields are saved beside it, and keep it.
    bob.fill("#edit-bio", "Here I am").await;
    bob.click("#save-profile").await;
    bob.reads("#toasts", "Saved").await;
    assert_eq!(bob.pictures_in("#own-picture", 1).await, [first.as_str()]);

    // A drop replaces it.
    let drop = format!(
        "{MAKERS} (async () => {{ \
         const dataTransfer = await made.transfer([made.picture('other.png', 300, 300, 200)]); \
         document.getElementById('own-picture').dispatchEvent(new DragEvent('drop', \
         {{dataTransfer, bubbles: true, cancelable: true}})); }})()"
    );
    bob.browser.evaluate(&drop).await;
    let replaced = format!("!document.querySelector('#own-picture .avatar img')?.src.endsWith('{first}')");
    bob.browser.wait_for(&replaced).await;
    let second = bob.pictures_in("#own-picture", 1).await.remove(0);
    ada.browser.wait_for(&format!("document.querySelector('#messages .avatar img')?.src.endsWith('{second}')")).await;
    let status = reqwest::get(format!("{}{first}", server.base_url)).await.unwrap().status();
    assert_eq!(status, 404);

    bob.click("#remove-picture").await;
    bob.reads("#picture-status", "was removed").await;
    bob.pictures_in("#own-picture", 0).await;
    ada.browser.wait_for("!document.querySelector('#messages .avatar img')").await;
    wait_until(&server.database().await, "SELECT count(*) = 0 FROM blobs").await;
    bob.close_dialog().await;

    bob.speaks("fr").await;
    bob.account("profile").await;
    bob.reads("#choose-picture", "Choisir une image").await;
    bob.chooses_picture("made.text('note.txt', 100)").await;
    bob.reads("#picture-error:not([hidden])", "Choisissez une image").await;
    bob.close_dialog().await;
    ada.has_no_complaints();
    bob.has_no_complaints();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_uploads_the_address_of_a_picture_can_be_given() {
    let server = crate::files::start_with(&[("features.file_uploads", "false")]);
    let mut ada = Person::sign_up(&server, "", "ada", "Ada Lovelace").await;
    ada.account("profile").await;
    ada.fill("#edit-avatar", &format!("{}/web/icon.svg", server.base_url)).await;
    assert_eq!(ada.browser.evaluate("document.getElementById('choose-picture')").await, json!(null));
    ada.click("#save-profile").await;
    assert_eq!(ada.pictures_in("#me", 1).await, ["/web/icon.svg"]);
    ada.has_no_complaints();
}
