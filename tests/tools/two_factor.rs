//! Two-factor authentication with the programs of others: zbarimg reads the QR code as a phone does, and oathtool makes
//! the codes.

use crate::support::app_codes::early_in_a_step;
use crate::support::browser::{Browser, find};
use crate::support::{PASSWORD, Server, text};
use serde_json::json;
use std::process::Command;

fn output_of(program: &str, arguments: &[&str]) -> String {
    let path = find(&[program]).unwrap_or_else(|| {
        panic!("no {program} in PATH; type this and try again:\n\n    scripts/install-test-clients.sh\n")
    });
    let output = Command::new(path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_reads_the_qr_code_and_its_codes_are_accepted() {
    let server = Server::start(1, &[]);
    let user = server.register().await;
    let token = Some(user.token.as_str());
    let (status, answer) = server.post("/auth/2fa/enable", token, &json!({ "password": PASSWORD })).await;
    assert_eq!(status, 200, "{answer}");

    let mut browser = Browser::start().await;
    browser.appear(600, 600, "light").await;
    browser.evaluate(&format!("void (document.body.innerHTML = {})", answer["qr_svg"])).await;
    let picture = browser.screenshot("two-factor-qr.png").await;
    let read = output_of("zbarimg", &["--quiet", "--raw", picture.to_str().unwrap()]);
    assert_eq!(read, text(&answer["otpauth_url"]));
    let secret = read.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    assert_eq!(secret, text(&answer["secret"]));

    early_in_a_step().await;
    let code = |when: &str| output_of("oathtool", &["--totp", "--base32", "--now", when, secret]);
    let confirm = server.post("/auth/2fa/confirm", token, &json!({"code": code("30 seconds ago")})).await;
    assert_eq!(confirm.0, 200, "{}", confirm.1);
    let body = json!({"login": user.name, "password": PASSWORD, "totp_code": code("now")});
    let (status, answer) = server.post("/auth/login", None, &body).await;
    assert_eq!(status, 200, "{answer}");
}
