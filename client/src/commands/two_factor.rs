//! `veza two-factor`: shows and changes the second factor of the account.

use super::account::code_field;
use crate::cli::{FactorChange, Secret, TwoFactor};
use crate::failure::Failure;
use crate::output::{Output, print};
use crate::password::{code, password};
use crate::session::Session;
use crate::text;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use reqwest::Method;
use serde_json::{Value, json};

/// At this number of backup codes or fewer, the user is warned.
const FEW_CODES: i64 = 2;

/// Runs the subcommand.
pub async fn run(session: &Session, output: Output, what: TwoFactor) -> Result<(), Failure> {
    match what {
        TwoFactor::Status => status(session, output).await,
        TwoFactor::On(secret) => set_up(session, output, &secret).await,
        TwoFactor::NewCodes(options) => {
            let answer = change(session, "/auth/2fa/backup-codes", &options).await?;
            show_codes(output, &answer)
        }
        TwoFactor::Off(options) => {
            change(session, "/auth/2fa/disable", &options).await?;
            output.result(&json!({ "enabled": false }), || "two-factor authentication is off".to_owned())
        }
    }
}

async fn status(session: &Session, output: Output) -> Result<(), Failure> {
    let state = session.request(Method::GET, "/auth/2fa", None).await?;
    let left = state["backup_codes_left"].as_i64().unwrap_or(0);
    let is_on = state["enabled"] == true;
    output.result(&state, || {
        if is_on { format!("two-factor authentication is on, {left} backup codes are left") } else { "off".to_owned() }
    })?;
    if is_on && left <= FEW_CODES {
        output.note("few backup codes are left; create new ones with: veza two-factor new-codes");
    }
    Ok(())
}

async fn set_up(session: &Session, output: Output, secret: &Secret) -> Result<(), Failure> {
    let password = password(secret.password_stdin, &["Password"])?;
    let begun = session.request(Method::POST, "/auth/2fa/enable", Some(&json!({ "password": password }))).await?;
    output.result(&begun, || picture(&begun))?;
    let missing = || Failure::Usage("there is no terminal for the prompt of the code".to_owned());
    let code = code(secret.password_stdin, "Code that the app shows now")?.ok_or_else(missing)?;
    let answer = session.request(Method::POST, "/auth/2fa/confirm", Some(&json!({ "code": code }))).await?;
    show_codes(output, &answer)
}

/// The QR code for a terminal, and the key below it.
fn picture(begun: &Value) -> String {
    let url = begun["otpauth_url"].as_str().unwrap_or_default();
    // Dark modules are drawn as blanks: most terminals are dark.
    let code = QrCode::new(url).map(|code| {
        let mut picture = code.render::<Dense1x2>();
        picture.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
    });
    let secret = text::line(begun["secret"].as_str().unwrap_or_default());
    format!("{}\nscan it with an authenticator app, or type this key into it: {secret}", code.unwrap_or_default())
}

fn show_codes(output: Output, answer: &Value) -> Result<(), Failure> {
    if output.is_json() {
        return output.result(answer, String::new);
    }
    for code in answer["backup_codes"].as_array().into_iter().flatten() {
        print(&text::line(code.as_str().unwrap_or_default()))?;
    }
    output.note("each of these backup codes signs you in once if you lose your app; keep them in a safe place");
    Ok(())
}

async fn change(session: &Session, path: &str, options: &FactorChange) -> Result<Value, Failure> {
    let from_stdin = options.secret.password_stdin;
    let password = password(from_stdin, &["Password"])?;
    let (key, prompt) = code_field("code", options.backup_code);
    let missing = || Failure::Usage("a code is needed: after the password, or from a terminal".to_owned());
    let code = code(from_stdin, prompt)?.ok_or_else(missing)?;
    session.request(Method::POST, path, Some(&json!({ "password": password, key: code }))).await
}
